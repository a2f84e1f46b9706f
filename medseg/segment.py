"""Segmenter: a network at work on whole scans, from a volume to its label map."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.axes import AXES
from medseg.device import multiplies_bf16
from medseg.labels import LabelSet
from medseg.package import ModelPackage
from medseg.patches import slide
from medseg.preprocess import prepare
from medseg.recipe import Recipe
from medseg.restore import restore
from medseg.stopwatch import Stopwatch
from medseg.volume import Geometry, LabelMap, Volume


class Segmenter:
    """Segments scans with one network.

    Args:
        network: returns logits, (B, L, *patch).
        recipe: says how to prepare, tile and decide.
        labels: what the channels mean.
        device: where the network runs.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, labels: LabelSet, device: torch.device) -> None:
        self._network = network.to(device)
        self._recipe = recipe
        self._labels = labels
        self.device = device
        self._bf16 = uses_bf16(recipe, device)

    @classmethod
    def of(cls, package: ModelPackage, device: torch.device) -> "Segmenter":
        """Return the segmenter of a model package."""
        return cls(package.network(), package.recipe, package.labels, device)

    def segment(self, volume: Volume, *, stopwatch: Stopwatch | None = None) -> LabelMap:
        """Return the label map of a scan, on the scan's own grid."""
        watch = stopwatch or Stopwatch()
        with watch.stage("preprocess"):
            prepared = self.prepare(volume)
        with watch.stage("infer"):
            logits = self.logits(prepared.array)
        with watch.stage("restore"):
            return self.restore(logits, source=prepared.geometry, target=volume.geometry)

    def prepare(self, volume: Volume) -> Volume:
        """Return a scan on the grid and with the intensities that the network expects."""
        return prepare(volume, self._recipe.preprocess)

    def logits(self, prepared: NDArray[np.float32], *, flips: bool = True) -> NDArray[np.float32]:
        """Return the logits of a prepared image.

        Args:
            prepared: intensities, shape (C, I, J, K).
            flips: whether to average over the recipe's test-time flips.

        Returns:
            Shape (L, I, J, K).
        """
        settings = self._recipe.prediction
        self._network.eval()
        image = torch.from_numpy(np.array(prepared)).to(self.device)
        logits = slide(
            self._forward,
            image,
            patch=self._recipe.training.patch,
            overlap=settings.overlap,
            flips=[AXES.index(axis) for axis in settings.flips] if flips else [],
        )
        return logits.cpu().numpy()

    def restore(self, logits: NDArray[np.float32], *, source: Geometry, target: Geometry) -> LabelMap:
        """Return the label map that logits mean on another grid."""
        return restore(logits, source=source, target=target, labels=self._labels, head=self._recipe.model.head)

    def _forward(self, patches: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self._network(patches)
        return logits


def uses_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Say whether the recipe's precision means bfloat16 on this device."""
    precision = recipe.training.precision
    return precision == "bf16" or (precision == "auto" and multiplies_bf16(device))
