"""The fault corpus: every fault has its code, in a check and in a prediction, and nothing sound has any."""

import gzip
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_phantoms import save_enhanced, upright
from faults import DATASETS, SCANS, DatasetFault, Fault
from phantoms import real_data, save_nifti

from medseg.cli import main
from medseg.run import read_lines

Codes = dict[str | None, set[str]]


def check(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[int, Codes]:
    """Return the exit code of a check, and the codes it found by case."""
    capsys.readouterr()
    code = main(["data", "check", *map(str, arguments), "--quiet", "--json"])
    found: Codes = {}
    for finding in json.loads(capsys.readouterr().out):
        assert finding["severity"] == {"E": "error", "W": "warning"}[finding["code"][0]]
        found.setdefault(finding["case_id"], set()).add(finding["code"])
    return code, found


def expected(faults: Iterable[Fault]) -> Codes:
    """Return the codes of faults by case, sound cases left out."""
    return {case_id: set(fault.codes) for fault in faults for case_id in fault.case_ids if fault.cases and fault.codes}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every faulty scan in it."""
    root = tmp_path_factory.mktemp("faults")
    for seed, fault in enumerate(SCANS):
        fault.make_in(root, seed=seed)
    return root


def test_the_corpus_is_large_and_every_fault_has_a_name_of_its_own() -> None:
    assert len(SCANS) + len(DATASETS) >= 150
    assert len({fault.name for fault in SCANS}) == len(SCANS)
    assert sum(not fault.codes for fault in SCANS) >= 30


def test_a_check_of_a_folder_with_every_fault_gives_each_its_code(
    scans: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(capsys, scans, "--for", str(run))
    assert found == expected(SCANS)
    assert code == 1


def test_a_prediction_of_a_folder_with_every_fault_fails_those_alone(scans: Path, run: Path, tmp_path: Path) -> None:
    faults = [fault for fault in SCANS if fault.cases]
    inputs = [str(scans / fault.name) for fault in faults]
    code = main(["predict", str(run), *inputs, "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])
    results = {line["case_id"]: line for line in read_lines(tmp_path / "out" / "results.jsonl")}
    errors = {case_id: line["error"] and line["error"]["code"] for case_id, line in results.items()}
    assert errors == {case_id: fault.error for fault in faults for case_id in fault.case_ids}
    warned = {case_id: {warning["code"] for warning in line["warnings"]} for case_id, line in results.items()}
    told = {case_id: fault.codes - {fault.error} for fault in faults for case_id in fault.case_ids}
    assert warned == told
    assert code == 1


def test_an_enhanced_file_that_ends_within_its_voxels_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_enhanced(tmp_path / "frames.dcm", upright())
    path.write_bytes(path.read_bytes()[:-300])
    assert check(capsys, tmp_path)[1] == {tmp_path.name: {"E_CORRUPT"}}


@pytest.mark.parametrize("fault", [fault for fault in SCANS if not fault.cases], ids=lambda fault: fault.name)
def test_a_place_without_a_scan_is_an_error_by_itself(
    fault: Fault, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys, scans / fault.name) == (1, {fault.name: set(fault.codes)})


@pytest.mark.parametrize("fault", DATASETS, ids=lambda fault: fault.name)
def test_each_faulty_dataset_has_its_codes(
    fault: DatasetFault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(capsys, fault.make_in(tmp_path))
    assert found == {case_id: set(codes.split()) for case_id, codes in fault.codes.items()}
    assert code == any(codes.startswith("E_") for codes in fault.codes.values())


def test_a_real_scan_is_found_out_however_it_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = real_data("organs_ct", "example_ct.nii.gz").read_bytes()
    image = nib.load(real_data("organs_ct", "example_ct.nii.gz"))
    voxels = np.asarray(image.dataobj)
    for share in (0.001, 0.3, 0.999):
        (tmp_path / f"cut at {share}.nii.gz").write_bytes(whole[: int(len(whole) * share)])
    middle = len(whole) // 2
    (tmp_path / "flipped.nii.gz").write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    (tmp_path / "cut within.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:-1000], 1))
    save_nifti(tmp_path / "normalised.nii", ((voxels + 1024) / 4096).astype(np.float32), image.affine)
    save_nifti(tmp_path / "without intercept.nii", (voxels.clip(-1024) + 1024).astype(np.uint16), image.affine)
    save_nifti(tmp_path / "eight bits.nii", ((voxels.clip(-160, 240) + 160) / 400 * 255).astype(np.uint8), image.affine)
    found = check(capsys, tmp_path, "--for", "spleen")[1]
    scaled = {name: {"W_NOT_HU"} for name in ("normalised", "without intercept", "eight bits")}
    damaged = {name: {"E_CORRUPT"} for name in ("cut at 0.001", "cut at 0.3", "cut at 0.999", "flipped", "cut within")}
    assert found == {**scaled, **damaged}


def test_a_real_series_is_found_out_however_it_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slices = sorted(real_data("organs_ct", "example_ct_dicom").iterdir())
    for name in ("whole", "missing", "cut", "copied"):
        shutil.copytree(slices[0].parent, tmp_path / name)
    (tmp_path / "missing" / slices[9].name).unlink()
    (tmp_path / "cut" / slices[4].name).write_bytes(slices[4].read_bytes()[:10000])
    shutil.copy(slices[7], tmp_path / "copied" / "again")
    found = {name: check(capsys, tmp_path / name)[1].get(name) for name in ("whole", "missing", "cut", "copied")}
    assert found == {
        "whole": None,
        "missing": {"E_MISSING_SLICE"},
        "cut": {"E_CORRUPT"},
        "copied": {"W_SAME_SLICE_TWICE"},
    }


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ("msd_hippocampus", ()),
        ("msd_spleen_sample", ("--for", "spleen")),
        ("organs_ct", ("--manifest", "organs_ct")),
        ("amos_ct_slab", ("--manifest", "amos_ct_slab")),
        ("chaos_ct", ("--for", "spleen")),
        ("organs_ct/example_ct_dicom", ("--for", "spleen")),
        ("organs_ct/example_ct.nii.gz", ("--for", "spleen")),
        ("msd_hippocampus/imagesTr", ()),
        ("msd_hippocampus/dicom_hcrop", ()),
    ],
)
def test_nothing_is_found_in_real_data(
    parts: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys, real_data(*parts.split("/")), *options) == (0, {})


@pytest.mark.parametrize(("folder", "label_maps"), [("organs_ct", 11), ("amos_ct_slab", 1)])
def test_label_maps_are_told_from_the_scans_beside_them(
    folder: str, label_maps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(capsys, *sorted(real_data(folder).iterdir()))
    assert (code, len(found)) == (0, label_maps)
    assert all(codes == {"W_LABEL_MAP"} for codes in found.values())
    assert not any(str(case_id).startswith(("example_ct", "example_mr", "images")) for case_id in found)


@pytest.mark.parametrize("folder", ["organs_ct", "amos_ct_slab"])
def test_real_datasets_are_known_and_fine(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, real_data(folder)) == (0, {})


def test_training_and_planning_say_what_a_folder_is_taken_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # each then ends at something that is asked later
    train = ("train", "demo", "--device", "nonesuch", "--out", str(tmp_path / "run"), "--data")
    plan = ("plan", "--device", "nonesuch", "--out", str(tmp_path / "plan.toml"))
    for words in (train, plan):
        assert main([*words, str(real_data("amos_ct_slab"))]) == 2
        assert "amos_ct_slab holds the cases of amos_ct_slab" in capsys.readouterr().err
