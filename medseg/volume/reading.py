"""Reading: which source voxels a block of another grid's voxels reads by linear interpolation, and with which weights.

Where the two grids share their axes, each axis reads by itself (`Straight`); where they are at an angle, each voxel of
the block reads the eight around it (`Slanted`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.volume.taps import Taps

# Rounding in headers must not push a grid's own edge outside of it.
EDGE_TOLERANCE_VOXELS = 1e-2

Box = tuple[slice, ...]
Points = tuple[NDArray[np.intp], ...]
# Flat indices of the source voxels that points read, and their weights: both (points, T), the weights sum to 1.
Read = tuple[NDArray[np.intp], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Straight:
    """What a block reads whose axes are those of the source, in the same order; either way along each.

    Attributes:
        axes: the taps along each axis, from the box's first voxel on.
        outside: for each axis, which of the block's positions the source does not reach.
        box: the part of the source that is read.
    """

    axes: tuple[Taps, ...]
    outside: tuple[NDArray[np.bool_], ...]
    box: Box

    @classmethod
    def of(cls, to_source: NDArray[np.float64], shape: Sides, size: Sides) -> "Straight":
        """Return what a block of `shape` reads, its voxels taken to those of a source of `size` by a 4×4 matrix.

        Larger steps than a voxel low-pass.
        """
        steps = to_source.diagonal()[:3]
        positions = [step * np.arange(n) + start for step, n, start in zip(steps, shape, to_source[:3, 3], strict=True)]
        taps = [
            Taps.at(at, n, width=max(1.0, abs(float(step)))) for at, n, step in zip(positions, size, steps, strict=True)
        ]
        box = tuple(slice(int(axis.voxels.min()), int(axis.voxels.max()) + 1) for axis in taps)
        return cls(
            tuple(axis.within(part) for axis, part in zip(taps, box, strict=True)),
            tuple(map(is_outside, positions, size, steps)),
            box,
        )

    @property
    def voxels_read(self) -> int:
        """How many source voxels each voxel of the block reads at most."""
        return math.prod(axis.voxels.shape[1] for axis in self.axes)

    def agreed(self, numbers: NDArray[Any], *, mixed: int) -> NDArray[Any]:
        """Return a number for each voxel of the block: that of all source voxels it reads, or else `mixed`.

        Args:
            numbers: one for each source voxel of the box.
            mixed: a number that stands for several.

        Returns:
            Shape of the block, 0 outside the source.
        """
        for axis in (2, 1, 0):
            first, *others = self.axes[axis].read().T
            agreed = numbers.take(first, axis)
            for voxels in others:
                agreed[agreed != numbers.take(voxels, axis)] = mixed
            numbers = agreed
        for axis, outside in enumerate(self.outside):
            numbers[(slice(None),) * axis + (outside,)] = 0
        return numbers

    def at(self, points: Points) -> Read:
        """Return what some voxels of the block read: flat indices into the box, and weights."""
        taps = [(axis.voxels[at], axis.weights[at]) for axis, at in zip(self.axes, points, strict=True)]
        return _together(taps, [axis.size for axis in self.axes])


@dataclass(frozen=True, eq=False)
class Slanted:
    """What a block reads that is at an angle to the source.

    Attributes:
        first: the lowest of the eight source voxels that each voxel of the block lies between, from the box's first
            voxel on, shape (3, *block).
        beyond: how far beyond it, 0 to 1, the same shape.
        outside: which of the block's voxels the source does not reach.
        box: the part of the source that is read.
    """

    first: NDArray[np.intp]
    beyond: NDArray[np.float32]
    outside: NDArray[np.bool_]
    box: Box

    @classmethod
    def of(cls, to_source: NDArray[np.float64], shape: Sides, size: Sides) -> "Slanted":
        """Return what a block of `shape` reads, its voxels taken to those of a source of `size` by a 4×4 matrix."""
        index = np.indices(shape, np.float64).reshape(3, -1)
        at = (to_source[:3, :3] @ index + to_source[:3, 3:]).reshape(3, *shape)
        outside = np.any(list(map(is_outside, at, size, steps_along(to_source))), axis=0)
        last = np.reshape(size, (3, 1, 1, 1)) - 1
        inner = at.clip(0, last)
        first = np.floor(inner).astype(np.intp)
        low = first.reshape(3, -1).min(axis=1)
        high = first.reshape(3, -1).max(axis=1) + 2
        box = tuple(slice(int(a), int(min(b, n))) for a, b, n in zip(low, high, size, strict=True))
        return cls(first - low.reshape(3, 1, 1, 1), (inner - first).astype(np.float32), outside, box)

    @property
    def voxels_read(self) -> int:
        """How many source voxels each voxel of the block reads at most."""
        return 8

    def agreed(self, numbers: NDArray[Any], *, mixed: int) -> NDArray[Any]:
        """Return a number for each voxel of the block, as `Straight.agreed` does."""
        cells = numbers.copy()
        for axis in range(3):
            lower, upper = (np.moveaxis(cells, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
            lower[lower != upper] = mixed
        agreed = cells[tuple(self.first)]
        agreed[self.outside] = 0
        return np.asarray(agreed)

    def at(self, points: Points) -> Read:
        """Return what some voxels of the block read: flat indices into the box, and weights."""
        sides = [part.stop - part.start for part in self.box]
        taps = []
        for first, beyond, side in zip(self.first, self.beyond, sides, strict=True):
            low, weight = first[points], beyond[points]
            taps.append((np.stack([low, (low + 1).clip(max=side - 1)], 1), np.stack([1 - weight, weight], 1)))
        return _together(taps, sides)


Reading = Straight | Slanted


def is_outside(at: NDArray[np.float64], size: int, step: float) -> NDArray[np.bool_]:
    """Return which voxels of another grid have nothing to do with a source, along one of its axes.

    They lie in no source voxel, and no centre of one lies in them: a thick slice may end beyond the last thin one, and
    still shows it.

    Args:
        at: their centres, in source voxels.
        size: of the source.
        step: their own size along the axis, in source voxels; either sign.
    """
    reach = max(1.0, abs(step)) / 2 + EDGE_TOLERANCE_VOXELS
    return np.asarray((at < -reach) | (at > size - 1 + reach))


def steps_along(to_source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far voxels of another grid reach along each axis of the source, in source voxels, shape (3,)."""
    return np.asarray(np.abs(to_source[:3, :3]).max(axis=1))


def _together(taps: Sequence[Read], sides: Sequence[int]) -> Read:
    """Return what points read in a box, from what they read along each of its axes."""
    (i, by_i), (j, by_j), (k, by_k) = taps
    _, nj, nk = sides
    voxels = (i[:, :, None, None] * nj + j[:, None, :, None]) * nk + k[:, None, None, :]
    weights = by_i[:, :, None, None] * by_j[:, None, :, None] * by_k[:, None, None, :]
    return voxels.reshape(len(voxels), -1), weights.reshape(len(weights), -1)
