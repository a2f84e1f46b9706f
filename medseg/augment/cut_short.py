"""Cut a patch short, as a scan that ends within it would be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The least that stays, as a fraction of the side.
LEAST = 0.25


def cut_short(
    image: NDArray[np.float32], label_map: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Keep a run of planes along one axis; beyond it the patch goes on as it ends there.

    That is how volumes smaller than a patch are predicted, and how slabs of an abdomen look to a network.

    Args:
        image: shape (C, I, J, K).
        label_map: shape (I, J, K).
        rng: draws the axis (never one with a single voxel), how much stays (from a quarter of the side to all of it)
            and where.

    Returns:
        Image and label map of the same shapes.
    """
    axes = [axis for axis, side in enumerate(label_map.shape) if side > 1]
    if not axes:
        return image, label_map
    axis = axes[int(rng.integers(len(axes)))]
    side = label_map.shape[axis]
    kept = int(rng.integers(max(1, round(LEAST * side)), side + 1))
    first = int(rng.integers(side - kept + 1))
    planes = np.arange(side).clip(first, first + kept - 1)
    return np.take(image, planes, axis + 1), np.take(label_map, planes, axis)
