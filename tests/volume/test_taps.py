"""Facts about taps: a few voxels with weights say what a whole matrix says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.volume.taps import Taps


def triangles(positions: np.ndarray, size: int, width: float) -> np.ndarray:
    """Return the full matrix, shape (positions, size): a triangle about each position, rows sum to 1."""
    inner = positions.clip(0, size - 1)
    weights = (1.0 - np.abs(inner[:, None] - np.arange(size)) / width).clip(0)
    return weights / weights.sum(axis=1, keepdims=True)


@given(
    st.lists(st.floats(-20, 40), min_size=1, max_size=20),
    st.integers(1, 25),
    st.floats(1, 30) | st.just(1.0) | st.just(1 + 1e-9),
)
def test_the_matrix_is_a_triangle_about_each_position(positions: list[float], size: int, width: float) -> None:
    at = np.array(positions)
    taps = Taps.at(at, size, width=width)
    np.testing.assert_allclose(taps.matrix().toarray(), triangles(at, size, width), atol=1e-5)
    assert (taps.weights >= 0).all()
    assert taps.voxels.min() >= 0
    assert taps.voxels.max() < size


def test_linear_interpolation_reads_two_voxels_and_a_low_pass_twice_its_width() -> None:
    at = np.array([0.5, 3.25, 6.0])
    assert Taps.at(at, 10).voxels.shape == (3, 2)
    assert Taps.at(at, 10, width=2.5).voxels.shape == (3, 5)
    assert Taps.at(at, 2, width=2.5).voxels.shape == (3, 2)


@pytest.mark.parametrize("rounding", [0, 1e-9, -1e-9])
def test_on_a_voxels_centre_that_voxel_alone_is_read_even_after_rounding(rounding: float) -> None:
    taps = Taps.at(np.array([0.0, 3.0, 9.0]) + rounding, 10, width=1 + abs(rounding))
    assert taps.read().tolist() == [[0, 0], [3, 3], [9, 9]]


def test_a_part_of_the_axis_is_read_alike() -> None:
    at = np.array([4.2, 5.9])
    taps = Taps.at(at, 10).within(slice(3, 8))
    np.testing.assert_allclose(taps.matrix().toarray(), Taps.at(at, 10).matrix().toarray()[:, 3:8])
