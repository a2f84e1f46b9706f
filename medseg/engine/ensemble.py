"""The ensemble engine: several networks of one task, heard together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.engine.engine import Array, Engine
from medseg.pointwise import Pointwise


class EnsembleEngine(Engine):
    """Says the mean of what several networks say.

    The class that the mean of their logits calls is the one that the geometric mean of their probabilities calls.

    Args:
        engines: at least one, of one kind and on one device; all take the same patches to the same logits.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        first = engines[0]
        self._engines, self._first = engines, first
        self.name, self.device, self.on_host = first.name, first.device, first.on_host
        self.batch_voxels, self.leaves_cores = first.batch_voxels, first.leaves_cores
        self.pointwise = _mean([engine.pointwise for engine in engines])

    def run(self, patches: Array) -> Array:
        """Take patches to the mean of the logits, or where that is less, to everybody's features."""
        if self.pointwise:
            return np.concatenate([engine.run(patches) for engine in self._engines], axis=1)
        total = self._first.copy(_logits(self._first, patches))
        for engine in self._engines[1:]:
            total = total + _logits(engine, patches)
        return total / len(self._engines)

    def load(self, image: NDArray[np.float32]) -> Array:
        """Return an array of the engines' kind."""
        return self._first.load(image)

    def fetch(self, values: Array) -> NDArray[np.float32]:
        """Return numpy's array of an array of the engines' kind."""
        return self._first.fetch(values)

    def zeros(self, shape: Sequence[int]) -> Array:
        """Return zeros."""
        return self._first.zeros(shape)

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Return arrays as one."""
        return self._first.stack(arrays)

    def copy(self, values: Array) -> Array:
        """Return the values, which are new each time."""
        return values

    def flip(self, values: Array, axes: Sequence[int]) -> Array:
        """Return an array mirrored."""
        return self._first.flip(values, axes)

    def add(self, sums: Array, values: Array, weight: Array) -> None:
        """Add weighted values to sums."""
        self._first.add(sums, values, weight)

    def constant(self, patch: Array) -> float | None:
        """Return the value of a patch that has the same one everywhere, else None."""
        return self._first.constant(patch)

    def wait(self) -> None:
        """Return when all that was asked for is computed."""
        self._first.wait()

    def peak_gpu_mb(self) -> int | None:
        """Return the most memory that was held on a GPU."""
        return self._first.peak_gpu_mb()


def _mean(own: Sequence[Pointwise | None]) -> Pointwise | None:
    """Return what takes everybody's features, one after the other, to the mean of the logits.

    None where somebody has no features, or where all features together are no fewer than the logits.
    """
    known = [one for one in own if one is not None]
    if len(known) < len(own) or sum(one.weight.shape[1] for one in known) >= len(known[0].weight):
        return None
    weight = np.concatenate([one.weight for one in known], axis=1) / len(known)
    bias = np.mean([one.bias for one in known], axis=0)
    return Pointwise(weight.astype(np.float32), bias.astype(np.float32))


def _logits(engine: Engine, patches: Array) -> Array:
    """Return what an engine says of patches, as logits."""
    said = engine.run(patches)
    return np.stack([engine.pointwise.apply(one) for one in said]) if engine.pointwise else said
