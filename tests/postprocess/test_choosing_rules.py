"""Facts about choosing rules from a cross-validation of phantoms with the faults that rules mend."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from phantoms import house_geometry

from medseg.labels import LabelSet
from medseg.postprocess import CaseTable, Chosen, Rule, choose_rules, postprocess, tabulate
from medseg.postprocess.choose import ladder
from medseg.volume import LabelMap

LABELS = LabelSet.from_names({0: "background", 1: "liver", 2: "tumour"})
LIVER, TUMOUR = 1, 2
GEOMETRY = house_geometry(shape=(12, 9, 7))
Map = NDArray[np.uint8]


def truth() -> Map:
    """Return a liver with a tumour at its surface."""
    ids = np.zeros(GEOMETRY.shape, np.uint8)
    ids[1:7, 1:6, 1:6] = LIVER
    ids[1:4, 1:3, 1:3] = TUMOUR
    return ids


def tables(*faults: Callable[[Map, Map], None], present: LabelSet | None = None) -> list[CaseTable]:
    """Return two cases for each fold, whose faults change prediction and reference."""
    found = []
    for fold, fault in enumerate(faults):
        for _ in range(2):
            prediction, reference = truth(), truth()
            fault(prediction, reference)
            case = LabelMap(prediction, GEOMETRY), LabelMap(reference, GEOMETRY)
            found.append(tabulate(*case, LABELS, fold=fold, present=present))
    return found


def no_fault(prediction: Map, reference: Map) -> None:
    """Leave a case as it is."""


def far_speck(prediction: Map, reference: Map) -> None:
    prediction[10, 7, 5] = LIVER


def accessory(prediction: Map, reference: Map) -> None:
    """Add a second object that is really there."""
    prediction[10, 7, 5] = reference[10, 7, 5] = LIVER


def hole(prediction: Map, reference: Map) -> None:
    prediction[5, 3, 3] = 0


def tumour_speck(prediction: Map, reference: Map) -> None:
    prediction[5, 3, 3] = TUMOUR


def invented_tumour(prediction: Map, reference: Map) -> None:
    """Predict a small tumour in a healthy liver."""
    for ids in (prediction, reference):
        ids[ids == TUMOUR] = LIVER
    prediction[5, 3, 3] = TUMOUR


def check_honest(chosen: Chosen) -> None:
    """Check that a report fits JSON, and that the rules are those that it calls kept."""
    assert json.loads(json.dumps(chosen.report, allow_nan=False)) == chosen.report
    for label, steps in chosen.report["labels"].items():
        rule = next((rule for rule in chosen.rules if rule.label == label), Rule(label=label))
        assert bool(rule.keep_largest or rule.smallest_mm3) == steps["removal"]["kept"]
        assert bool(rule.holes_mm3) == steps["filling"]["kept"]


def test_specks_in_every_fold_are_removed_by_the_mildest_rule_that_does():
    cases = tables(far_speck, far_speck, no_fault)
    chosen = choose_rules(cases)
    assert chosen.rules == (Rule(label="liver", smallest_mm3=5),)
    removal = chosen.report["labels"]["liver"]["removal"]
    liver = np.count_nonzero(truth() == LIVER)
    gain = (1 - 2 * liver / (2 * liver + 1)) * 2 / 3
    assert removal["gain"] == removal["gain_where_chosen"] == pytest.approx(gain)
    assert removal["gain_by_fold"] == pytest.approx({"0": gain * 1.5, "1": gain * 1.5, "2": 0})
    assert (removal["n"], removal["n_changed"], removal["n_lowered"]) == (6, 4, 0)
    assert (removal["dice_without"], removal["dice_held_out"]) == pytest.approx((1 - gain, 1))
    assert (chosen.report["n"], chosen.report["folds"]) == (6, [0, 1, 2])
    check_honest(chosen)


def test_every_candidate_is_reported_with_its_mean_dice():
    tried = choose_rules(tables(far_speck, far_speck)).report["labels"]["liver"]["removal"]["tried"]
    means = {(rule["keep_largest"], rule["smallest_mm3"]): rule["dice"] for rule in tried}
    assert means[False, 0] < means[False, 5] == means[True, 0] == 1
    assert means[False, 1000] == means[True, 1000] == 0  # more than all of the liver


def test_what_removes_a_real_object_in_one_fold_is_not_kept():
    chosen = choose_rules(tables(far_speck, far_speck, far_speck, accessory))
    assert chosen.rules == ()
    removal = chosen.report["labels"]["liver"]["removal"]
    assert removal["gain"] > 0
    assert removal["gain_by_fold"]["3"] < 0
    assert removal["n_lowered"] == 2
    check_honest(chosen)


def test_a_fault_of_one_fold_alone_makes_no_rule():
    chosen = choose_rules(tables(far_speck, no_fault, no_fault))
    removal = chosen.report["labels"]["liver"]["removal"]
    assert chosen.rules == ()
    assert removal["gain"] == 0 < removal["gain_where_chosen"]
    check_honest(chosen)


def test_holes_in_every_fold_are_filled():
    chosen = choose_rules(tables(hole, hole))
    assert chosen.rules == (Rule(label="liver", holes_mm3=5),)
    assert chosen.report["labels"]["liver"]["filling"]["dice_held_out"] == 1
    check_honest(chosen)


def test_what_one_rule_removes_is_a_hole_that_another_may_fill():
    chosen = choose_rules(tables(tumour_speck, tumour_speck))
    assert chosen.rules == (Rule(label="liver", holes_mm3=5), Rule(label="tumour", smallest_mm3=5))
    prediction = truth()
    tumour_speck(prediction, prediction.copy())
    np.testing.assert_array_equal(postprocess(LabelMap(prediction, GEOMETRY), chosen.rules, LABELS).array, truth())
    check_honest(chosen)


def test_an_invented_label_is_removed_and_its_dice_of_0_leaves_the_mean():
    chosen = choose_rules(tables(invented_tumour, no_fault)[1:] + tables(no_fault, invented_tumour)[1:])
    assert Rule(label="tumour", smallest_mm3=5) in chosen.rules
    removal = chosen.report["labels"]["tumour"]["removal"]
    assert (removal["n"], removal["dice_without"], removal["dice_held_out"]) == (6, 0.5, 1)
    check_honest(chosen)


def test_cases_that_lack_a_label_do_not_count_for_it():
    liver_only = LABELS.only(["liver"])
    chosen = choose_rules(tables(tumour_speck, tumour_speck, present=liver_only))
    removal = chosen.report["labels"]["tumour"]["removal"]
    assert (removal["n"], removal["dice_without"], removal["kept"]) == (0, None, False)
    assert [rule.label for rule in chosen.rules] == []
    check_honest(chosen)


def test_with_one_fold_or_none_no_rule_is_chosen():
    alone = choose_rules(tables(far_speck))
    assert alone.rules == ()
    assert alone.report["labels"]["liver"]["removal"]["gain_where_chosen"] > 0
    check_honest(alone)
    assert choose_rules([]) == Chosen((), {"n": 0, "folds": [], "labels": {}})


def test_the_order_of_the_cases_does_not_matter():
    cases = tables(far_speck, hole, far_speck, hole)
    assert choose_rules(cases[::-1]).rules == choose_rules(cases).rules


@pytest.mark.parametrize(
    ("volumes_mm3", "steps"),
    [
        ([], []),
        ([4.7], [5]),
        ([5], [10]),
        ([0.03, 0.3], [0.05, 0.1, 0.2, 0.5]),
        ([30, 4.7], [5, 10, 20, 50]),
        ([999, 1000.5], [1000, 2000]),
    ],
)
def test_steps_are_round_and_reach_from_above_the_smallest_volume_to_above_the_largest(
    volumes_mm3: list[float], steps: list[float]
):
    assert ladder(np.array(volumes_mm3)) == steps
