"""Plausible: values that are no HU and sizes that are no body's are told, and sound scans never are."""

import re

import numpy as np
import pytest
from hypothesis import given
from phantoms import geometries, house_geometry, house_label_map, house_volume

from medseg.errors import SizeError
from medseg.synthetic import synthetic_ct
from medseg.volume import Geometry, Volume
from medseg.volume.plausible import check_size, hu_remarks, is_label_map, leaning_remarks, scan_remarks

HOUSE = house_geometry()
HU = house_volume().array.copy()
HU[0, 0, 0, :2] = -1000, 1000


def said(array: np.ndarray) -> str:
    """Return what is remarked about a CT's values, empty when nothing is."""
    remarks = hu_remarks(Volume(array, HOUSE))
    assert all(remark.code == "W_NOT_HU" for remark in remarks)
    return " ".join(remark.message for remark in remarks)


@pytest.mark.parametrize("seed", range(3))
def test_a_ct_is_in_hounsfield_units(seed: int) -> None:
    scan, _ = synthetic_ct(seed)
    assert hu_remarks(scan) == scan_remarks(scan) == ()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (-160, 240), (-57, 164), (-1024, 32000)])
def test_any_window_that_shows_fat_and_tissue_is_in_hounsfield_units(low: int, high: int, dtype: type) -> None:
    assert said(np.interp(HU, (-1000, 1000), (low, high)).astype(dtype)) == ""


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, -32768])
def test_padding_is_left_out_of_account(padding: int) -> None:
    outside = np.zeros(HU.shape, bool)
    outside[:, :3] = True
    assert said(np.where(outside, padding, HU)) == ""
    assert "intercept had not been added" in said(np.where(outside, padding, HU + 1024))


@pytest.mark.parametrize(
    ("values", "likeness"),
    [
        ((HU + 1000) / 2000, "from 0 to 1: they look normalised"),
        (HU / 1000, "from -1 to 1: they look normalised"),
        ((HU - HU.mean()) / HU.std(), "they look normalised"),
        (((HU + 1000) // 8).astype(np.uint8), "from 0 to 250: they look like the grey values of a picture"),
        ((HU + 1024).astype(np.uint16), "from 24 to 2024: .*intercept had not been added"),
        (HU.clip(-1000, 500) - 1024, "nothing is denser than water"),
        (HU.clip(-40, 300), "from -40 to 300: nothing is as light as fat or air"),
    ],
    ids=["0..1", "-1..1", "standardised", "8 bits", "no intercept", "intercept twice", "no fat"],
)
def test_values_that_are_no_hounsfield_units_are_told_by_what_they_look_like(values: np.ndarray, likeness: str) -> None:
    assert re.search(likeness, said(values))


@pytest.mark.parametrize(
    ("modality", "advice"),
    [
        ("", "Convert the scan from its DICOM again, without scaling its values; or, if it is no CT, choose a model"),
        ("CT", "Convert the scan from its DICOM again, without scaling its values."),
        ("CTA", "Convert the scan from its DICOM again, without scaling its values."),
        ("MR", "are no Hounsfield units, for it is MR. Choose a model or a recipe for MR."),
    ],
)
def test_what_to_do_depends_on_what_the_scan_was_taken_with(modality: str, advice: str) -> None:
    (remark,) = hu_remarks(Volume((HU + 1000) // 8, HOUSE), modality=modality)
    assert advice in remark.message
    assert ("picture" in remark.message) == (modality != "MR")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_label_map_is_told_from_scans(dtype: type) -> None:
    drawn = house_label_map().array
    for labels in (drawn, (drawn > 0) * 255, drawn * 60):
        volume = Volume(labels.astype(dtype)[None], HOUSE)
        assert [remark.code for remark in scan_remarks(volume)] == ["W_LABEL_MAP"]
        assert "they look like the ids of a label map" in said(volume.array)


@pytest.mark.parametrize(
    "values",
    [
        (HU + 1000) // 8,
        (HU + 1000) // 100,
        HU.clip(0),
        np.where(HU > 0, HU / 1000, 0),
        house_label_map().array[None] / 2,
        house_label_map().array[None] - 1.0,
        np.zeros_like(HU),
    ],
    ids=["8 bits", "4 bits", "clipped", "normalised", "fractions", "below zero", "empty"],
)
def test_other_values_from_zero_are_no_label_map(values: np.ndarray) -> None:
    assert not is_label_map(Volume(values, HOUSE))


def test_one_value_says_nothing_about_its_unit_but_is_remarked() -> None:
    empty = Volume(np.zeros_like(HU), HOUSE)
    assert hu_remarks(empty) == ()
    assert [remark.code for remark in scan_remarks(empty)] == ["W_CONSTANT"]


def test_a_single_slice_is_remarked_along_any_axis() -> None:
    for shape in ((1, 8, 6), (11, 1, 6), (11, 8, 1)):
        volume = house_volume(geometry=house_geometry(shape=shape))
        assert [remark.code for remark in scan_remarks(volume)] == ["W_SINGLE_SLICE"]


@pytest.mark.parametrize(("factor", "codes"), [(1, []), (0.001, ["W_SIZE"]), (100, [])])
def test_a_scan_too_small_for_any_part_of_a_body_is_remarked(factor: float, codes: list[str]) -> None:
    spacing_mm = [factor * spacing for spacing in HOUSE.spacing_mm]
    volume = house_volume(geometry=house_geometry(spacing_mm=spacing_mm))
    assert [remark.code for remark in scan_remarks(volume)] == codes
    check_size(volume.geometry)


def test_a_scan_too_large_for_any_body_is_an_error_that_gives_its_size() -> None:
    with pytest.raises(SizeError, match="9900 × 13600 × 18600 mm"):
        check_size(house_geometry(spacing_mm=(900, 1700, 3100)))


@given(geometries(smallest=2))
def test_upright_grids_have_no_remark(geometry: Geometry) -> None:
    assert leaning_remarks(geometry) == ()


def test_a_leaning_grid_is_remarked_with_its_angle() -> None:
    affine = np.diag([1.0, 2, 3, 1])
    affine[0, 2] = 3 * np.tan(np.radians(12.5))
    (remark,) = leaning_remarks(Geometry((4, 5, 6), affine))
    assert remark.code == "W_TILTED"
    assert "12.5°" in remark.message
