"""nnU-Net's own planner, preprocessor, trainer and predictor, with its weights looked at up a ladder of times.

    python nnunet_train.py TASK.json OUT [short]

What its users start as `nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres` and `nnUNetv2_train 4 3d_fullres 0 -device
cpu`: its default plan, its default trainer, its own augmentation in as many processes as there are cores, mirroring in
prediction. Its raw dataset is made of links to the files, in its own form. The fold is the benchmark's, handed over as
`splits_final.json`. What its trainer does besides steps counts as training: 50 batches of validation, a picture and
maybe a checkpoint after every 250 steps. torch.compile is off, as nnU-Net has it on a CPU.

Its learning rate falls along a polynomial over 1000 epochs of 250 steps. This is what its users get, and a schedule
that ends within the benchmark would reach a given Dice sooner. With `short` the same polynomial therefore falls to 0
by the last rung, step by step, and only that rung is looked at: a training at its end.
"""

import copy
import json
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

# Read when nnU-Net is imported.
os.environ.setdefault("nnUNet_def_n_proc", str(os.cpu_count()))
os.environ.setdefault("nnUNet_n_proc_DA", str(os.cpu_count()))

import torch
from ladder import Ladder, OutOfTimeError
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

CORES = os.cpu_count() or 1
NUMBER, NAME, CONFIGURATION = 4, "Dataset004_Task", "3d_fullres"
EXPONENT = 0.9


class ClimbingTrainer(nnUNetTrainer):
    """nnU-Net's trainer, stopped at each rung."""

    ladder: Ladder
    steps = 0

    def on_train_start(self) -> None:
        """Get ready."""
        super().on_train_start()
        self.ladder.begin()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a step."""
        output: dict[str, Any] = super().train_step(batch)
        self.steps += 1
        self.ladder.climb(self.steps)
        return output

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Look at a batch of its online validation."""
        output: dict[str, Any] = super().validation_step(batch)
        self.ladder.climb(self.steps)
        return output


class ShortTrainer(ClimbingTrainer):
    """The same, with the learning rate at 0 by the last rung."""

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * self.ladder.left**EXPONENT
        return super().train_step(batch)


def main() -> None:
    """Plan, preprocess, train, and predict at each rung."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(sys.argv[2])
    for folder in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{folder}"] = str(out / folder)
    torch.set_num_threads(CORES)
    write_raw(task, out / "raw" / NAME)
    extract_fingerprints([NUMBER], num_processes=CORES)
    plans_name = plan_experiments([NUMBER])
    preprocess([NUMBER], plans_name, configurations=(CONFIGURATION,), num_processes=(CORES,))
    short = "short" in sys.argv[3:]
    trainer = trainer_of(task, out / "preprocessed" / NAME, plans_name, short=short)
    trainer.ladder = Ladder(task["minutes"][-1:] if short else task["minutes"], out, partial(predict, trainer, task))
    with suppress(OutOfTimeError):
        trainer.run_training()
    trainer.on_train_end()


def write_raw(task: dict[str, Any], folder: Path) -> None:
    """Write the dataset in nnU-Net's form."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case_id, case in task["cases"].items():
        (folder / "imagesTr" / f"{case_id}_0000.nii.gz").symlink_to(case["image"])
        (folder / "labelsTr" / f"{case_id}.nii.gz").symlink_to(case["label"])
    description = {
        "channel_names": task["channels"],
        "labels": task["labels"],
        "numTraining": len(task["cases"]),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def trainer_of(task: dict[str, Any], folder: Path, plans_name: str, *, short: bool) -> ClimbingTrainer:
    """Return the trainer of the benchmark's fold."""
    split = [{"train": task["training"], "val": task["held_out"]}]
    (folder / "splits_final.json").write_text(json.dumps(split), encoding="utf-8")
    plans = json.loads((folder / f"{plans_name}.json").read_text(encoding="utf-8")) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    kind = ShortTrainer if short else ClimbingTrainer
    return kind(plans, CONFIGURATION, 0, dataset, torch.device("cpu"))


def predict(trainer: nnUNetTrainer, task: dict[str, Any], folder: Path) -> None:
    """Predict the cases that are scored, with a copy of the network, as `nnUNetv2_predict` does."""
    network = copy.deepcopy(trainer.network)
    network.decoder.deep_supervision = False
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    images = [[task["cases"][case_id]["image"]] for case_id in task["scored"]]
    predictor.predict_from_files_sequential(images, [str(folder / case_id) for case_id in task["scored"]])


if __name__ == "__main__":
    main()
