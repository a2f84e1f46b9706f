"""Find the scans in files, folders and zips."""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from medseg.errors import ArchiveError, EmptyFolderError, MedsegError, MissingFileError, OptionError, UnreadableError
from medseg.progress import Notify, ignore
from medseg.volume.dicom.group import Sorted, sort_files
from medseg.volume.dicom.series import Series
from medseg.volume.dicom.stored import StoredFile, is_dicom, is_zip, members, read_start
from medseg.volume.source import SUFFIXES, Source, duplicate_ids, stem

# What pictures are called, as people export them from viewers.
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


@dataclass
class Found:
    """What a place holds.

    Attributes:
        scans: image files and DICOM series, in the order of their names.
        annotations: labels in DICOM SEG and RTSTRUCT files.
        passed_over: DICOM files that are no scan, such as localizers and dose reports, each with its reason.
        others: how many other files there are; pictures by their suffix, the rest under an empty one.
        refused: files and folders that may hold scans and cannot be opened, each with its error.
    """

    scans: list[Source] = field(default_factory=list)
    annotations: list[Source] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[Path, MedsegError]] = field(default_factory=list)

    @property
    def label_maps(self) -> list[Source]:
        """Every source that labels can be read from: images, and annotations whose case has no image here."""
        images = [scan for scan in self.scans if scan.kind == "file"]
        ids = {image.case_id for image in images}
        return [*images, *(labels for labels in self.annotations if labels.case_id not in ids)]


def look_through(path: Path, *, notify: Notify = ignore) -> Found:
    """Return what is at a path.

    A file is one scan, a zip holds DICOM. A folder, searched with all its subfolders, gives one scan per image file
    (by suffix) and one per DICOM series (by content, whatever the files are called); hidden files are passed over, and
    so is everything else.

    Raises:
        MissingFileError: a path that does not exist.
        ArchiveError: a zip that cannot be read, or that breaks the limits.
        UnreadableError: the system does not let the path itself be read.
    """
    found = Found()
    try:
        if not path.exists():
            raise MissingFileError(
                f"reading {path}", found="there is nothing at this path", remedy="check the path and its spelling"
            )
        if path.is_file():
            _sort_file(found, path)
        else:
            _sort_folder(found, path, notify=notify)
    except OSError as error:
        raise unreadable(path, error) from error
    return found


def _sort_folder(found: Found, folder: Path, *, notify: Notify) -> None:
    """Add what a folder and all below it hold, and what of it cannot be opened."""
    dicom: list[StoredFile] = []
    for file in _walk(folder, found):
        try:
            start = read_start(file)
            if is_dicom(start):
                dicom.append(StoredFile(file))
            elif file.name.lower().endswith((*SUFFIXES, ".zip")):
                _sort_file(found, file)
            else:
                suffix = file.suffix.lower()
                found.others[suffix if suffix in PICTURES else ""] += 1
        except OSError as error:
            found.refused.append((file, unreadable(file, error)))
        except ArchiveError as error:
            found.refused.append((file, error))
    _add(found, sort_files(dicom, notify=notify))
    found.scans.sort(key=lambda source: source.place.parts)


def _sort_file(found: Found, file: Path) -> None:
    """Add what a file that was named, or that has a scan's suffix, turns out to be."""
    start = read_start(file)
    if is_zip(start):
        _add(found, sort_files(members(file)), name=stem(file))
    elif is_dicom(start):
        _add(found, sort_files([StoredFile(file)]), name=stem(file))
    else:
        found.scans.append(Source(stem(file), (file,)))


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """Return the error of a file or folder that the system does not let be read."""
    gone = error.errno == errno.ENOENT
    return UnreadableError(
        f"reading {error.filename or path}",
        found="it links to a file that is not there" if gone else error.strerror or str(error),
        remedy="fetch the file that it links to, or remove the link"
        if gone
        else "ask for permission to read it, or copy it to where you may",
    )


def find_sources(paths: Iterable[Path]) -> list[Source]:
    """Return every scan at these paths, in the order of their names, each with a case id of its own where it can have.

    Raises:
        MissingFileError: a path that does not exist.
        EmptyFolderError: a folder or zip without any scan.
        ArchiveError: a zip that cannot be read.
    """
    sources: list[Source] = []
    for path in paths:
        found = look_through(path)
        if found.refused:
            raise found.refused[0][1]
        if not found.scans:
            raise empty(path, found)
        sources += found.scans
    return tell_apart(sources)


