"""Where a NIfTI header puts its voxels: units become millimetres, and forms that disagree are told."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phantoms import house_geometry, house_volume, save_nifti

from medseg.errors import SizeError
from medseg.volume import Geometry, Volume, read_volume
from medseg.volume.read.nifti_place import place

SCAN = house_volume()
HOUSE = SCAN.geometry
BODY = (512, 512, 900)


def codes(volume: Volume) -> list[str]:
    return [remark.code for remark in volume.remarks]


def in_unit(path: Path, unit: str, factor: float) -> Volume:
    """Write the house with this unit in its header and its affine multiplied, and read it."""
    affine = np.diag([factor, factor, factor, 1]) @ HOUSE.affine
    image = nib.load(save_nifti(path, SCAN.array[0], affine))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return read_volume(path)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 0.001), ("micron", 1000)])
def test_other_units_are_converted_to_millimetres_and_remarked(tmp_path: Path, unit: str, factor: float) -> None:
    volume = in_unit(tmp_path / "a.nii", unit, factor)
    assert volume.geometry.distance_mm(HOUSE) < 1e-4
    assert codes(volume) == ["W_UNIT"]
    assert "converted" in volume.remarks[0].message


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_a_unit_that_would_make_no_body_is_not_believed(tmp_path: Path, unit: str) -> None:
    volume = in_unit(tmp_path / "a.nii", unit, 1)
    assert volume.geometry.distance_mm(HOUSE) < 1e-4
    assert codes(volume) == ["W_UNIT"]
    assert "taken for millimetres" in volume.remarks[0].message


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_millimetres_need_no_remark(tmp_path: Path, unit: str) -> None:
    assert codes(in_unit(tmp_path / "a.nii", unit, 1)) == []


def test_micrometres_that_the_header_does_not_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SizeError, match="micrometres"):
        in_unit(tmp_path / "a.nii", "unknown", 1000)


def two_forms(sform: Geometry, qform: Geometry) -> list[str]:
    """Return the codes of a header with two forms, as a file keeps them."""
    header = nib.Nifti1Header()
    header.set_data_shape(sform.shape)
    header.set_sform(sform.affine, 1)
    header.set_qform(qform.affine, 1)
    header = nib.Nifti1Header(header.binaryblock)
    _, remarks = place(header, header.get_sform(), sform.shape, Path("a.nii"))
    return [remark.code for remark in remarks]


def turned(quaternion: list[float]) -> Geometry:
    """Return a whole body's grid in a rotation given as w, x, y, z."""
    affine = np.eye(4)
    affine[:3, :3] = nib.quaternions.quat2mat(quaternion) @ np.diag([0.9, 0.9, 2])
    affine[:3, 3] = (-250, 120.5, -900)
    return Geometry(BODY, affine)


part = st.floats(-1, 1)
NEAR_HALF = st.tuples(st.floats(-2e-3, 2e-3), part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(st.one_of(NEAR_HALF, st.tuples(part, part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1)))
@example((5.9e-4, 0, 0, 1))
@example((0, 1, 0, 0))
def test_a_qform_of_the_same_rotation_never_disagrees_however_it_is_rounded(quaternion: tuple[float, ...]) -> None:
    grid = turned(list(quaternion))
    assert two_forms(grid, grid) == []


@given(st.floats(3.5, 500), st.integers(0, 2))
def test_forms_that_lie_apart_disagree(distance_mm: float, axis: int) -> None:
    grid = turned([0.1, 0.9, 0.2, 0.3])
    affine = np.array(grid.affine)
    affine[axis, 3] += distance_mm
    assert two_forms(grid, Geometry(BODY, affine)) == ["W_FORMS_DISAGREE"]


def test_a_shift_of_a_millimetre_is_told_in_a_small_scan() -> None:
    moved = house_geometry(centre_mm=(32.5, -42.25, 77.125))
    assert two_forms(HOUSE, moved) == ["W_FORMS_DISAGREE"]


def test_the_distance_between_the_forms_is_told(tmp_path: Path) -> None:
    image = nib.load(save_nifti(tmp_path / "a.nii", SCAN.array[0], HOUSE.affine, qform=1))
    affine = HOUSE.affine.copy()
    affine[1, 3] -= 12
    image.set_sform(affine, 1)
    nib.save(image, tmp_path / "b.nii")
    volume = read_volume(tmp_path / "b.nii")
    assert "12.0 mm apart" in volume.remarks[0].message
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-5)


def test_an_sform_that_leans_is_told_to_lean_and_its_upright_qform_is_left_alone() -> None:
    affine = np.array(HOUSE.affine)
    affine[:3, 2] += 0.2 * affine[:3, 1]
    grid = Geometry(HOUSE.shape, affine)
    assert two_forms(grid, grid) == ["W_TILTED"]
