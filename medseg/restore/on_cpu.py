"""Restore on the CPU: the classes of a grid's voxels from values on the prepared grid.

An interpolated value is an average of the prepared voxels that it reads, so a class that wins at all of these wins
between them too, whatever the weights. Logits are therefore interpolated only where the classes of these voxels differ,
at the borders; elsewhere the class is known beforehand.

The grid is filled block by block, so that memory grows neither with it nor with the classes.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.processor import cores
from medseg.restore.decision import Decision
from medseg.volume.reading import Box, Points, Reading, Slanted, Straight
from medseg.volume.resample import blur
from medseg.volume.taps import sparse_rows

# Voxels of the scan, or of the prepared grid where that is finer, in a block: some 10 bytes each, 10 MB a thread.
BLOCK_VOXELS = 2**20
# At an angle to the prepared grid each voxel has a place of its own, 100 bytes that stay in the processor's cache.
SLANTED_VOXELS = 2**15
# Values of all channels that are blurred at a time before shrinking at an angle (float32: 4 MB, and its margins).
BLURRED_VALUES = 2**20
# Values read for borders at a time, before and after they are put in order (float32: 2 × 8 MB).
BORDER_VALUES = 2**21
# Prepared voxels whose class is taken at once: they stay in the processor's cache.
CLASS_VOXELS = 2**15
# Blocks that are filled at once: memory grows with them, and memory bandwidth ends soon.
MOST_THREADS = 4
# Standard deviations to which a Gaussian reaches.
TRUNCATE = 4.0


def fill(
    home: NDArray[Any],
    values: NDArray[Any],
    to_source: NDArray[np.float64],
    *,
    decide: Decision,
    id_of: NDArray[Any],
    straight: bool,
) -> None:
    """Fill a grid with the ids that values mean there.

    Args:
        home: the grid's ids, shape (A, B, C), filled in place.
        values: shape (F, I, J, K), of any float type, best in C order.
        to_source: takes the grid's voxels to those of the values, 4×4.
        decide: takes values to classes.
        id_of: the id of each class.
        straight: whether the two grids share their axes, in the same order.
    """
    values = np.ascontiguousarray(values)
    size = (values.shape[1], values.shape[2], values.shape[3])
    sigma = np.zeros(3) if straight else blur(to_source)

    def fill_block(box: Box) -> None:
        block = home[box]
        start = np.eye(4)
        start[:3, 3] = [side.start for side in box]
        if straight:
            numbers = _classes(values, Straight.of(to_source @ start, block.shape, size), decide)
        else:
            numbers = _classes(*_blurred(values, Slanted.of(to_source @ start, block.shape, size), sigma), decide)
        block[...] = id_of[numbers]

    boxes = list(_blocks(home.shape, _block_voxels(to_source, len(values), straight=straight)))
    with ThreadPoolExecutor(max(1, min(cores(), MOST_THREADS, len(boxes)))) as threads:
        for _ in threads.map(fill_block, boxes):
            pass


def _blocks(shape: Sides, most: int) -> Iterator[Box]:
    """Yield boxes of nearly equal sides, of no more than so many voxels, that fill a grid."""
    parts = [1, 1, 1]
    while True:
        sides = [math.ceil(n / m) for n, m in zip(shape, parts, strict=True)]
        longest = int(np.argmax(sides))
        if math.prod(sides) <= most or sides[longest] <= 1:
            break
        parts[longest] *= 2
    for starts in product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True))):
        yield tuple(slice(a, min(a + side, n)) for a, side, n in zip(starts, sides, shape, strict=True))


def _block_voxels(to_source: NDArray[np.float64], channels: int, *, straight: bool) -> int:
    """Return how many voxels of the scan a block may have."""
    source_voxels = float(np.linalg.norm(to_source[:3, :3], axis=0).clip(1).prod())
    if straight:
        return int(BLOCK_VOXELS / source_voxels)
    if blur(to_source).any():
        return int(BLURRED_VALUES / source_voxels / channels)
    return int(SLANTED_VOXELS / source_voxels)


def _classes(values: NDArray[Any], reading: Reading, decide: Decision) -> NDArray[Any]:
    """Return the number of the class of each voxel of a block, as `decide` counts them; 0 outside the source.

    Args:
        values: on the source grid, shape (C, ...).
        reading: what the block reads.
        decide: takes values to classes.
    """
    mixed = np.iinfo(decide.kind).max
    numbers = reading.agreed(_on_grid(values[(slice(None), *reading.box)], decide), mixed=mixed)
    borders = np.flatnonzero(numbers == mixed)
    step = max(1, BORDER_VALUES // max(len(values) * reading.voxels_read, decide.channels(values)))
    for first in range(0, len(borders), step):
        some = borders[first : first + step]
        points = np.unravel_index(some, numbers.shape)
        numbers.reshape(-1)[some] = decide(_interpolated(values, reading, points))
    return numbers


def _on_grid(values: NDArray[Any], decide: Decision) -> NDArray[Any]:
    """Return the class of each voxel of the prepared grid, a few planes or rows at a time."""
    _, ni, nj, nk = values.shape
    numbers = np.empty((ni, nj, nk), decide.kind)
    rows = max(1, min(CLASS_VOXELS, BORDER_VALUES // decide.channels(values)) // nk)
    planes = max(1, rows // nj)
    for i in range(0, ni, planes):
        for j in range(0, nj, rows):
            part = np.s_[i : i + planes, j : j + rows]
            numbers[part] = decide(values[(slice(None), *part)])
    return numbers


def _interpolated(values: NDArray[Any], reading: Reading, points: Points) -> NDArray[np.float32]:
    """Return the values, shape (C, points), at some voxels of a block."""
    columns, weights = reading.at(points)
    sides = [part.stop - part.start for part in reading.box]
    is_read = np.zeros(math.prod(sides), np.bool_)
    is_read[columns] = True
    read = np.flatnonzero(is_read)
    place = np.empty(len(is_read), np.int32)
    place[read] = np.arange(len(read))
    index = [at + part.start for at, part in zip(np.unravel_index(read, sides), reading.box, strict=True)]
    corners = values.reshape(len(values), -1).take(np.ravel_multi_index(index, values.shape[1:]), axis=1)
    rows = np.ascontiguousarray(corners.T, np.float32)
    return np.ascontiguousarray((sparse_rows(place[columns], weights, len(read)) @ rows).T)


def _blurred(values: NDArray[Any], reading: Slanted, sigma: NDArray[np.float64]) -> tuple[NDArray[Any], Slanted]:
    """Return the part of the source that a block reads, blurred, and the reading of that part."""
    if not sigma.any():
        return values, reading
    from scipy import ndimage

    margins = np.ceil(TRUNCATE * sigma + 0.5).astype(int)
    wide = [slice(max(0, part.start - m), part.stop + m) for part, m in zip(reading.box, margins, strict=True)]
    part = values[(slice(None), *wide)].astype(np.float32)
    blurred = ndimage.gaussian_filter(part, (0, *sigma), mode="nearest", truncate=TRUNCATE)
    box = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(reading.box, wide, strict=True))
    return blurred, replace(reading, box=box)
