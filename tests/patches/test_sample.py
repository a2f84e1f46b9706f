"""Facts about training patches: they stay inside where they can, and find the labels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import house_geometry, house_label_map

from medseg.patches import draw_patch
from medseg.patches.sample import cut
from medseg.prepared_case import PreparedCase

SIDES = st.tuples(*[st.integers(1, 9)] * 3)


def case_of(label_map: np.ndarray, *, ids: tuple[int, ...] = (1, 2, 5)) -> PreparedCase:
    """Return a case whose image holds each voxel's number, from 1 up, and its negative as a second channel."""
    number = np.arange(1, label_map.size + 1, dtype=np.float32).reshape(label_map.shape)
    points = tuple(np.argwhere(label_map == id_).astype(np.int32) for id_ in ids)
    geometry = house_geometry(shape=label_map.shape)
    present = (True,) * len(ids)
    return PreparedCase("phantom", np.stack([number, -number]), label_map, points, geometry, geometry, present)


def one_voxel(shape: tuple[int, int, int], at: tuple[int, int, int]) -> PreparedCase:
    label_map = np.zeros(shape, np.uint8)
    label_map[at] = 5
    return case_of(label_map)


@given(shape=SIDES, patch=SIDES, seed=st.integers(0, 99), foreground=st.sampled_from([0.0, 1.0]), data=st.data())
@settings(deadline=None)
def test_a_patch_stays_inside_or_has_the_case_in_its_middle(
    shape: tuple[int, int, int], patch: tuple[int, int, int], seed: int, foreground: float, data: st.DataObject
) -> None:
    at = data.draw(st.tuples(*[st.integers(0, n - 1) for n in shape]))
    case = one_voxel(shape, at)
    image, label_map = draw_patch(case, patch, np.random.default_rng(seed), foreground=foreground)
    assert image.shape == (2, *patch)
    assert label_map.shape == patch
    np.testing.assert_array_equal(image[1], -image[0])
    np.testing.assert_array_equal(image[0][label_map == 5], case.image[0][at])
    first = np.unravel_index(int(image[0].flat[0]) - 1, shape)
    steps = [
        (first[axis] + np.arange(side))
        if size >= side
        else (np.arange(side) - (side - size + 1) // 2).clip(0, size - 1)
        for axis, (size, side) in enumerate(zip(shape, patch, strict=True))
    ]
    np.testing.assert_array_equal(image[0], case.image[0][np.ix_(*steps)])


@given(shape=SIDES, patch=SIDES, seed=st.integers(0, 99), data=st.data())
@settings(deadline=None)
def test_with_foreground_1_every_patch_holds_a_voxel_of_a_label(
    shape: tuple[int, int, int], patch: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    case = one_voxel(shape, data.draw(st.tuples(*[st.integers(0, n - 1) for n in shape])))
    image, label_map = draw_patch(case, patch, np.random.default_rng(seed), foreground=1)
    number = case.image[0][case.label_map == 5]
    assert (image[0][label_map == 5] == number).all()
    assert 5 in label_map


def test_the_patch_is_centred_on_its_voxel_away_from_the_edges() -> None:
    _, label_map = draw_patch(one_voxel((9, 9, 9), (4, 5, 3)), (3, 5, 4), np.random.default_rng(0), foreground=1)
    assert np.argwhere(label_map).tolist() == [[1, 2, 2]]


def test_each_label_is_drawn_about_equally_however_large_it_is() -> None:
    case = case_of(house_label_map().array)
    sizes = [len(points) for points in case.points_voxel]
    assert max(sizes) > 5 * min(sizes) > 0
    rng = np.random.default_rng(0)
    drawn = Counter(int(draw_patch(case, (1, 1, 1), rng, foreground=1)[1].item()) for _ in range(900))
    assert set(drawn) == {1, 2, 5}
    assert min(drawn.values()) > 240


def test_a_label_the_case_lacks_is_not_waited_for() -> None:
    case = case_of(np.where(house_label_map().array == 5, 5, 0).astype(np.uint8))
    rng = np.random.default_rng(0)
    assert all(draw_patch(case, (1, 1, 1), rng, foreground=1)[1].item() == 5 for _ in range(20))


def test_a_case_without_any_label_gives_patches_from_anywhere() -> None:
    case = case_of(np.zeros((7, 5, 4), np.uint8))
    rng = np.random.default_rng(0)
    corners = {draw_patch(case, (3, 3, 3), rng, foreground=1)[0][0, 0, 0, 0] for _ in range(400)}
    assert len(corners) == 5 * 3 * 2


def test_the_foreground_fraction_is_kept() -> None:
    case = one_voxel((40, 1, 1), (11, 0, 0))
    rng = np.random.default_rng(0)
    found = sum(draw_patch(case, (1, 1, 1), rng, foreground=0.3)[1].item() == 5 for _ in range(600))
    assert 140 < found < 250


def test_the_same_generator_draws_the_same_patch() -> None:
    case = case_of(house_label_map().array)
    one, other = (draw_patch(case, (4, 4, 4), np.random.default_rng(3), foreground=0.5) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])


def test_a_patch_is_a_copy() -> None:
    case = case_of(house_label_map().array)
    image, label_map = draw_patch(case, (3, 3, 3), np.random.default_rng(0), foreground=0)
    image[:] = label_map[:] = 0
    assert case.image[0].all()


@pytest.mark.parametrize("channels", [(), (2,)])
def test_outside_the_array_a_cut_goes_on_as_at_the_edge(channels: tuple[int, ...]) -> None:
    array = np.arange(24.0).reshape(4, 3, 2)
    box = cut(np.broadcast_to(array, (*channels, 4, 3, 2)), [-2, 1, -1], (5, 1, 4))
    expected = array[np.ix_([0, 0, 0, 1, 2], [1], [0, 0, 1, 1])]
    np.testing.assert_array_equal(box, np.broadcast_to(expected, (*channels, 5, 1, 4)))


@given(shape=SIDES, patch=SIDES, seed=st.integers(0, 99), foreground=st.sampled_from([0.0, 1.0]), data=st.data())
@settings(deadline=None)
def test_every_patch_of_a_case_that_is_labelled_in_places_holds_such_a_place(
    shape: tuple[int, int, int], patch: tuple[int, int, int], seed: int, foreground: float, data: st.DataObject
) -> None:
    label_map = np.full(shape, 255, np.uint8)
    label_map[data.draw(st.tuples(*[st.integers(0, n - 1) for n in shape]))] = data.draw(st.sampled_from([0, 5]))
    case = replace(case_of(label_map), labelled_voxel=np.argwhere(label_map != 255).astype(np.int32))
    _, drawn = draw_patch(case, patch, np.random.default_rng(seed), foreground=foreground)
    assert (drawn != 255).any()


def test_background_that_is_labelled_is_drawn_as_often_as_asked() -> None:
    label_map = np.full((6, 5, 4), 255, np.uint8)
    label_map[0], label_map[5, 0, 0] = 0, 5
    case = replace(case_of(label_map), labelled_voxel=np.argwhere(label_map != 255).astype(np.int32))
    rng = np.random.default_rng(0)
    drawn = Counter(int(draw_patch(case, (1, 1, 1), rng, foreground=0.5)[1].item()) for _ in range(400))
    assert set(drawn) == {0, 5}
    assert 150 < drawn[0] < 250


def test_where_nothing_is_labelled_a_patch_lies_anywhere() -> None:
    case = replace(case_of(np.full((5, 4, 3), 255, np.uint8)), labelled_voxel=np.empty((0, 3), np.int32))
    assert (draw_patch(case, (3, 3, 3), np.random.default_rng(0), foreground=1)[1] == 255).all()


def test_beyond_the_edge_a_voxel_that_is_not_labelled_goes_on_as_one() -> None:
    label_map = np.full((3, 3, 3), 255, np.uint8)
    label_map[1, 1, 1] = 5
    _, drawn = draw_patch(case_of(label_map), (7, 5, 3), np.random.default_rng(0), foreground=0)
    assert np.count_nonzero(drawn == 5) == 1
    assert np.count_nonzero(drawn == 255) == drawn.size - 1
