"""Checkpoint: what training needs to go on, in one file that appears whole. No pickle.

Random states are not in it: every patch and every step draws from the seed and its own number.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn, uint8
from torch.optim import Optimizer

from medseg.across import rank, wait
from medseg.atomic import unwritable, write_bytes
from medseg.errors import CorruptFileError, MissingFileError, TrainingError
from medseg.models import load_weights, weights_of
from medseg.progress import Notify, Progress

# AdamW's memory of each parameter.
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
LAST, PREVIOUS, NEXT = "last.safetensors", "previous.safetensors", "next.safetensors"


@dataclass
class State:
    """Where training stands.

    Attributes:
        fingerprint: a hash of what the run was started with; another one cannot go on from here.
        epoch: epochs finished.
        step: optimiser steps taken.
        losses: the sum of the losses of the steps in the epoch so far.
        seconds: what they took.
        left_out: how many of the last steps in a row had gradients that were not finite, and changed nothing.
        best_dice: the highest validation Dice so far, or None.
    """

    fingerprint: str
    epoch: int = 0
    step: int = 0
    losses: float = 0.0
    seconds: float = 0.0
    left_out: int = 0
    best_dice: float | None = None


def has_checkpoint(folder: Path) -> bool:
    """Say whether there is a checkpoint in a folder."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def save_checkpoint(
    folder: Path, state: State, network: nn.Module, optimizer: Optimizer, average: nn.Module | None
) -> None:
    """Write the state, the weights, their average and the optimiser's moments; the checkpoint before is kept.

    Raises:
        UnwritableError: no space, for instance; the checkpoints that were there stay.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in weights_of(network).items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in weights_of(average).items()}
    for name, parameter in network.named_parameters():
        for moment in MOMENTS:
            if moment in optimizer.state.get(parameter, {}):
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    metadata = {"state": json.dumps(asdict(state)), "sha256": _sha256(tensors)}
    write_bytes(folder / NEXT, save_tensors(tensors, metadata=metadata))
    try:
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / NEXT).replace(folder / LAST)
    except OSError as error:
        raise unwritable(folder / LAST, error) from error


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights alone."""
    write_bytes(path, save_tensors(weights_of(network)))


def load_checkpoint(
    folder: Path,
    network: nn.Module,
    optimizer: Optimizer,
    average: nn.Module | None,
    *,
    fingerprint: str,
    notify: Notify,
) -> State:
    """Put weights, average and moments back as the last checkpoint has them, and return the state.

    Where the last one is missing or damaged, the one before takes its place, and `notify` hears of it.

    Raises:
        TrainingError: no checkpoint can be read, or its run was started with something else.
    """
    state, tensors = _read_either(folder, notify)
    if state.fingerprint != fingerprint:
        raise TrainingError(
            f"resuming from {folder}",
            found="the run was started with another recipe, dataset, fold, seed or --from",
            remedy="give the same ones, or choose another --out",
        )
    load_weights(network, _named(tensors, "weights."))
    if average is not None:
        load_weights(average, _named(tensors, "average."))
    for name, parameter in network.named_parameters():
        moments: dict[str, Any] = {}
        for moment in MOMENTS:
            if f"{moment}.{name}" in tensors:
                saved = tensors[f"{moment}.{name}"]  # the moments lie in memory as their parameter does
                moments[moment] = saved if moment == "step" else torch.empty_like(parameter).copy_(saved)
        if moments:
            optimizer.state[parameter] = moments
    return state


def _read_either(folder: Path, notify: Notify) -> tuple[State, dict[str, Tensor]]:
    """Return what the last checkpoint holds, or else the one before, which is then the last."""
    try:
        found = _read(folder / LAST)
    except (CorruptFileError, MissingFileError) as damage:
        try:
            found = _read(folder / PREVIOUS)
        except (CorruptFileError, MissingFileError):
            raise TrainingError(f"resuming from {folder}", found=damage.found, remedy=damage.remedy) from damage
        wait()  # for the other processes, which read as well
        if rank() == 0:
            (folder / PREVIOUS).replace(folder / LAST)
        state = found[0]
        message = f"{damage.code} {damage.asked}: {damage.found}. Going on from the one before, at step {state.step}."
        notify(Progress("resume", state.step, state.step, message=message))
    wait()
    return found


def _read(path: Path) -> tuple[State, dict[str, Tensor]]:
    """Return what a checkpoint holds.

    Raises:
        MissingFileError, CorruptFileError: it is not there, or not as it was written.
    """
    asked, remedy = f"reading the checkpoint {path}", "choose another --out to start again"
    if not path.exists():
        raise MissingFileError(asked, found="there is nothing at this path", remedy=remedy)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            state = State(**json.loads(metadata["state"]))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = metadata["sha256"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(asked, found=str(error), remedy=remedy) from error
    if _sha256(tensors) != expected:
        raise CorruptFileError(asked, found="its checksum does not hold", remedy=remedy)
    return state, tensors


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start so, without that start."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(uint8).numpy().data)
    return digest.hexdigest()
