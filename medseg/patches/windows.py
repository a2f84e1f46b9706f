"""Windows: where a network's patches lie on a volume, and how much each counts there."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides

Box = tuple[slice, slice, slice]
Weighting = Literal["gaussian", "constant"]
Placement = Literal["even", "stepped"]
Edges = Literal["continued", "zeros"]

# The weight falls to its edges as a Gaussian with σ = an eighth of the side (Isensee et al. 2021, Nature Methods,
# online methods), and along no axis below a thousandth, so that a voxel only seen at an edge still counts.
SIGMA, LEAST_WEIGHT = 0.125, 1e-3


@dataclass(frozen=True)
class Tiling:
    """How windows are laid over a volume.

    Attributes:
        patch: the window's shape.
        overlap: of a window with its neighbour, as a fraction in [0, 1).
        flips: axes (0, 1, 2) mirrored at test time; all their combinations are averaged.
        weighting: what of a window counts: most its middle, or all of it alike.
        placement: evenly spread, or stepped as MONAI's.
        edges: what is beyond those of a volume: it goes on as it ends there, or zeros.
        margin: voxels by which a volume at least as large as the window, or filled up to it, is continued on each side,
            but not across slices. What lies at its edges is then seen by more windows, as is all of a small volume:
            the network's answers differ with the place of the window by nearly as much as those of another training.
    """

    patch: Sides
    overlap: float
    flips: tuple[int, ...] = ()
    weighting: Weighting = "gaussian"
    placement: Placement = "even"
    edges: Edges = "continued"
    margin: int = 0

    def padding(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """Return how many voxels a volume is continued by, before and after along each axis."""
        padding = []
        for size, side in zip(shape, self.patch, strict=True):
            margin, lacking = self.margin if side > 1 else 0, max(0, side - size)
            padding.append((lacking // 2 + margin, lacking - lacking // 2 + margin))
        return padding

    def starts(self, shape: Sequence[int]) -> list[list[int]]:
        """Return where windows begin along each axis of a volume."""
        return [
            window_starts(size, side, self.overlap, self.placement)
            for size, side in zip(shape, self.patch, strict=True)
        ]

    def axis(self, shape: Sequence[int]) -> int:
        """Return the axis along which a volume is longest, in windows: slabs across it hold the fewest voxels."""
        return int(np.argmax([size / side for size, side in zip(shape, self.patch, strict=True)]))


def window_starts(size: int, side: int, overlap: float, placement: Placement = "even") -> list[int]:
    """Return where windows of `side` voxels begin along an axis of `size` voxels, neighbours sharing `overlap` or more.

    Evenly spread, the last one at the end; or stepped, each a step further and the last one pushed back into the axis,
    as MONAI's sliding window does.
    """
    if size <= side:
        return [0]
    if placement == "stepped":
        step = max(1, int(side * (1 - overlap)))
        count = math.ceil((size - side) / step) + 1
        return sorted({min(index * step, size - side) for index in range(count)})
    step = max(1, side - math.ceil(side * overlap))
    count = math.ceil((size - side) / step) + 1
    return [round(index * (size - side) / (count - 1)) for index in range(count)]


def windows(starts: Sequence[Sequence[int]], patch: Sides) -> Iterator[Box]:
    """Yield the boxes that begin at every combination of starts along the three axes."""
    for i, j, k in itertools.product(*starts):
        yield slice(i, i + patch[0]), slice(j, j + patch[1]), slice(k, k + patch[2])


def window_shares(starts: Sequence[int], side: int, size: int, weighting: Weighting) -> dict[int, NDArray[np.float32]]:
    """Return by its start what each window's voxels along an axis count, shape (side,).

    The shares of all windows at a voxel sum to 1. Those of a window in the volume are the products of its shares along
    the three axes, and sum to 1 as well, because windows lie at every combination of starts.
    """
    weight = axis_weight(side, weighting)
    total = np.zeros(size)
    for start in starts:
        total[start : start + side] += weight
    return {start: (weight / total[start : start + side]).astype(np.float32) for start in starts}


def axis_weight(side: int, weighting: Weighting) -> NDArray[np.float64]:
    """Return how much each voxel along a window's axis counts, shape (side,), 1 in the middle."""
    if weighting == "constant":
        return np.ones(side)
    at = (np.arange(side) - (side - 1) / 2) / (SIGMA * side)
    return np.asarray(np.exp(-0.5 * at**2).clip(LEAST_WEIGHT))
