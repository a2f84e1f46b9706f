"""Decision: which class logits mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.pointwise import Pointwise
from medseg.recipe import Head


@dataclass(frozen=True, eq=False)
class Decision:
    """Takes values to the number of the class there: 0 for background, 1 for the first label and so on.

    Attributes:
        head: softmax takes the largest channel, the first of equals; sigmoid the last channel above 0.
        pointwise: what takes the values to logits first.
        kind: an unsigned type that holds the numbers, and one more.
    """

    head: Head
    pointwise: Pointwise | None
    kind: type[np.uint8] | type[np.uint16]

    def channels(self, values: NDArray[Any]) -> int:
        """Return how many logits a voxel of values, (C, ...), has."""
        return len(self.pointwise.bias) if self.pointwise else len(values)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the number at each voxel of values, (C, ...)."""
        logits = self.pointwise.apply(values) if self.pointwise else values
        numbers = np.zeros(logits.shape[1:], self.kind)
        highest, first = (logits[0], 1) if self.head == "softmax" else (np.float32(0), 0)
        for number, channel in enumerate(logits[first:], start=1):
            logit = channel.astype(np.float32, copy=False)
            np.maximum(numbers, (logit > highest) * self.kind(number), out=numbers)
            if self.head == "softmax":
                highest = np.maximum(highest, logit)
        return numbers
