"""LabelMap: whole numbers on a grid."""

import numpy as np
import pytest
from phantoms import all_orientations, house_geometry, house_label_map

from medseg.errors import DimensionError, FractionalLabelError, GridMismatchError, UnknownLabelError
from medseg.labels import LabelSet
from medseg.volume import Geometry, LabelMap, resample

HOUSE = house_geometry()
LABELS = LabelSet.from_names({0: "background", 1: "spleen", 2: "liver", 5: "aorta"})


def filled(value: float, dtype: type) -> LabelMap:
    array = np.zeros(HOUSE.shape, dtype)
    array[2, 3, 4] = value
    return LabelMap(array, HOUSE)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int16, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type_become_small_unsigned_integers(dtype):
    label_map = filled(1, dtype)
    assert label_map.array.dtype == np.uint8
    assert np.argwhere(label_map.array == 1).tolist() == [[2, 3, 4]]


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_ids_get_the_smallest_type_that_holds_them(value, dtype):
    label_map = filled(value, np.float64)
    assert label_map.array.dtype == dtype
    assert label_map.ids() == {0, value}


@pytest.mark.parametrize("value", [0.5, 1.0001, -1, 65536, np.nan, np.inf])
def test_values_that_are_no_ids_are_refused(value):
    with pytest.raises(FractionalLabelError) as caught:
        filled(value, np.float64)
    assert caught.value.code == "E_FRACTIONAL_LABEL"
    assert "save it as integers" in caught.value.remedy


def test_negative_integers_are_refused():
    with pytest.raises(FractionalLabelError, match="values from -1 to 0"):
        filled(-1, np.int16)


def test_a_label_map_has_one_id_per_voxel():
    with pytest.raises(DimensionError, match="one id per voxel"):
        LabelMap(np.zeros((1, *HOUSE.shape), np.uint8), HOUSE)


def test_ids_are_those_that_occur():
    assert house_label_map().ids() == {0, 1, 2, 5}
    assert house_label_map(ids=(3, 300)).ids() == {0, 3, 300}
    assert LabelMap(np.zeros(HOUSE.shape, np.uint8), HOUSE).ids() == {0}
    assert LabelMap(np.full(HOUSE.shape, 7, np.uint8), HOUSE).ids() == {7}


def test_known_ids_pass():
    house_label_map().check_ids(LABELS)
    filled(2, np.uint8).check_ids(LABELS)


def test_unknown_ids_are_named():
    with pytest.raises(UnknownLabelError) as caught:
        house_label_map(ids=(1, 3, 9)).check_ids(LABELS)
    assert caught.value.code == "E_UNKNOWN_LABEL"
    assert caught.value.found == "it holds 3, 9, but the labels are 0, 1, 2, 5"


def test_many_unknown_ids_are_named_in_part():
    array = np.arange(np.prod(HOUSE.shape)).reshape(HOUSE.shape)
    with pytest.raises(UnknownLabelError, match=r"13, 14, 15 and 512 more, but"):
        LabelMap(array, HOUSE).check_ids(LABELS)


def test_a_label_map_on_its_images_grid_passes():
    house_label_map().check_grid(Geometry(HOUSE.shape, HOUSE.affine.astype(np.float32)))


def test_a_label_map_on_a_shifted_grid_is_refused_with_the_distance():
    affine = np.array(HOUSE.affine)
    affine[:3, 3] += (0.3, 0, 0.4)
    label_map, shifted = house_label_map(), Geometry(HOUSE.shape, affine)
    label_map.check_grid(shifted, tolerance_mm=0.51)
    with pytest.raises(GridMismatchError, match=r"0\.50 mm from the image's \(at most 0\.1 mm") as caught:
        label_map.check_grid(shifted)
    assert caught.value.code == "E_GRID_MISMATCH"


def test_a_label_map_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(GridMismatchError, match=r"\(11, 8, 6\), the image's \(11, 8, 5\)"):
        house_label_map().check_grid(HOUSE.crop((0, 0, 0), (11, 8, 5)))


@pytest.mark.parametrize("orientation", all_orientations())
def test_a_label_map_stored_in_another_axis_order_is_turned_to_its_image(orientation):
    label_map = house_label_map(geometry=HOUSE)
    turned = HOUSE.reorient(orientation)
    stored = LabelMap(resample(label_map.array, source=HOUSE, target=turned, order=0), turned)
    back = stored.aligned_to(HOUSE)
    assert back.geometry.matches(HOUSE, tolerance_mm=1e-9)
    np.testing.assert_array_equal(back.array, label_map.array)


def test_a_label_map_of_other_voxels_is_not_turned():
    moved = house_geometry(centre_mm=(32.5, -42.25, 77.125)).reorient("RAS")
    with pytest.raises(GridMismatchError):
        house_label_map(geometry=moved).aligned_to(HOUSE)
