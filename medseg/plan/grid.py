"""The rules of `[preprocess]`: from the scans' grids and intensities to those the network sees.

They start from nnU-Net's (Isensee et al. 2021, Nature Methods 18, 203–211, supplementary note 2, "Rule-based
parameters"). What differs, and why, stands with each rule.
"""

import math

import numpy as np

from medseg.axes import Sides
from medseg.plan.choice import Choice
from medseg.plan.facts import Facts, Spacing

# nnU-Net's: voxels this many times longer than wide are anisotropic.
ANISOTROPIC = 3.0
# With fewer slices a 3D network could halve the coarse axis once at most, and sees little more than one of 2D.
FEWEST_SLICES = 16
# Narrower windows would make noise of the scanner into contrast.
NARROWEST_WINDOW_HU = 200
# Below it is no tissue but lung: a window that goes deeper leaves no margins to cut off.
LOWEST_TISSUE_HU = -500
# A label needs so many voxels across its mean thickness to keep its shape; in its middle it then has more.
VOXELS_ACROSS = 1.5


def window(facts: Facts) -> Choice:
    """Return the window in HU of a CT, and none for other modalities, which have no absolute scale.

    The 0.5th and 99.5th percentile of intensities inside the labels, as nnU-Net clips CT, rounded outwards to tens.
    Large labels count no more than small ones: a tumour of other density than its organ keeps its contrast.
    """
    key = "preprocess.window_hu"
    if not facts.tomograms:
        kinds = " and ".join(dict.fromkeys(facts.modalities))
        return Choice(key, None, f"{kinds} has no absolute scale: each volume to mean 0, standard deviation 1")
    strange = sum(not case.hounsfield for case in facts.cases)
    if 2 * strange > len(facts.cases):
        told = f"{strange} of {len(facts.cases)} CTs are not in HU"
        return Choice(key, None, f"{told}: each volume to mean 0, standard deviation 1")
    lowest = min(channel.low for channel in facts.intensities)
    highest = max(channel.high for channel in facts.intensities)
    low, high = 10 * math.floor(lowest / 10), 10 * math.ceil(highest / 10)
    reason = f"99 % of the intensities inside the labels are within {lowest:.0f} to {highest:.0f} HU"
    if high - low < NARROWEST_WINDOW_HU:
        low = 10 * round(((low + high) / 2 - NARROWEST_WINDOW_HU / 2) / 10)
        high = low + NARROWEST_WINDOW_HU
        reason += f"; widened to {NARROWEST_WINDOW_HU} HU"
    if strange:
        told = f"{strange} of {len(facts.cases)} scans do not look like HU, and are left out here"
        reason += f". {told}: see `medseg data check`"
    return Choice(key, [low, high], reason)


def crops(window_hu: list[int] | None) -> bool:
    """Return whether margins are empty: zeros around MR, air around CT where the window does not reach it."""
    return window_hu is None or window_hu[0] >= LOWEST_TISSUE_HU


def crop(facts: Facts, *, cropped: bool) -> Choice:
    """Return how margins are cut off: where they hold nothing, as nnU-Net does for all but CT."""
    if not cropped:
        return Choice("preprocess.crop", "none", "the window reaches down to air, so that no margin is empty")
    kept = np.median([np.prod(case.inside) / np.prod(case.shape) for case in facts.cases])
    return Choice("preprocess.crop", "foreground", f"leaves {100 * kept:.0f} % of the median case")


def flat_axis(facts: Facts) -> int | None:
    """Return the axis along which scans are so coarse and short that slices are segmented one by one, or None.

    nnU-Net trains in 2D and 3D and chooses by cross-validation; one training has to do here.
    """
    spacing, _ = full_spacing(facts)
    shape = shape_at(facts.median_extent_mm(cropped=False), spacing)
    axis = int(np.argmax(spacing))
    if shape[axis] < FEWEST_SLICES and is_anisotropic(spacing):
        return axis
    thin = int(np.argmin(shape))
    return thin if shape[thin] < 4 else None


