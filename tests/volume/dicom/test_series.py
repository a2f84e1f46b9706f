"""Series: gaps, leaning slices and lone ones, from the positions of the slices."""

import numpy as np
import pytest
from dicom_phantoms import UPRIGHT, edit, upright
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phantoms import geometries, linear, ramp, save_dicom_series

from medseg.errors import MissingSliceError, NoAffineError, SizeError
from medseg.labels import LabelSet
from medseg.preprocess import prepare
from medseg.recipe import Preprocess
from medseg.restore import restore
from medseg.volume import Geometry, Volume, find_source, read_volume, resample

SCAN = upright()


def leaning(geometry: Geometry, lean: float) -> Geometry:
    """Return the grid as a tilted gantry makes it: each slice is shifted along its columns."""
    affine = np.array(geometry.affine)
    direction = affine[:3, 1] / geometry.spacing_mm[1]
    affine[:3, 2] += lean * geometry.spacing_mm[2] * direction
    return Geometry(geometry.shape, affine)


@pytest.mark.parametrize("gone", [[1], [2, 3], [4]])
def test_missing_slices_are_named_and_filled_when_that_is_allowed(tmp_path, gone):
    values = np.rint(ramp(UPRIGHT) * 10).astype(np.int16)
    files = save_dicom_series(tmp_path, Volume(values[None], UPRIGHT))
    for number in gone:
        files[number].unlink()
    with pytest.raises(MissingSliceError) as caught:
        read_volume(tmp_path)
    for number in gone:
        x, y, z = UPRIGHT.to_world((0, 0, number))
        assert f"({x:.2f}, {y:.2f}, {z:.2f})" in caught.value.found
    volume = read_volume(find_source(tmp_path), allow_gaps=True)
    assert [remark.code for remark in volume.remarks] == ["W_SLICES_FILLED"]
    assert volume.geometry.distance_mm(UPRIGHT) < 1e-4
    assert np.abs(volume.array[0].astype(int) - values).max() <= 1


def test_a_series_with_more_gaps_than_slices_is_refused_though_gaps_are_allowed(tmp_path):
    scan = upright(shape=(5, 4, 30))
    files = save_dicom_series(tmp_path, scan)
    for file in files[2:-1]:
        file.unlink()
    with pytest.raises(MissingSliceError, match="27 slice") as caught:
        read_volume(find_source(tmp_path), allow_gaps=True)
    assert "--allow-gaps" not in str(caught.value)


def test_slices_that_reach_further_than_any_body_are_refused(tmp_path):
    edit(save_dicom_series(tmp_path, SCAN), PixelSpacing=[900, 900])
    with pytest.raises(SizeError, match="measures"):
        read_volume(tmp_path)


@pytest.mark.parametrize("directions", [[2, 0, 0, 0, 2, 0], [0] * 6, [1, 0, 0, 1, 0, 0]])
def test_directions_that_are_none_place_no_slice(tmp_path, directions):
    edit(save_dicom_series(tmp_path, SCAN), ImageOrientationPatient=directions)
    with pytest.raises(NoAffineError, match="where it lies"):
        read_volume(tmp_path)


def test_a_filled_gap_lies_between_its_neighbours_even_in_unsigned_voxels(tmp_path):
    planes = np.zeros((1, *UPRIGHT.shape), np.int16)
    planes[..., 1], planes[..., 4] = 100, 10
    files = save_dicom_series(tmp_path, Volume(planes, UPRIGHT))
    files[2].unlink()
    files[3].unlink()
    filled = read_volume(find_source(tmp_path), allow_gaps=True).array[0]
    assert [int(filled[..., k].max()) for k in range(6)] == [0, 100, 70, 40, 10, 0]


def test_a_lone_slice_is_as_thick_as_it_says(tmp_path):
    files = save_dicom_series(tmp_path, SCAN)
    edit(files[2], SliceThickness=4.5)
    assert read_volume(files[2]).geometry.spacing_mm == pytest.approx((0.9, 1.7, 4.5))
    edit(files[3], SliceThickness=None)
    assert read_volume(files[3]).geometry.spacing_mm == pytest.approx((0.9, 1.7, 1.0))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometry=geometries(smallest=2, largest=7), lean=st.floats(-0.5, 0.5))
def test_every_voxel_of_a_series_lies_where_its_slice_has_it(tmp_path_factory, geometry, lean):
    folder = tmp_path_factory.mktemp("ct")
    tilted = leaning(geometry, lean)
    values = np.rint(ramp(tilted) * 10).astype(np.int16)
    save_dicom_series(folder, Volume(values[None], tilted))
    volume = read_volume(folder)
    there = linear(volume.geometry.to_world(np.moveaxis(np.indices(volume.geometry.shape), 0, -1)))
    assert np.abs(volume.array[0] - there * 10).max() <= 0.6
    assert volume.geometry.leans == tilted.leans
    assert volume.geometry.skew_degrees == pytest.approx(tilted.skew_degrees, abs=0.05)


@pytest.mark.parametrize("lean", [0.1, -0.45])
def test_leaning_slices_are_straightened_for_the_network_and_come_home(lean):
    geometry = leaning(upright(shape=(30, 28, 12), spacing_mm=(0.9, 1.1, 2.1)).geometry, lean)
    scan = Volume(ramp(geometry).astype(np.float32)[None], geometry)
    settings_ = Preprocess(orientation="LPS", spacing_mm=(1.0, 1.0, 2.0), window_hu=(-1e6, 1e6))
    prepared = prepare(scan, settings_)
    assert prepared.geometry.skew_degrees < 1e-6
    values = prepared.array[0] * 2e6 - 1e6
    inside = resample(np.ones(geometry.shape), source=geometry, target=prepared.geometry, fill=0) > 0
    at = prepared.geometry.to_voxel(prepared.geometry.to_world(np.moveaxis(np.indices(prepared.geometry.shape), 0, -1)))
    truth = linear(prepared.geometry.to_world(at))
    core = inside & (
        np.abs(geometry.to_voxel(prepared.geometry.to_world(at)) - 0.5 * (np.array(geometry.shape) - 1))
        < 0.5 * np.array(geometry.shape) - 1.5
    ).all(axis=-1)
    assert core.sum() > 3000
    assert np.abs(values - truth)[core].max() < 1.0
    home = restore(
        np.stack([-values, values]),
        source=prepared.geometry,
        target=geometry,
        labels=LabelSet.from_ids([7]),
        head="softmax",
    )
    assert home.geometry is geometry
    middle = ramp(geometry)
    sure = np.abs(middle) > 2
    assert np.array_equal((home.array == 7)[sure], (middle > 0)[sure])


@settings(max_examples=50, deadline=None)
@given(geometry=geometries(largest=9), lean=st.floats(-0.6, 0.6))
def test_the_upright_grid_covers_the_leaning_one_at_right_angles(geometry, lean):
    tilted = leaning(geometry, lean)
    straight = tilted.upright()
    assert straight.skew_degrees <= 0.1
    corners = straight.to_voxel(tilted.corners_world())
    assert corners.min() > -1e-6
    assert (corners <= np.array(straight.shape) - 1 + 1e-6).all()
    assert straight.orientation[:2] == tilted.orientation[:2] or tilted.spacing_mm[2] < max(tilted.spacing_mm)
    if not tilted.leans:
        assert straight is tilted
