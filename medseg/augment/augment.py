"""Augmenter: TorchIO's transforms, drawn from a seed, so that every patch can be drawn again.

The seed is the draw: the same seed makes the same patch whatever was drawn before it, in whichever process. Labels go
through the spatial transforms by nearest neighbour and through no other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from medseg.augment.cut_short import cut_short
from medseg.axes import AXES, Sides
from medseg.recipe import Augment

# Control points of the elastic deformation along an axis. TorchIO lays points − order spline cells between them, and
# the image folds over itself when one moves by more than half a cell, so none does.
CONTROL_POINTS, SPLINE_ORDER = 7, 3


class Augmenter:
    """Draws and applies what a recipe's `augment` section asks for.

    Args:
        settings: the section.
        patch: the patch's shape in voxels; along a side of 1 nothing moves.
        beyond: the label id of what a spatial transform brings in from beyond the patch, `LabelSet.beyond`.
    """

    def __init__(self, settings: Augment, patch: tuple[int, int, int], *, beyond: int = 0) -> None:
        # A slice's normal comes first for TorchIO, whose motion artefacts run along the last axis.
        self._normal = patch.index(1) if 1 in patch else 0
        first, *others = (patch[self._normal], *patch[: self._normal], *patch[self._normal + 1 :])
        sides = (first, others[0], others[1])
        self._steps = [
            (probability, build(settings, sides))
            for probability, build in ((getattr(settings, name), build) for name, build in TRANSFORMS.items())
            if probability > 0
        ]
        self._beyond = beyond
        self._flip = settings.flip
        self._cut_short = settings.cut_short
        self._flip_axes = [AXES.index(axis) for axis in settings.flip_axes if patch[AXES.index(axis)] > 1]

    def __call__(
        self, image: NDArray[np.float32], label_map: NDArray[Any], *, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return the image, shape (C, I, J, K), and label map, shape (I, J, K), varied as this seed draws it."""
        rng = np.random.default_rng(seed)
        axes = [axis for axis in self._flip_axes if rng.random() < self._flip]
        image = np.flip(image, tuple(axis + 1 for axis in axes))
        label_map = np.flip(label_map, tuple(axes))
        if self._cut_short and rng.random() < self._cut_short:
            image, label_map = cut_short(image, label_map, rng)
        drawn = [transform for probability, transform in self._steps if rng.random() < probability]
        if not drawn:
            return np.ascontiguousarray(image), np.ascontiguousarray(label_map)
        turned = np.moveaxis(image, self._normal + 1, 1).copy()
        ids = np.moveaxis(label_map, self._normal, 0)[None].astype(np.int32)
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=torch.from_numpy(turned), affine=np.eye(4)),
            label_map=tio.LabelMap(tensor=torch.from_numpy(self._least(ids)), affine=np.eye(4)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for transform in drawn:
                subject = transform(subject)
        varied = np.moveaxis(subject["image"].data.numpy(), 1, self._normal + 1)
        ids = np.moveaxis(self._restored(subject["label_map"].data.numpy()[0]), 0, self._normal)
        return np.ascontiguousarray(varied, np.float32), np.ascontiguousarray(ids, label_map.dtype)

    def _least(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return ids among which that of beyond is 0 and there is one: TorchIO fills with 0, or the least there is."""
        if self._beyond == 0:
            return ids
        least = np.where(ids == self._beyond, 0, ids + 1).astype(np.int32)
        least[0, 0, 0, 0] = 0
        return least

    def _restored(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Return the ids as they were before `_least`."""
        return ids if self._beyond == 0 else np.where(ids == 0, self._beyond, ids - 1)


def _affine(settings: Augment, sides: Sides) -> Any:
    scale, angle, shift = settings.scale, settings.rotate_degrees, settings.shift_voxels
    turns = [1 not in sides or side == 1 for side in sides]
    return tio.RandomAffine(
        scales=ranges([(1.0, 1.0) if side == 1 else (1 - scale, 1 + scale) for side in sides]),
        degrees=ranges([(-angle, angle) if turn else (0.0, 0.0) for turn in turns]),
        translation=ranges([(0.0, 0.0) if side == 1 else (-shift, shift) for side in sides]),
    )


def ranges(pairs: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return (low, high) for each axis as TorchIO takes them: six numbers in a row."""
    return tuple(bound for pair in pairs for bound in pair)


def _elastic(settings: Augment, sides: Sides) -> Any:
    cells = CONTROL_POINTS - SPLINE_ORDER
    reach = tuple(0.0 if side == 1 else min(settings.elastic_voxels, side / cells / 2) for side in sides)
    return tio.RandomElasticDeformation(num_control_points=CONTROL_POINTS, max_displacement=reach)


def _low_resolution(settings: Augment, sides: Sides) -> Any:
    axes = tuple(axis for axis, side in enumerate(sides) if side > 1)
    return tio.RandomAnisotropy(axes=axes, downsampling=settings.low_resolution_factor)


def _blur(settings: Augment, sides: Sides) -> Any:
    return tio.RandomBlur(std=ranges([(0.0, 0.0) if side == 1 else settings.blur_voxels for side in sides]))


def _motion(settings: Augment, sides: Sides) -> Any:
    kind = _MotionInPlane if 1 in sides else tio.RandomMotion
    return kind(degrees=5, translation=3, num_transforms=1)


class _MotionInPlane(tio.RandomMotion):  # type: ignore[misc]
    """Motion of a slice whose normal is the first axis: it turns about the normal and shifts within its plane."""

    def get_params(self, *args: Any, **options: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return when the patient moves, the rotations in degrees and the shifts in voxels."""
        times, degrees, shift = super().get_params(*args, **options)
        degrees[:, 1:] = 0
        shift[:, 0] = 0
        return times, degrees, shift


def _bias_field(settings: Augment, sides: Sides) -> Any:
    return tio.RandomBiasField(coefficients=0.3, order=2)


def _gamma(settings: Augment, sides: Sides) -> Any:
    return tio.RandomGamma(log_gamma=(-settings.log_gamma, settings.log_gamma))


def _noise(settings: Augment, sides: Sides) -> Any:
    return tio.RandomNoise(mean=0, std=settings.noise_std)


# In order of application; each name is a probability of the recipe's section. Sides are the patch's, in voxels, the
# normal of a slice first.
TRANSFORMS: dict[str, Callable[[Augment, Sides], Any]] = {
    "affine": _affine,
    "elastic": _elastic,
    "low_resolution": _low_resolution,
    "blur": _blur,
    "motion": _motion,
    "bias_field": _bias_field,
    "gamma": _gamma,
    "noise": _noise,
}
