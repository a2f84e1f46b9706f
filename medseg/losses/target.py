"""Target: what a network is to say of a batch's voxels, as far as anybody knows.

A case may lack labels, and voxels may be unlabelled. There the answer is not background but unknown, and `settle` takes
it out of the question before a loss sees it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medseg.recipe import Head

# The logit of a channel that is out of the question: its probability is exactly 0 in float32, whatever the others are.
NEVER = -1e30


@dataclass(frozen=True, eq=False)
class Target:
    """The channels of a head, and where they are known.

    Attributes:
        channels: shape (B, L, *patch), 1 where the channel's label is, else 0. A softmax head has one 1 per voxel, and
            background first.
        known: bool, of the same shape, or with sides of 1 for the patch's: whether the channel is known there.
            Background is, where all labels are. None where everything is known, in every batch of a training alike.
    """

    channels: Tensor
    known: Tensor | None = None


def settle(logits: Tensor, target: Target, head: Head) -> tuple[Tensor, Target]:
    """Answer what is not known: it costs nothing, has no gradient, and adds nothing to the sums of Dice.

    A voxel labelled 0 in a case that lacks labels is background or one of them. A softmax head's probabilities of these
    are added, exactly, as log Σ exp of their logits in background's place, and the lacking labels get 0: the marginal
    loss (Shi et al. 2021, "Marginal loss and exclusion loss for partially supervised multi-organ segmentation"; Fang
    and Yan 2020, "target adaptive loss"). In a voxel that is not labelled at all, all probabilities are added, to 1. A
    sigmoid head's channels are independent, and those not known are answered with a certain 0, which is right.

    Args:
        logits: shape (B, L, *patch).
        target: of the same shape. A label that is not known at a voxel may stand there all the same, as a part of a
            merged label does; it then counts as not known.
        head: what the logits mean.

    Returns:
        Logits and target of the same shapes; the ones given, where everything is known.
    """
    if target.known is None:
        return logits, target
    if head == "sigmoid":
        settled = replace(target, channels=target.channels * target.known)
        return logits.masked_fill(~target.known, NEVER), settled
    known = target.known[:, 1:]
    others = logits[:, 1:].masked_fill(known, NEVER)
    background = torch.cat([logits[:, :1], others], dim=1).logsumexp(dim=1, keepdim=True)
    labels = target.channels[:, 1:] * known
    channels = torch.cat([1 - labels.sum(dim=1, keepdim=True), labels], dim=1)
    return torch.cat([background, logits[:, 1:].masked_fill(~known, NEVER)], dim=1), replace(target, channels=channels)
