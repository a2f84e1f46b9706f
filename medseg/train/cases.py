"""Cases of a training: prepared once, and those that cannot be used told of and left out."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Cases:
    """The two sides of a split.

    Attributes:
        training: the cases to learn from, each with the folder it was prepared in.
        validation: the cases to score.
        failed: case id → the error that kept it out.
    """

    training: list[Placed]
    validation: list[Placed]
    failed: dict[str, MedsegError]


def prepare_cases(
    dataset: Dataset, recipe: Recipe, labels: LabelSet, *, fold: int | None, cache: Path, notify: Notify
) -> Cases:
    """Prepare every case of a split; the processes of a training share them.

    Raises:
        NoCasesError: the split leaves nothing to train or validate on, or none of it can be used.
        UnwritableError: the cache cannot be written to.
    """
    split = dataset.split(fold, labels)
    cases = list({case.case_id: case for side in split for case in side}.values())
    own = count(1)

    def prepare(case: Case) -> Path | MedsegError:
        result: Path | MedsegError
        message = ""
        try:
            result = prepare_case(
                dataset, case, settings=recipe.preprocess, labels=labels, cache=cache, sample=recipe.training.sample
            )
        except UnwritableError:  # no fault of the case: the next one would not fit either
            raise
        except MedsegError as error:
            result = error
            message = f"{case.case_id} is left out: {error.code} {error}"
        notify(Progress("prepare", next(own), -(-len(cases) // processes()), note=case.case_id, message=message))
        return result

    results = {case.case_id: result for case, result in zip(cases, shared(prepare, cases), strict=True)}
    prepared = {case_id: result for case_id, result in results.items() if isinstance(result, Path)}
    failed = {case_id: result for case_id, result in results.items() if isinstance(result, MedsegError)}
    training, validation = (_usable(side, prepared, failed) for side in split)
    return Cases(training, validation, failed)


def _usable(cases: Sequence[Case], prepared: dict[str, Path], failed: dict[str, MedsegError]) -> list[Placed]:
    """Return the cases that could be prepared, each with its folder."""
    usable = [(case, prepared[case.case_id]) for case in cases if case.case_id in prepared]
    if not usable:
        first = failed[cases[0].case_id]
        raise NoCasesError(
            "choosing cases",
            found=f"none of {len(cases)} can be used; the first says {first.code} {first}",
            remedy="mend the cases; `medseg data check` lists what is wrong with each",
        )
    return usable
