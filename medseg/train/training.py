"""Train: a recipe and a dataset in, a run out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.across import rank
from medseg.agreement import chosen_labels
from medseg.dataset import Dataset
from medseg.engine.torch import TorchEngine
from medseg.labels import LabelSet
from medseg.models import for_training, parameter_count
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.run import Run, read_lines
from medseg.segment import Segmenter
from medseg.train.begin import begin, check_batch, check_folder
from medseg.train.cases import Cases, Failed, prepare_cases
from medseg.train.checkpoint import State, has_checkpoint
from medseg.train.epochs import take_epochs
from medseg.train.fingerprint import fingerprint
from medseg.train.finish import finished, package, score
from medseg.train.objective import Segmentation
from medseg.train.session import Session
from medseg.train.starting import Start, first_network
from medseg.train.stream import PatchStream
from medseg.train.trainer import Trainer
from medseg.train.validate import Validator


@dataclass(frozen=True)
class TrainingResult:
    """What training left behind.

    Attributes:
        run: its folder.
        summary: the scores after training, as in validation/summary.json.
        failed: case id → code and message of the error that kept it out, as in run.json.
    """

    run: Run
    summary: dict[str, Any]
    failed: Failed


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    fold: int | None = None,
    start: Start | None = None,
    device: torch.device,
    seed: int = 0,
    resume: bool = False,
    deterministic: bool = False,
    workers: int | None = None,
    cache: Path | None = None,
    notify: Notify = ignore,
) -> TrainingResult:
    """Train a network and leave a run: recipe, journal, checkpoint, model package, scores.

    Where the recipe has a coarse model, it is trained first, in a run within the run, and goes into the package.

    The package holds the weights after the last step, averaged where the recipe says so; those of the best validation
    are kept in the checkpoint folder. Training that ends early (KeyboardInterrupt, an error…) leaves a checkpoint.

    Processes that torchrun started together share each batch, the preparing and the validation; they need one file
    system, and one process or several train alike up to rounding, but for dropout, which each draws for itself. The
    first of them writes the run.

    Args:
        recipe: every choice.
        dataset: the cases.
        folder: the run's folder.
        fold: the fold to hold out and validate on; None trains on every case and validates on the same ones, and then
            the scores are called scores on training data.
        start: a model whose weights training begins with, as far as they fit; its coarse model begins the coarse one.
            None begins with random weights.
        device: where the network is trained.
        seed: of the weights and of every patch drawn.
        resume: go on from the folder's checkpoint, where there is one; of a run that is finished nothing is done again.
        deterministic: end with the same weights, bit for bit, however often it was broken off and resumed, on one
            machine with the same number of threads.
        workers: processes that draw patches; None chooses by the machine's cores.
        cache: the folder of prepared cases, which several runs may share; None keeps them in the run.
        notify: hears of progress, and of each case that cannot be used.

    Raises:
        NoCasesError: the split leaves nothing to train or validate on, or none of it can be used.
        RecipeError, UnknownNameError: the recipe does not fit the dataset or the processes, or names what there is not.
        TrainingError: a run is there already, the checkpoint is another run's, next to nothing of the start fits,
            the loss or the gradients are not finite, or a process has died that was needed.
        OutOfMemoryError: the machine's memory or the GPU's does not suffice.
        UnwritableError: the folder cannot be written to.
    """
    session = Session(device, seed, resume, deterministic, workers, cache, notify)
    check_batch(recipe)
    labels = chosen_labels(recipe, dataset)
    with session.run(folder) as run:
        check_folder(run, resume=resume, notify=notify)
        coarse = _train_coarse(run, recipe, dataset, labels, fold=fold, start=start, session=session)
        trainer, origin = _trainer(run, recipe, dataset, labels, fold=fold, start=start, session=session)
        begin(run, trainer, recipe, notify=notify)
        if done := finished(run, trainer):
            return TrainingResult(run, *done)
        (cases,) = prepare_cases(dataset, recipe, labels, folds=[fold], cache=cache or run.prepared, notify=notify)

        engine = TorchEngine(trainer.averaged, device, precision=recipe.training.precision, outputs=1 + len(labels))
        validator = Validator(Segmenter(engine, recipe, labels), cases.validation, dataset, labels)
        folders = [folder for _, folder in cases.training]
        stream = PatchStream(folders, recipe, seed=seed, partial=dataset.partial(labels), beyond=labels.beyond)
        take_epochs(run, trainer, stream, validator, workers=workers, notify=notify)

        scored_on = _scored_on(fold, cases, start, dataset.manifest.name)
        summary = score(run, validator, scored_on, notify=notify)
        if rank() == 0:
            manifest = dataset.manifest
            package(
                run, trainer.averaged, recipe, labels, manifest=manifest, scores=summary, coarse=coarse, notify=notify
            )
            facts = {"dataset": manifest.name, "fold": fold, **session.as_json(), **origin}
            run.write_record(command="train", **facts, **_outcome(run, trainer, cases))
    return TrainingResult(run, summary, cases.failed)


def _train_coarse(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    labels: LabelSet,
    *,
    fold: int | None,
    start: Start | None,
    session: Session,
) -> Run | None:
    """Train the coarse model, in a run within the run, and return that; None where there is none."""
    if not recipe.coarse:
        return None
    if dataset.partial(labels):
        message = "the coarse model is left out, because cases lack labels that it would find"
        session.notify(Progress("train", 0, 1, message=message))
        return None
    session.notify(Progress("train", 0, 1, message="the coarse model comes first"))
    shown = {part for label in labels for part in label.parts}
    coarse = recipe.coarse_recipe([label.name for label in dataset.manifest.label_set if label.id in shown])
    begins = start.coarse if start else None
    channels = dataset.manifest.channels
    if begins and not begins.suits(coarse, channels=channels, labels=chosen_labels(coarse, dataset)):
        message = f"the coarse model has next to nothing in common with that of {begins.path}, and begins afresh"
        session.notify(Progress("train", 0, 1, message=message))
        begins = None
    if begins is None:  # random weights are not to be held back
        coarse = coarse.model_copy(update={"training": coarse.training.model_copy(update={"encoder_rate": 1.0})})
    return train(coarse, dataset, run.coarse, fold=fold, start=begins, **vars(session)).run


def _trainer(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    labels: LabelSet,
    *,
    fold: int | None,
    start: Start | None,
    session: Session,
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer of a fresh network, and what run.json says of where its weights come from."""
    network, origin = first_network(
        recipe,
        channels=dataset.manifest.channels,
        labels=labels,
        seed=session.seed,
        start=start,
        notify=ignore if has_checkpoint(run.checkpoint) else session.notify,
    )
    started = fingerprint(
        recipe,
        *_taught(dataset, labels, fold),
        session.seed,
        *([hashlib.sha256(start.package.weights).hexdigest()] if start else []),
    )
    device = session.device
    network, objective = for_training(network, device), Segmentation(recipe, labels, device)
    return Trainer(network, recipe, objective, device=device, seed=session.seed, state=State(started)), origin


