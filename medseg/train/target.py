"""Targets: label maps turned into the channels of a network's head."""

import numpy as np
import torch
from torch import Tensor

from medseg.labels import LabelSet
from medseg.recipe import Head


def target_table(labels: LabelSet, head: Head) -> Tensor:
    """Return the table from label id to channels: shape (highest known id + 1, L), 0 or 1.

    A softmax head has background first, which is 1 where no label is.
    """
    table = labels.encode_table()
    if head == "softmax":
        table = np.concatenate([1 - table.max(axis=0, keepdims=True), table])
    return torch.from_numpy(np.ascontiguousarray(table.T)).float()


def encode(label_map: Tensor, table: Tensor) -> Tensor:
    """Return the channels, (B, L, *patch), of label ids, (B, *patch)."""
    return table[label_map].movedim(-1, 1)
