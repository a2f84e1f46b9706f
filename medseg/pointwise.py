"""Pointwise: a network's last 1×1×1 convolution, which takes each voxel's features to its logits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A linear map at every voxel by itself.

    Weights that sum to 1 commute with it, those of interpolation and of averaging windows or flips too: the map of the
    average is the average of the maps. So a few features can travel in the place of many logits.

    Attributes:
        weight: float32, shape (L, F).
        bias: float32, shape (L,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def apply(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits, shape (L, ...), of features of shape (F, ...)."""
        flat = features.reshape(len(features), -1).astype(np.float32, copy=False)
        logits = self.weight @ flat
        logits += self.bias[:, None]
        return np.asarray(logits.reshape(len(logits), *features.shape[1:]))
