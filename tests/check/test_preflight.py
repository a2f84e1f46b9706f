"""`medseg data check` finds what is wrong with each case, and nothing in sound datasets and scans."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from phantoms import house_geometry, house_volume, save_dicom_series, save_nifti

from medseg.check import Finding
from medseg.cli import main
from medseg.manifest import read_manifest
from medseg.remarks import Remark
from medseg.shipped import manifest_path
from medseg.volume import Volume

UPRIGHT = house_geometry(orientation="LPS")


def findings(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[int, dict[str | None, set[str]]]:
    """Return the exit code and the codes found, by case id."""
    capsys.readouterr()
    code = main(["data", "check", *map(str, arguments), "--quiet", "--json"])
    found: dict[str | None, set[str]] = {}
    for finding in json.loads(capsys.readouterr().out):
        found.setdefault(finding["case_id"], set()).add(finding["code"])
    return code, found


def save_scan(path: Path, *, seed: int = 0, scale: float = 1) -> Path:
    """Write a scan of the house, its values multiplied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = house_volume(seed=seed)
    return save_nifti(path, (volume.array[0] * scale).astype(np.float32), volume.geometry.affine)


def with_listing(dataset: Path, folder: Path, **changes: Any) -> Path:
    """Copy a dataset, and change its listing."""
    copy = Path(shutil.copytree(dataset, folder))
    listing = json.loads((copy / "dataset.json").read_text(encoding="utf-8"))
    (copy / "dataset.json").write_text(json.dumps({**listing, **changes}))
    return copy


# --- datasets


def test_a_sound_dataset_has_no_findings(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(capsys, dataset) == (0, {})


def test_every_damage_is_found_in_its_own_case(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "data"))
    images, labels = sorted((folder / "imagesTr").iterdir()), sorted((folder / "labelsTr").iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:-100])
    label = nib.load(labels[2])
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj) + 40, label.affine), labels[2])
    label = nib.load(labels[3])
    moved = label.affine.copy()
    moved[0, 3] += 2
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), moved), labels[3])
    stem = [path.name.removesuffix(".nii.gz") for path in labels]
    code, found = findings(capsys, folder)
    assert code == 1
    assert found == {
        stem[0]: {"E_MISSING"},
        stem[1]: {"E_CORRUPT"},
        stem[2]: {"E_UNKNOWN_LABEL"},
        stem[3]: {"E_GRID_MISMATCH"},
    }


