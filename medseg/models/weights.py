"""Weights in and out of a network, each once.

Some networks (MONAI's DynUNet) hold a layer under two names; files keep the first.
"""

from collections.abc import Mapping

from safetensors.torch import load, save
from torch import Tensor, nn


def first_names(network: nn.Module) -> dict[str, str]:
    """Return for each name of a network's state the first name of the same tensor."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    state = network.state_dict(keep_vars=True)
    return {
        name: first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name) if tensor.numel() else name
        for name, tensor in state.items()
    }


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and buffers, in memory, each under its first name."""
    state = network.state_dict()
    return {
        name: state[name].detach().to("cpu", copy=True).contiguous()
        for name, first in first_names(network).items()
        if name == first
    }


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a network, in place.

    Raises:
        KeyError: one is missing.
        RuntimeError: one has another shape, or there are more than the network has.
    """
    names = first_names(network)
    full = {name: weights[first] for name, first in names.items()}
    spare = set(weights) - set(names.values())
    network.load_state_dict(full | {name: weights[name] for name in spare})


def pack(weights: Mapping[str, Tensor]) -> bytes:
    """Return weights as safetensors stores them: no pickle, and the same bytes for the same weights."""
    return bytes(save(dict(weights)))


def unpack(stored: bytes) -> dict[str, Tensor]:
    """Return the weights that `pack` stored."""
    return dict(load(stored))
