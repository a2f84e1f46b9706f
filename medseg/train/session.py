"""Session: how a training is run, apart from what is trained on what."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.across import joined, local_processes, processes, rank
from medseg.atomic import claimed
from medseg.device import deterministic as deterministic_torch
from medseg.errors import TrainingError
from medseg.processor import cores, keep_freed_memory
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
            TrainingError: another process is at work in the folder.
            MedsegError: as `explained` says, and UnwritableError where the folder cannot be made.
        """
        keep_freed_memory()
        _use_cores()
        if self.device.index is not None and self.device.type == "cuda":  # pinned memory is the current one's
            torch.cuda.set_device(self.device)
        with explained(folder), deterministic_torch(self.deterministic), joined(self.device):
            run = Run(folder)
            with claimed(run.claim) if rank() == 0 else nullcontext(True) as alone:
                if not alone:
                    raise TrainingError(
                        f"training into {folder}",
                        found="another process is training into it",
                        remedy="wait for it to end, or choose another --out",
                    )
                yield run

    def as_json(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {
            "seed": self.seed,
            "device": str(self.device),
            "processes": processes(),
            "deterministic": self.deterministic,
        }


def _use_cores() -> None:
    """Give each of several processes on a machine its part of the cores.

    torchrun gives them one thread each (OMP_NUM_THREADS=1), and nobody can tell whether a user did; another number
    stands.
    """
    if local_processes() > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, cores() // local_processes()))
