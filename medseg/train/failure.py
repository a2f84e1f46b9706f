"""What a machine does to a training, as errors that say what helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import OutOfMemoryError, TrainingError
from medseg.memory import out_of_memory

SMALLER = (
    "lower training.batch or training.patch, use fewer --workers, or end other programs; then go on with --resume, or "
    "where the recipe has changed, train into another --out"
)
# What torch says when patches cannot be handed over: a process that draws them was killed, or /dev/shm is full.
DRAWING = r"DataLoader worker \(pid|shared memory (object|\(shm\))|unable to .*/torch_"
# What RuntimeErrors of torch say → what helps.
KNOWN = (
    (
        DRAWING,
        "a process that draws patches has died, often for want of memory: go on with --resume and --workers 0, or with "
        "more shared memory (docker run --shm-size)",
    ),
    (
        r"does not have a deterministic implementation",
        "leave --deterministic out, train with --device cpu, or choose another model.name",
    ),
    (
        r"gloo|NCCL|Connection (closed|reset) by peer|process group",
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
    except (MemoryError, RuntimeError, OSError) as error:
        asked, found = f"training into {folder}", _said(error)
        if out_of_memory(error) and not re.search(DRAWING, str(error)):
            raise OutOfMemoryError(asked, found=found or "memory does not suffice", remedy=SMALLER) from error
        for pattern, remedy in KNOWN:
            if re.search(pattern, str(error)):
                raise TrainingError(asked, found=found, remedy=remedy) from error
        raise


def _said(error: BaseException) -> str:
    """Return what an error says, 500 characters at most; of one from a worker the end, after the worker's own trace."""
    said = str(error).strip()
    return said.splitlines()[-1][:500] if said.startswith("Caught ") else said[:500]
