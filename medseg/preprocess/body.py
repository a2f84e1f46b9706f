"""Where the patient is in a CT: the box around the body, without the table and the air that fill half of the scan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.volume import Geometry

# Fat and everything denser are above it, air and lungs below; a table is a thin shell around air or foam.
BODY_HU = -300.0
# The scan is looked at in steps of so much, and averaged over so much, which thin things do not survive.
LOOK_MM, AVERAGE_MM = 4.0, 12.0
# What averaging takes off the skin, arms' ends and fingers.
MARGIN_MM = 10.0


def body_box(array: NDArray[Any], geometry: Geometry) -> tuple[list[int], list[int]]:
    """Return start and stop of the box around the largest connected body in (C, I, J, K), HU in its first channel.

    Where there is none, the box is the whole grid.
    """
    from scipy import ndimage

    spacing_mm, shape = geometry.spacing_mm, geometry.shape
    step = [max(1, round(LOOK_MM / side)) for side in spacing_mm]
    seen = array[0][tuple(slice(None, None, by) for by in step)].astype(np.float32)
    size = [max(1, round(AVERAGE_MM / (side * by))) for side, by in zip(spacing_mm, step, strict=True)]
    parts, _ = ndimage.label(ndimage.uniform_filter(seen, size, mode="nearest") > BODY_HU)
    counts = np.bincount(parts.ravel())[1:]
    if not counts.size:
        return [0, 0, 0], list(shape)
    box = ndimage.find_objects(parts)[counts.argmax()]
    start, stop = [], []
    for side, by, size_mm, voxels in zip(box, step, spacing_mm, shape, strict=True):
        margin = by + round(MARGIN_MM / size_mm)
        start.append(max(0, side.start * by - margin))
        stop.append(min(voxels, (side.stop - 1) * by + 1 + margin))
    return start, stop
