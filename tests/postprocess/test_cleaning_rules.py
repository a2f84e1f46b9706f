"""Facts about rules: they are plain JSON, and what is no rule is refused."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from medseg.errors import PackageError
from medseg.labels import LabelSet
from medseg.postprocess import Rule, check_rules, rules_as_json, rules_from_json
from medseg.postprocess.rules import cleanable

RULES = (
    Rule(label="liver", keep_largest=True),
    Rule(label="left kidney", smallest_mm3=0.1, holes_mm3=2e6),
)
NAMES = LabelSet.from_names({0: "background", 1: "liver", 2: "tumour", 3: "cyst", 5: "spleen"})


def test_rules_come_back_from_json_the_same():
    assert rules_from_json(json.loads(json.dumps(rules_as_json(RULES), allow_nan=False))) == RULES
    assert rules_from_json(rules_as_json(())) == ()


def test_a_key_that_is_left_out_changes_nothing():
    assert rules_from_json([{"label": "liver"}]) == (Rule(label="liver"),)
    assert Rule(label="liver").changes_nothing
    assert not any(rule.changes_nothing for rule in RULES)


def test_a_rule_says_what_it_does():
    assert str(RULES[0]) == "liver: only the largest object stays"
    assert str(RULES[1]) == "left kidney: objects below 0.1 mm³ are removed, holes of up to 2e+06 mm³ are filled"
    assert str(Rule(label="liver")) == "liver: left as it is"


def test_a_rule_cannot_be_changed():
    with pytest.raises(ValidationError):
        RULES[0].keep_largest = False


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"label": "liver", "smalest_mm3": 3}], "0.smalest_mm3"),
        ([{"label": "liver"}, {"keep_largest": True}], "1.label"),
        ([{"label": "liver", "smallest_mm3": -1.0}], "0.smallest_mm3"),
        ([{"label": "liver", "holes_mm3": float("inf")}], "0.holes_mm3"),
        ([{"label": "liver", "holes_mm3": float("nan")}], "0.holes_mm3"),
        ([{"label": "liver", "keep_largest": "yes"}], "0.keep_largest"),
        ([{"label": 1}], "0.label"),
        (["liver"], "0: "),
        ({"label": "liver"}, "the whole"),
        (None, "the whole"),
    ],
    ids=["unknown", "missing", "negative", "infinite", "nan", "no-bool", "no-name", "no-rule", "no-list", "nothing"],
)
def test_what_is_no_list_of_rules_is_an_error_that_names_the_place(value: Any, words: str):
    with pytest.raises(PackageError, match=re.escape(words)) as caught:
        rules_from_json(value)
    assert caught.value.code == "E_PACKAGE"


def test_rules_that_fit_their_labels_pass():
    check_rules([Rule(label="liver"), Rule(label="cyst")], NAMES)
    check_rules([], NAMES)


def test_labels_that_share_an_id_are_left_alone_and_merged_ones_are_not():
    regions = {"lesion": ["cyst", "tumour"], "tumour": ["tumour"], "organs": ["liver", "spleen"]}
    assert [label.name for label in cleanable(NAMES.select(regions))] == ["organs"]
    assert cleanable(NAMES) == NAMES.labels
