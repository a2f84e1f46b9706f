"""Pretrain: a recipe and scans without labels in, a run out that a training can start from.

A network learns to put back what is hidden of a scan, and so what scans look like (masked autoencoders: He et al. 2022;
for CNNs on 3D scans Wald et al. 2025). It is the recipe's own, with as many outputs as the image has channels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.across import rank
from medseg.agreement import check_window
from medseg.atomic import write_json
from medseg.engine.torch import TorchEngine
from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.models import build_with_outputs, for_training, pack, parameter_count, weights_of
from medseg.package import ModelPackage, save_package
from medseg.preprocess import prepare_scan
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.run import Run, read_lines
from medseg.train.begin import begin, check_batch, check_folder
from medseg.train.cases import Failed, nothing_left, prepare_each, told
from medseg.train.checkpoint import State
from medseg.train.epochs import take_epochs
from medseg.train.fingerprint import fingerprint
from medseg.train.finish import finished
from medseg.train.masking import MaskedStream, Reconstruction, random_blocks
from medseg.train.reconstruction import reconstruction_error
from medseg.train.scans import Scan, Scans, hold_out
from medseg.train.session import Session
from medseg.train.trainer import Trainer

# A pretrained network tells no labels.
NO_LABELS = LabelSet.from_names({0: "background"})


@dataclass(frozen=True)
class PretrainingResult:
    """What pretraining left behind.

    Attributes:
        run: its folder.
        summary: the reconstruction error, as in validation/summary.json.
        failed: case id → code and message of the error that kept a scan out, as in run.json.
    """

    run: Run
    summary: dict[str, Any]
    failed: Failed


def pretrain(
    recipe: Recipe,
    scans: Scans,
    folder: Path,
    *,
    device: torch.device,
    seed: int = 0,
    resume: bool = False,
    deterministic: bool = False,
    workers: int | None = None,
    cache: Path | None = None,
    notify: Notify = ignore,
) -> PretrainingResult:
    """Pretrain a network on scans and leave a run, as `train` does, whose package `train` can start from.

    The recipe's labels, its coarse model and what it varies intensities by are left out. The scans of every tenth
    patient are held out (none where there are less than five), and what was learnt is measured on them.

    Args:
        recipe: every choice.
        scans: from `find_scans`.
        folder: the run's folder.
        device: where the network is trained.
        seed: of the weights, every patch and every mask.
        resume: as for `train`, and so are the others.
        deterministic: the same weights, bit for bit, however often it was broken off.
        workers: processes that draw patches.
        cache: the folder of prepared scans.
        notify: hears of progress, and of each scan that cannot be used.

    Raises:
        NoCasesError: none of the scans can be used.
        RecipeError, UnknownNameError: the recipe does not fit the scans or the processes, or names what there is not.
        TrainingError, OutOfMemoryError, UnwritableError: as `train`.
    """
    session = Session(device, seed, resume, deterministic, workers, cache, notify)
    recipe = recipe.pretraining_recipe()
    _check(recipe, scans)
    with session.run(folder) as run:
        check_folder(run, resume=resume, notify=notify)
        channels = scans.channels()
        trainer = _trainer(recipe, scans, channels, session)
        begin(run, trainer, recipe, notify=notify)
        if done := finished(run, trainer):
            return PretrainingResult(run, *done)
        folders, failed = _prepared(recipe, scans, channels, cache or run.prepared, notify)
        sides = hold_out(scans.found)  # whatever could be prepared, nobody changes sides
        own, held_out = ([scan for scan in side if scan.case_id in folders] for side in sides)
        if not own:
            raise nothing_left(failed, [scan.case_id for scan in sides[0]])

        stream = MaskedStream([folders[scan.case_id] for scan in own], recipe, seed=seed)
        take_epochs(run, trainer, stream, None, workers=workers, notify=notify)

        engine = TorchEngine(trainer.averaged, device, precision=recipe.training.precision)
        measured = [folders[scan.case_id] for scan in held_out or own]
        summary = {
            "scored_on": f"{len(held_out)} scan(s) held out of pretraining" if held_out else "training data",
            **reconstruction_error(engine, measured, recipe, seed=seed),
        }
        if rank() == 0:
            write_json(run.summary, summary)
            weights = pack(weights_of(trainer.averaged))
            save_package(ModelPackage(recipe, NO_LABELS, channels, weights, summary), run.model)
            run.write_record(
                command="pretrain",
                **session.as_json(),
                fingerprint=trainer.state.fingerprint,
                parameters=parameter_count(trainer.network),
                training_seconds=round(sum(line["seconds"] for line in read_lines(run.journal)), 1),
                training_cases=[scan.case_id for scan in own],
                validation_cases=[scan.case_id for scan in held_out],
                reconstruction=summary,
                failed=told(failed),
            )
    return PretrainingResult(run, summary, told(failed))


def _check(recipe: Recipe, scans: Scans) -> None:
    """Raise RecipeError when the recipe does not fit the scans, the processes or itself."""
    check_batch(recipe)
    for dataset in scans.datasets:
        check_window(recipe, dataset.manifest)
    settings = recipe.pretraining
    random_blocks(recipe.training.patch, block=settings.block, masked=settings.masked, rng=np.random.default_rng(0))


def _trainer(recipe: Recipe, scans: Scans, channels: int, session: Session) -> Trainer:
    """Return the trainer of a fresh network."""
    torch.manual_seed(session.seed)
    network = for_training(build_with_outputs(recipe, channels=channels, outputs=channels), session.device)
    case_ids = [scan.case_id for scan in scans.found]
    state = State(fingerprint(recipe, recipe.pretraining.model_dump(), case_ids, channels, session.seed))
    return Trainer(network, recipe, Reconstruction(), device=session.device, seed=session.seed, state=state)


def _prepared(
    recipe: Recipe, scans: Scans, channels: int, cache: Path, notify: Notify
) -> tuple[dict[str, Path], dict[str, MedsegError]]:
    """Return where each scan was prepared, and why others cannot be used."""
    for case_id, error in scans.failed.items():
        notify(Progress("prepare", 0, len(scans.found), message=f"{case_id} is left out: {error.code} {error}"))

    def work(scan: Scan) -> partial[Path]:
        return partial(prepare_scan, scan.source, channels=channels, settings=recipe.preprocess, cache=cache)

    folders, failed = prepare_each({scan.case_id: work(scan) for scan in scans.found}, notify=notify)
    failed = scans.failed | failed
    if not folders:
        raise nothing_left(failed, list(failed))
    return folders, failed
