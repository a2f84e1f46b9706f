"""Finish a training: every validation case scored, and the model package."""

import json
from dataclasses import replace
from typing import Any

from torch import nn

from medseg.across import rank
from medseg.atomic import write_json
from medseg.errors import PackageError
from medseg.labels import LabelSet
from medseg.manifest import Manifest
from medseg.metrics import summarise, write_metrics
from medseg.models import pack, to_onnx, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.progress import Notify, Progress
from medseg.recipe import Recipe
from medseg.run import Run
from medseg.train.cases import Failed
from medseg.train.checkpoint import has_checkpoint
from medseg.train.trainer import Trainer
from medseg.train.validate import Validator


def score(run: Run, validator: Validator, scored_on: str, *, notify: Notify) -> dict[str, Any]:
    """Segment and score every validation case, write label maps and tables, and return the summary.

    Args:
        run: where they go.
        validator: has the cases.
        scored_on: what the cases are.
        notify: hears of each.
    """
    rows = validator.scores(keep=run.validation, notify=notify)
    summary = {"scored_on": scored_on, **summarise(rows)}
    if rank() == 0:
        write_metrics(run.metrics, rows)
        write_json(run.summary, summary)
    return summary


def finished(run: Run, trainer: Trainer) -> tuple[dict[str, Any], Failed] | None:
    """Return the summary of a run that has come to its end, and the cases left out of it; None of another.

    The record is the last file that a run writes; with it the checkpoint has served its purpose, and may be gone.
    """
    broken_off = has_checkpoint(run.checkpoint) and trainer.state.step < trainer.total
    if broken_off or not run.record.is_file():
        return None
    summary, record = (json.loads(path.read_text(encoding="utf-8")) for path in (run.summary, run.record))
    return summary, record["failed"]


def package(
    run: Run,
    network: nn.Module,
    recipe: Recipe,
    labels: LabelSet,
    *,
    manifest: Manifest,
    scores: dict[str, Any],
    coarse: Run | None,
    notify: Notify,
) -> None:
    """Write the model package of a trained network; where it cannot be exported, torch will run it.

    Args:
        run: where it goes.
        network: the network.
        recipe: its recipe.
        labels: what it segments.
        manifest: of the dataset that it was trained on.
        scores: the summary of its scores.
        coarse: the run of its coarse model, or None.
        notify: hears why it cannot be exported.
    """
    first = load_package(coarse.folder) if coarse else None
    weights = pack(weights_of(network))
    made = ModelPackage(recipe, labels, manifest.channels, weights, scores, coarse=first, modality=manifest.modalities)
    try:
        made = replace(made, onnx=to_onnx(made.network(), patch=recipe.training.patch, channels=made.channels))
    except PackageError as error:
        notify(Progress("export", 0, 1, message=f"{error.code} {error}"))
    save_package(made, run.model)
