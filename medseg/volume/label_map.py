"""LabelMap: an id for every voxel of a grid, 0 where there is nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DimensionError, FractionalLabelError, GridMismatchError, UnknownLabelError
from medseg.labels import LabelSet
from medseg.volume.geometry import TOLERANCE_MM, Geometry
from medseg.volume.turn import turn

COUNTED_AT_ONCE = 2**18


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Label ids and the grid they lie on.

    Attributes:
        array: unsigned integers, shape (I, J, K), 0 is background. Floats that hold whole numbers are converted.
        geometry: the grid.

    Raises:
        FractionalLabelError: values that are no whole numbers, not finite, negative or above 65535.
    """

    array: NDArray[np.unsignedinteger[Any]]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise DimensionError(
                "making a label map",
                found=f"an array of shape {self.array.shape} for a grid of {self.geometry.shape}",
                remedy="give one id per voxel",
            )
        object.__setattr__(self, "array", _whole_numbers(self.array))

    def ids(self) -> set[int]:
        """Return the ids that occur, background included."""
        return {int(id_) for id_ in np.flatnonzero(self.counts())}

    def counts(self) -> NDArray[np.int64]:
        """Return how many voxels have each id, from 0 up to the highest that occurs.

        Part by part, because counting a whole scan at once takes eight bytes a voxel, and in the order of the memory.
        """
        counts = np.zeros(int(self.array.max(initial=0)) + 1, np.int64)
        voxels = self.array.ravel(order="K")
        for start in range(0, len(voxels), COUNTED_AT_ONCE):
            counts += np.bincount(voxels[start : start + COUNTED_AT_ONCE], minlength=len(counts))
        return counts

    def check_ids(self, labels: LabelSet) -> None:
        """Raise UnknownLabelError when an id occurs that the label set does not know."""
        unknown = sorted(self.ids() - labels.known_ids)
        if unknown:
            raise UnknownLabelError(
                "reading the label map",
                found=f"it holds {listed(unknown)}, but the labels are {listed(sorted(labels.known_ids))}",
                remedy="it looks like the mask of a picture, 0 and 255: save 1 for 255"
                if unknown == [255]
                else "name the ids in the manifest (labels, ignore, labels_present), or remove them from the label map",
            )

    def aligned_to(self, geometry: Geometry) -> "LabelMap":
        """Return this label map on another grid that has the same voxels, its axes permuted or flipped to that order.

        Tools write label maps in the order they like; no voxel moves and none is interpolated.

        Raises:
            GridMismatchError: the two grids are not the same voxels, within the tolerance.
        """
        turned = self.geometry.reorient(geometry.orientation)
        if self.geometry.matches(geometry) or not turned.matches(geometry):
            self.check_grid(geometry)
            return self
        return LabelMap(turn(self.array, source=self.geometry, target=turned), turned)

    def check_grid(self, geometry: Geometry, *, tolerance_mm: float = TOLERANCE_MM) -> None:
        """Raise GridMismatchError when the label map does not lie on this grid, saying by how much."""
        distance = self.geometry.distance_mm(geometry)
        if distance <= tolerance_mm:
            return
        found = (
            f"its shape is {self.geometry.shape}, the image's {geometry.shape}"
            if self.geometry.shape != geometry.shape
            else f"its corners lie {distance:.2f} mm from the image's (at most {tolerance_mm} mm is allowed)"
        )
        raise GridMismatchError(
            "laying the label map over its image",
            found=found,
            remedy="resample the label map onto the image, or pair it with the image it was drawn on",
        )


def listed(values: Sequence[object], most: int = 12) -> str:
    """Return ids or names for a sentence, shortened when there are many."""
    return ", ".join(map(str, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")


def _whole_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return the ids in the smallest unsigned type that holds them."""
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    fits = bool(low >= 0 and high <= 65535)
    ids = array.astype(np.uint8 if high <= 255 else np.uint16) if fits else None
    if ids is None or not np.array_equal(ids, array):
        raise FractionalLabelError(
            "reading the label map",
            found=f"values from {low:g} to {high:g}, not all of them whole numbers from 0 to 65535",
            remedy="save it as integers; a map of probabilities has to be turned into labels first",
        )
    return ids
