"""Taps: the few voxels of an axis that each position along it reads, and their weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# Weights below this are rounding in affines: what lies on a voxel's centre reads that voxel alone.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, eq=False)
class Taps:
    """What positions along an axis read: T consecutive voxels each.

    Attributes:
        voxels: shape (positions, T).
        weights: the same shape, none negative, rows sum to 1. Some are 0.
        size: voxels of the axis.
    """

    voxels: NDArray[np.intp]
    weights: NDArray[np.float32]
    size: int

    @classmethod
    def at(cls, positions: NDArray[np.float64], size: int, *, width: float = 1.0) -> "Taps":
        """Return the taps of positions along an axis of `size` voxels; those beyond an end read the voxel there.

        The kernel is a triangle that reaches `width` voxels to each side: 1 is linear interpolation, and the step
        between positions, where it is larger, a low pass.
        """
        inner = positions.clip(0, size - 1)
        count = min(size, int(np.ceil(2 * width - LEAST_WEIGHT)))
        first = np.ceil(inner - width + LEAST_WEIGHT).clip(0, size - count).astype(np.intp)
        voxels = first[:, None] + np.arange(count)
        weights = 1.0 - np.abs(inner[:, None] - voxels) / width
        weights[weights < LEAST_WEIGHT] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        return cls(voxels, weights.astype(np.float32), size)

    def within(self, part: slice) -> "Taps":
        """Return the same taps of an axis that begins and ends with the given voxels; none may lie beyond."""
        return Taps(self.voxels - part.start, self.weights, part.stop - part.start)

    def read(self) -> NDArray[np.intp]:
        """Return the voxels that count, shape (positions, T): one of those in the place of each with weight 0."""
        heaviest = np.take_along_axis(self.voxels, self.weights.argmax(axis=1)[:, None], axis=1)
        return np.where(self.weights > 0, self.voxels, heaviest)

    def matrix(self) -> sparse.csr_array:
        """Return the matrix, shape (positions, size), that takes an axis to the positions."""
        return sparse_rows(self.voxels, self.weights, self.size)


def sparse_rows(columns: NDArray[np.integer[Any]], weights: NDArray[np.float32], width: int) -> sparse.csr_array:
    """Return the matrix, shape (rows, width), with these weights in these columns of each row, both (rows, T)."""
    ends = np.arange(len(columns) + 1, dtype=columns.dtype) * columns.shape[1]
    return sparse.csr_array((weights.ravel(), columns.ravel(), ends), shape=(len(columns), width))
