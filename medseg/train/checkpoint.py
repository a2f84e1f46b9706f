"""Checkpoint: what training needs to go on, in one file that appears whole. No pickle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from medseg.atomic import write_bytes
from medseg.errors import TrainingError
from medseg.models import load_weights, weights_of

# AdamW's memory of each parameter.
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class State:
    """Where training stands.

    Attributes:
        epoch: epochs finished.
        step: optimiser steps taken.
        best_dice: the highest validation Dice so far, or None.
        fingerprint: a hash of what the run was started with; another one cannot go on from here.
    """

    epoch: int
    step: int
    best_dice: float | None
    fingerprint: str


def save_checkpoint(path: Path, state: State, network: nn.Module, optimizer: Optimizer) -> None:
    """Write weights, the optimiser's moments and the state."""
    tensors = {f"weights.{name}": tensor for name, tensor in weights_of(network).items()}
    for name, parameter in network.named_parameters():
        for moment in MOMENTS:
            if moment in optimizer.state.get(parameter, {}):
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    write_bytes(path, save_tensors(tensors, metadata={"state": json.dumps(asdict(state))}))


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights alone."""
    write_bytes(path, save_tensors(weights_of(network)))


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer, *, fingerprint: str) -> State:
    """Put weights and moments back, and return the state.

    Raises:
        TrainingError: there is no checkpoint, it cannot be read, or its run was started with something else.
    """
    try:
        with safe_open(path, "pt") as file:
            state = State(**json.loads(file.metadata()["state"]))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"resuming from {path}",
            found=str(error),
            remedy="choose another --out to start again",
        ) from error
    if state.fingerprint != fingerprint:
        raise TrainingError(
            f"resuming from {path}",
            found="the run was started with another recipe, dataset, fold or seed",
            remedy="give the same ones, or choose another --out",
        )
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    load_weights(network, {name.removeprefix("weights."): tensor for name, tensor in weights.items()})
    for name, parameter in network.named_parameters():
        moments: dict[str, Any] = {}
        for moment in MOMENTS:
            if f"{moment}.{name}" in tensors:
                place = "cpu" if moment == "step" else parameter.device
                moments[moment] = tensors[f"{moment}.{name}"].to(place)
        if moments:
            optimizer.state[parameter] = moments
    return state
