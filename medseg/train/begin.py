"""Begin a training: recipe and dataset seen to fit each other, and the trainer, fresh or as a checkpoint left it."""

import hashlib
import json

import torch

from medseg.across import processes, rank, wait
from medseg.atomic import write_text
from medseg.dataset import Dataset
from medseg.errors import ManifestError, RecipeError, TrainingError
from medseg.labels import LabelSet
from medseg.models import build_network
from medseg.progress import Notify
from medseg.recipe import Recipe
from medseg.run import Run, as_line, read_lines
from medseg.train.checkpoint import State, has_checkpoint
from medseg.train.trainer import Trainer


def chosen_labels(recipe: Recipe, dataset: Dataset) -> LabelSet:
    """Return what is segmented, once recipe and dataset are seen to fit each other.

    Raises:
        RecipeError, ManifestError, UnknownNameError: they do not.
    """
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


def check_batch(recipe: Recipe) -> None:
    """Raise RecipeError when the processes cannot share a batch evenly."""
    if recipe.training.batch % processes():
        raise RecipeError(
            f"training in {processes()} processes",
            found=f"training.batch is {recipe.training.batch}, and each takes an equal share of it",
            remedy="choose a multiple as training.batch, or another number of processes",
        )


def begin(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    labels: LabelSet,
    *,
    fold: int | None,
    device: torch.device,
    seed: int,
    resume: bool,
    notify: Notify,
) -> Trainer:
    """Return the trainer, fresh or as the checkpoint left it, and write down what the run is about.

    The journal goes as far as the checkpoint: lines of later epochs are left out, and will be written again.

    Raises:
        TrainingError: a run is there already and is not resumed, or the checkpoint is another run's.
    """
    there = has_checkpoint(run.checkpoint)
    if there and not resume:
        raise TrainingError(
            f"training into {run.folder}",
            found="a run is there already",
            remedy="add --resume to go on with it, or choose another --out",
        )
    torch.manual_seed(seed)
    network = build_network(recipe, channels=dataset.manifest.channels, labels=len(labels)).to(device)
    state = State(_fingerprint(recipe, dataset, labels, fold, seed))
    trainer = Trainer(network, recipe, labels, device=device, seed=seed, state=state)
    if there:
        trainer.load(run.checkpoint, notify=notify)
    if rank() == 0:
        kept = [line for line in read_lines(run.journal) if line["epoch"] <= trainer.state.epoch]
        write_text(run.journal, "".join(map(as_line, kept)))
        write_text(run.recipe, recipe.to_toml())
    wait()
    return trainer


def _fingerprint(recipe: Recipe, dataset: Dataset, labels: LabelSet, fold: int | None, seed: int) -> str:
    """Return a hash of what a run is started with."""
    case_ids = [case.case_id for case in dataset.cases]
    facts = [recipe.model_dump(mode="json"), labels.as_json(), dataset.manifest.name, case_ids, fold, seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
