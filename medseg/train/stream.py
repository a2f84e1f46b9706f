"""The stream of training patches: sample n is the same in every run of the same seed, whoever draws it."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.across import local_processes, processes, rank
from medseg.augment import Augmenter
from medseg.patches import draw_patch
from medseg.prepared_case import PreparedCase
from medseg.processor import drawing_workers
from medseg.recipe import Recipe


class PatchStream(Dataset[tuple[Tensor, ...]]):
    """Patches by their number: image (C, *patch) float32, label map (*patch) int64, and which labels their case has.

    The cases take turns in an order shuffled anew each round. Everything random comes from the seed and the number.
    Cases are opened when their turn comes, so that neither open files nor what a worker is sent grow with the dataset.

    Args:
        folders: where each case was prepared.
        recipe: says how patches are drawn and augmented.
        seed: of everything random.
        partial: whether cases of the dataset lack labels; otherwise patches are only images and label maps.
        beyond: the label id of what lies beyond a patch, `LabelSet.beyond`.
    """

    def __init__(
        self, folders: Sequence[Path], recipe: Recipe, *, seed: int, partial: bool = False, beyond: int = 0
    ) -> None:
        self._folders = folders
        self._training = recipe.training
        self._augment = Augmenter(recipe.augment, recipe.training.patch, beyond=beyond)
        self._seed = seed
        self._partial = partial

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Draw patch `number`."""
        turn, place = divmod(number, len(self._folders))
        order = np.random.default_rng((self._seed, 1, turn)).permutation(len(self._folders))
        rng = np.random.default_rng((self._seed, 2, number))
        case = PreparedCase.load(self._folders[order[place]])
        image, label_map = draw_patch(case, self._training.patch, rng, foreground=self._training.foreground)
        seed, spacing_mm = int(rng.integers(2**62)), case.geometry.spacing_mm
        image, label_map = self._augment(image, label_map, seed=seed, spacing_mm=spacing_mm)
        patch = torch.from_numpy(image), torch.from_numpy(label_map.astype(np.int64))
        return (*patch, torch.tensor(case.present)) if self._partial else patch


def batches(
    stream: PatchStream, *, batch: int, first: int, last: int, workers: int | None, pinned: bool = False
) -> DataLoader[Any]:
    """Return this process's share of the batches for the steps from `first` up to, not including, `last`.

    Args:
        stream: what is drawn from; step n takes the samples from n × batch on.
        batch: samples of a step in all processes, of which each takes as many as the others.
        first: the next step.
        last: the step to stop before.
        workers: processes that draw for this one; with 0 it draws itself, and None chooses by the machine's cores.
        pinned: whether they lie in memory that a CUDA device copies from while it computes.
    """
    share = batch // processes()
    drawing = drawing_workers(local_processes()) if workers is None else workers
    starts = range(first * batch + rank() * share, last * batch, batch)
    return DataLoader(
        stream,
        batch_sampler=[list(range(start, start + share)) for start in starts],
        num_workers=drawing,
        pin_memory=pinned,
        worker_init_fn=_begin_worker,
        prefetch_factor=4 if drawing else None,
    )


def _begin_worker(_: int) -> None:
    """Leave the other cores to the network, and signals, which reach every process of a group, to the one it is for."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
