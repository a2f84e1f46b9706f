"""Facts about the voxels that patches are centred on: on the mask, and evenly over what they favour."""

from collections import Counter

import numpy as np
import pytest

from medseg.preprocess import points as points_module
from medseg.preprocess.points import some_points


def spots() -> np.ndarray:
    """Return a large box and two lesions, of one voxel and of two that touch at a corner."""
    mask = np.zeros((9, 7, 8), np.bool_)
    mask[:5, :4, :6] = True
    mask[8, 6, 7] = True
    mask[7, 1, 1] = mask[8, 2, 2] = True
    return mask


def test_all_voxels_of_a_small_mask_are_kept() -> None:
    mask = spots()
    np.testing.assert_array_equal(some_points(mask), np.argwhere(mask))


@pytest.mark.parametrize("sample", ["voxels", "components"])
def test_an_empty_mask_has_no_points(sample: points_module.Sample) -> None:
    assert some_points(np.zeros((3, 4, 5), np.bool_), sample).shape == (0, 3)


def test_of_components_a_small_one_has_as_many_points_as_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "POINTS_PER_LABEL", 12)
    mask = spots()
    points = some_points(mask, "components")
    assert mask[tuple(points.T)].all()
    times = Counter(map(tuple, points.tolist()))
    assert times[8, 6, 7] == times[7, 1, 1] + times[8, 2, 2] == 4
    assert min(times[7, 1, 1], times[8, 2, 2]) > 0
    assert sum(count for (i, *_), count in times.items() if i < 5) == 4


def test_more_components_than_points_have_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "POINTS_PER_LABEL", 2)
    assert len(some_points(spots(), "components")) == 3
