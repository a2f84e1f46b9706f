"""Facts about the layout: with the channels last a network says the same, and learns the same."""

import copy

import pytest
import torch
from torch import Tensor, nn

from medseg.models import channels_last, weights_of
from medseg.models.networks import MODELS, Task

SMALL = {"unetr": {"feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2}, "vnet": {}}
FILTERS = {"dynunet": {"filters": [4, 8, 8]}, "unet": {"channels": [4, 8]}, "segresnet": {"init_filters": 8}}
LAST = torch.channels_last_3d


def gradients(network: nn.Module, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a network says in training, without dropout, and the gradients of its weights."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0
    said = network(image)
    torch.nn.functional.softplus(said * torch.linspace(-1, 1, said.numel()).reshape(said.shape)).sum().backward()
    return said.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["dynunet", "unet", "segresnet", "unetr"])
def test_a_network_says_and_learns_the_same_up_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    plain = MODELS[name](Task(1, 3, (16, 16, 16)), **(SMALL | FILTERS)[name]).double()
    last = channels_last(copy.deepcopy(plain))
    image = torch.rand(2, 1, 16, 16, 16, dtype=torch.float64)
    (said, own), (expected, theirs) = gradients(last, image), gradients(plain, image)
    torch.testing.assert_close(said, expected)
    assert own.keys() == theirs.keys()
    for key, gradient in own.items():
        torch.testing.assert_close(gradient, theirs[key], msg=key)


def test_names_and_values_of_the_weights_stay_and_they_lie_with_the_channels_last() -> None:
    torch.manual_seed(0)
    plain = MODELS["dynunet"](Task(2, 3, (16, 16, 16)), filters=[4, 8, 8])
    last = channels_last(copy.deepcopy(plain))
    assert list(last.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(tensor, weights_of(plain)[name]) for name, tensor in weights_of(last).items())
    assert all(p.is_contiguous(memory_format=LAST) for p in last.parameters() if p.ndim == 5)


def test_a_2d_network_is_left_as_it_is() -> None:
    network = MODELS["dynunet"](Task(1, 2, (16, 16)), filters=[4, 8, 8])
    kinds = [type(module) for module in network.modules()]
    assert [type(module) for module in channels_last(network).modules()] == kinds
    assert all(parameter.is_contiguous() for parameter in network.parameters())


def test_norms_with_running_statistics_keep_them() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, track_running_stats=True), nn.InstanceNorm3d(4))
    kinds = [type(module).__name__ for module in channels_last(network)]
    assert kinds == ["Conv3d", "InstanceNorm3d", "GroupNorm"]
