"""Sliding window: a network's patches laid over a whole volume, what it says of them averaged."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.engine import Array, Engine
from medseg.patches.scratch import Scratch
from medseg.patches.slab_sums import SlabSums
from medseg.patches.windows import Box, Tiling, windows


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
    before = [max(0, side - size) // 2 for size, side in zip(sides, patch, strict=True)]
    after = [max(0, side - size) - b for size, side, b in zip(sides, patch, before, strict=True)]
    if any(before) or any(after):
        padding = [(0, 0), *zip(before, after, strict=True)]
        image = np.pad(image, padding) if tiling.edges == "zeros" else np.pad(image, padding, mode="edge")
    batch = max(1, engine.batch_voxels // math.prod(patch))
    sums = SlabSums(engine, image.shape[1:], tiling, batch=batch, scratch=scratch or Scratch())
    inside = [slice(start, start + size) for start, size in zip(before, sides, strict=True)]
    axis, loaded = sums.axis, engine.load(image)
    constant: dict[float, Array] = {}
    for slab, (first, end) in enumerate(zip(sums.firsts, sums.ends, strict=True)):
        boxes = list(windows(sums.row(slab), patch))
        for box, values in _windows_run(engine, loaded, boxes, batch, tiling.flips, constant):
            sums.add(box, values)
        averages = sums.take(slab)
        low, high = max(first, before[axis]), min(end, before[axis] + sides[axis])
        if low < high:
            inside[axis] = slice(low - first, high - first)
            yield Slab(axis, low - before[axis], averages[(slice(None), *inside)])


def _windows_run(
    engine: Engine,
    image: Array,
    boxes: Sequence[Box],
    batch: int,
    flips: Sequence[int],
    constant: dict[float, Array],
) -> Iterator[tuple[Box, Array]]:
    """Yield what the network says of each window.

    Of windows that hold one value everywhere, such as air that was cut off at the end of the intensity window, it says
    the same each time, and so it is asked once for each value.
    """
    waiting: list[Box] = []
    for box in boxes:
        window = image[(slice(None), *box)]
        value = engine.constant(window)
        if value is None:
            waiting.append(box)
            if len(waiting) == batch:
                yield from _run(engine, image, waiting, flips)
                waiting = []
            continue
        if value not in constant:
            constant[value] = engine.copy(mirrored(engine, window[None], flips)[0])
        yield box, constant[value]
    yield from _run(engine, image, waiting, flips)


def _run(engine: Engine, image: Array, boxes: Sequence[Box], flips: Sequence[int]) -> Iterator[tuple[Box, Array]]:
    """Yield what the network says of some windows, together, or where memory does not hold them, half at a time."""
    if not boxes:
        return
    try:
        values = mirrored(engine, engine.stack([image[(slice(None), *box)] for box in boxes]), flips)
    except engine.out_of_memory:
        if len(boxes) == 1:
            raise
        half = len(boxes) // 2
        yield from _run(engine, image, boxes[:half], flips)
        yield from _run(engine, image, boxes[half:], flips)
        return
    yield from zip(boxes, values, strict=True)


def mirrored(engine: Engine, batch: Array, flips: Sequence[int]) -> Array:
    """Return what the network says of a batch, averaged over every combination of mirrored axes."""
    combinations = [c for n in range(len(flips) + 1) for c in itertools.combinations(flips, n)]
    plain, *mirrors = combinations
    assert not plain
    values = engine.run(batch)
    if not mirrors:
        return values
    total = engine.copy(values)
    for combination in mirrors:
        axes = [axis + 2 for axis in combination]
        total = total + engine.flip(engine.run(engine.flip(batch, axes)), axes)
    return total / len(combinations)
