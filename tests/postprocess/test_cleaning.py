"""Facts about cleaning label maps, on maps small enough to see through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from phantoms import house_geometry, house_label_map

from medseg.errors import PackageError
from medseg.labels import LabelSet
from medseg.postprocess import Rule, postprocess
from medseg.volume import LabelMap

NAMES = LabelSet.from_names({0: "background", 1: "liver", 2: "tumour", 5: "spleen"})
LIVER, TUMOUR, SPLEEN = 1, 2, 5
# 8 mm³ a voxel, exactly.
SPACING_MM = (1.0, 2.0, 4.0)
Map = NDArray[np.uint8]


def cleaned(ids: Map, *rules: Rule, labels: LabelSet = NAMES, spacing_mm: tuple[float, ...] = SPACING_MM) -> Map:
    geometry = house_geometry(shape=ids.shape, spacing_mm=spacing_mm, tilt_degrees=(0, 0, 0))
    return postprocess(LabelMap(ids, geometry), rules, labels).array


def block(shape: tuple[int, int, int] = (7, 6, 5), id_: int = LIVER, margin: int = 1) -> Map:
    """Return a block of a label with background around it."""
    return np.pad(np.full([side - 2 * margin for side in shape], id_, np.uint8), margin)


def test_objects_smaller_than_a_volume_become_background():
    ids = np.zeros((9, 4, 3), np.uint8)
    ids[0, 0, :3], ids[4, 2, :2], ids[8, 3, 0] = LIVER, LIVER, LIVER
    expected = ids.copy()
    expected[8, 3, 0] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", smallest_mm3=16)), expected)
    expected[4, 2, :2] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", smallest_mm3=16.1)), expected)


def test_a_volume_is_in_cubic_millimetres_whatever_the_spacing():
    ids = np.zeros((9, 4, 3), np.uint8)
    ids[1, 1, :2] = LIVER
    rule = Rule(label="liver", smallest_mm3=40)
    assert not cleaned(ids, rule).any()
    np.testing.assert_array_equal(cleaned(ids, rule, spacing_mm=(2.0, 3.0, 4.0)), ids)


def test_the_largest_object_stays_where_only_that_may():
    ids = np.zeros((9, 4, 3), np.uint8)
    ids[0, 0, :2], ids[4, 2, :3], ids[8, 3, 0] = LIVER, LIVER, LIVER
    expected = np.zeros_like(ids)
    expected[4, 2, :3] = LIVER
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", keep_largest=True)), expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_of_equally_large_objects_the_one_that_comes_first_along_the_first_axis_stays(order):
    ids = np.zeros((4, 5, 3), np.uint8, order=order)
    ids[3, 0, 0] = ids[1, 4, 2] = LIVER
    kept = np.argwhere(cleaned(ids, Rule(label="liver", keep_largest=True)))
    assert kept.tolist() == [[1, 4, 2]]


def test_the_largest_object_goes_too_where_it_is_smaller_than_the_smallest():
    ids = np.zeros((4, 5, 3), np.uint8)
    ids[1, 2, :2] = LIVER
    assert not cleaned(ids, Rule(label="liver", keep_largest=True, smallest_mm3=20)).any()


def test_voxels_that_meet_at_a_corner_are_one_object():
    ids = np.zeros((6, 5, 4), np.uint8)
    ids[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = LIVER
    ids[5, 4, 2:] = LIVER
    expected = ids.copy()
    expected[5, 4, 2:] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", keep_largest=True)), expected)


def test_a_hole_is_filled_up_to_a_volume():
    ids = block((9, 6, 5))
    ids[2, 2, 2] = ids[5:7, 3, 2] = 0
    rules = [Rule(label="liver", holes_mm3=volume) for volume in (7.9, 8, 15.9, 16)]
    assert [np.count_nonzero(cleaned(ids, rule)) - np.count_nonzero(ids) for rule in rules] == [0, 1, 1, 3]


def test_a_hole_does_not_leak_out_through_an_edge():
    ids = block()
    ids[1, 1, 2] = 0  # a notch in the surface, which the next shares an edge with, and that with the last
    ids[2, 2, 2] = ids[3, 3, 2] = 0
    expected = ids.copy()
    expected[2, 2, 2] = expected[3, 3, 2] = LIVER
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", holes_mm3=8)), expected)


def test_a_gap_at_the_border_of_the_volume_is_no_hole():
    ids = np.full((5, 4, 6), LIVER, np.uint8)
    ids[2, 2, :3] = ids[0, 1, 4] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", holes_mm3=1e9)), ids)


def test_another_label_in_a_hole_stays_and_so_does_the_gap_around_it():
    ids = block((8, 7, 6))
    ids[2:5, 2:5, 2:4] = 0
    ids[3, 3, 2] = TUMOUR
    ids[6, 3, 3] = TUMOUR
    rules = [Rule(label=name, holes_mm3=1e9) for name in ("liver", "tumour")]
    np.testing.assert_array_equal(cleaned(ids, *rules), ids)


def test_a_hole_in_a_label_within_another_is_that_labels_own():
    ids = block((9, 8, 7))
    ids[2:7, 2:6, 2:5] = TUMOUR
    ids[4, 4, 3] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", holes_mm3=1e9)), ids)
    assert cleaned(ids, Rule(label="tumour", holes_mm3=8))[4, 4, 3] == TUMOUR


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_removed_within_an_organ_is_filled_with_the_organ_in_whatever_order_the_rules_are(order):
    ids = block((8, 7, 6))
    ids[3, 3, 2:4] = TUMOUR
    rules = [Rule(label="tumour", smallest_mm3=20), Rule(label="liver", holes_mm3=16)][::order]
    np.testing.assert_array_equal(cleaned(ids, *rules), block((8, 7, 6)))


def test_the_hole_of_an_object_that_is_removed_is_not_filled():
    ids = np.zeros((12, 5, 5), np.uint8)
    ids[:5], ids[6:, 1:4, 1:4] = LIVER, LIVER
    ids[7, 2, 2] = 0
    expected = ids.copy()
    expected[6:] = 0
    np.testing.assert_array_equal(cleaned(ids, Rule(label="liver", keep_largest=True, holes_mm3=1e9)), expected)


def test_an_object_that_is_removed_within_a_hole_is_part_of_the_hole():
    ids = block((9, 8, 7))
    ids[2:7, 2:6, 2:5] = 0
    hollow = ids.copy()
    ids[4, 4, 3] = LIVER
    volume_mm3 = 5 * 4 * 3 * 8.0
    rules = [Rule(label="liver", keep_largest=True, holes_mm3=volume_mm3 - less) for less in (0, 8)]
    np.testing.assert_array_equal(cleaned(ids, rules[0]), block((9, 8, 7)))
    np.testing.assert_array_equal(cleaned(ids, rules[1]), hollow)


def test_labels_without_a_rule_and_ids_that_no_label_has_keep_their_voxels():
    ids = block()
    ids[0, 0, 0], ids[6, 5, 4] = SPLEEN, 9
    ids[3, 3, 2], ids[3, 2, 2] = 0, 9  # a hole that touches what nobody knows
    rules = [Rule(label="liver", keep_largest=True, smallest_mm3=16, holes_mm3=1e9)]
    np.testing.assert_array_equal(cleaned(ids, *rules), ids)


def test_a_label_of_several_parts_is_one_and_its_holes_get_its_id():
    labels = NAMES.select({"organ": ["tumour", "liver"], "spleen": ["spleen"]})
    ids = block()
    ids[2:4, 2:4, 2], ids[4, 3, 2] = TUMOUR, 0
    found = cleaned(ids, Rule(label="organ", keep_largest=True, holes_mm3=8), labels=labels)
    ids[4, 3, 2] = TUMOUR
    np.testing.assert_array_equal(found, ids)


def test_an_id_that_the_maps_type_cannot_hold_makes_it_wider():
    names = LabelSet.from_names({0: "background", 1: "left", 300: "right"}).select({"lung": ["right", "left"]})
    ids = block()
    ids[3, 3, 2] = 0
    assert cleaned(ids, Rule(label="lung", holes_mm3=8), labels=names)[3, 3, 2] == 300


def test_an_empty_map_stays_empty():
    ids = np.zeros((4, 5, 3), np.uint8)
    rule = Rule(label="liver", keep_largest=True, smallest_mm3=10, holes_mm3=10)
    np.testing.assert_array_equal(cleaned(ids, rule), ids)


def test_the_map_that_is_given_is_left_as_it_is_and_the_grid_stays():
    given_map = house_label_map()
    before = given_map.array.copy()
    rules = [Rule(label=name, smallest_mm3=1e9) for name in ("liver", "tumour", "spleen")]
    found = postprocess(given_map, rules, NAMES)
    assert not found.array.any()
    np.testing.assert_array_equal(given_map.array, before)
    assert found.geometry is given_map.geometry


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([Rule(label="kidney")], "'kidney'.*liver, spleen, tumour"),
        ([Rule(label="organs")], "'organs'.*overlaps"),
        ([Rule(label="spleen"), Rule(label="spleen")], "2 rules for 'spleen'"),
    ],
    ids=["unknown", "overlapping", "twice"],
)
def test_rules_that_do_not_fit_the_labels_are_an_error(rules, words):
    regions = {"organs": ["liver", "tumour"], "tumour": ["tumour"], "spleen": ["spleen"]}
    labels = NAMES if words.startswith("'kidney") else NAMES.select(regions)
    with pytest.raises(PackageError, match=words):
        postprocess(house_label_map(), rules, labels)


MAPS = st.sampled_from([[0, 0, 0, 1, 2], [0, 1, 1, 1, 2, 5], [0, 1, 5, 9]]).flatmap(
    lambda ids: arrays.arrays(np.uint8, (4, 5, 6), elements=st.sampled_from(ids))
)
VOLUMES_MM3 = st.sampled_from([0.0, 9.0, 20.0, 50.0, 300.0])
RULES = st.tuples(
    *(
        st.builds(
            Rule, label=st.just(label.name), keep_largest=st.booleans(), smallest_mm3=VOLUMES_MM3, holes_mm3=VOLUMES_MM3
        )
        for label in NAMES
    )
)


@given(ids=MAPS, rules=RULES)
@settings(deadline=None, max_examples=100)
def test_cleaning_twice_is_cleaning_once(ids: Map, rules: tuple[Rule, ...]):
    once = cleaned(ids, *rules)
    np.testing.assert_array_equal(cleaned(once, *rules), once)


@given(ids=MAPS, rules=RULES)
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_rules_does_not_matter(ids: Map, rules: tuple[Rule, ...]):
    np.testing.assert_array_equal(cleaned(ids, *rules), cleaned(ids, *rules[::-1]))


@given(ids=MAPS, rules=RULES)
@settings(deadline=None, max_examples=50)
def test_a_rule_takes_from_its_label_and_gives_background_to_it(ids: Map, rules: tuple[Rule, ...]):
    liver, *_ = rules
    found = cleaned(ids, liver)
    changed = found != ids
    assert set(ids[changed]) <= {0, LIVER}
    assert set(found[changed]) <= {0, LIVER}


@given(ids=MAPS)
@settings(deadline=None, max_examples=30)
def test_a_map_that_no_rule_applies_to_stays_as_it_is(ids: Map):
    idle = [Rule(label=label.name, smallest_mm3=7.9, holes_mm3=7.9) for label in NAMES]
    assert np.array_equal(cleaned(ids, *idle), ids)
    assert np.array_equal(cleaned(ids), ids)
