"""Facts about Dice and its kin on maps small enough to count by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.metrics import DiceMetric
from numpy.typing import NDArray
from phantoms import house_geometry, house_label_map

from medseg.errors import GridMismatchError
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, score_label_map
from medseg.volume import Geometry, LabelMap

NAMES = LabelSet.from_names({0: "background", 1: "spleen", 2: "kidney", 5: "liver"})
SHAPE = (4, 3, 2)
MAPS = arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 5]))
SCORES = ("dice", "iou", "precision", "recall")


def score(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], labels: LabelSet = NAMES
) -> dict[str, CaseScore]:
    geometry = house_geometry(shape=SHAPE)
    rows = score_label_map(LabelMap(prediction, geometry), LabelMap(reference, geometry), labels, case_id="a case")
    return {row.label: row for row in rows}


def row_of(*ids: int) -> NDArray[np.uint8]:
    """Return a map that begins with these ids and is background elsewhere."""
    flat = np.zeros(SHAPE, np.uint8)
    flat.ravel()[: len(ids)] = ids
    return flat


def test_a_hand_made_case_has_its_counted_scores() -> None:
    prediction = row_of(1, 1, 1, 0, 2, 2)
    reference = row_of(0, 1, 1, 1, 1, 2)
    rows = score(prediction, reference)
    assert list(rows) == ["spleen", "kidney", "liver"]
    spleen, kidney = rows["spleen"], rows["kidney"]
    assert spleen.dice == pytest.approx(2 * 2 / (3 + 4))
    assert spleen.iou == pytest.approx(2 / 5)
    assert spleen.precision == pytest.approx(2 / 3)
    assert spleen.recall == pytest.approx(2 / 4)
    assert (kidney.dice, kidney.iou, kidney.precision, kidney.recall) == pytest.approx((2 / 3, 1 / 2, 1 / 2, 1))
    assert (spleen.case_id, spleen.label_id, spleen.label) == ("a case", 1, "spleen")


def test_volumes_are_counted_in_millilitres() -> None:
    spleen = score(row_of(1, 1, 1), row_of(1, 1))["spleen"]
    voxel_ml = 0.9 * 1.7 * 3.1 / 1000
    assert spleen.prediction_ml == pytest.approx(3 * voxel_ml)
    assert spleen.reference_ml == pytest.approx(2 * voxel_ml)


def test_a_perfect_prediction_scores_1() -> None:
    truth = house_label_map()
    for row in score_label_map(truth, truth, NAMES, case_id="c"):
        assert [getattr(row, name) for name in SCORES] == [1, 1, 1, 1]


def test_a_label_absent_from_both_is_undefined_and_no_success() -> None:
    liver = score(row_of(1), row_of(1))["liver"]
    assert [getattr(liver, name) for name in SCORES] == [None] * 4
    assert liver.reference_ml == liver.prediction_ml == 0


def test_a_missed_label_and_an_invented_one_score_0() -> None:
    rows = score(row_of(1, 0), row_of(0, 2))
    invented, missed = rows["spleen"], rows["kidney"]
    assert (invented.dice, invented.iou, invented.precision, invented.recall) == (0, 0, 0, None)
    assert (missed.dice, missed.iou, missed.precision, missed.recall) == (0, 0, None, 0)


def test_two_empty_maps_have_nothing_to_score() -> None:
    assert all(row.dice is None for row in score(row_of(), row_of()).values())


def test_a_region_counts_wherever_one_of_its_parts_is() -> None:
    regions = NAMES.select({"organs": ["spleen", "kidney"], "kidney": ["kidney"]})
    rows = score(row_of(1, 2, 2, 0), row_of(2, 1, 2, 1), regions)
    assert rows["organs"].dice == pytest.approx(2 * 3 / (3 + 4))
    assert rows["kidney"].dice == pytest.approx(2 * 1 / (2 + 2))


def test_an_id_that_is_not_asked_for_is_background() -> None:
    rows = score(row_of(9, 1), row_of(1, 9))
    assert rows["spleen"].dice == 0
    assert set(rows) == {"spleen", "kidney", "liver"}


def test_a_voxel_that_the_reference_leaves_unlabelled_counts_nowhere() -> None:
    labels = NAMES.ignoring([9])
    rows = score(row_of(1, 1, 1, 2, 2), row_of(1, 9, 0, 2, 9), labels)
    voxel_ml = 0.9 * 1.7 * 3.1 / 1000
    spleen, kidney = rows["spleen"], rows["kidney"]
    assert (spleen.dice, spleen.precision, spleen.recall) == pytest.approx((2 * 1 / (2 + 1), 1 / 2, 1))
    assert (kidney.dice, kidney.precision, kidney.recall) == (1, 1, 1)
    assert (spleen.reference_ml, spleen.prediction_ml) == pytest.approx((voxel_ml, 2 * voxel_ml))
    assert rows["liver"].dice is None


def test_a_prediction_that_shows_the_id_of_unlabelled_voxels_is_background_there() -> None:
    rows = score(row_of(9, 1), row_of(1, 1), NAMES.ignoring([9]))
    assert rows["spleen"].recall == 0.5


def test_ids_may_be_as_high_as_label_maps_go() -> None:
    geometry = house_geometry(shape=SHAPE)
    labels = LabelSet.from_names({0: "background", 300: "rib", 65535: "other"})
    prediction, reference = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint8)
    prediction[0], prediction[1] = 65535, 300
    rows = score_label_map(LabelMap(prediction, geometry), LabelMap(reference, geometry), labels, case_id="c")
    assert [row.dice for row in rows] == [0, 0]
    high = LabelMap(prediction, geometry)
    assert [row.dice for row in score_label_map(high, high, labels, case_id="c")] == [1, 1]


@given(one=MAPS, other=MAPS)
@settings(deadline=None, max_examples=60)
def test_dice_and_iou_do_not_care_which_map_is_which_and_precision_is_recall_the_other_way(
    one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> None:
    for row, back in zip(score(one, other).values(), score(other, one).values(), strict=True):
        assert (row.dice, row.iou, row.precision, row.recall) == (back.dice, back.iou, back.recall, back.precision)
        assert (row.prediction_ml, row.reference_ml) == (back.reference_ml, back.prediction_ml)


@given(one=MAPS, other=MAPS)
@settings(deadline=None, max_examples=60)
def test_scores_lie_between_0_and_1_and_iou_follows_from_dice(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    for row in score(one, other).values():
        if row.dice is None:
            assert row.iou is None
            continue
        assert 0 <= row.dice <= 1
        assert row.iou == pytest.approx(row.dice / (2 - row.dice))


@given(one=MAPS, other=MAPS)
@settings(deadline=None, max_examples=60)
def test_every_score_is_what_masks_give(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    regions = NAMES.select({"spleen": ["spleen"], "rest": ["kidney", "liver"]})
    for row, label in zip(score(one, other, regions).values(), regions, strict=True):
        p, r = np.isin(one, label.parts), np.isin(other, label.parts)
        both, either = np.count_nonzero(p & r), np.count_nonzero(p | r)
        assert row.dice == (2 * both / (p.sum() + r.sum()) if either else None)
        assert row.iou == (both / either if either else None)
        assert row.precision == (both / p.sum() if p.any() else None)
        assert row.recall == (both / r.sum() if r.any() else None)


def test_dice_is_monais() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.choice(np.array([0, 1, 2, 5], np.uint8), SHAPE) for _ in range(2))
    expected = DiceMetric(include_background=True, reduction="none")(
        *(torch.from_numpy(np.stack([ids == label.id for label in NAMES])[None]) for ids in (one, other))
    )
    rows = score(one, other)
    np.testing.assert_allclose([row.dice for row in rows.values()], expected[0].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "geometry",
    [house_geometry(shape=(4, 3, 3)), house_geometry(shape=SHAPE, centre_mm=(31.5, -42.25, 76.0))],
    ids=["shape", "place"],
)
def test_maps_on_different_grids_are_not_compared(geometry: Geometry) -> None:
    reference = LabelMap(np.zeros(geometry.shape, np.uint8), geometry)
    prediction = LabelMap(row_of(1), house_geometry(shape=SHAPE))
    with pytest.raises(GridMismatchError) as caught:
        score_label_map(prediction, reference, NAMES, case_id="c")
    assert caught.value.code == "E_GRID_MISMATCH"
