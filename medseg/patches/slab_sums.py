"""Slab sums: what windows say of a volume, added up in slabs of planes that are let go of one after the other."""

import math
from collections.abc import Sequence

import numpy as np

from medseg.engine import Array, Engine
from medseg.patches.scratch import Scratch
from medseg.patches.windows import Box, Tiling, window_shares

# A slab has at least so many planes, where windows are slices: each costs its restoring some milliseconds.
LEAST_PLANES = 16


class SlabSums:
    """Adds up windows, each weighted by its share, so that the sums of a slab are averages once it is complete.

    Args:
        engine: adds.
        shape: of the volume, at least the patch along each axis.
        tiling: how windows are laid on it.
        batch: windows that the network sees at once.
        scratch: makes the arrays.

    Attributes:
        axis: across which the slabs lie.
        firsts: the first plane of each slab.
        ends: the plane after its last.
    """

    def __init__(self, engine: Engine, shape: Sequence[int], tiling: Tiling, *, batch: int, scratch: Scratch) -> None:
        self.axis = tiling.axis(shape)
        starts = tiling.starts(shape)
        self.firsts = _slab_firsts(starts, self.axis, shape[self.axis], tiling.patch[self.axis], batch)
        self.ends = [*self.firsts[1:], shape[self.axis]]
        self._engine, self._shape, self._scratch = engine, tuple(shape), scratch
        self._starts, self._patch = starts, tiling.patch
        self._shares = [
            {start: engine.load(share) for start, share in window_shares(own, side, size, tiling.weighting).items()}
            for own, side, size in zip(starts, tiling.patch, shape, strict=True)
        ]
        self._sums: dict[int, Array] = {}
        self._planned = False

    def row(self, slab: int) -> list[list[int]]:
        """Return along each axis where the windows begin that begin in a slab."""
        own = [start for start in self._starts[self.axis] if self.firsts[slab] <= start < self.ends[slab]]
        return [own if axis == self.axis else starts for axis, starts in enumerate(self._starts)]

    def add(self, box: Box, values: Array) -> None:
        """Add what the network says of a window, shape (F, *patch)."""
        if not self._planned:
            self._plan(len(values))
            self._planned = True
        i, j, k = (share[side.start] for share, side in zip(self._shares, box, strict=True))
        weight = i[:, None, None] * j[:, None] * k
        for slab, (first, end) in enumerate(zip(self.firsts, self.ends, strict=True)):
            low, high = max(box[self.axis].start, first), min(box[self.axis].stop, end)
            if low >= high:
                continue
            if slab not in self._sums:
                sides = [end - first if axis == self.axis else size for axis, size in enumerate(self._shape)]
                self._sums[slab] = self._scratch.zeros(self._engine, (len(values), *sides))
            there, here = list(box), [slice(None)] * 3
            there[self.axis] = slice(low - first, high - first)
            here[self.axis] = slice(low - box[self.axis].start, high - box[self.axis].start)
            self._engine.add(self._sums[slab][(slice(None), *there)], values[(slice(None), *here)], weight[tuple(here)])
        self._scratch.settle()

    def take(self, slab: int) -> Array:
        """Return the averages of a slab, shape (F, ...), all of whose windows were added, and let go of them."""
        return self._sums.pop(slab)

    def leave_device(self) -> bool:
        """Move the sums from the engine's device to the host's memory; say whether that made room there."""
        there = [slab for slab, sums in self._sums.items() if not isinstance(sums, np.ndarray)]
        for slab in there:
            self._sums[slab] = self._engine.fetch(self._sums[slab])
        return bool(there)

    def _plan(self, features: int) -> None:
        """Tell the scratch what is coming."""
        in_plane = features * math.prod(size for axis, size in enumerate(self._shape) if axis != self.axis)
        held = 0
        for slab, first in enumerate(self.firsts):
            if not (begun := self.row(slab)[self.axis]):
                continue
            reached = begun[-1] + self._patch[self.axis]
            open_ = [end for start, end in zip(self.firsts, self.ends, strict=True) if start < reached]
            held = max(held, open_[-1] - first)
        slab_planes = max(end - first for first, end in zip(self.firsts, self.ends, strict=True))
        self._scratch.plan(self._engine, sums=held * in_plane, slab=slab_planes * in_plane)


def _slab_firsts(starts: Sequence[Sequence[int]], axis: int, size: int, side: int, batch: int) -> list[int]:
    """Return the first plane of each slab.

    Slabs begin where windows do, so many together that they fill a batch, and where the last of these end, so that
    nothing is held that none has reached.
    """
    in_plane = math.prod(len(own) for other, own in enumerate(starts) if other != axis)
    groups: list[list[int]] = [[]]
    for start in starts[axis]:
        group = groups[-1]
        if len(group) * in_plane >= batch and start - group[0] >= LEAST_PLANES:
            groups.append([])
        groups[-1].append(start)
    ends = {group[-1] + side for group in groups}
    return sorted({group[0] for group in groups} | {end for end in ends if end < size})
