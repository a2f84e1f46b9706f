"""Headers of NRRD and MetaImage files, and the files beside them that hold the voxels."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from medseg.errors import CorruptFileError

NRRD_MAGIC = b"NRRD"
# The keys, in lower case, for the place of the voxels.
NRRD_PLACES = {"data file", "datafile"}
PLACES = {*NRRD_PLACES, "elementdatafile"}
# What stands for the place where the voxels follow the header, and where a list of files does.
HERE, LISTED = "LOCAL", "LIST"
# A place such as "slice%03d.raw 1 20 1": numbered files, from the first to the last, by steps.
NUMBERED = re.compile(r"([^%]*%0?\d*d[^%]*?)\s+(-?\d+)\s+(-?\d+)(?:\s+(-?\d+))?(?:\s+\d+)?")
MOST_FILES = 100_000


def is_nrrd(path: Path) -> bool:
    """Say whether a file begins as NRRD does."""
    with path.open("rb") as file:
        return file.read(4) == NRRD_MAGIC


def read_header(file: BinaryIO, path: Path, nrrd: bool) -> dict[str, str]:
    """Return the keys, in lower case, and values of a header, up to the empty line or the key that ends it.

    Raises:
        CorruptFileError: it has no end.
    """
    header: dict[str, str] = {}
    for line in file:
        key, _, value = line.decode("latin-1").partition(":" if nrrd else "=")
        header[key.strip().lower()] = value.strip()
        ends = key.strip() == "ElementDataFile" or (key.strip() in NRRD_PLACES and value.split()[:1] == [LISTED])
        if not line.strip() or ends:
            return header
    if NRRD_PLACES & header.keys():
        return header
    raise CorruptFileError(
        f"reading the header of {path}", found="the file ends within it", remedy="copy it again from its source"
    )


def detached_files(path: Path) -> list[Path]:
    """Return the files that an image's header names as the place of its voxels; most images hold their own.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        nrrd = file.read(4) == NRRD_MAGIC
        if not nrrd and path.suffix.lower() not in (".mhd", ".mha"):
            return []
        file.seek(0)
        try:
            header = read_header(file, path, nrrd)
        except CorruptFileError:
            return []
        place = next((value for key, value in header.items() if key in PLACES), HERE).encode("latin-1")
        return [path.parent / name for name in _names(os.fsdecode(place), map(os.fsdecode, file))]


def _names(place: str, following: Iterable[str]) -> Iterator[str]:
    """Yield the names of the files at a place that a header tells."""
    if place.split()[:1] == [LISTED]:
        yield from (name for line in following if (name := line.strip()))
    elif numbered := NUMBERED.fullmatch(place):
        pattern, first, last, step = numbered[1], int(numbered[2]), int(numbered[3]), int(numbered[4] or 1)
        count = min((last - first) // step + 1 if step else 0, MOST_FILES)
        yield from (pattern % (first + number * step) for number in range(count))
    elif place.upper() != HERE:
        yield place
