"""Write files so that each appears whole or not at all."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg.errors import UnwritableError

ELSEWHERE = "choose a folder you may write to"
IN_THE_WAY = "choose another folder: a file lies where one should be, or a folder where a file should"
# What helps against what the system says; where it says something else or nothing, both may.
REMEDY = f"free some space, or {ELSEWHERE}"
REMEDIES = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: ELSEWHERE,
    errno.EEXIST: IN_THE_WAY,
    errno.ENOTDIR: IN_THE_WAY,
    errno.EISDIR: IN_THE_WAY,
    errno.ENOTEMPTY: IN_THE_WAY,
    errno.ENAMETOOLONG: "shorten the name of the scan or of the folder",
}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, what was written there becomes `path`.

    The temporary name is hidden, keeps the suffixes and holds random letters, so that two writers never meet. Files are
    flushed to disk before anything is renamed; a folder replaces a folder of the same name. If the block fails, the
    temporary is removed and what stood at `path` stays.

    Raises:
        UnwritableError: no permission, no space, or no such place.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _settle(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
    finally:
        _discard(temporary)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other threads and processes that ask for the same lock waiting until the block ends.

    The lock is a hidden empty file beside `path`, which stays: `path` itself may be replaced meanwhile. A process that
    dies lets go of it. Where the system has no such locks (Windows), or the disk has none, nobody waits.

    Raises:
        UnwritableError: no permission, no space, or no such place.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = path.with_name(f".{path.name}.lock").open("ab")
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Keep what a path stands for to this process until the block ends; say whether no other has it already.

    The claim is a hidden empty file at `path`, which stays. A process that dies lets go of it, and its children have no
    part in it. Where the system has no such locks (Windows), or the disk has none, whoever asks has it.

    Raises:
        UnwritableError: no permission, no space, or no such place.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    try:
        file = path.open("ab")
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield error.errno not in (errno.EACCES, errno.EAGAIN)
        else:
            yield True


def unwritable(path: Path, error: OSError) -> UnwritableError:
    """Return the error for a place that the system would not let us write to."""
    return UnwritableError(
        f"writing {path}", found=error.strerror or str(error), remedy=REMEDIES.get(error.errno or 0, REMEDY)
    )


def _settle(temporary: Path, path: Path) -> None:
    """Move a finished temporary into place."""
    if temporary.is_dir():
        for file in filter(Path.is_file, temporary.rglob("*")):
            _flush(file)
        aside = path.with_name(f"{temporary.name}.old")
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
        _discard(aside)
        return
    _flush(temporary)
    temporary.replace(path)


def _flush(path: Path) -> None:
    """Have the system write a file's bytes to disk: a rename may get there before them."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _discard(path: Path) -> None:
    """Remove a file or folder if it is there; an error on the way must not hide the one that led here."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file that appears whole."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a file that appears whole."""
    write_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    r"""Return text as UTF-8; bytes of a file's name that are none stand as in JSON, `\udce9`."""
    return text.encode(errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON to a file that appears whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
