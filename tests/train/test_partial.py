"""A network learns every label although no case has all of them, and none from voxels that nobody labelled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from phantoms import save_nifti

from medseg.dataset import open_dataset
from medseg.metrics import read_metrics
from medseg.recipe import parse_recipe
from medseg.train import train

CPU = torch.device("cpu")
SHAPE = (24, 20, 3)
RECIPE: dict[str, Any] = {
    "preprocess": {"orientation": "RAS"},
    "model": {"name": "unet", "options": {"channels": [8, 16], "num_res_units": 0, "norm": "instance"}},
    "training": {"patch": [24, 20, 1], "batch": 8, "epochs": 1, "learning_rate": 2e-2, "precision": "fp32"},
    "prediction": {"overlap": 0.0},
}


def disc(rng: np.random.Generator, columns: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a disc of 4 voxels' radius in some columns, through all slices."""
    centre = np.array([rng.integers(*columns), rng.integers(5, 15)])
    place = np.moveaxis(np.indices(SHAPE[:2]), 0, -1)
    return np.repeat((np.linalg.norm(place - centre, axis=-1) < 4.5)[..., None], SHAPE[2], axis=2)


def write_halves(folder: Path, *, lacking: bool = True, sparse: bool = False) -> Path:
    """Write ten cases of a bright and a dim disc: two have both labels, and of the others each has one.

    Args:
        folder: where.
        lacking: whether the manifest says so.
        sparse: whether only a tenth of the voxels of the partly labelled cases is labelled at all.
    """
    folder.mkdir()
    cases = []
    for number in range(10):
        rng = np.random.default_rng(number)
        sides = [(5, 8), (16, 19)]
        rng.shuffle(sides)
        bright, dim = disc(rng, sides[0]), disc(rng, sides[1])
        present = ["bright", "dim"] if number < 2 else [("bright", "dim")[number % 2]]
        label_map = (bright * ("bright" in present) + 2 * dim * ("dim" in present)).astype(np.uint8)
        if sparse and number >= 2:
            label_map[rng.random(SHAPE) > 0.1] = 255
        name = f"case_{number}.nii.gz"
        save_nifti(folder / f"image_{name}", rng.normal(0, 8, SHAPE) + 100 * bright + 50 * dim, np.eye(4))
        save_nifti(folder / f"label_{name}", label_map, np.eye(4))
        case = {"image": f"image_{name}", "label": f"label_{name}", "fold": int(number >= 2)}
        cases.append({**case, "labels_present": present} if lacking else case)
    labels = {0: "background", 1: "bright", 2: "dim"}
    listing = {"name": "discs", "modality": {0: "MR"}, "labels": labels, "ignore": [255], "training": cases}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


def scores(data: Path, run: Path, *, fold: int = 0, steps: int = 40) -> dict[str, Any]:
    """Train on the cases of the other fold and return the summary of this one; in fold 0 are those with both labels."""
    recipe = {**RECIPE, "training": {**RECIPE["training"], "steps_per_epoch": steps}}
    return train(parse_recipe(recipe, name="a test's"), open_dataset(data), run, fold=fold, device=CPU).summary


def dice(summary: dict[str, Any]) -> list[float]:
    return [summary["labels"][name]["dice"]["mean"] for name in ("bright", "dim")]


@pytest.fixture(autouse=True)
def _without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the ONNX file out, which takes longer than all steps."""
    monkeypatch.setattr("medseg.train.finish.to_onnx", lambda *_, **__: None)


def test_of_cases_with_one_label_each_and_few_labelled_voxels_a_network_learns_both(tmp_path: Path) -> None:
    summary = scores(write_halves(tmp_path / "data", sparse=True), tmp_path / "run")
    assert summary["overall"]["n"] == 2
    assert min(dice(summary)) > 0.88


def test_taken_for_background_the_labels_that_cases_lack_are_missed(tmp_path: Path) -> None:
    summary = scores(write_halves(tmp_path / "data", lacking=False), tmp_path / "run")
    assert min(dice(summary)) < 0.75


def test_cases_are_scored_on_the_labels_they_have(tmp_path: Path) -> None:
    summary = scores(write_halves(tmp_path / "data"), tmp_path / "run", fold=1, steps=1)
    assert summary["overall"]["n"] == 8
    assert [summary["labels"][name]["n"] for name in ("bright", "dim")] == [4, 4]
    rows = read_metrics(tmp_path / "run" / "validation" / "metrics.csv")
    assert [(row.case_id, row.label) for row in rows[:2]] == [("image_case_2", "bright"), ("image_case_3", "dim")]
