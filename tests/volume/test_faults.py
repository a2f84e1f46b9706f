"""Faults: each way a scan can be wrong has its code, names the file and says what to do."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import house_geometry, house_volume, save_dicom_series, save_nifti, to_itk

from medseg.errors import CorruptFileError, MedsegError, NoAffineError, UnreadableError
from medseg.labels import LabelSet
from medseg.volume import Geometry, Source, Volume, find_source, read_label_map, read_volume

HOUSE = house_geometry()
SCAN = house_volume()
UPRIGHT = house_volume(geometry=house_geometry(orientation="LPS"))


@contextmanager
def refused(code: str, *, names: Path | None = None, found: str = "", remedy: str = "") -> Iterator[None]:
    """Expect an error of this code that names the path, finds this and advises that (regular expressions)."""
    with pytest.raises(MedsegError) as caught:
        yield
    error = caught.value
    assert error.code == code, str(error)
    assert names is None or str(names) in error.asked
    assert re.search(found, error.found), error.found
    assert re.search(remedy, error.remedy), error.remedy
    assert re.search(r"\. [A-Z][^.]{10,}.*[.?]$", str(error)), f"no sentence that says what to do: {error}"
    assert "\n" not in str(error)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], HOUSE.affine)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "a.nii", SCAN.array[0], HOUSE.affine)


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return save_dicom_series(tmp_path / "ct", UPRIGHT)


def cut(path: Path, size: int) -> None:
    """Keep the first bytes of a file; a negative size counts from its end."""
    path.write_bytes(path.read_bytes()[:size])


# --- the file


def test_a_missing_file(tmp_path):
    with refused("E_MISSING", names=tmp_path / "a.nii.gz", remedy="check the path"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_file_that_went_missing_after_it_was_found(zipped):
    source = find_source(zipped)
    zipped.unlink()
    with refused("E_MISSING", names=zipped, remedy="check the path"):
        read_volume(source)


def test_an_empty_folder(tmp_path):
    with refused("E_EMPTY_FOLDER", names=tmp_path, remedy="DICOM series"):
        read_volume(tmp_path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_an_empty_file(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    with refused("E_CORRUPT", names=tmp_path / f"a{suffix}", found="empty", remedy="copy it again"):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("content", [b"patient,volume\n1,200\n", b"\x89PNG\r\n\x1a\n" + bytes(600), bytes(1000)])
def test_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "a.nii").write_bytes(content)
    with refused("E_NOT_AN_IMAGE", names=tmp_path / "a.nii", remedy="give an image"):
        read_volume(tmp_path / "a.nii")


def test_half_of_a_pair_of_analyze_files(tmp_path):
    nib.save(nib.Nifti1Pair(SCAN.array[0], HOUSE.affine), tmp_path / "a.img")
    with refused("E_NOT_AN_IMAGE", names=tmp_path / "a.hdr"):
        read_volume(tmp_path / "a.hdr")


# --- NIfTI


def test_a_truncated_gz_at_every_length(zipped):
    whole = zipped.read_bytes()
    for size in [2, 3, 9, 10, 11, 18, *range(30, len(whole), 37), len(whole) - 8, len(whole) - 4, len(whole) - 1]:
        zipped.write_bytes(whole[:size])
        with refused("E_CORRUPT", names=zipped, found="gzip data is damaged", remedy="copy it again"):
            read_volume(zipped)


def test_a_flipped_bit_in_a_gz_is_never_read_in_silence(zipped):
    whole = zipped.read_bytes()
    codes = []
    for bit in random.Random(0).sample(range(8 * len(whole)), 600):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        zipped.write_bytes(damaged)
        try:
            volume = read_volume(zipped)
        except MedsegError as error:
            codes.append(error.code)
            continue
        # The time and the name in gzip's own header carry nothing, and neither does an unused code of its trees.
        np.testing.assert_array_equal(volume.array, SCAN.array)
        assert volume.geometry.distance_mm(HOUSE) < 1e-4
    assert set(codes) <= {"E_CORRUPT", "E_NOT_AN_IMAGE"}
    assert len(codes) > 500


@pytest.mark.parametrize("size", [4, 100, 347])
def test_a_header_cut_short(plain, size):
    cut(plain, size)
    with refused("E_CORRUPT", names=plain, found=f"ends after {size} bytes", remedy="copy it again"):
        read_volume(plain)


@pytest.mark.parametrize("size", [352, 353, 800, -1])
def test_a_truncated_nii(plain, size):
    cut(plain, size)
    with refused("E_CORRUPT", names=plain, found="1408 bytes|promises", remedy="copy it again"):
        read_volume(plain)


def test_a_header_that_promises_more_than_any_disk_holds(plain):
    header = bytearray(plain.read_bytes())
    header[40:56] = np.array([4, 32767, 32767, 32767, 32767, 1, 1, 1], "<i2").tobytes()
    plain.write_bytes(header)
    with refused("E_CORRUPT", names=plain, found="promises", remedy="copy it again"):
        read_volume(plain)


def test_a_damaged_header_gives_a_code_or_a_volume_and_never_a_crash(plain):
    whole = plain.read_bytes()
    draw = random.Random(0)
    codes = set()
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[draw.randrange(4, 280)] = draw.choice((0, 1, 64, 127, 128, 255))
        plain.write_bytes(damaged)
        try:
            read_volume(plain)
        except MedsegError as error:
            codes.add(error.code)
    assert {"E_CORRUPT", "E_DIMENSIONS"} <= codes


def test_no_affine(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", SCAN.array[0], HOUSE.affine, sform=0, qform=0)
    with refused("E_NO_AFFINE", names=path, found="neither sform nor qform", remedy="set one|DICOM"):
        read_volume(path)


@pytest.mark.parametrize("column", [(0, 0, 0), (np.nan, 0, 0), (2, 0, 0)], ids=["zero", "nan", "doubled"])
def test_a_singular_affine(plain, column):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 2] = column
    header = bytearray(plain.read_bytes())
    header[280:328] = affine[:3].astype("<f4").tobytes()
    plain.write_bytes(header)
    with refused("E_SINGULAR_AFFINE", names=plain, remedy="sform or qform"):
        read_volume(plain)


@pytest.mark.parametrize("shape", [(11, 48), (528,), (11, 2, 4, 3, 2)])
def test_too_few_or_too_many_axes(tmp_path, shape):
    path = save_nifti(tmp_path / "a.nii", SCAN.array.ravel().reshape(shape), HOUSE.affine)
    with refused("E_DIMENSIONS", names=path, found="its shape is", remedy="3D volume"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]], ids=["complex", "rgb"])
def test_voxels_that_are_not_one_number(tmp_path, dtype):
    path = save_nifti(tmp_path / "a.nii", np.zeros(HOUSE.shape, dtype), HOUSE.affine)
    with refused("E_DIMENSIONS", names=path, remedy="one number per voxel"):
        read_volume(path)


def test_a_4d_image_where_3d_is_wanted(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.moveaxis(house_volume(channels=4).array, 0, 3), HOUSE.affine)
    with refused("E_DIMENSIONS", names=path, found="has 4 .* and 1 is wanted", remedy="split the 4D image"):
        read_volume(path)


def test_fewer_channels_than_wanted(zipped):
    with refused("E_DIMENSIONS", names=zipped, found="has 1 .* and 4 is wanted"):
        read_volume(zipped, channels=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number(tmp_path, value):
    array = SCAN.array[0].astype(np.float32)
    array[3, 2, 1] = value
    path = save_nifti(tmp_path / "a.nii.gz", array, HOUSE.affine)
    with refused("E_NOT_FINITE", names=path, found="1 of 528", remedy="replace them"):
        read_volume(path)


# --- NRRD, MHA, MHD


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "raw"])
def test_a_truncated_itk_file(tmp_path, suffix, packed):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(to_itk(SCAN), str(path), useCompression=packed)
    data = path if suffix != ".mhd" else path.with_suffix(".zraw" if packed else ".raw")
    cut(data, -50)
    with refused("E_CORRUPT", names=path, remedy="copy it again"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_a_flipped_bit_in_packed_voxels_is_never_read_in_silence(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(to_itk(SCAN), str(path), useCompression=True)
    data = path if suffix != ".mhd" else path.with_suffix(".zraw")
    whole = data.read_bytes()
    refusals = 0
    for byte in random.Random(0).sample(range(len(whole) - 600, len(whole)), 60):
        damaged = bytearray(whole)
        damaged[byte] ^= 16
        data.write_bytes(damaged)
        try:
            volume = read_volume(path)
        except CorruptFileError:
            refusals += 1
            continue
        np.testing.assert_array_equal(volume.array, SCAN.array)
    assert refusals > 50


def test_an_mhd_file_without_its_voxels(tmp_path):
    sitk.WriteImage(to_itk(SCAN), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with refused("E_CORRUPT", names=tmp_path / "a.mhd"):
        read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("lacking", ["space", "space directions", "space origin"])
def test_a_nrrd_file_without_directions(tmp_path, lacking):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(to_itk(SCAN), str(path))
    path.write_bytes(re.sub(rb"(?m)^%s:.*\n" % lacking.encode(), b"", path.read_bytes()))
    with refused("E_NO_AFFINE", names=path, found="lacks space", remedy="set them"):
        read_volume(path)


def test_an_mha_file_of_two_dimensions(tmp_path):
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkInt16), str(tmp_path / "a.mha"))
    with refused("E_DIMENSIONS", names=tmp_path / "a.mha", found="2 dimensions", remedy="3D volume"):
        read_volume(tmp_path / "a.mha")


# --- DICOM


@pytest.mark.parametrize("slice_", [1, 2, 4])
def test_a_missing_slice(series, slice_):
    series[slice_].unlink()
    x, y, z = UPRIGHT.geometry.to_world((0, 0, slice_))
    found = rf"1 slice\(s\) are missing, at \({x:.2f}, {y:.2f}, {z:.2f}\) mm \(RAS\)"
    with refused("E_MISSING_SLICE", names=series[0].parent, found=found, remedy="--allow-gaps"):
        read_volume(series[0].parent)


def test_a_slice_of_the_same_place_and_other_content(series, tmp_path):
    other = house_volume(geometry=UPRIGHT.geometry, seed=1)
    save_dicom_series(tmp_path / "other", other)[2].rename(series[0].parent / "again.dcm")
    with refused("E_DOUBLE_SLICE", names=series[0].parent, found="002.dcm and again.dcm", remedy="export"):
        read_volume(series[0].parent)


def test_a_slice_out_of_place(series, tmp_path):
    moved = house_geometry(orientation="LPS", centre_mm=(32, -42.25, 77.125))
    save_dicom_series(tmp_path / "moved", Volume(UPRIGHT.array, moved))[3].replace(series[3])
    with refused("E_SLICE_SPACING", names=series[0].parent, found=r"slices 00[23]\.dcm and 00[34]\.dcm"):
        read_volume(series[0].parent)


@pytest.mark.parametrize("slice_", [0, 3, 5], ids=["first", "middle", "last"])
@pytest.mark.parametrize("size", [140, 400, -40], ids=["meta", "header", "voxels"])
def test_a_truncated_slice(series, slice_, size):
    cut(series[slice_], size)
    with refused("E_CORRUPT", names=series[0].parent, found=series[slice_].name, remedy="export"):
        read_volume(series[0].parent)


def test_a_slice_of_another_size(series, tmp_path):
    small = house_volume(geometry=house_geometry(shape=(7, 8, 6), orientation="LPS"))
    save_dicom_series(tmp_path / "small", small)[3].replace(series[3])
    with refused("E_MISSING_SLICE", names=series[0].parent, found=r"1 slice\(s\) are missing", remedy="export"):
        read_volume(series[0].parent)


def test_a_slice_that_does_not_say_where_it_lies(series):
    tag = b"\x20\x00\x32\x00"
    series[2].write_bytes(series[2].read_bytes().replace(tag, b"\x20\x00\x33\x00"))
    with refused("E_NO_AFFINE", names=series[0].parent, found="002.dcm .* where it lies", remedy="export"):
        read_volume(series[0].parent)


def test_a_slice_in_colour(series):
    samples = b"\x28\x00\x02\x00\x02\x00\x00\x00"
    series[2].write_bytes(series[2].read_bytes().replace(samples + b"\x01", samples + b"\x07"))
    with refused("E_DIMENSIONS", names=series[0].parent, found="slice 002.dcm holds a colour image", remedy="export"):
        read_volume(series[0].parent)


# --- pairs and labels


def test_channels_on_grids_that_differ(tmp_path):
    def channel(name: str, shift_mm: float) -> Path:
        affine = np.array(HOUSE.affine)
        affine[0, 3] += shift_mm
        return save_nifti(tmp_path / name, SCAN.array[0], affine)

    first, near, far = channel("a.nii.gz", 0), channel("b.nii.gz", 0.05), channel("c.nii.gz", 0.2)
    assert read_volume(Source("case", (first, near)), channels=2).channels == 2
    with refused("E_GRID_MISMATCH", names=far, found=re.escape(str(first)), remedy="resample"):
        read_volume(Source("case", (first, near, far)), channels=3)


def test_a_label_map_off_its_images_grid(zipped):
    affine = np.array(HOUSE.affine)
    affine[2, 3] += 0.25
    with refused("E_GRID_MISMATCH", found=r"0\.25 mm", remedy="resample the label map"):
        read_label_map(save_nifti(zipped, np.zeros(HOUSE.shape, np.uint8), HOUSE.affine)).check_grid(
            Geometry(HOUSE.shape, affine)
        )


def test_a_label_map_with_an_unknown_id(tmp_path):
    labels = np.zeros(HOUSE.shape, np.uint8)
    labels[0, 0, 0] = 7
    label_map = read_label_map(save_nifti(tmp_path / "a.nii.gz", labels, HOUSE.affine))
    with refused("E_UNKNOWN_LABEL", found="holds 7", remedy="manifest"):
        label_map.check_ids(LabelSet.from_names({0: "background", 1: "spleen"}))


@pytest.mark.parametrize("value", [0.5, -1, 70_000])
def test_a_label_map_that_is_none(tmp_path, value):
    labels = np.zeros(HOUSE.shape, np.float32)
    labels[3, 2, 1] = value
    path = save_nifti(tmp_path / "a.nii.gz", labels, HOUSE.affine)
    with refused("E_FRACTIONAL_LABEL", names=path, remedy="save it as integers"):
        read_label_map(path)


def test_a_label_map_with_nan(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.full(HOUSE.shape, np.nan, np.float32), HOUSE.affine)
    with refused("E_NOT_FINITE", names=path, found="528 of 528"):
        read_label_map(path)


def test_a_file_that_the_system_keeps_closed(tmp_path, monkeypatch):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"anything")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("medseg.volume.read.scan.read_nifti", closed)
    with pytest.raises(UnreadableError, match="Permission denied") as caught:
        read_volume(path)
    assert caught.value.code == "E_UNREADABLE"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("lacking", ["TransformMatrix", "Offset"])
def test_an_mha_that_does_not_say_where_it_lies(tmp_path, lacking):
    path = tmp_path / "scan.mha"
    sitk.WriteImage(to_itk(house_volume()), str(path))
    head, mark, voxels = path.read_bytes().partition(b"ElementDataFile")
    lines = [line for line in head.splitlines(keepends=True) if not line.startswith(lacking.encode())]
    path.write_bytes(b"".join(lines) + mark + voxels)
    with pytest.raises(NoAffineError, match=lacking.lower()):
        read_volume(path)
