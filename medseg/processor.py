"""Processor: how numpy, the networks and the system's memory get along on the CPU."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
from threadpoolctl import threadpool_limits

# More processes that draw patches than this no network waits for.
MOST_DRAWING = 8
# Where Linux tells a container how much memory it has (control groups, versions 2 and 1).
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def drawing_workers(sharing: int = 1) -> int:
    """Return how many processes should draw training patches beside a network; 0 where it had better wait for them.

    With two cores, drawing in turn with the steps is as fast.

    Args:
        sharing: how many networks share this machine.
    """
    own = cores() // sharing
    return 0 if own <= 2 else min(MOST_DRAWING, own - 1)


def ram_bytes() -> int:
    """Return how much memory this process may take: the machine's, or its container's limit where that is less."""
    limits = [int(psutil.virtual_memory().total)]
    for path in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max", which is no limit
            limits.append(int(path.read_text(encoding="ascii")))
    return min(limits)


def ram_held() -> int:
    """Return how many bytes of memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed activations, instead of asking the kernel for it at every layer.

    Blocks above 32 MB are otherwise mapped afresh each time and faulted in page by page; keeping them makes 3D
    convolutions on the CPU 1.5 to 1.8 times faster. All threads share one such store: with one each, which glibc gives
    them by default, two threads that resample side by side take 1.4 times as long. Call it before the first large
    tensor; elsewhere than on glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_ARENA_MAX, 1)
    except (OSError, AttributeError):  # musl
        return


def give_freed_memory_back() -> None:
    """Have glibc give the system what it keeps of freed memory, so that what is held is what is in use."""
    with suppress(OSError, AttributeError):  # another system, or musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def one_thread_for_numpy() -> AbstractContextManager[object]:
    """Give a context in which numpy's matrix products take one thread.

    Those of a pool (OpenBLAS) spin for a while after each product and hold the cores back from the network: resampling
    between two inferences makes these 2 to 3 times slower on two cores, and the products themselves no faster.
    """
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
