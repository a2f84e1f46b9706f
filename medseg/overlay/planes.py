"""Planes: a scan turned so that its slices hang as a radiologist hangs them.

Axial slices are seen from the feet and coronal ones from the front, so the patient's right is on the picture's left;
sagittal ones are seen from the patient's left. Turning permutes and flips axes, and touches no voxel: an oblique scan
keeps its own slices, and the letters at the edges say where they point.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.choose import choose
from medseg.volume import Geometry, LabelMap, Volume, turn

# Where a picture's columns, rows and slices point to: the next column, the next row down, the next slice.
PLANES: dict[str, str] = {"axial": "LPI", "coronal": "LIP", "sagittal": "PIL"}

POSITIVE, NEGATIVE = "RAS", "LPI"
# An edge takes a second letter, as on a scanner's console, when the slice is turned further than this: sin 15°.
SECOND_LETTER = 0.26


class Edges(NamedTuple):
    """The letters at the edges of a picture, such as R, L, A, P; two letters (RA) on an oblique one."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True, eq=False)
class Stack:
    """A scan and its label maps, turned for display in one plane.

    Attributes:
        plane: a key of `PLANES`.
        geometry: the turned grid: its axes are the picture's columns, rows and slices.
        scan: the first channel's intensities, shape (columns, rows, slices); a view, as the label maps are.
        prediction: label ids, same shape.
        reference: label ids, same shape, or None.
    """

    plane: str
    geometry: Geometry
    scan: NDArray[Any]
    prediction: NDArray[Any]
    reference: NDArray[Any] | None

    @classmethod
    def of(cls, volume: Volume, label_map: LabelMap, reference: LabelMap | None, plane: str) -> "Stack":
        """Turn a scan and its label maps.

        Raises:
            UnknownNameError: no such plane.
            GridMismatchError: a label map lies on another grid than the scan.
        """
        geometry = volume.geometry.reorient(choose(PLANES, plane, kind="plane"))
        prediction = label_map.aligned_to(volume.geometry)
        referred = None if reference is None else reference.aligned_to(volume.geometry)
        return cls(
            plane=plane,
            geometry=geometry,
            scan=turn(volume.array[0], source=volume.geometry, target=geometry),
            prediction=turn(prediction.array, source=volume.geometry, target=geometry),
            reference=None if referred is None else turn(referred.array, source=volume.geometry, target=geometry),
        )

    def trim(self, *, columns: int, rows: int) -> "Stack":
        """Return the stack with as many columns and rows left out at either side."""
        across, down, slices = self.geometry.shape
        keep = (slice(columns, across - columns), slice(rows, down - rows))
        return Stack(
            plane=self.plane,
            geometry=self.geometry.crop((columns, rows, 0), (across - columns, down - rows, slices)),
            scan=self.scan[keep],
            prediction=self.prediction[keep],
            reference=None if self.reference is None else self.reference[keep],
        )

    @property
    def aspect(self) -> float:
        """Width over height of a slice in the patient, voxels' outer edges included."""
        columns, rows, _ = self.geometry.shape
        across_mm, down_mm, _ = self.geometry.spacing_mm
        return (columns * across_mm) / (rows * down_mm)

    @property
    def edges(self) -> Edges:
        """The letters at the edges of every slice, read from the affine."""
        across, down = self.geometry.affine[:3, 0], self.geometry.affine[:3, 1]
        return Edges(left=letters(-across), right=letters(across), top=letters(-down), bottom=letters(down))

    def position(self, index: int) -> str:
        """Return where a slice's centre lies along the plane's body axis, in world millimetres: "S 12.5 mm"."""
        columns, rows, _ = self.geometry.shape
        centre = self.geometry.to_world(((columns - 1) / 2, (rows - 1) / 2, index))
        towards = PLANES[self.plane][2]
        axis = (POSITIVE if towards in POSITIVE else NEGATIVE).index(towards)
        mm = round(float(centre[axis]), 1)
        return f"{(POSITIVE if mm >= 0 else NEGATIVE)[axis]} {abs(mm):.1f} mm"


def letters(direction: NDArray[np.float64]) -> str:
    """Return where a world direction points to: "R", or "RA" when it is turned between two axes, the nearer first."""
    unit = direction / np.linalg.norm(direction)
    axes = np.argsort(-np.abs(unit), kind="stable")
    near = [axis for rank, axis in enumerate(axes) if rank == 0 or abs(unit[axis]) > SECOND_LETTER]
    return "".join((POSITIVE if unit[axis] > 0 else NEGATIVE)[axis] for axis in near)
