"""Source: where a case's voxels come from on disk, and how folders are searched for them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.errors import EmptyFolderError, MissingFileError, OptionError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True)
class Source:
    """One scan on disk.

    Attributes:
        case_id: the name its results carry: the file's without its suffix, or the series folder's.
        paths: the file; several are the channels of one scan, or the slices of one DICOM series.
        kind: "file" or "dicom".
    """

    case_id: str
    paths: tuple[Path, ...]
    kind: Literal["file", "dicom"] = "file"

    @property
    def place(self) -> Path:
        """The path to name in messages: the file, or the folder of a series."""
        return self.paths[0].parent if self.kind == "dicom" else self.paths[0]

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Return the source at a path: a file, or a folder that holds one DICOM series.

        Raises:
            MissingFileError: there is nothing.
            EmptyFolderError: the folder holds no scan.
            OptionError: it holds several.
        """
        sources = find_sources([path])
        if len(sources) == 1:
            return sources[0]
        raise OptionError(
            f"reading {path}",
            found=f"it holds {len(sources)} scans where one is wanted ({', '.join(s.case_id for s in sources[:5])}…)",
            remedy="name one file or one series folder",
        )


def stem(path: Path) -> str:
    """Return a file's name without its image suffix: 'spleen_8.nii.gz' → 'spleen_8'."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return every scan at these paths, in the order of their names.

    A file is one scan. A folder, searched with all its subfolders, gives one scan per image file (by suffix) and one
    per DICOM series (by content); other files in it are passed over, and so are hidden ones.

    Raises:
        MissingFileError: a path that does not exist.
        EmptyFolderError: a folder without any scan.
    """
    sources: list[Source] = []
    for path in paths:
        if not path.exists():
            raise MissingFileError(
                f"reading {path}", found="there is nothing at this path", remedy="check the path and its spelling"
            )
        found = list(_in_folder(path)) if path.is_dir() else [_file_source(path)]
        if not found:
            raise EmptyFolderError(
                f"looking for scans in {path}",
                found="no image file and no DICOM series",
                remedy=f"give a folder that holds {', '.join(SUFFIXES)} files or DICOM series",
            )
        sources += found
    return sources


def duplicate_ids(case_ids: Sequence[str]) -> set[str]:
    """Return the case ids that occur more than once."""
    return {case_id for case_id, count in Counter(case_ids).items() if count > 1}


def _file_source(path: Path) -> Source:
    if is_dicom(path):
        return Source(stem(path), (path,), "dicom")
    return Source(stem(path), (path,))


def _in_folder(folder: Path) -> Iterator[Source]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    others: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            yield from _in_folder(entry)
        elif entry.name.lower().endswith(SUFFIXES):
            yield Source(stem(entry), (entry,))
        else:
            others.append(entry)
    if any(is_dicom(path) for path in others):
        yield from _series(folder)


def _series(folder: Path) -> Iterator[Source]:
    from medseg.volume.read.dicom import series_files  # SimpleITK takes 0.2 s: only folders that hold DICOM pay for it

    series = series_files(folder)
    name = folder.resolve().name
    for number, files in enumerate(series, start=1):
        yield Source(name if len(series) == 1 else f"{name}_{number}", tuple(files), "dicom")


def is_dicom(path: Path) -> bool:
    """Say whether a file has DICOM's mark, "DICM" after 128 bytes (PS3.10, section 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
