"""The contract of every shipped recipe: it loads, speaks of labels its dataset has, and its network can be trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.augment import Augmenter
from medseg.labels import LabelSet
from medseg.losses import build_loss
from medseg.manifest import read_manifest
from medseg.models import MODELS, build_network
from medseg.recipe import load_recipe
from medseg.shipped import manifest_path, shipped
from medseg.synthetic import LABELS as SYNTHETIC
from medseg.train.target import encode, target_table

RECIPES = shipped("pipelines", ".toml")
every_recipe = pytest.mark.parametrize("name", RECIPES)


def labels_of(name: str) -> LabelSet:
    """Return what a recipe segments, of the labels its manifest names; without one, of the synthetic scans'."""
    recipe = load_recipe(name)
    if recipe.manifest is None:
        return LabelSet.from_names({0: "background"} | SYNTHETIC).select(recipe.labels)
    return read_manifest(manifest_path(recipe.manifest)).label_set.select(recipe.labels)


def channels_of(name: str) -> int:
    recipe = load_recipe(name)
    return 1 if recipe.manifest is None else read_manifest(manifest_path(recipe.manifest)).channels


def test_there_are_recipes_in_2d_and_in_3d() -> None:
    assert {load_recipe(name).two_dimensional for name in RECIPES} == {True, False}


@every_recipe
def test_a_recipe_says_in_a_sentence_what_it_is_for(name: str) -> None:
    assert len(load_recipe(name).description) > 20


@every_recipe
def test_a_resolved_recipe_reads_back_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@every_recipe
def test_its_labels_are_labels_of_its_dataset_and_fit_its_head(name: str) -> None:
    labels = labels_of(name)
    assert len(labels) >= 1
    assert all(label.parts for label in labels)
    assert load_recipe(name).model.head == "sigmoid" or not labels.overlapping


@every_recipe
def test_left_and_right_are_not_mirrored_where_they_are_told_apart(name: str) -> None:
    recipe = load_recipe(name)
    sides = {label.name.partition("_")[2] for label in labels_of(name)}
    if {"left", "right"} & sides:
        assert recipe.augment.flip == 0 or "I" not in recipe.augment.flip_axes
        assert "I" not in recipe.prediction.flips


@every_recipe
def test_its_window_is_ct_and_its_normalisation_mr(name: str) -> None:
    recipe = load_recipe(name)
    modality = "CT" if recipe.manifest is None else read_manifest(manifest_path(recipe.manifest)).modality[0]
    assert (recipe.preprocess.window_hu is not None) == (modality == "CT")


@every_recipe
def test_its_network_takes_a_step_on_an_augmented_patch(name: str) -> None:
    recipe = load_recipe(name)
    labels, channels, patch = labels_of(name), channels_of(name), recipe.training.patch
    torch.manual_seed(0)
    network = build_network(recipe, channels=channels, labels=len(labels)).train()

    rng = np.random.default_rng(0)
    ids = rng.choice([0, *(label.id for label in labels)], patch).astype(np.uint8)
    image, ids = Augmenter(recipe.augment, patch)(rng.random((channels, *patch), np.float32), ids, seed=0)
    target = encode(torch.from_numpy(ids.astype(np.int64))[None], target_table(labels, recipe.model.head))
    loss = build_loss(recipe.training.loss, recipe.model.head)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.training.learning_rate)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    cost = loss(network(torch.from_numpy(image)[None]), target)
    cost.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.training.gradient_clip)
    optimizer.step()
    assert cost.isfinite()
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    changed = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_every_shipped_recipe_names_a_model_that_is_there() -> None:
    assert {load_recipe(name).model.name for name in RECIPES} <= set(MODELS)
