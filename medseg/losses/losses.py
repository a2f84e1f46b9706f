"""The losses and their formulas.

p is the probability of a voxel and channel, softmax or sigmoid of the logits by the recipe's head; y is 1 where the
channel's label is, else 0; sums run over the voxels of a patch, means over voxels, channels and batch. What is not
known (`Target.known`) is settled before a loss is asked, so that it costs nothing; means leave it out.
"""

from collections.abc import Callable

import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional as F

from medseg.across import sum_over_processes
from medseg.choose import choose
from medseg.losses.target import Target, settle
from medseg.recipe import Head

Loss = Callable[[Tensor, Target], Tensor]

# Keeps an empty channel of an empty patch from dividing by zero; small against one voxel.
SMOOTH = 1e-5
FOCUS = 2.0


def probabilities(logits: Tensor, head: Head) -> Tensor:
    """Return softmax over the channels, or sigmoid of each."""
    return logits.softmax(dim=1) if head == "softmax" else logits.sigmoid()


def mean(costs: Tensor, target: Target, head: Head) -> Tensor:
    """Return the mean of costs, shape (B, L or 1, *patch), over what is known; 0 where nothing is.

    A softmax head's channels answer one question, so a voxel counts with all of them where any label is known; those of
    a sigmoid head count by themselves. All processes are counted together: one may know more than another.
    """
    if target.known is None:
        return costs.mean()
    known = target.known.any(dim=1, keepdim=True) if head == "softmax" else target.known
    counted = known.expand_as(costs).to(costs.dtype)
    total, number = sum_over_processes(torch.stack([(costs * counted).sum(), counted.sum()])).unbind()
    return total / number.clamp(min=1)


def dice(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Soft Dice loss, 1 − 2·Σpy / (Σp + Σy), 0 to 1 (plain sums: Drozdzal et al. 2016, equation 1).

    Averaged over the labels that are known anywhere; the sums run over the whole batch, on all processes, so that a
    patch without a label does not count as a miss. A softmax head leaves its background channel out.
    """
    p, y, known = probabilities(logits, head), target.channels, target.known
    if head == "softmax":
        p, y, known = p[:, 1:], y[:, 1:], None if known is None else known[:, 1:]
    axes = [0, *range(2, p.ndim)]
    overlap, sizes = sum_over_processes(torch.stack([(p * y).sum(axes), p.sum(axes) + y.sum(axes)])).unbind()
    costs = 1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)
    if known is None:
        return costs.mean()
    counted = (sum_over_processes(known.sum(axes).to(p.dtype)) > 0).to(p.dtype)
    return (costs * counted).sum() / counted.sum().clamp(min=1)


def cross_entropy(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Cross-entropy, −mean Σ_c y·log p, for a softmax head; for a sigmoid head the same as `bce`."""
    if head == "sigmoid":
        return bce(logits, target, head)
    if target.known is None:
        return F.cross_entropy(logits, target.channels)
    return mean(F.cross_entropy(logits, target.channels, reduction="none")[:, None], target, head)


def bce(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Binary cross-entropy, each channel by itself: −mean(y·log σ + (1 − y)·log(1 − σ)), σ the logits' sigmoid."""
    if target.known is None:
        return F.binary_cross_entropy_with_logits(logits, target.channels)
    return mean(F.binary_cross_entropy_with_logits(logits, target.channels, reduction="none"), target, head)


def focal(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Focal loss, −mean y·(1 − p)^2·log p, and for a sigmoid head its two-sided form (Lin et al. 2017, equation 4)."""
    costs = FocalLoss(gamma=FOCUS, use_softmax=head == "softmax", reduction="none")(logits, target.channels)
    return mean(costs, target, head)


def dice_ce(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Dice + cross-entropy."""
    return dice(logits, target, head) + cross_entropy(logits, target, head)


def bce_focal_dice(logits: Tensor, target: Target, head: Head) -> Tensor:
    """Binary cross-entropy + focal + Dice."""
    return bce(logits, target, head) + focal(logits, target, head) + dice(logits, target, head)


LOSSES: dict[str, Callable[[Tensor, Target, Head], Tensor]] = {
    "dice": dice,
    "cross_entropy": cross_entropy,
    "bce": bce,
    "focal": focal,
    "dice_ce": dice_ce,
    "bce_focal_dice": bce_focal_dice,
}


def build_loss(name: str, head: Head) -> Loss:
    """Return a loss as a function of logits, shape (B, L, *patch), and their target, computed in float32.

    Raises:
        UnknownNameError: no loss of that name.
    """
    function = choose(LOSSES, name, kind="loss")

    def loss(logits: Tensor, target: Target) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            target = Target(target.channels.float(), target.known)
            return function(*settle(logits.float(), target, head), head)

    return loss
