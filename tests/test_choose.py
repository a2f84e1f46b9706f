"""Names are looked up in one way, and a misspelt one is answered with the nearest."""

import pytest

from medseg.choose import choose, suggestion
from medseg.errors import UnknownNameError

MODELS = {"unet": 1, "dynunet": 2, "segresnet": 3}


def test_a_name_gives_what_stands_under_it():
    assert choose(MODELS, "dynunet", kind="model") == 2


def test_a_value_of_none_is_found_too():
    assert choose({"nothing": None}, "nothing", kind="baseline") is None


@pytest.mark.parametrize(
    ("typed", "meant"), [("unte", "unet"), ("UNET", "unet"), ("seg_resnet", "segresnet"), ("dynunets", "dynunet")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(UnknownNameError) as caught:
        choose(MODELS, typed, kind="model")
    assert caught.value.remedy == f"did you mean {meant!r}?"
    assert f"no model named {typed!r}" in str(caught.value)


def test_a_name_like_no_other_is_answered_with_all_of_them():
    with pytest.raises(UnknownNameError) as caught:
        choose(MODELS, "xyz", kind="model")
    assert caught.value.found == "there is dynunet, segresnet, unet"
    assert caught.value.remedy == "choose one of these models"


def test_choosing_among_nothing_says_that_there_is_nothing():
    with pytest.raises(UnknownNameError, match="there is none"):
        choose({}, "unet", kind="model")


def test_nothing_is_suggested_where_nothing_is_near():
    assert suggestion("xyz", MODELS) == ""
    assert suggestion("unet", []) == ""