def _taught(dataset: Dataset, labels: LabelSet, fold: int | None) -> Iterator[Any]:
    """Yield what a training learns: the labels, and the cases of both sides of the split with what is drawn in each."""
    yield [[label.id, label.name, label.parts] for label in labels]
    yield [sorted(labels.known_ids), sorted(labels.ignored_ids)]
    yield [dataset.manifest.name, fold]
    for side in dataset.split(fold, labels):
        yield [[case.case_id, [label.name for label in dataset.present(case, labels)]] for case in side]


def _outcome(run: Run, trainer: Trainer, cases: Cases) -> dict[str, Any]:
    """Return what run.json says of the network, the time and the cases."""
    return {
        "fingerprint": trainer.state.fingerprint,
        "parameters": parameter_count(trainer.network),
        "training_seconds": round(sum(line["seconds"] for line in read_lines(run.journal)), 1),
        "training_cases": [case.case_id for case, _ in cases.training],
        "validation_cases": [case.case_id for case, _ in cases.validation],
        "failed": cases.failed,
    }


def _scored_on(fold: int | None, cases: Cases, start: Start | None, dataset: str) -> str:
    """Return what the validation cases are to the network, and to the model that training started from."""
    if fold is None:
        return "training data"
    held_out = [case.case_id for case, _ in cases.validation]
    return f"fold {fold}, held out of training{start.caveat(dataset, held_out) if start else ''}"
