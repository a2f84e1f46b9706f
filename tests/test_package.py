"""Facts about model packages: what is saved is what is loaded, and whatever is not a whole package is refused."""

import hashlib
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import PackageError, UnknownNameError
from medseg.labels import LabelSet
from medseg.models import build_network, pack, unpack, weights_of
from medseg.package import LARGEST_BYTES, ModelPackage, load_package, save_package
from medseg.recipe import Recipe, parse_recipe

LABELS = LabelSet.from_names({0: "background", 1: "spleen", 2: "kidney", 7: "liver"})
SCORES = {"scored_on": "fold 0", "overall": {"dice": {"mean": 0.8125, "ci95": None}}}
FILES = ("model.json", "weights.safetensors", "model.onnx")


def recipe_of(**model: Any) -> Recipe:
    return parse_recipe(
        {
            "description": 'a "test", ü',
            "labels": {"organs": ["spleen", "liver"], "kidney": ["kidney"]},
            "preprocess": {"spacing_mm": [1.5, 0.78125, 2], "window_hu": [-57, 164]},
            "model": {"name": "dynunet", "options": {"filters": [4, 8, 8]}} | model,
            "training": {"patch": [16, 12, 8]},
        },
        name="test",
    )


def package_of(recipe: Recipe | None = None) -> ModelPackage:
    recipe = recipe or recipe_of()
    labels = LABELS.select(recipe.labels)
    torch.manual_seed(0)
    network = build_network(recipe, channels=2, labels=len(labels))
    return ModelPackage(
        recipe, labels, 2, pack(weights_of(network)), SCORES, b"an ONNX network", modality=("CT", "PET")
    )


@pytest.fixture(scope="module")
def saved() -> ModelPackage:
    return package_of()