def find_source(path: Path) -> Source:
    """Return the one scan at a path: a file, or a folder that holds one image file or one DICOM series.

    Raises:
        MissingFileError: there is nothing.
        EmptyFolderError: the folder holds no scan.
        OptionError: it holds several.
    """
    return _only(path, find_sources([path]))


def find_label_map(path: Path) -> Source:
    """Return the one label map at a path: an image file, a DICOM SEG or an RTSTRUCT.

    Raises:
        MissingFileError, EmptyFolderError, OptionError: as `find_source`.
    """
    found = look_through(path)
    if not found.label_maps:
        raise empty(path, found)
    return _only(path, found.label_maps)


def _only(path: Path, sources: Sequence[Source]) -> Source:
    if len(sources) == 1:
        return sources[0]
    raise OptionError(
        f"reading {path}",
        found=f"it holds {len(sources)} scans where one is wanted ({', '.join(s.case_id for s in sources[:5])}…)",
        remedy="name one file or one series folder",
    )


def empty(path: Path, found: Found) -> EmptyFolderError:
    """Return the error for a place that holds no scan, saying what it does hold."""
    held = [f"{stored}: {reason}" for stored, reason in found.passed_over[:3]]
    held += [f"{source.paths[0]}: labels in a DICOM file" for source in found.annotations[:3]]
    among = f" among its DICOM files ({'; '.join(held)})" if held else ""
    pictures = " and ".join(f"{count} {suffix}" for suffix, count in sorted(found.others.items()) if suffix)
    others = [f"{pictures} file(s), which carry no spacing"] if pictures else []
    others += [f"{found.others['']} other file(s)"] if found.others[""] else []
    return EmptyFolderError(
        f"looking for scans in {path}",
        found=f"no image file and no DICOM series{among}" + (f", but {' and '.join(others)}" if others else ""),
        remedy=f"give a folder that holds {', '.join(SUFFIXES)} files or DICOM series",
    )


def tell_apart(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with case ids that differ: where two are called the same, the folders above go in front.

    Exports call every series folder alike: `anna/DICOM` and `bert/DICOM` become `anna_DICOM` and `bert_DICOM`. Sources
    that no folder tells apart keep their id.
    """
    sources = list(sources)
    for depth in range(1, 1 + max((len(source.place.parts) for source in sources), default=0)):
        repeated = duplicate_ids([source.case_id for source in sources])
        if not repeated:
            break
        named = [
            replace(source, case_id=f"{above}_{source.case_id}")
            if source.case_id in repeated and (above := _above(source, depth))
            else source
            for source in sources
        ]
        if len({source.case_id for source in named}) == len({source.case_id for source in sources}):
            continue
        sources = named
    return sources


def _above(source: Source, depth: int) -> str:
    """Return the name of the folder `depth` levels above what a case is called after."""
    parts = source.place.resolve().parts[:-1]
    return parts[-depth].strip("/\\") if depth < len(parts) else ""


def _walk(folder: Path, found: Found) -> Iterable[Path]:
    """Yield every file below a folder but hidden ones, in the order of their names."""

    def refuse(error: OSError) -> None:
        place = Path(error.filename or folder)
        found.refused.append((place, unreadable(place, error)))

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(place, name) for name in sorted(files) if not name.startswith("."))
        yield from (path for path in paths if not path.exists() or path.is_file())  # no pipes: they would never end


def _add(found: Found, content: Sorted, *, name: str = "") -> None:
    """Add what DICOM files turned out to be; `name` is the case's, or empty to call each after its folder."""

    def home(series: Series) -> str:
        folders = {file.folder for file in series.files}
        return name or os.path.commonpath([folder.resolve() for folder in folders])

    for place, group in groupby(sorted(content.series, key=home), key=home):
        stacks = list(group)
        base = Path(place).name
        for number, series in enumerate(stacks, start=1):
            found.scans.append(Source.of_series(base if len(stacks) == 1 else f"{base}_{number}", series))
    for header in content.annotations:
        if not header.file.member:
            path, segmentation = header.file.path, header.kind == "segmentation"
            found.annotations.append(Source(stem(path), (path,), "segmentation" if segmentation else "structures"))
    found.passed_over += [(str(header.file), header.reason) for header in content.passed_over]