def test_damage_to_an_image_does_not_hide_that_to_its_label_map(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "data"))
    for part in ("imagesTr", "labelsTr"):
        path = min((folder / part).iterdir())
        path.write_bytes(path.read_bytes()[:-9])
    assert main(["data", "check", str(folder), "--quiet", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in found] == ["E_CORRUPT", "E_CORRUPT"]
    assert "imagesTr" in found[0]["message"]
    assert "labelsTr" in found[1]["message"]


def test_a_file_that_is_not_the_manifests_is_found_by_its_checksum(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    training = [{**entry, "sha256": {"image": "0" * 64}} for entry in listing["training"][:1]]
    code, found = findings(capsys, with_listing(dataset, tmp_path / "data", training=training))
    assert code == 1
    assert list(found.values()) == [{"E_CHECKSUM"}]


def test_what_concerns_the_whole_dataset_is_a_finding_without_a_case(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    for name, change in {
        "E_DUPLICATE_CASE": [{"case_id": "same"}, {"case_id": "same"}],
        "E_PATIENT_IN_TWO_FOLDS": [{"patient_id": "p", "fold": 0}, {"patient_id": "p", "fold": 1}],
        "E_MANIFEST": [{"fold": 0}, {}],
        "E_NO_CASES": [],
    }.items():
        pairs = zip(listing["training"], change, strict=False)
        manifest = tmp_path / f"{name}.json"
        manifest.write_text(json.dumps({**listing, "training": [{**entry, **extra} for entry, extra in pairs]}))
        assert findings(capsys, manifest) == (1, {None: {name}})


def test_of_many_patients_in_several_folds_the_first_is_named_and_the_others_counted(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    entries = [{**entry, "patient_id": "ab"[n // 2], "fold": n % 2} for n, entry in enumerate(listing["training"][:4])]
    (tmp_path / "m.json").write_text(json.dumps({**listing, "training": entries}))
    assert main(["data", "check", str(tmp_path / "m.json"), "--quiet", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert "patient a: folds 0 and 1" in finding["message"]
    assert "so it is with 1 more" in finding["message"]


def test_the_mask_of_a_picture_is_told_as_one(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "data"))
    path = min((folder / "labelsTr").iterdir())
    label = nib.load(path)
    save_nifti(path, (np.asarray(label.dataobj) > 0) * np.uint8(255), label.affine)
    assert main(["data", "check", str(folder), "--quiet", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["code"] == "E_UNKNOWN_LABEL"
    assert "save 1 for 255" in finding["message"]


def test_a_dataset_has_to_have_the_labels_of_its_recipe(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings(capsys, dataset, "--for", recipe) == (0, {})
    other = tmp_path / "other.toml"
    other.write_text('labels = { heart = ["heart"] }\n' + recipe.read_text(encoding="utf-8"))
    assert findings(capsys, dataset, "--for", other) == (1, {None: {"E_UNKNOWN_NAME"}})


def test_what_training_would_refuse_a_check_refuses(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = with_listing(dataset, tmp_path / "mr", modality={"0": "MRI"})
    assert findings(capsys, copy)[0] == 0
    assert findings(capsys, copy, "--for", recipe) == (1, {None: {"E_RECIPE"}})
    shared = tmp_path / "shared.toml"
    shared.write_text('labels = { a = ["spleen", "liver"], b = ["liver"] }\n' + recipe.read_text(encoding="utf-8"))
    assert findings(capsys, dataset, "--for", shared) == (1, {None: {"E_RECIPE"}})


def test_a_dataset_labelled_in_part_is_sound_as_long_as_its_label_maps_are_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape, affine = house_geometry().shape, house_geometry().affine
    shown = np.zeros(shape, np.uint8)
    shown[0], shown[1] = 1, 255
    cases = []
    for seed, name in enumerate(("a", "b")):
        save_scan(tmp_path / f"{name}.nii.gz", seed=seed)
        save_nifti(tmp_path / f"{name}_label.nii.gz", shown, affine)
        cases.append({"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"})
    cases[0] = {**cases[0], "labels_present": ["spleen"]}
    facts = {"name": "d", "modality": {0: "CT"}, "labels": {0: "background", 1: "spleen", 2: "liver"}, "ignore": [255]}

    def checked(*cases: dict[str, Any]) -> tuple[int, dict[str | None, set[str]]]:
        (tmp_path / "dataset.json").write_text(json.dumps({**facts, "training": cases}))
        return findings(capsys, tmp_path)

    assert checked(*cases) == (0, {})
    assert checked({**cases[0], "labels_present": ["liver"]}, cases[1]) == (1, {"a": {"E_UNKNOWN_LABEL"}})
    assert checked(cases[0]) == (1, {None: {"E_MANIFEST"}})
    save_nifti(tmp_path / "a_label.nii.gz", shown // 255 * 255, affine)
    assert checked(*cases) == (0, {"a": {"W_NO_LABEL"}})


def test_a_case_whose_image_is_a_dicom_series_is_checked_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = save_dicom_series(tmp_path / "ct", house_volume(geometry=UPRIGHT))
    save_nifti(tmp_path / "label.nii.gz", np.ones(UPRIGHT.shape, np.uint8), UPRIGHT.affine)
    case = {"image": "ct", "label": "label.nii.gz"}
    listing = {"name": "d", "modality": {0: "CT"}, "labels": {0: "background", 1: "body"}, "training": [case]}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert findings(capsys, tmp_path) == (0, {})
    files[2].unlink()
    assert findings(capsys, tmp_path) == (1, {"ct": {"E_MISSING_SLICE"}})


def test_only_the_channels_that_are_ct_have_to_be_in_hounsfield_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(tmp_path / "ct.nii.gz")
    save_scan(tmp_path / "pet.nii.gz", seed=1, scale=0.001)
    shape, affine = house_geometry().shape, house_geometry().affine
    save_nifti(tmp_path / "label.nii.gz", np.ones(shape, np.uint8), affine)
    case = {"image": ["ct.nii.gz", "pet.nii.gz"], "label": "label.nii.gz", "case_id": "both"}
    for modality, found in (({0: "CT", 1: "PET"}, {}), ({0: "CT", 1: "CT"}, {"both": {"W_NOT_HU"}})):
        listing = {"name": "d", "modality": modality, "labels": {0: "background", 1: "body"}, "training": [case]}
        (tmp_path / "dataset.json").write_text(json.dumps(listing))
        assert findings(capsys, tmp_path) == (0, found)


def test_the_shipped_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sum(name.startswith("msd_") for name in listed) == 10
    assert listed["msd_spleen"]["num_training"] == 41


# --- scans


def test_datasets_and_scans_are_checked_in_one_go(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(tmp_path / "scans" / "good.nii.gz")
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"")
    assert findings(capsys, dataset, tmp_path / "scans") == (1, {"bad": {"E_CORRUPT"}})


def test_a_place_that_is_missing_or_holds_no_scan_does_not_keep_the_others_from_being_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    bad = save_scan(tmp_path / "bad.nii.gz", scale=np.nan)
    code, found = findings(capsys, tmp_path / "nothing", tmp_path / "nowhere", bad)
    assert code == 1
    assert found == {"nothing": {"E_EMPTY_FOLDER"}, "nowhere": {"E_MISSING"}, "bad": {"E_NOT_FINITE"}}


def test_scans_that_would_share_a_case_id_are_told_apart_by_their_folders_or_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = [save_scan(tmp_path / name / "ct.nii.gz", seed=seed) for seed, name in enumerate("ab")]
    assert findings(capsys, *apart) == (0, {})
    save_scan(tmp_path / "a" / "ct.nii", seed=3)
    assert findings(capsys, tmp_path / "a") == (1, {"ct": {"E_DUPLICATE_CASE"}})


def test_a_scan_that_is_there_twice_deserves_a_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        save_scan(tmp_path / f"{name}.nii.gz", seed=name == "b")
    assert findings(capsys, tmp_path) == (0, {"c": {"W_SAME_SCAN_TWICE"}})


def test_scans_of_one_value_are_not_copies_of_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        save_scan(tmp_path / f"{name}.nii.gz", scale=0)
    assert findings(capsys, tmp_path) == (0, {"a": {"W_CONSTANT"}, "b": {"W_CONSTANT"}})


def test_hounsfield_units_are_wanted_where_a_model_cuts_its_window_or_dicom_says_ct(
    tmp_path: Path, recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = save_scan(tmp_path / "scan.nii.gz", scale=0.001)
    plain = tmp_path / "plain.toml"
    plain.write_text(recipe.read_text(encoding="utf-8").replace("window_hu = [-100, 240]", ""))
    assert findings(capsys, scan) == findings(capsys, scan, "--for", plain) == (0, {})
    for model in (recipe, run, run / "model"):
        assert findings(capsys, scan, "--for", model) == (0, {"scan": {"W_NOT_HU"}})
    grey = Volume((house_volume(geometry=UPRIGHT).array // 8 + 126).astype(np.int16), UPRIGHT)
    save_dicom_series(tmp_path / "ct", grey)
    save_dicom_series(tmp_path / "mr", grey, tags={"0008|0060": "MR"}, uid="1.2.3")
    assert findings(capsys, tmp_path / "ct") == (0, {"ct": {"W_NOT_HU"}})
    assert findings(capsys, tmp_path / "mr") == (0, {})
    main(["data", "check", str(tmp_path / "mr"), "--for", str(recipe), "--json"])
    (finding,) = json.loads(capsys.readouterr().out)
    assert "it is MR" in finding["message"]


def test_a_label_map_among_scans_deserves_a_look(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(min((dataset / "labelsTr").iterdir()), tmp_path / "mask.nii.gz")
    assert findings(capsys, tmp_path) == (0, {"mask": {"W_LABEL_MAP"}})


def test_a_model_tells_how_many_channels_its_scans_have(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = house_volume(channels=4)
    save_nifti(tmp_path / "scan.nii.gz", np.moveaxis(volume.array, 0, 3), volume.geometry.affine)
    assert findings(capsys, tmp_path) == (0, {})
    assert findings(capsys, tmp_path, "--for", run) == (1, {"scan": {"E_DIMENSIONS"}})


def test_an_ensemble_tells_the_same(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = house_volume(channels=4)
    save_nifti(tmp_path / "scan.nii.gz", np.moveaxis(volume.array, 0, 3), volume.geometry.affine)
    assert findings(capsys, tmp_path, "--for", f"{run},{run}") == (1, {"scan": {"E_DIMENSIONS"}})
    assert main(["data", "check", str(tmp_path), "--for", "runs/typo"]) == 2
    assert "loading the model runs/typo" in capsys.readouterr().err


def test_a_recipe_takes_the_channels_of_the_dataset_whatever_its_manifest_says(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(f'manifest = "msd_brain_tumour"\n{recipe.read_text(encoding="utf-8")}')  # of four channels
    assert findings(capsys, dataset, "--for", other) == (0, {})


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("[model]\nname = 'unte'", "E_UNKNOWN_NAME"),
        ("[training]\nloss = 'dice_cd'", "E_UNKNOWN_NAME"),
        ("[training]\npatch = [7, 7, 7]", "E_RECIPE"),
        ("[coarse]\npatch = [7, 7, 7]", "E_RECIPE"),
        ("[coarse.model]\nname = 'unte'", "E_UNKNOWN_NAME"),
    ],
)
def test_a_recipe_that_could_not_be_trained_is_found(
    table: str, code: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(table)
    assert findings(capsys, dataset, "--for", tmp_path / "mine.toml") == (1, {None: {code}})


def test_a_folder_that_holds_a_shipped_manifests_cases_is_that_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (case,) = read_manifest(manifest_path("amos_ct_slab")).training
    for file in (*case.image, str(case.label)):
        save_scan(tmp_path / file)
    save_scan(tmp_path / "another.nii.gz")
    code, found = findings(capsys, tmp_path)
    assert (code, list(found)) == (1, [case.case_id])
    assert "E_CHECKSUM" in found[case.case_id]


# --- the command


@pytest.mark.parametrize("options", [("--for", "spleeen"), ("--manifest", "msd_spleeen"), ("--for", "no.toml")])
def test_a_name_that_does_not_exist_ends_the_command(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path), *options]) == 2
    assert capsys.readouterr().out == ""


def test_the_table_says_how_many_were_looked_at_and_how_many_are_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(tmp_path / "good.nii.gz")
    save_scan(tmp_path / "bad.nii.gz", scale=np.nan)
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "E_NOT_FINITE" in said.out
    assert said.out.splitlines()[-1] == "2 cases looked at, 1 fine."
    assert "E_NOT_FINITE" not in said.err
    assert main(["data", "check", str(tmp_path / "good.nii.gz")]) == 0
    assert capsys.readouterr().out == "1 case looked at, 1 fine.\n"


def test_without_findings_there_is_no_table(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(dataset)]) == 0
    assert capsys.readouterr().out == "5 cases looked at, 5 fine.\n"


def test_what_nobody_foresaw_in_one_case_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(tmp_path / "a.nii.gz")
    save_scan(tmp_path / "b.nii.gz", scale=np.nan)

    def surprise(_: Volume) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("medseg.volume.volume.Volume.check_finite", surprise)
    assert findings(capsys, tmp_path) == (1, {"a": {"E_UNEXPECTED"}, "b": {"E_UNEXPECTED"}})


def test_a_finding_is_an_error_or_a_warning_by_its_code() -> None:
    finding = Finding.of("a", Remark("W_CONSTANT", "Every voxel is 0."))
    assert finding.as_json() == {
        "case_id": "a",
        "code": "W_CONSTANT",
        "severity": "warning",
        "message": "Every voxel is 0.",
    }
    assert Finding(None, "E_MANIFEST", "No.").severity == "error"
    assert str(Finding(None, "E_MANIFEST", "No.")) == "the dataset: E_MANIFEST No."
