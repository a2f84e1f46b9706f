"""The losses and their formulas.

p is the probability of a voxel and channel, softmax or sigmoid of the logits by the recipe's head; y is 1 where the
channel's label is, else 0; sums run over the voxels of a patch, means over voxels, channels and batch.
"""

from collections.abc import Callable

import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional as F

from medseg.choose import choose
from medseg.recipe import Head

Loss = Callable[[Tensor, Tensor], Tensor]

# Keeps an empty channel of an empty patch from dividing by zero; small against one voxel.
SMOOTH = 1e-5
FOCUS = 2.0


def probabilities(logits: Tensor, head: Head) -> Tensor:
    """Return softmax over the channels, or sigmoid of each."""
    return logits.softmax(dim=1) if head == "softmax" else logits.sigmoid()


def dice(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Soft Dice loss, 1 − 2·Σpy / (Σp + Σy), 0 to 1 (plain sums: Drozdzal et al. 2016, equation 1).

    Averaged over the labels; the sums run over the whole batch, so that a patch without a label does not count as a
    miss. A softmax head leaves its background channel out.
    """
    p = probabilities(logits, head)
    if head == "softmax":
        p, target = p[:, 1:], target[:, 1:]
    axes = [0, *range(2, p.ndim)]
    overlap = (p * target).sum(axes)
    sizes = p.sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean()


def cross_entropy(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Cross-entropy, −mean Σ_c y·log p, for a softmax head; for a sigmoid head the same as `bce`."""
    if head == "sigmoid":
        return bce(logits, target, head)
    return F.cross_entropy(logits, target.argmax(dim=1))


def bce(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Binary cross-entropy, each channel by itself: −mean(y·log σ + (1 − y)·log(1 − σ)), σ the logits' sigmoid."""
    return F.binary_cross_entropy_with_logits(logits, target)


def focal(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Focal loss, −mean y·(1 − p)^2·log p, and for a sigmoid head its two-sided form (Lin et al. 2017, equation 4)."""
    loss: Tensor = FocalLoss(gamma=FOCUS, use_softmax=head == "softmax")(logits, target)
    return loss


def dice_ce(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Dice + cross-entropy."""
    return dice(logits, target, head) + cross_entropy(logits, target, head)


def bce_focal_dice(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Binary cross-entropy + focal + Dice."""
    return bce(logits, target, head) + focal(logits, target, head) + dice(logits, target, head)


LOSSES: dict[str, Callable[[Tensor, Tensor, Head], Tensor]] = {
    "dice": dice,
    "cross_entropy": cross_entropy,
    "bce": bce,
    "focal": focal,
    "dice_ce": dice_ce,
    "bce_focal_dice": bce_focal_dice,
}


def build_loss(name: str, head: Head) -> Loss:
    """Return a loss as a function of logits and target, both (B, L, *patch), computed in float32.

    Raises:
        UnknownNameError: no loss of that name.
    """
    function = choose(LOSSES, name, kind="loss")

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return function(logits.float(), target.float(), head)

    return loss
