"""Layout: along which axes all patients are alike, by the order in which things lie there.

A mirrored patch teaches what may be on either side. Where one label lies before another in every patient, it teaches
what no patient has, and takes from the network what it could tell the two by (`benchmarks/choices.py`: `flip-all`).
"""

import re
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medseg.plan.facts import Facts

# Things lie in the same order where they do in so many of the cases that show both, and these are so many of all.
NEARLY_ALL, OFTEN_ENOUGH = 0.95, 0.1
MIDDLE = "the scan's middle"
# How one thing lies to another that has a lower coordinate: to the right, the front and the head.
BEYOND = ("to the right of", "in front of", "above")
SIDES = {"left", "right", "l", "r", "lt", "rt"}


def sided(facts: Facts) -> str | None:
    """Return a label that is told from another by its side, going by its name; None without one."""
    return next((name for name in facts.found if SIDES & set(re.split("[^a-z0-9]+", name.lower()))), None)


def order(facts: Facts, axis: int) -> str | None:
    """Return what lies in the same order along an axis in nearly all cases, in words; None where nothing does.

    Labels are held against each other and against the middle of the scan; pairs that hardly any case shows are passed
    over. Of several pairs it is the one that most cases show.

    Args:
        facts: the dataset's.
        axis: 0 to 2, to the right, the front and the head.
    """
    places = {name: _places(facts, name, axis) for name in (*facts.found, MIDDLE)}
    best: tuple[int, int] = (0, 0)
    words = None
    for first, second in combinations(places, 2):
        apart = places[first] - places[second]
        shown = int(np.count_nonzero(~np.isnan(apart)))
        beyond, before = int(np.count_nonzero(apart > 0)), int(np.count_nonzero(apart < 0))
        alike, least = max(beyond, before), max(1.0, OFTEN_ENOUGH * len(facts.cases))
        if shown >= least and alike >= NEARLY_ALL * shown and (shown, alike) > best:
            best = shown, alike
            one, other = (first, second) if beyond >= before else (second, first)
            words = f"{_spoken(one)} lies {BEYOND[axis]} {_spoken(other)} in {alike} of {shown} cases"
    return words


def _places(facts: Facts, name: str, axis: int) -> NDArray[np.float64]:
    """Return where a label's centres lie along an axis, in mm; NaN for cases that do not show it, shape (cases,)."""
    if name == MIDDLE:
        return np.array([case.middle_mm[axis] for case in facts.cases])
    shown = (case.labels.get(name) for case in facts.cases)
    return np.array([np.nan if label is None else label.centre_mm[axis] for label in shown])


def _spoken(name: str) -> str:
    return name.replace("_", " ")
