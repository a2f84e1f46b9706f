"""Whether a file that was written earlier opens."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import house_geometry, house_volume, save_dicom_series, save_nifti

from medseg.volume import write_image
from medseg.volume.opens import opens


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_nifti_file_opens(name: str, tmp_path: Path) -> None:
    write_image(house_volume(), tmp_path / name)
    assert opens(tmp_path / name)


def test_a_dicom_file_opens(tmp_path: Path) -> None:
    (first, *_) = save_dicom_series(tmp_path, house_volume(geometry=house_geometry(orientation="LPS")))
    assert opens(first)


def test_a_picture_counts_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert opens(tmp_path / "a.png")
    assert not opens(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.dcm"])
@pytest.mark.parametrize("data", [b"", b"words", b"\x1f\x8b\x08\x00" + bytes(30), bytes(400), b"\0" * 128 + b"DICM"])
def test_what_is_no_such_file_does_not_open(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert not opens(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.dcm"])
def test_what_is_missing_does_not_open(name: str, tmp_path: Path) -> None:
    assert not opens(tmp_path / name)


def test_a_nifti_file_without_a_finite_affine_does_not_open(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii", np.zeros((2, 3, 4), np.uint8), np.eye(4))
    image = nib.load(path)
    image.header["srow_x"][0] = np.nan
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None, image.header), tmp_path / "y.nii")
    assert not opens(tmp_path / "y.nii")
