"""Training on a GPU, told without one: what is called there, and how samples come there."""

import re
from typing import Any

import pytest
import torch
from networks import noise, recipe_of, seeded
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.losses import LOSSES, Target, build_loss
from medseg.models import MODELS, build_network
from medseg.recipe import Head, load_recipe
from medseg.shipped import shipped
from medseg.train.checkpoint import State
from medseg.train.trainer import Trainer

CPU = torch.device("cpu")
META = torch.device("meta")  # computes nothing but shapes
# What raises on CUDA in deterministic mode, in any torch from 2.8 on (`torch.use_deterministic_algorithms`).
NOT_DETERMINISTIC = re.compile(
    r"_?(ctc_loss|avg_pool3d|adaptive_(avg|max)_pool\dd|max_pool3d_with_indices|fractional_max_pool\dd|grid_sampler_\dd"
    r"|reflection_pad\dd|upsample_(linear1d|bilinear2d|bicubic2d|trilinear3d))_backward"
    r"|nll_loss2d_(for|back)ward|max_unpool\dd|histc|bincount|median|put_?|scatter_reduce_?"
)


class Called(TorchDispatchMode):
    """Hears of every operation that is called within, forwards and backwards, whatever device it is called on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    def not_deterministic(self) -> set[str]:
        return {name for name in self.names if NOT_DETERMINISTIC.fullmatch(name)}


def not_deterministic(network: nn.Module, image: Tensor) -> set[str]:
    """Return what a network calls in a training step and CUDA has no deterministic form of."""
    with Called() as called:
        network.to(META).train()(image.to(META)).sum().backward()
    assert any("convolution_backward" in name for name in called.names)
    return called.not_deterministic()


@pytest.mark.parametrize("name", shipped("pipelines", ".toml"))
def test_the_network_of_a_shipped_recipe_calls_nothing_that_has_no_deterministic_form(name: str) -> None:
    recipe = load_recipe(name)
    network = build_network(recipe, channels=1, labels=2, try_patch=False)
    assert not not_deterministic(network, noise(recipe, batch=1))


@pytest.mark.parametrize("name", MODELS)
def test_of_all_networks_segresnet_and_basic_unet_do(name: str) -> None:
    recipe = recipe_of(name)
    assert bool(not_deterministic(seeded(recipe), noise(recipe))) == (name in ("segresnet", "basic_unet"))


@pytest.mark.parametrize("known", [None, [True, False, True]], ids=["known", "partly known"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_calls_anything_that_has_no_deterministic_form(name: str, head: Head, known: list[bool] | None) -> None:
    logits = torch.zeros((1, 3, 2, 2, 2), requires_grad=True)
    channels = torch.eye(3)[:, torch.arange(8) % 3].reshape(logits.shape)
    target = Target(channels, None if known is None else torch.tensor(known).reshape(1, 3, 1, 1, 1))
    with Called() as called:
        build_loss(name, head)(logits, target).backward()
    assert called.names
    assert not called.not_deterministic()


@pytest.mark.parametrize(("device", "ahead"), [("cpu", False), ("cuda:1", True), ("mps", False)])
def test_only_cuda_is_sent_samples_ahead_of_time(device: str, ahead: bool) -> None:
    sent: list[tuple[str, bool]] = []

    class Sample:
        def to(self, place: torch.device, *, non_blocking: bool) -> Tensor:
            sent.append((str(place), non_blocking))
            return torch.ones(1, 1)

    network = nn.Linear(1, 1)
    trainer = Trainer(
        network,
        recipe_of("unet"),
        lambda _, sample: network(sample[0]).sum(),
        device=CPU,
        seed=0,
        state=State("started"),
    )
    trainer.device = torch.device(device)
    trainer._backward(Sample())  # type: ignore[arg-type]
    assert sent == [(device, ahead)]
