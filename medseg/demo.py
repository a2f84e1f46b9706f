"""Demo: the whole path of a scan on synthetic CTs, with no data and in a few minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from medseg.cases import find_cases
from medseg.dataset import open_dataset
from medseg.errors import OptionError
from medseg.evaluate import Evaluation, evaluate
from medseg.overlay import write_overlay
from medseg.package import load_package
from medseg.predict import CaseResult, predict
from medseg.progress import Notify, ignore
from medseg.recipe import load_recipe
from medseg.report import write_page
from medseg.synthetic import write_synthetic_dataset
from medseg.train import TrainingResult, train
from medseg.volume import read_label_map, read_volume

TRAINING_CASES, NEW_CASES = 12, 3
# Held out of training, so that the training's own scores are of scans that it never saw.
FOLD = 0
# New scans come from another seed than those trained on.
NEW_SEED_OFFSET = 1000


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        training: the run.
        predictions: one result per new scan.
        evaluation: their scores.
        overlays: pictures of prediction and reference on each new scan.
        report: a page with scores and overlays.
    """

    training: TrainingResult
    predictions: list[CaseResult]
    evaluation: Evaluation
    overlays: list[Path]
    report: Path


def demo(
    folder: Path, *, device: torch.device, seed: int = 0, overrides: Sequence[str] = (), notify: Notify = ignore
) -> DemoResult:
    """Make synthetic abdominal CTs, train on them, segment and score new ones, and draw them.

    Args:
        folder: where everything goes; new or empty.
        device: where the network runs.
        seed: of the scans and of the training.
        overrides: changes to the `demo` recipe, as for `--set`.
        notify: hears of progress.

    Raises:
        OptionError: the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(
            f"--out {folder}", found="it holds something already", remedy="choose a new folder, or remove this one"
        )
    recipe = load_recipe("demo", overrides)
    data = write_synthetic_dataset(folder / "training_data", cases=TRAINING_CASES, seed=seed)
    dataset = open_dataset(data)
    shown, _ = dataset.split(FOLD)
    training = train(recipe, dataset, folder / "run", fold=FOLD, device=device, seed=seed, notify=notify)

    new = write_synthetic_dataset(folder / "new_data", cases=NEW_CASES, seed=seed + NEW_SEED_OFFSET)
    package = load_package(training.run.folder)
    cases = find_cases([new / "imagesTr"], notify=notify)
    predictions = predict(package, cases, folder / "predictions", device=str(device), notify=notify)
    evaluation = evaluate(folder / "predictions", new / "labelsTr", folder / "evaluation", notify=notify)
    overlays = []
    for result in predictions:
        picture = folder / "overlays" / f"{result.case_id}.png"
        name = f"{result.case_id}.nii.gz"
        write_overlay(
            picture,
            read_volume(new / "imagesTr" / name),
            read_label_map(folder / "predictions" / name),
            package.labels,
            reference=read_label_map(new / "labelsTr" / name),
            title=result.case_id,
        )
        overlays.append(picture)
    report = folder / "report.html"
    write_page(
        report,
        title="medseg demo",
        lead=f"A 3D U-Net, trained on {len(shown)} synthetic CTs, segments {NEW_CASES} that it never saw. Fill: "
        "prediction. Line: reference.",
        summary=evaluation.summary,
        rows=evaluation.rows,
        pictures=overlays,
    )
    return DemoResult(training, predictions, evaluation, overlays, report)
