"""Facts about tables of cases: they say of any rules what scoring the cleaned map says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from phantoms import house_geometry

from medseg.errors import GridMismatchError
from medseg.labels import LabelSet
from medseg.metrics import score_label_map
from medseg.postprocess import CaseTable, Rule, postprocess, tabulate
from medseg.volume import LabelMap, turn

DATASET = LabelSet.from_names({0: "background", 1: "liver", 2: "tumour", 3: "cyst", 5: "spleen"})
# The tumour's id comes first: it is the lesion's.
LABELS = DATASET.select({"liver": ["liver"], "lesion": ["tumour", "cyst"], "spleen": ["spleen"]})
UNLABELLED, NOBODYS = 7, 9
SHAPE = (5, 4, 6)
Map = NDArray[np.uint8]


def label_map(ids: Map) -> LabelMap:
    return LabelMap(ids, house_geometry(shape=ids.shape))


def dices(table: CaseTable, rules: list[Rule]) -> dict[str, float | None]:
    """Return the Dice that a table tells of every label that is scored, None where it is undefined."""
    rule_of = {label: Rule(label=label) for label in table.labels} | {rule.label: rule for rule in rules}
    objects, holes = table.as_predicted(), table.holes(rules)
    found = {label: table.dice(rule_of[label], objects, holes) for label in table.labels if label in table.present}
    return {label: None if np.isnan(dice) else dice for label, dice in found.items()}


def scored(prediction: Map, reference: Map, rules: list[Rule], present: LabelSet) -> dict[str, float | None]:
    """Return the Dice of every label that is scored, once the prediction is cleaned."""
    cleaned = postprocess(label_map(prediction), rules, LABELS)
    return {row.label: row.dice for row in score_label_map(cleaned, label_map(reference), present, case_id="c")}


def maps(*ids: int) -> st.SearchStrategy[Map]:
    return arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from(ids))


PREDICTIONS = st.one_of(maps(0, 0, 0, 1, 2, 3), maps(0, 1, 1, 1, 1, 2), maps(0, 0, 1, 1, 5, NOBODYS), maps(0, 0, 0, 1))
VOLUMES_MM3 = st.sampled_from([0.0, 5.0, 10.0, 20.0, 50.0, 300.0])
RULES = st.lists(
    st.builds(
        Rule,
        label=st.sampled_from([label.name for label in LABELS]),
        keep_largest=st.booleans(),
        smallest_mm3=VOLUMES_MM3,
        holes_mm3=VOLUMES_MM3,
    ),
    unique_by=lambda rule: rule.label,
)


@given(
    prediction=PREDICTIONS,
    reference=maps(0, 1, 2, 3, 5, UNLABELLED),
    rules=RULES,
    lacking=st.sets(st.sampled_from(LABELS.labels), max_size=2),
    unlabelled=st.sampled_from([(), (UNLABELLED,), (UNLABELLED, 0)]),
)
@settings(deadline=None, max_examples=60)
def test_the_dice_of_a_table_is_that_of_the_cleaned_map(
    prediction: Map, reference: Map, rules: list[Rule], lacking: set[object], unlabelled: tuple[int, ...]
):
    kept = tuple(label for label in LABELS if label not in lacking)
    present = replace(LABELS.ignoring(unlabelled), labels=kept)
    table = tabulate(label_map(prediction), label_map(reference), LABELS, fold=0, present=present)
    assert dices(table, rules) == scored(prediction, reference, rules, present)


def test_an_empty_prediction_has_nothing_to_clean():
    empty, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[1, 1, 1] = 5
    rules = [Rule(label=label.name, keep_largest=True, smallest_mm3=9, holes_mm3=9) for label in LABELS]
    table = tabulate(label_map(empty), label_map(reference), LABELS, fold=3)
    assert dices(table, rules) == {"liver": None, "lesion": None, "spleen": 0}
    assert table.fold == 3
    assert not len(table.holes(rules).owner)


def test_sizes_are_in_cubic_millimetres():
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[1:4, 1:, 1:4] = 1
    prediction[2, 2, 2] = 0
    table = tabulate(label_map(prediction), label_map(prediction), LABELS, fold=0)
    voxel_mm3 = 0.9 * 1.7 * 3.1
    assert table.as_predicted().volumes_mm3 == pytest.approx([26 * voxel_mm3])
    assert table.holes([]).volumes_mm3 == pytest.approx([voxel_mm3])


def test_a_removed_object_joins_only_the_gaps_that_it_shares_faces_with():
    prediction = np.ones((7, 6, 5), np.uint8)
    prediction[2, 2, 2] = prediction[3, 3, 2] = 5  # one object in two pieces, which meet at an edge
    table = tabulate(label_map(prediction), label_map(prediction), LABELS, fold=0)
    holes = table.holes([Rule(label="spleen", smallest_mm3=1e3)])
    voxel_mm3 = 0.9 * 1.7 * 3.1
    assert holes.volumes_mm3 == pytest.approx([voxel_mm3, voxel_mm3])
    assert holes.owner.tolist() == [1, 1]


def test_labels_that_overlap_stand_in_no_table():
    regions = DATASET.select({"organs": ["liver", "tumour"], "tumour": ["tumour"], "spleen": ["spleen"]})
    prediction = np.ones(SHAPE, np.uint8)
    prediction[0, 0, 0] = prediction[4, 3, 5] = 5
    prediction[2, 2, 2] = 0  # a hole in what is left alone
    table = tabulate(label_map(prediction), label_map(prediction), regions, fold=0)
    assert table.labels == ("spleen",)
    assert not len(table.holes([Rule(label="spleen", smallest_mm3=1e3)]).owner)
    assert dices(table, [Rule(label="spleen", smallest_mm3=1e3)]) == {"spleen": 0}


def test_the_reference_may_lie_in_another_order_of_axes():
    rng = np.random.default_rng(0)
    prediction, reference = (rng.choice(np.array([0, 1, 2], np.uint8), SHAPE) for _ in range(2))
    upright = label_map(reference)
    turned = upright.geometry.reorient("RAS")
    other = LabelMap(turn(upright.array, source=upright.geometry, target=turned), turned)
    rules = [Rule(label="liver", keep_largest=True)]
    table = tabulate(label_map(prediction), other, LABELS, fold=0)
    assert dices(table, rules) == scored(prediction, reference, rules, LABELS)


def test_maps_on_different_grids_are_an_error():
    with pytest.raises(GridMismatchError):
        tabulate(label_map(np.zeros(SHAPE, np.uint8)), label_map(np.zeros((5, 4, 7), np.uint8)), LABELS, fold=0)
