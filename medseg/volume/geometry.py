"""Geometry: where the voxels of a scan lie in the patient. A grid without voxels.

A geometry is a shape and an affine. The shape counts voxels along the array axes I, J, K; the affine takes a voxel
index to the world: patient space in millimetres, RAS+ (right, anterior and superior are positive). Reorienting,
changing the spacing, cropping and padding make a new geometry and touch no voxel; the voxels follow with `resample`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.axes import Sides, is_orientation
from medseg.errors import OptionError, SingularAffineError

# Two grids count as one when no corner is further off than this: below any voxel in use, above float32 rounding in
# headers.
TOLERANCE_MM = 0.1
# Axes this far from right angles lean; headers that are rounded to 6 digits stay a thousand times below.
LEANING_DEGREES = 0.1
# DICOM and ITK speak LPS: left and posterior are positive.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid in the patient: shape in voxels, affine from voxel index to world millimetres (RAS+).

    Attributes:
        shape: voxels along the array axes I, J, K.
        affine: 4×4, float64.

    Raises:
        SingularAffineError: the affine is not finite or squeezes space flat.
    """

    shape: Sides
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        finite = bool(np.isfinite(affine).all())
        volume = abs(np.linalg.det(affine[:3, :3])) if finite else 0.0
        if volume <= 1e-6 * float(np.prod(self.spacing_mm)) or not finite:
            raise SingularAffineError(
                "placing the voxels in the patient",
                found=f"the affine {np.round(affine[:3], 4).tolist()} is not finite or squeezes space flat",
                remedy="repair the header's sform or qform, or convert the scan from its DICOM again",
            )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along I, J, K: the column norms of the affine."""
        i, j, k = (float(norm) for norm in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @property
    def orientation(self) -> str:
        """Where each array axis points to, by its nearest world axis, such as "RAS" or "SAR"."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def skew_degrees(self) -> float:
        """How far two of the axes are from a right angle at most, in degrees."""
        directions = self.affine[:3, :3] / self.spacing_mm
        cosines = np.abs((directions.T @ directions)[np.triu_indices(3, 1)]).clip(0, 1)
        return float(np.degrees(np.arcsin(cosines)).max())

    @property
    def leans(self) -> bool:
        """Whether the axes are not at right angles, as those of a tilted gantry's slices are not."""
        return self.skew_degrees > LEANING_DEGREES

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_world(self, points_voxel: ArrayLike) -> NDArray[np.float64]:
        """Take voxel indices, shape (..., 3), to world millimetres."""
        points = np.asarray(points_voxel, np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxel(self, points_world: ArrayLike) -> NDArray[np.float64]:
        """Take world millimetres, shape (..., 3), to (fractional) voxel indices."""
        inverse = np.linalg.inv(self.affine)
        points = np.asarray(points_world, np.float64)
        return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])

    def corners_world(self) -> NDArray[np.float64]:
        """Return the world positions of the eight corner voxels' centres, shape (8, 3)."""
        return self.to_world(np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, 8).T)

    def distance_mm(self, other: "Geometry") -> float:
        """Return how far apart the corners of two grids are at most, in mm; infinite when their shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners_world() - other.corners_world(), axis=1).max())

    def matches(self, other: "Geometry", *, tolerance_mm: float = TOLERANCE_MM) -> bool:
        """Say whether the two are the same grid: one shape, and corners within the tolerance."""
        return self.distance_mm(other) <= tolerance_mm

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Geometry":
        """Return the box of voxels from `start` up to, not including, `stop`; negative starts and far stops pad."""
        affine = np.array(self.affine)
        affine[:3, 3] = self.to_world(start)
        i, j, k = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Geometry((i, j, k), affine)

    def pad(self, before: Sequence[int], after: Sequence[int]) -> "Geometry":
        """Return the grid with voxels added before and after, along each axis."""
        return self.crop([-n for n in before], [n + m for n, m in zip(self.shape, after, strict=True)])

    def reorient(self, orientation: str) -> "Geometry":
        """Return the same grid with its axes permuted and flipped to point to `orientation`, such as "RAS".

        No centre moves: oblique grids stay oblique, and the nearest axis is taken.
        """
        order, signs = self._axes_towards(orientation)
        affine = np.eye(4)
        start = np.zeros(3)
        for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
            affine[:3, new] = self.affine[:3, old] * sign
            start[old] = 0 if sign > 0 else self.shape[old] - 1
        affine[:3, 3] = self.to_world(start)
        i, j, k = (self.shape[old] for old in order)
        return Geometry((i, j, k), affine)

    def _axes_towards(self, orientation: str) -> tuple[list[int], list[int]]:
        """Return for each new axis the old one and its sign."""
        if not is_orientation(orientation):
            raise OptionError(
                f"orientation {orientation!r}",
                found="it must name one of L/R, one of P/A and one of I/S",
                remedy='write for instance "RAS"',
            )
        now = nib.orientations.io_orientation(self.affine)
        wanted = nib.orientations.axcodes2ornt(tuple(orientation))
        moves = nib.orientations.ornt_transform(now, wanted)
        order, signs = [0, 0, 0], [1, 1, 1]
        for old, (new, sign) in enumerate(moves):
            order[int(new)], signs[int(new)] = old, int(sign)
        return order, signs

    def upright(self) -> "Geometry":
        """Return a grid at right angles that covers this one; this one where it does not lean.

        The finest axis keeps its direction, the second is made perpendicular to it within their plane, the third to
        both (Gram–Schmidt). Slices of a tilted gantry so keep their planes, and are shifted along them.
        """
        if not self.leans:
            return self
        directions = np.zeros((3, 3))
        spacing_mm = np.zeros(3)
        for axis in np.argsort(self.spacing_mm, kind="stable"):
            column = self.affine[:3, axis]
            column = column - directions @ (directions.T @ column)
            spacing_mm[axis] = np.linalg.norm(column)
            directions[:, axis] = column / spacing_mm[axis]
        corners = self.corners_world() @ directions / spacing_mm
        low, high = corners.min(axis=0), corners.max(axis=0)
        i, j, k = (int(np.ceil(extent - 1e-6)) + 1 for extent in high - low)
        affine = np.eye(4)
        affine[:3, :3] = directions * spacing_mm
        affine[:3, 3] = affine[:3, :3] @ low
        return Geometry((i, j, k), affine)

    def with_spacing(self, spacing_mm: Sequence[float]) -> "Geometry":
        """Return a grid over the same box with voxels of another size; the first voxel's centre stays where it is.

        Along an axis of n voxels at spacing s the new count is round((n − 1)·s / s′) + 1, as in MONAI's `Spacing`.
        """
        scale = np.asarray(spacing_mm, np.float64) / np.asarray(self.spacing_mm)
        affine = np.array(self.affine)
        affine[:3, :3] *= scale
        i, j, k = (round((n - 1) / f) + 1 for n, f in zip(self.shape, scale, strict=True))
        return Geometry((i, j, k), affine)

    def as_json(self) -> dict[str, Any]:
        """Return shape and affine as plain lists."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Geometry":
        """Build a geometry from what `as_json` returned."""
        i, j, k = value["shape"]
        return cls((i, j, k), np.array(value["affine"]))
