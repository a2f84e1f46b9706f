"""The contract of every network: it builds from a recipe, speaks in logits, and its weights go out and come back."""

from typing import Any

import pytest
import torch
from networks import SMALL, flat, noise, recipe_of, seeded
from safetensors.torch import load, save
from torch import Tensor, nn

from medseg.engine import OpenVINOEngine
from medseg.errors import RecipeError, UnknownNameError
from medseg.models import MODELS, build_network, load_weights, to_onnx, weights_of
from medseg.models.networks import pooling
from medseg.recipe import parse_recipe

MISFITS = {"unet": 11, "segresnet": 12, "attention_unet": 9, "vnet": 24, "unetr": 24, "swin_unetr": 48}


def test_every_model_has_a_small_form_here() -> None:
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_returns_a_logit_per_label_and_voxel_in_every_mode(name: str, dimensions: int) -> None:
    recipe = recipe_of(name, patch=flat(name) if dimensions == 2 else None)
    assert recipe.two_dimensional == (dimensions == 2)
    network = seeded(recipe, channels=2, labels=2)
    patches = noise(recipe, channels=2)
    for mode in (True, False):
        with torch.no_grad():
            logits = network.train(mode)(patches)
        assert isinstance(logits, Tensor)
        assert logits.shape == (2, 3, *recipe.training.patch)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert logits.min() < 0 or logits.max() > 1  # no probabilities


@pytest.mark.parametrize("name", MODELS)
def test_weights_go_out_and_come_back_the_same(name: str) -> None:
    recipe = recipe_of(name, patch=flat(name))
    network, other = seeded(recipe, seed=0), seeded(recipe, seed=1)
    with torch.inference_mode():
        network.train()(noise(recipe))  # batch norms count what they have seen
        network.eval()
        other.eval()
        expected = network(noise(recipe))
        assert not torch.equal(other(noise(recipe)), expected)
        load_weights(other, load(save(weights_of(network))))
        torch.testing.assert_close(other(noise(recipe)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_its_onnx_form_says_the_same(name: str) -> None:
    recipe = recipe_of(name, patch=flat(name) if name == "swin_unetr" else None)
    network = seeded(recipe).eval()
    patch = recipe.training.patch
    engine = OpenVINOEngine(to_onnx(network, patch=patch, channels=1), patch=patch, channels=1, precision="fp32")
    with torch.inference_mode():
        expected = network(noise(recipe))
    torch.testing.assert_close(torch.from_numpy(engine.run(noise(recipe).numpy())), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["unet", "dynunet"])
def test_a_2d_network_takes_slices_along_any_axis_and_says_the_same_of_them(name: str, axis: int) -> None:
    upright, turned = recipe_of(name, patch=flat(name)), recipe_of(name, patch=flat(name, axis))
    patches = noise(upright)
    network, other = seeded(upright).eval(), seeded(turned).eval()
    logits = other(patches.squeeze(4).unsqueeze(axis + 2))
    assert logits.shape == (2, 3, *turned.training.patch)
    torch.testing.assert_close(logits.squeeze(axis + 2), network(patches).squeeze(4))


@pytest.mark.parametrize(("head", "channels"), [("softmax", 4), ("sigmoid", 3)])
def test_a_softmax_head_has_a_channel_for_background(head: str, channels: int) -> None:
    recipe = recipe_of("unet", head=head)
    assert seeded(recipe, labels=3)(noise(recipe)).shape[1] == channels


def test_the_same_seed_makes_the_same_weights() -> None:
    one, other = weights_of(seeded(recipe_of("unet"))), weights_of(seeded(recipe_of("unet")))
    assert all(torch.equal(one[name], other[name]) for name in one)


# Weights


def test_a_layer_under_two_names_is_kept_once_and_comes_back_under_both() -> None:
    network = seeded(recipe_of("dynunet"))
    weights = weights_of(network)
    state = network.state_dict()
    assert len(weights) < len(state)
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)
    load_weights(network, {name: torch.full_like(tensor, 2) for name, tensor in weights.items()})
    assert all((tensor == 2).all() for tensor in network.state_dict().values())


def test_weights_are_a_copy() -> None:
    network = seeded(recipe_of("unet"))
    weights = weights_of(network)
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(weights[name], kept[name]) for name in weights)
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_weights_that_lack_one_have_one_too_many_or_another_shape_are_refused() -> None:
    network = seeded(recipe_of("dynunet"))
    weights = weights_of(network)
    name = next(iter(weights))
    with pytest.raises(KeyError, match=name):
        load_weights(network, {key: value for key, value in weights.items() if key != name})
    with pytest.raises(RuntimeError, match="extra"):
        load_weights(network, weights | {"extra": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(network, weights | {name: weights[name][:1]})


def test_a_network_for_prediction_is_built_without_trying_its_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "__call__", lambda module, *_: called.append(module))
    build_network(recipe_of("unet"), channels=1, labels=1, try_patch=False)
    assert called == []


# nnU-Net's depth


@pytest.mark.parametrize(
    ("patch", "levels", "strides"),
    [
        ((40, 56, 40), 6, [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((40, 56, 40), 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]),
        ((32, 8, 4), 6, [[1, 1, 1], [2, 2, 1], [2, 1, 1], [2, 1, 1]]),
        ((9, 9), 6, [[1, 1]]),
        ((256, 192), 6, [[1, 1], [2, 2], [2, 2], [2, 2], [2, 2], [2, 2]]),
    ],
)
def test_an_axis_is_halved_while_four_voxels_remain(
    patch: tuple[int, ...], levels: int, strides: list[list[int]]
) -> None:
    assert pooling(patch, levels=levels) == strides


# What is refused


@pytest.mark.parametrize("name", MODELS)
def test_an_option_that_a_network_does_not_take_is_refused_by_name(name: str) -> None:
    recipe = recipe_of(name, options=SMALL[name][0] | {"chanels": [4, 8]})
    with pytest.raises(RecipeError, match="chanels") as caught:
        build_network(recipe, channels=1, labels=1)
    assert caught.value.code == "E_RECIPE"
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("options", [{"channels": "many"}, {"channels": []}, {"channels": [4, 8], "strides": []}])
def test_an_option_of_the_wrong_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        build_network(recipe_of("unet", options=options), channels=1, labels=1)


@pytest.mark.parametrize(("name", "side"), MISFITS.items())
def test_a_patch_that_a_network_cannot_halve_is_refused_before_training(name: str, side: int) -> None:
    with pytest.raises(RecipeError, match=f"{side}×{side}×{side}") as caught:
        build_network(recipe_of(name, patch=(side, side, side)), channels=1, labels=1)
    assert "training.patch" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "fitting"), [("unet", [28, 16, 16]), ("unetr", [32, 16, 16]), ("segresnet", [32, 16, 16])]
)
def test_the_next_larger_patch_that_fits_is_named(name: str, fitting: list[int]) -> None:
    recipe = recipe_of(name, patch=(25, 16, 16))
    with pytest.raises(RecipeError) as caught:
        build_network(recipe, channels=1, labels=1)
    assert f"make training.patch {fitting}," in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("attention_unet", {"channels": []}),
        ("attention_unet", {"channels": [4]}),
        ("unet", {"channels": [4, 8], "strides": [0]}),
    ],
)
def test_options_that_no_network_can_be_made_of_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        build_network(recipe_of(name, options=options), channels=1, labels=1)


