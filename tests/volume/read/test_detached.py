"""A scan whose voxels lie beside its header is known by both."""

from pathlib import Path

import pytest
import SimpleITK as sitk
from phantoms import house_volume

from medseg.volume import Source, read_volume
from medseg.volume.read.detached import detached_files

VOXELS = house_volume().array[0].transpose(2, 1, 0)
NRRD = "NRRD0004\ntype: int16\ndimension: 3\n"


def digest(path: Path) -> str:
    return Source("scan", (path,)).digest()


def saved(path: Path) -> Path:
    """Write a scan as header and voxels."""
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    return path


@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr"])
def test_voxels_that_changed_change_the_digest_though_the_header_did_not(tmp_path, name):
    path = saved(tmp_path / name)
    (raw,) = detached_files(path)
    assert raw.is_file()
    before = digest(path)
    data = bytearray(raw.read_bytes())
    data[-1] ^= 1
    raw.write_bytes(data)
    assert digest(path) != before
    assert read_volume(Source("scan", (path,))).array.size == VOXELS.size


@pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd"])
def test_a_file_that_holds_its_voxels_has_none_beside_it(tmp_path, name):
    assert detached_files(saved(tmp_path / name)) == []


@pytest.mark.parametrize(
    ("header", "files"),
    [
        ("ElementDataFile = LIST\na.raw\n\nb c.raw\n", ["a.raw", "b c.raw"]),
        ("ElementDataFile = sl%02d.raw 1 5 2\n", ["sl01.raw", "sl03.raw", "sl05.raw"]),
        ("ElementDataFile = größe.raw\n", ["größe.raw"]),
        ("ElementDataFile = LOCAL\n\0\1\2", []),
        ("NDims = 3\n", []),
    ],
)
def test_the_places_of_a_meta_image_are_understood(tmp_path, header, files):
    path = tmp_path / "scan.mhd"
    path.write_text(header, encoding="utf-8")
    assert detached_files(path) == [tmp_path / name for name in files]


@pytest.mark.parametrize(
    ("header", "files"),
    [
        ("data file: a.raw\nsizes: 1 1 1\n", ["a.raw"]),
        ("datafile: LIST\na.raw\nb.raw\n", ["a.raw", "b.raw"]),
        ("data file: %d.raw 3 1 -1\n\n", ["3.raw", "2.raw", "1.raw"]),
        ("encoding: raw\n\nvoxels", []),
    ],
)
def test_the_places_of_a_nrrd_are_understood(tmp_path, header, files):
    path = tmp_path / "scan.nhdr"
    path.write_text(NRRD + header, encoding="utf-8")
    assert detached_files(path) == [tmp_path / name for name in files]


def test_what_is_no_header_names_nothing(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"ElementDataFile = a.raw\n")
    assert detached_files(tmp_path / "scan.nii") == []
