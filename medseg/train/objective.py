"""Objective: what a training step makes of a sample, and what it costs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from medseg.labels import LabelSet
from medseg.losses import build_loss
from medseg.recipe import Recipe
from medseg.train.target import encode, target_table

# Takes images, (B, C, *patch), to what a network says of them.
Network = Callable[[Tensor], Tensor]


class Objective(Protocol):
    """What is to become small."""

    def __call__(self, network: Network, sample: Sequence[Tensor]) -> Tensor:
        """Return the loss of a network on a sample, as the stream draws them, on the network's device."""
        ...


class Segmentation:
    """The loss of a recipe between what a network says and the labels of the patches.

    A sample is images, (B, C, *patch), label maps, (B, *patch), and where cases of the dataset lack labels, which of
    them these have, (B, labels).

    Args:
        recipe: names the loss and the head.
        labels: what the channels mean.
        device: where the samples will be.
    """

    def __init__(self, recipe: Recipe, labels: LabelSet, device: torch.device) -> None:
        self._loss = build_loss(recipe.training.loss, recipe.model.head)
        self._table = target_table(labels, recipe.model.head).to(device)

    def __call__(self, network: Network, sample: Sequence[Tensor]) -> Tensor:
        """Return the loss."""
        image, label_map, *labelled = sample
        target = encode(label_map, self._table, *labelled)
        return self._loss(network(image), target)
