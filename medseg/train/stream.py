"""The stream of training patches: sample n is the same in every run of the same seed, whoever draws it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.augment import Augmenter
from medseg.patches import draw_patch
from medseg.prepared_case import PreparedCase
from medseg.recipe import Recipe


class PatchStream(Dataset[tuple[Tensor, Tensor]]):
    """Patches by their number: image (C, *patch) float32 and label map (*patch) int64.

    The cases take turns in an order shuffled anew each round. Everything random comes from the seed and the number.
    Cases are opened when their turn comes, so that neither open files nor what a worker is sent grow with the dataset.

    Args:
        folders: where each case was prepared.
        recipe: says how patches are drawn and augmented.
        seed: of everything random.
    """

    def __init__(self, folders: Sequence[Path], recipe: Recipe, *, seed: int) -> None:
        self._folders = folders
        self._training = recipe.training
        self._augment = Augmenter(recipe.augment, recipe.training.patch)
        self._seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw patch `number`."""
        turn, place = divmod(number, len(self._folders))
        order = np.random.default_rng((self._seed, 1, turn)).permutation(len(self._folders))
        rng = np.random.default_rng((self._seed, 2, number))
        case = PreparedCase.load(self._folders[order[place]])
        image, label_map = draw_patch(case, self._training.patch, rng, foreground=self._training.foreground)
        image, label_map = self._augment(image, label_map, seed=int(rng.integers(2**62)))
        return torch.from_numpy(image), torch.from_numpy(label_map.astype(np.int64))


def batches(stream: PatchStream, *, batch: int, first: int, last: int, workers: int) -> DataLoader[Any]:
    """Return batches for the steps from `first` up to, not including, `last`, drawn by that many worker processes."""
    return DataLoader(
        stream,
        batch_size=batch,
        sampler=range(first * batch, last * batch),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
    )


def _one_thread(_: int) -> None:
    """Leave the other cores to the network."""
    torch.set_num_threads(1)
