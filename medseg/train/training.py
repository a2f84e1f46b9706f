"""Train: a recipe and a dataset in, a run out."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.atomic import write_json, write_text
from medseg.dataset import Dataset
from medseg.engine.torch import TorchEngine
from medseg.errors import (
    ManifestError,
    MedsegError,
    NoCasesError,
    PackageError,
    RecipeError,
    TrainingError,
    UnwritableError,
)
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.metrics import CaseScore, summarise, write_metrics
from medseg.models import build_network, pack, parameter_count, to_onnx, weights_of
from medseg.package import ModelPackage, save_package
from medseg.preprocess import prepare_case
from medseg.processor import keep_freed_memory
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.run import Run, append_line, peak_ram_mb, read_lines
from medseg.segment import Segmenter
from medseg.train.checkpoint import State, load_checkpoint, save_checkpoint, save_weights
from medseg.train.stream import PatchStream, batches
from medseg.train.trainer import Trainer
from medseg.train.validate import Validator


@dataclass(frozen=True)
class TrainingResult:
    """What training left behind.

    Attributes:
        run: its folder.
        summary: the scores after training, as in validation/summary.json.
        failed: case id → the error that kept it out.
    """

    run: Run
    summary: dict[str, Any]
    failed: dict[str, MedsegError]


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    fold: int | None = None,
    device: torch.device,
    seed: int = 0,
    resume: bool = False,
    workers: int | None = None,
    cache: Path | None = None,
    notify: Notify = ignore,
) -> TrainingResult:
    """Train a network and leave a run: recipe, journal, checkpoint, model package, scores.

    The package holds the weights of the last step; those of the best validation are kept in the checkpoint folder.

    Args:
        recipe: every choice.
        dataset: the cases.
        folder: the run's folder.
        fold: the fold to hold out and validate on; None trains on every case and validates on the same ones, and then
            the scores are called scores on training data.
        device: where the network is trained.
        seed: of the weights and of every patch drawn.
        resume: go on from the folder's checkpoint, where there is one.
        workers: processes that draw patches; None chooses by the machine's cores.
        cache: the folder of prepared cases, which several runs may share; None keeps them in the run.
        notify: hears of progress, and of each case that cannot be used.

    Raises:
        NoCasesError: the split leaves nothing to train or validate on, or none of it can be used.
        RecipeError, UnknownNameError: the recipe does not fit the dataset, or names what there is not.
        TrainingError: a run is there already, the checkpoint is another run's, or the loss is not finite.
        UnwritableError: the folder cannot be written to.
    """
    keep_freed_memory()
    labels = _labels(recipe, dataset)
    split = dataset.split(fold)
    run = Run(folder)
    trainer = _begin(run, recipe, dataset, labels, fold=fold, device=device, seed=seed, resume=resume)
    prepared, failed = _prepare(cache or run.prepared, dataset, split, recipe, labels, notify)
    training, validation = (_usable(cases, prepared, failed) for cases in split)

    engine = TorchEngine(trainer.network, device, precision=recipe.training.precision)
    validator = Validator(Segmenter(engine, recipe, labels), validation, dataset, labels)
    stream = PatchStream([folder for _, folder in training], recipe, seed=seed)
    first, last = trainer.state.step, trainer.total
    samples = iter(batches(stream, batch=recipe.training.batch, first=first, last=last, workers=_workers(workers)))
    while trainer.state.epoch < recipe.training.epochs:
        _epoch(run, recipe, trainer, samples, validator, notify)

    scored_on = "training data" if fold is None else f"fold {fold}, held out of training"
    summary = _score(run, validator, scored_on, notify)
    save_package(_package(trainer.network, recipe, labels, dataset.manifest.channels, summary, notify), run.model)
    run.write_record(
        command="train",
        dataset=dataset.manifest.name,
        fold=fold,
        seed=seed,
        device=str(device),
        parameters=parameter_count(trainer.network),
        training_seconds=round(sum(line["seconds"] for line in read_lines(run.journal)), 1),
        training_cases=[case.case_id for case, _ in training],
        validation_cases=[case.case_id for case, _ in validation],
        failed={case_id: error.as_json() for case_id, error in failed.items()},
    )
    return TrainingResult(run, summary, failed)


def _package(
    network: nn.Module, recipe: Recipe, labels: LabelSet, channels: int, scores: dict[str, Any], notify: Notify
) -> ModelPackage:
    """Return the model package of a trained network; where it cannot be exported, torch will run it."""
    onnx = None
    try:
        onnx = to_onnx(network, patch=recipe.training.patch, channels=channels)
    except PackageError as error:
        notify(Progress("export", 0, 1, message=f"{error.code} {error}"))
    return ModelPackage(recipe, labels, channels, pack(weights_of(network)), scores, onnx)


def _labels(recipe: Recipe, dataset: Dataset) -> LabelSet:
    """Return what is segmented, once recipe and dataset are seen to fit each other."""
    modalities = ", ".join(dataset.manifest.modality.values())
    if recipe.preprocess.window_hu is not None and "MR" in modalities.upper():
        raise RecipeError(
            f"training on {dataset.manifest.name}",
            found=f"the recipe has a window in HU, and the images are {modalities}",
            remedy="leave window_hu out, or choose a recipe for MR",
        )
    labels = dataset.manifest.label_set.select(recipe.labels)
    if not labels.labels:
        raise ManifestError(
            f"training on {dataset.manifest.name}", found="it names no label but background", remedy="name its labels"
        )
    if labels.overlapping and recipe.model.head == "softmax":
        raise RecipeError(
            "reading the recipe's labels",
            found="some share a part, and a softmax head has one label per voxel",
            remedy='set model.head = "sigmoid"',
        )
    return labels


def _workers(asked: int | None) -> int:
    """Return how many processes draw patches; with two cores, drawing in turn with the steps is as fast."""
    if asked is not None:
        return asked
    cores = os.cpu_count() or 1
    return 0 if cores <= 2 else min(8, cores - 1)


def _begin(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    labels: LabelSet,
    *,
    fold: int | None,
    device: torch.device,
    seed: int,
    resume: bool,
) -> Trainer:
    """Return the trainer, fresh or as the checkpoint left it, and write down what the run is about."""
    checkpoint = run.checkpoint / "last.safetensors"
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"training into {run.folder}",
            found="a run is there already",
            remedy="add --resume to go on with it, or choose another --out",
        )
    torch.manual_seed(seed)
    network = build_network(recipe, channels=dataset.manifest.channels, labels=len(labels)).to(device)
    state = State(epoch=0, step=0, best_dice=None, fingerprint=_fingerprint(recipe, dataset, labels, fold, seed))
    trainer = Trainer(network, recipe, labels, device=device, seed=seed, state=state)
    if checkpoint.exists():
        trainer.state = load_checkpoint(checkpoint, network, trainer.optimizer, fingerprint=state.fingerprint)
    kept = [line for line in read_lines(run.journal) if line["epoch"] <= trainer.state.epoch]
    write_text(run.journal, "".join(json.dumps(line) + "\n" for line in kept))
    write_text(run.recipe, recipe.to_toml())
    return trainer


def _fingerprint(recipe: Recipe, dataset: Dataset, labels: LabelSet, fold: int | None, seed: int) -> str:
    """Return a hash of what a run is started with."""
    case_ids = [case.case_id for case in dataset.cases]
    facts = [recipe.model_dump(mode="json"), labels.as_json(), dataset.manifest.name, case_ids, fold, seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _prepare(
    cache: Path,
    dataset: Dataset,
    split: tuple[Sequence[Case], Sequence[Case]],
    recipe: Recipe,
    labels: LabelSet,
    notify: Notify,
) -> tuple[dict[str, Path], dict[str, MedsegError]]:
    """Prepare every case of a split and return their folders; cases that cannot be used are told of and left out."""
    cases = {case.case_id: case for side in split for case in side}
    prepared: dict[str, Path] = {}
    failed: dict[str, MedsegError] = {}
    for done, (case_id, case) in enumerate(cases.items(), start=1):
        message = ""
        try:
            prepared[case_id] = prepare_case(dataset, case, settings=recipe.preprocess, labels=labels, cache=cache)
        except UnwritableError:  # no fault of the case: the next one would not fit either
            raise
        except MedsegError as error:
            failed[case_id] = error
            message = f"{case_id} is left out: {error.code} {error}"
        notify(Progress("prepare", done, len(cases), note=case_id, message=message))
    return prepared, failed


def _usable(
    cases: Sequence[Case], prepared: dict[str, Path], failed: dict[str, MedsegError]
) -> list[tuple[Case, Path]]:
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


def _epoch(
    run: Run,
    recipe: Recipe,
    trainer: Trainer,
    samples: Iterator[tuple[Tensor, Tensor]],
    validator: Validator,
    notify: Notify,
) -> None:
    """Train for one epoch, validate when it is time, and write down where training stands."""
    settings, state = recipe.training, trainer.state
    rate, started = trainer.rate, time.perf_counter()
    loss = trainer.epoch(samples, notify=notify)
    seconds = time.perf_counter() - started
    dice = None
    if state.epoch % settings.validate_every == 0 or state.epoch == settings.epochs:
        dice = validator.dice(most=settings.validation_cases)
        if state.best_dice is None or dice > state.best_dice:
            state.best_dice = dice
            save_weights(run.checkpoint / "best.safetensors", trainer.network)
    save_checkpoint(run.checkpoint / "last.safetensors", state, trainer.network, trainer.optimizer)
    append_line(
        run.journal,
        {
            "epoch": state.epoch,
            "step": state.step,
            "loss": loss,
            "validation_dice": dice,
            "learning_rate": rate,
            "seconds": round(seconds, 3),
            "samples_per_second": round(settings.steps_per_epoch * settings.batch / seconds, 3),
            "peak_ram_mb": peak_ram_mb(),
        },
    )
    told = "" if dice is None else f", Dice {dice:.4f}"
    message = f"epoch {state.epoch}/{settings.epochs}: loss {loss:.4f}{told}, {seconds:.0f} s"
    notify(Progress("train", state.step, trainer.total, message=message))


def _score(run: Run, validator: Validator, scored_on: str, notify: Notify) -> dict[str, Any]:
    """Score every validation case, write the tables, and return the summary."""
    rows: list[CaseScore] = []
    for done, scores in enumerate(validator.scores(), start=1):
        rows += scores
        notify(Progress("validate", done, len(validator.cases), note=scores[0].case_id))
    summary = {"scored_on": scored_on, **summarise(rows)}
    write_metrics(run.validation / "metrics.csv", rows)
    write_json(run.validation / "summary.json", summary)
    return summary
