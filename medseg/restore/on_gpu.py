"""Restore on a GPU: the classes of a grid's voxels from values that lie there; only the classes leave it."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.restore.decision import Decision
from medseg.volume.reading import Straight

# Values that are interpolated at a time (float32: 256 MB, and twice that on the way).
BLOCK_VALUES = 2**26


def fill(
    home: NDArray[Any], values: Tensor, to_source: NDArray[np.float64], *, decide: Decision, id_of: NDArray[Any]
) -> None:
    """Fill a grid that shares the values' axes with the ids that they mean there.

    Args:
        home: the grid's ids, shape (A, B, C), filled in place.
        values: shape (F, I, J, K), on the device.
        to_source: takes the grid's voxels to those of the values, 4×4, along each axis by itself.
        decide: takes values to classes.
        id_of: the id of each class.
    """
    head = None if decide.pointwise is None else [torch.from_numpy(p).to(values.device) for p in _arrays(decide)]
    channels = max(len(values), 0 if head is None else len(head[1]))
    planes = max(1, BLOCK_VALUES // (channels * math.prod(home.shape[1:])))
    for start in range(0, len(home), planes):
        block = home[start : start + planes]
        shift = np.eye(4)
        shift[0, 3] = start
        reading = Straight.of(to_source @ shift, block.shape, (values.shape[1], values.shape[2], values.shape[3]))
        read = _interpolated(values[(slice(None), *reading.box)], reading)
        if head is not None:
            read = torch.einsum("lf,fijk->lijk", head[0], read) + head[1][:, None, None, None]
        numbers = _numbers(read, decide).cpu().numpy()
        for axis, outside in enumerate(reading.outside):
            numbers[(slice(None),) * axis + (outside,)] = 0
        block[...] = id_of[numbers]


def _arrays(decide: Decision) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    assert decide.pointwise is not None
    return decide.pointwise.weight, decide.pointwise.bias


def _interpolated(values: Tensor, reading: Straight) -> Tensor:
    """Return the values, shape (F, ...), at a block's voxels: an axis after the other, that which grows least first."""
    growth = [len(taps.voxels) / taps.size for taps in reading.axes]
    for axis in np.argsort(growth):
        taps = reading.axes[axis]
        shape = [1, 1, 1, 1]
        shape[axis + 1] = -1
        total: Tensor | None = None
        for voxels, weights in zip(taps.voxels.T, taps.weights.T, strict=True):
            index, weight = (torch.from_numpy(np.ascontiguousarray(own)).to(values.device) for own in (voxels, weights))
            part = values.index_select(int(axis) + 1, index)
            total = part.mul_(weight.reshape(shape)) if total is None else total.addcmul_(part, weight.reshape(shape))
        assert total is not None
        values = total
    return values


def _numbers(logits: Tensor, decide: Decision) -> Tensor:
    """Return the number of the class at each voxel of logits, (L, ...)."""
    kind = torch.uint8 if decide.kind is np.uint8 else torch.int32
    if decide.head == "softmax":
        return logits.argmax(dim=0).to(kind)
    count = torch.arange(1, len(logits) + 1, device=logits.device, dtype=torch.int32)
    return ((logits > 0) * count[:, None, None, None]).amax(dim=0).to(kind)
