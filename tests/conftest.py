"""What several test files need: a small dataset, a small recipe, a model trained on them."""

from pathlib import Path

import pytest
import torch

from medseg.cli import main
from medseg.synthetic import write_synthetic_dataset

# Tests compute little; a second thread would mostly wait, and stall them on a busy machine.
torch.set_num_threads(1)
# At its first backward pass autograd starts threads for the devices it finds, and copies of a process with such threads
# cannot train. ONNX's exporter brings a device of its own in, so the first pass comes before it.
torch.zeros(1, requires_grad=True).sum().backward()

# A model too small to be good, trained for moments: enough for every command to have something to work with.
TINY_RECIPE = """
description = "a test's model"

[preprocess]
orientation = "RAS"
spacing_mm = [9.0, 9.0, 9.0]
window_hu = [-100, 240]

[augment]
flip = 0.5
noise = 0.5

[model]
name = "unet"
options = { channels = [4, 8, 16], num_res_units = 0, norm = "instance" }

[training]
patch = [32, 32, 24]
batch = 2
epochs = 2
steps_per_epoch = 3
validate_every = 1
validation_cases = 1
precision = "fp32"

[prediction]
overlap = 0.0
"""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Decathlon folder of five synthetic CTs."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("dataset") / "organs", cases=5)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that trains in seconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Path, recipe: Path) -> Path:
    """A finished run of that recipe on that dataset, fold 0 held out."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(folder), "--fold", "0", "--quiet"]
    assert main([*arguments, "--device", "cpu"]) == 0
    return folder
