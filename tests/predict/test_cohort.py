"""A folder of scans, good and bad: the good ones come home to their own grids, each bad one has its code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from phantoms import all_orientations, geometries, house_geometry, house_volume, save_dicom_series, save_nifti

from medseg.cli import main
from medseg.errors import UnwritableError
from medseg.package import load_package
from medseg.predict import Settings
from medseg.run import read_lines
from medseg.segment import Prepared, Segmenter
from medseg.volume import Geometry, LabelMap, Volume, read_label_map, write_image


def predict(run: Path, *inputs: Path, out: Path, options: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Run the command and return its exit code and the results by case id."""
    code = main(["predict", str(run), *map(str, inputs), "--out", str(out), "--device", "cpu", "--quiet", *options])
    return code, {line["case_id"]: line for line in read_lines(out / "results.jsonl")}


def test_every_prediction_has_its_scans_shape_and_affine_in_all_48_orders(run: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for orientation in all_orientations():
        write_image(house_volume(geometry=house_geometry(orientation=orientation)), scans / f"{orientation}.nii.gz")
    code, results = predict(run, scans, out=tmp_path / "out")
    assert code == 0
    assert len(results) == 48
    for path in scans.iterdir():
        scan, predicted = nib.load(path), nib.load(tmp_path / "out" / path.name)
        assert predicted.shape == scan.shape
        assert np.array_equal(predicted.affine, scan.affine)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometry=geometries(smallest=1, largest=24))
def test_oblique_off_centre_anisotropic_grids_come_home_exactly(run: Path, tmp_path: Path, geometry: Geometry) -> None:
    write_image(house_volume(geometry=geometry), tmp_path / "scan.nii")
    code, _ = predict(run, tmp_path / "scan.nii", out=tmp_path / "out")
    assert code == 0
    scan, predicted = nib.load(tmp_path / "scan.nii"), nib.load(tmp_path / "out" / "scan.nii.gz")
    assert predicted.shape == scan.shape
    assert np.array_equal(predicted.affine, scan.affine)


def test_nrrd_mha_and_dicom_are_cases_too(run: Path, tmp_path: Path) -> None:
    volume = house_volume()
    write_image(volume, tmp_path / "in" / "a.nrrd")
    write_image(volume, tmp_path / "in" / "b.mha")
    save_dicom_series(tmp_path / "in" / "series", house_volume(geometry=house_geometry(orientation="LPS")))
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    code, results = predict(run, tmp_path / "in", out=tmp_path / "out")
    assert code == 0
    assert set(results) == {"a", "b", "series"}
    for case_id in ("a", "b"):
        assert read_label_map(tmp_path / "out" / f"{case_id}.nii.gz").geometry.matches(
            volume.geometry, tolerance_mm=1e-3
        )


