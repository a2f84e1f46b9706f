"""Across: what the processes of one training, started side by side by torchrun, tell each other.

A single process is a group of one: everything here then returns at once what it was given. torch is imported only where
there are several.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# What torchrun tells each process it starts.
TORCHRUN = {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}

# How long a process waits for another, which may prepare the larger cases or read them from a slower disk.
PATIENCE = timedelta(hours=12)

T = TypeVar("T")
R = TypeVar("R")


def processes() -> int:
    """Return how many processes torchrun started together; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if TORCHRUN.issubset(os.environ) else 1


def rank() -> int:
    """Return this process's number, from 0; process 0 writes the files and talks."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def local_rank() -> int:
    """Return this process's number among those on its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if processes() > 1 else 0


def local_processes() -> int:
    """Return how many of the processes are on this machine; where nobody says, all of them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes())) if processes() > 1 else 1


@contextmanager
def joined(device: "torch.device") -> Iterator[None]:
    """Have the processes connected within the block: by NCCL for tensors on GPUs, by gloo for those on the CPU.

    A GPU has to be the current one already. Within another such block it does nothing. Where the block fails in one
    process, the others may be waiting for it, and so would NCCL wait for them when it is to end the connection: the
    error comes out at once instead, and with the process the connection ends.
    """
    if processes() == 1 or _connected():
        yield
        return
    from torch import distributed

    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    yield
    distributed.destroy_process_group()


def wait() -> None:
    """Return when every process has come so far."""
    gathered(None)


def sum_over_processes(tensor: "Tensor") -> "Tensor":
    """Return the sum of the processes' tensors, of one shape; its gradient is the sum of theirs.

    A loss that is a function of such sums is the same number in every process. DistributedDataParallel averages the
    gradients over the processes, and the average of these is then the gradient of that one loss: each of n processes
    passes n times its share on, because all n losses depend on it. A single process gets its tensor back.
    """
    if not _connected():
        return tensor
    total: Tensor = _sum().apply(tensor)
    return total


@cache
def _sum() -> Any:
    """Return the sum as an operation that has a gradient (torch has one, but is about to drop it)."""
    from torch import autograd, distributed

    class Sum(autograd.Function):
        @staticmethod
        def forward(_: Any, tensor: "Tensor") -> "Tensor":
            total = tensor.clone().contiguous()
            distributed.all_reduce(total)
            return total

        @staticmethod
        def backward(_: Any, *gradients: "Tensor") -> "Tensor":
            return Sum.forward(None, gradients[0])

    return Sum


def mean_over_processes(tensor: "Tensor") -> "Tensor":
    """Return the mean of the processes' tensors, without a gradient."""
    if not _connected():
        return tensor.detach()
    from torch import distributed

    total = tensor.detach().clone()
    distributed.all_reduce(total)
    return total / processes()


def highest(number: int) -> int:
    """Return the highest of the processes' numbers."""
    if not _connected():
        return number
    import torch
    from torch import distributed

    found = torch.tensor(number)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def gathered(value: T) -> list[T]:
    """Return every process's value, in the order of their ranks."""
    if not _connected():
        return [value]
    from torch import distributed

    values: list[Any] = [None] * processes()
    distributed.all_gather_object(values, value)
    return values


def _connected() -> bool:
    """Say whether there are other processes, and this one has joined them."""
    if processes() == 1:
        return False
    from torch import distributed

    return distributed.is_initialized()


def shared(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what the work makes of each item, in their order; the processes take turns with the items."""
    parts = gathered([work(item) for item in items[rank() :: processes()]])
    return [parts[index % len(parts)][index // len(parts)] for index in range(len(items))]
