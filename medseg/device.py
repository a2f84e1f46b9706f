"""The processor that tensors live on, and what it is good at."""

import re

import torch

from medseg.errors import DeviceError, OptionError


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
