"""Facts about recipes: what is read, what is refused, and that a written recipe reads back the same."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medseg.errors import RecipeError, UnknownNameError
from medseg.models import MODELS, build_network
from medseg.recipe import Recipe, load_recipe, parse_recipe

# No value is its default, and the words hold what TOML must quote.
AWKWARD: dict[str, Any] = {
    "manifest": "organs_ct",
    "description": 'kidneys in "CT", π/2 turned\nC:\\scans\t# no comment',
    "labels": {"kidney": ["kidney_left", "kidney_right"], "gall bladder, v1.0": ["gallbladder"]},
    "preprocess": {
        "orientation": "LPS",
        "spacing_mm": [1.5, 0.78125, 5],
        "window_hu": [-57, 164.5],
        "crop": "foreground",
    },
    "augment": {"flip": 0.5, "flip_axes": ["J"], "affine": 1, "noise": 0.25, "noise_std": [0, 1e-5], "log_gamma": 0.1},
    "model": {
        "name": "dynunet",
        "head": "sigmoid",
        "options": {"channels": [8, 16], "deep": True, "act": {"name": "prelu"}},
    },
    "training": {"patch": [64, 48, 1], "batch": 9, "loss": "dice", "learning_rate": 1e-05, "precision": "bf16"},
    "prediction": {"overlap": 0.25, "flips": ["I", "K"]},
}


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = parse_recipe(AWKWARD, name="awkward")
    again = load_recipe(write(tmp_path, recipe.to_toml()))
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()


def test_an_empty_file_is_the_recipe_of_all_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert recipe == Recipe()
    assert load_recipe(write(tmp_path, recipe.to_toml())) == recipe


def test_a_written_recipe_spells_every_default_out() -> None:
    text = Recipe().to_toml()
    sections = {name: type(value) for name, value in Recipe() if hasattr(value, "model_fields_set")}
    assert len(sections) == 6
    for section, kind in sections.items():
        assert f"[{section}]" in text
        for key, field in kind.model_fields.items():
            assert (f"\n{key} = " in text) == (field.default is not None)


def test_a_recipe_cannot_be_changed() -> None:
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.description = "changed"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.training.epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize(("patch", "flat"), [((96, 96, 96), False), ((64, 64, 1), True), ((1, 64, 64), True)])
def test_a_patch_with_a_one_makes_a_2d_model(patch: tuple[int, int, int], flat: bool) -> None:
    assert parse_recipe({"training": {"patch": patch}}, name="r").two_dimensional is flat


# What is refused


@pytest.mark.parametrize(
    ("text", "found", "near"),
    [
        ("[training]\nepohcs = 5", "no key 'training.epohcs'", "did you mean 'epochs'"),
        ("[trainign]\nepochs = 5", "no key 'trainign'", "did you mean 'training'"),
        ("manifset = 'msd_spleen'", "no key 'manifset'", "did you mean 'manifest'"),
        ("[coarse]\nmargin = 3", "no key 'coarse.margin'", "did you mean 'margin_mm'"),
        ("[prediction]\nzzzzzz = 1", "no key 'prediction.zzzzzz'", "the keys there are edges, flips, margin"),
    ],
    ids=["key", "section", "top", "a section that may be left out", "nothing near"],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path: Path, text: str, found: str, near: str) -> None:
    with pytest.raises(RecipeError, match=found) as caught:
        load_recipe(write(tmp_path, text))
    assert near in caught.value.found
    assert caught.value.code == "E_RECIPE"


def test_all_mistakes_are_told_at_once_and_of_many_the_first_five() -> None:
    wrong: dict[str, Any] = {"preprocess": {"orientation": "xyz", "spacing_mm": [1, 1]}, "training": {"epohcs": 5}}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(wrong, name="r")
    orientation, spacing_mm, epochs = caught.value.found.split("; ")
    assert orientation.endswith("such as \"RAS\" (it is 'xyz')")
    assert spacing_mm.startswith("preprocess.spacing_mm")
    assert epochs == "there is no key 'training.epohcs' (did you mean 'epochs'?)"
    keys = ("flip", "affine", "elastic", "blur", "noise", "gamma", "motion")
    with pytest.raises(RecipeError, match="; and 2 more") as caught:
        parse_recipe({"augment": dict.fromkeys(keys, 9)}, name="r")
    assert caught.value.found.count("(it is 9)") == 5


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("preprocess", "window_hu", [164, -57]),
        ("preprocess", "window_hu", [40, 40]),
        ("preprocess", "window_hu", [float("nan"), 40]),
        ("preprocess", "spacing_mm", [1, 0, 1]),
        ("preprocess", "spacing_mm", [1, float("inf"), 1]),
        ("preprocess", "spacing_mm", [1, 1]),
        ("preprocess", "crop", "everything"),
        ("augment", "flip", 1.5),
        ("augment", "flip_axes", ["X"]),
        ("augment", "noise_std", [0.2, 0.1]),
        ("augment", "blur_voxels", [-1, 1]),
        ("augment", "low_resolution_factor", [3, 1.5]),
        ("model", "head", "tanh"),
        ("training", "patch", [64, 1, 1]),
        ("training", "patch", [64, 64, 0]),
        ("training", "patch", [64, 64]),
        ("training", "batch", 0),
        ("training", "epochs", 2.5),
        ("training", "learning_rate", 0),
        ("training", "learning_rate", float("inf")),
        ("training", "encoder_rate", 1.5),
        ("pretraining", "masked", 1.0),
        ("pretraining", "block", 0),
        ("prediction", "overlap", 1.0),
    ],
)
def test_a_value_out_of_range_is_refused_and_its_place_named(section: str, key: str, value: object) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"my recipe: {section}.{key}")):
        parse_recipe({section: {key: value}}, name="my recipe")


def test_a_window_the_wrong_way_round_is_told_which_end_is_which() -> None:
    with pytest.raises(RecipeError, match=re.escape("low end must be below its high end (it is [164, -57])")):
        parse_recipe({"preprocess": {"window_hu": [164, -57]}}, name="r")


def test_a_patch_with_two_ones_is_told_that_one_is_the_most() -> None:
    with pytest.raises(RecipeError, match="of which one may be 1"):
        parse_recipe({"training": {"patch": [1, 64, 1]}}, name="r")


def test_a_label_made_up_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="labels: label 'kidney' is made up of nothing"):
        parse_recipe({"labels": {"kidney": []}}, name="r")


def test_a_value_where_a_section_belongs_is_refused() -> None:
    with pytest.raises(RecipeError, match="training: "):
        parse_recipe({"training": 5}, name="r")


def test_broken_toml_is_an_error_that_names_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.toml.*line 2"):
        load_recipe(write(tmp_path, "[training]\nepochs = = 5"))


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"mine\.toml"):
        load_recipe(str(path))


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"nothing\.toml") as caught:
        load_recipe(str(tmp_path / "nothing.toml"))
    assert caught.value.code == "E_UNKNOWN_NAME"


def test_a_shipped_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(tmp_path, monkeypatch)
    assert load_recipe("spleen").training.epochs == 7


def test_a_misspelt_shipped_recipe_is_met_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(tmp_path, monkeypatch)
    with pytest.raises(UnknownNameError, match="you mean 'spleen'") as caught:
        load_recipe("spleeen")
    assert caught.value.code == "E_UNKNOWN_NAME"


def ship(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make medseg ship one recipe, spleen, of 7 epochs."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "spleen.toml").write_text("training = {epochs = 7}")
    monkeypatch.setattr("medseg.shipped.PACKAGE", folder)


# Overrides, as --set gives them


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.epochs=50", "training", "epochs", 50),
        ("training.learning_rate=3e-4", "training", "learning_rate", 3e-4),
        ("training.patch=[64, 64, 1]", "training", "patch", (64, 64, 1)),
        ("preprocess.window_hu=[-57,164]", "preprocess", "window_hu", (-57, 164)),
        ("training.loss=dice", "training", "loss", "dice"),
        ("training.loss='dice'", "training", "loss", "dice"),
        ("prediction.flips=['I', 'J']", "prediction", "flips", ("I", "J")),
        ("model.options={channels = [8, 16]}", "model", "options", {"channels": [8, 16]}),
        ("model.options.deep=true", "model", "options", {"deep": True}),
    ],
)
def test_an_override_sets_one_value(tmp_path: Path, override: str, section: str, key: str, value: object) -> None:
    recipe = load_recipe(write(tmp_path, "[training]\nepochs = 3\nbatch = 4"), [override])
    assert getattr(getattr(recipe, section), key) == value
    assert recipe.training.batch == 4


def test_an_override_reaches_keys_outside_the_sections(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""), ["description=two kidneys = one label", "labels.kidney=['a', 'b']"])
    assert recipe.description == "two kidneys = one label"
    assert recipe.labels == {"kidney": ["a", "b"]}


def test_of_two_overrides_the_later_one_holds(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, ""), ["training.epochs=5", "training.epochs=6"]).training.epochs == 6


def test_another_network_leaves_the_options_of_the_recipes_own_out(tmp_path: Path) -> None:
    path = write(tmp_path, "[model]\nname = 'dynunet'\noptions = {filters = [8, 16]}")
    assert load_recipe(path, ["model.name=dynunet"]).model.options == {"filters": [8, 16]}
    assert load_recipe(path, ["model.options.res_block=true", "model.name=segresnet"]).model.options == {
        "res_block": True
    }
    coarse = write(tmp_path, "[coarse.model]\nname = 'dynunet'\noptions = {filters = [8, 16]}")
    changed = load_recipe(coarse, ["coarse.model.name=unet"]).coarse
    assert changed
    assert changed.model
    assert changed.model.options == {}
    unnamed = write(tmp_path, "[model]\noptions = {channels = [8, 16]}")
    assert load_recipe(unnamed, ["model.name=unet"]).model.options == {"channels": [8, 16]}
    assert load_recipe(unnamed, ["model.name=basic_unet"]).model.options == {}


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_recipe_trains_every_network_that_its_patch_suits(name: str) -> None:
    recipe = load_recipe("hippocampus", [f"model.name={name}", "training.patch=[64, 64, 64]"])
    assert build_network(recipe, channels=1, labels=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("coarse.spacing_mm=[0, 4, 4]", "a spacing must be above 0 mm"),
        ("coarse.patch=[1, 1, 16]", "of which one may be 1"),
        ("augment.flip_axes=['I', 'I']", "an axis is named twice"),
        ("prediction.flips=['J', 'J']", "an axis is named twice"),
        ("training.epochs", "training.epochs=50"),
        ("=5", "training.epochs=50"),
        ("training.=5", "training.epochs=50"),
        ("description.length=5", "description is no table"),
        ("training.epohcs=5", "you mean 'epochs'"),
        ("training.epochs=many", "training.epochs: "),
        ("training.epochs=", "training.epochs: "),
        ("preprocess.window_hu=-57,164", "preprocess.window_hu: "),
    ],
)
def test_an_override_that_cannot_be_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(write(tmp_path, "description = 'a spleen'"), [override])


@pytest.mark.parametrize(
    "override", ['preprocess.orientation="ras"', "augment.low_resolution_factor=[0.5, 2]", "labels={}"]
)
def test_a_value_that_cannot_be_is_looked_for_where_it_was_given(override: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"--set {override}")):
        load_recipe("demo", [override])


@pytest.mark.parametrize(
    "override", ['preprocess.orientation="ras"', "augment.low_resolution_factor=[0.5, 2]", "labels={}"]
)
def test_values_that_nothing_can_use_are_refused_before_work(override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe("spleen", [override])
