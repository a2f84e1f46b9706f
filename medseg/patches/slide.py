"""Sliding window: a network's patches laid over a whole volume, their logits averaged."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from medseg.axes import Sides

# The weight falls to its edges as a Gaussian with σ = an eighth of the side (Isensee et al. 2021, Nature Methods,
# online methods), and not below a thousandth, so that a voxel only seen at an edge still counts.
SIGMA, LEAST_WEIGHT = 0.125, 1e-3
# Voxels in one forward pass: enough to fill the processor, little enough to hold the activations.
BATCH_VOXELS = {"cpu": 2**20, "cuda": 2**23, "mps": 2**21}


@torch.inference_mode()
def slide(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    patch: Sides,
    overlap: float,
    flips: Sequence[int] = (),
) -> Tensor:
    """Return a network's logits for a whole volume.

    Args:
        network: takes (B, C, *patch) to logits (B, L, *patch).
        image: prepared intensities, shape (C, I, J, K), on the device of the network.
        patch: the window's shape; smaller volumes are continued as they end at their edges.
        overlap: of a window with its neighbour, as a fraction in [0, 1).
        flips: axes (0, 1, 2) mirrored at test time; the logits of all their combinations are averaged.

    Returns:
        Logits, float32, shape (L, I, J, K), on the same device: the average of all windows, each weighted with a
        Gaussian about its centre.
    """
    sides = torch.tensor(image.shape[1:])
    short = (torch.tensor(patch) - sides).clamp(min=0)
    before = [int(n) for n in short // 2]
    after = [int(n) - b for n, b in zip(short, before, strict=True)]
    padding = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    padded = torch.nn.functional.pad(image[None], padding, mode="replicate")[0]
    summed = _sum_windows(network, padded, patch=patch, overlap=overlap, flips=flips)
    inside = tuple(slice(b, b + int(n)) for b, n in zip(before, sides, strict=True))
    return summed[(slice(None), *inside)]


def _sum_windows(
    network: Callable[[Tensor], Tensor], image: Tensor, *, patch: Sides, overlap: float, flips: Sequence[int]
) -> Tensor:
    """Return the weighted average of all windows; the image is at least as large as the patch.

    Where the device's memory does not hold a batch of windows, batches get smaller.
    """
    boxes = list(windows((image.shape[1], image.shape[2], image.shape[3]), patch, overlap))
    weight = gaussian_weight(patch).to(image.device)
    batch = max(1, BATCH_VOXELS[image.device.type] // math.prod(patch))
    total: Tensor | None = None
    weights = torch.zeros(image.shape[1:], device=image.device)
    while boxes:
        some = boxes[:batch]
        try:
            logits = mirrored(network, torch.stack([image[(slice(None), *box)] for box in some]), flips)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
            continue
        boxes = boxes[batch:]
        if total is None:
            total = torch.zeros((logits.shape[1], *image.shape[1:]), device=image.device)
        for box, part in zip(some, logits, strict=True):
            total[(slice(None), *box)] += part * weight
            weights[box] += weight
    assert total is not None
    return total.div_(weights)


def mirrored(network: Callable[[Tensor], Tensor], batch: Tensor, flips: Sequence[int]) -> Tensor:
    """Return the network's logits for a batch, in float32, averaged over every combination of mirrored axes."""
    combinations = [c for n in range(len(flips) + 1) for c in itertools.combinations(flips, n)]
    total: Tensor | None = None
    for combination in combinations:
        axes = [axis + 2 for axis in combination]
        logits = network(batch.flip(axes)).flip(axes).float() if axes else network(batch).float()
        total = logits if total is None else total + logits
    assert total is not None
    return total / len(combinations) if len(combinations) > 1 else total


def windows(shape: tuple[int, int, int], patch: Sides, overlap: float) -> Iterator[tuple[slice, slice, slice]]:
    """Yield the boxes that cover a grid, evenly spread, neighbours sharing at least `overlap` of a patch."""
    starts = [window_starts(size, side, overlap) for size, side in zip(shape, patch, strict=True)]
    for i, j, k in itertools.product(*starts):
        yield slice(i, i + patch[0]), slice(j, j + patch[1]), slice(k, k + patch[2])


def window_starts(size: int, side: int, overlap: float) -> list[int]:
    """Return where windows of `side` voxels begin along an axis of `size` voxels: evenly, the last one at the end."""
    if size <= side:
        return [0]
    step = max(1, side - math.ceil(side * overlap))
    count = math.ceil((size - side) / step) + 1
    return [round(index * (size - side) / (count - 1)) for index in range(count)]


def gaussian_weight(patch: Sides) -> Tensor:
    """Return how much each voxel of a window counts, shape (*patch), 1 in the middle."""
    weight = torch.ones(patch)
    for axis, side in enumerate(patch):
        at = (torch.arange(side) - (side - 1) / 2) / (SIGMA * side)
        shape = [1, 1, 1]
        shape[axis] = side
        weight = weight * torch.exp(-0.5 * at**2).reshape(shape)
    return weight.clamp(min=LEAST_WEIGHT)
