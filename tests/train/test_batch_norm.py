"""Batch norm that processes share is torch's own where there is one process."""

import copy

import pytest
import torch
from torch import nn

from medseg.train.batch_norm import SharedBatchNorm, share_batch_norm

CPU = torch.device("cpu")


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_values_gradients_and_running_statistics_are_those_of_torch(momentum: float | None, affine: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3, affine=affine, momentum=momentum), nn.PReLU())
    ours = share_batch_norm(copy.deepcopy(theirs), CPU)
    assert isinstance(ours[1], SharedBatchNorm)  # type: ignore[index]
    for _ in range(3):
        patch = torch.randn(2, 1, 7, 6, 5) * 4 + 10
        ours.zero_grad()
        theirs.zero_grad()
        results = ours(patch), theirs(patch)
        for result in results:
            result.pow(3).mean().backward()
        torch.testing.assert_close(*results)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    for own, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, their.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.eval()(patch), theirs.eval()(patch))


def test_only_batch_norm_is_replaced_and_the_weights_stay_the_same_tensors() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)), nn.BatchNorm2d(2))
    before = dict(network.named_parameters())
    shared = share_batch_norm(network, CPU)
    assert [type(layer) for layer in shared.modules() if not list(layer.children())] == [
        nn.Conv2d,
        nn.InstanceNorm2d,
        SharedBatchNorm,
    ]
    assert all(parameter is before[name] for name, parameter in shared.named_parameters())
