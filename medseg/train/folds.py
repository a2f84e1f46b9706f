"""Folds: a cross-validation, and what comes out of it: honest scores of every case, and an ensemble."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Required, TypedDict, Unpack

import torch

from medseg.across import rank
from medseg.agreement import chosen_labels
from medseg.atomic import write_json, write_text
from medseg.dataset import Dataset
from medseg.ensemble import together
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, read_metrics, summarise, write_metrics
from medseg.package import ModelPackage, load_package, save_package
from medseg.postprocess import CaseTable, Rule, choose_rules, tabulate
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.run import Run
from medseg.train.begin import check_batch, check_folds_folder
from medseg.train.cases import prepare_cases
from medseg.train.session import Session
from medseg.train.starting import Start, first_network
from medseg.train.training import TrainingResult, train
from medseg.volume import read_label_map, read_reference

SCORED_ON = "every case, by the model of the fold that held it out"


class Options(TypedDict, total=False):
    """What all folds have in common, as `train` takes it."""

    start: Start | None
    device: Required[torch.device]
    seed: int
    resume: bool
    deterministic: bool
    workers: int | None
    notify: Notify


def train_folds(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    refit: bool = False,
    cache: Path | None = None,
    **options: Unpack[Options],
) -> TrainingResult:
    """Train a model for each fold of a dataset, and leave a run with the scores of all cases and an ensemble.

    Each fold is a run of its own in fold_0, fold_1… The package of the whole averages their models. Whether cleaning
    label maps helps is found out on the held-out cases (`postprocess.choose_rules`), and stands in postprocess.json.
    What would keep any of the folds from being trained is told before the first one is.

    Args:
        recipe: every choice.
        dataset: the cases.
        folder: the run's folder.
        refit: train one more model, on every case, in the run `refit`: a fifth of the ensemble's time to predict with.
            No case is left to score it on; its package has the scores of the folds.
        cache: the folder of prepared cases; None keeps them in the run, where all folds share them.
        options: as `train` takes them.

    Raises:
        TrainingError: a run of a single fold is there already, or the results of a prediction.
        MedsegError: as `train`.
    """
    run, notify, device, start = Run(folder), options.get("notify", ignore), options["device"], options.get("start")
    check_folds_folder(run)
    cache = cache or run.prepared
    labels = chosen_labels(recipe, dataset)
    numbers = sorted(set(dataset.folds.values()))
    begun = any(folder.glob("fold_*"))
    results: list[TrainingResult] = []
    with Session(device).run(folder):
        if not begun:
            _check(recipe, dataset, labels, folds=numbers, start=start, cache=cache, notify=notify)
        for done, fold in enumerate(numbers):
            notify(Progress("folds", done, len(numbers), message=f"fold {fold}, {done + 1} of {len(numbers)}"))
            results.append(train(recipe, dataset, folder / f"fold_{fold}", fold=fold, cache=cache, **options))
        if refit:
            notify(Progress("folds", len(numbers), len(numbers), message="one model on every case"))
            train(recipe, dataset, folder / "refit", fold=None, cache=cache, **options)
        failed = {case_id: error for result in results for case_id, error in result.failed.items()}
        if rank() > 0:  # the first process writes the tables, and may not be done
            return TrainingResult(run, {}, failed)
        ran = [result.run for result in results]
        summary = _combine(run, ran, recipe, dataset, start=start, refit=refit, notify=notify)
        run.write_record(
            command="train",
            dataset=dataset.manifest.name,
            fold="all",
            folds=numbers,
            refit=refit,
            seed=options.get("seed", 0),
            device=str(device),
            failed=failed,
        )
    return TrainingResult(run, summary, failed)


def _check(
    recipe: Recipe,
    dataset: Dataset,
    labels: LabelSet,
    *,
    folds: Sequence[int],
    start: Start | None,
    cache: Path,
    notify: Notify,
) -> None:
    """Raise what would keep one of the folds from being trained, once every case has been prepared."""
    check_batch(recipe)
    first_network(recipe, channels=dataset.manifest.channels, labels=labels, seed=0, start=start, notify=ignore)
    prepare_cases(dataset, recipe, labels, folds=folds, cache=cache, notify=notify)


def _combine(
    run: Run,
    folds: Sequence[Run],
    recipe: Recipe,
    dataset: Dataset,
    *,
    start: Start | None,
    refit: bool,
    notify: Notify,
) -> dict[str, Any]:
    """Write all folds' scores, the trial of the cleaning rules and the packages, and return the scores' summary."""
    labels, numbers = chosen_labels(recipe, dataset), sorted(set(dataset.folds.values()))
    rows = [read_metrics(fold.metrics) for fold in folds]
    summary = _summary(numbers, rows, _scored_on(rows, start, dataset.manifest.name))
    write_text(run.recipe, recipe.to_toml())
    write_metrics(run.metrics, [row for fold in rows for row in fold])
    write_json(run.summary, summary)
    held_out = zip(folds, numbers, rows, strict=True)
    chosen = choose_rules([table for fold in held_out for table in _tables(*fold, dataset, labels)])
    write_json(run.folder / "postprocess.json", chosen.report)
    helping = "; ".join(map(str, chosen.rules)) or "none helps"
    notify(Progress("folds", len(folds), len(folds), message=f"rules that clean label maps: {helping}"))
    _package(run, folds, chosen.rules, summary, refit=refit)
    return summary


def _scored_on(rows: Sequence[Sequence[CaseScore]], start: Start | None, dataset: str) -> str:
    """Return what the cases are to the networks that score them, and to the model that training started from."""
    held_out = list(dict.fromkeys(row.case_id for fold in rows for row in fold))
    return SCORED_ON + (start.caveat(dataset, held_out) if start else "")


def _summary(folds: Sequence[int], rows: Sequence[Sequence[CaseScore]], scored_on: str) -> dict[str, Any]:
    """Return the summary of all cases, each fold's mean Dice, and the mean of these means."""
    every = [row for fold in rows for row in fold]
    means = [{name: label["dice"]["mean"] for name, label in summarise(fold)["labels"].items()} for fold in rows]
    names = list(dict.fromkeys(row.label for row in every))
    known = {name: [mean[name] for mean in means if mean.get(name) is not None] for name in names}
    return {
        "scored_on": scored_on,
        "folds": {str(fold): {"dice": mean} for fold, mean in zip(folds, means, strict=True)},
        "mean_of_folds": {"dice": {name: fmean(values) if values else None for name, values in known.items()}},
        **summarise(every),
    }


def _package(run: Run, folds: Sequence[Run], rules: tuple[Rule, ...], summary: dict[str, Any], *, refit: bool) -> None:
    """Write the ensemble's package, with the rules that the folds speak for; the refitted model's gets the same."""

    def finished(package: ModelPackage) -> ModelPackage:
        return replace(package, scores=summary, rules=rules)

    save_package(finished(together([load_package(fold.folder) for fold in folds])), run.model)
    if refit:
        one = Run(run.folder / "refit")
        save_package(finished(load_package(one.folder)), one.model)


def _tables(
    fold: Run, number: int, rows: Sequence[CaseScore], dataset: Dataset, labels: LabelSet
) -> Iterator[CaseTable]:
    """Yield what rules would do to each case that a fold held out and scored."""
    by_id = {case.case_id: case for case in dataset.cases}
    for case_id in dict.fromkeys(row.case_id for row in rows):
        case = by_id[case_id]
        prediction = read_label_map(fold.validation / f"{case_id}.nii.gz")
        drawn = dataset.manifest.labels_of(case)
        reference = read_reference(dataset.label(case), geometry=prediction.geometry, labels=drawn)
        yield tabulate(prediction, reference, labels, fold=number, present=dataset.present(case, labels))
