"""Sliding window: a network's patches laid over a whole volume, what it says of them averaged."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.engine import Array, Engine
from medseg.patches.scratch import Scratch
from medseg.patches.slab_sums import SlabSums
from medseg.patches.window_runner import WindowRunner
from medseg.patches.windows import Tiling, windows


@dataclass(frozen=True, eq=False)
class Slab:
    """Planes of a volume that no further window reaches.

    Attributes:
        axis: across which they lie.
        first: the number of the first.
        values: what the network says there, shape (F, I, J, K), of the engine's kind.
    """

    axis: int
    first: int
    values: Array


def slide(engine: Engine, image: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    """Return what a network says of a whole volume.

    Args:
        engine: takes (B, C, *patch) to (B, F, *patch).
        image: prepared intensities, shape (C, I, J, K).
        tiling: how windows are laid.

    Returns:
        float32, shape (F, I, J, K): the average of all windows, each weighted as `tiling` says.
    """
    found = list(slabs(engine, image, tiling))
    return np.concatenate([engine.fetch(slab.values) for slab in found], axis=found[0].axis + 1)


def slabs(
    engine: Engine, image: NDArray[np.float32], tiling: Tiling, *, scratch: Scratch | None = None
) -> Iterator[Slab]:
    """Yield what a network says of a whole volume, as `slide` returns it, in slabs from the first plane to the last.

    Only what windows still to come reach is held, so that memory does not grow with the length of the scan.

    Args:
        engine: takes (B, C, *patch) to (B, F, *patch).
        image: prepared intensities, shape (C, I, J, K).
        tiling: how windows are laid.
        scratch: where windows are added up; left out, in memory.
    """
    sides, patch = image.shape[1:], tiling.patch
    padding = tiling.padding(sides)
    before = [low for low, _ in padding]
    if any(map(any, padding)):
        image = np.pad(image, [(0, 0), *padding], mode="constant" if tiling.edges == "zeros" else "edge")
    batch = max(1, engine.batch_voxels // math.prod(patch))
    sums = SlabSums(engine, image.shape[1:], tiling, batch=batch, scratch=scratch or Scratch())
    inside = [slice(start, start + size) for start, size in zip(before, sides, strict=True)]
    axis = sums.axis
    runner = WindowRunner(engine, engine.load(image), sums, batch=batch, flips=tiling.flips)
    for slab, (first, end) in enumerate(zip(sums.firsts, sums.ends, strict=True)):
        runner.run(windows(sums.row(slab), patch))
        averages = sums.take(slab)
        low, high = max(first, before[axis]), min(end, before[axis] + sides[axis])
        if low < high:
            inside[axis] = slice(low - first, high - first)
            engine.wait()  # or the time that the network takes would be counted as that of what comes next
            yield Slab(axis, low - before[axis], averages[(slice(None), *inside)])
        del averages  # before the next slab is computed
