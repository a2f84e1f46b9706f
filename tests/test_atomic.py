"""A file appears whole or not at all, whatever happens while it is written."""

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from medseg.atomic import locked, unwritable, whole, write_bytes, write_json, write_text
from medseg.errors import UnwritableError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "scores.json"
    path.write_text("old")
    return path


def test_what_is_written_is_what_is_read(tmp_path):
    write_bytes(tmp_path / "a", b"\x00\xff\r\n")
    write_text(tmp_path / "b", "Größe: 3 × 4\n")
    write_json(tmp_path / "c.json", {"ü": [1, 2.5, None]})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b").read_bytes() == "Größe: 3 × 4\n".encode()
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == {"ü": [1, 2.5, None]}
    assert "ü" in (tmp_path / "c.json").read_text(encoding="utf-8")


def test_a_file_is_not_there_until_it_is_finished(old):
    with whole(old) as temporary:
        temporary.write_text("new")
        assert old.read_text(encoding="utf-8") == "old"
        assert temporary.parent == old.parent
        assert temporary.name.startswith(".")
        assert temporary.suffix == old.suffix
    assert old.read_text(encoding="utf-8") == "new"
    assert names(old.parent) == ["scores.json"]


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "deep")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "deep"


def test_two_writers_of_one_file_never_meet(old):
    with whole(old) as first, whole(old) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert old.read_text(encoding="utf-8") == "first"
    assert names(old.parent) == ["scores.json"]


def test_a_file_reaches_the_disk_before_it_gets_its_name(old, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(old.read_text(encoding="utf-8")))
    write_text(old, "new")
    assert seen == ["old"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_writer_leaves_what_was_there(old, interruption):
    def write() -> None:
        with whole(old) as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert old.read_text(encoding="utf-8") == "old"
    assert names(old.parent) == ["scores.json"]


def test_a_disk_that_fills_up_while_writing_leaves_what_was_there(old, monkeypatch):
    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        full_disk()

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(UnwritableError, match="No space left") as caught:
        write_json(old, {"new": 1})
    assert caught.value.code == "E_UNWRITABLE"
    assert caught.value.asked == f"writing {old}"
    assert "free some space" in caught.value.remedy
    assert old.read_text(encoding="utf-8") == "old"
    assert names(old.parent) == ["scores.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_turns_out_full_at_the_end_leaves_what_was_there(old, monkeypatch, step):
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full_disk)
    with pytest.raises(UnwritableError, match="No space left"):
        write_text(old, "new")
    assert old.read_text(encoding="utf-8") == "old"
    assert names(old.parent) == ["scores.json"]


def test_a_real_limit_on_the_size_of_files_is_no_different(old):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UnwritableError):
            write_bytes(old, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert old.read_text(encoding="utf-8") == "old"
    assert names(old.parent) == ["scores.json"]


def test_a_folder_below_a_file_cannot_be_written(old):
    with pytest.raises(UnwritableError) as caught:
        write_text(old / "below" / "a.txt", "new")
    assert caught.value.code == "E_UNWRITABLE"
    assert str(old / "below" / "a.txt") in str(caught.value)
    assert old.read_text(encoding="utf-8") == "old"


def test_a_folder_without_permission_cannot_be_written(old, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UnwritableError, match="Permission denied"):
        write_text(old, "new")
    assert old.read_text(encoding="utf-8") == "old"


def test_a_name_too_long_for_the_disk_cannot_be_written(tmp_path):
    with pytest.raises(UnwritableError):
        write_text(tmp_path / ("a" * 300), "new")
    assert names(tmp_path) == []


def test_a_writer_that_writes_nothing_is_an_error(old):
    with pytest.raises(UnwritableError), whole(old):
        pass
    assert old.read_text(encoding="utf-8") == "old"


def test_numbers_that_json_cannot_hold_are_refused(old):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(old, {"dice": float("nan")})
    assert old.read_text(encoding="utf-8") == "old"


def test_a_folder_replaces_the_folder_of_its_name(tmp_path):
    model = tmp_path / "model"
    for number in (1, 2):
        with whole(model) as temporary:
            temporary.mkdir()
            (temporary / f"{number}.txt").write_text("weights")
    assert names(model) == ["2.txt"]
    assert names(tmp_path) == ["model"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "old.txt").write_text("old")

    def write() -> None:
        with whole(model) as temporary:
            temporary.mkdir()
            (temporary / "new.txt").write_text("half")
            full_disk()

    with pytest.raises(UnwritableError, match="No space left"):
        write()
    assert names(model) == ["old.txt"]
    assert names(tmp_path) == ["model"]


def test_a_folders_files_reach_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    with whole(tmp_path / "case") as temporary:
        (temporary / "coarse").mkdir(parents=True)
        for name in ("image.npy", "coarse/model.json"):
            (temporary / name).write_bytes(b"1")
        assert not flushed
    files = [tmp_path / "case" / "image.npy", tmp_path / "case" / "coarse" / "model.json"]
    assert sorted(flushed) == sorted(file.stat().st_ino for file in files)


def test_a_folder_replaces_a_file_without_a_trace(old):
    with whole(old) as temporary:
        temporary.mkdir()
    assert old.is_dir()
    assert names(old.parent) == ["scores.json"]


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UnwritableError):
        write_text(tmp_path / "model", "new")
    assert (tmp_path / "model").is_dir()
    assert names(tmp_path) == ["model"]


@pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX")
def test_a_lock_lets_one_at_a_time_through(tmp_path):
    inside, most = [0], [0]

    def enter():
        with locked(tmp_path / "file"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.003)
            inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_lock_is_let_go_of_when_the_block_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "file"):
            raise ZeroDivisionError


@pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX")
def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(UnwritableError, match="nowhere"), locked(tmp_path / "nowhere" / "file"):
        pytest.fail("it went in")


@pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX")
def test_on_a_disk_without_locks_nobody_waits(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / "file"), locked(tmp_path / "file"):
        assert names(tmp_path) == [".file.lock"]


def test_without_locks_nobody_waits(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path / "file"), locked(tmp_path / "file"):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "you may write to"),
        (errno.EROFS, "you may write to"),
        (errno.EEXIST, "choose another folder"),
        (errno.ENOTDIR, "choose another folder"),
        (errno.ENAMETOOLONG, "shorten the name"),
    ],
)
def test_the_remedy_fits_what_the_system_says(tmp_path, number, remedy):
    error = unwritable(tmp_path, OSError(number, os.strerror(number)))
    assert remedy in error.remedy
    assert ("space" in error.remedy) == (number == errno.ENOSPC)


def test_what_the_system_does_not_explain_has_both_remedies(tmp_path):
    assert unwritable(tmp_path, OSError("no reason")).remedy == "free some space, or choose a folder you may write to"


def test_a_file_where_a_folder_should_be_is_said_as_such(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "out.txt", tmp_path / ("n" * 300)):
        with pytest.raises(UnwritableError) as caught:
            write_text(path, "words")
        assert "space" not in caught.value.remedy
