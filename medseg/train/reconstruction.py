"""Reconstruction: how well a pretrained network puts back what is hidden, beside what no network would do worse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg.across import shared
from medseg.engine import Engine
from medseg.recipe import Augment, Recipe
from medseg.train.masking import MaskedStream, hide

# So many places of a scan are looked at.
PATCHES_PER_SCAN = 4


def reconstruction_error(engine: Engine, folders: Sequence[Path], recipe: Recipe, *, seed: int) -> dict[str, Any]:
    """Return the mean squared error over the masked voxels of some patches; the processes of a training share them.

    Patches and masks are the same for every network, and patches are not varied.

    Args:
        engine: runs the network.
        folders: where the scans were prepared, at least one.
        recipe: says how large patches are and what is masked.
        seed: of patches and masks.

    Returns:
        `mse`, the network's; `mse_of_mean`, that of the mean of what is visible of each patch, which has to be
        undercut by a network that has learnt anything; `patches`, how many.
    """
    stream = MaskedStream(folders, recipe.model_copy(update={"augment": Augment()}), seed=seed)

    def errors(number: int) -> tuple[float, float, int]:
        image, masked = (tensor[None] for tensor in stream[number])
        hidden = hide(image, masked)
        said = torch.from_numpy(engine.fetch(engine.run(engine.load(hidden.numpy()))))
        return _squares(said, image, masked), _squares(hidden, image, masked), int(masked.sum()) * image.shape[1]

    found = shared(errors, range(PATCHES_PER_SCAN * len(folders)))
    own, means, counts = (sum(column) for column in zip(*found, strict=True))
    return {"mse": own / counts, "mse_of_mean": means / counts, "patches": len(found)}


def _squares(said: Tensor, image: Tensor, masked: Tensor) -> float:
    """Return the sum of the squared errors where an image is masked."""
    return float(((said - image).double().square() * masked).sum())
