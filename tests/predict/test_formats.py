"""What is written of a case: each format opens in its own library and refers to its own series."""

import hashlib
import json
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from phantoms import SERIES_UID, house_geometry, house_volume, save_dicom_series

from medseg.cli import main
from medseg.errors import OptionError, UnknownNameError, UnwritableError
from medseg.predict import FORMATS, chosen_formats
from medseg.volume import write_image


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A DICOM series of a patient."""
    volume = house_volume(geometry=house_geometry(shape=(24, 20, 9), orientation="LPS"))
    folder = tmp_path / "Anna Muster" / "series"
    save_dicom_series(folder, volume, tags={"0010|0010": "Muster^Anna", "0010|0020": "4711"})
    return folder


def predict(run: Path, *inputs: Path, out: Path, options: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Run the command and return its exit code and the results by case id."""
    code = main(["predict", str(run), *map(str, inputs), "--out", str(out), "--device", "cpu", *options])
    text = (out / "results.jsonl").read_text(encoding="utf-8")
    return code, {line["case_id"]: line for line in map(json.loads, text.splitlines())}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_and_opens(name: str, run: Path, series: Path, tmp_path: Path) -> None:
    code, results = predict(run, series, out=tmp_path / "out", options=("--format", name))
    (output,) = results["series"]["outputs"]
    assert code == 0
    assert output == f"series{FORMATS[name].suffix}"
    path = tmp_path / "out" / output
    if name == "nifti":
        assert nib.load(path).shape == (24, 20, 9)
        return
    dataset = pydicom.dcmread(path)
    assert dataset.PatientName == "Muster^Anna"
    if name == "rtstruct":
        assert dataset.Modality == "RTSTRUCT"
    else:
        assert highdicom.seg.segread(path).segmentation_type.value == ("LABELMAP" if "labelmap" in name else "BINARY")
        assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES_UID


def test_all_formats_of_a_case_are_told_of_in_its_line(run: Path, series: Path, tmp_path: Path) -> None:
    _, results = predict(run, series, out=tmp_path / "out", options=("--format", "rtstruct, nifti,dicom-seg,nifti"))
    line = results["series"]
    assert line["outputs"] == ["series.rtstruct.dcm", "series.nii.gz", "series.seg.dcm"]
    assert line["settings"] == {
        "formats": ["rtstruct", "nifti", "dicom-seg"], "deidentify": False, "key": None,
        "allow_gaps": False, "overlay": False, "preset": "balanced",
    }  # fmt: skip
    assert line["series_uid"] == SERIES_UID
    for name, facts in line["files"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_scan_that_is_no_series_gets_the_other_formats_and_a_warning(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(house_volume(), tmp_path / "scan.nii")
    options = ("--format", "dicom-seg,nifti,rtstruct")
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=options)
    assert code == 0
    assert results["scan"]["outputs"] == ["scan.nii.gz"]
    assert results["scan"]["series_uid"] is None
    (warning,) = results["scan"]["warnings"]
    assert warning["code"] == "W_NO_SERIES"
    assert "No dicom-seg and no rtstruct" in warning["message"]
    assert f"scan: W_NO_SERIES {warning['message']}" in capsys.readouterr().err


def test_a_scan_of_which_nothing_can_be_written_fails_before_the_network_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.segment.Segmenter.logits", pytest.fail)
    write_image(house_volume(), tmp_path / "scan.nii")
    options = ("--format", "dicom-seg,rtstruct")
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=options)
    assert code == 1
    assert results["scan"]["error"]["code"] == "E_NOT_A_SERIES"


