"""Resample: the same patient, read at other points. Checked against algebra, nibabel and SimpleITK."""

import importlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from phantoms import (
    all_orientations,
    geometries,
    house_geometry,
    house_label_map,
    house_volume,
    linear,
    ramp,
    to_itk,
)

from medseg.volume import Geometry, Volume, resample

QUICK = settings(max_examples=40, deadline=None)
HOUSE = house_geometry()


def positions(source: Geometry, target: Geometry) -> np.ndarray:
    """Return where the target's voxels lie on the source grid, shape (I, J, K, 3)."""
    return source.to_voxel(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))


def inside(source: Geometry, target: Geometry, *, rim: float = 0.0) -> np.ndarray:
    """Return which target voxels lie between the source's outermost centres, `rim` voxels away from them."""
    at = positions(source, target)
    return ((at >= rim) & (at <= np.array(source.shape) - 1 - rim)).all(axis=-1)


def smooth(geometry: Geometry) -> np.ndarray:
    """Return a function of the world position that waves slowly, in every direction, between −100 and 100."""
    x, y, z = np.moveaxis(geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1)), -1, 0)
    return 100 * np.sin(x / 9) * np.cos(y / 11 + 0.3) * np.sin(z / 13 + 1)


def turned(geometry: Geometry, degrees: float) -> Geometry:
    """Return a grid turned a little about its first voxel, in the plane of its axes I and J."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i_mm, j_mm, _ = geometry.spacing_mm
    turn = np.eye(4)
    turn[:2, :2] = [[cosine, -sine * j_mm / i_mm], [sine * i_mm / j_mm, cosine]]
    return Geometry(geometry.shape, geometry.affine @ turn)


# --- the same grid


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_same_grid_gives_the_same_voxels(order):
    scan = house_volume()
    values = resample(scan.array, source=HOUSE, target=HOUSE, order=order)
    np.testing.assert_array_equal(values, scan.array)
    assert values.dtype == (np.int16 if order == 0 else np.float32)
    assert not np.shares_memory(values, scan.array)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("code", all_orientations())
def test_another_orientation_is_nibabels_permutation(code, order):
    scan = house_volume(channels=2)
    values = resample(scan.array, source=HOUSE, target=HOUSE.reorient(code), order=order)
    moves = nib.orientations.ornt_transform(
        nib.io_orientation(HOUSE.affine), nib.orientations.axcodes2ornt(tuple(code))
    )
    for channel, expected in zip(values, scan.array, strict=True):
        np.testing.assert_allclose(channel, nib.apply_orientation(expected, moves), rtol=0, atol=1e-6 * order)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("code", ["RAS", "LIP", "SRA"])
def test_coming_home_from_a_finer_grid_changes_no_voxel(code, order):
    scan = house_volume()
    prepared = HOUSE.reorient(code).pad((2, 0, 1), (0, 3, 1))
    prepared = prepared.with_spacing(np.array(prepared.spacing_mm) / 2)
    there = resample(scan.array, source=HOUSE, target=prepared, order=order, low_pass=False)
    home = resample(there, source=prepared, target=HOUSE, order=order, low_pass=False)
    np.testing.assert_allclose(home, scan.array, atol=2e-3)


def test_coming_home_from_a_cropped_grid_leaves_background_outside():
    labels = house_label_map()
    box = HOUSE.crop((2, 3, 1), (9, 8, 5))
    home = resample(resample(labels.array, source=HOUSE, target=box, order=0), source=box, target=HOUSE, order=0)
    expected = np.zeros_like(labels.array)
    expected[2:9, 3:8, 1:5] = labels.array[2:9, 3:8, 1:5]
    np.testing.assert_array_equal(home, expected)


# --- interpolation


@QUICK
@given(geometries(smallest=2), geometries(smallest=2), st.booleans())
def test_a_linear_function_of_the_world_is_read_exactly_on_any_grid(source, target, parallel):
    if parallel:
        target = source.reorient(target.orientation).with_spacing(target.spacing_mm)
        assume(np.prod(target.shape) < 50_000)
    middle = source.to_world((np.array(source.shape) - 1) / 2) - target.to_world((np.array(target.shape) - 1) / 2)
    affine = np.array(target.affine)
    affine[:3, 3] += middle
    target = Geometry(target.shape, affine)
    values = resample(ramp(source), source=source, target=target, low_pass=False)
    known = inside(source, target)
    np.testing.assert_allclose(values[known], ramp(target)[known], atol=1e-2)


def test_order_1_interpolates_linearly_between_two_voxels():
    source = Geometry((2, 1, 1), np.diag([4.0, 1, 1, 1]))
    target = source.with_spacing((1, 1, 1))
    values = resample(np.array([10.0, 30.0]).reshape(2, 1, 1), source=source, target=target)
    assert values.ravel().tolist() == [10, 15, 20, 25, 30]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "target",
    [
        house_geometry(shape=(9, 10, 7), spacing_mm=(1.3, 1.1, 1.9), orientation="RAS", tilt_degrees=(-5, 11, 3)),
        house_geometry(shape=(13, 4, 9), spacing_mm=(0.7, 2.9, 1.2), orientation="LIP"),
        house_geometry(shape=(9, 6, 12), spacing_mm=(1.1, 2.0, 1.0), orientation="PSL"),
    ],
    ids=["oblique", "permuted", "parallel"],
)
def test_simpleitk_reads_the_same_values(target, order):
    scan = house_volume()
    reference = to_itk(Volume(np.zeros((1, *target.shape), np.int16), target))
    method = sitk.sitkLinear if order else sitk.sitkNearestNeighbor
    itk = sitk.Resample(to_itk(scan), reference, sitk.Transform(), method, 0.0, sitk.sitkFloat32)
    expected = sitk.GetArrayFromImage(itk).T
    values = resample(scan.array[0], source=HOUSE, target=target, order=order, low_pass=False)
    known = inside(HOUSE, target)
    if order == 0:  # half-way between two voxels either may be taken
        known &= (np.abs(positions(HOUSE, target) % 1 - 0.5) > 1e-6).all(axis=-1)
    assert known.sum() > 50
    np.testing.assert_allclose(values[known], expected[known], atol=0.05)


def test_order_3_keeps_the_voxels_and_follows_curves_closer_than_order_1():
    source = house_geometry(shape=(22, 16, 12))
    target = source.with_spacing(np.array(source.spacing_mm) / 2)
    cubic, flat = (resample(smooth(source), source=source, target=target, order=order) for order in (3, 1))
    np.testing.assert_allclose(cubic[::2, ::2, ::2], smooth(source), atol=1e-3)
    deep = inside(source, target, rim=4)
    error = [np.abs(values - smooth(target))[deep].mean() for values in (cubic, flat)]
    assert error[0] < error[1] / 10


# --- two ways to the same values


@pytest.mark.parametrize("code", ["PSL", "RAS"])
def test_a_grid_turned_by_a_hair_reads_the_same_values(code):
    parallel = HOUSE.reorient(code).with_spacing((1.4, 1.3, 1.2)).pad((2, 2, 2), (2, 2, 2))
    one, other = (
        resample(smooth(HOUSE), source=HOUSE, target=grid, fill=777, low_pass=False)
        for grid in (parallel, turned(parallel, 0.1))
    )
    assert (one != other).any(), "the turn is too small to leave the separable path"
    known, outside = inside(HOUSE, parallel, rim=0.1), ~inside(HOUSE, parallel, rim=-0.6)
    assert known.sum() > 100
    assert outside.sum() > 100
    np.testing.assert_allclose(one[known], other[known], atol=1.0)
    np.testing.assert_array_equal(one[outside], 777)
    np.testing.assert_array_equal(other[outside], 777)


def test_both_paths_average_alike_when_shrinking():
    fine = house_geometry(shape=(40, 36, 30), spacing_mm=(0.8, 0.9, 0.7))
    coarse = fine.with_spacing((2.4, 2.7, 2.1))
    one, other = (resample(smooth(fine), source=fine, target=grid) for grid in (coarse, turned(coarse, 0.1)))
    deep = inside(fine, coarse, rim=3)
    np.testing.assert_allclose(one[deep], other[deep], atol=2.0)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("degrees", [0, 3], ids=["parallel", "oblique"])
@pytest.mark.parametrize("spacing_mm", [(2.5, 3.5, 6.5), (0.7, 0.8, 1.5)], ids=["coarser", "finer"])
def test_reading_plane_by_plane_gives_what_reading_at_once_gives(order, degrees, spacing_mm):
    target = turned(HOUSE.reorient("RAS").with_spacing(spacing_mm), degrees)
    scan = house_volume(channels=2, dtype=np.float32)
    at_once = resample(scan.array, source=HOUSE, target=target, order=order, fill=-5)
    planes = [
        resample(
            scan.array, source=HOUSE, target=target.crop((i, 0, 0), (i + 1, *target.shape[1:])), order=order, fill=-5
        )
        for i in range(target.shape[0])
    ]
    np.testing.assert_allclose(np.concatenate(planes, axis=1), at_once, atol=1e-2)


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    target = turned(HOUSE.with_spacing((1.1, 1.2, 1.3)), 4)
    scan = house_volume()
    at_once = resample(scan.array, source=HOUSE, target=target)
    monkeypatch.setattr(importlib.import_module("medseg.volume.resample"), "BLOCK_POINTS", 7)
    np.testing.assert_array_equal(resample(scan.array, source=HOUSE, target=target), at_once)


# --- nearest neighbour


@QUICK
@given(geometries(largest=7), geometries(largest=7), st.sampled_from([0, 9]))
def test_nearest_never_invents_a_label(source, target, fill):
    affine = np.array(target.affine)
    affine[:3, 3] += source.to_world((0, 0, 0)) - target.to_world((0, 0, 0))
    labels = house_label_map(geometry=source).array
    values = resample(labels, source=source, target=Geometry(target.shape, affine), order=0, fill=fill)
    assert values.dtype == labels.dtype
    assert set(np.unique(values)) <= set(np.unique(labels)) | {fill}


@QUICK
@given(geometries(smallest=2, largest=6), geometries(smallest=2, largest=6))
def test_nearest_reads_the_voxel_that_is_nearest(source, target):
    affine = np.array(target.affine)
    affine[:3, 3] += source.to_world((0, 0, 0)) - target.to_world((1, 1, 1))
    target = Geometry(target.shape, affine)
    voxels = np.arange(np.prod(source.shape), dtype=np.int32).reshape(source.shape)
    values = resample(voxels, source=source, target=target, order=0, fill=-1)
    at = positions(source, target)
    last = np.array(source.shape) - 1
    beyond = np.maximum(-at, at - last)
    reach = np.abs((np.linalg.inv(source.affine) @ target.affine)[:3, :3]).max(axis=1).clip(1) / 2
    clear = ((np.abs(at % 1 - 0.5) > 0.02) & (np.abs(beyond - reach) > 0.02)).all(axis=-1)
    nearest = np.round(at).astype(int).clip(0, last)
    expected = np.where((beyond < reach).all(axis=-1), voxels[tuple(np.moveaxis(nearest, -1, 0))], -1)
    np.testing.assert_array_equal(values[clear], expected[clear])


@pytest.mark.parametrize("degrees", [0, 5], ids=["parallel", "oblique"])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int32, np.float32])
def test_nearest_keeps_the_type(dtype, degrees):
    labels = (house_label_map().array > 0).astype(dtype)
    values = resample(labels, source=HOUSE, target=turned(HOUSE.with_spacing((2, 2, 2)), degrees), order=0)
    assert values.dtype == dtype
    assert 0 < values.astype(bool).mean() < 1


# --- outside


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("degrees", [0, 5], ids=["parallel", "oblique"])
def test_outside_is_the_fill(order, degrees):
    far = turned(HOUSE.crop((100, 0, 0), (103, 8, 6)), degrees)
    values = resample(house_volume().array, source=HOUSE, target=far, order=order, fill=-1024)
    np.testing.assert_array_equal(values, -1024)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("turn", [False, True], ids=["parallel", "oblique"])
def test_a_voxel_reaches_half_its_size_beyond_its_centre(order, turn):
    source = Geometry((3, 3, 3), np.eye(4))
    affine = np.diag([0.2, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-1, 1, 1)
    if turn:
        affine[1, 0] = 0.02
    values = resample(
        np.full(source.shape, 5.0), source=source, target=Geometry((21, 1, 1), affine), order=order, fill=-1
    ).ravel()
    x = np.arange(21) * 0.2 - 1
    np.testing.assert_array_equal(values[(x > -0.48) & (x < 2.48)], 5)
    np.testing.assert_array_equal(values[(x < -0.52) | (x > 2.52)], -1)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("degrees", [0, 1], ids=["parallel", "oblique"])
@pytest.mark.parametrize("slices", range(95, 105))
def test_a_grid_of_thicker_slices_shows_the_scan_up_to_its_last_one(slices, degrees, order):
    thin = Geometry((1, 1, slices), np.diag([1.0, 1.0, 0.8, 1.0]))
    thick = thin.with_spacing((1, 1, 2))
    if degrees:
        affine = np.array(thick.affine)
        affine[0, 2] = 0.4 / slices  # leans within the one column
        thick = Geometry(thick.shape, affine)
    values = resample(np.full(thin.shape, 5.0), source=thin, target=thick, order=order, fill=-1)
    np.testing.assert_allclose(values, 5, rtol=1e-6)


# --- low pass


@pytest.mark.parametrize("degrees", [0, 1], ids=["parallel", "oblique"])
def test_a_fine_checkerboard_shrinks_to_its_mean(degrees):
    fine = house_geometry(shape=(24, 22, 20), spacing_mm=(1, 1, 1))
    board = 40.0 + 30.0 * (-1.0) ** np.indices(fine.shape).sum(axis=0)
    coarse = turned(fine.crop((4, 4, 4), (20, 18, 16)).with_spacing((2, 2, 2)), degrees)
    np.testing.assert_allclose(resample(board, source=fine, target=coarse), 40, atol=0.5)
    aliased = resample(board, source=fine, target=coarse, low_pass=False)
    assert np.ptp(aliased) > 10 if degrees else np.abs(aliased - 70).max() < 1e-3


@pytest.mark.parametrize("degrees", [0, 5], ids=["parallel", "oblique"])
def test_shrinking_leaves_a_constant_as_it_is_up_to_the_edge(degrees):
    target = turned(HOUSE.with_spacing((2.7, 4.1, 5.3)), degrees)
    values = resample(np.full(HOUSE.shape, 123.0), source=HOUSE, target=target, fill=123)
    np.testing.assert_allclose(values, 123, rtol=1e-6)


def test_shrinking_by_a_whole_factor_keeps_a_linear_function():
    fine = house_geometry(shape=(25, 22, 19))
    coarse = fine.with_spacing(np.array(fine.spacing_mm) * (2, 3, 4))
    deep = inside(fine, coarse, rim=4)
    assert deep.sum() > 20
    np.testing.assert_allclose(resample(ramp(fine), source=fine, target=coarse)[deep], ramp(coarse)[deep], atol=1e-2)


def test_growing_does_not_blur():
    finer = HOUSE.with_spacing((0.5, 0.6, 0.7))
    scan = house_volume()
    sharp, passed = (resample(scan.array, source=HOUSE, target=finer, low_pass=low) for low in (False, True))
    np.testing.assert_array_equal(sharp, passed)


@pytest.mark.parametrize("degrees", [0, 2], ids=["parallel", "oblique"])
def test_labels_are_never_averaged(degrees):
    labels = house_label_map().array
    coarse = turned(HOUSE.with_spacing((3, 4, 6)), degrees)
    one, other = (resample(labels, source=HOUSE, target=coarse, order=0, low_pass=low) for low in (True, False))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("degrees", [0, 1], ids=["parallel", "oblique"])
def test_a_single_thick_slice_is_the_mean_of_the_thin_ones_it_covers(degrees):
    thin = house_geometry(shape=(6, 5, 40), spacing_mm=(1, 1, 1))
    values = np.zeros(thin.shape)
    values[..., ::2] = 100
    affine = np.array(thin.affine)
    affine[:3, :3] *= (1, 1, 10)
    affine[:3, 3] = thin.to_world((0, 0, 20))
    thick = turned(Geometry((6, 5, 1), affine), degrees)
    read = resample(values, source=thin, target=thick)
    np.testing.assert_allclose(read[inside(thin, thick)], 50, atol=6)


# --- shapes


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("degrees", [0, 5], ids=["parallel", "oblique"])
@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3)])
def test_every_channel_is_resampled_as_if_it_were_alone(lead, degrees, order):
    target = turned(HOUSE.reorient("IRA").with_spacing((1.2, 1.6, 2.0)), degrees)
    array = np.random.default_rng(1).normal(size=(*lead, *HOUSE.shape)).astype(np.float32)
    values = resample(array, source=HOUSE, target=target, order=order)
    assert values.shape == (*lead, *target.shape)
    assert values.flags.c_contiguous
    for channel in np.ndindex(lead):
        alone = resample(array[channel], source=HOUSE, target=target, order=order)
        np.testing.assert_allclose(values[channel], alone, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("degrees", [0, 1], ids=["parallel", "oblique"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_read_over_its_whole_thickness(axis, degrees, order):
    shape = [11, 8, 6]
    shape[axis] = 1
    slice_ = house_geometry(shape=tuple(shape))
    spacing_mm = np.array(slice_.spacing_mm)
    spacing_mm[axis] /= 5
    # Seven planes a fifth of the slice apart: the first and the last lie outside.
    before = np.where(np.arange(3) == axis, 3, 0)
    fine = turned(slice_.with_spacing(spacing_mm).pad(before, before), degrees)
    array = np.full(shape, 9.0)
    values = np.moveaxis(resample(array, source=slice_, target=fine, order=order, fill=-1), axis, 0)
    middle = np.moveaxis(inside(slice_.pad((1, 1, 1), (1, 1, 1)), fine, rim=0.95), axis, 0)
    assert values.shape[0] == 7
    np.testing.assert_array_equal(values[1:6][middle[1:6]], 9)
    if not degrees:
        np.testing.assert_array_equal(values[[0, 6]], -1)


def test_the_arrays_memory_layout_does_not_matter():
    array = house_volume().array
    target = HOUSE.reorient("RAS").with_spacing((2, 2, 2))
    expected = resample(array, source=HOUSE, target=target)
    fortran = resample(np.asfortranarray(array), source=HOUSE, target=target)
    np.testing.assert_allclose(fortran, expected, atol=1e-3)
    backwards = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(resample(backwards, source=HOUSE, target=target), expected, atol=1e-3)


def test_the_given_array_is_not_changed():
    array = house_volume(dtype=np.float32).array
    before = array.copy()
    for target in (HOUSE, HOUSE.reorient("RAS"), turned(HOUSE, 5), HOUSE.with_spacing((3, 3, 3))):
        for order in (0, 1):
            resample(array, source=HOUSE, target=target, order=order)[...] = 0
    np.testing.assert_array_equal(array, before)


def test_far_from_the_origin_nothing_is_lost():
    far = house_geometry(centre_mm=(1500, -2500, 1700))
    target = far.reorient("RAS").with_spacing((1, 1, 1))
    known = inside(far, target)
    values = resample(ramp(far), source=far, target=target, low_pass=False)
    expected = linear(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    np.testing.assert_allclose(values[known], expected[known], rtol=1e-5)
