"""What the scores of many cases say together, with their denominators."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medseg.metrics.overlap import CaseScore

SCORES = ("dice", "iou", "precision", "recall")
# The percentile bootstrap (Efron and Tibshirani 1993, chapter 13): resample cases, take the middle 95 % of the means.
RESAMPLES, SEED, CONFIDENCE = 2000, 0, 95.0


def summarise(rows: Sequence[CaseScore]) -> dict[str, Any]:
    """Return the summary of a table of scores, ready for JSON.

    Returns:
        `labels`: for each label, by its name, `label_id` (the lowest, where files number it differently), `n` (cases),
        `n_reference_empty`, `n_prediction_empty`, `n_both_empty` (counted in both of the former as well), and for each
        score its `n` (cases where it is defined), `mean`, `median` and `ci95` of the mean. `overall`: the same over
        cases, each case counting with the mean of its labels; its `n_…_empty` are sums over the labels. Undefined
        statistics are None; an interval takes two cases.
    """
    by_label = _grouped(sorted(rows, key=lambda row: row.label_id), by="label")
    by_case = _grouped(sorted(rows, key=lambda row: row.case_id), by="case_id")
    overall: dict[str, Any] = {"n": len(by_case), **_empties(rows)}
    for score in SCORES:
        overall[score] = statistics([_mean([getattr(row, score) for row in own]) for own in by_case.values()])
    labels = {name: _label_summary(own) for name, own in by_label.items()}
    return {"overall": overall, "labels": labels}


def _grouped(rows: Iterable[CaseScore], *, by: str) -> dict[str, list[CaseScore]]:
    """Return the rows of each label or case, in the order in which these first come."""
    groups: dict[str, list[CaseScore]] = {}
    for row in rows:
        groups.setdefault(getattr(row, by), []).append(row)
    return groups


def _label_summary(rows: Sequence[CaseScore]) -> dict[str, Any]:
    summary: dict[str, Any] = {"label_id": rows[0].label_id, "n": len(rows), **_empties(rows)}
    return summary | {score: statistics([getattr(row, score) for row in rows]) for score in SCORES}


def _empties(rows: Sequence[CaseScore]) -> dict[str, int]:
    """Count where reference, prediction or both lack a label; recall and precision are undefined just there."""
    return {
        "n_reference_empty": sum(row.recall is None for row in rows),
        "n_prediction_empty": sum(row.precision is None for row in rows),
        "n_both_empty": sum(row.dice is None for row in rows),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def statistics(values: Sequence[float | None]) -> dict[str, Any]:
    """Return n, mean, median and the mean's 95 % confidence interval of the values that are defined."""
    defined = np.array([value for value in values if value is not None])
    if not len(defined):
        return {"n": 0, "mean": None, "median": None, "ci95": None}
    interval = None
    if len(defined) > 1:
        draws = np.random.default_rng(SEED).integers(len(defined), size=(RESAMPLES, len(defined)))
        tail = (100 - CONFIDENCE) / 2
        interval = [float(end) for end in np.percentile(defined[draws].mean(axis=1), [tail, 100 - tail])]
    return {
        "n": len(defined),
        "mean": float(defined.mean()),
        "median": float(np.median(defined)),
        "ci95": interval,
    }
