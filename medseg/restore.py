"""Restore: bring logits home to the scan's own grid and take each voxel's label there.

Logits are interpolated and then the label is taken, a block of planes at a time, so that memory does not grow with the
scan times the labels. Voxels outside the prepared field of view are background.
"""

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.recipe import Head
from medseg.volume import Geometry, LabelMap, resample

# Interpolated logits held at a time, in values of all channels together (float32: 128 MB).
BLOCK_VALUES = 2**25


def restore(
    logits: NDArray[np.float32], *, source: Geometry, target: Geometry, labels: LabelSet, head: Head
) -> LabelMap:
    """Return the label map that logits mean, on another grid.

    Args:
        logits: shape (L, I, J, K); a softmax head has background first.
        source: the prepared grid the logits lie on.
        target: the scan's own grid.
        labels: what the channels mean.
        head: softmax takes the largest channel; sigmoid paints each label whose logit is above 0, later ones on top.

    Returns:
        Label ids in the smallest unsigned type that holds them.
    """
    highest = max(label.id for label in labels)
    ids = np.zeros(target.shape, np.uint8 if highest <= 255 else np.uint16)
    axis = int(np.argmax(target.shape))
    thickness = max(1, BLOCK_VALUES * target.shape[axis] // (len(logits) * int(np.prod(target.shape))))
    decide = _largest if head == "softmax" else _painted
    for first in range(0, target.shape[axis], thickness):
        start, stop = [0, 0, 0], list(target.shape)
        start[axis], stop[axis] = first, min(first + thickness, target.shape[axis])
        block = resample(logits, source=source, target=target.crop(start, stop), fill=-np.inf)
        ids[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = decide(block, labels).astype(ids.dtype)
    return LabelMap(ids, target)


def _largest(logits: NDArray[np.float32], labels: LabelSet) -> NDArray[np.int32]:
    """Return the id of each voxel's largest channel; ties go to the first, so all −∞ is background."""
    ids = np.zeros(logits.shape[1:], np.int32)
    largest = logits[0].copy()
    for label, channel in zip(labels, logits[1:], strict=True):
        ids[channel > largest] = label.id
        np.maximum(largest, channel, out=largest)
    return ids


def _painted(logits: NDArray[np.float32], labels: LabelSet) -> NDArray[np.int32]:
    """Return the id of the last label whose probability is above one half."""
    ids = np.zeros(logits.shape[1:], np.int32)
    for label, channel in zip(labels, logits, strict=True):
        ids[channel > 0] = label.id
    return ids
