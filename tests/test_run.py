"""Facts about a run's folder: its record says what made it, and its lines survive a crash."""

import json
from pathlib import Path

import pytest

from medseg.atomic import write_json
from medseg.errors import UnwritableError
from medseg.run import Run, append_line, peak_ram_mb, read_lines, versions


def test_a_run_makes_its_folder_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "kept").write_text("here")
    assert Run(tmp_path / "a" / "b").folder == tmp_path / "a" / "b"
    assert Run(tmp_path / "new" / "er").folder.is_dir()
    assert (tmp_path / "a" / "b" / "kept").read_text(encoding="utf-8") == "here"


def test_everything_a_run_keeps_lies_in_its_folder_under_its_own_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    places = [run.recipe, run.journal, run.checkpoint, run.model, run.prepared, run.validation, run.results]
    assert all(place.parent == tmp_path for place in places)
    assert len(set(places)) == len(places)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UnwritableError) as caught:
            Run(place)
        assert caught.value.code == "E_UNWRITABLE"


def test_the_record_holds_the_facts_given_and_what_they_depend_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_record(command="train", seed=7, failed={"ü": None})
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (record["command"], record["seed"], record["failed"]) == ("train", 7, {"ü": None})
    assert record["seconds"] >= 0
    assert record["finished"].endswith("+00:00")
    assert {"python", "torch", "monai", "numpy"} <= set(record["versions"])
    assert record["machine"]["ram_mb"] > 100


def test_a_library_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.run.LIBRARIES", ("numpy", "no-such-library"))
    assert set(versions()) == {"python", "numpy"}


# Lines


def test_lines_come_back_in_their_order(tmp_path: Path) -> None:
    # names that hold what splits lines in Unicode, though not in JSON lines
    lines = [{"epoch": 1, "loss": 0.5}, {"case_id": "a\u2028b\x85c\nd ü"}, {}]
    for line in lines:
        append_line(tmp_path / "journal.jsonl", line)
    assert list(read_lines(tmp_path / "journal.jsonl")) == lines


def test_a_name_that_is_no_utf8_is_written_and_comes_back(tmp_path: Path) -> None:
    name = b"a\xe9.nii".decode(errors="surrogateescape")  # as Python reads an old Latin-1 name from the disk
    append_line(tmp_path / "lines.jsonl", {"case_id": name})
    assert list(read_lines(tmp_path / "lines.jsonl")) == [{"case_id": name}]
    write_json(tmp_path / "record.json", {"ü": name})
    assert json.loads((tmp_path / "record.json").read_text(encoding="utf-8")) == {"ü": name}


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "journal.jsonl")) == []


@pytest.mark.parametrize("kept", range(1, 26))
def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "results.jsonl"
    append_line(path, {"case_id": "a"})
    first = path.read_bytes()
    append_line(path, {"case_id": "übermäßig"})
    second = path.read_bytes()[len(first) :]
    assert kept < len(second) - 1
    path.write_bytes(first + second[:kept])
    assert list(read_lines(path)) == [{"case_id": "a"}]


def test_a_line_after_one_cut_off_by_a_crash_stands_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"case_id": "a"}\n{"case_id": ')
    append_line(path, {"case_id": "c"})
    assert list(read_lines(path)) == [{"case_id": "a"}, {"case_id": "c"}]


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "journal.jsonl", {"loss": float("nan")})
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_line_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError):
        append_line(tmp_path / "no" / "folder.jsonl", {})


def test_memory_is_counted_in_mebibytes() -> None:
    assert 20 < peak_ram_mb() < 200_000