def is_anisotropic(spacing_mm: Spacing) -> bool:
    """Return whether voxels are at least three times longer along one axis than along both others."""
    _, middle, coarse = sorted(spacing_mm)
    return coarse >= ANISOTROPIC * middle


def full_spacing(facts: Facts) -> tuple[Spacing, str]:
    """Return the spacing when time and memory do not matter, and why: nnU-Net's.

    The median along each axis; where voxels and shapes are anisotropic, the 10th percentile along the coarse one, and
    no finer than the others, so that thin slices are not thrown away for the sake of many thick ones.
    """
    spacings = facts.spacings_mm()
    target = np.median(spacings, axis=0)
    shape = np.median([case.shape for case in facts.cases], axis=0)
    axis = int(np.argmax(target))
    others = [other for other in range(3) if other != axis]
    where = "the case's own" if len(facts.cases) == 1 else f"median of {len(facts.cases)} cases"
    reason = f"{where}, {_times(target)} mm"
    low, high = spacings[:, axis].min(), spacings[:, axis].max()
    if is_anisotropic(_spacing(target)) and ANISOTROPIC * shape[axis] <= shape[others].min():
        target[axis] = max(float(np.percentile(spacings[:, axis], 10)), float(target[others].max()))
    if high > 1.2 * low:
        reason += f", along {'IJK'[axis]} from {low:.3g} to {high:.3g} mm"
    if target[axis] < np.median(spacings[:, axis]):
        reason += f", of which the 10th percentile {target[axis]:.3g} mm keeps thin slices"
    return _spacing(target), reason


def spacing_within(
    facts: Facts, most_voxels: float, *, why: str, cropped: bool, flat: int | None
) -> tuple[Spacing, str]:
    """Return the finest spacing at which the median case has at most so many voxels, and why.

    Where nnU-Net trains a coarse stage when a patch covers less than a quarter of the median case, and a fine one on
    top of it, there is one stage here, as fine as can be learnt in the time. The finest axes are made coarser first,
    until voxels are cubes, and only as far as the thinnest label allows.

    Args:
        facts: the dataset's.
        most_voxels: at least 1.
        why: what asks for no more.
        cropped: whether margins are cut off.
        flat: the axis of slices that are segmented one by one, which stays as it is.
    """
    full, reason = full_spacing(facts)
    thinnest, thickness = min(facts.thickness_mm().items(), key=lambda item: item[1])
    ceiling = max(thickness / VOXELS_ACROSS, min(full))
    floor = min(full)
    extent_mm = facts.median_extent_mm(cropped=cropped)

    def too_many() -> bool:
        return math.prod(shape_at(extent_mm, _raised(full, floor, flat))) > most_voxels

    while too_many() and floor < ceiling:
        floor = min(ceiling, 1.02 * floor)
    spacing = _raised(full, floor, flat)
    if spacing != full:
        reason += f"; made coarser, for {why}"
    if too_many():
        reason += f"; no coarser, for {thinnest.replace('_', ' ')} is {thickness:.1f} mm thick"
    return spacing, reason


def shape_at(extent_mm: Spacing, spacing_mm: Spacing) -> Sides:
    """Return sides in voxels of this spacing, at least 1 each."""
    i, j, k = (max(1, round(length / side)) for length, side in zip(extent_mm, spacing_mm, strict=True))
    return i, j, k


def _raised(spacing: Spacing, floor: float, flat: int | None) -> Spacing:
    """Return a spacing with no axis finer than `floor`, but for the flat one."""
    return _spacing([side if axis == flat else max(side, floor) for axis, side in enumerate(spacing)])


def _spacing(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]] | list[float]") -> Spacing:
    """Return three numbers, rounded to three digits."""
    i, j, k = (float(f"{value:.3g}") for value in values)
    return i, j, k


def _times(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    return " × ".join(f"{value:.3g}" for value in values)
