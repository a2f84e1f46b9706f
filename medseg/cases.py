"""Cases: the scans that a command is about, found before any work."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from medseg.errors import DuplicateCaseError, EmptyFolderError, MedsegError
from medseg.progress import Notify, Progress, ignore
from medseg.run import RESULTS, read_lines
from medseg.shard import Shard
from medseg.volume import Found, Source, look_through, tell_apart
from medseg.volume.find import empty
from medseg.volume.source import duplicate_ids

# Of why files are passed over, as many are said; run.json has them all.
MOST_REASONS = 4


@dataclass(frozen=True)
class Case:
    """One scan, or what stood in its way.

    Attributes:
        case_id: what its outputs are called.
        place: the file, series folder or zip.
        source: its voxels; None when they cannot be had.
        error: why not.
        mentioned: other files that the error names.
    """

    case_id: str
    place: Path
    source: Source | None = None
    error: MedsegError | None = None
    mentioned: tuple[Path, ...] = ()

    def named(self, deidentify: bool) -> str:
        """Return what results call the place: its path, or only its own name."""
        return self.place.name if deidentify else str(self.place)

    @property
    def folders(self) -> list[str]:
        """The folders above it, within zips too, as they stand in front of names in messages."""
        paths = {self.place, *self.mentioned, *(self.source.paths if self.source else ())}
        for file in self.source.series.files if self.source and self.source.series else ():
            paths |= {Path(str(file)), file.folder, Path(file.member)}
        return sorted({str(path.parent / "x")[:-1] for path in paths} - {"", "/"})


@dataclass(frozen=True)
class Cases:
    """What a command works on.

    Attributes:
        own: the cases it does, in the order of their ids.
        elsewhere: the cases that other shards do.
        passed_over: DICOM files that are no scan, each with its reason.
        inputs: where all of it was looked for.
    """

    own: tuple[Case, ...]
    elsewhere: tuple[Case, ...] = ()
    passed_over: tuple[tuple[Path, str], ...] = ()
    inputs: tuple[Path, ...] = ()

    def shard(self, shard: Shard) -> "Cases":
        """Return one shard of these cases; the others know of it."""
        own = tuple(case for index, case in enumerate(self.own) if shard.has(index))
        elsewhere = tuple(case for index, case in enumerate(self.own) if not shard.has(index))
        return replace(self, own=own, elsewhere=elsewhere)


def find_cases(
    inputs: Sequence[Path], *, out: Path | None = None, deidentify: bool = False, notify: Notify = ignore
) -> Cases:
    """Return every scan at the inputs.

    An input that is missing or holds no scan becomes a failed case, named after its path; so does each file or folder
    that cannot be opened, and every scan whose case id stands twice even with the folders above in front: their outputs
    would overwrite each other. The others go on. A scan that is found twice is one case.

    Args:
        inputs: files, series folders, zips, or folders of any number of these.
        out: where outputs go. What lies there is no case; where an input lies there itself, the outputs that
            results.jsonl lists are none.
        deidentify: number cases that are called alike, in the order of their places, where else the folders above,
            which may be called after patients, go in front of their ids.
        notify: hears how many were found.
    """
    sources: list[Source] = []
    refused: list[Case] = []
    passed_over: list[tuple[Path, str]] = []
    for path in inputs:
        try:
            found = look_through(path, notify=notify)
        except MedsegError as error:
            refused.append(Case(_called(path), path, error=error))
            continue
        scans = _no_outputs(found, path, out)
        sources += scans
        refused += [Case(place.name, place, error=error) for place, error in found.refused]
        passed_over += [(Path(name), reason) for name, reason in found.passed_over]
        if not scans and not found.refused:
            nothing = _only_outputs(path, found) or empty(path, found)
            refused.append(Case(_called(path), path, error=nothing, mentioned=_mentioned(found)))
    notify(Progress("find", len(sources), len(sources), message=_passed_over(passed_over)))
    sources = _once(sources)
    if deidentify:
        cases = _numbered([*(Case(source.case_id, source.place, source) for source in sources), *refused])
    else:
        single = _single(tell_apart(sources))
        cases = [*single, *_beside(refused, {case.case_id for case in single})]
    cases.sort(key=lambda case: (case.case_id, str(case.place)))
    return Cases(tuple(cases), passed_over=tuple(passed_over), inputs=tuple(inputs))


def _mentioned(found: Found) -> tuple[Path, ...]:
    """Return the files that were found and are no scans."""
    return (*(Path(name) for name, _ in found.passed_over), *(path for s in found.annotations for path in s.paths))


def _called(path: Path) -> str:
    """Return what a failed input is called: by its name, which `.` and `..` have only once they are looked up."""
    return path.name if path.name not in ("", "..") else path.resolve().name or str(path)


def _once(sources: Sequence[Source]) -> list[Source]:
    """Return the sources without those that inputs name, or hold, again."""
    by_place: dict[tuple[str | Path, ...], Source] = {}
    for source in sources:
        by_place.setdefault((source.case_id, *(path.resolve() for path in source.paths)), source)
    return list(by_place.values())


def _beside(refused: Sequence[Case], taken: set[str]) -> list[Case]:
    """Return failed inputs with ids of their own, added to those taken: a scan's outputs stand under its id."""
    apart: list[Case] = []
    for case in refused:
        case_id = _numbered_id(case.case_id, taken) if case.case_id in taken else case.case_id
        taken.add(case_id)
        apart.append(replace(case, case_id=case_id))
    return apart


