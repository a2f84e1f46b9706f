"""Choose: the rules that help, by a cross-validation, and what they do.

For each label the rules that remove objects are judged first; then, on maps that these have cleaned, the rules that
fill holes. `medseg.postprocess.verdict` says when a rule is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.postprocess.rules import Rule, Volumes
from medseg.postprocess.table import CaseTable, Regions
from medseg.postprocess.verdict import TOLERANCE, Verdict, judge, mean


@dataclass(frozen=True)
class Chosen:
    """The rules that help, and what they were found to do.

    Attributes:
        rules: for `postprocess`; one for each label that is changed.
        report: ready for JSON. `n` cases, `folds`, and for each of the `labels` its `removal` and its `filling`:
            `rule`: the candidate that is best on all cases, and `kept`, whether it is among the rules.
            `n`: the cases where the label has a Dice, and their mean `dice_without` a rule.
            `dice_held_out`: the mean with rules chosen on the other folds; `gain` and `gain_by_fold`: what that gains.
            `gain_where_chosen`: what `rule` gains on the cases it was chosen on, which flatters it.
            `n_changed`, `n_lowered`: the cases whose Dice `rule` changes, and lowers.
            `tried`: every candidate with its mean `dice`. Means that are undefined are None.
    """

    rules: tuple[Rule, ...]
    report: dict[str, Any]


def choose_rules(tables: Sequence[CaseTable]) -> Chosen:
    """Choose rules by a cross-validation.

    Args:
        tables: of the cases that were held out, each with its fold, in any order and all of the same labels. Without
            any, or with those of one fold, no rule is chosen.
    """
    labels = tables[0].labels if tables else ()
    objects = [table.as_predicted() for table in tables]
    rules: dict[str, Rule] = {}
    report: dict[str, dict[str, Any]] = {}
    for label in labels:
        candidates = removals(label, _volumes(label, tables, objects))
        rules[label], removal = _choose(candidates, tables, objects, [None] * len(tables))
        report[label] = {"removal": removal}
    holes = [table.holes(list(rules.values())) for table in tables]
    for label in labels:
        candidates = fillings(rules[label], _volumes(label, tables, holes))
        rules[label], report[label]["filling"] = _choose(candidates, tables, objects, holes)
    return Chosen(
        rules=tuple(rule for rule in rules.values() if not rule.changes_nothing),
        report={"n": len(tables), "folds": sorted({table.fold for table in tables}), "labels": report},
    )


def removals(label: str, volumes_mm3: Volumes) -> list[Rule]:
    """Return rules that remove objects, the first of which removes none."""
    steps = (0.0, *ladder(volumes_mm3))
    return [Rule(label=label, keep_largest=keep, smallest_mm3=step) for keep in (False, True) for step in steps]


def fillings(rule: Rule, volumes_mm3: Volumes) -> list[Rule]:
    """Return a rule with the holes that it may fill, the first of which fills none."""
    return [rule.model_copy(update={"holes_mm3": step}) for step in (0.0, *ladder(volumes_mm3))]


def ladder(volumes_mm3: Volumes) -> list[float]:
    """Return the steps 1, 2, 5, 10, 20, 50, … mm³ from the first above the smallest volume to that above the largest.

    Round, and the same for all labels, so that they are fitted to no case. No step where there is no volume.
    """
    if not volumes_mm3.size:
        return []
    low, high = float(volumes_mm3.min()), float(volumes_mm3.max())
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    steps = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    last = next(step for step in steps if step > high)
    return [step for step in steps if low < step <= last]


def _volumes(label: str, tables: Sequence[CaseTable], regions: Sequence[Regions]) -> Volumes:
    """Return the volumes of all objects or holes of a label, in cases where it is scored."""
    found = [
        its.volumes_mm3[its.owner == table.number(label)]
        for table, its in zip(tables, regions, strict=True)
        if label in table.present
    ]
    return np.concatenate([np.zeros(0), *found])


def _choose(
    candidates: Sequence[Rule],
    tables: Sequence[CaseTable],
    objects: Sequence[Regions],
    holes: Sequence[Regions | None],
) -> tuple[Rule, dict[str, Any]]:
    """Return the candidate to keep, the first where none helps, and its report."""
    dices, folds = [], []
    for table, its_objects, its_holes in zip(tables, objects, holes, strict=True):
        if candidates[0].label in table.present:
            dices.append([table.dice(rule, its_objects, its_holes) for rule in candidates])
            folds.append(table.fold)
    by_case = np.array(dices, np.float64).reshape(len(folds), len(candidates))
    verdict = judge(by_case, np.array(folds, np.int64))
    tried = [_json(rule) | {"dice": _number(mean(column))} for rule, column in zip(candidates, by_case.T, strict=True)]
    report = {"rule": _json(candidates[verdict.best]), **_report(verdict), "tried": tried}
    return candidates[verdict.best if verdict.kept else 0], report


def _report(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for JSON."""
    without, with_best = verdict.without, verdict.with_best
    same = np.isclose(without, with_best, rtol=0, atol=TOLERANCE, equal_nan=True)
    return {
        "kept": verdict.kept,
        "n": int(np.count_nonzero(~np.isnan(without))),
        "dice_without": _number(mean(without)),
        "dice_held_out": _number(mean(verdict.held_out)),
        "gain": verdict.gain,
        "gain_by_fold": {str(fold): gain for fold, gain in verdict.by_fold.items()},
        "gain_where_chosen": verdict.gain_where_chosen,
        "n_changed": int(np.count_nonzero(~same)),
        "n_lowered": int(np.count_nonzero(with_best < without - TOLERANCE)),
    }


def _json(rule: Rule) -> dict[str, Any]:
    """Return what a rule does, without its label."""
    return rule.model_dump(mode="json", exclude={"label"})


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
