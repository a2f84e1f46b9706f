"""The processor that tensors live on, and what it is good at."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from medseg.errors import DeviceError, OptionError

# cuBLAS adds in a fixed order when its workspaces have a fixed size (its manual, "Results Reproducibility").
CUBLAS_WORKSPACE = ":4096:8"
CONVOLUTIONS = {
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
}  # fmt: skip


def choose_device(name: str = "auto", *, place: int | None = None) -> torch.device:
    """Return the device of a name: auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps.

    Args:
        name: of the device.
        place: this process's number among several on the machine, of which each takes a GPU of its own; None: it is
            the only one.

    Raises:
        OptionError: no such kind of device, or one GPU for several processes.
        DeviceError: a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda") if place is None else choose_device("cuda", place=place)
        return torch.device("mps" if torch.backends.mps.is_available() and place is None else "cpu")
    if not re.fullmatch(r"(cpu|cuda|mps)(:[0-9]+)?", name):
        raise OptionError(f"--device {name}", found="it is none of auto, cpu, cuda, cuda:N, mps", remedy="choose one")
    if place is not None and name == "cuda":
        name = f"cuda:{place}"
    elif place is not None and name != "cpu":
        raise OptionError(
            f"--device {name}", found="several processes cannot share it", remedy="use --device cuda or cpu"
        )
    kind, _, index = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise DeviceError(
            f"--device {name}",
            found=f"this machine has {count} device(s) of that kind",
            remedy="use --device auto, or install a torch build for the device",
        )
    return torch.device(name)


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Have everything that torch computes in the block come out the same each time, bit for bit.

    On one machine, with the same number of threads. It has to be entered before anything is computed on a GPU, because
    cuBLAS looks only once. An operation that cannot do it raises RuntimeError.

    Args:
        wanted: whether it is; False leaves everything as it is.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def full_float32() -> None:
    """Have convolutions on NVIDIA GPUs multiply float32 in full, in this process from now on.

    torch would have them round what they multiply to TF32, of 10 bits of fraction; matrix products it leaves alone.
    """
    torch.backends.cudnn.allow_tf32 = False


def multiplies_bf16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 faster than float32, so that mixed precision pays."""
    if device.type == "cuda":  # AMD's do, and NVIDIA's from Ampere (compute capability 8.0) on
        return bool(torch.version.hip) or torch.cuda.get_device_properties(device).major >= 8
    if device.type != "cpu":
        return False
    tests = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(test()) for test in tests if test is not None)


@contextmanager
def mixed_precision(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """Have what a network says in the block be computed in bfloat16, where that is safe for its gradients, too.

    On a CPU, convolutions of arrays with a side shorter than the kernel are left in float32: the gradients of their
    kernels come out of oneDNN as whatever lay in memory, or it writes where it should not (seen in oneDNN 3.12, on a
    processor with AVX-512 BF16). They are those of a network's last levels, and take no time.

    Args:
        device: where the network is.
        bf16: whether bfloat16 is wanted; False leaves everything as it is.
    """
    with ExitStack() as stack:
        if bf16:
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        if bf16 and device.type == "cpu":
            stack.enter_context(_SmallInFloat32())
        yield


class _SmallInFloat32(TorchFunctionMode):
    """Convolutions within autocast, of which those with a side shorter than the kernel are in float32."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        if function in CONVOLUTIONS and len(arguments) > 1 and _is_small(*arguments[:2]):
            values, *others = arguments
            with torch.autocast("cpu", enabled=False):
                return function(values.float(), *others, **(options or {}))
        return function(*arguments, **(options or {}))


def _is_small(values: torch.Tensor, kernel: torch.Tensor) -> bool:
    """Say whether values, ([B,] C, ...), have a side shorter than the same one of a kernel, (C, C, ...)."""
    lengths = kernel.shape[2:]
    return any(side < length for side, length in zip(values.shape[-len(lengths) :], lengths, strict=True))
