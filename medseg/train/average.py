"""Average: a network whose weights are the moving average of the trained one's."""

import copy

import torch
from torch import nn


class Average:
    """The exponential moving average of a network's weights.

    After each step, average ← d·average + (1 − d)·weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017), with
    d = min(decay, (1 + steps) / (10 + steps)), which lets go of the first weights: it looks back over a ninth of the
    steps at most. Buffers, such as the running statistics of batch norm, are averages already, and are copied.

    Args:
        network: what is trained; the average starts at its weights.
        decay: in (0, 1), the part that is kept at each step once it has warmed up.

    Attributes:
        network: the same network with the averaged weights, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, *, steps: int) -> None:
        """Take the weights into the average, after so many steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for own, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(buffer)
