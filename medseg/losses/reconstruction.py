"""The loss of self-supervised pretraining: how far what a network puts into the holes of an image is from the image."""

import torch
from torch import Tensor

from medseg.across import sum_over_processes


def masked_mse(said: Tensor, image: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error where an image is masked, Σ m·(ŷ − y)² / Σ m; what is said of visible voxels is not counted.

    So do He et al. 2022 (MAE) and, for 3D scans, Wald et al. 2025. The square, and not the absolute value, because then
    the best constant is the mean, and the error can be held against the variance. At least 0; 0 where nothing is
    masked. All processes are counted together. In float32.

    Args:
        said: what the network says, (B, C, *patch).
        image: what is there, of the same shape.
        masked: bool, (B, 1, *patch).
    """
    with torch.autocast(said.device.type, enabled=False):
        counted = masked.expand_as(image).float()
        costs = (said.float() - image.float()).square() * counted
        total, number = sum_over_processes(torch.stack([costs.sum(), counted.sum()])).unbind()
        return total / number.clamp(min=1)
