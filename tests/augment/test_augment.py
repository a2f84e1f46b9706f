"""Facts about augmentation: a seed is a draw, labels stay labels, and image and label map move together."""

from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.augment import Augmenter
from medseg.augment.cut_short import cut_short
from medseg.augment.elastic import Elastic, displacements
from medseg.augment.transforms import SPATIAL, TRANSFORMS
from medseg.recipe import Augment

PATCH = (32, 40, 36)
SLICES = [(1, 40, 36), (40, 1, 36), (40, 36, 1)]
# Largest of everything, so that every draw shows.
WILD: dict[str, Any] = {"scale": 0.25, "rotate_degrees": 25.0, "shift_voxels": 4.0, "log_gamma": 0.5}
INTENSITY = tuple(name for name in TRANSFORMS if name not in SPATIAL)


def only(name: str) -> Augment:
    """Return a section that always applies one transform, or the flip, and nothing else."""
    return Augment(**{name: 1.0}, **WILD)


def everything() -> Augment:
    return Augment(flip=0.5, cut_short=0.5, **dict.fromkeys(TRANSFORMS, 0.7), **WILD)


def noise(patch: tuple[int, int, int], *, channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((channels, *patch), np.float32)


def cube(patch: tuple[int, int, int], id_: int = 1) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return a bright box, off-centre and over the whole of a flat side, and its label."""
    label_map = np.zeros(patch, np.uint16)
    label_map[tuple(slice(None) if n == 1 else slice(int(n * 0.25), int(n * 0.65)) for n in patch)] = id_
    return (label_map[None] > 0).astype(np.float32), label_map


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def middle(patch: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return the middle of a slice, which the wildest affine fills from within the slice."""
    place = np.indices(patch).reshape(3, -1).T
    half = np.array([n / 2 if n > 1 else np.inf for n in patch])
    reach = np.linalg.norm((place - (np.array(patch) - 1) / 2) / half, axis=1)
    return np.asarray(reach < 0.5).reshape(patch)


# The seed is the draw


@pytest.mark.parametrize("patch", [PATCH, SLICES[2]], ids=["3D", "2D"])
def test_the_same_seed_makes_the_same_patch_whatever_was_drawn_before(patch: tuple[int, int, int]) -> None:
    image, label_map = noise(patch), cube(patch)[1]
    first = Augmenter(everything(), patch)(image, label_map, seed=7)
    augmenter = Augmenter(everything(), patch)
    augmenter(image, label_map, seed=8)
    torch.rand(5)
    again = augmenter(image, label_map, seed=7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_another_seed_makes_another_patch(name: str) -> None:
    augmenter = Augmenter(only(name), PATCH)
    one, other = (augmenter(noise(PATCH), cube(PATCH)[1], seed=seed)[0] for seed in (2**61, 2**61 + 1))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, noise(PATCH))


def test_a_flip_comes_in_half_of_the_draws_at_a_probability_of_a_half() -> None:
    image, label_map = noise((4, 5, 6)), np.zeros((4, 5, 6), np.uint8)
    augmenter = Augmenter(Augment(flip=0.5, flip_axes=("J",)), (4, 5, 6))
    drawn = [augmenter(image, label_map, seed=seed)[0] for seed in range(200)]
    flipped = sum(np.array_equal(patch, image[:, :, ::-1]) for patch in drawn)
    untouched = sum(np.array_equal(patch, image) for patch in drawn)
    assert flipped + untouched == 200
    assert 70 < flipped < 130


def test_torch_draws_on_as_if_no_patch_had_been_varied() -> None:
    before = torch.random.get_rng_state()
    Augmenter(everything(), PATCH)(noise(PATCH), cube(PATCH)[1], seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_goes_in_is_not_changed() -> None:
    image, label_map = noise(PATCH), cube(PATCH)[1]
    image.setflags(write=False)
    label_map.setflags(write=False)
    Augmenter(everything(), PATCH)(image, label_map, seed=3)
    np.testing.assert_array_equal(image, noise(PATCH))


def test_nothing_asked_for_is_nothing_done() -> None:
    image, label_map = noise(PATCH), cube(PATCH)[1]
    varied, labels = Augmenter(Augment(), PATCH)(image, label_map, seed=3)
    np.testing.assert_array_equal(varied, image)
    np.testing.assert_array_equal(labels, label_map)


# Labels stay labels


@pytest.mark.parametrize("patch", [PATCH, *SLICES], ids=str)
@pytest.mark.parametrize("name", ["flip", "cut_short", *TRANSFORMS])
def test_no_id_appears_that_was_not_there_and_shapes_and_types_stay(name: str, patch: tuple[int, int, int]) -> None:
    label_map = np.random.default_rng(2).choice(np.array([0, 1, 5, 300], np.uint16), patch)
    varied, labels = Augmenter(only(name), patch)(noise(patch, channels=2), label_map, seed=4)
    assert set(np.unique(labels)) <= {0, 1, 5, 300}
    assert labels.shape == patch
    assert labels.dtype == np.uint16
    assert varied.shape == (2, *patch)
    assert varied.dtype == np.float32
    assert varied.flags.c_contiguous
    assert labels.flags.c_contiguous
    assert np.isfinite(varied).all()


@pytest.mark.parametrize("patch", [PATCH, SLICES[0]], ids=["3D", "2D"])
@pytest.mark.parametrize("name", INTENSITY)
def test_a_transform_of_intensities_leaves_the_labels_alone(name: str, patch: tuple[int, int, int]) -> None:
    label_map = cube(patch, id_=300)[1]
    varied, labels = Augmenter(only(name), patch)(noise(patch), label_map, seed=5)
    np.testing.assert_array_equal(labels, label_map)
    assert not np.array_equal(varied, noise(patch))


# Image and label map move together


@pytest.mark.parametrize("patch", [PATCH, *SLICES], ids=str)
@pytest.mark.parametrize("name", SPATIAL)
def test_a_bright_box_and_its_label_move_together(name: str, patch: tuple[int, int, int]) -> None:
    augmenter = Augmenter(only(name), patch)
    image, label_map = cube(patch, id_=300)
    for seed in range(4):
        varied, labels = augmenter(image, label_map, seed=seed)
        assert not np.array_equal(labels, label_map)
        assert dice(varied[0] > 0.5, labels == 300) > 0.9


def test_flips_move_image_and_label_map_alike_along_the_axes_named() -> None:
    image, label_map = noise((4, 5, 6)), np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    settings = Augment(flip=1.0, flip_axes=("I", "K"))
    varied, labels = Augmenter(settings, (4, 5, 6))(image, label_map, seed=0)
    np.testing.assert_array_equal(varied, image[:, ::-1, :, ::-1])
    np.testing.assert_array_equal(labels, label_map[::-1, :, ::-1])


def test_a_shift_is_no_larger_than_asked() -> None:
    settings = Augment(affine=1.0, scale=0.0, rotate_degrees=0.0, shift_voxels=3.0)
    image, label_map = cube(PATCH)
    centre = np.argwhere(label_map).mean(axis=0)
    moves = [
        np.argwhere(Augmenter(settings, PATCH)(image, label_map, seed=seed)[1]).mean(axis=0) - centre
        for seed in range(8)
    ]
    assert np.abs(moves).max() <= 3.5
    assert np.abs(moves).max(axis=0).min() > 1


def test_channels_move_together_too() -> None:
    image, label_map = cube(PATCH)
    both = np.concatenate([image, 2 - image])
    varied, _ = Augmenter(Augment(affine=1.0, elastic=1.0), PATCH)(both, label_map, seed=6)
    inside = middle(PATCH)
    np.testing.assert_allclose(varied[0][inside], 2 - varied[1][inside], atol=1e-5)


@pytest.mark.parametrize("patch", [PATCH, (32, 40, 2), *SLICES], ids=str)
@pytest.mark.parametrize("name", ["cut_short", "elastic", "low_resolution", "blur", "motion"])
def test_what_is_everywhere_stays_everywhere(name: str, patch: tuple[int, int, int]) -> None:
    image, label_map = np.full((2, *patch), 100, np.float32), np.ones(patch, np.uint8)
    augmenter = Augmenter(only(name), patch)
    for seed in range(12):
        varied, labels = augmenter(image, label_map, seed=seed)
        np.testing.assert_allclose(varied, 100, atol=1e-3)
        assert (labels == 1).all()


@pytest.mark.parametrize("patch", [(24, 24, 24), (20, 22, 25)], ids=str)
def test_motion_leaves_the_organ_in_place(patch: tuple[int, int, int]) -> None:
    image, label_map = cube(patch)
    augmenter = Augmenter(only("motion"), patch)
    for seed in range(60):
        varied, _ = augmenter(image, label_map, seed=seed)
        assert dice(varied[0] > 0.5, label_map == 1) > 0.85, seed


def test_turning_keeps_the_shape_of_what_is_turned_whatever_the_voxels() -> None:
    patch, spacing_mm = (60, 60, 16), (1.0, 1.0, 4.0)
    place = (np.indices(patch).reshape(3, -1).T - (np.array(patch) - 1) / 2) * spacing_mm
    ball = np.linalg.norm(place, axis=1) < 18
    label_map = ball.reshape(patch).astype(np.uint8)
    settings = Augment(affine=1.0, scale=0.0, rotate_degrees=40.0)
    augmenter = Augmenter(settings, patch)
    for seed in range(6):
        _, labels = augmenter(label_map[None].astype(np.float32), label_map, seed=seed, spacing_mm=spacing_mm)
        assert dice(labels == 1, label_map == 1) > 0.95
        # on a grid taken for one of cubes a ball becomes an ellipsoid
        _, labels = augmenter(label_map[None].astype(np.float32), label_map, seed=seed)
        assert dice(labels == 1, label_map == 1) < 0.95


@pytest.mark.parametrize("name", ["affine", "elastic", "blur", "low_resolution"])
def test_what_a_recipe_gives_in_voxels_is_voxels_whatever_their_size(name: str) -> None:
    settings = Augment(**{name: 1.0}, scale=0.0, rotate_degrees=0.0, shift_voxels=3.0)
    image, label_map = cube(PATCH)
    image += noise(PATCH)
    augmenter = Augmenter(settings, PATCH)
    for seed in range(3):
        plain = augmenter(image, label_map, seed=seed)
        other = augmenter(image, label_map, seed=seed, spacing_mm=(0.5, 3.0, 7.0))
        np.testing.assert_allclose(other[0], plain[0], atol=1e-3)
        assert np.mean(other[1] != plain[1]) < 1e-3


# Slices


@pytest.mark.parametrize("patch", SLICES, ids=str)
@pytest.mark.parametrize("name", ["affine", "elastic", "low_resolution", "blur"])
def test_a_slice_takes_nothing_from_outside_its_plane(name: str, patch: tuple[int, int, int]) -> None:
    image, label_map = np.ones((1, *patch), np.float32), np.ones(patch, np.uint8)
    image[:, 0, 0, 0] = label_map[0, 0, 0] = 0  # what is pulled in from outside is the least value
    augmenter = Augmenter(only(name), patch)
    for seed in range(4):
        varied, labels = augmenter(image, label_map, seed=seed)
        np.testing.assert_allclose(varied[0][middle(patch)], 1, atol=1e-5)
        assert (labels[middle(patch)] == 1).all()


@pytest.mark.parametrize("patch", SLICES, ids=str)
def test_motion_of_a_slice_stays_in_its_plane_and_leaves_the_organ_in_place(patch: tuple[int, int, int]) -> None:
    image, label_map = cube(patch)
    augmenter = Augmenter(only("motion"), patch)
    for seed in range(6):
        varied, _ = augmenter(image, label_map, seed=seed)
        assert not np.allclose(varied, image, atol=1e-3)
        assert varied[0][label_map == 1].mean() > 0.8
        assert np.abs(varied[0][label_map == 0]).mean() < 0.1
        assert dice(varied[0] > 0.5, label_map == 1) > 0.85


@pytest.mark.parametrize("patch", SLICES, ids=str)
def test_motion_turns_no_slice_out_of_its_plane(patch: tuple[int, int, int]) -> None:
    image, label_map = np.ones((1, *patch), np.float32), np.ones(patch, np.uint8)
    image[:, 0, 0, 0] = 0
    augmenter = Augmenter(only("motion"), patch)
    for seed in range(8):
        varied, _ = augmenter(image, label_map, seed=seed)
        np.testing.assert_allclose(varied[0][middle(patch)], 1, atol=0.15)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_slice_varies_alike_whichever_axis_is_its_normal(name: str) -> None:
    image, label_map = noise((1, 40, 36)), cube((1, 40, 36))[1]
    varied, labels = Augmenter(only(name), (1, 40, 36))(image, label_map, seed=9)
    for axis, patch in enumerate(SLICES):
        turned = np.moveaxis(image, 1, axis + 1), np.moveaxis(label_map, 0, axis)
        assert turned[1].shape == patch
        other, other_labels = Augmenter(only(name), patch)(*turned, seed=9)
        np.testing.assert_array_equal(np.moveaxis(other, axis + 1, 1), varied)
        np.testing.assert_array_equal(np.moveaxis(other_labels, axis, 0), labels)


@pytest.mark.parametrize("patch", SLICES, ids=str)
def test_a_slice_is_not_flipped_along_its_normal(patch: tuple[int, int, int]) -> None:
    image, label_map = noise(patch), cube(patch)[1]
    varied, _ = Augmenter(Augment(flip=1.0), patch)(image, label_map, seed=0)
    np.testing.assert_array_equal(varied, image[:, ::-1, ::-1, ::-1])


@pytest.mark.parametrize("patch", [(16, 40, 8), (40, 56, 1)], ids=str)
def test_an_elastic_deformation_larger_than_the_patch_allows_does_not_fold(patch: tuple[int, int, int]) -> None:
    far = Augment(elastic=1, elastic_voxels=30)
    elastic = TRANSFORMS["elastic"](far, patch, (1.0, 1.0, 1.0))
    for axis in [axis for axis, side in enumerate(patch) if side > 1]:
        # at worst, control points lie by turns as far to one side and to the other as they may
        points = np.zeros((*elastic.num_control_points, 3))
        np.moveaxis(points, axis, 0)[..., axis] = elastic.max_displacement[axis]
        np.moveaxis(points, axis, 0)[::2, ..., axis] *= -1
        assert (1 + np.diff(displacements(points, patch)[..., axis], axis=axis) > 0.1).all()
    image, label_map = cube(patch)
    varied, ids = Augmenter(far, patch)(image, label_map, seed=2)
    assert varied.shape == image.shape
    assert dice(ids > 0, label_map > 0) > 0.5


@given(
    sides=st.tuples(*[st.integers(1, 12)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    channels=st.integers(1, 2),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=30)
def test_the_elastic_deformation_is_torchios(
    sides: tuple[int, int, int], spacing_mm: tuple[float, float, float], channels: int, seed: int
) -> None:
    rng, grid = np.random.default_rng(seed), np.diag([*spacing_mm, 1.0])
    image = torch.from_numpy(rng.normal(size=(channels, *sides)).astype(np.float32))
    ids = torch.from_numpy(rng.integers(0, 4, (1, *sides)).astype(np.int32))
    reach = tuple(side / 8 * mm if side > 1 else 0.0 for side, mm in zip(sides, spacing_mm, strict=True))
    ours, theirs = (
        tio.Subject(image=tio.ScalarImage(tensor=image, affine=grid), ids=tio.LabelMap(tensor=ids, affine=grid))
        for _ in range(2)
    )
    varied = []
    for kind, subject in ((Elastic, ours), (tio.RandomElasticDeformation, theirs)):
        torch.manual_seed(seed)
        varied.append(kind(num_control_points=7, max_displacement=reach)(subject))
    torch.testing.assert_close(varied[0]["image"].data, varied[1]["image"].data, atol=1e-4, rtol=0)
    # a place halfway between two voxels may be rounded to either
    assert (varied[0]["ids"].data != varied[1]["ids"].data).float().mean() < 0.01


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_a_patch_cut_short_goes_on_as_it_ends_and_image_and_label_agree(seed: int) -> None:
    number = np.arange(6 * 1 * 8, dtype=np.float32).reshape(6, 1, 8)
    image, label_map = cut_short(number[None], number.astype(np.uint16), np.random.default_rng(seed))
    assert image.shape == (1, 6, 1, 8)
    assert np.array_equal(image[0], label_map)
    rows, columns = np.unique(label_map // 8), np.unique(label_map % 8)
    assert len(rows) == 6 or len(columns) == 8
    assert len(rows) >= 2
    assert len(columns) >= 2
    for kept in (rows, columns):
        assert np.array_equal(kept, np.arange(kept[0], kept[-1] + 1))
    assert np.array_equal(np.sort(label_map, axis=0), label_map)
    assert np.array_equal(np.sort(label_map, axis=2), label_map)


# Voxels that are not labelled


@pytest.mark.parametrize("patch", [PATCH, SLICES[1]], ids=["3D", "2D"])
@pytest.mark.parametrize("name", SPATIAL)
def test_what_comes_in_from_beyond_a_patch_is_not_labelled_where_ids_say_that(
    name: str, patch: tuple[int, int, int]
) -> None:
    image, label_map = noise(patch), np.full(patch, 3, np.uint16)
    for seed in range(5):
        plain = Augmenter(only(name), patch)(image, label_map, seed=seed)
        sparse = Augmenter(only(name), patch, beyond=300)(image, label_map, seed=seed)
        np.testing.assert_array_equal(sparse[0], plain[0])
        assert set(np.unique(sparse[1])) == {3, 300}
        if name == "affine":  # which says what comes in; a corner of the patch is given up
            assert np.count_nonzero((sparse[1] == 300) != (plain[1] == 0)) <= 8


@pytest.mark.parametrize("name", INTENSITY)
def test_every_label_stays_where_no_voxel_moves_and_some_are_not_labelled(name: str) -> None:
    _, labels = Augmenter(only(name), PATCH, beyond=300)(noise(PATCH), np.full(PATCH, 3, np.uint16), seed=1)
    assert (labels == 3).all()


@pytest.mark.parametrize("name", SPATIAL)
def test_voxels_that_are_not_labelled_move_with_the_others(name: str) -> None:
    image, label_map = cube(PATCH, id_=7)
    label_map[:, :, 30:] = 300
    plain = Augmenter(only(name), PATCH)(image, label_map, seed=3)[1]
    sparse = Augmenter(only(name), PATCH, beyond=300)(image, label_map, seed=3)[1]
    np.testing.assert_array_equal(sparse == 7, plain == 7)
    assert not ((plain == 300) & (sparse != 300)).any()
    assert sparse.dtype == label_map.dtype
