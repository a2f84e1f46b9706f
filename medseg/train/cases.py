"""Cases of a training: prepared once, and those that cannot be used told of and left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from medseg.across import processes, shared
from medseg.dataset import Dataset
from medseg.errors import MedsegError, NoCasesError, UnwritableError
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.preprocess import prepare_case
from medseg.progress import Notify, Progress
from medseg.recipe import Recipe

Placed = tuple[Case, Path]
Failed = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Cases:
    """The two sides of a split.

    Attributes:
        training: the cases to learn from, each with the folder it was prepared in.
        validation: the cases to score.
        failed: case id → what run.json says of the error that kept it out.
    """

    training: list[Placed]
    validation: list[Placed]
    failed: Failed


def prepare_cases(
    dataset: Dataset, recipe: Recipe, labels: LabelSet, *, folds: Sequence[int | None], cache: Path, notify: Notify
) -> list[Cases]:
    """Prepare every case once, and return both sides of each split; the processes of a training share the cases.

    Args:
        dataset: the cases.
        recipe: how they are prepared.
        labels: what is segmented.
        folds: the fold that each split holds out; None trains and validates on every case.
        cache: the folder of prepared cases.
        notify: hears of each case.

    Raises:
        ManifestError, NoCasesError: a split leaves nothing to train or validate on, or none of it can be used.
        UnwritableError: the cache cannot be written to.
    """
    splits = [dataset.split(fold, labels) for fold in folds]
    cases = list({case.case_id: case for split in splits for side in split for case in side}.values())
    todo = {
        case.case_id: partial(
            prepare_case,
            dataset,
            case,
            settings=recipe.preprocess,
            labels=labels,
            cache=cache,
            sample=recipe.training.sample,
        )
        for case in cases
    }
    prepared, failed = prepare_each(todo, notify=notify)
    sides = [[_usable(side, prepared, failed) for side in split] for split in splits]
    return [Cases(training, validation, told(failed)) for training, validation in sides]


def prepare_each(
    todo: Mapping[str, Callable[[], Path]], *, notify: Notify
) -> tuple[dict[str, Path], dict[str, MedsegError]]:
    """Have every case prepared; the processes of a training share them.

    Args:
        todo: case id → what prepares it and returns its folder.
        notify: hears of each case of this process, and of those that cannot be used.

    Returns:
        Case id → folder, and case id → error.

    Raises:
        UnwritableError: the cache cannot be written to.
    """
    own = count(1)

    def prepare(case_id: str) -> Path | MedsegError:
        result: Path | MedsegError
        message = ""
        try:
            result = todo[case_id]()
        except UnwritableError:  # no fault of the case: the next one would not fit either
            raise
        except MedsegError as error:
            result = error
            message = f"{case_id} is left out: {error.code} {error}"
        notify(Progress("prepare", next(own), -(-len(todo) // processes()), note=case_id, message=message))
        return result

    results = dict(zip(todo, shared(prepare, list(todo)), strict=True))
    prepared = {case_id: result for case_id, result in results.items() if isinstance(result, Path)}
    failed = {case_id: result for case_id, result in results.items() if isinstance(result, MedsegError)}
    return prepared, failed


def told(failed: Mapping[str, MedsegError]) -> Failed:
    """Return the cases that cannot be used as run.json has them: case id → code and message."""
    return {case_id: error.as_json() for case_id, error in failed.items()}


def nothing_left(failed: Mapping[str, MedsegError], case_ids: Sequence[str]) -> NoCasesError:
    """Return the error of cases of which none can be used."""
    first = failed[case_ids[0]]
    return NoCasesError(
        "choosing cases",
        found=f"none of {len(case_ids)} can be used; the first says {first.code} {first}",
        remedy="mend the cases; `medseg data check` lists what is wrong with each",
    )


def _usable(cases: Sequence[Case], prepared: Mapping[str, Path], failed: Mapping[str, MedsegError]) -> list[Placed]:
    """Return the cases that could be prepared, each with its folder."""
    usable = [(case, prepared[case.case_id]) for case in cases if case.case_id in prepared]
    if not usable:
        raise nothing_left(failed, [case.case_id for case in cases])
    return usable
