"""Find the scans in files and folders."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.errors import EmptyFolderError, MissingFileError, OptionError
from medseg.volume.read.dicom import series_files
from medseg.volume.source import SUFFIXES, Source, is_dicom, stem


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


def find_source(path: Path) -> Source:
    """Return the one scan at a path: a file, or a folder that holds one image file or one DICOM series.

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
    series = series_files(folder)
    name = folder.resolve().name
    for number, files in enumerate(series, start=1):
        yield Source(name if len(series) == 1 else f"{name}_{number}", tuple(files), "dicom")
