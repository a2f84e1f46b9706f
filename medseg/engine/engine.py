"""Engine: what the sliding window needs of whatever runs the network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.pointwise import Pointwise

# numpy's on the CPU, a tensor on its device elsewhere.
Array = Any


class Engine(ABC):
    """Runs a network. Its arrays are numpy's, unless a subclass keeps them on a device.

    Attributes:
        name: "openvino" or "torch".
        device: "cpu", "cuda:0", "mps".
        batch_voxels: voxels in one forward pass: enough to fill the processor, little enough to hold the activations.
        leaves_cores: whether it leaves cores of this machine to others while it works.
        on_host: whether its arrays are numpy's.
        pointwise: what takes what it says to logits; None where it says logits.
    """

    name: str
    device: str = "cpu"
    batch_voxels: int
    leaves_cores: bool = False
    on_host: bool = True
    pointwise: Pointwise | None = None

    @abstractmethod
    def run(self, patches: Array) -> Array:
        """Take patches, float32, (B, C, *patch), to what the network says of them, float32, (B, F, *patch).

        The array may be used again by the next run.

        F are its logits, or with `pointwise` the features that it makes them of.
        """

    def load(self, image: NDArray[np.float32]) -> Array:
        """Return an array of the engine's kind."""
        return image

    def fetch(self, values: Array) -> NDArray[np.float32]:
        """Return numpy's array of an array of the engine's kind."""
        return np.asarray(values)

    def zeros(self, shape: Sequence[int]) -> Array:
        """Return zeros, float32."""
        return np.zeros(shape, np.float32)

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Return arrays as one, along a new first axis."""
        return np.stack(arrays)

    def copy(self, values: Array) -> Array:
        """Return an array that no run uses again."""
        return values.copy()

    def flip(self, values: Array, axes: Sequence[int]) -> Array:
        """Return an array mirrored along some axes."""
        return np.flip(values, tuple(axes))

    def add(self, sums: Array, values: Array, weight: Array) -> None:
        """Add values, (F, ...), to sums of the same shape, each voxel times its weight, (...)."""
        for channel, own in zip(sums, values, strict=True):
            channel += own * weight  # one by one they stay in the processor's cache

    def constant(self, patch: Array) -> float | None:
        """Return the value of a patch that has the same one everywhere, else None."""
        first = float(patch.flat[0])
        return first if bool((patch == first).all()) else None

    def wait(self) -> None:  # noqa: B027
        """Return when all that was asked for is computed: a device may still be at it when its arrays are there."""

    def peak_gpu_mb(self) -> int | None:
        """Return the most memory that was held on a GPU, in MiB; None without one."""
        return None