@pytest.fixture(scope="module")
def saved_folder(saved: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "model"
    save_package(saved, folder)
    return folder


@pytest.fixture
def folder(saved_folder: Path, tmp_path: Path) -> Path:
    """A package's folder, to be spoilt."""
    return shutil.copytree(saved_folder, tmp_path / "model")


def zipped(folder: Path, *names: str, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names or FILES:
            archive.write(folder / name, name)
    return path


def describe(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a package's model.json says."""
    path = folder / "model.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def refused(path: Path, match: str | None = None) -> PackageError:
    with pytest.raises(PackageError, match=match) as caught:
        load_package(path)
    assert caught.value.code == "E_PACKAGE"
    assert str(path) in caught.value.asked
    return caught.value


def test_of_a_folder_without_a_package_it_is_told_what_it_is(tmp_path: Path, folder: Path) -> None:
    unfinished, above = tmp_path / "unfinished", tmp_path / "above"
    unfinished.mkdir()
    (unfinished / "recipe.toml").touch()
    assert "--resume" in refused(unfinished, "has not finished").remedy
    shutil.copytree(folder, above / "run" / "model")
    assert str(above / "run") in refused(above, "no run").remedy
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no model.json")


# There and back


@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["folder", "zip", "deflated"])
def test_a_package_comes_back_the_same(saved: ModelPackage, folder: Path, method: int | None) -> None:
    loaded = load_package(folder if method is None else zipped(folder, method=method))
    assert loaded.recipe == saved.recipe
    assert loaded.labels == saved.labels
    assert loaded.channels == 2
    assert loaded.modality == ("CT", "PET")
    assert loaded.scores == SCORES
    assert loaded.weights == saved.weights
    assert loaded.onnx == saved.onnx


@pytest.mark.parametrize("method", [None, zipfile.ZIP_DEFLATED], ids=["folder", "zip"])
def test_a_package_keeps_its_checksum_there_and_back(saved: ModelPackage, folder: Path, method: int | None) -> None:
    loaded = load_package(folder if method is None else zipped(folder, method=method))
    assert loaded.sha256 == saved.sha256
    turned = pack(dict(reversed(unpack(saved.weights).items())))
    assert replace(saved, weights=turned).sha256 == saved.sha256
    assert replace(saved, scores={}).sha256 == saved.sha256


def test_the_checksum_tells_weights_recipes_labels_and_channels_apart(saved: ModelPackage) -> None:
    weights = unpack(saved.weights)
    name, weight = next(iter(weights.items()))
    others = [
        replace(saved, weights=pack(weights | {name: weight + 1e-6})),
        replace(saved, onnx=None),
        replace(saved, recipe=recipe_of(head="sigmoid")),
        replace(saved, labels=LABELS),
        replace(saved, channels=1),
    ]
    assert len({package.sha256 for package in (saved, *others)}) == 6


def test_its_network_says_what_the_trained_one_said(folder: Path) -> None:
    patch = torch.randn(1, 2, 16, 12, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    trained = build_network(recipe_of(), channels=2, labels=2).eval()
    network = load_package(folder).network()
    assert not network.training
    with torch.inference_mode():
        torch.testing.assert_close(network(patch), trained(patch), rtol=0, atol=0)


def test_a_run_stands_for_the_model_in_it(folder: Path) -> None:
    assert load_package(folder.parent).recipe == recipe_of()


def test_a_package_replaces_the_one_that_was_there(saved: ModelPackage, folder: Path) -> None:
    (folder / "stray").write_text("from before")
    save_package(replace(saved, recipe=recipe_of(head="sigmoid")), folder)
    assert load_package(folder).recipe.model.head == "sigmoid"
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_a_package_says_what_it_was_made_with(folder: Path) -> None:
    value = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert (value["form"], value["form_version"]) == ("medseg-model", 1)
    assert value["versions"]["torch"]
    assert value["files"]["weights.safetensors"]["bytes"] == (folder / "weights.safetensors").stat().st_size
    assert value["labels"][0]["parts"] == [1, 7]


# What is refused


def test_nothing_at_the_path_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="nothing here"):
        load_package(tmp_path / "nothing here")


@pytest.mark.parametrize("position", [0, 3, 40, -1])
def test_a_single_flipped_byte_of_the_weights_is_noticed(folder: Path, position: int) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    refused(folder, "checksum differs")
    refused(zipped(folder), "checksum differs")


@pytest.mark.parametrize("name", FILES)
def test_a_package_that_lacks_a_file_is_refused(folder: Path, name: str) -> None:
    refused(zipped(folder, *(set(FILES) - {name})), name)
    (folder / name).unlink()
    refused(folder, name)


def test_an_empty_folder_and_a_run_that_has_not_finished_are_no_packages(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    refused(tmp_path / "run")


FOREIGN = ["", "[]", "null", '"medseg-model"', "{}", '{"form": "other"}', "{", "[" * 100_000, '{"form": "\ud800"}']


@pytest.mark.parametrize("text", FOREIGN, ids=lambda text: text[:12])
def test_foreign_json_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(folder)
    refused(zipped(folder))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_of_the_form_is_refused(folder: Path, version: object) -> None:
    describe(folder, lambda value: value.update(form_version=version))
    refused(folder, "not of the form medseg-model 1")


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no recipe": lambda value: value.pop("recipe"),
    "a misspelt key": lambda value: value["recipe"].update(trainign={}),
    "a recipe that is a list": lambda value: value.update(recipe=[]),
    "no labels": lambda value: value.pop("labels"),
    "labels that are numbers": lambda value: value.update(labels=[1, 2]),
    "a label without an id": lambda value: value["labels"][0].pop("id"),
    "no channels": lambda value: value.pop("channels"),
    "channels without number": lambda value: value.update(channels="two"),
    "endless channels": lambda value: value.update(channels=float("inf")),
    "no checksums": lambda value: value.pop("files"),
    "checksums in a list": lambda value: value.update(files=[1]),
    "no scores": lambda value: value.pop("scores"),
    "rules without a label": lambda value: value.update(postprocess=[{"keep_largest": True}]),
    "a rule for a label that is not there": lambda value: value.update(postprocess=[{"label": "heart"}]),
    "others that are not there": lambda value: value.update(others=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_description_that_is_not_medsegs_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    describe(folder, change)
    refused(folder)


def test_a_zip_of_the_folder_itself_opens_too(folder: Path) -> None:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in FILES:
            archive.write(folder / name, f"some/model/{name}")
    assert load_package(path).recipe == load_package(folder).recipe


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_zip_is_refused(folder: Path, kept: float) -> None:
    path = zipped(folder)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refused(path)


def test_a_zip_whose_content_is_damaged_is_refused(folder: Path) -> None:
    path = zipped(folder, method=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    for position in (35, 60, 100, 300, len(whole) // 2):
        data = bytearray(whole)
        data[position] ^= 0xFF
        path.write_bytes(data)
        refused(path)


def test_a_zip_that_claims_a_huge_size_is_refused_unread(folder: Path) -> None:
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # the central directory's second file
    huge = LARGEST_BYTES + 2**30
    # A size of 2³² − 1 says that a zip64 extra field holds the real one; here it is put where the name's end is.
    name_length, extra_length = struct.unpack_from("<HH", data, entry + 28)
    extra = struct.pack("<HHQ", 1, 8, huge)
    struct.pack_into("<I", data, entry + 24, 0xFFFFFFFF)
    struct.pack_into("<H", data, entry + 30, extra_length + len(extra))
    data[entry + 46 + name_length : entry + 46 + name_length] = extra
    end = data.index(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", data, end + 12)
    struct.pack_into("<I", data, end + 12, directory + len(extra))
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("weights.safetensors").file_size == huge
    refused(path, r"would unpack to 9\.0 GiB")


def test_a_zip_bomb_unpacks_no_more_than_it_declares(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(bytes(50 * 2**20))
    refused(zipped(folder, method=zipfile.ZIP_DEFLATED), "checksum differs")


def test_an_encrypted_zip_is_refused(folder: Path) -> None:
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


def test_a_zip_in_an_unknown_compression_is_refused(folder: Path) -> None:
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    for mark, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + method] = 99
    path.write_bytes(data)
    refused(path)


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def torch_file() -> bytes:
    stream = io.BytesIO()
    torch.save({"weights": Trap()}, stream)
    return stream.getvalue()


@pytest.mark.parametrize("data", [pickle.dumps(Trap()), torch_file()], ids=["pickle", "torch"])
def test_nothing_is_unpickled(folder: Path, data: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(data)
    checksum = hashlib.sha256(data).hexdigest()
    describe(folder, lambda value: value["files"]["weights.safetensors"].update(sha256=checksum))
    refused(folder)
    (folder / "whole.pt").write_bytes(data)
    refused(folder / "whole.pt")


def test_weights_of_another_network_are_refused(saved: ModelPackage) -> None:
    right = unpack(saved.weights)
    name = next(iter(right))
    for weights in (
        {key: value for key, value in right.items() if key != name},
        right | {"extra": torch.zeros(1)},
        right | {name: torch.zeros(1)},
        weights_of(nn.Linear(2, 2)),
    ):
        with pytest.raises(PackageError, match="do not fit the network"):
            replace(saved, weights=pack(weights)).network()
