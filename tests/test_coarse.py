"""Facts about the coarse model: it is trained by the same command, and the other looks where it found something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.dataset import open_dataset
from medseg.engine.torch import TorchEngine
from medseg.errors import PackageError
from medseg.labels import LabelSet
from medseg.models import build_network, pack, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.recipe import Recipe, parse_recipe
from medseg.segment import Segmenter
from medseg.synthetic import write_synthetic_dataset
from medseg.train import train
from medseg.volume import Geometry, Volume

SPLEEN = LabelSet.from_names({0: "background", 3: "spleen"})
RECIPE = {
    "preprocess": {"window_hu": [0, 100], "spacing_mm": [2, 2, 2]},
    "model": {"name": "unet", "options": {"channels": [4, 8]}},
    "training": {"patch": [8, 8, 8], "precision": "fp32"},
    "prediction": {"overlap": 0.5},
    "coarse": {
        "spacing_mm": [6, 6, 6],
        "patch": [8, 8, 8],
        "model": {"name": "unet", "options": {"channels": [2, 4]}},
        "margin_mm": 5,
    },
}


class Threshold(nn.Module):
    """A network that calls bright what is brighter than one half, and counts the windows it sees."""

    seen = 0

    def forward(self, patch: Tensor) -> Tensor:
        self.seen += len(patch)
        return torch.cat([0.5 - patch, patch - 0.5], dim=1)


def recipe() -> Recipe:
    return parse_recipe(RECIPE, name="r")


def scan(*, bright: bool = True) -> Volume:
    """Return 80 × 72 × 90 mm of noise with a bright box in a corner."""
    array = np.random.default_rng(0).integers(0, 40, (1, 40, 36, 30)).astype(np.int16)
    if bright:
        array[:, 5:14, 20:30, 4:12] = 90
    return Volume(array, Geometry((40, 36, 30), np.diag([-2.0, 2.0, 3.0, 1.0])))


def segmenters(coarse: nn.Module, fine: nn.Module) -> tuple[Segmenter, Segmenter]:
    """Return a segmenter that looks everywhere and one that looks where another finds something."""
    cpu = torch.device("cpu")
    first = Segmenter(TorchEngine(coarse, cpu, precision="fp32"), recipe().coarse_recipe(["spleen"]), SPLEEN)
    engine = TorchEngine(fine, cpu, precision="fp32")
    return Segmenter(engine, recipe(), SPLEEN), Segmenter(engine, recipe(), SPLEEN, coarse=first)


def test_around_what_the_coarse_model_finds_the_result_is_the_same_with_fewer_windows() -> None:
    network = Threshold()
    everywhere, focused = segmenters(Threshold(), network)
    expected = everywhere.segment(scan())
    all_windows, network.seen = network.seen, 0
    found = focused.segment(scan())
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.ids() == {0, 3}
    assert 0 < network.seen < all_windows / 4


def test_what_lies_beyond_the_margin_is_background() -> None:
    volume = scan()
    volume.array[:, 36:38, 3:5, 26:28] = 90  # too small for the coarse grid
    everywhere, focused = segmenters(Threshold(), Threshold())
    assert everywhere.segment(volume).array[36, 3, 26] == 3
    found = focused.segment(volume).array
    assert found[36, 3, 26] == 0
    assert found[8, 25, 8] == 3


def test_where_the_coarse_model_finds_nothing_the_other_looks_everywhere() -> None:
    network = Threshold()
    everywhere, focused = segmenters(Threshold(), network)
    np.testing.assert_array_equal(
        focused.segment(scan(bright=False)).array, everywhere.segment(scan(bright=False)).array
    )
    assert network.seen % 2 == 0
    assert network.seen > 0


def package() -> ModelPackage:
    torch.manual_seed(0)
    fine, coarse = recipe(), recipe().coarse_recipe(["spleen"])
    own, first = (pack(weights_of(build_network(r, channels=1, labels=1))) for r in (fine, coarse))
    return ModelPackage(fine, SPLEEN, 1, own, {}, coarse=ModelPackage(coarse, SPLEEN, 1, first, {}))


def test_a_package_keeps_its_coarse_model_in_a_folder_and_in_a_zip(tmp_path: Path) -> None:
    import shutil

    save_package(package(), tmp_path / "model")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "model")
    for path in (tmp_path / "model", tmp_path / "packed.zip"):
        loaded = load_package(path)
        assert loaded.coarse is not None
        assert loaded.coarse.weights == package().coarse.weights
        assert loaded.coarse.recipe.preprocess.spacing_mm == (6, 6, 6)
        assert loaded.weights == package().weights
        assert loaded.coarse.coarse is None


def test_another_coarse_model_is_another_package() -> None:
    whole = package()
    assert whole.sha256 != replace(whole, coarse=None).sha256


@pytest.mark.parametrize(("preset", "coarse"), [("fast", True), ("balanced", False), ("accurate", False)])
def test_only_the_fast_preset_asks_the_coarse_model(preset: str, coarse: bool) -> None:
    prepared = Segmenter.of(package(), device="cpu", preset=preset).prepare(scan())
    assert (prepared.coarse is not None) == coarse
    if prepared.coarse:
        assert prepared.coarse.geometry.spacing_mm == pytest.approx((6, 6, 6))


def test_one_training_makes_both_models_and_a_package_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> bytes:
        raise PackageError("exporting", found="it takes seconds", remedy="test it elsewhere")

    monkeypatch.setattr("medseg.train.finish.to_onnx", slow)
    write_synthetic_dataset(tmp_path / "data", cases=2)
    small = {"epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "batch": 1, "patch": [16, 16, 16]}
    tiny = parse_recipe(
        RECIPE
        | {"preprocess": {"window_hu": [-100, 240], "spacing_mm": [12, 12, 12]}, "training": small}
        | {"coarse": {"spacing_mm": [24, 24, 24], "patch": [8, 8, 8], "epochs": 1}},
        name="r",
    )
    dataset = open_dataset(tmp_path / "data")
    train(tiny, dataset, tmp_path / "run", device=torch.device("cpu"))
    trained = load_package(tmp_path / "run")
    assert [label.name for label in trained.labels] == ["spleen", "kidney_right", "kidney_left", "liver"]
    assert trained.coarse is not None
    (found,) = trained.coarse.labels
    assert (found.name, found.parts) == ("found", (1, 2, 3, 4))
    assert trained.coarse.recipe.preprocess.spacing_mm == (24, 24, 24)
    assert (tmp_path / "run" / "coarse" / "validation" / "metrics.csv").is_file()
