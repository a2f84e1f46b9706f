"""Train: a recipe and a dataset in, a run out."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.across import joined, processes, rank
from medseg.dataset import Dataset
from medseg.device import deterministic as deterministic_torch
from medseg.engine.torch import TorchEngine
from medseg.errors import MedsegError
from medseg.models import parameter_count
from medseg.processor import drawing_workers, keep_freed_memory
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.run import Run, read_lines
from medseg.segment import Segmenter
from medseg.train.begin import begin, check_batch, chosen_labels
from medseg.train.cases import prepare_cases
from medseg.train.epochs import take_epochs
from medseg.train.failure import explained
from medseg.train.finish import package, score
from medseg.train.stream import PatchStream, batches
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
    system, and one process or several train alike up to rounding. The first of them writes the run.

    Args:
        recipe: every choice.
        dataset: the cases.
        folder: the run's folder.
        fold: the fold to hold out and validate on; None trains on every case and validates on the same ones, and then
            the scores are called scores on training data.
        device: where the network is trained.
        seed: of the weights and of every patch drawn.
        resume: go on from the folder's checkpoint, where there is one.
        deterministic: end with the same weights, bit for bit, however often it was broken off and resumed, on one
            machine with the same number of threads.
        workers: processes that draw patches; None chooses by the machine's cores.
        cache: the folder of prepared cases, which several runs may share; None keeps them in the run.
        notify: hears of progress, and of each case that cannot be used.

    Raises:
        NoCasesError: the split leaves nothing to train or validate on, or none of it can be used.
        RecipeError, UnknownNameError: the recipe does not fit the dataset or the processes, or names what there is not.
        TrainingError: a run is there already, the checkpoint is another run's, the loss or the gradients are not
            finite, or a process has died that was needed.
        OutOfMemoryError: the machine's memory or the GPU's does not suffice.
        UnwritableError: the folder cannot be written to.
    """
    keep_freed_memory()
    check_batch(recipe)
    labels = chosen_labels(recipe, dataset)
    with ExitStack() as stack:
        stack.enter_context(explained(folder))
        stack.enter_context(deterministic_torch(deterministic))
        stack.enter_context(joined(device))
        run = Run(folder)
        partial = dataset.partial(labels)
        if recipe.coarse and partial:
            message = "the coarse model is left out, because cases lack labels that it would find"
            notify(Progress("train", 0, 1, message=message))
        elif recipe.coarse:
            notify(Progress("train", 0, 1, message="the coarse model comes first"))
            shown = {part for label in labels for part in label.parts}
            names = [label.name for label in dataset.manifest.label_set if label.id in shown]
            train(
                recipe.coarse_recipe(names),
                dataset,
                run.coarse,
                fold=fold,
                device=device,
                seed=seed,
                resume=resume,
                deterministic=deterministic,
                workers=workers,
                cache=cache,
                notify=notify,
            )
        trainer = begin(run, recipe, dataset, labels, fold=fold, device=device, seed=seed, resume=resume, notify=notify)
        cases = prepare_cases(dataset, recipe, labels, fold=fold, cache=cache or run.prepared, notify=notify)

        engine = TorchEngine(trainer.averaged, device, precision=recipe.training.precision)
        validator = Validator(Segmenter(engine, recipe, labels), cases.validation, dataset, labels)
        folders = [folder for _, folder in cases.training]
        stream = PatchStream(folders, recipe, seed=seed, partial=partial, beyond=labels.beyond)
        first, last = trainer.state.step, trainer.total
        drawing = drawing_workers(processes()) if workers is None else workers
        samples = batches(stream, batch=recipe.training.batch, first=first, last=last, workers=drawing)
        take_epochs(run, recipe.training, trainer, iter(samples), validator, notify=notify)

        summary = score(run, validator, _scored_on(fold), notify=notify)
        if rank() > 0:
            return TrainingResult(run, summary, cases.failed)
        channels = dataset.manifest.channels
        package(run, trainer.averaged, recipe, labels, channels=channels, scores=summary, notify=notify)
        run.write_record(
            command="train",
            dataset=dataset.manifest.name,
            fold=fold,
            seed=seed,
            device=str(device),
            processes=processes(),
            deterministic=deterministic,
            parameters=parameter_count(trainer.network),
            training_seconds=round(sum(line["seconds"] for line in read_lines(run.journal)), 1),
            training_cases=[case.case_id for case, _ in cases.training],
            validation_cases=[case.case_id for case, _ in cases.validation],
            failed={case_id: error.as_json() for case_id, error in cases.failed.items()},
        )
    return TrainingResult(run, summary, cases.failed)


def _scored_on(fold: int | None) -> str:
    return "training data" if fold is None else f"fold {fold}, held out of training"
