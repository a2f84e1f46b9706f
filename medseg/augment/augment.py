"""Augmenter: TorchIO's transforms, drawn from a seed, so that every patch can be drawn again.

The seed is the draw: the same seed makes the same patch whatever was drawn before it, in whichever process. Labels go
through the spatial transforms by nearest neighbour and through no other.
"""

from typing import Any

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from medseg.augment.cut_short import cut_short
from medseg.augment.transforms import SPATIAL, TRANSFORMS, Spacing
from medseg.axes import AXES
from medseg.recipe import Augment


class Augmenter:
    """Draws and applies what a recipe's `augment` section asks for.

    Args:
        settings: the section.
        patch: the patch's shape in voxels; along a side of 1 nothing moves.
        beyond: the label id of what a spatial transform brings in from beyond the patch, `LabelSet.beyond`.
    """

    def __init__(self, settings: Augment, patch: tuple[int, int, int], *, beyond: int = 0) -> None:
        self._settings = settings
        self._patch = patch
        # A slice's normal comes first for TorchIO, whose motion artefacts run along the last axis.
        self._normal = patch.index(1) if 1 in patch else 0
        self._chances = {name: chance for name in TRANSFORMS if (chance := getattr(settings, name)) > 0}
        self._built: dict[Spacing, dict[str, tio.Transform]] = {}
        self._beyond = beyond
        self._flip = settings.flip
        self._cut_short = settings.cut_short
        self._flip_axes = [AXES.index(axis) for axis in settings.flip_axes if patch[AXES.index(axis)] > 1]

    def __call__(
        self, image: NDArray[np.float32], label_map: NDArray[Any], *, seed: int, spacing_mm: Spacing = (1.0, 1.0, 1.0)
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return a patch varied as this seed draws it.

        Args:
            image: shape (C, I, J, K).
            label_map: shape (I, J, K).
            seed: the draw.
            spacing_mm: of the patch's grid, so that what is turned keeps its shape.
        """
        rng = np.random.default_rng(seed)
        axes = [axis for axis in self._flip_axes if rng.random() < self._flip]
        image = np.flip(image, tuple(axis + 1 for axis in axes))
        label_map = np.flip(label_map, tuple(axes))
        if self._cut_short and rng.random() < self._cut_short:
            image, label_map = cut_short(image, label_map, rng)
        drawn = [name for name, chance in self._chances.items() if rng.random() < chance]
        if not drawn:
            return np.ascontiguousarray(image), np.ascontiguousarray(label_map)
        marked = self._beyond != 0 and any(name in SPATIAL for name in drawn)
        spacing_mm = self._turned(spacing_mm)
        grid = np.diag([*spacing_mm, 1.0])
        turned = np.moveaxis(image, self._normal + 1, 1).copy()
        ids = np.moveaxis(label_map, self._normal, 0)[None].astype(np.int32)
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=torch.from_numpy(turned), affine=grid),
            label_map=tio.LabelMap(tensor=torch.from_numpy(self._marked(ids) if marked else ids), affine=grid),
        )
        transforms = self._transforms(spacing_mm)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for name in drawn:
                subject = transforms[name](subject)
        varied = np.moveaxis(subject["image"].data.numpy(), 1, self._normal + 1)
        ids = subject["label_map"].data.numpy()[0]
        ids = np.moveaxis(self._unmarked(ids) if marked else ids, 0, self._normal)
        return np.ascontiguousarray(varied, np.float32), np.ascontiguousarray(ids, label_map.dtype)

    def _turned(self, values: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """Return one value for each axis with that of a slice's normal first."""
        first, *others = (values[self._normal], *values[: self._normal], *values[self._normal + 1 :])
        return first, others[0], others[1]

    def _transforms(self, spacing_mm: Spacing) -> dict[str, tio.Transform]:
        """Return the transforms for a grid, built once for each."""
        if spacing_mm not in self._built:
            sides = self._turned(self._patch)
            self._built[spacing_mm] = {
                name: TRANSFORMS[name](self._settings, sides, spacing_mm) for name in self._chances
            }
        return self._built[spacing_mm]

    def _marked(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return ids among which that of beyond is 0 and there is one: TorchIO fills with 0, or the least there is."""
        marked = np.where(ids == self._beyond, 0, ids + 1).astype(np.int32)
        marked[0, 0, 0, 0] = 0
        return marked

    def _unmarked(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Return the ids as they were before `_marked`."""
        return np.where(ids == 0, self._beyond, ids - 1)
