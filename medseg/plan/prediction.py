"""The rules of `[prediction]`: as much averaging as leaves time to train, for held-out cases are scored in it, too."""

import math

from medseg.plan.budget import Budget
from medseg.plan.choice import Choice
from medseg.plan.facts import Facts
from medseg.plan.fit import FORWARD, LEAST_OVERLAP, OVERLAP, Fit, windows_of
from medseg.recipe import Prediction

# What a patch holds whole is shown to it so far to either side of its middle, in eight places: README.md has what that
# gains. Further off it loses, for in training the middle is where such cases lie.
MARGIN = 1
# Scoring takes no more of the time than this, where less averaging can prevent it.
SHARE_OF_SCORING = 0.2


def prediction(facts: Facts, fitted: Fit, budget: Budget, *, axes: tuple[str, ...]) -> list[Choice]:
    """Return overlap, flips and margin: the most that there is time for.

    Args:
        facts: the dataset's, with how many cases are scored.
        fitted: patch and network.
        budget: the time.
        axes: those that are mirrored in training.
    """
    margin = margin_of(fitted)
    ways = [
        Prediction(overlap=OVERLAP, flips=axes, margin=margin),
        Prediction(overlap=OVERLAP, margin=margin),
        Prediction(overlap=OVERLAP),
        Prediction(overlap=LEAST_OVERLAP),
    ]
    voxels = SHARE_OF_SCORING * budget.voxels(share=1.0, cost=fitted.cost) / FORWARD
    passes = voxels / math.prod(fitted.patch) / max(1, facts.held_out)
    chosen = next((way for way in ways if passes_of(fitted, way) <= passes), ways[-1])
    short = f"scoring {facts.held_out} case(s) would take too much of the {budget.minutes:g} minutes"
    return [
        Choice("prediction.overlap", chosen.overlap, _overlap(chosen.overlap, short)),
        Choice("prediction.flips", list(chosen.flips), _flips(axes, chosen.flips, short)),
        Choice("prediction.margin", chosen.margin, _margin(fitted, margin, chosen.margin, short)),
    ]


def passes_of(fitted: Fit, way: Prediction) -> int:
    """Return how many patches the network is shown of the median case."""
    return windows_of(fitted, overlap=way.overlap, margin=way.margin) << len(way.flips)


def margin_of(fitted: Fit) -> int:
    """Return by how many voxels a case should be continued on every side: some where a patch holds it whole."""
    whole = all(side == 1 or size <= side for size, side in zip(fitted.shape, fitted.patch, strict=True))
    return MARGIN if whole else 0


def _overlap(chosen: float, short: str) -> str:
    if chosen == OVERLAP:
        return "half a patch is shared with the next one, as nnU-Net"
    return f"a quarter of a patch is shared with the next one: with nnU-Net's half {short}"


def _flips(axes: tuple[str, ...], chosen: tuple[str, ...], short: str) -> str:
    if not axes:
        return "no axis is mirrored in training"
    if not chosen:
        return f"with mirrored axes {short}; `medseg predict --preset accurate` averages them all the same"
    return "every combination of the axes mirrored in training is averaged, as nnU-Net"


def _margin(fitted: Fit, wanted: int, chosen: int, short: str) -> str:
    if not wanted:
        return "what lies in a case is seen from several places as it is"
    if not chosen:
        return f"with one {short}"
    places = 2 ** sum(side > 1 for side in fitted.patch)
    return f"a case that fits the patch is seen from {places} places of it, which are averaged"