def test_when_one_format_cannot_be_written_none_is_left(
    run: Path, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnwritableError("writing", found="no space", remedy="free some")

    monkeypatch.setitem(FORMATS, "rtstruct", type(FORMATS["nifti"])(".rtstruct.dcm", fail))
    code, results = predict(run, series, out=tmp_path / "out", options=("--format", "nifti,dicom-seg,rtstruct"))
    assert code == 1
    assert results["series"]["error"]["code"] == "E_UNWRITABLE"
    assert (results["series"]["outputs"], results["series"]["files"]) == ([], {})
    assert list((tmp_path / "out").glob("series*")) == []


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_a_scan_is_never_overwritten_by_a_dicom_output(suffix: str, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    volume = house_volume(geometry=house_geometry(orientation="LPS"))
    save_dicom_series(folder, volume, name=lambda number: f"scans{suffix}" if number == 3 else f"{number}.dcm")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments = ["predict", str(run), str(folder), "--out", str(folder), "--device", "cpu"]
    assert main([*arguments, "--format", "dicom-seg,rtstruct"]) == 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_deidentified_outputs_name_neither_patient_nor_folder(run: Path, series: Path, tmp_path: Path) -> None:
    (series.parent / "bad.nii").write_bytes(b"words")
    (series.parent / "gone").mkdir()
    options = ("--format", "nifti,dicom-seg,rtstruct", "--deidentify")
    inputs = (series, series.parent / "bad.nii", series.parent / "gone", series.parent / "nowhere")
    _, results = predict(run, *inputs, out=tmp_path / "out", options=options)
    assert [line["input"] for line in results.values()] == ["bad.nii", "gone", "nowhere", "series"]
    assert results["series"]["series_uid"] is None
    assert "bad.nii" in results["bad"]["error"]["message"]
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["inputs"] == ["series", "bad.nii", "gone", "nowhere"]
    for path in (tmp_path / "out").iterdir():
        assert b"Muster" not in path.read_bytes(), path
        assert path.suffix != ".dcm" or pydicom.dcmread(path).PatientID != "4711"


def test_gaps_are_filled_when_allowed_with_a_warning(run: Path, series: Path, tmp_path: Path) -> None:
    (series / "004.dcm").unlink()
    code, results = predict(run, series, out=tmp_path / "strict")
    assert (code, results["series"]["error"]["code"]) == (1, "E_MISSING_SLICE")
    options = ("--allow-gaps", "--format", "nifti,dicom-seg")
    code, results = predict(run, series, out=tmp_path / "out", options=options)
    assert code == 0
    assert [warning["code"] for warning in results["series"]["warnings"]] == ["W_SLICES_FILLED"]
    assert nib.load(tmp_path / "out" / "series.nii.gz").shape == (24, 20, 9)


def test_intensities_that_are_no_hounsfield_units_are_a_warning(run: Path, tmp_path: Path) -> None:
    volume = house_volume(dtype=np.float32)
    write_image(type(volume)((volume.array + 1000) / 2000, volume.geometry), tmp_path / "scan.nii")
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out")
    assert code == 0
    assert [warning["code"] for warning in results["scan"]["warnings"]] == ["W_NOT_HU"]


def test_a_series_of_another_kind_than_the_models_is_told_as_one(run: Path, tmp_path: Path) -> None:
    volume = house_volume(geometry=house_geometry(orientation="LPS"))
    grey = type(volume)((volume.array // 8 + 126).astype(np.int16), volume.geometry)
    save_dicom_series(tmp_path / "mr", grey, tags={"0008|0060": "MR"})
    _, results = predict(run, tmp_path / "mr", out=tmp_path / "out")
    warnings = {warning["code"]: warning["message"] for warning in results["mr"]["warnings"]}
    assert warnings.keys() == {"W_MODALITY", "W_NOT_HU"}
    assert "the model was trained on CT" in warnings["W_MODALITY"]
    assert "it is MR" in warnings["W_NOT_HU"]


def test_a_list_of_formats_is_read() -> None:
    assert chosen_formats("nifti") == ("nifti",)
    assert chosen_formats(" rtstruct , nifti,rtstruct,") == ("rtstruct", "nifti")


def test_unknown_formats_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rtstruct'"):
        chosen_formats("nifti,rt-struct")


@pytest.mark.parametrize("text", ["", ",", "dicom-seg,dicom-seg-labelmap"])
def test_no_format_and_two_that_share_a_file_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--format"):
        chosen_formats(text)
