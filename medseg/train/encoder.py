"""The encoder's part in a training: at its own learning rate, or frozen."""

from typing import Any

from torch import nn

from medseg.models import in_encoder


def parameter_groups(network: nn.Module, model: str, *, rate: float) -> list[dict[str, Any]]:
    """Return the groups of an optimiser, each with its `part` of the learning rate.

    With a rate of 0 the encoder is frozen: it is in no group, and no gradients are computed for it.

    Args:
        network: what is trained.
        model: its name in MODELS.
        rate: the encoder's learning rate as a fraction of that of the rest.
    """
    if rate == 1:
        return [{"params": list(network.parameters()), "part": 1.0}]
    inside: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (inside if in_encoder(name, model) else rest).append(parameter)
    groups: list[dict[str, Any]] = [{"params": rest, "part": 1.0}]
    if rate > 0:
        return [*groups, {"params": inside, "part": rate}]
    for parameter in inside:
        parameter.requires_grad_(False)
    return groups


def encoder_layers(network: nn.Module, model: str) -> list[nn.Module]:
    """Return the layers of a network's encoder."""
    return [layer for name, layer in network.named_modules() if in_encoder(name, model)]
