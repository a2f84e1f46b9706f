"""What a machine does to a training, as errors that say what helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from medseg.errors import MedsegError, OutOfMemoryError, TrainingError

# What RuntimeErrors of torch say → the error it is, and what helps.
KNOWN: tuple[tuple[str, type[MedsegError], str], ...] = (
    (
        r"can't allocate memory|not enough memory|out of memory",
        OutOfMemoryError,
        "lower training.batch or training.patch, use fewer --workers, or end other programs; then go on with --resume, "
        "or where the recipe has changed, train into another --out",
    ),
    (
        r"DataLoader worker \(pid|shared memory object|unable to .*/torch_",
        TrainingError,
        "a process that draws patches has died, often for want of memory: go on with --resume and --workers 0, or with "
        "more shared memory (docker run --shm-size)",
    ),
    (
        r"does not have a deterministic implementation",
        TrainingError,
        "leave --deterministic out, train with --device cpu, or choose another model.name",
    ),
    (
        r"gloo|NCCL|Connection (closed|reset) by peer|process group",
        TrainingError,
        "another process of this training has ended: look at what it says, then start all again with --resume",
    ),
)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise what the block's training ran into as one of medseg's errors, where it is known.

    Raises:
        OutOfMemoryError: the machine's memory or the GPU's does not suffice.
        TrainingError: a process that draws patches has died, or another process of this training has ended, or an
            operation has no deterministic form.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        asked, said = f"training into {folder}", str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            said = f"out of memory: {said}"
        for pattern, kind, remedy in KNOWN:
            if re.search(pattern, said):
                raise kind(asked, found=said[:500], remedy=remedy) from error
        raise
