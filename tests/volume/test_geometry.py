"""Geometry: where voxels lie. No operation on a grid moves a voxel that it keeps."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import all_orientations, geometries, house_geometry

from medseg.errors import OptionError, SingularAffineError
from medseg.volume import Geometry

QUICK = settings(max_examples=40, deadline=None)
ORIENTATIONS = all_orientations()


def centres(geometry: Geometry) -> np.ndarray:
    """Return the world position of every voxel, shape (I, J, K, 3)."""
    return geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1))


def test_there_are_48_ways_to_lay_an_array_in_a_patient():
    assert len(set(ORIENTATIONS)) == 48
    assert {"RAS", "LPS", "SAR", "IPL"} <= set(ORIENTATIONS)


def test_the_house_phantom_is_awkward():
    house = house_geometry()
    assert len(set(house.shape)) == 3
    assert house.spacing_mm == pytest.approx((0.9, 1.7, 3.1))
    assert house.orientation == "PSL"
    assert np.abs(house.affine[:3, :3]).min() > 0.05
    np.testing.assert_allclose(house.to_world((np.array(house.shape) - 1) / 2), (31.5, -42.25, 77.125))


@QUICK
@given(geometries(), st.lists(st.tuples(*[st.floats(-50, 50)] * 3), max_size=5))
def test_going_to_the_world_and_back_returns_to_the_voxel(geometry, points):
    voxels = np.array(points, np.float64).reshape(-1, 3)
    np.testing.assert_allclose(geometry.to_voxel(geometry.to_world(voxels)), voxels, atol=1e-8)
    assert geometry.to_world(voxels).shape == voxels.shape


def test_the_first_voxel_lies_at_the_affines_last_column():
    house = house_geometry()
    np.testing.assert_array_equal(house.to_world((0, 0, 0)), house.affine[:3, 3])
    np.testing.assert_allclose(house.to_world((1, 0, 0)) - house.to_world((0, 0, 0)), house.affine[:3, 0])


@pytest.mark.parametrize(
    ("affine", "orientation"),
    [
        (np.eye(4), "RAS"),
        (np.diag([-1, -1, 1, 1]), "LPS"),
        (np.array([[0, 0, -2, 0], [0, 3, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]), "SAL"),
    ],
)
def test_orientation_says_where_the_axes_point_to(affine, orientation):
    assert Geometry((2, 3, 4), affine).orientation == orientation


@pytest.mark.parametrize("code", ORIENTATIONS)
@pytest.mark.parametrize("tilt_degrees", [(0, 0, 0), (8, -12, 17)], ids=["upright", "oblique"])
def test_reorienting_moves_no_voxel(code, tilt_degrees):
    house = house_geometry(tilt_degrees=tilt_degrees)
    turned = house.reorient(code)
    voxels = house.to_voxel(centres(turned)).reshape(-1, 3)
    whole = np.round(voxels)
    np.testing.assert_allclose(voxels, whole, atol=1e-9)
    assert len(np.unique(whole, axis=0)) == np.prod(house.shape)
    assert whole.min() == 0
    assert tuple(whole.max(axis=0) + 1) == house.shape


@QUICK
@given(geometries(), st.sampled_from(ORIENTATIONS))
def test_reorienting_points_the_axes_where_asked_and_back_again(geometry, code):
    turned = geometry.reorient(code)
    assert turned.orientation == code
    assert sorted(turned.spacing_mm) == pytest.approx(sorted(geometry.spacing_mm))
    home = turned.reorient(geometry.orientation)
    assert home.shape == geometry.shape
    np.testing.assert_allclose(home.affine, geometry.affine, atol=1e-9)


def test_reorienting_to_where_the_axes_point_already_changes_nothing():
    house = house_geometry()
    np.testing.assert_array_equal(house.reorient(house.orientation).affine, house.affine)


@pytest.mark.parametrize("code", ["", "RA", "RAX", "ras", "RLS", "RASP", "RRR"])
def test_an_orientation_that_is_none_is_refused(code):
    with pytest.raises(OptionError, match='Write for instance "RAS"'):
        house_geometry().reorient(code)


@QUICK
@given(geometries(smallest=3), st.tuples(*[st.integers(-3, 2)] * 3), st.tuples(*[st.integers(3, 12)] * 3))
def test_cropping_moves_no_voxel(geometry, start, stop):
    box = geometry.crop(start, stop)
    assert box.shape == tuple(np.subtract(stop, start))
    assert box.spacing_mm == geometry.spacing_mm
    np.testing.assert_allclose(box.to_world((0, 0, 0)), geometry.to_world(start), atol=1e-9)
    np.testing.assert_allclose(box.to_world((1, 2, 3)), geometry.to_world(np.add(start, (1, 2, 3))), atol=1e-9)


@QUICK
@given(geometries(), st.tuples(*[st.integers(0, 7)] * 3), st.tuples(*[st.integers(0, 7)] * 3))
def test_cropping_undoes_padding(geometry, before, after):
    padded = geometry.pad(before, after)
    assert padded.shape == tuple(np.array(geometry.shape) + before + after)
    home = padded.crop(before, np.add(before, geometry.shape))
    assert home.shape == geometry.shape
    np.testing.assert_allclose(home.affine, geometry.affine, atol=1e-9)


@QUICK
@given(geometries(), st.tuples(*[st.floats(0.3, 6)] * 3))
def test_another_spacing_keeps_the_first_centre_and_covers_the_same_box(geometry, spacing_mm):
    fine = geometry.with_spacing(spacing_mm)
    assert fine.spacing_mm == pytest.approx(spacing_mm)
    assert fine.orientation == geometry.orientation
    np.testing.assert_allclose(fine.to_world((0, 0, 0)), geometry.to_world((0, 0, 0)))
    ends_mm = np.subtract(fine.shape, 1) * spacing_mm, np.subtract(geometry.shape, 1) * geometry.spacing_mm
    assert (np.abs(np.subtract(*ends_mm)) <= np.array(spacing_mm) / 2 + 1e-9).all()


def test_another_spacing_keeps_a_single_slice_single():
    slice_ = house_geometry(shape=(11, 8, 1))
    assert slice_.with_spacing((1.8, 0.85, 1.0)).shape == (6, 15, 1)


def test_the_same_spacing_is_the_same_grid():
    house = house_geometry()
    assert house.with_spacing(house.spacing_mm).distance_mm(house) < 1e-9


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.array([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]]),
        np.diag([1.0, np.nan, 1.0, 1.0]),
        np.array([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 1e-9, 0], [0, 1, 1, 0], [0, 0, 1e-9, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["nothing", "no-depth", "two-axes-alike", "nan", "infinitely-far", "nearly-flat"],
)
def test_an_affine_that_places_nothing_is_refused(affine):
    with pytest.raises(SingularAffineError) as caught:
        Geometry((2, 3, 4), affine)
    assert caught.value.code == "E_SINGULAR_AFFINE"
    assert "sform or qform" in caught.value.remedy


def test_tiny_thin_and_sheared_voxels_are_no_fault():
    assert Geometry((2, 3, 4), np.diag([1e-4, 1e-4, 1e-4, 1])).voxel_ml == pytest.approx(1e-15)
    assert Geometry((2, 3, 4), np.diag([0.01, 0.01, 100, 1])).voxel_ml == pytest.approx(1e-5)
    sheared = Geometry((2, 3, 4), np.array([[1, 0, 0.5, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))
    assert sheared.voxel_ml == pytest.approx(6e-3)
    assert sheared.spacing_mm == pytest.approx((1, 2, 9.25**0.5))


@QUICK
@given(geometries())
def test_a_voxels_volume_is_the_product_of_its_sides(geometry):
    assert geometry.voxel_ml == pytest.approx(np.prod(geometry.spacing_mm) / 1000)


@QUICK
@given(geometries(), st.tuples(*[st.floats(-20, 20)] * 3))
def test_a_shifted_grid_is_as_far_as_it_was_shifted(geometry, shift_mm):
    affine = np.array(geometry.affine)
    affine[:3, 3] += shift_mm
    shifted = Geometry(geometry.shape, affine)
    assert geometry.distance_mm(shifted) == pytest.approx(np.linalg.norm(shift_mm), abs=1e-9)
    assert geometry.distance_mm(shifted) == pytest.approx(shifted.distance_mm(geometry))


def test_a_turned_grid_is_as_far_as_its_furthest_corner():
    upright = Geometry((101, 11, 3), np.eye(4))
    cosine, sine = np.cos(0.01), np.sin(0.01)
    turned = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    expected_mm = 2 * np.sin(0.005) * np.hypot(100, 10)
    assert upright.distance_mm(Geometry(upright.shape, turned)) == pytest.approx(expected_mm)


def test_flipping_an_axis_makes_another_grid():
    house = house_geometry()
    assert house.distance_mm(house.reorient("ASL")) == pytest.approx(np.linalg.norm(house.affine[:3, 0]) * 10)


def test_grids_of_other_shapes_are_infinitely_far():
    house = house_geometry()
    assert house.distance_mm(house.crop((0, 0, 0), (10, 8, 6))) == float("inf")
    assert not house.matches(house.pad((0, 0, 0), (0, 0, 1)), tolerance_mm=1e9)


def test_grids_match_within_the_tolerance():
    house = house_geometry()
    affine = np.array(house.affine)
    affine[1, 3] += 0.3
    assert not house.matches(Geometry(house.shape, affine))
    assert house.matches(Geometry(house.shape, affine), tolerance_mm=0.301)
    assert house.matches(Geometry(house.shape, house.affine.astype(np.float32)))


def test_a_single_slice_has_eight_corners_too():
    slice_ = house_geometry(shape=(11, 8, 1))
    corners = slice_.corners_world()
    assert corners.shape == (8, 3)
    assert len(np.unique(corners.round(6), axis=0)) == 4


def test_a_grid_cannot_be_changed_from_outside():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    geometry = Geometry((2, 3, 4), affine)
    affine[0, 0] = 0
    assert geometry.spacing_mm == (2, 3, 4)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 0


def test_a_grid_survives_json_to_the_last_bit():
    house = house_geometry()
    twin = Geometry.from_json(json.loads(json.dumps(house.as_json())))
    assert twin.shape == house.shape
    np.testing.assert_array_equal(twin.affine, house.affine)
