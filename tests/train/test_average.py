"""The averaged weights are their formula, and are what is validated and kept."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medseg.train.average import Average


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_is_its_formula(decay: float) -> None:
    trained = network()
    average, rng = Average(trained, decay), np.random.default_rng(1)
    weight = trained[0].weight  # type: ignore[index]
    expected = weight.detach().double().numpy().copy()
    for steps in range(1, 20):
        values = rng.normal(size=expected.shape)
        weight.data = torch.from_numpy(values).float()
        average.update(trained, steps=steps)
        kept = min(decay, (1 + steps) / (10 + steps))
        expected = kept * expected + (1 - kept) * values
    np.testing.assert_allclose(average.network[0].weight.numpy(), expected, atol=1e-6)  # type: ignore[index]


def test_running_statistics_are_those_of_the_trained_network() -> None:
    trained = network()
    average = Average(trained, 0.9)
    trained.train()(torch.randn(4, 1, 8, 8))
    average.update(trained, steps=1)
    for own, buffer in zip(average.network.buffers(), trained.buffers(), strict=True):
        assert torch.equal(own, buffer)


def test_the_trained_network_is_left_alone() -> None:
    trained = network()
    before = copy.deepcopy(trained.state_dict())
    average = Average(trained, 0.9)
    average.update(trained, steps=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(parameter.requires_grad for parameter in trained.parameters())
