"""Outputs: the files that a case becomes, what they are called, and what tells that they are whole."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg.cases import Case, Cases
from medseg.errors import NotASeriesError, OptionError
from medseg.labels import LabelSet
from medseg.overlay import write_overlay
from medseg.predict.case_result import CaseResult
from medseg.predict.formats import FORMATS, Format
from medseg.predict.settings import Settings
from medseg.predict.work import Work, explained
from medseg.remarks import Remark
from medseg.volume import LabelMap, Source

OVERLAYS = "overlays"
# The most that a command can write of a case.
EVERYTHING = Settings(formats=tuple(FORMATS), overlay=True)
# What `atomic.whole` calls a file until it is whole.
TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.(.+)")


def names(case_id: str, settings: Settings) -> list[str]:
    """Return what a case's outputs are called, relative to the output folder."""
    return [
        *(f"{case_id}{FORMATS[name].suffix}" for name in settings.formats),
        *([picture(case_id)] if settings.overlay else []),
    ]


def picture(case_id: str) -> str:
    """Return what the picture of a case is called, relative to the output folder."""
    return f"{OVERLAYS}/{case_id}.png"


def spare_scans(cases: Sequence[Case], folder: Path, settings: Settings) -> None:
    """Refuse a folder in which an output would take the place of a scan.

    Raises:
        OptionError: there is such an output.
    """
    sources = [case.source for case in cases if case.source]
    scans = {path.resolve() for source in sources for path in source.paths}
    for source in sources:
        for name in names(source.case_id, settings):
            if (folder / name).resolve() in scans:
                raise OptionError(
                    f"--out {folder}",
                    found=f"the label map {name} would overwrite the scan of that name",
                    remedy="choose another folder",
                )


def possible_formats(source: Source, settings: Settings) -> tuple[list[Format], list[Remark]]:
    """Return the formats that can be written of a scan, and a remark for each that cannot.

    Raises:
        NotASeriesError: every format asked for refers to a DICOM series, and the scan is none.
    """
    possible = [name for name in settings.formats if source.series or not FORMATS[name].of_series]
    if not possible:
        raise NotASeriesError(
            f"writing {' and '.join(settings.formats)} of {source.place}",
            found="the scan is no DICOM series, and these formats refer to the one they were made from",
            remedy="give the DICOM series, or ask for --format nifti",
        )
    formats = [FORMATS[name] for name in possible]
    left_out = " and no ".join(name for name in settings.formats if name not in possible)
    if not left_out:
        return formats, []
    return formats, [Remark("W_NO_SERIES", f"No {left_out} is written, because the scan is no DICOM series.")]


def write_outputs(work: Work, label_map: LabelMap, labels: LabelSet, folder: Path, *, key: bytes | None) -> None:
    """Write a label map in the formats of its case; when one cannot be written, none is left.

    Raises:
        UnwritableError: no permission or no space.
    """
    assert work.case.source
    result = work.result
    try:
        for form in work.formats:
            output = folder / f"{result.case_id}{form.suffix}"
            form.write(label_map, work.case.source, labels, output, key=key)
            _record(output.name, folder, result)
    except BaseException:
        for name in result.outputs:
            with suppress(OSError):
                (folder / name).unlink()
        result.outputs, result.files = [], {}
        raise


def draw(
    work: Work, label_map: LabelMap, labels: LabelSet, folder: Path, *, window_hu: tuple[float, float] | None
) -> None:
    """Draw a case; a picture that cannot be written is a warning, because the label map is there."""
    assert work.scan
    result = work.result
    name = picture(result.case_id)
    try:
        write_overlay(folder / name, work.scan, label_map, labels, window=window_hu, title=result.case_id)
        _record(name, folder, result)
    except Exception as error:  # whatever it is
        result.warnings.append(explained(error, f"drawing {result.case_id}").as_json())


def _record(name: str, folder: Path, result: CaseResult) -> None:
    result.outputs.append(name)
    result.files[name] = fingerprint(folder / name)


def fingerprint(path: Path) -> dict[str, Any]:
    """Return the size and the SHA-256 of a file, as they stand in results.jsonl."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def remove_stale(earlier: Iterable[CaseResult], cases: Cases, todo: Sequence[Case], folder: Path) -> None:
    """Remove what an earlier command wrote of cases that are about to be done, by its own record.

    A case is known by its id or by its input. Only names that outputs have are believed; a scan always stays, and so do
    the outputs of the other cases.
    """
    ids = {case.case_id for case in todo}
    places = {case.place.resolve() for case in todo}
    others = {case.case_id for case in (*cases.own, *cases.elsewhere)} - ids
    scans = {path.resolve() for case in cases.own if case.source for path in case.source.paths}
    for old in earlier:
        known = old.case_id in ids or Path(old.input).resolve() in places
        if not known or old.case_id in others or Path(old.case_id).name != old.case_id:
            continue
        for name in set(names(old.case_id, EVERYTHING)).intersection(old.outputs):
            if (folder / name).resolve() not in scans:
                with suppress(OSError):
                    (folder / name).unlink()


def unrecorded(earlier: Iterable[CaseResult], cases: Cases, folder: Path) -> list[CaseResult]:
    """Return what an earlier command says of cases that are not among these, and whose outputs lie in the folder."""
    ours = {case.case_id for case in (*cases.own, *cases.elsewhere)}
    return [
        old for old in earlier if old.case_id not in ours and any((folder / name).is_file() for name in old.outputs)
    ]


def remove_leftovers(folder: Path, outputs: Iterable[str]) -> None:
    """Remove the temporaries that a killed command left of these outputs; those of other commands stay."""
    ours = {folder / name for name in outputs}
    for place in {path.parent for path in ours}:
        for path in place.glob(".*"):
            match = TEMPORARY.fullmatch(path.name)
            if match and place / match[1] in ours:
                with suppress(OSError):
                    path.unlink()
