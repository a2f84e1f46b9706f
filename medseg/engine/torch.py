"""The torch engine: a network on a GPU, or on the CPU as the reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.device import full_float32, multiplies_bf16
from medseg.engine.engine import Array, Engine
from medseg.memory import out_of_memory
from medseg.processor import cores

BATCH_VOXELS = {"cpu": 2**20, "cuda": 2**23, "mps": 2**21}
# With more outputs it is these that take the memory, and not what the network holds on its way.
MANY_OUTPUTS = 16


class TorchEngine(Engine):
    """Runs a torch network. On a GPU the arrays are tensors there; on the CPU they are numpy's.

    Args:
        network: returns logits, (B, L, *patch).
        device: where it runs.
        precision: "auto" multiplies in bfloat16 where the device does so in hardware; "bf16"; "fp32", and then
            the process no longer lets NVIDIA GPUs round to TF32.
        channels_last: whether the arrays of a 3D network have their channels last in memory.
        outputs: how many channels it says, where they are known; with many, batches are smaller.
        compiled: whether torch compiles the network, at the first batch of each size: that takes a minute.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        precision: str = "auto",
        channels_last: bool = False,
        outputs: int = 1,
        compiled: bool = False,
    ) -> None:
        self._form = torch.channels_last_3d if channels_last else torch.contiguous_format
        network = network.to(device)
        if channels_last:
            network = network.to(memory_format=self._form)
        self._network: Any = torch.compile(network, dynamic=False) if compiled else network
        self._place = device
        self.device = str(device)
        self.on_host = device.type == "cpu"
        self.batch_voxels = BATCH_VOXELS[device.type] * MANY_OUTPUTS // max(MANY_OUTPUTS, outputs)
        self.bf16 = uses_bf16(precision, device)
        if precision == "fp32":
            full_float32()
        self.leaves_cores = device.type != "cpu" or torch.get_num_threads() < cores()

    @torch.inference_mode()
    def run(self, patches: Array) -> Array:
        """Take patches to logits."""
        self._network.eval()
        batch = torch.from_numpy(np.array(patches, order="C")) if self.on_host else patches
        with torch.autocast(self._place.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self._network(batch.contiguous(memory_format=self._form))
        return logits.float().numpy() if self.on_host else logits.float()

    def load(self, image: NDArray[np.float32]) -> Array:
        """Return the image on the device."""
        return image if self.on_host else torch.from_numpy(np.array(image)).to(self._place)

    def fetch(self, values: Array) -> NDArray[np.float32]:
        """Return values as numpy's array."""
        return super().fetch(values.cpu().numpy() if isinstance(values, Tensor) else values)

    def zeros(self, shape: Sequence[int]) -> Array:
        """Return zeros on the device, or where it has no room for them, in the host's memory."""
        if self.on_host:
            return super().zeros(shape)
        try:
            return torch.zeros(tuple(shape), device=self._place)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        return super().zeros(shape)

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Return arrays as one."""
        return super().stack(arrays) if self.on_host else torch.stack(list(arrays))

    def copy(self, values: Array) -> Array:
        """Return an array that no run uses again; torch's are new each time."""
        return values

    def flip(self, values: Array, axes: Sequence[int]) -> Array:
        """Return an array mirrored."""
        return super().flip(values, axes) if self.on_host else values.flip(list(axes))

    def add(self, sums: Array, values: Array, weight: Array) -> None:
        """Add weighted values; where sums lie in the host's memory, because the device has none left, there."""
        if isinstance(sums, np.ndarray):
            on_host = (each if isinstance(each, np.ndarray) else each.cpu().numpy() for each in (values, weight))
            super().add(sums, *on_host)
        else:
            sums.addcmul_(values, weight)

    def constant(self, patch: Array) -> float | None:
        """Say nothing of patches on a GPU: asking would hold it up for longer than running them."""
        return super().constant(patch) if self.on_host else None

    def wait(self) -> None:
        """Return when the device has computed all that it was asked for; it takes orders ahead of time."""
        if self._place.type != "cpu":
            torch.accelerator.synchronize(self._place)

    def peak_gpu_mb(self) -> int | None:
        """Return the most memory that was held on a CUDA device."""
        if self._place.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self._place) / 2**20)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Say whether a precision means bfloat16 on this device."""
    return precision == "bf16" or (precision == "auto" and multiplies_bf16(device))
