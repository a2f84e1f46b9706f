"""Points: voxels for training patches to be centred on."""

import numpy as np
from numpy.typing import NDArray

from medseg.recipe import Sample

# Enough voxels of a label to draw patch centres from; large organs have millions.
POINTS_PER_LABEL = 10_000


def some_points(mask: NDArray[np.bool_], sample: Sample = "voxels") -> NDArray[np.int32]:
    """Return voxels of a mask, shape (n, 3); drawn from evenly, they favour what they are to favour.

    Args:
        mask: shape (I, J, K).
        sample: `voxels` picks up to POINTS_PER_LABEL evenly. `components` picks as many from each connected component
            (26 neighbours), from small ones some voxels several times.
    """
    hits = np.flatnonzero(mask)
    if sample == "components" and len(hits):
        from scipy import ndimage

        numbers, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        numbers = numbers.ravel()[hits]
        order = np.argsort(numbers, kind="stable")
        components = np.split(hits[order], np.flatnonzero(np.diff(numbers[order])) + 1)
        share = max(1, POINTS_PER_LABEL // len(components))
        hits = np.concatenate([_evenly(component, share) for component in components])
    elif len(hits) > POINTS_PER_LABEL:
        hits = _evenly(hits, POINTS_PER_LABEL)
    return np.stack(np.unravel_index(hits, mask.shape), axis=1).astype(np.int32)


def _evenly(hits: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return so many of the hits, from the first to the last."""
    return hits[np.linspace(0, len(hits) - 1, count).astype(np.intp)]
