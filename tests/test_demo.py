"""The demo walks the whole path of a scan on scans of its own making."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from medseg.demo import NEW_CASES, demo
from medseg.errors import OptionError

CPU = torch.device("cpu")


def test_the_demo_trains_predicts_scores_and_draws(tmp_path: Path) -> None:
    shorter = ["training.epochs=1", "training.steps_per_epoch=2", "training.validation_cases=1"]
    result = demo(tmp_path / "demo", device=CPU, overrides=shorter)
    assert [prediction.status for prediction in result.predictions] == ["ok"] * NEW_CASES
    assert result.evaluation.summary["overall"]["n"] == NEW_CASES
    trained = json.loads((tmp_path / "demo" / "run" / "run.json").read_text(encoding="utf-8"))["training_cases"]
    assert not {prediction.case_id for prediction in result.predictions} & set(trained)
    for picture in result.overlays:
        with Image.open(picture) as image:
            assert image.width > 500


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionError, match="holds something already"):
        demo(tmp_path, device=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
