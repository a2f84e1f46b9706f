"""Restore: bring logits home to the scan's own grid and take each voxel's label there.

Logits are interpolated and then the label is taken. An interpolated value is an average of the prepared voxels that it
reads, so a class that wins at all of these wins between them too, whatever the weights. Logits are therefore
interpolated only where the classes of these voxels differ, at the borders; elsewhere the class is known beforehand.

The scan is filled block by block, so that memory grows neither with it nor with the classes. Voxels outside the
prepared field of view are background.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.axes import Sides
from medseg.labels import LabelSet
from medseg.pointwise import Pointwise
from medseg.recipe import Head
from medseg.volume import Geometry, LabelMap
from medseg.volume.reading import Box, Points, Reading, Slanted, Straight
from medseg.volume.resample import blur, paired_axes
from medseg.volume.taps import sparse_rows

# Voxels of the scan, or of the prepared grid where that is finer, in a block: some 10 bytes each, 20 MB.
BLOCK_VOXELS = 2**21
# At an angle to the prepared grid each voxel has a place of its own, 100 bytes that stay in the processor's cache.
SLANTED_VOXELS = 2**16
# Values of all channels that are blurred at a time before shrinking at an angle (float32: 8 MB, and its margins).
BLURRED_VALUES = 2**21
# Values read for borders at a time, before and after they are put in order (float32: 2 × 16 MB).
BORDER_VALUES = 2**22
# Prepared voxels whose class is taken at once: they stay in the processor's cache.
CLASS_VOXELS = 2**15
# Standard deviations to which a Gaussian reaches.
TRUNCATE = 4.0


def restore(
    values: NDArray[Any],
    *,
    source: Geometry,
    target: Geometry,
    labels: LabelSet,
    head: Head,
    pointwise: Pointwise | None = None,
) -> LabelMap:
    """Return the label map that logits mean, on another grid.

    Args:
        values: logits, shape (L, I, J, K), a softmax head's with background first; or features, (F, I, J, K), when
            `pointwise` is given. Of any float type, best in C order: others are copied.
        source: the prepared grid the values lie on.
        target: the scan's own grid.
        labels: what the channels mean.
        head: softmax takes the largest channel; sigmoid paints each label whose logit is above 0, later ones on top.
        pointwise: what takes features to logits.

    Returns:
        Label ids in the smallest unsigned type that holds them.
    """
    decide = _Decision(head, pointwise, np.uint8 if len(labels) < 255 else np.uint16)
    highest = max(label.id for label in labels)
    ids = np.zeros(target.shape, np.uint8 if highest <= 255 else np.uint16)
    id_of = np.array([0, *(label.id for label in labels)], ids.dtype)
    values = np.ascontiguousarray(values)
    size = (values.shape[1], values.shape[2], values.shape[3])
    to_source = np.linalg.inv(source.affine) @ target.affine
    pairing = paired_axes(to_source, target.shape)
    order = pairing or [0, 1, 2]
    # The scan with its axes in the order of the source's.
    home, to_source = ids.transpose(order), to_source[:, [*order, 3]]
    sigma = np.zeros(3) if pairing else blur(to_source)
    for box in _blocks(home.shape, _block_voxels(to_source, len(values), straight=bool(pairing))):
        block = home[box]
        start = np.eye(4)
        start[:3, 3] = [side.start for side in box]
        if pairing:
            numbers = _classes(values, Straight.of(to_source @ start, block.shape, size), decide)
        else:
            numbers = _classes(*_blurred(values, Slanted.of(to_source @ start, block.shape, size), sigma), decide)
        block[...] = id_of[numbers]
    return LabelMap(ids, target)


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


def _classes(values: NDArray[Any], reading: Reading, decide: "_Decision") -> NDArray[Any]:
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


def _on_grid(values: NDArray[Any], decide: "_Decision") -> NDArray[Any]:
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
    margins = np.ceil(TRUNCATE * sigma + 0.5).astype(int)
    wide = [slice(max(0, part.start - m), part.stop + m) for part, m in zip(reading.box, margins, strict=True)]
    part = values[(slice(None), *wide)].astype(np.float32)
    blurred = ndimage.gaussian_filter(part, (0, *sigma), mode="nearest", truncate=TRUNCATE)
    box = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(reading.box, wide, strict=True))
    return blurred, replace(reading, box=box)


@dataclass(frozen=True, eq=False)
class _Decision:
    """Takes values to the number of the class there: 0 for background, 1 for the first label and so on.

    Attributes:
        head: softmax takes the largest channel, the first of equals; sigmoid the last channel above 0.
        pointwise: what takes the values to logits first.
        kind: an unsigned type that holds the numbers, and one more.
    """

    head: Head
    pointwise: Pointwise | None
    kind: type[np.uint8] | type[np.uint16]

    def channels(self, values: NDArray[Any]) -> int:
        """Return how many logits a voxel of values, (C, ...), has."""
        return len(self.pointwise.bias) if self.pointwise else len(values)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the number at each voxel of values, (C, ...)."""
        logits = self.pointwise.apply(values) if self.pointwise else values
        numbers = np.zeros(logits.shape[1:], self.kind)
        highest, first = (logits[0], 1) if self.head == "softmax" else (np.float32(0), 0)
        for number, channel in enumerate(logits[first:], start=1):
            logit = channel.astype(np.float32, copy=False)
            np.maximum(numbers, (logit > highest) * self.kind(number), out=numbers)
            if self.head == "softmax":
                highest = np.maximum(highest, logit)
        return numbers
