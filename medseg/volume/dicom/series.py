"""Series: the slices of one stack in order, the grid they make up, and what is odd about them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medseg.errors import (
    CorruptFileError,
    DimensionError,
    DoubleSliceError,
    MedsegError,
    MissingSliceError,
    NoAffineError,
    SliceSpacingError,
)
from medseg.remarks import Remark
from medseg.volume.dicom.slices import Header, Slice, Vector
from medseg.volume.dicom.stored import StoredFile
from medseg.volume.geometry import LPS_TO_RAS, Geometry
from medseg.volume.plausible import check_size

# Why a file of a series cannot be used: the kind of its header → its error, and how that goes on after the file's name.
FAULTS: dict[str, tuple[type[MedsegError], str]] = {
    "damaged": (CorruptFileError, "is damaged: "),
    "colour": (DimensionError, "holds "),
    "unplaced": (NoAffineError, "cannot be placed: "),
}
# How far a slice may lie from where its neighbours put it; scanners round positions to about 0.01 mm.
UNEVEN_TOLERANCE_MM = 0.1
# Thin slices allow less.
UNEVEN_TOLERANCE_SHARE = 0.25
# The spacing of a slice that stands alone and tells no thickness.
LONE_SLICE_MM = 1.0


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the slices of a series lie.

    Attributes:
        geometry: the scan's grid: I counts columns, J rows, K slices along the normal. A tilted gantry's grid leans.
        planes: for each slice its K; a K that no slice has is a missing slice.
        remarks: what is odd.
    """

    geometry: Geometry
    planes: tuple[int, ...]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """One stack of slices.

    Attributes:
        slices: in order along the slice normal; all of one size, orientation and pixel spacing.
        faults: files of the series that cannot be used: damaged, in colour, or without a place in the patient.
        remarks: what was noticed when the files were sorted.
    """

    slices: tuple[Slice, ...]
    faults: tuple[Header, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @cached_property
    def files(self) -> tuple[StoredFile, ...]:
        """The files, in the order of the slices; each once, and the faulty ones last."""
        return tuple(dict.fromkeys([*(s.file for s in self.slices), *(h.file for h in self.faults)]))

    @property
    def uid(self) -> str:
        """The series instance UID; empty where the files name none."""
        return self.slices[0].series if self.slices else self.faults[0].series

    def layout(self, *, allow_gaps: bool = False) -> Layout:
        """Return the grid of the slices.

        Args:
            allow_gaps: whether slices may be missing between the first and the last; no more than there are.

        Raises:
            CorruptFileError: a file of the series is damaged.
            DimensionError: one is in colour.
            NoAffineError: a slice does not say where it lies.
            DoubleSliceError: different slices lie at one position.
            MissingSliceError: slices are missing, and gaps are not allowed; the message names their positions.
            SliceSpacingError: slices are spaced unevenly.
            SizeError: they reach further than any body.
        """
        self._check_faults()
        first = self.slices[0]
        positions = np.array([slice_.position for slice_ in self.slices])
        gaps = np.array([1]) if len(positions) == 1 else self._gaps(positions)
        planes = tuple(int(k) for k in (0, *np.cumsum(gaps)))[: len(positions)]
        if planes[-1] > 0:
            step = (positions[-1] - positions[0]) / planes[-1]
        else:
            step = first.normal * (first.thickness_mm or LONE_SLICE_MM)
        lps = np.eye(4)
        lps[:3, 0] = first.orientation[0] * first.spacing_mm[1]
        lps[:3, 1] = first.orientation[1] * first.spacing_mm[0]
        lps[:3, 2] = step
        lps[:3, 3] = positions[0]
        rows, columns = first.shape
        geometry = Geometry((columns, rows, planes[-1] + 1), LPS_TO_RAS @ lps)
        check_size(geometry)
        missing = sorted(set(range(planes[-1] + 1)) - set(planes))
        if missing and not (allow_gaps and len(missing) <= len(planes)):
            fill = ", or fill them from their neighbours with --allow-gaps" if len(missing) <= len(planes) else ""
            raise MissingSliceError(
                f"reading {self}",
                found=f"{len(missing)} slice(s) are missing, at {_listed(positions[0] + step * k for k in missing)}",
                remedy=f"export the complete series again{fill}",
            )
        return Layout(geometry, planes, (*self.remarks, *_remarks(len(missing), geometry)))

    def _check_faults(self) -> None:
        if not self.faults:
            return
        fault = self.faults[0]
        more = f"; so are {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
        kind, what = FAULTS[fault.kind]
        raise kind(
            f"reading {self}",
            found=f"its slice {fault.file.name} {what}{fault.reason}{more}",
            remedy="export the series again from its archive",
        )

    def _gaps(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many slice spacings lie between each slice and the next: 1, or more where slices are missing."""
        steps = np.diff(positions, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        usual = steps[np.argsort(lengths)[(len(lengths) - 1) // 2]]
        usual_mm = float(np.linalg.norm(usual))
        tolerance = min(UNEVEN_TOLERANCE_MM, UNEVEN_TOLERANCE_SHARE * usual_mm)
        doubled = np.flatnonzero(lengths <= tolerance)
        if len(doubled):
            pair = [self.slices[int(doubled[0]) + n] for n in (0, 1)]
            raise DoubleSliceError(
                f"reading {self}",
                found=f"{' and '.join(_named(slice_) for slice_ in pair)} lie at one position and differ"
                + (f", and {len(doubled) - 1} more pairs" if len(doubled) > 1 else ""),
                remedy="keep one of the two acquisitions in the folder, or export the series again from its archive",
            )
        gaps = np.rint(lengths / usual_mm).astype(np.int64).clip(1)
        off = np.linalg.norm(steps - gaps[:, None] * usual, axis=1)
        worst = int(off.argmax())
        if off[worst] > tolerance:
            raise SliceSpacingError(
                f"reading {self}",
                found=f"slices {_named(self.slices[worst])} and {_named(self.slices[worst + 1])} lie "
                f"{lengths[worst]:.2f} mm apart where {usual_mm:.2f} mm is usual, {off[worst]:.2f} mm off a whole step",
                remedy="export the series again from its archive, or have it reconstructed with even slices",
            )
        return np.asarray(gaps)

    def __str__(self) -> str:
        folders = sorted({str(file.folder) for file in self.files})
        return f"the DICOM series in {folders[0]}" + (f" and {len(folders) - 1} more" if len(folders) > 1 else "")


def _remarks(missing: int, geometry: Geometry) -> list[Remark]:
    remarks = []
    if missing:
        remarks.append(
            Remark("W_SLICES_FILLED", f"{missing} missing slice(s) were filled from their neighbours, as allowed.")
        )
    if geometry.leans:
        remarks.append(
            Remark(
                "W_TILTED",
                f"The slices lean by {geometry.skew_degrees:.1f}°, as a tilted gantry makes them. They are "
                "straightened for the network, and the result lies on the original slices.",
            )
        )
    return remarks


def _named(slice_: Slice) -> str:
    return slice_.file.name if slice_.frame is None else f"frame {slice_.frame + 1} of {slice_.file.name}"


def _listed(points: Iterable[Vector]) -> str:
    """Return positions in LPS for a sentence, in RAS as everywhere else, shortened when there are many."""
    texts = ["(" + ", ".join(f"{x:.2f}" for x in LPS_TO_RAS[:3, :3] @ point) + ")" for point in points]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "") + " mm (RAS)"