def test_a_result_has_every_field_of_the_contract(run: Path, dataset: Path, tmp_path: Path) -> None:
    scan = next((dataset / "imagesTr").iterdir())
    code, results = predict(run, scan, out=tmp_path / "out", options=("--overlay",))
    (line,) = results.values()
    assert code == 0
    assert line["status"] == "ok"
    assert line["error"] is None
    assert line["warnings"] == []
    assert line["input"] == str(scan)
    assert line["outputs"] == [scan.name, f"overlays/{line['case_id']}.png"]
    assert all((tmp_path / "out" / output).is_file() for output in line["outputs"])
    assert set(line["seconds"]) == {"read", "preprocess", "infer", "restore", "write", "total"}
    assert line["peak_ram_mb"] > 0
    assert line["peak_gpu_mb"] is None or line["peak_gpu_mb"] >= 0
    assert line["seconds"]["total"] == pytest.approx(sum(line["seconds"].values()) / 2, abs=1e-3)
    assert line["series_uid"] is None
    assert {name: facts["bytes"] for name, facts in line["files"].items()} == {
        name: (tmp_path / "out" / name).stat().st_size for name in line["outputs"]
    }
    assert line["input_sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert line["model_sha256"] == load_package(run).sha256
    assert line["settings"]["overlay"] is True


def test_the_record_of_a_run_names_its_model_settings_inputs_and_what_was_passed_over(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = next((dataset / "imagesTr").iterdir())
    volume = house_volume(geometry=house_geometry(orientation="LPS"))
    save_dicom_series(tmp_path / "view", volume, tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    inputs = [str(scan), str(tmp_path / "view")]
    assert main(["predict", str(run), *inputs, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["inputs"] == inputs
    assert record["model_sha256"] == load_package(run).sha256
    assert record["settings"] == Settings().as_json()
    assert record["failed"] == ["view"]
    assert record["passed_over"][0] == {"file": str(tmp_path / "view" / "000.dcm"), "reason": "a localizer"}
    assert capsys.readouterr().err.count("6 × a localizer") == 1


def test_volumes_are_voxels_times_their_size(run: Path, dataset: Path, tmp_path: Path) -> None:
    scan = next((dataset / "imagesTr").iterdir())
    _, results = predict(run, scan, out=tmp_path / "out")
    (line,) = results.values()
    predicted = nib.load(tmp_path / "out" / scan.name)
    voxel_ml = abs(np.linalg.det(predicted.affine[:3, :3])) / 1000
    names = {
        label["name"]: label["id"]
        for label in json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))["labels"]
    }
    for name, ml in line["volumes_ml"].items():
        assert ml == pytest.approx(np.sum(np.asarray(predicted.dataobj) == names[name]) * voxel_ml, abs=1e-3)


def bad_nifti(change: str) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, int]]:
    """Return the voxels, affine and form codes of a scan that cannot be used."""
    volume = house_volume(dtype=np.float32)
    array, affine, forms = volume.array[0].copy(), np.array(volume.geometry.affine), {"sform": 1, "qform": 0}
    if change == "nan":
        array[3, 3, 3] = np.nan
    elif change == "infinite":
        array[3, 3, 3] = np.inf
    elif change == "4D":
        array = np.stack([array, array], axis=-1)
    elif change == "no affine":
        forms = {"sform": 0, "qform": 0}
    elif change == "singular affine":
        affine[:3, 2] = affine[:3, 1]
    return array, affine, forms


def faults(folder: Path) -> dict[str, str]:
    """Fill a folder with scans that cannot be used; return their codes by case id."""
    codes = {
        "nan": "E_NOT_FINITE",
        "infinite": "E_NOT_FINITE",
        "4D": "E_DIMENSIONS",
        "no affine": "E_NO_AFFINE",
        "singular affine": "E_SINGULAR_AFFINE",
    }
    for change in codes:
        array, affine, forms = bad_nifti(change)
        if change == "singular affine":
            image = nib.Nifti1Image(array, None)
            image.header.set_sform(affine, 1)
            nib.save(image, folder / f"{change}.nii.gz")
        else:
            save_nifti(folder / f"{change}.nii.gz", array, affine, **forms)
    whole = (folder / "nan.nii.gz").read_bytes()
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    (folder / "flipped.nii.gz").write_bytes(bytes(flipped))
    (folder / "text.nii").write_text("these are words")
    (folder / "empty.nii.gz").write_bytes(b"")
    return codes | {
        "truncated": "E_CORRUPT", "flipped": "E_CORRUPT", "text": "E_NOT_AN_IMAGE", "empty": "E_CORRUPT",
    }  # fmt: skip


def test_each_bad_scan_has_its_code_and_the_others_go_on(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    codes = faults(folder)
    good = next((dataset / "imagesTr").iterdir())
    (folder / "zz_good.nii.gz").write_bytes(good.read_bytes())
    code, results = predict(run, folder, tmp_path / "nowhere.nii.gz", out=tmp_path / "out")
    assert code == 1
    assert {case_id: line["error"]["code"] for case_id, line in results.items() if line["error"]} == codes | {
        "nowhere.nii.gz": "E_MISSING"
    }
    assert results["zz_good"]["status"] == "ok"
    said = capsys.readouterr().err
    for case_id, line in results.items():
        if line["error"]:
            assert line["error"]["message"].endswith((".", "?"))
            assert f"{case_id}: {line['error']['code']}" in said
            assert line["outputs"] == []
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["zz_good.nii.gz"]


def test_a_scan_is_never_overwritten_by_its_label_map(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(house_volume(), tmp_path / "scan.nii.gz")
    before = (tmp_path / "scan.nii.gz").read_bytes()
    assert main(["predict", str(run), str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path)]) == 2
    assert "would overwrite the scan" in capsys.readouterr().err
    assert (tmp_path / "scan.nii.gz").read_bytes() == before


@pytest.mark.parametrize("left", ["run.json", "journal.jsonl"], ids=["finished", "not finished"])
def test_the_run_of_another_command_is_not_overwritten(
    left: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(house_volume(), tmp_path / "scan.nii")
    out = tmp_path / "out"
    out.mkdir()
    (out / left).write_bytes((run / left).read_bytes())
    assert predict(run, tmp_path / "scan.nii", out=out)[0] == 2
    assert "E_OPTION" in (said := capsys.readouterr().err)
    assert "it is a run of medseg train" in said
    assert [path.name for path in out.iterdir()] == [left]
    assert (out / left).read_bytes() == (run / left).read_bytes()


def test_an_empty_folder_is_a_failed_case(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, results = predict(run, tmp_path / "empty", out=tmp_path / "out")
    assert code == 1
    assert results["empty"]["error"]["code"] == "E_EMPTY_FOLDER"


def test_case_ids_that_stand_twice_fail_and_overwrite_nothing(run: Path, tmp_path: Path) -> None:
    for place in ("scan.nii", "scan.nrrd", "other.nii"):
        write_image(house_volume(), tmp_path / "in" / place)
    code, _ = predict(run, tmp_path / "in", out=tmp_path / "out")
    lines = list(read_lines(tmp_path / "out" / "results.jsonl"))
    assert code == 1
    assert [line["error"] and line["error"]["code"] for line in lines if line["case_id"] == "scan"] == [
        "E_DUPLICATE_CASE"
    ] * 2
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["other.nii.gz"]


def test_a_full_disk_is_a_code_for_the_case_and_leaves_no_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_image(house_volume(), tmp_path / "scan.nii")
    monkeypatch.setattr("medseg.volume.write.save_nifti", full)
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out")
    assert code == 1
    assert results["scan"]["error"]["code"] == "E_UNWRITABLE"
    assert "No space left" in results["scan"]["error"]["message"]
    assert not list((tmp_path / "out").glob("**/*nii*"))


def test_an_unwritable_folder_is_said_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(house_volume(), tmp_path / "scan.nii")
    (tmp_path / "file").write_text("in the way")
    code = main(["predict", str(run), str(tmp_path / "scan.nii"), "--out", str(tmp_path / "file" / "out")])
    assert code == 1
    assert "E_UNWRITABLE" in capsys.readouterr().err


def test_an_unforeseen_error_is_kept_with_its_kind(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    for name in ("a", "b"):
        write_image(house_volume(), tmp_path / "in" / f"{name}.nii")
    monkeypatch.setattr("medseg.predict.stages.read_volume", surprise)
    code, results = predict(run, tmp_path / "in", out=tmp_path / "out")
    assert code == 1
    assert {line["error"]["code"] for line in results.values()} == {"E_UNEXPECTED"}
    assert "ZeroDivisionError: of all things" in results["a"]["error"]["message"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")],
    ids=["host", "GPU"],
)
def test_a_case_that_memory_does_not_suffice_for_says_what_helps_and_the_others_go_on(
    error: Exception, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Segmenter.predict

    def starving(self: Segmenter, prepared: Prepared, *arguments: Any, **options: Any) -> LabelMap:
        if prepared.image.array.max() == 1:
            raise error
        return whole(self, prepared, *arguments, **options)

    for name, hu in (("large", 1000), ("small", 0)):
        volume = house_volume()
        write_image(Volume(np.full_like(volume.array, hu), volume.geometry), tmp_path / "in" / f"{name}.nii")
    monkeypatch.setattr(Segmenter, "predict", starving)
    code, results = predict(run, tmp_path / "in", out=tmp_path / "out")
    assert (code, results["small"]["status"]) == (1, "ok")
    assert results["large"]["error"]["code"] == "E_MEMORY"
    assert "--max-ram" in results["large"]["error"]["message"]
    assert "--device cpu" in results["large"]["error"]["message"]


def test_a_shard_without_cases_is_done_where_others_have_them(run: Path, tmp_path: Path) -> None:
    write_image(house_volume(), tmp_path / "scan.nii")
    assert predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=("--shard", "2/2")) == (0, {})
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=("--shard", "1/2"))
    assert (code, list(results)) == (0, ["scan"])


def test_another_number_of_channels_than_the_models_is_refused(run: Path, tmp_path: Path) -> None:
    volume = house_volume(channels=2)
    write_image(Volume(volume.array, volume.geometry), tmp_path / "two.nii.gz")
    code, results = predict(run, tmp_path / "two.nii.gz", out=tmp_path / "out")
    assert code == 1
    assert results["two"]["error"]["code"] == "E_DIMENSIONS"


def test_a_volume_of_one_voxel_is_predicted(run: Path, tmp_path: Path) -> None:
    write_image(Volume(np.zeros((1, 1, 1, 1), np.int16), Geometry((1, 1, 1), np.eye(4))), tmp_path / "dot.nii")
    code, _ = predict(run, tmp_path / "dot.nii", out=tmp_path / "out")
    assert code == 0
    assert sitk.ReadImage(str(tmp_path / "out" / "dot.nii.gz")).GetSize() == (1, 1, 1)


@pytest.mark.parametrize(
    ("error", "warning"),
    [
        (UnwritableError("drawing", found="no space", remedy="free some"), "E_UNWRITABLE"),
        (MemoryError(), "E_MEMORY"),
        (ZeroDivisionError(), "E_UNEXPECTED"),
    ],
    ids=["disk", "memory", "anything"],
)
def test_an_overlay_that_cannot_be_made_is_a_warning(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, warning: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    write_image(house_volume(), tmp_path / "scan.nii")
    monkeypatch.setattr("medseg.predict.outputs.write_overlay", fail)
    code, results = predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=("--overlay",))
    assert code == 0
    assert results["scan"]["status"] == "ok"
    assert results["scan"]["outputs"] == ["scan.nii.gz"]
    assert [one["code"] for one in results["scan"]["warnings"]] == [warning]


@pytest.mark.parametrize(("factor", "window"), [(1.0, (-100.0, 240.0)), (0.0005, None)])
def test_an_overlay_has_the_models_window_where_the_scan_is_in_hu(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, window: tuple[float, float] | None
) -> None:
    shown = []
    volume = house_volume()
    write_image(Volume(volume.array.astype(np.float32) * factor, volume.geometry), tmp_path / "scan.nii")
    monkeypatch.setattr("medseg.predict.outputs._record", lambda *_: None)
    monkeypatch.setattr("medseg.predict.outputs.write_overlay", lambda *_, **others: shown.append(others["window"]))
    predict(run, tmp_path / "scan.nii", out=tmp_path / "out", options=("--overlay",))
    assert shown == [window]
