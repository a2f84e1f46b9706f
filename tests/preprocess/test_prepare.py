"""Facts about preparing a scan: the grid it is read on, and the intensities the network sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import all_orientations, geometries, house_geometry, house_volume, linear, ramp

from medseg.preprocess.prepare import foreground_box, prepare, prepared_geometry, scale_intensities
from medseg.recipe import Preprocess
from medseg.volume import Geometry, Volume

# Wide enough for the phantom's noise, and 0 to 1 is easily turned back.
WHOLE_RANGE = (-1000.0, 1000.0)


def nearest_voxels(source: Geometry, target: Geometry) -> np.ndarray:
    """Return for each voxel of `target` the source voxel at its place, shape (*target.shape, 3)."""
    return source.to_voxel(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))


# The grid


@pytest.mark.parametrize("orientation", all_orientations())
def test_every_orientation_is_brought_to_ras_and_no_voxel_is_lost(orientation: str) -> None:
    scan = house_volume(geometry=house_geometry(orientation=orientation))
    prepared = prepare(scan, Preprocess(window_hu=WHOLE_RANGE))
    assert prepared.geometry.orientation == "RAS"
    at = nearest_voxels(scan.geometry, prepared.geometry)
    assert np.abs(at - at.round()).max() < 1e-6
    i, j, k = np.moveaxis(at.round().astype(int), -1, 0)
    np.testing.assert_allclose(prepared.array[0] * 2000 - 1000, scan.array[0, i, j, k], atol=1e-3)
    assert sorted(prepared.geometry.shape) == sorted(scan.geometry.shape)


@pytest.mark.parametrize("orientation", ["RAS", "PIL", "SRA"])
def test_the_prepared_grid_has_the_spacing_and_orientation_asked_for(orientation: str) -> None:
    settings = Preprocess(orientation=orientation, spacing_mm=(1.5, 0.75, 2.0))
    geometry = prepared_geometry(house_volume(), settings)
    assert geometry.orientation == orientation
    np.testing.assert_allclose(geometry.spacing_mm, (1.5, 0.75, 2.0))


@given(geometry=geometries(smallest=2))
@settings(deadline=None, max_examples=40)
def test_the_prepared_grid_covers_the_scan_to_half_a_voxel(geometry: Geometry) -> None:
    asked = Preprocess(spacing_mm=(1.0, 1.3, 0.7))
    prepared = prepared_geometry(Volume(np.zeros((1, *geometry.shape), np.int16), geometry), asked)
    for point in prepared.to_voxel(geometry.corners_world()):
        assert (point >= -0.51).all()
        assert (point <= np.array(prepared.shape) - 1 + 0.51).all()


@pytest.mark.parametrize("tilt_degrees", [(0, 0, 0), (8, -12, 17)])
def test_what_is_linear_in_the_world_stays_so(tilt_degrees: tuple[float, float, float]) -> None:
    geometry = house_geometry(tilt_degrees=tilt_degrees)
    scan = Volume(ramp(geometry)[None].astype(np.float32), geometry)
    prepared = prepare(scan, Preprocess(spacing_mm=(1.2, 0.8, 1.1), window_hu=WHOLE_RANGE))
    points = prepared.geometry.to_world(np.moveaxis(np.indices(prepared.geometry.shape), 0, -1))
    at = geometry.to_voxel(points)
    inside = ((at >= 0) & (at <= np.array(geometry.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(prepared.array[0][inside] * 2000 - 1000, linear(points)[inside], atol=1e-2)


def test_without_spacing_a_scan_keeps_its_own() -> None:
    scan = house_volume()
    prepared = prepared_geometry(scan, Preprocess(orientation="PSL"))
    assert prepared.distance_mm(scan.geometry) < 1e-9


def test_a_prepared_scan_is_float32_with_all_its_channels() -> None:
    prepared = prepare(house_volume(channels=3, dtype=np.uint8), Preprocess(spacing_mm=(2, 2, 2)))
    assert prepared.array.dtype == np.float32
    assert prepared.channels == 3
    assert prepared.array.shape[1:] == prepared.geometry.shape


# The foreground


def test_the_foreground_box_is_the_smallest_that_holds_all_that_is_above() -> None:
    array = np.full((2, 7, 6, 5), -1000)
    array[0, 2, 3, 1] = -57
    array[0, 2, 3, 2] = -56
    array[1, 5, 1, 4] = 3000
    assert foreground_box(array, -57) == ([2, 1, 2], [6, 4, 5])


def test_a_scan_without_foreground_is_kept_whole() -> None:
    assert foreground_box(np.zeros((1, 4, 3, 2)), 0) == ([0, 0, 0], [4, 3, 2])


def test_without_a_window_tissue_may_be_negative() -> None:
    array = np.zeros((2, 6, 5, 4), np.float32)
    array[0, 1:4, 2:4, 1] = -0.3
    array[1, 3, 3, 1:3] = 2
    assert foreground_box(array, None) == ([1, 2, 1], [4, 4, 3])
    assert foreground_box(np.zeros((1, 4, 3, 2)), None) == ([0, 0, 0], [4, 3, 2])


@pytest.mark.parametrize(
    ("window_hu", "margin", "inside"),
    [((-57.0, 164.0), -57, -20), (None, 0, 5)],
    ids=["air around a CT", "zeros in MR"],
)
def test_cropping_leaves_out_the_margins_and_moves_nothing(
    window_hu: tuple[float, float] | None, margin: int, inside: int
) -> None:
    array = np.full((1, 11, 8, 6), margin, np.int16)
    array[0, 2:9, 1:7, 3:5] = inside
    array[0, 4, 4, 4] = inside + 1
    scan = Volume(array, house_geometry())
    prepared = prepare(scan, Preprocess(orientation="PSL", window_hu=window_hu, crop="foreground"))
    assert prepared.geometry.shape == (7, 6, 2)
    np.testing.assert_allclose(prepared.geometry.to_world((2, 3, 1)), scan.geometry.to_world((4, 4, 4)))
    assert np.unravel_index(prepared.array[0].argmax(), (7, 6, 2)) == (2, 3, 1)


# Intensities


def test_a_window_takes_its_low_end_to_0_its_high_end_to_1_and_clips_the_rest() -> None:
    hu = np.array([-1024, -57, 53.5, 164, 3071], np.float32).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(scale_intensities(hu, (-57, 164)).ravel(), [0, 0, 0.5, 1, 1])


@given(
    low=st.floats(-1000, 1000),
    width=st.floats(0.5, 4000),
    hu=st.lists(st.integers(-1024, 3071), min_size=1, max_size=9),
)
def test_a_window_leaves_nothing_outside_0_to_1_and_keeps_the_order(low: float, width: float, hu: list[int]) -> None:
    scaled = scale_intensities(np.sort(np.array(hu, np.float32)).reshape(1, -1, 1, 1), (low, low + width)).ravel()
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert (np.diff(scaled) >= 0).all()


def test_without_a_window_each_channel_has_mean_0_and_standard_deviation_1() -> None:
    scan = house_volume(channels=2)
    scan.array[1] = scan.array[1] * 7 + 3000
    prepared = prepare(scan, Preprocess()).array
    np.testing.assert_allclose(prepared.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std(axis=(1, 2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("spacing_mm", [None, (1.3, 0.7, 2.9)])
@pytest.mark.parametrize("tilt_degrees", [(0, 0, 0), (8, -12, 17)])
@pytest.mark.parametrize("value", [0, 0.1, 1234.567, -3e4])
def test_a_constant_channel_is_all_0_also_after_resampling(
    spacing_mm: tuple[float, float, float] | None, tilt_degrees: tuple[float, float, float], value: float
) -> None:
    scan = house_volume(geometry=house_geometry(tilt_degrees=tilt_degrees), channels=2, dtype=np.float32)
    scan.array[1] = value
    prepared = prepare(scan, Preprocess(spacing_mm=spacing_mm)).array
    assert not prepared[1].any()
    assert prepared[0].std() == pytest.approx(1, abs=1e-4)


def test_a_faint_contrast_on_a_high_floor_is_no_constant() -> None:
    scan = house_volume(dtype=np.float32)
    scan.array[:] = 10_000 + scan.array / 1000
    assert prepare(scan, Preprocess()).array.std() == pytest.approx(1, abs=1e-2)


def test_where_no_slice_was_each_channel_has_its_own_lowest_value() -> None:
    upright = house_geometry()
    leaning = Geometry(upright.shape, upright.affine @ [[1, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    scan = house_volume(geometry=leaning, channels=2, dtype=np.float32)
    scan.array[0] += -1000 - scan.array[0].min()
    scan.array[1] += 500 - scan.array[1].min()
    prepared = prepare(scan, Preprocess(window_hu=(-2000, 2000))).array
    assert prepared.min(axis=(1, 2, 3)).tolist() == pytest.approx([0.25, 0.625])


@given(size=st.integers(1, 50), block=st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_in_whatever_blocks_a_channel_is_normalised_it_comes_to_the_same(size: int, block: int) -> None:
    values = np.random.default_rng(size).normal(300, 20, (2, size, 1, 1)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scale_intensities.__globals__, "BLOCK_VALUES", block)
        found = scale_intensities(values, None)
    exact = values.astype(np.float64)
    std = exact.std(axis=(1, 2, 3), keepdims=True)
    expected = (exact - exact.mean(axis=(1, 2, 3), keepdims=True)) / np.where(std > 0, std, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
