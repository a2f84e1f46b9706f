"""Memory: how much a training step of a DynUNet holds, counted from its layers.

Measured on a CPU (peak resident memory of three steps, float32), the count is between 2 % below and 12 % above; in
bfloat16, where activations count half, and on GPUs it has not been held against a measurement.

| patch × batch | first filters | labels | counted | measured |
|---|---|---|---|---|
| 64×64×64 × 2 | 16 | 4 | 1.95 GB | 1.95 GB |
| 40×56×40 × 8 | 16 | 2 | 2.21 GB | 2.11 GB |
| 64×64×64 × 2 | 32 | 4 | 3.19 GB | 2.89 GB |
| 48×48×48 × 2 | 16 | 60 | 1.70 GB | 1.72 GB |
| 128×128×1 × 12 | 32 | 2 | 2.05 GB | 1.83 GB |
"""

import math
from collections.abc import Sequence

from medseg.axes import Sides
from medseg.models.networks import pooling

# Weights, their average, gradients and AdamW's two moments, in float32.
BYTES_PER_WEIGHT = 20
# Tensors of its level's filters that backpropagation keeps: a convolution keeps its output for the normalisation and
# the normalised one for the next layer. Two of those going down; going up, also the two that are joined.
KEPT_DOWN, KEPT_UP = 4, 6
# Logits, probabilities, their logarithms, targets, and the gradients of these, in float32.
KEPT_OF_LABELS = 10
# Where some labels or voxels are unknown, also those that leave them out.
KEPT_WITH_MASK = 16
# What gradients and the convolutions' own working memory add to the activations while they are passed back.
PASSED_BACK = 1.3
# Python, torch and MONAI.
PROGRAM_BYTES = 700 * 10**6


def training_bytes(
    patch: Sides,
    batch: int,
    filters: Sequence[int],
    *,
    channels: int,
    labels: int,
    masked: bool = False,
    bf16: bool,
) -> int:
    """Return how much memory training a DynUNet takes, all in all.

    Args:
        patch: voxels along I, J and K; a side of 1 makes the network one of 2D.
        batch: patches in a step.
        filters: of each level.
        channels: of the image.
        labels: background left out.
        masked: whether the loss leaves out what is unknown.
        bf16: whether activations have 16 bits instead of 32.
    """
    sides = tuple(side for side in patch if side > 1)
    strides = pooling(sides, levels=len(filters))
    voxels = float(batch * math.prod(sides))
    labelled = 4 * (KEPT_WITH_MASK if masked else KEPT_OF_LABELS) * voxels * (labels + 1) + 4 * voxels * channels
    activations = 0.0
    for level, (stride, width) in enumerate(zip(strides, filters, strict=False)):
        voxels /= math.prod(stride)
        kept = KEPT_DOWN + (KEPT_UP if level < len(strides) - 1 else 0)
        activations += kept * width * voxels * (2 if bf16 else 4)
    weights = BYTES_PER_WEIGHT * weight_count(sides, filters, channels=channels, labels=labels)
    return int(PROGRAM_BYTES + weights + labelled + (1 + PASSED_BACK) * activations)


def weight_count(sides: Sequence[int], filters: Sequence[int], *, channels: int, labels: int) -> int:
    """Return how many weights a DynUNet for patches of these sides has."""
    strides = pooling(tuple(sides), levels=len(filters))
    kernel, before, count = 3 ** len(sides), channels, 0
    for level, (stride, width) in enumerate(zip(strides, filters, strict=False)):
        count += kernel * (before + width) * width + 4 * width
        if level:
            count += math.prod(stride) * before * width + kernel * 3 * before * before + 4 * before
        before = width
    return count + filters[0] * (labels + 1) + labels + 1
