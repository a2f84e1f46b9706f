"""Session: how a training is run, apart from what is trained on what."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.across import joined, processes
from medseg.device import deterministic as deterministic_torch
from medseg.processor import keep_freed_memory
from medseg.progress import Notify, ignore
from medseg.run import Run
from medseg.train.failure import explained


@dataclass(frozen=True)
class Session:
    """How a training is run; each is explained at `train`.

    Attributes:
        device: where the network is trained.
        seed: of the weights and of every patch drawn.
        resume: whether to go on from the checkpoint.
        deterministic: whether to end with the same weights, however often it was broken off.
        workers: processes that draw patches; None chooses.
        cache: the folder of prepared cases; None keeps them in the run.
        notify: hears of progress.
    """

    device: torch.device
    seed: int = 0
    resume: bool = False
    deterministic: bool = False
    workers: int | None = None
    cache: Path | None = None
    notify: Notify = ignore

    @contextmanager
    def run(self, folder: Path) -> Iterator[Run]:
        """Give the run of a folder, with torch set up and the processes connected within the block.

        Raises:
            MedsegError: as `explained` says, and UnwritableError where the folder cannot be made.
        """
        keep_freed_memory()
        with explained(folder), deterministic_torch(self.deterministic), joined(self.device):
            yield Run(folder)

    def as_json(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {
            "seed": self.seed,
            "device": str(self.device),
            "processes": processes(),
            "deterministic": self.deterministic,
        }
