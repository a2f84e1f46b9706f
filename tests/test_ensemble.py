"""Facts about ensembles: models joined into one package segment by the mean of their logits, whatever their grids."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import house_geometry, house_volume

from medseg.cli import main
from medseg.ensemble import load_models, together
from medseg.errors import OptionError, UnknownNameError
from medseg.labels import LabelSet
from medseg.models import build_network, pack, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.postprocess import Rule
from medseg.recipe import parse_recipe
from medseg.restore import restore
from medseg.segment import Segmenter
from medseg.volume import Volume, resample, write_image

SPLEEN = LabelSet.from_names({0: "background", 3: "spleen"})
FINE, COARSER = [2.0, 2.0, 3.0], [3.0, 4.0, 5.0]


def package(seed: int, *, spacing_mm: list[float] = FINE, patch: tuple[int, int, int] = (8, 8, 8)) -> ModelPackage:
    recipe = parse_recipe(
        {
            "preprocess": {"window_hu": [0, 100], "spacing_mm": spacing_mm},
            "model": {"name": "unet", "options": {"channels": [4, 8]}},
            "training": {"patch": list(patch), "precision": "fp32"},
            "prediction": {"overlap": 0.25},
        },
        name="r",
    )
    torch.manual_seed(seed)
    network = build_network(recipe, channels=1, labels=1)
    return ModelPackage(recipe, SPLEEN, 1, pack(weights_of(network)), {})


def scan() -> Volume:
    geometry = house_geometry(shape=(17, 14, 11), orientation="PSL", tilt_degrees=(4.0, -6.0, 9.0))
    return Volume(np.random.default_rng(0).integers(0, 100, (1, *geometry.shape)).astype(np.int16), geometry)


def segmenter(one: ModelPackage) -> Segmenter:
    return Segmenter.of(one, engine="torch", device="cpu")


def test_models_of_one_grid_are_averaged_window_by_window() -> None:
    own = [package(seed) for seed in range(3)]
    volume = scan()
    prepared = segmenter(own[0]).prepare(volume).image
    logits = np.mean([segmenter(one).logits(prepared.array) for one in own], axis=0)
    expected = restore(logits, source=prepared.geometry, target=volume.geometry, labels=SPLEEN, head="softmax")
    found = segmenter(together(own)).segment(volume)
    assert np.count_nonzero(found.array != expected.array) <= 2  # a voxel whose logits are equal up to rounding
    assert found.ids() == {0, 3}
    assert any(np.any(segmenter(one).segment(volume).array != found.array) for one in own)


def test_models_of_different_grids_meet_on_the_first_ones_and_each_counts_once() -> None:
    own = [package(0), package(1, spacing_mm=COARSER, patch=(8, 8, 1)), package(2)]
    volume = scan()
    grids = [segmenter(one).prepare(volume).image for one in own]
    said = [segmenter(one).logits(grid.array) for one, grid in zip(own, grids, strict=True)]
    said[1] = resample(said[1], source=grids[1].geometry, target=grids[0].geometry)
    logits = np.mean(said, axis=0)
    expected = restore(logits, source=grids[0].geometry, target=volume.geometry, labels=SPLEEN, head="softmax")
    found = segmenter(together(own)).segment(volume)
    assert np.count_nonzero(found.array != expected.array) <= 2
    assert found.ids() == {0, 3}


def test_the_same_model_thrice_is_that_model() -> None:
    volume = scan()
    for other in (package(0), package(0, patch=(8, 8, 16))):
        one = segmenter(package(0)).segment(volume)
        found = segmenter(together([package(0), other, other])).segment(volume)
        if other.recipe == package(0).recipe:
            np.testing.assert_array_equal(found.array, one.array)
        assert found.geometry == one.geometry


def test_an_ensemble_is_saved_and_read_back_and_its_checksum_covers_every_model(tmp_path: Path) -> None:
    ensemble = replace(together([package(0), package(1)]), rules=(Rule(label="spleen", keep_largest=True),))
    save_package(ensemble, tmp_path / "model")
    loaded = load_package(tmp_path / "model")
    assert loaded == ensemble
    assert loaded.sha256 == ensemble.sha256
    others = [together([package(0), package(2)]), together([package(0)]), replace(ensemble, rules=())]
    assert ensemble.sha256 not in {other.sha256 for other in others}


def test_ensembles_joined_are_one_ensemble_of_all(tmp_path: Path) -> None:
    for number, seeds in enumerate([(0, 1), (2, 3)]):
        save_package(together([package(seed) for seed in seeds]), tmp_path / str(number))
    joined = load_models(f"{tmp_path / '0'}, {tmp_path / '1'}")
    assert [one.weights for one in (joined, *joined.others)] == [package(seed).weights for seed in range(4)]
    assert all(not one.others for one in joined.others)


def test_rules_that_only_some_models_have_are_left_out() -> None:
    rules = (Rule(label="spleen", keep_largest=True),)
    ruled, plain = replace(package(0), rules=rules), package(1)
    assert together([ruled, replace(plain, rules=rules)]).rules == rules
    assert together([ruled, plain]).rules == together([plain, ruled]).rules == ()
    assert together([ruled]).rules == rules


def test_a_path_with_a_comma_is_one_model(tmp_path: Path) -> None:
    save_package(package(0), tmp_path / "a,b")
    assert load_models(str(tmp_path / "a,b")).others == ()
    with pytest.raises(UnknownNameError, match="nothing at this path"):
        load_models(f"{tmp_path / 'a,b'},{tmp_path / 'a,b'}")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("labels", {"labels": LabelSet.from_names({0: "background", 4: "spleen"})}),
        ("channels", {"channels": 2}),
        ("kinds of image", {"modality": ("PET",)}),
        ("heads", {"recipe": parse_recipe({"model": {"head": "sigmoid"}}, name="r")}),
    ],
    ids=["labels", "channels", "images", "heads"],
)
def test_models_that_do_not_belong_together_are_refused(what: str, change: dict[str, object], tmp_path: Path) -> None:
    save_package(replace(package(0), modality=("CT",)), tmp_path / "one")
    save_package(replace(package(1), **change), tmp_path / "other")
    with pytest.raises(OptionError, match=f"their {what} are not the same"):
        load_models(f"{tmp_path / 'one'},{tmp_path / 'other'}")


def test_models_whose_datasets_know_other_ids_besides_belong_together(tmp_path: Path) -> None:
    save_package(package(0), tmp_path / "one")
    more = replace(SPLEEN, known_ids=SPLEEN.known_ids | {7}, ignored_ids=frozenset({7}))
    save_package(replace(package(1), labels=more), tmp_path / "other")
    assert len(load_models(f"{tmp_path / 'one'},{tmp_path / 'other'}").others) == 1


def test_predict_takes_several_models_joined_by_commas(tmp_path: Path) -> None:
    for seed in range(2):
        save_package(package(seed), tmp_path / str(seed))
    write_image(house_volume(), tmp_path / "scans" / "a.nii.gz")
    arguments = ["--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    assert main(["predict", f"{tmp_path / '0'},{tmp_path / '1'}", str(tmp_path / "scans"), *arguments]) == 0
    assert (tmp_path / "out" / "a.nii.gz").is_file()
    assert main(["predict", f"{tmp_path / '0'},{tmp_path / '2'}", str(tmp_path / "scans"), *arguments]) == 2


@pytest.mark.parametrize(("spacing_mm", "told"), [(FINE, 0), (COARSER, 1)], ids=["one_grid", "two_grids"])
def test_models_of_different_grids_say_that_they_keep_to_no_memory(
    spacing_mm: list[float], told: int, tmp_path: Path
) -> None:
    save_package(package(0), tmp_path / "one")
    save_package(package(1, spacing_mm=spacing_mm), tmp_path / "other")
    write_image(house_volume(), tmp_path / "scan.nii.gz")
    models, out = f"{tmp_path / 'one'},{tmp_path / 'other'}", tmp_path / "out"
    assert main(["predict", models, str(tmp_path / "scan.nii.gz"), "--out", str(out), "--max-ram", "64GB"]) == 0
    (line,) = (out / "results.jsonl").read_text().splitlines()
    assert [warning["code"] for warning in json.loads(line)["warnings"]].count("W_MAX_RAM") == told
