"""The processor that tensors live on, and what it is good at."""

import ctypes
import os
import re
import sys
from contextlib import AbstractContextManager

import torch
from threadpoolctl import threadpool_limits

from medseg.errors import DeviceError, OptionError

# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name: auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps.

    Raises:
        OptionError: no such kind of device.
        DeviceError: a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if not re.fullmatch(r"(cpu|cuda|mps)(:[0-9]+)?", name):
        raise OptionError(f"--device {name}", found="it is none of auto, cpu, cuda, cuda:N, mps", remedy="choose one")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise DeviceError(
            f"--device {name}",
            found=f"this machine has {count} device(s) of that kind",
            remedy="use --device auto, or install a torch build for the device",
        )
    return torch.device(name)


def multiplies_bf16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 faster than float32, so that mixed precision pays."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    tests = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(test()) for test in tests if test is not None)


def leaves_cores(device: torch.device) -> bool:
    """Say whether a network that runs on the device leaves cores of this machine to others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or torch.get_num_threads() < cores


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


def one_thread_for_numpy() -> AbstractContextManager[object]:
    """Give a context in which numpy's matrix products take one thread.

    Those of a pool (OpenBLAS) spin for a while after each product and hold the cores back from the network: resampling
    between two inferences makes these 2 to 3 times slower on two cores, and the products themselves no faster.
    """
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
