"""Write: what medseg writes, nibabel, SimpleITK and medseg read back, at the same places."""

import gzip
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import all_orientations, house_geometry, house_label_map, house_volume

from medseg.errors import OptionError, UnwritableError
from medseg.labels import LabelSet
from medseg.volume import Geometry, LabelMap, Volume, read_label_map, read_volume, write_image

HOUSE = house_geometry()
SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]
CORNERS = [(0, 0, 0), (10, 0, 0), (0, 7, 0), (0, 0, 5), (10, 7, 5), (3, 2, 1)]


@pytest.mark.parametrize("tilt_degrees", [(0, 0, 0), (8, -12, 17)], ids=["upright", "oblique"])
@pytest.mark.parametrize("code", all_orientations())
def test_a_nifti_file_comes_back_exactly_in_any_orientation(tmp_path, code, tilt_degrees):
    scan = house_volume(geometry=house_geometry(orientation=code, tilt_degrees=tilt_degrees))
    write_image(scan, tmp_path / "a.nii")
    back = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(back.array, scan.array)
    np.testing.assert_array_equal(back.geometry.affine, scan.geometry.affine.astype(np.float32))
    write_image(back, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").geometry.affine, back.geometry.affine)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("code", ["PSL", "RAS", "AIR"])
def test_every_format_comes_back_to_its_place(tmp_path, suffix, code):
    scan = house_volume(geometry=house_geometry(orientation=code))
    write_image(scan, tmp_path / f"a{suffix}")
    back = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.array, scan.array)
    assert back.geometry.distance_mm(scan.geometry) < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_simpleitk_finds_each_voxel_where_it_was(tmp_path, suffix):
    scan = house_volume()
    write_image(scan, tmp_path / f"a{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert image.GetSize() == HOUSE.shape
    for index in CORNERS:
        assert image.GetPixel(index) == scan.array[0][index]
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(place, HOUSE.to_world(index), atol=1e-3)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_finds_each_voxel_where_it_was(tmp_path, suffix):
    scan = house_volume()
    write_image(scan, tmp_path / f"a{suffix}")
    image = nib.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.asarray(image.dataobj), scan.array[0])
    np.testing.assert_allclose(image.affine, HOUSE.affine, atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms(), HOUSE.spacing_mm, rtol=1e-6)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    # Some readers look at the qform alone.
    form, code = image.get_qform(coded=True)
    assert code > 0
    np.testing.assert_allclose(form, HOUSE.affine, atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sheared_grid_comes_back_sheared(tmp_path, suffix):
    affine = np.array(HOUSE.affine)
    affine[:3, 2] += 0.5 * affine[:3, 1]
    scan = house_volume(geometry=Geometry(HOUSE.shape, affine))
    write_image(scan, tmp_path / f"a{suffix}")
    assert read_volume(tmp_path / f"a{suffix}").geometry.distance_mm(scan.geometry) < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32])
def test_voxels_keep_their_type(tmp_path, suffix, dtype):
    scan = house_volume(dtype=dtype)
    write_image(scan, tmp_path / f"a{suffix}")
    back = read_volume(tmp_path / f"a{suffix}")
    assert back.array.dtype == dtype
    np.testing.assert_array_equal(back.array, scan.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_large_integers_are_not_wrapped_around(tmp_path, suffix):
    scan = Volume(np.full((1, *HOUSE.shape), 2**40 + 1), HOUSE)
    write_image(scan, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").array, scan.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_come_back_in_their_order(tmp_path, suffix):
    scan = house_volume(channels=3, dtype=np.float32)
    write_image(scan, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}", channels=3).array, scan.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("ids", "dtype"), [((1, 2, 5), np.uint8), ((1, 300), np.uint16)])
def test_a_label_map_comes_back_as_small_integers(tmp_path, suffix, ids, dtype):
    labels = house_label_map(ids=ids)
    write_image(labels, tmp_path / f"a{suffix}")
    back = read_label_map(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.array, labels.array)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}"))).dtype == dtype
    back.check_grid(HOUSE)


def test_a_single_slice_comes_back(tmp_path):
    slice_ = house_label_map(geometry=house_geometry(shape=(11, 1, 6)))
    write_image(slice_, tmp_path / "a.nii.gz")
    back = read_label_map(tmp_path / "a.nii.gz")
    assert isinstance(back, LabelMap)
    assert back.geometry.distance_mm(slice_.geometry) < 1e-4


def test_the_same_image_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    write_image(house_label_map(), tmp_path / "a.nii.gz")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_image(house_label_map(), tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_gz_is_zipped_and_nii_is_not(tmp_path):
    labels = house_label_map(geometry=house_geometry(shape=(44, 32, 24)))
    write_image(labels, tmp_path / "a.nii")
    write_image(labels, tmp_path / "a.nii.gz")
    plain, zipped = (tmp_path / "a.nii").read_bytes(), (tmp_path / "a.nii.gz").read_bytes()
    assert gzip.decompress(zipped) == plain
    assert len(zipped) < len(plain) / 10


@pytest.mark.parametrize("name", ["a.png", "a", "a.gz", "nii", "a.mhd", "a.dcm"])
def test_a_suffix_that_names_no_format_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match=r"End the name in \.nii\.gz, \.nrrd or \.mha") as caught:
        write_image(house_volume(), tmp_path / name)
    assert str(tmp_path / name) in caught.value.asked
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_old_file_is_replaced_whole(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("old " * 10_000)
    write_image(house_volume(), path)
    np.testing.assert_array_equal(read_volume(path).array, house_volume().array)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    scan = house_volume(geometry=house_geometry(shape=(22, 16, 12)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UnwritableError) as caught:
            write_image(scan, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "E_UNWRITABLE"
    assert str(path) in caught.value.asked
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, suffix):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableError) as caught:
        write_image(house_volume(), Path(tmp_path / "file" / f"a{suffix}"))
    assert "choose another folder" in caught.value.remedy
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


LABELS = LabelSet.from_names({1: "spleen", 2: "left kidney", 5: "Ära & <co>"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_labels_change_no_voxel_and_no_place(tmp_path, suffix):
    labels = house_label_map()
    write_image(labels, tmp_path / f"a{suffix}", LABELS)
    write_image(labels, tmp_path / f"b{suffix}", LABELS)
    back = read_label_map(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.array.dtype == labels.array.dtype
    assert back.geometry.distance_mm(HOUSE) < 1e-4
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}"))).T, labels.array)


def test_names_and_colours_travel_in_a_nifti_file(tmp_path):
    write_image(house_label_map(), tmp_path / "a.nii.gz", LABELS)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert int(header["intent_code"]) == 1002
    (extension,) = header.extensions
    assert extension.get_code() == 30
    assert b"\0" not in extension.content
    table = ET.fromstring(extension.content.decode()).find("VolumeInformation/LabelTable")
    assert {int(entry.get("Key")): entry.text for entry in table} == {label.id: label.name for label in LABELS}
    colours = [[round(255 * float(entry.get(part))) for part in ("Red", "Green", "Blue")] for entry in table]
    assert colours == [list(label.colour) for label in LABELS]


def test_a_nifti_file_without_labels_has_no_table(tmp_path):
    write_image(house_label_map(), tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["intent_code"]), len(header.extensions)) == (0, 0)


def test_names_travel_in_a_nrrd_file_as_3d_slicer_has_them(tmp_path):
    write_image(house_label_map(), tmp_path / "a.nrrd", LABELS)
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert image.GetMetaData("Segment1_Name") == "left_kidney"
    assert image.GetMetaData("Segment1_LabelValue") == "2"
    assert len(image.GetMetaData("Segment1_Color").split()) == 3
