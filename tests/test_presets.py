"""Presets: what three words make of a recipe's prediction."""

import pytest

from medseg.presets import with_preset
from medseg.recipe import Recipe, parse_recipe


def recipe(*, patch: tuple[int, int, int], flips: str = "", trained: str = "IJK", flip: float = 0.5) -> Recipe:
    value = {
        "augment": {"flip": flip, "flip_axes": list(trained)},
        "training": {"patch": list(patch)},
        "prediction": {"flips": list(flips), "overlap": 0.3},
    }
    return parse_recipe(value, name="r")


def test_fast_mirrors_nothing_and_balanced_is_the_recipe() -> None:
    own = recipe(patch=(8, 8, 8), flips="JK")
    fast = with_preset(own, "fast").prediction
    assert (fast.flips, fast.margin, fast.overlap) == ((), 0, 0.25)
    assert with_preset(own, "balanced") == own


@pytest.mark.parametrize(
    ("own", "flips"),
    [
        (recipe(patch=(8, 8, 8)), "IJK"),
        (recipe(patch=(8, 8, 8), trained="JK"), "JK"),
        (recipe(patch=(8, 8, 8), flips="I", flip=0.0), "I"),
        (recipe(patch=(8, 8, 1)), "IJ"),
        (recipe(patch=(1, 8, 8), flips="IJ", trained="J"), "J"),
    ],
)
def test_accurate_mirrors_what_training_mirrored_and_no_axis_of_one_voxel(own: Recipe, flips: str) -> None:
    accurate = with_preset(own, "accurate")
    assert accurate.prediction.flips == tuple(flips)
    assert accurate.prediction.overlap == 0.5
    assert accurate.training.precision == "fp32"
