"""Targets: label maps turned into the channels of a network's head."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medseg.labels import LabelSet
from medseg.losses import Target
from medseg.recipe import Head


@dataclass(frozen=True, eq=False)
class TargetTable:
    """What each label id means to a head.

    Attributes:
        channels: shape (highest known id + 1, L), 0 or 1.
        ignored: bool, shape (highest known id + 1,): whether voxels of this id are not labelled; None where no id says
            that.
        background: whether the first channel is background.
    """

    channels: Tensor
    ignored: Tensor | None
    background: bool

    def to(self, device: torch.device) -> "TargetTable":
        """Return the table on a device."""
        ignored = None if self.ignored is None else self.ignored.to(device)
        return TargetTable(self.channels.to(device), ignored, self.background)


def target_table(labels: LabelSet, head: Head) -> TargetTable:
    """Return the table from label id to channels.

    A softmax head has background first, which is 1 where no label is.
    """
    table = labels.encode_table()
    if head == "softmax":
        table = np.concatenate([1 - table.max(axis=0, keepdims=True), table])
    ignored = None
    if labels.ignored_ids:
        ignored = torch.zeros(table.shape[1], dtype=torch.bool)
        ignored[sorted(labels.ignored_ids)] = True
    return TargetTable(torch.from_numpy(np.ascontiguousarray(table.T)).float(), ignored, head == "softmax")


def encode(label_map: Tensor, table: TargetTable, labelled: Tensor | None = None) -> Target:
    """Return the target of label ids.

    Args:
        label_map: label ids, shape (B, *patch).
        table: what they mean.
        labelled: bool, shape (B, labels): whether the patch's case has the label; its voxels show nothing of it
            otherwise. None where every case of the dataset has all of them.

    Returns:
        Channels, shape (B, L, *patch), and what is known of them.
    """
    channels = table.channels[label_map].movedim(-1, 1)
    if labelled is None and table.ignored is None:
        return Target(channels)
    if labelled is None:
        known = torch.ones(channels.shape[:2], dtype=torch.bool, device=channels.device)
    else:
        known = torch.cat([labelled.all(dim=1, keepdim=True), labelled], dim=1) if table.background else labelled
    known = known.reshape(*known.shape, *[1] * (label_map.ndim - 1))
    return Target(channels, known if table.ignored is None else known & ~table.ignored[label_map][:, None])