def _numbered_id(case_id: str, taken: set[str]) -> str:
    """Return a case id with the first number behind it that makes it one that is not taken."""
    return next(name for n in count(1) if (name := f"{case_id}_{n}") not in taken)


def _numbered(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with ids that differ: those that are called alike get numbers in the order of their places."""
    repeated = duplicate_ids([case.case_id for case in cases])
    taken = {case.case_id for case in cases}
    numbered = []
    for case in sorted(cases, key=lambda case: case.place.parts):
        case_id = case.case_id
        if case_id in repeated:
            case_id = _numbered_id(case_id, taken)
            taken.add(case_id)
        source = case.source and replace(case.source, case_id=case_id)
        numbered.append(replace(case, case_id=case_id, source=source))
    return numbered


def _no_outputs(found: Found, path: Path, out: Path | None) -> list[Source]:
    """Return the scans that are no outputs, by the record where an input lies in the output folder itself."""
    if out is None:
        return found.scans
    if path.resolve().is_relative_to(out.resolve()):
        outputs = _outputs(out)
        return [scan for scan in found.scans if outputs.isdisjoint(file.resolve() for file in scan.paths)]
    return [scan for scan in found.scans if not scan.place.resolve().is_relative_to(out.resolve())]


def _outputs(out: Path) -> set[Path]:
    """Return the files that an output folder's results.jsonl tells of."""
    names: set[str] = set()
    for line in read_lines(out / RESULTS):
        listed = line.get("outputs") if isinstance(line, dict) else None
        names.update(name for name in listed or () if isinstance(name, str))
    return {(out / name).resolve() for name in names}


def _only_outputs(path: Path, found: Found) -> EmptyFolderError | None:
    """Return the error for an input of which nothing is left without the outputs of earlier commands."""
    if not found.scans:
        return None
    return EmptyFolderError(
        f"looking for scans in {path}",
        found=f"its {len(found.scans)} image(s) lie in the output folder, where outputs go",
        remedy="give the scans themselves, or another --out",
    )


def _passed_over(files: Sequence[tuple[Path, str]]) -> str:
    """Return a sentence on DICOM files that are no scans, empty when there are none."""
    if not files:
        return ""
    reasons = Counter(reason for _, reason in files).most_common()
    listed = [f"{count} × {reason}" for reason, count in reasons[:MOST_REASONS]]
    more = f", and {len(reasons) - MOST_REASONS} more reasons" if len(reasons) > MOST_REASONS else ""
    return f"{len(files)} DICOM file(s) are no scans and are passed over: {', '.join(listed)}{more}."


def _single(sources: Sequence[Source]) -> list[Case]:
    """Return a case for each source; those whose id stands twice have failed."""
    repeated = duplicate_ids([source.case_id for source in sources])
    return [
        Case(source.case_id, source.place, None, _collision(source))
        if source.case_id in repeated
        else Case(source.case_id, source.place, source)
        for source in sources
    ]


def _collision(source: Source) -> DuplicateCaseError:
    return DuplicateCaseError(
        f"naming the results of {source.place}",
        found=f"another scan also has the case id {source.case_id!r}, and their results would collide",
        remedy="rename one of them, or predict them into different folders",
    )