def test_a_patch_of_odd_sides_is_refused_with_the_next_even_one() -> None:
    with pytest.raises(RecipeError) as caught:
        build_network(recipe_of("dynunet", patch=(31, 31, 31)), channels=1, labels=1)
    assert "make training.patch [32, 32, 32]," in caught.value.remedy


def test_what_fails_in_training_only_is_found_before_training() -> None:
    normed = recipe_of("unet", options={"channels": [4, 8, 16], "num_res_units": 0, "norm": "batch"}, patch=(4, 4, 4))
    assert build_network(normed, channels=1, labels=1)
    alone = normed.model_copy(update={"training": normed.training.model_copy(update={"batch": 1})})
    with pytest.raises(RecipeError, match="more than 1 value per channel"):
        build_network(alone, channels=1, labels=1)
    deep = recipe_of("dynunet", options={"filters": [4, 8, 16], "deep_supervision": True})
    with pytest.raises(RecipeError, match="in training, not one logit for each voxel"):
        build_network(deep, channels=1, labels=1)


def test_trying_a_patch_takes_no_memory() -> None:
    recipe = recipe_of("unet", patch=(2**13, 2**13, 2**13))
    assert build_network(recipe, channels=1, labels=1)


def test_an_image_of_three_channels_is_no_task_for_vnet() -> None:
    with pytest.raises(RecipeError, match="16"):
        build_network(recipe_of("vnet"), channels=3, labels=1)


def test_a_misspelt_model_is_met_with_the_nearest_one() -> None:
    recipe = parse_recipe({"model": {"name": "unte"}}, name="r")
    with pytest.raises(UnknownNameError, match="Did you mean 'unet'") as caught:
        build_network(recipe, channels=1, labels=1)
    assert caught.value.code == "E_UNKNOWN_NAME"
