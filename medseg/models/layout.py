"""Layout: how a network's arrays lie in memory."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Network = TypeVar("Network", bound=nn.Module)


class GroupNorm(nn.Module):
    """A group norm (Wu and He 2018), or an instance norm (Ulyanov et al. 2016), which is one of a channel to a group.

    On a CPU it is done with the channels first, whatever the layout of what goes in and comes out: with the channels
    last its gradient takes three times as long as the change of layout, there and back.

    Args:
        norm: what it takes the place of; its weights stay the same tensors.
    """

    def __init__(self, norm: nn.GroupNorm | nn.InstanceNorm3d) -> None:
        super().__init__()
        self.groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else norm.num_features
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, values: Tensor) -> Tensor:
        """Return values, (B, C, I, J, K), with mean 0 and standard deviation 1 in each group, scaled and shifted."""
        normed = F.group_norm(values.contiguous(), self.groups, self.weight, self.bias, self.eps)
        return normed.contiguous(memory_format=torch.channels_last_3d)


def for_training(network: Network, device: torch.device) -> Network:
    """Return a network moved to a device, where its arrays lie as they are trained fastest there."""
    network = network.to(device)
    return channels_last(network) if device.type == "cpu" else network


def channels_last(network: Network) -> Network:
    """Have the arrays of a 3D network lie with their channels last, in place; it says the same, up to rounding.

    On a CPU the gradients of 3D convolution kernels are then found two to four times faster, and a training step of a
    DynUNet takes half the time (`benchmarks/layout.py`). In 2D it is not worth it, and nothing is done. Names and
    shapes of the weights stay.
    """
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 5]
    for kernel in kernels:
        last = kernel.detach().contiguous(memory_format=torch.channels_last_3d)
        if not last.is_contiguous():  # of one channel or one voxel it is both, and torch's gradients have the first
            kernel.data = last
    if kernels:
        _replace_norms(network)
    return network


def _replace_norms(network: nn.Module) -> None:
    """Put our norm in the place of torch's; a layer under two names stays one."""
    ours: dict[nn.Module, GroupNorm] = {}
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, nn.GroupNorm) or (
                isinstance(child, nn.InstanceNorm3d) and not child.track_running_stats
            ):
                parent._modules[name] = ours.setdefault(child, GroupNorm(child))
