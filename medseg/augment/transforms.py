"""Transforms: TorchIO's for each probability of a recipe's `augment` section, for patches on a grid of any spacing.

What the section gives in voxels counts voxels along each axis, whatever their size; angles are those of the anatomy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from medseg.augment.elastic import SPLINE_ORDER, Elastic
from medseg.axes import Sides
from medseg.recipe import Augment
from medseg.volume.taps import Taps

# In millimetres along each axis.
Spacing = tuple[float, float, float]

# Control points of the elastic deformation along an axis. TorchIO lays points − order spline cells between them, and
# the image folds over itself when one moves by more than half a cell, so none does.
CONTROL_POINTS = 7


def _affine(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    scale, angle, shift = settings.scale, settings.rotate_degrees, settings.shift_voxels
    turns = [1 not in sides or side == 1 for side in sides]
    reach = [0.0 if side == 1 else shift * mm for side, mm in zip(sides, spacing_mm, strict=True)]
    return tio.RandomAffine(
        scales=_ranges([(1.0, 1.0) if side == 1 else (1 - scale, 1 + scale) for side in sides]),
        degrees=_ranges([(-angle, angle) if turn else (0.0, 0.0) for turn in turns]),
        translation=_ranges([(-mm, mm) for mm in reach]),
    )


def _ranges(pairs: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return (low, high) for each axis as TorchIO takes them: six numbers in a row."""
    return tuple(bound for pair in pairs for bound in pair)


def _elastic(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    cells = CONTROL_POINTS - SPLINE_ORDER
    voxels = [0.0 if side == 1 else min(settings.elastic_voxels, side / cells / 2) for side in sides]
    reach = tuple(n * mm for n, mm in zip(voxels, spacing_mm, strict=True))
    return Elastic(num_control_points=CONTROL_POINTS, max_displacement=reach)


def _low_resolution(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    axes = tuple(axis for axis, side in enumerate(sides) if side > 1)
    return _LowResolution(axes=axes, downsampling=settings.low_resolution_factor)


class _LowResolution(tio.RandomAnisotropy):  # type: ignore[misc]
    """TorchIO's draw of an axis and a factor; beyond the first and the last thick slice a patch goes on as these are.

    TorchIO's own has 0 there, while the labels stay.
    """

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Return the subject, its images of fewer, thicker slices along an axis, which are interpolated linearly."""
        axis, factor = self.get_params(self.axes, self.downsampling_range)
        for image in subject.get_images(intensity_only=True):
            image.set_data(torch.from_numpy(thick_slices(image.data.numpy(), axis + 1, factor)))
        return subject


def thick_slices(image: NDArray[np.float32], axis: int, factor: float) -> NDArray[np.float32]:
    """Return an image that is known in every so many-th place of an axis alone, and interpolated linearly between."""
    side = image.shape[axis]
    count = max(1, round(side / factor))
    known = Taps.at((np.arange(count) + 0.5) * side / count - 0.5, side).matrix()
    between = Taps.at((np.arange(side) + 0.5) * count / side - 0.5, count).matrix()
    planes = np.moveaxis(image, axis, 0)
    thick = (between @ (known @ planes.reshape(side, -1))).reshape(planes.shape)
    return np.ascontiguousarray(np.moveaxis(thick, 0, axis), np.float32)


def _blur(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    low, high = settings.blur_voxels
    reach = [0.0 if side == 1 else mm for side, mm in zip(sides, spacing_mm, strict=True)]
    return tio.RandomBlur(std=_ranges([(low * mm, high * mm) for mm in reach]))


def _motion(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    return _Motion(sides, spacing_mm)


class _Motion(tio.RandomMotion):  # type: ignore[misc]
    """One movement, of up to 5° and 3 voxels along each axis; a slice, whose normal comes first, stays in its plane.

    Args:
        sides: of the patch.
        spacing_mm: of its voxels.
    """

    def __init__(self, sides: Sides, spacing_mm: Spacing) -> None:
        super().__init__(degrees=5, translation=3, num_transforms=1)
        self._sides = sides
        self._spacing_mm = spacing_mm

    def get_params(self, *args: Any, **options: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return when the patient moves, from 0 to 1, the rotations in degrees and the shifts in millimetres.

        The middle of k-space, which says where things are, is to be what was taken before the patient moved: TorchIO
        sees to that, but for a moment so soon after the middle that the plane of the middle itself comes later.
        """
        times, degrees, shift = super().get_params(*args, **options)
        planes = self._sides[-1]
        late = (times > 0.5) & ((planes * times).astype(int) <= planes // 2)
        times = np.where(late, 1 - times, times)
        shift = shift * np.array(self._spacing_mm, shift.dtype)
        if self._sides[0] == 1:
            degrees[:, 1:] = 0
            shift[:, 0] = 0
        return times, degrees, shift


def _bias_field(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    return tio.RandomBiasField(coefficients=0.3, order=2)


def _gamma(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    return tio.RandomGamma(log_gamma=(-settings.log_gamma, settings.log_gamma))


def _noise(settings: Augment, sides: Sides, spacing_mm: Spacing) -> tio.Transform:
    return tio.RandomNoise(mean=0, std=settings.noise_std)


# In order of application; each name is a probability of the recipe's section. Sides are the patch's, in voxels, the
# normal of a slice first, and so is the spacing.
TRANSFORMS: dict[str, Callable[[Augment, Sides, Spacing], tio.Transform]] = {
    "affine": _affine,
    "elastic": _elastic,
    "low_resolution": _low_resolution,
    "blur": _blur,
    "motion": _motion,
    "bias_field": _bias_field,
    "gamma": _gamma,
    "noise": _noise,
}
# Those that move voxels, and labels with them.
SPATIAL = ("affine", "elastic")
