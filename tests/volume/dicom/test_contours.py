"""Contours: outlines that enclose just the mask, and the mask again within them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from medseg.volume.dicom.contours import filled, outlines

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))

RING = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
TARGET = np.pad(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True), 1)
SIEVE = np.ones((9, 9), bool)
SIEVE[1:8:2, 1:8:2] = False
# A ring that is open at a corner only: the hole inside touches the outside there.
CORNERED = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def shoelace(polygon):
    rows, columns = polygon.T
    return float((columns * np.roll(rows, -1) - np.roll(columns, -1) * rows).sum()) / 2


def winding(polygon, shape):
    """Return how often a polygon winds clockwise around each pixel's centre; its edges run along rows and columns."""
    turns = np.zeros(shape, int)
    for (row, column), (next_row, next_column) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if column == next_column:
            low, high = sorted((row, next_row))
            beside = np.s_[int(np.ceil(low)) : int(np.floor(high)) + 1, int(np.ceil(column)) :]
            turns[beside] += 1 if next_row < row else -1
    return turns


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_each_part_has_one_outline_that_encloses_its_pixels_by_every_rule(mask):
    parts, count = ndimage.label(mask)
    lines = outlines(mask)
    assert len(lines) == count
    whole = np.zeros(mask.shape, bool)
    for line in lines:
        turns = winding(line, mask.shape)
        (part,) = set(parts[turns > 0].tolist())
        np.testing.assert_array_equal(turns, parts == part)
        np.testing.assert_array_equal(filled([line], mask.shape), parts == part)
        assert shoelace(line) == (parts == part).sum()
        whole |= turns > 0
    np.testing.assert_array_equal(whole, mask)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_edges_run_along_rows_and_columns_by_turns_where_there_is_no_keyhole(mask):
    for line in outlines(ndimage.binary_fill_holes(mask, np.ones((3, 3)))):
        steps = np.roll(line, -1, axis=0) - line
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert ((steps[:, 0] != 0) != (np.roll(steps, -1, axis=0)[:, 0] != 0)).all()


def test_one_pixel_is_a_square_around_its_centre():
    mask = np.zeros((5, 7), bool)
    mask[3, 4] = True
    (line,) = outlines(mask)
    np.testing.assert_array_equal(line, [[2.5, 3.5], [2.5, 4.5], [3.5, 4.5], [3.5, 3.5]])


def test_a_keyhole_goes_straight_up_from_the_hole_and_back():
    (line,) = outlines(RING)
    assert line.tolist() == [
        [-0.5, -0.5],
        [-0.5, 0.5],
        [0.5, 0.5],
        [1.5, 0.5],
        [1.5, 2.5],
        [0.5, 2.5],
        [0.5, 0.5],
        [-0.5, 0.5],
        [-0.5, 3.5],
        [2.5, 3.5],
        [2.5, -0.5],
    ]


@pytest.mark.parametrize(
    ("mask", "corners"),
    [(RING, [11]), (TARGET, [4, 11]), (CORNERED, [10]), (np.eye(3, dtype=bool), [4, 4, 4]), (~RING, [4])],
    ids=["ring", "island in a hole", "touching itself", "touching diagonally", "a block"],
)
def test_shapes_that_are_easy_to_get_wrong(mask, corners):
    lines = outlines(mask)
    assert sorted(len(line) for line in lines) == corners
    assert sum(shoelace(line) for line in lines) == mask.sum()
    np.testing.assert_array_equal(filled(lines, mask.shape), mask)


def test_many_holes_join_one_outline():
    (line,) = outlines(SIEVE)
    assert shoelace(line) == SIEVE.sum() == 65
    np.testing.assert_array_equal(winding(line, SIEVE.shape), SIEVE)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 5)])
def test_an_empty_mask_has_no_outlines_and_none_fill_nothing(shape):
    assert outlines(np.zeros(shape, bool)) == []
    assert not filled([], shape).any()


def test_a_polygon_within_another_is_a_hole_and_one_within_that_an_island():
    squares = [np.array([[a, a], [a, b], [b, b], [b, a]], float) for a, b in ((0.5, 8.5), (2.5, 6.5), (3.5, 5.5))]
    mask = np.zeros((10, 10), bool)
    mask[1:9, 1:9], mask[3:7, 3:7], mask[4:6, 4:6] = True, False, True
    np.testing.assert_array_equal(filled(squares, mask.shape), mask)


def test_centres_on_an_edge_belong_to_one_of_two_neighbours():
    left = np.array([[0, 0], [0, 3], [4, 3], [4, 0]], float)
    right = left + np.array([0, 3])
    shape = (6, 8)
    assert not (filled([left], shape) & filled([right], shape)).any()
    assert filled([left], shape).sum() == filled([right], shape).sum() == 12


def test_what_lies_outside_is_cut_off():
    square = np.array([[-5, -5], [-5, 1.5], [20, 1.5], [20, -5]], float)
    assert filled([square], (3, 4)).sum(axis=0).tolist() == [3, 3, 0, 0]
    assert not filled([square + 100], (3, 4)).any()


def test_slanted_edges_take_the_centres_inside():
    triangle = np.array([[-0.5, -0.5], [7.5, -0.5], [-0.5, 7.5]])
    rows, columns = np.indices((8, 8))
    np.testing.assert_array_equal(filled([triangle], (8, 8)), rows + columns < 7)
