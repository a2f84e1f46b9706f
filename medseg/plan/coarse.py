"""The rules of `[coarse]`: whether a small network should find out first where the other looks.

nnU-Net has a coarse network segment what a patch shows too little of, and a fine one correct it everywhere (Isensee et
al. 2021). Here the coarse one says where there is anything at all, and the fine one looks at nothing else.
"""

import math

import numpy as np

from medseg.axes import Sides
from medseg.plan.budget import Budget
from medseg.plan.choice import Choice
from medseg.plan.facts import Facts
from medseg.plan.fit import FEWEST_STEPS, NARROW, Fit, halvable, level_filters, windows_of
from medseg.plan.grid import VOXELS_ACROSS, shape_at
from medseg.plan.memory import training_bytes

# It pays where the fine network would look often, and where what it looks for, with the margin around it, takes no more
# than half of a case.
FEWEST_WINDOWS, LARGEST_PART = 8, 0.5
MARGIN_MM = 20.0
# The coarse network sees a case of at most so many voxels along each side in one patch; less where memory is short.
LONGEST_SIDES = (64, 48, 32)
# A coarse voxel is at least so much longer than a fine one; else the coarse network would look as often.
COARSER = 1.5
# Of the time given. With fewer steps than half of what a training takes at least, nothing is found reliably.
SHARE_OF_COARSE = 0.1
LEAST_STEPS = FEWEST_STEPS // 2
# As it has half of the filters on every level.
FILTERS = NARROW // 2


def coarse(facts: Facts, fitted: Fit, budget: Budget) -> list[Choice]:
    """Return the section's choices but for the epochs, which follow from the schedule; why there is none, or nothing.

    Args:
        facts: the dataset's.
        fitted: patch and spacing of the fine network.
        budget: the time.
    """
    if fitted.flat is not None or windows_of(fitted) < FEWEST_WINDOWS:
        return []
    part = looked_at(facts)
    found = f"what is labelled and {MARGIN_MM:g} mm around it take {100 * part:.0f} % of the median case"
    if part > LARGEST_PART:
        return [Choice("coarse", None, f"{found}, too much for a coarse network to save any time")]
    if facts.partial:
        return [Choice("coarse", None, "cases lack labels that a coarse network would have to find")]
    extent_mm = facts.median_extent_mm(cropped=True)
    thinnest = min(facts.thickness_mm().values())
    side = math.ceil(20 * min(max(extent_mm) / LONGEST_SIDES[0], thinnest / VOXELS_ACROSS)) / 20
    if side < COARSER * max(fitted.spacing_mm):
        reason = f"its voxels of {side:g} mm, which would show a label {thinnest:.1f} mm thick, are hardly coarser"
        return [Choice("coarse", None, reason)]
    patch = _patch(facts, fitted, budget, shape_at(extent_mm, (side, side, side)))
    if patch is None:
        return [Choice("coarse", None, "no patch of a coarse network fits the memory with the fine one's batch")]
    steps = budget.voxels(share=SHARE_OF_COARSE) / (fitted.batch * math.prod(patch))
    if steps < LEAST_STEPS:
        return [Choice("coarse", None, f"{budget.minutes:g} minutes are too short to train a coarse network, too")]
    return [
        Choice("coarse.spacing_mm", [side] * 3, f"{found}: `medseg predict --preset fast` looks at nothing else"),
        Choice("coarse.patch", list(patch), "shows the median case whole, or as much as is quick"),
        Choice(
            "coarse.model",
            {"name": "dynunet", "options": {"filters": filters_of(patch)}},
            "half of the filters do to say where there is anything",
        ),
        Choice("coarse.margin_mm", MARGIN_MM, "organs end a little beyond what a coarse network finds"),
    ]


def _patch(facts: Facts, fitted: Fit, budget: Budget, shape: Sides) -> Sides | None:
    """Return the patch that shows the most of a case of these sides and fits the memory; None where none does."""
    for longest in LONGEST_SIDES:
        i, j, k = (halvable(min(size, longest)) for size in shape)
        patch = (i, j, k)
        channels, bf16 = len(facts.modalities), budget.bf16
        taken = training_bytes(patch, fitted.batch, filters_of(patch), channels=channels, labels=1, bf16=bf16)
        if taken <= budget.memory_bytes:
            return patch
    return None


def filters_of(patch: Sides) -> list[int]:
    """Return the coarse network's filters, of each level."""
    return [max(FILTERS, width // 2) for width in level_filters(patch, NARROW)]


def looked_at(facts: Facts) -> float:
    """Return which part of a case the box around its labels takes with the margin, the median of the cases with any."""
    parts = []
    for case in facts.cases:
        if not all(case.labelled):
            continue
        box = zip(case.labelled, case.spacing_mm, case.inside, strict=True)
        sides = (min(1.0, (side + 2 * MARGIN_MM / size) / whole) for side, size, whole in box)
        parts.append(math.prod(sides))
    return float(np.median(parts)) if parts else 1.0
