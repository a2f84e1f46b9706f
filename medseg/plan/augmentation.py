"""The rules of `[augment]`: what is varied follows from the data, and how much from what the processor can draw."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.plan.budget import Budget
from medseg.plan.choice import Choice
from medseg.plan.facts import Facts
from medseg.plan.fit import Fit
from medseg.plan.grid import is_anisotropic
from medseg.plan.layout import order, sided

# Fewer cases show too little of what differs between patients: everything is varied twice as often.
FEW_CASES = 20
# Without worker processes the network waits while patches are drawn, for this part of the time; with them, they have
# to keep up.
SHARE_OF_WAITING, SHARE_OF_WORKERS = 0.15, 0.8
# Slices vary in thickness, and scans in length, where the thickest tenth begins at this many times the thinnest's end.
VARIES = 1.5


@dataclass(frozen=True)
class Transform:
    """One of the transforms that time is weighed for.

    Attributes:
        key: of `[augment]`.
        probability: when there are cases enough.
        seconds: of one core, for a million voxels.
        reason: what it stands for.
    """

    key: str
    probability: float
    seconds: float
    reason: str


# What each is worth for what it costs, the best first. Seconds were measured on patches of 96³.
ALL = (
    Transform("gamma", 0.2, 0.01, "contrast differs between scanners"),
    Transform("affine", 0.3, 0.05, "patients differ in size and lie differently"),
    Transform("noise", 0.15, 0.01, "doses and sequences differ"),
    Transform("low_resolution", 0.1, 0.01, "slices may be thicker"),
    Transform("blur", 0.1, 0.02, "reconstructions differ in sharpness"),
    Transform("bias_field", 0.1, 0.03, "MR has slow changes of brightness"),
    Transform("elastic", 0.1, 0.2, "organs differ in shape"),
    Transform("motion", 0.05, 0.05, "patients move during MR"),
)
ONLY_MR = {"bias_field", "motion"}


def augmentation(facts: Facts, fitted: Fit, budget: Budget, *, mirrored: tuple[tuple[str, ...], str]) -> list[Choice]:
    """Return what is drawn for each patch: what is worth most for its time first, until it would hold training up.

    `mirrored` is from `flip_axes`.
    """
    axes, reason = mirrored
    choices = [
        Choice("augment.flip", 0.5, "one patch in two, along each of these axes, as nnU-Net")
        if axes
        else Choice("augment.flip", 0.0, "mirrored patches would show what no patient has"),
        Choice("augment.flip_axes", list(axes), reason),
    ]
    if varies(facts.extents_mm(cropped=False)[:, 2]) and fitted.flat is None:
        lengths = facts.extents_mm(cropped=False)[:, 2]
        reason = f"scans end anywhere: they are {lengths.min():.0f} to {lengths.max():.0f} mm long"
        choices.append(Choice("augment.cut_short", 0.2, reason))
    allowed, slowest = seconds_to_draw(fitted, budget)
    for transform in ALL:
        if transform.key in ONLY_MR and not facts.magnetic:
            continue
        probability, reason = _probability(transform, facts)
        cost = probability * transform.seconds * math.prod(fitted.patch) / 1e6
        if cost > allowed:
            choices.append(Choice(f"augment.{transform.key}", None, f"would hold training up: {slowest}"))
            continue
        allowed -= cost
        choices.append(Choice(f"augment.{transform.key}", probability, reason))
        if transform.key == "affine":
            choices += affine_ranges(fitted)
    return choices


def flip_axes(facts: Facts, fitted: Fit) -> tuple[tuple[str, ...], str]:
    """Return the axes that may be mirrored, and why not the others: patients are alike there. Nor a slice's normal."""
    axes, reasons = [], []
    for number, axis in enumerate("IJK"):
        if number == fitted.flat:
            continue
        side = sided(facts) if number == 0 else None
        told = f"{side.replace('_', ' ')} has a side" if side else order(facts, number)
        if told:
            reasons.append(f"not {axis}, for {told}")
        else:
            axes.append(axis)
    return tuple(axes), "; ".join(reasons) or "nothing lies in the same order in nearly all cases"


def varies(values: "np.ndarray[Any, np.dtype[np.float64]]") -> bool:
    """Return whether the 90th percentile is half as much again as the 10th."""
    low, high = np.percentile(values, [10, 90])
    return bool(high > VARIES * low)


def seconds_to_draw(fitted: Fit, budget: Budget) -> tuple[float, str]:
    """Return how long drawing a patch may take on one core, and what would be waited for."""
    step = math.prod(fitted.patch) / budget.voxels_per_second * fitted.cost
    if budget.workers == 0:
        return SHARE_OF_WAITING * step, "the network waits while patches are drawn"
    plural = "es" * (budget.workers > 1)
    return (
        SHARE_OF_WORKERS * budget.workers * step,
        f"{budget.workers} process{plural} could not keep up with the network",
    )


def affine_ranges(fitted: Fit) -> list[Choice]:
    """Return how far patches are scaled and turned."""
    scale = Choice("augment.scale", 0.2, "a fifth, about what adults differ by")
    if fitted.flat is None and is_anisotropic(fitted.spacing_mm):
        reason = (
            "slices are so far apart that little is known of what lies between them, where turning further would look"
        )
        return [scale, Choice("augment.rotate_degrees", 5.0, reason)]
    return [scale, Choice("augment.rotate_degrees", 15.0, "patients are laid down with care")]


def _probability(transform: Transform, facts: Facts) -> tuple[float, str]:
    """Return how often a transform is drawn, and why."""
    probability, reason = transform.probability, transform.reason
    thickness = facts.spacings_mm().max(axis=1)
    if transform.key == "low_resolution" and varies(thickness):
        probability *= 2
        reason = f"slices are {thickness.min():.3g} to {thickness.max():.3g} mm thick"
    if len(facts.cases) < FEW_CASES:
        probability *= 2
        reason += "; twice as often, for there are few cases"
    return round(probability, 2), reason
