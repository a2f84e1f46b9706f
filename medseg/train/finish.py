"""Finish a training: every validation case scored, and the model package."""

from typing import Any

from torch import nn

from medseg.across import rank
from medseg.atomic import write_json
from medseg.errors import PackageError
from medseg.labels import LabelSet
from medseg.metrics import summarise, write_metrics
from medseg.models import pack, to_onnx, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.progress import Notify, Progress
from medseg.recipe import Recipe
from medseg.run import Run
from medseg.train.validate import Validator


def score(run: Run, validator: Validator, scored_on: str, *, notify: Notify) -> dict[str, Any]:
    """Score every validation case, write the tables, and return the summary; `scored_on` says what the cases are."""
    rows = validator.scores(notify=notify)
    summary = {"scored_on": scored_on, **summarise(rows)}
    if rank() == 0:
        write_metrics(run.validation / "metrics.csv", rows)
        write_json(run.validation / "summary.json", summary)
    return summary


def package(
    run: Run,
    network: nn.Module,
    recipe: Recipe,
    labels: LabelSet,
    *,
    channels: int,
    scores: dict[str, Any],
    notify: Notify,
) -> None:
    """Write the model package of a trained network; where it cannot be exported, torch will run it."""
    onnx = None
    try:
        onnx = to_onnx(network, patch=recipe.training.patch, channels=channels)
    except PackageError as error:
        notify(Progress("export", 0, 1, message=f"{error.code} {error}"))
    coarse = load_package(run.coarse) if run.coarse.is_dir() else None
    save_package(ModelPackage(recipe, labels, channels, pack(weights_of(network)), scores, onnx, coarse), run.model)
