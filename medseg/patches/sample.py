"""Draw training patches from a prepared case."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.prepared_case import PreparedCase


def draw_patch(
    case: PreparedCase, patch: Sides, rng: np.random.Generator, *, foreground: float
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Draw a box of voxels from a case.

    Args:
        case: a prepared case.
        patch: the box's shape.
        rng: decides where it lies.
        foreground: the probability that the box is centred on a voxel of a label, each label that the case has being
            equally likely. Otherwise it lies anywhere; in a case that is labelled in places only, on one of these,
            because a box without labelled voxels teaches nothing.

    Returns:
        The image, shape (C, *patch), and the label map, shape (*patch). A box stays inside the case where it can; where
        it is larger, the case lies in its middle, and both continue beyond its edges as they end there: a slab of an
        abdomen does not end in air.
    """
    shape = case.label_map.shape
    drawn = [points for points in case.points_voxel if len(points)]
    points = case.labelled_voxel
    if drawn and rng.random() < foreground:
        points = drawn[int(rng.integers(len(drawn)))]
    if points is not None and len(points):
        centre = points[int(rng.integers(len(points)))]
        start = [int(at) - side // 2 for at, side in zip(centre, patch, strict=True)]
    else:
        start = [int(rng.integers(max(0, size - side) + 1)) for size, side in zip(shape, patch, strict=True)]
    start = [
        min(max(at, 0), size - side) if size >= side else (size - side) // 2
        for at, size, side in zip(start, shape, patch, strict=True)
    ]
    return cut(case.image, start, patch), cut(case.label_map, start, patch)


def cut(array: NDArray[Any], start: list[int], patch: Sides) -> NDArray[Any]:
    """Return the box that begins at `start`, in the last three axes; outside the array it continues as at the edge."""
    inside: list[slice] = []
    padding: list[tuple[int, int]] = []
    for at, side, size in zip(start, patch, array.shape[-3:], strict=True):
        low, high = max(at, 0), min(at + side, size)
        inside.append(slice(low, high))
        padding.append((low - at, at + side - high))
    lead = array.ndim - 3
    box = array[(slice(None),) * lead + tuple(inside)]
    return np.ascontiguousarray(np.pad(box, [(0, 0)] * lead + padding, mode="edge"))
