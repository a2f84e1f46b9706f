"""StoredFile: one file's bytes, in a folder or in a zip."""

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from medseg.errors import ArchiveError

# What a zip may hold. A study of 20,000 slices unpacks to 10 GiB; more than these is no hospital's export.
MOST_ENTRIES = 100_000
LARGEST_BYTES = 64 * 2**30
# Compressed CT shrinks by 2 to 4, plain air by 1000: a zip that packs this well and is also large is a bomb.
HIGHEST_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 2**30
ENCRYPTED = 0x1
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# Enough of a file to tell whether it is DICOM.
START_BYTES = 140


@dataclass(frozen=True, order=True)
class StoredFile:
    """Where a file's bytes lie.

    Attributes:
        path: the file, or the zip that holds it.
        member: its name in the zip; empty for a plain file.
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> Path:
        """The folder it lies in; for a member of a zip, the zip and the folder inside."""
        return self.path / PurePosixPath(self.member).parent if self.member else self.path.parent

    def __str__(self) -> str:
        return str(self.path / self.member) if self.member else str(self.path)


def is_dicom(start: bytes) -> bool:
    """Say whether a file begins as DICOM does: "DICM" after 128 bytes (PS3.10, section 7.1).

    Old exports lack this mark and begin with the first element at once: the length of the file's meta information, or
    one of group 0008, with a value representation in capitals or a short even length.
    """
    if start[128:132] == b"DICM" or start[:6] == b"\x02\x00\x00\x00UL":
        return True
    if len(start) < START_BYTES or start[:2] != b"\x08\x00" or start[3] != 0:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or (start[5:8] == bytes(3) and start[4] % 2 == 0)


def is_zip(start: bytes) -> bool:
    """Say whether a file begins as a zip does."""
    return start[:4] in ZIP_MAGIC


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file, by which its kind is told."""
    with path.open("rb") as file:
        return file.read(START_BYTES)


def members(path: Path) -> list[StoredFile]:
    """Return the files in a zip, in the order of their names.

    Nothing is unpacked: members are read one at a time and never written under their own names.

    Raises:
        ArchiveError: the zip is damaged, encrypted, too large, packed too well to be scans, or holds a link or a name
            that points out of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _refused(path, f"it is damaged ({error})", "copy it again from its source") from error
    unpacked, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if len(entries) > MOST_ENTRIES:
        raise _refused(path, f"it holds {len(entries)} files, and {MOST_ENTRIES} is the limit", "unpack it yourself")
    if unpacked > LARGEST_BYTES:
        raise _refused(
            path, f"it would unpack to {unpacked / 2**30:.0f} GiB, and {LARGEST_BYTES >> 30} is the limit", "unpack it"
        )
    if unpacked > RATIO_COUNTS_FROM_BYTES and unpacked > HIGHEST_RATIO * packed:
        raise _refused(
            path,
            f"it unpacks to {unpacked / max(packed, 1):.0f} times its size, which no scan does",
            "check its source",
        )
    for entry in entries:
        _check_entry(path, entry)
    return sorted(StoredFile(path, entry.filename) for entry in entries if not _hidden(entry.filename))


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    place = PurePosixPath(entry.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
        raise _refused(path, f"{entry.filename!r} points out of it", "check its source")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _refused(path, f"{entry.filename!r} is a link", "pack the files themselves")
    if entry.flag_bits & ENCRYPTED:
        raise _refused(path, "it is encrypted", "unpack it with its password and give the folder")


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _refused(path: Path, found: str, remedy: str) -> ArchiveError:
    return ArchiveError(f"reading the zip {path}", found=found, remedy=remedy)


def contents(files: Sequence[StoredFile]) -> Iterator[tuple[StoredFile, bytes]]:
    """Yield each file with its bytes; a zip is opened once for all of its members that stand together.

    Raises:
        ArchiveError: a member does not unpack.
        OSError: a file cannot be read.
    """
    for path, group in groupby(files, key=lambda file: file.path):
        stored = list(group)
        if not stored[0].member:
            yield from ((file, path.read_bytes()) for file in stored)
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                for file in stored:
                    yield file, archive.read(file.member)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError) as error:
            raise _refused(path, f"it is damaged ({error})", "copy it again from its source") from error


@contextmanager
def on_disk(files: Sequence[StoredFile]) -> Iterator[list[Path]]:
    """Give a path for each file, for readers that want one; members of a zip lie there as long as the block lasts."""
    if not any(file.member for file in files):
        yield [file.path for file in files]
        return
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        paths = []
        for number, (_, data) in enumerate(contents(files)):
            paths.append(Path(folder, f"{number:06d}.dcm"))
            paths[-1].write_bytes(data)
        yield paths
