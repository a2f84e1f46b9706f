"""Sort DICOM files into series: by their UID and by their geometry, whatever the files are called."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.progress import Notify, Progress, ignore
from medseg.remarks import Remark
from medseg.volume.dicom.series import FAULTS, Series
from medseg.volume.dicom.slices import PHASES, Header, Slice, read_headers, stored_voxels
from medseg.volume.dicom.stored import StoredFile

# Directions within this of each other, per component, are one orientation (0.06°); scanners round to 6 digits.
DIRECTION_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3
# Slices nearer than this lie at one position.
POSITION_TOLERANCE_MM = 0.01
# The cosine of 5°: a lone slice that is less tilted against a stack may be one of it.
NEARLY = 0.996
# Reading a header takes 0.3 ms.
FILES_PER_NOTE = 1000


@dataclass(frozen=True)
class Sorted:
    """What the DICOM files of one place are.

    Attributes:
        series: the stacks of slices.
        annotations: DICOM SEG and RTSTRUCT files.
        passed_over: the others: localizers, dose reports, screenshots…, each with its reason.
    """

    series: tuple[Series, ...]
    annotations: tuple[Header, ...]
    passed_over: tuple[Header, ...]


def sort_files(files: Sequence[StoredFile], *, notify: Notify = ignore) -> Sorted:
    """Sort DICOM files into series.

    Slices belong together that share patient, series UID, frame of reference, size, spacing and orientation, in
    whatever folders an export has put them; a copy of a series in another folder stays a series of its own. A stack at
    positions that repeat is divided by what tells its repetitions apart: acquisition, echo, phase, b-value… A lone
    slice of a series that has a larger stack is passed over: it is a scout, or a warning says that it may not be.
    """
    headers = []
    for done, header in enumerate(read_headers(files), start=1):
        headers.append(header)
        if done % FILES_PER_NOTE == 0:
            notify(Progress("find", done, len(files), note="DICOM files"))
    of_kind = {kind: [h for h in headers if h.kind == kind] for kind in ("segmentation", "structures", "other")}
    slices = [slice_ for header in headers for slice_ in header.slices]
    found: list[Series] = []
    scouts: list[Header] = []
    for of_series in _by_series(slices):
        stacks = [stack for part in _by_geometry(of_series) for stack in _by_phase(part)]
        largest = max(len(stack.slices) for stack in stacks)
        kept = [stack for stack in stacks if len(stack.slices) > 1 or largest == 1]
        lone = [stack.slices[0] for stack in stacks if stack not in kept]
        found += _remarked(kept, lone)
        reason = "a lone slice off the stack of its series"
        scouts += [Header(slice_.file, "other", slice_.series, reason=reason) for slice_ in lone]
    found = _with_faults(found, [header for header in headers if header.kind in FAULTS])
    annotations = (*of_kind["segmentation"], *of_kind["structures"])
    return Sorted(tuple(sorted(found, key=_order)), annotations, (*of_kind["other"], *scouts))


def _by_series(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices of each series.

    What lies in several folders is one series as long as no instance is in two of them.
    """
    in_folders: dict[tuple[str, str, Path], list[Slice]] = {}
    for slice_ in slices:
        in_folders.setdefault((slice_.patient, slice_.series, slice_.file.folder), []).append(slice_)
    whole: dict[tuple[str, str], list[tuple[list[Slice], set[str]]]] = {}
    lone: list[list[Slice]] = []
    for (patient, series, _), part in in_folders.items():
        instances = {slice_.sop_instance for slice_ in part}
        if not series or "" in instances:
            lone.append(part)
            continue
        others = whole.setdefault((patient, series), [])
        for known, seen in others:
            if seen.isdisjoint(instances):
                known += part
                seen |= instances
                break
        else:
            others.append((part, instances))
    return [*lone, *(known for others in whole.values() for known, _ in others)]


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    parts: list[list[Slice]] = []
    for slice_ in slices:
        part = next((part for part in parts if _same_geometry(part[0], slice_)), None)
        if part is None:
            parts.append(part := [])
        part.append(slice_)
    return parts


def _same_geometry(one: Slice, other: Slice) -> bool:
    frames = {one.frame_of_reference, other.frame_of_reference} - {""}
    return (
        one.shape == other.shape
        and len(frames) < 2
        and one.modality == other.modality
        and one.phases.get("StackID") == other.phases.get("StackID")
        and bool(np.abs(np.subtract(one.spacing_mm, other.spacing_mm)).max() <= SPACING_TOLERANCE_MM)
        and bool(np.abs(one.orientation - other.orientation).max() <= DIRECTION_TOLERANCE)
    )


