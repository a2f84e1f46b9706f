"""What is found at the inputs, before any work."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from phantoms import house_geometry, house_volume, save_dicom_series

from medseg.cases import find_cases
from medseg.progress import Progress
from medseg.shard import Shard
from medseg.volume import write_image


def scan(path: Path) -> Path:
    """Write a scan."""
    write_image(house_volume(), path)
    return path


def series(folder: Path, **options: object) -> Path:
    """Write a DICOM series."""
    save_dicom_series(folder, house_volume(geometry=house_geometry(orientation="LPS")), **options)  # type: ignore[arg-type]
    return folder


def codes(*inputs: Path, out: Path | None = None) -> dict[str, str | None]:
    """Return the code of each case's error, None for a scan."""
    found = find_cases(inputs, out=out)
    return {case.case_id: case.error.code if case.error else None for case in found.own}


def test_cases_stand_in_the_order_of_their_ids_whatever_the_order_of_the_inputs(tmp_path: Path) -> None:
    paths = [scan(tmp_path / place) for place in ("2/c.nii", "1/d.nrrd", "3/a.mha", "b.nii.gz")]
    for inputs in (paths, paths[::-1], [tmp_path]):
        assert [case.case_id for case in find_cases(inputs).own] == ["a", "b", "c", "d"]


def test_series_folders_of_one_name_are_told_apart_over_all_inputs(tmp_path: Path) -> None:
    inputs = [series(tmp_path / name / "DICOM", uid=f"1.2.3.{n}") for n, name in enumerate(("anna", "bert"))]
    assert codes(*inputs) == {"anna_DICOM": None, "bert_DICOM": None}


def test_deidentified_cases_that_are_called_alike_are_numbered_in_the_order_of_their_places(tmp_path: Path) -> None:
    inputs = [series(tmp_path / name / "DICOM", uid=f"1.2.3.{n}") for n, name in enumerate(("bert", "anna"))]
    inputs += [scan(tmp_path / name) for name in ("DICOM_1.nii", "DICOM.nii", "DICOM.nrrd", "other.nii")]
    found = find_cases([*inputs, tmp_path / "gone" / "other"], deidentify=True).own
    assert {case.case_id: case.place.relative_to(tmp_path).as_posix() for case in found} == {
        "DICOM_1": "DICOM_1.nii",
        "DICOM_2": "DICOM.nii",
        "DICOM_3": "DICOM.nrrd",
        "DICOM_4": "anna/DICOM",
        "DICOM_5": "bert/DICOM",
        "other_1": "gone/other",
        "other_2": "other.nii",
    }
    assert [case.source.case_id for case in found if case.source] == [c.case_id for c in found if c.source]


def test_ids_that_no_folder_tells_apart_fail_both(tmp_path: Path) -> None:
    for suffix in ("nii", "nrrd"):
        scan(tmp_path / f"scan.{suffix}")
    found = find_cases([tmp_path])
    assert [case.error and case.error.code for case in found.own] == ["E_DUPLICATE_CASE"] * 2
    assert [case.source for case in found.own] == [None, None]


def test_inputs_without_a_scan_are_failed_cases_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert codes(tmp_path / "empty", tmp_path / "nowhere", scan(tmp_path / "scan.nii")) == {
        "empty": "E_EMPTY_FOLDER",
        "nowhere": "E_MISSING",
        "scan": None,
    }


def test_a_failed_input_never_has_the_id_of_a_scan(tmp_path: Path) -> None:
    (tmp_path / "one" / "CT").mkdir(parents=True)
    (tmp_path / "two" / "CT").mkdir(parents=True)
    found = codes(scan(tmp_path / "CT.nii"), tmp_path / "one" / "CT", tmp_path / "two" / "CT")
    assert found == {"CT": None, "CT_1": "E_EMPTY_FOLDER", "CT_2": "E_EMPTY_FOLDER"}


def test_a_scan_that_is_named_twice_is_one_case(tmp_path: Path) -> None:
    path = scan(tmp_path / "one" / "CT.nii")
    series(tmp_path / "one" / "series")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert codes(tmp_path / "one", path, tmp_path / "link") == {"CT": None, "series": None}


def test_an_empty_folder_called_here_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty" / "below")
    assert codes(Path()) == {"below": "E_EMPTY_FOLDER"}
    assert codes(Path("..")) == {"empty": "E_EMPTY_FOLDER"}


def test_a_folder_that_holds_only_what_is_passed_over_says_so(tmp_path: Path) -> None:
    series(tmp_path / "report", tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    found = find_cases([tmp_path])
    (case,) = found.own
    assert case.error is not None
    assert case.error.code == "E_EMPTY_FOLDER"
    assert "a localizer" in str(case.error)
    assert len(found.passed_over) == 6


def test_what_cannot_be_opened_is_a_failed_case_beside_the_scans(tmp_path: Path) -> None:
    scan(tmp_path / "good.nii")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../out.dcm", b"")
    assert codes(tmp_path) == {"bad.zip": "E_ARCHIVE", "good": None}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_failed_case(tmp_path: Path) -> None:
    scan(tmp_path / "good.nii")
    (tmp_path / "closed").mkdir(mode=0)
    assert codes(tmp_path) == {"closed": "E_UNREADABLE", "good": None}


@pytest.mark.parametrize("closed", ["its content", "its place"])
def test_a_named_file_that_may_not_be_read_is_a_failed_case(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, yours = scan(tmp_path / "mine.nii"), scan(tmp_path / "yours.nii")
    ask = Path.open if closed == "its content" else Path.stat

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == yours:
            raise PermissionError(13, "Permission denied", str(path))
        return ask(path, *arguments, **options)

    monkeypatch.setattr(Path, ask.__name__, refuse)
    assert codes(mine, yours) == {"mine": None, "yours.nii": "E_UNREADABLE"}


def test_localizers_are_said_once_with_their_reason_and_their_number(tmp_path: Path) -> None:
    heard: list[Progress] = []
    series(tmp_path / "scan", uid="1.2.3.1")
    series(tmp_path / "view", uid="1.2.3.2", tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    found = find_cases([tmp_path], notify=heard.append)
    assert [case.case_id for case in found.own] == ["scan"]
    assert [p.message for p in heard if p.message] == [
        "6 DICOM file(s) are no scans and are passed over: 6 × a localizer."
    ]
    assert {path.parent.name for path, _ in found.passed_over} == {"view"}
    assert {p.stage for p in heard} == {"find"}


def test_outputs_among_the_inputs_are_no_cases(tmp_path: Path) -> None:
    scan(tmp_path / "scan.nii")
    scan(tmp_path / "out" / "scan.nii.gz")
    assert codes(tmp_path, out=tmp_path / "out") == {"scan": None}
    assert codes(tmp_path / "out", out=tmp_path / "out") == {"scan": None}
    assert set(codes(tmp_path)) == {f"{tmp_path.name}_scan", "out_scan"}


def test_a_shard_knows_which_cases_are_elsewhere(tmp_path: Path) -> None:
    for name in "abcde":
        scan(tmp_path / f"{name}.nii")
    second = find_cases([tmp_path]).shard(Shard(2, 2))
    assert [case.case_id for case in second.own] == ["b", "d"]
    assert [case.case_id for case in second.elsewhere] == ["a", "c", "e"]
