"""Facts about transfer: what two networks share arrives, outputs by their names, and the rest begins anew."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import flat, noise, recipe_of
from torch import Tensor, nn

from medseg.labels import LabelSet
from medseg.models import ENCODERS, MODELS, Ends, Transfer, build_with_outputs, in_encoder, load_weights, transfer
from medseg.models.weights import weights_of
from medseg.recipe import Recipe

WAS = Ends(1, ("background", "spleen", "liver"))


def network_of(recipe: Recipe, ends: Ends, *, seed: int) -> nn.Module:
    """Return a network with random weights and, where it has them, random running statistics."""
    torch.manual_seed(seed)
    network = build_with_outputs(recipe, channels=ends.channels, outputs=len(ends.outputs))
    for buffer in filter(torch.is_floating_point, network.buffers()):
        buffer.uniform_(0.5, 2)
    return network.eval()


def moved(recipe: Recipe, now: Ends, *, was: Ends = WAS) -> tuple[nn.Module, nn.Module, Transfer]:
    """Return an old network, the new one with what it took over, and what that was."""

    def build(channels: int, outputs: int) -> nn.Module:
        return build_with_outputs(recipe, channels=channels, outputs=outputs, try_patch=False)

    old, new = network_of(recipe, was, seed=0), network_of(recipe, now, seed=1)
    taken = transfer(weights_of(old), new, build, was=was, now=now)
    load_weights(new, taken.weights)
    return old, new, taken


@torch.inference_mode()
def said(network: nn.Module, image: Tensor) -> Tensor:
    answer: Tensor = network(image)
    return answer


def shape_of(name: str, dimensions: int) -> Recipe:
    return recipe_of(name, patch=flat(name) if dimensions == 2 else None)


every_model = pytest.mark.parametrize(
    ("name", "dimensions"), [*((name, 2) for name in MODELS), *((name, 3) for name in ("unet", "dynunet"))]
)


@every_model
def test_outputs_of_the_same_name_say_the_same_wherever_they_stand(name: str, dimensions: int) -> None:
    recipe = shape_of(name, dimensions)
    now = Ends(1, ("background", "aorta", "liver", "spleen"))
    old, new, taken = moved(recipe, now)
    before, after = said(old, noise(recipe)), said(new, noise(recipe))
    for place, label in enumerate(WAS.outputs):
        torch.testing.assert_close(after[:, now.outputs.index(label)], before[:, place], rtol=1e-4, atol=1e-4)
    assert taken.taken
    assert taken.adapted
    assert taken.fresh == ()


@given(now=st.permutations(["background", "spleen", "liver", "aorta", "colon"]), dropped=st.integers(0, 2))
@settings(deadline=None, max_examples=15)
def test_any_order_of_labels_is_followed(now: list[str], dropped: int) -> None:
    recipe = recipe_of("unet", patch=flat("unet"))
    now = [name for name in now if name in WAS.outputs or now.index(name) >= dropped]
    old, new, _ = moved(recipe, Ends(1, tuple(now)))
    order = [now.index(label) for label in WAS.outputs]
    torch.testing.assert_close(said(new, noise(recipe))[:, order], said(old, noise(recipe)), rtol=1e-4, atol=1e-4)


def test_as_many_labels_of_other_names_take_nothing_over_by_their_place() -> None:
    recipe = recipe_of("dynunet")
    now = Ends(1, ("background", "aorta", "colon"))
    _, new, taken = moved(recipe, now)
    fresh = network_of(recipe, now, seed=1).state_dict()
    weight = new.state_dict()["output_block.conv.conv.weight"]
    assert "output_block.conv.conv.weight" in taken.adapted
    torch.testing.assert_close(weight[1:], fresh["output_block.conv.conv.weight"][1:], rtol=0, atol=0)


def test_where_the_last_layer_is_pointwise_labels_that_are_dropped_leave_the_others_as_they_were() -> None:
    recipe = recipe_of("dynunet")
    old, new, _ = moved(recipe, Ends(1, ("liver",)))  # and the head is sigmoid now
    torch.testing.assert_close(said(new, noise(recipe))[:, 0], said(old, noise(recipe))[:, 2])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_with_other_channels_an_image_that_is_the_same_in_all_is_seen_as_before(
    name: str, before: int, after: int
) -> None:
    recipe = recipe_of(name, patch=flat(name))
    old, new, taken = moved(recipe, Ends(after, WAS.outputs), was=Ends(before, WAS.outputs))
    image, repeats = noise(recipe), [1, 1, 1, 1]
    torch.testing.assert_close(
        said(new, image.repeat(1, after, *repeats[1:])), said(old, image.repeat(1, before, *repeats[1:])),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    assert taken.fresh == ()


def test_as_many_channels_are_kept_as_they_are() -> None:
    ends = Ends(3, WAS.outputs)
    old, new, taken = moved(recipe_of("unet"), ends, was=ends)
    for name, weight in weights_of(old).items():
        assert torch.equal(new.state_dict()[name], weight)
    assert taken.fresh == ()


def test_nothing_is_drawn_and_the_fresh_network_is_left_alone() -> None:
    recipe, now = recipe_of("unet"), Ends(2, ("background", "aorta"))
    old, fresh = network_of(recipe, WAS, seed=0), network_of(recipe, now, seed=1)
    before, state = weights_of(fresh), torch.get_rng_state()

    def build(channels: int, outputs: int) -> nn.Module:
        return build_with_outputs(recipe, channels=channels, outputs=outputs, try_patch=False)

    transfer(weights_of(old), fresh, build, was=WAS, now=now)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(fresh).items())


def test_of_a_network_that_tells_no_labels_all_is_taken_but_its_head() -> None:
    recipe = recipe_of("dynunet")
    was = Ends(1, ("image",))  # built with one output…
    old, new = network_of(recipe, was, seed=0), network_of(recipe, WAS, seed=1)
    taken = transfer(
        weights_of(old),
        new,
        lambda channels, outputs: build_with_outputs(recipe, channels=channels, outputs=outputs),
        was=Ends(1, ()),  # …of which nothing is known
        now=WAS,
    )
    assert set(taken.fresh) == {"output_block.conv.conv.weight", "output_block.conv.conv.bias"}
    assert taken.adapted == ()
    assert taken.share(lambda name: in_encoder(name, "dynunet")) == 1
    assert taken.share(lambda name: name in taken.fresh) == 0


def test_a_network_of_other_widths_takes_next_to_nothing() -> None:
    wide, narrow = recipe_of("unet", options={"channels": [8, 16, 16], "num_res_units": 1}), recipe_of("unet")
    old, new = network_of(wide, WAS, seed=0), network_of(narrow, WAS, seed=1)
    taken = transfer(
        weights_of(old),
        new,
        lambda channels, outputs: build_with_outputs(narrow, channels=channels, outputs=outputs),
        was=WAS,
        now=WAS,
    )
    assert taken.share(lambda name: in_encoder(name, "unet")) < 0.05
    assert {name: tensor.shape for name, tensor in taken.weights.items()} == {
        name: tensor.shape for name, tensor in weights_of(new).items()
    }


def test_ends_are_named_by_the_labels_and_the_head() -> None:
    labels = LabelSet.from_names({0: "background", 3: "liver", 7: "spleen"})
    assert Ends.of(2, labels, "softmax") == Ends(2, ("background", "liver", "spleen"))
    assert Ends.of(1, labels, "sigmoid").outputs == ("liver", "spleen")
    assert Ends.of(1, LabelSet.from_names({}), "softmax").outputs == ()


# Encoders


def test_every_model_has_an_encoder() -> None:
    assert list(ENCODERS) == list(MODELS)


@every_model
def test_the_image_enters_in_the_encoder_and_labels_come_out_of_the_rest(name: str, dimensions: int) -> None:
    recipe = shape_of(name, dimensions)
    one, labels, channels = (
        build_with_outputs(recipe, channels=ends[0], outputs=ends[1], try_patch=False).state_dict()
        for ends in ((1, 2), (1, 3), (2, 2))
    )
    inside = {key for key in weights_of(network_of(recipe, WAS, seed=0)) if in_encoder(key, name)}
    assert inside
    assert inside < set(one)
    by_label = {key for key in one if one[key].shape != labels[key].shape}
    by_channel = {key for key in one if one[key].shape != channels[key].shape}
    assert by_label
    assert by_label.isdisjoint(inside)
    assert by_channel & inside


@pytest.mark.parametrize("name", MODELS)
def test_neither_the_encoder_nor_the_rest_is_a_remnant(name: str) -> None:
    network = network_of(recipe_of(name, patch=flat(name)), WAS, seed=0)
    counts = {True: 0, False: 0}
    for key, parameter in network.named_parameters():
        counts[in_encoder(key, name)] += parameter.numel()
    assert min(counts.values()) > 0.05 * sum(counts.values())
