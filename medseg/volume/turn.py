"""Turn an array to another order of its grid's axes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.volume.geometry import Geometry


def turn(array: NDArray[Any], *, source: Geometry, target: Geometry) -> NDArray[Any]:
    """Return a view of `array`, shape (I, J, K), with its axes permuted and flipped as `target` has them.

    `target` is `source` reoriented. A view costs no memory, however large the scan, where `resample` would copy it.
    """
    steps = np.rint(np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3])
    order = np.abs(steps).argmax(axis=0)
    flips = tuple(slice(None, None, int(steps[old, new])) for new, old in enumerate(order))
    return array.transpose(order)[flips]
