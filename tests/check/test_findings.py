"""`medseg data check` finds what is wrong with each case, and nothing in a sound dataset."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import real_data

from medseg.cli import main


def findings(dataset: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, set[str]]]:
    """Return the exit code and the codes found, by case id."""
    capsys.readouterr()
    code = main(["data", "check", str(dataset), "--quiet", "--json", *options])
    found: dict[str, set[str]] = {}
    for finding in json.loads(capsys.readouterr().out):
        found.setdefault(finding["case_id"], set()).add(finding["code"])
    return code, found


def test_a_sound_dataset_has_no_findings(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(dataset, capsys) == (0, {})


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
    code, found = findings(folder, capsys)
    assert code == 1
    assert found == {
        stem[0]: {"E_MISSING"},
        stem[1]: {"E_CORRUPT"},
        stem[2]: {"E_UNKNOWN_LABEL"},
        stem[3]: {"E_GRID_MISMATCH"},
    }


def test_a_file_that_is_not_the_manifests_is_found_by_its_checksum(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    listing["training"] = [{**entry, "sha256": {"image": "0" * 64}} for entry in listing["training"][:1]]
    folder = Path(shutil.copytree(dataset, tmp_path / "data"))
    (folder / "dataset.json").write_text(json.dumps(listing))
    code, found = findings(folder, capsys)
    assert code == 1
    assert list(found.values()) == [{"E_CHECKSUM"}]


def test_a_manifest_whose_cases_do_not_fit_together_ends_the_command(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    for name, change in {
        "E_DUPLICATE_CASE": [{"case_id": "same"}, {"case_id": "same"}],
        "E_PATIENT_IN_TWO_FOLDS": [{"patient_id": "p", "fold": 0}, {"patient_id": "p", "fold": 1}],
    }.items():
        pairs = zip(listing["training"], change, strict=False)
        manifest = tmp_path / f"{name}.json"
        manifest.write_text(json.dumps({**listing, "training": [{**entry, **extra} for entry, extra in pairs]}))
        assert main(["data", "check", str(manifest), "--quiet"]) == 1
        assert name in capsys.readouterr().err


def test_the_shipped_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sum(name.startswith("msd_") for name in listed) == 10
    assert listed["msd_spleen"]["num_training"] == 41


@pytest.mark.parametrize("name", ["msd_hippocampus", "msd_spleen_sample"])
def test_real_decathlon_folders_have_no_findings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(real_data(name), capsys) == (0, {})


@pytest.mark.parametrize("name", ["organs_ct", "amos_ct_slab"])
def test_a_shipped_manifest_describes_a_folder_without_a_dataset_json(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings(real_data(name), capsys, "--manifest", name) == (0, {})
