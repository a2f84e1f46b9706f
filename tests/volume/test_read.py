"""Read: files written by nibabel and SimpleITK come out as the same voxels at the same places."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import (
    all_orientations,
    house_geometry,
    house_volume,
    real_data,
    save_dicom_series,
    save_nifti,
    to_itk,
)

from medseg.volume import Geometry, Source, Volume, read_label_map, read_volume

HOUSE = house_geometry()
SCAN = house_volume()
CORNERS = [(0, 0, 0), (10, 0, 0), (0, 7, 0), (0, 0, 5), (10, 7, 5), (3, 2, 1)]


def expect(volume: Volume, scan: Volume = SCAN, *, tolerance_mm: float = 1e-4) -> None:
    """Check voxels and grid."""
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.geometry.distance_mm(scan.geometry) < tolerance_mm


def itk_places(path: Path) -> np.ndarray:
    """Return where SimpleITK places some voxels, in RAS+."""
    image = sitk.ReadImage(str(path))
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in CORNERS]) * (-1, -1, 1)


# --- NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("code", all_orientations()[::7])
def test_a_nifti_file_keeps_voxels_and_affine(tmp_path, suffix, code):
    scan = house_volume(geometry=house_geometry(orientation=code))
    volume = read_volume(save_nifti(tmp_path / f"a{suffix}", scan.array[0], scan.geometry.affine))
    expect(volume, scan)
    np.testing.assert_array_equal(volume.geometry.affine, nib.load(tmp_path / f"a{suffix}").affine)
    np.testing.assert_allclose(volume.geometry.to_world(CORNERS), itk_places(tmp_path / f"a{suffix}"), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32])
def test_voxels_keep_the_type_they_were_stored_in(tmp_path, dtype):
    scan = house_volume(dtype=dtype)
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", scan.array[0], HOUSE.affine))
    expect(volume, scan)
    assert volume.array.dtype == dtype


def test_double_precision_becomes_single(tmp_path):
    values = np.random.default_rng(0).normal(size=HOUSE.shape)
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", values, HOUSE.affine))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0], values.astype(np.float32))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_either_version_and_byte_order_gives_native_voxels(tmp_path, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = kind(SCAN.array[0].astype(f"{order}i2"), HOUSE.affine, header)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert ((tmp_path / "a.nii").read_bytes()[0] == 0) == (order == ">")
    volume = read_volume(tmp_path / "a.nii")
    expect(volume)
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative


def test_a_zipped_file_is_known_by_its_content_and_not_by_its_name(tmp_path):
    zipped = save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], HOUSE.affine)
    plain = save_nifti(tmp_path / "b.nii", SCAN.array[0], HOUSE.affine)
    expect(read_volume(zipped.rename(tmp_path / "c.nii")))
    expect(read_volume(plain.rename(tmp_path / "d.nii.gz")))


def test_a_file_zipped_in_pieces_is_read_whole(tmp_path):
    whole = save_nifti(tmp_path / "a.nii", SCAN.array[0], HOUSE.affine).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole[:700]) + gzip.compress(whole[700:]))
    expect(read_volume(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -3), (2, 0), (1, -1024), (-1, 0)])
def test_slope_and_intercept_are_applied(tmp_path, slope, intercept):
    image = nib.Nifti1Image(SCAN.array[0], HOUSE.affine)
    image.header.set_slope_inter(slope, intercept)
    stored = bytearray(image.to_bytes())
    stored[112:120] = np.array([slope, intercept], "<f4").tobytes()  # nibabel resets them on writing
    (tmp_path / "a.nii").write_bytes(stored)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, SCAN.array * slope + intercept)


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_slope_that_is_not_set_is_not_applied(tmp_path, slope):
    stored = bytearray(nib.Nifti1Image(SCAN.array[0], HOUSE.affine).to_bytes())
    stored[112:120] = np.array([slope, 7], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(stored)
    volume = read_volume(tmp_path / "a.nii")
    expect(volume)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize("code", ["PSL", "RAS", "LIP"])
def test_a_file_with_a_qform_alone_is_placed_by_it(tmp_path, code):
    geometry = house_geometry(orientation=code)
    path = save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], geometry.affine, sform=0, qform=1)
    volume = read_volume(path)
    assert volume.geometry.distance_mm(geometry) < 1e-3
    np.testing.assert_allclose(volume.geometry.to_world(CORNERS), itk_places(path), atol=1e-3)


def test_where_two_forms_disagree_the_sform_counts(tmp_path):
    image = nib.Nifti1Image(SCAN.array[0], None)
    image.set_qform(np.diag([1, 2, 3, 1]), 1)
    image.set_sform(HOUSE.affine, 2)
    nib.save(image, tmp_path / "a.nii.gz")
    expect(read_volume(tmp_path / "a.nii.gz"))


def test_a_sheared_grid_stays_sheared(tmp_path):
    affine = np.array(HOUSE.affine)
    affine[:3, 2] += affine[:3, 0]
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], affine))
    assert volume.geometry.distance_mm(Geometry(HOUSE.shape, affine)) < 1e-4


@pytest.mark.parametrize("extra", [(), (1,), (1, 1)])
def test_further_axes_of_one_are_no_channels(tmp_path, extra):
    path = save_nifti(tmp_path / "a.nii.gz", SCAN.array[0].reshape(*HOUSE.shape, *extra), HOUSE.affine)
    expect(read_volume(path))


def test_a_single_slice_is_a_volume(tmp_path):
    slice_ = house_volume(geometry=house_geometry(shape=(11, 8, 1)))
    expect(read_volume(save_nifti(tmp_path / "a.nii.gz", slice_.array[0], slice_.geometry.affine)), slice_)


# --- channels


def test_the_fourth_axis_of_a_nifti_file_counts_channels(tmp_path):
    scan = house_volume(channels=4)
    path = save_nifti(tmp_path / "a.nii.gz", np.moveaxis(scan.array, 0, 3), HOUSE.affine)
    expect(read_volume(path, channels=4), scan)


def test_several_files_are_the_channels_of_one_scan(tmp_path):
    scan = house_volume(channels=3)
    paths = [save_nifti(tmp_path / f"{n}.nii.gz", channel, HOUSE.affine) for n, channel in enumerate(scan.array)]
    expect(read_volume(Source("case", tuple(paths)), channels=3), scan)


def test_channels_of_several_formats_and_types_join(tmp_path):
    ct = save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], HOUSE.affine)
    pet = house_volume(dtype=np.float32, seed=2)
    sitk.WriteImage(to_itk(pet), str(tmp_path / "b.nrrd"))
    volume = read_volume(Source("case", (ct, tmp_path / "b.nrrd")), channels=2)
    np.testing.assert_array_equal(volume.array[0], SCAN.array[0])
    np.testing.assert_array_equal(volume.array[1], pet.array[0])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_vector_voxels_are_channels(tmp_path, suffix):
    scan = house_volume(channels=3)
    image = sitk.Compose([to_itk(Volume(channel[None], HOUSE)) for channel in scan.array])
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    expect(read_volume(tmp_path / f"a{suffix}", channels=3), scan)


def test_the_fourth_axis_of_an_mha_file_counts_channels(tmp_path):
    scan = house_volume(channels=4)
    image = sitk.JoinSeries([to_itk(Volume(channel[None], HOUSE)) for channel in scan.array])
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    expect(read_volume(tmp_path / "a.mha", channels=4), scan)


# --- NRRD, MHA, MHD


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("code", ["PSL", "RAS", "AIR"])
def test_files_of_itk_lie_where_itk_says(tmp_path, suffix, zipped, code):
    scan = house_volume(geometry=house_geometry(orientation=code))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(to_itk(scan), str(path), useCompression=zipped)
    volume = read_volume(path)
    expect(volume, scan)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.geometry.to_world(CORNERS), itk_places(path), atol=1e-9)


def test_a_nrrd_file_may_speak_ras(tmp_path):
    columns = " ".join("({:.17g},{:.17g},{:.17g})".format(*column) for column in HOUSE.affine[:3, :3].T)
    origin = "({:.17g},{:.17g},{:.17g})".format(*HOUSE.affine[:3, 3])
    header = (
        "NRRD0005\ntype: int16\ndimension: 3\nspace: right-anterior-superior\nsizes: 11 8 6\n"
        f"space directions: {columns}\nspace origin: {origin}\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + SCAN.array[0].tobytes(order="F"))
    expect(read_volume(tmp_path / "a.nrrd"))


# --- DICOM


@pytest.mark.parametrize("code", ["LPS", "LPI", "PSL", "SRA"])
def test_a_dicom_series_keeps_every_voxel_in_its_place(tmp_path, code):
    scan = house_volume(geometry=house_geometry(orientation=code))
    save_dicom_series(tmp_path / "ct", scan)
    volume = read_volume(tmp_path / "ct")
    assert volume.array.dtype == np.int16
    # Slices come in order along the normal that the in-plane axes give, so K may run the other way.
    forwards = np.linalg.det(scan.geometry.affine[:3, :3]) > 0
    same = volume if forwards else Volume(volume.array[..., ::-1], volume.geometry.reorient(scan.geometry.orientation))
    expect(same, scan)


def test_slices_lie_in_order_whatever_their_files_are_called(tmp_path):
    scan = house_volume(geometry=house_geometry(orientation="LPS"))
    save_dicom_series(tmp_path / "ct", scan, name=lambda k: f"{'cafebd'[k]}.dcm")
    expect(read_volume(tmp_path / "ct"), scan)


def test_rescale_slope_and_intercept_of_dicom_are_applied(tmp_path):
    scan = house_volume(geometry=house_geometry(orientation="LPS"))
    # GDCM stores (value − intercept) / slope.
    real = Volume((scan.array * 2 - 1024).astype(np.int16), scan.geometry)
    files = save_dicom_series(tmp_path / "ct", real, tags={"0028|1052": "-1024", "0028|1053": "2"})
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, real.array)
    for file in files:
        slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"
        file.write_bytes(file.read_bytes().replace(slope + b"2 ", slope + b".5"))
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, scan.array * 0.5 - 1024)


def test_a_tilted_gantry_gives_a_sheared_grid(tmp_path):
    upright = house_geometry(orientation="LPS")
    affine = np.array(upright.affine)
    affine[:3, 2] += 0.4 * affine[:3, 1]
    scan = house_volume(geometry=Geometry(upright.shape, affine))
    save_dicom_series(tmp_path / "ct", scan)
    volume = read_volume(tmp_path / "ct")
    expect(volume, scan)
    assert [remark.code for remark in volume.remarks] == ["W_TILTED"]


def test_one_slice_lies_where_its_series_has_it(tmp_path):
    scan = house_volume(geometry=house_geometry(orientation="LPS"))
    files = save_dicom_series(tmp_path / "ct", scan)
    volume = read_volume(files[4])
    np.testing.assert_array_equal(volume.array[..., 0], scan.array[..., 4])
    np.testing.assert_allclose(volume.geometry.to_world((3, 2, 0)), scan.geometry.to_world((3, 2, 4)), atol=1e-6)


def test_slices_rounded_by_the_scanner_are_even_enough(tmp_path):
    scan = house_volume(geometry=house_geometry(orientation="LPS"))
    nudged = house_geometry(orientation="LPS", centre_mm=(31.55, -42.25, 77.145))
    save_dicom_series(tmp_path / "ct", scan)
    rounded = save_dicom_series(tmp_path / "nudged", Volume(scan.array, nudged))[3]
    rounded.replace(tmp_path / "ct" / rounded.name)
    expect(read_volume(tmp_path / "ct"), scan)


# --- label maps


def test_a_label_map_of_floats_is_read_as_integers(tmp_path):
    labels = np.zeros(HOUSE.shape, np.float32)
    labels[3, 2, 1] = 300
    label_map = read_label_map(save_nifti(tmp_path / "a.nii.gz", labels, HOUSE.affine))
    assert label_map.array.dtype == np.uint16
    assert label_map.array[3, 2, 1] == 300
    assert label_map.geometry.matches(HOUSE)


# --- real scans


def test_a_jpeg_2000_series_lies_on_the_grid_of_its_label_map():
    scan = read_volume(real_data("organs_ct", "example_ct_dicom"))
    labels = read_label_map(real_data("organs_ct", "example_seg_dicom.nii.gz"))
    assert scan.array.shape == (1, 512, 512, 20)
    assert scan.geometry.spacing_mm == pytest.approx((0.9765625, 0.9765625, 2))
    assert scan.geometry.orientation == "LPS"
    assert scan.geometry.reorient(labels.geometry.orientation).matches(labels.geometry, tolerance_mm=1e-3)


def test_a_whole_abdominal_series_reads_in_hounsfield_units():
    scan = read_volume(real_data("chaos_ct", "DICOM_anon"))
    assert scan.array.shape == (1, 512, 512, 78)
    assert scan.geometry.spacing_mm == pytest.approx((0.7265625, 0.7265625, 2))
    assert scan.array.min() < -900
    assert 0 < np.median(scan.array[scan.array > -200]) < 150


def test_a_totalsegmentator_scan_lies_on_the_grid_of_its_label_map():
    scan = read_volume(real_data("organs_ct", "example_ct.nii.gz"))
    labels = read_label_map(real_data("organs_ct", "example_seg_fast_force_split.nii.gz"))
    labels.check_grid(scan.geometry)
    assert scan.array.dtype == np.int32
    organs_hu = [np.median(scan.array[0][labels.array == id_]) for id_ in (1, 2, 3, 5, 52)]
    assert min(organs_hu) > 0, "soft tissue without contrast"
    assert max(organs_hu) < 80


def test_the_decathlons_label_maps_of_floats_are_read():
    ids = set()
    for path in sorted(real_data("msd_hippocampus", "labelsTr").glob("hippocampus_*.nii.gz"))[:20]:
        ids |= read_label_map(path).ids()
    assert ids == {0, 1, 2}
