"""Field: the part of each slice that is shown; air around the body is left out.

As much is cut on one side as on the other, so what lies left of a slice's middle stays left of the picture's middle.
"""

import numpy as np
from numpy.typing import NDArray

from medseg.overlay.planes import Stack
from medseg.overlay.window import Window

MARGIN_MM = 10.0
# A row belongs to the body when it holds a twentieth of what the fullest row holds; a table's thin line does not.
BODY_SHARE = 0.05
# Bodies are thicker than this share of the picture, cables and the table's floor are not.
BODY_THICKNESS = 0.05
# A voxel is no air when it lies this far up the window: −120 HU in soft tissue, so that fat is body.
AIR_SHARE = 0.1
MOST_CUT = 0.3
SLICES = 32


def cut_air(stack: Stack, window: Window, areas: NDArray[np.int64]) -> Stack:
    """Return the stack without the air at its sides.

    Args:
        stack: what is shown.
        window: tells air from body.
        areas: labelled voxels of each slice; only labelled slices are looked at, or all when there are none.

    Returns:
        At least two fifths of the width and the height, all labels, and 10 mm around the body.
    """
    slices = np.flatnonzero(areas if areas.any() else areas + 1)
    slices = slices[:: len(slices) // SLICES + 1]
    body = stack.scan[:, :, slices] > window.low + AIR_SHARE * (window.high - window.low)
    maps = [ids for ids in (stack.prediction, stack.reference) if ids is not None]
    cuts = []
    for axis, others in enumerate(((1, 2), (0, 2))):
        labelled = np.any([ids.any(axis=others) for ids in maps], axis=0)
        air = min(_air_beside(body.mean(axis=others)), _first_from_either_end(labelled))
        kept = round(MARGIN_MM / stack.geometry.spacing_mm[axis])
        cuts.append(min(max(air - kept, 0), int(MOST_CUT * len(labelled))))
    return stack.trim(columns=cuts[0], rows=cuts[1])


def _air_beside(profile: NDArray[np.float64]) -> int:
    """Return how many places lie beside the body at its nearer side, 0 without one; `profile` is its share of each."""
    busy = profile > BODY_SHARE * profile.max()
    turns = np.flatnonzero(np.diff(np.concatenate([[0], busy.astype(int), [0]])))
    body = np.zeros(len(profile), bool)
    for start, stop in turns.reshape(-1, 2):
        body[start:stop] = stop - start >= BODY_THICKNESS * len(profile)
    return _first_from_either_end(body) if body.any() else 0


def _first_from_either_end(there: NDArray[np.bool_]) -> int:
    """Return how far the nearer end is from the first place that is there; the whole length when none is."""
    places = np.flatnonzero(there)
    return int(min(places[0], len(there) - 1 - places[-1])) if len(places) else len(there)
