"""Sort DICOM files into series: by their UID and by their geometry, whatever the files are called."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.progress import Notify, Progress, ignore
from medseg.remarks import Remark
from medseg.volume.dicom.series import Series
from medseg.volume.dicom.slices import PHASES, Header, Slice, read_headers, stored_voxels
from medseg.volume.dicom.stored import StoredFile

# Directions within this of each other, per component, are one orientation (0.06°); scanners round to 6 digits.
DIRECTION_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3
# Slices nearer than this lie at one position.
POSITION_TOLERANCE_MM = 0.01
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

    Slices belong together that share the series UID, the frame of reference, the size, the spacing and the
    orientation, and lie in one folder (`join` brings a series together that lies in several). A stack at positions
    that repeat is divided by what tells its repetitions apart: acquisition, echo, phase, b-value… A lone slice of a
    series that has a larger stack is passed over: it is a scout.
    """
    headers = []
    for done, header in enumerate(read_headers(files), start=1):
        headers.append(header)
        if done % FILES_PER_NOTE == 0:
            notify(Progress("find", done, len(files), note="DICOM files"))
    of_kind = {kind: [h for h in headers if h.kind == kind] for kind in ("segmentation", "structures", "other")}
    slices = [slice_ for header in headers for slice_ in header.slices]
    faults = [header for header in headers if header.kind in ("damaged", "unplaced")]
    found: list[Series] = []
    scouts: list[Header] = []
    for of_series in _by_series(slices).values():
        stacks = [stack for part in _by_geometry(of_series) for stack in _by_phase(part)]
        largest = max(len(stack.slices) for stack in stacks)
        kept = [stack for stack in stacks if len(stack.slices) > 1 or largest == 1]
        found += _remarked(kept, of_series)
        scouts += [
            Header(stack.slices[0].file, "other", stack.uid, reason="a lone slice off the stack of its series")
            for stack in stacks
            if stack not in kept
        ]
    found = _with_faults(found, faults)
    annotations = (*of_kind["segmentation"], *of_kind["structures"])
    return Sorted(tuple(sorted(found, key=_order)), annotations, (*of_kind["other"], *scouts))


def join(series: Sequence[Series]) -> list[Series]:
    """Bring together what exports have spread over several folders.

    Parts join when they have one series UID and one geometry, and no position is in two of them: copies of a series
    stay cases of their own.
    """
    joined: list[Series] = []
    for part in series:
        for index, other in enumerate(joined):
            if _continues(other, part):
                joined[index] = Series(
                    _ordered([*other.slices, *part.slices]),
                    (*other.faults, *part.faults),
                    (*other.remarks, *part.remarks),
                )
                break
        else:
            joined.append(part)
    return joined


def _continues(one: Series, other: Series) -> bool:
    if not (one.uid and one.uid == other.uid and one.slices and other.slices):
        return False
    if one.slices[0].study != other.slices[0].study or not _same_geometry(one.slices[0], other.slices[0]):
        return False
    return len(_by_position([*one.slices, *other.slices])) == len(one.slices) + len(other.slices)


def _by_series(slices: Sequence[Slice]) -> dict[tuple[Path, str, str], list[Slice]]:
    groups: dict[tuple[Path, str, str], list[Slice]] = {}
    for slice_ in slices:
        groups.setdefault((slice_.file.folder, slice_.study, slice_.series), []).append(slice_)
    return groups


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    parts: list[list[Slice]] = []
    for slice_ in slices:
        part = next((part for part in parts if _same_geometry(part[0], slice_)), None)
        if part is None:
            parts.append(part := [])
        part.append(slice_)
    return parts


def _same_geometry(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and one.frame_of_reference == other.frame_of_reference
        and one.modality == other.modality
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
    """Leave out files that have the voxels of another at the same position."""
    kept: list[Slice] = []
    copies: list[Slice] = []
    for place in _by_position(slices):
        seen: set[bytes] = set()
        for slice_ in place:
            voxels = b"" if len(place) == 1 or slice_.frame is not None else stored_voxels(slice_.file)
            (copies if voxels and voxels in seen else kept).append(slice_)
            seen.add(voxels)
    if not copies:
        return kept, ()
    names = ", ".join(slice_.file.name for slice_ in copies[:3]) + ("…" if len(copies) > 3 else "")
    text = f"{len(copies)} file(s) are copies of other slices and were left out ({names})."
    return kept, (Remark("W_SAME_SLICE_TWICE", text),)


def _remarked(stacks: list[Series], slices: Sequence[Slice]) -> list[Series]:
    """Add to each stack of a series that it is not the only one."""
    if len(stacks) < 2:
        return stacks
    uid = slices[0].series or "without a UID"
    text = f"The series {uid} holds {len(stacks)} stacks of slices; this is the one of {{}} slices at {{}}."
    return [
        replace(
            stack,
            remarks=(
                *stack.remarks,
                Remark("W_SERIES_SPLIT", text.format(len(stack.slices), stack.slices[0].file.name)),
            ),
        )
        for stack in stacks
    ]


def _with_faults(series: list[Series], faults: Sequence[Header]) -> list[Series]:
    """Give each faulty file to the series it belongs to, so that reading that series fails and names it.

    A file that is too damaged to tell its series belongs to every series of its folder; where there is none, it is a
    series of its own.
    """
    for folder in sorted({fault.file.folder for fault in faults}):
        here = [fault for fault in faults if fault.file.folder == folder]
        near = [index for index, stack in enumerate(series) if stack.files[0].folder == folder]
        uids = {series[index].uid for index in near}
        orphans: dict[str, list[Header]] = {}
        for fault in here:
            if not near or (fault.series and fault.series not in uids):
                orphans.setdefault(fault.series, []).append(fault)
                continue
            for index in near:
                if not fault.series or series[index].uid == fault.series:
                    series[index] = replace(series[index], faults=(*series[index].faults, fault))
        series = [*series, *(Series((), tuple(files)) for files in orphans.values())]
    return series


def _order(series: Series) -> tuple[Path, int, str, StoredFile]:
    first = series.slices[0] if series.slices else None
    number = first.series_number if first and first.series_number is not None else 0
    return series.files[0].folder, number, series.uid, series.files[0]