def _by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices in order along their normal, those at one position together."""
    places: list[list[Slice]] = []
    for slice_ in _ordered(slices):
        if places and np.linalg.norm(places[-1][0].position - slice_.position) <= POSITION_TOLERANCE_MM:
            places[-1].append(slice_)
        else:
            places.append([slice_])
    return places


def _ordered(slices: Sequence[Slice]) -> tuple[Slice, ...]:
    normal = slices[0].normal
    return tuple(sorted(slices, key=lambda slice_: (float(slice_.position @ normal), slice_.file, slice_.frame or 0)))


def _by_phase(slices: Sequence[Slice]) -> list[Series]:
    """Return the stacks of slices that share a geometry; one, unless positions repeat."""
    kept, remarks = _without_copies(slices)
    if len(_by_position(kept)) == len(kept):
        return [Series(_ordered(kept), remarks=remarks)]
    for phase in PHASES:
        stacks: dict[str, list[Slice]] = {}
        for slice_ in kept:
            stacks.setdefault(slice_.phases.get(phase, ""), []).append(slice_)
        if len(stacks) > 1 and all(len(_by_position(stack)) == len(stack) > 1 for stack in stacks.values()):
            return [Series(_ordered(stack), remarks=remarks) for stack in stacks.values()]
    return [Series(_ordered(kept), remarks=remarks)]


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[Remark, ...]]:
    """Leave out files that are a copy of another at the same position: the same phase, and the same voxels."""
    kept: list[Slice] = []
    copies: list[Slice] = []
    for place in _by_position(slices):
        seen: set[tuple[object, ...]] = set()
        for slice_ in place:
            voxels = b"" if len(place) == 1 or slice_.frame is not None else stored_voxels(slice_.file)
            content = (voxels, *sorted(slice_.phases.items()))
            (copies if voxels and content in seen else kept).append(slice_)
            seen.add(content)
    if not copies:
        return kept, ()
    names = ", ".join(slice_.file.name for slice_ in copies[:3]) + ("…" if len(copies) > 3 else "")
    text = f"{len(copies)} file(s) are copies of other slices and were left out ({names})."
    return kept, (Remark("W_SAME_SLICE_TWICE", text),)


def _remarked(stacks: Sequence[Series], lone: Sequence[Slice]) -> list[Series]:
    """Add to each stack of a series what else the series holds: other stacks, and slices that may be the stack's."""
    remarked = []
    for stack in stacks:
        first, remarks = stack.slices[0], list(stack.remarks)
        if len(stacks) > 1:
            text = f"The series holds {len(stacks)} stacks of slices; this is the one of"
            remarks.append(Remark("W_SERIES_SPLIT", f"{text} {len(stack.slices)} slices at {first.file.name}."))
        near = [slice_ for slice_ in lone if slice_.shape == first.shape and slice_.normal @ first.normal > NEARLY]
        if near:
            text = (
                f"{near[0].file.name} faces nearly as the {len(stack.slices)} slices used, and was left out. Check that"
            )
            remarks.append(Remark("W_SLICE_LEFT_OUT", f"{text} its orientation and spacing are right."))
        remarked.append(replace(stack, remarks=tuple(remarks)))
    return remarked


def _with_faults(series: list[Series], faults: Sequence[Header]) -> list[Series]:
    """Give each faulty file to the series it belongs to, so that reading that series fails and names it.

    A file that is too damaged to tell its series is taken for one of the only series in its folder; where there are
    several, or none, it is a series of its own.
    """
    orphans: dict[tuple[Path, str], list[Header]] = {}
    for fault in faults:
        near = [n for n, stack in enumerate(series) if any(file.folder == fault.file.folder for file in stack.files)]
        owners = [n for n in near if series[n].uid == fault.series] if fault.series else near
        if not owners or (not fault.series and len(near) > 1):
            orphans.setdefault((fault.file.folder, fault.series), []).append(fault)
            continue
        for n in owners:
            series[n] = replace(series[n], faults=(*series[n].faults, fault))
    return [*series, *(Series((), tuple(files)) for files in orphans.values())]


def _order(series: Series) -> tuple[Path, int, str, StoredFile]:
    first = series.slices[0] if series.slices else None
    number = first.series_number if first and first.series_number is not None else 0
    return series.files[0].folder, number, series.uid, series.files[0]
