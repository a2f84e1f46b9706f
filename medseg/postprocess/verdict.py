"""Verdict: whether a rule helps cases that had no say in it, by the folds of a cross-validation.

A rule that is measured on the cases it was chosen on looks better than it is. So for every fold the best candidate is
chosen on the other folds and tried on this one, and only what it gains there counts (leave-one-group-out: Stone 1974,
Cross-validatory choice and assessment of statistical predictions). A rule is kept where

    1. the mean Dice of all cases, each under the rule that the other folds chose, is higher than without one, by 0.0001
       at least: less is the luck of a few voxels, while a rule may one day remove what is there, and
    2. the mean of no fold is lower: a rule that harms some of the data is not wanted for what it does to the rest.

It is then the rule that is best on all cases. Means are those of summaries: a Dice that is undefined, because neither
map shows the label, is in none. Where a mean is undefined with a rule or without, nothing is gained, and with cases of
one fold only there is nothing to choose by; so no rule is kept.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Smaller differences of means are rounding, and smaller gains not worth a rule.
TOLERANCE, LEAST_GAIN = 1e-6, 1e-4

Dices = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a cross-validation says of some candidates.

    Attributes:
        best: the candidate that is best on all cases; 0 where none is better than nothing.
        kept: whether it is to be kept.
        without: the Dice of each case as it is, shape (cases,).
        with_best: with the best candidate.
        held_out: with the candidate that the other folds chose.
        by_fold: fold → by how much `held_out` raises its mean.
    """

    best: int
    kept: bool
    without: Dices
    with_best: Dices
    held_out: Dices
    by_fold: dict[int, float]

    @property
    def gain(self) -> float:
        """By how much the mean rises on cases that had no say: what may be expected of new ones."""
        return gained(self.without, self.held_out)

    @property
    def gain_where_chosen(self) -> float:
        """By how much the mean rises on the cases that the best candidate was chosen on."""
        return gained(self.without, self.with_best)


def judge(dices: Dices, folds: NDArray[np.int64]) -> Verdict:
    """Judge candidates.

    Args:
        dices: the Dice of each case with each candidate, NaN where it is undefined, shape (cases, candidates), 0 cases
            or more. The first candidate changes nothing, and the others follow from the mildest on.
        folds: in which each case was held out, shape (cases,).
    """
    without, held_out, best = dices[:, 0], dices[:, 0].copy(), best_of(dices)
    by_fold: dict[int, float] = {}
    for fold in map(int, np.unique(folds)):
        own = folds == fold
        held_out[own] = dices[own, best_of(dices[~own])]
        by_fold[fold] = gained(without[own], held_out[own])
    helps = gained(without, held_out) >= LEAST_GAIN and min(by_fold.values()) >= -TOLERANCE
    return Verdict(best, best > 0 and helps, without, dices[:, best], held_out, by_fold)


def best_of(dices: Dices) -> int:
    """Return the candidate with the highest mean; of equals the mildest, and 0 where none is better than nothing."""
    gains = np.array([gained(dices[:, 0], column) for column in dices.T])
    return int(np.flatnonzero(gains >= gains.max() - TOLERANCE)[0])


def gained(without: Dices, with_rule: Dices) -> float:
    """Return by how much a rule raises the mean Dice of cases; 0 where the mean is undefined with it or without."""
    gain = mean(with_rule) - mean(without)
    return 0.0 if math.isnan(gain) else gain


def mean(dices: Dices) -> float:
    """Return the mean of the values that are defined, NaN where none is."""
    defined = dices[~np.isnan(dices)]
    return float(defined.mean()) if len(defined) else math.nan
