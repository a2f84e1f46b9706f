"""Sliding window: a network's patches laid over a whole volume, what it says of them averaged."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.engine import Array, Engine

# The weight falls to its edges as a Gaussian with σ = an eighth of the side (Isensee et al. 2021, Nature Methods,
# online methods), and not below a thousandth, so that a voxel only seen at an edge still counts.
SIGMA, LEAST_WEIGHT = 0.125, 1e-3


def slide(
    engine: Engine, image: NDArray[np.float32], *, patch: Sides, overlap: float, flips: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Return what a network says of a whole volume.

    Args:
        engine: takes (B, C, *patch) to (B, F, *patch).
        image: prepared intensities, shape (C, I, J, K).
        patch: the window's shape; smaller volumes are continued as they end at their edges.
        overlap: of a window with its neighbour, as a fraction in [0, 1).
        flips: axes (0, 1, 2) mirrored at test time; all their combinations are averaged.

    Returns:
        float32, shape (F, I, J, K): the average of all windows, each weighted with a Gaussian about its centre.
    """
    sides = np.array(image.shape[1:])
    before = (np.array(patch) - sides).clip(0) // 2
    after = (np.array(patch) - sides).clip(0) - before
    padded = np.pad(image, [(0, 0), *zip(before, after, strict=True)], mode="edge")
    summed = _sum_windows(engine, engine.load(padded), patch=patch, overlap=overlap, flips=flips)
    inside = tuple(slice(int(b), int(b + n)) for b, n in zip(before, sides, strict=True))
    return engine.fetch(summed[(slice(None), *inside)])


def _sum_windows(engine: Engine, image: Array, *, patch: Sides, overlap: float, flips: Sequence[int]) -> Array:
    """Return the weighted average of all windows; the image is at least as large as the patch."""
    weight = engine.load(gaussian_weight(patch))
    weights = engine.zeros(image.shape[1:])
    total: Array | None = None
    for box, values in _windows_run(engine, image, patch=patch, overlap=overlap, flips=flips):
        if total is None:
            total = engine.zeros((values.shape[0], *image.shape[1:]))
        total[(slice(None), *box)] += values * weight
        weights[box] += weight
    assert total is not None
    total /= weights
    return total


Box = tuple[slice, slice, slice]


def _windows_run(
    engine: Engine, image: Array, *, patch: Sides, overlap: float, flips: Sequence[int]
) -> Iterator[tuple[Box, Array]]:
    """Yield what the network says of each window.

    Of windows that hold one value everywhere, such as air that was cut off at the end of the intensity window, it says
    the same each time, and so it is asked once for each value.
    """
    constant: dict[float, Array] = {}
    batch = max(1, engine.batch_voxels // math.prod(patch))
    waiting: list[Box] = []
    for box in windows(image.shape[1:], patch, overlap):
        window = image[(slice(None), *box)]
        value = engine.constant(window)
        if value is None:
            waiting.append(box)
            if len(waiting) == batch:
                yield from _run(engine, image, waiting, flips)
                waiting = []
            continue
        if value not in constant:
            constant[value] = mirrored(engine, window[None], flips)[0]
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
    total: Array | None = None
    for combination in combinations:
        axes = [axis + 2 for axis in combination]
        values = engine.flip(engine.run(engine.flip(batch, axes)), axes) if axes else engine.run(batch)
        total = values if total is None else total + values
    assert total is not None
    return total / len(combinations) if len(combinations) > 1 else total


def windows(shape: Sides, patch: Sides, overlap: float) -> Iterator[Box]:
    """Yield the boxes that cover a grid, evenly spread, neighbours sharing at least `overlap` of a patch."""
    starts = [window_starts(size, side, overlap) for size, side in zip(shape, patch, strict=True)]
    for i, j, k in itertools.product(*starts):
        yield slice(i, i + patch[0]), slice(j, j + patch[1]), slice(k, k + patch[2])


def window_starts(size: int, side: int, overlap: float) -> list[int]:
    """Return where windows of `side` voxels begin along an axis of `size` voxels: evenly, the last one at the end."""
    if size <= side:
        return [0]
    step = max(1, side - math.ceil(side * overlap))
    count = math.ceil((size - side) / step) + 1
    return [round(index * (size - side) / (count - 1)) for index in range(count)]


def gaussian_weight(patch: Sides) -> NDArray[np.float32]:
    """Return how much each voxel of a window counts, shape (*patch), 1 in the middle."""
    weight = np.ones(patch, np.float32)
    for axis, side in enumerate(patch):
        at = (np.arange(side) - (side - 1) / 2) / (SIGMA * side)
        shape = [1, 1, 1]
        shape[axis] = side
        weight = weight * np.exp(-0.5 * at**2).astype(np.float32).reshape(shape)
    return weight.clip(LEAST_WEIGHT)
