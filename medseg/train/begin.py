"""Begin a training: recipe and dataset seen to fit each other, and the trainer as a checkpoint left it."""

import hashlib
import json
from typing import Any

from medseg.across import processes, rank, wait
from medseg.atomic import write_text
from medseg.dataset import Dataset
from medseg.errors import ManifestError, RecipeError, TrainingError
from medseg.labels import LabelSet
from medseg.manifest import Manifest, is_magnetic
from medseg.progress import Notify
from medseg.recipe import Recipe
from medseg.run import Run, as_line, read_lines
from medseg.train.checkpoint import has_checkpoint
from medseg.train.trainer import Trainer

# A recipe's keys that training does not depend on: words, where the dataset's facts stand, what pretraining follows.
NOT_TRAINED_BY = {"description", "manifest", "pretraining"}


def chosen_labels(recipe: Recipe, dataset: Dataset) -> LabelSet:
    """Return what is segmented, once recipe and dataset are seen to fit each other.

    Raises:
        RecipeError, ManifestError, UnknownNameError: they do not.
    """
    check_window(recipe, dataset.manifest)
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


def check_window(recipe: Recipe, manifest: Manifest) -> None:
    """Raise RecipeError when the recipe wants Hounsfield units of a dataset that has none."""
    modalities = ", ".join(manifest.modality.values())
    if recipe.preprocess.window_hu is not None and any(map(is_magnetic, manifest.modality.values())):
        raise RecipeError(
            f"training on {manifest.name}",
            found=f"the recipe has a window in HU, and the images are {modalities}",
            remedy="leave window_hu out, or choose a recipe for MR",
        )


def check_batch(recipe: Recipe) -> None:
    """Raise RecipeError when the processes cannot share a batch evenly."""
    if recipe.training.batch % processes():
        raise RecipeError(
            f"training in {processes()} processes",
            found=f"training.batch is {recipe.training.batch}, and each takes an equal share of it",
            remedy="choose a multiple as training.batch, or another number of processes",
        )


def check_folder(run: Run, *, resume: bool) -> None:
    """Raise TrainingError when a run is there already and is not to be resumed, or is of another kind."""
    if run.results.exists():
        raise TrainingError(
            f"training into {run.folder}", found="it holds the results of a prediction", remedy="choose another --out"
        )
    folds = any(run.folder.glob("fold_*"))
    if folds or (has_checkpoint(run.checkpoint) and not resume):
        raise TrainingError(
            f"training into {run.folder}",
            found=f"a run is there already{', of all folds' * folds}",
            remedy="choose another --out" if folds else "add --resume to go on with it, or choose another --out",
        )


def begin(run: Run, trainer: Trainer, recipe: Recipe, *, notify: Notify) -> None:
    """Have the trainer go on from the run's checkpoint, where there is one, and write down what the run is about.

    The journal goes as far as the checkpoint: lines of later epochs are left out, and will be written again.

    Raises:
        TrainingError: the checkpoint is another run's, or cannot be read.
    """
    if has_checkpoint(run.checkpoint):
        trainer.load(run.checkpoint, notify=notify)
    if rank() == 0:
        kept = [line for line in read_lines(run.journal) if line["epoch"] <= trainer.state.epoch]
        write_text(run.journal, "".join(map(as_line, kept)))
        write_text(run.recipe, recipe.to_toml())
    wait()


def fingerprint(recipe: Recipe, *facts: Any) -> str:
    """Return a hash of what a run is started with: its recipe and plain facts.

    What is left at its default is not in it, so that a run goes on that was begun before there was such a key; nor is
    what training does not depend on.
    """
    choices = recipe.model_dump(mode="json", exclude=NOT_TRAINED_BY, exclude_defaults=True)
    return hashlib.sha256(json.dumps([choices, *facts]).encode()).hexdigest()
