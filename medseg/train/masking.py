"""Masking: patches of which blocks are hidden, and the loss of what a network puts in their place."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.axes import Sides
from medseg.errors import RecipeError
from medseg.losses import masked_mse
from medseg.recipe import Recipe
from medseg.train.objective import Network
from medseg.train.stream import PatchStream


class MaskedStream(PatchStream):
    """Patches by their number: image (C, *patch) float32, and what of it is masked, (1, *patch) bool.

    Everything random comes from the seed and the number, as in `PatchStream`.

    Args:
        folders: where each scan was prepared.
        recipe: says how patches are drawn, varied and masked.
        seed: of everything random.
    """

    def __init__(self, folders: Sequence[Path], recipe: Recipe, *, seed: int) -> None:
        super().__init__(folders, recipe, seed=seed)
        self._settings = recipe.pretraining

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Draw patch `number`."""
        image, _ = super().__getitem__(number)
        rng = np.random.default_rng((self._seed, 3, number))
        masked = random_blocks(self._training.patch, block=self._settings.block, masked=self._settings.masked, rng=rng)
        return image, torch.from_numpy(masked[None])


class Reconstruction:
    """The mean squared error of what a network says of the masked voxels; of the others it may say anything.

    A sample is images, (B, C, *patch), and masks, (B, 1, *patch).
    """

    def __call__(self, network: Network, sample: Sequence[Tensor]) -> Tensor:
        """Return the loss."""
        image, masked = sample
        return masked_mse(network(hide(image, masked)), image, masked)


def random_blocks(patch: Sides, *, block: int, masked: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which voxels of a patch are masked: some of the blocks that it is cut into, each as likely.

    Args:
        patch: its shape; the last blocks along an axis are smaller where it is no multiple of theirs.
        block: side of a block, in voxels.
        masked: fraction of the blocks; at least one is masked and one is not.
        rng: chooses them.

    Raises:
        RecipeError: the patch is a single block.
    """
    grid = [math.ceil(side / block) for side in patch]
    count = math.prod(grid)
    if count < 2:
        raise RecipeError(
            f"masking blocks of pretraining.block = {block} voxels",
            found=f"a patch of {'×'.join(map(str, patch))} is no larger",
            remedy="set pretraining.block to a quarter of the patch's side",
        )
    chosen = np.zeros(count, bool)
    chosen[rng.permutation(count)[: min(max(round(masked * count), 1), count - 1)]] = True
    blocks = chosen.reshape(grid)
    for axis in range(3):
        blocks = blocks.repeat(block, axis)
    return np.ascontiguousarray(blocks[tuple(map(slice, patch))])


def hide(image: Tensor, masked: Tensor) -> Tensor:
    """Return images with the mean of what is visible in place of what is masked, for each image and channel.

    The mean is the best that can be said without looking: what a network learns is measured from there, whether
    intensities are 0 to 1 or of mean 0.

    Args:
        image: (B, C, *patch).
        masked: bool, (B, 1, *patch).
    """
    axes = tuple(range(2, image.ndim))
    visible = (~masked).to(image.dtype)
    mean = (image * visible).sum(axes, keepdim=True) / visible.sum(axes, keepdim=True).clamp(min=1)
    return torch.where(masked, mean, image)
