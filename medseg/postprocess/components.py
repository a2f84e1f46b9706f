"""Connected components: the objects of a label, and the regions of the background.

Voxels of an object are neighbours where they share a face, an edge or a corner (26 neighbours): a vessel that crosses
the grid at an angle is one object. Voxels of the background are neighbours where they share a face (6): it does not
leak out of a shell between voxels that meet at a corner. The two go together. With 26 for both, a closed shell would
have no inside; with 6 for both, a shell whose voxels do not hang together would have one (Kong and Rosenfeld 1989,
Digital topology: introduction and survey, CVGIP 48).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

OBJECT, BACKGROUND = 26, 6

Box = tuple[slice, ...]


def components(mask: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the components of a mask.

    Args:
        mask: shape (I, J, K).
        connectivity: OBJECT or BACKGROUND.

    Returns:
        The number of each voxel's component, 1 to n, or 0; and the voxels of each, shape (n + 1,), none for 0.
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, 3 if connectivity == OBJECT else 1)
    numbers, count = ndimage.label(mask, structure)
    voxels = np.zeros(count + 1, np.int64)
    for plane in numbers:  # all at once take eight bytes a voxel
        voxels += np.bincount(plane.ravel(), minlength=count + 1)
    voxels[0] = 0
    return numbers, voxels


def is_largest(numbers: NDArray[Any], voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which component is the largest, shape (n + 1,); of equals, the one that has the first voxel.

    First by its index along I, then J, then K, however the array lies in memory.
    """
    found = np.zeros(len(voxels), np.bool_)
    if len(voxels) > 1:
        equal = np.flatnonzero(voxels == voxels.max())
        found[equal[0] if len(equal) == 1 else numbers.flat[np.isin(numbers, equal).argmax()]] = True
    return found


def on_faces(numbers: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return which of the numbers below `count` occur on a face of the array."""
    found = np.zeros(count, np.bool_)
    for axis in range(numbers.ndim):
        found[numbers.take([0, -1], axis)] = True
    return found


def box_around(boxes: Iterable[Box | None]) -> Box | None:
    """Return the smallest box around some boxes, or None where there is none."""
    found = [box for box in boxes if box is not None]
    if not found:
        return None
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*found, strict=True))
