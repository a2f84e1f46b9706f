"""Build the network that a recipe names, and fit it to its patch."""

import copy
import math
from contextlib import suppress

import torch
from torch import Tensor, nn

from medseg.choose import choose
from medseg.errors import RecipeError
from medseg.models.networks import MODELS, Task
from medseg.recipe import Recipe

# What networks need their patch's sides to be multiples of, 2 to the number of times that they halve them.
MULTIPLES = (2, 4, 8, 16, 32, 64)
# What networks raise for options and patches that they do not take.
MISFITS = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, ArithmeticError)


class SliceNetwork(nn.Module):
    """A 2D network that takes 3D patches one voxel thick, so that every network is called alike.

    Args:
        network: the 2D network.
        flat_axis: which of the axes I, J, K (0 to 2) has one voxel.
    """

    def __init__(self, network: nn.Module, flat_axis: int) -> None:
        super().__init__()
        self.network = network
        self.flat_axis = flat_axis + 2

    def forward(self, patch: Tensor) -> Tensor:
        """Take (B, C, I, J, K), one of the last three being 1, to logits of the same sides."""
        logits: Tensor = self.network(patch.squeeze(self.flat_axis))
        return logits.unsqueeze(self.flat_axis)


def build_network(recipe: Recipe, *, channels: int, labels: int, try_patch: bool = True) -> nn.Module:
    """Return the recipe's network with fresh weights.

    Args:
        recipe: names the model, its options, its head and its patch.
        channels: of the image.
        labels: how many labels, background left out; a softmax head has a channel more.
        try_patch: see whether the network takes the patch, so that sides that do not fit are found before training.

    Raises:
        UnknownNameError: no model of that name.
        RecipeError: an option the network does not take, or a patch it cannot halve.
    """
    outputs = labels + 1 if recipe.model.head == "softmax" else labels
    return build_with_outputs(recipe, channels=channels, outputs=outputs, try_patch=try_patch)


def build_with_outputs(recipe: Recipe, *, channels: int, outputs: int, try_patch: bool = True) -> nn.Module:
    """Return the recipe's network with fresh weights and so many channels coming out, whatever they stand for.

    Args:
        recipe: names the model, its options and its patch.
        channels: of the image.
        outputs: of the network.
        try_patch: as in `build_network`, which has the errors, too.
    """
    patch = recipe.training.patch
    try:
        network = _made(recipe, channels, outputs, patch)
    except MISFITS as error:
        raise _unfit(recipe, error, _remedy(recipe, channels, outputs)) from error
    misfit = _misfit(copy.deepcopy(network), channels, patch, recipe.training.batch) if try_patch else None
    if misfit:
        raise _unfit(recipe, misfit, _remedy(recipe, channels, outputs)) from misfit
    return network


def _made(recipe: Recipe, channels: int, outputs: int, patch: tuple[int, int, int]) -> nn.Module:
    """Return the recipe's network for a patch."""
    make = choose(MODELS, recipe.model.name, kind="model")
    network = make(Task(channels, outputs, tuple(side for side in patch if side > 1)), **recipe.model.options)
    return SliceNetwork(network, patch.index(1)) if recipe.two_dimensional else network


def _misfit(network: nn.Module, channels: int, patch: tuple[int, int, int], batch: int) -> Exception | None:
    """Return what a network says against a patch, or a batch in training; None if it takes them to logits of its sides.

    On the meta device, where arrays are but their shapes: a patch costs neither time nor memory. The network is gone.
    """
    network = network.to("meta")
    for patches, training in ((1, False), (batch, True)):
        try:
            with torch.inference_mode():
                logits = network.train(training)(torch.zeros(patches, channels, *patch, device="meta"))
            if not isinstance(logits, Tensor) or tuple(logits.shape[2:]) != patch:
                raise ValueError(f"it says {_spoken(logits)}{' in training' * training}, not one logit for each voxel")
        except MISFITS as error:
            return error
    return None


def _spoken(logits: object) -> str:
    """Return what a network says that is no batch of logits."""
    if isinstance(logits, Tensor):
        return f"logits with sides {tuple(logits.shape[2:])}"
    return f"{len(logits)} answers" if isinstance(logits, list | tuple) else f"a {type(logits).__name__}"


def _remedy(recipe: Recipe, channels: int, outputs: int) -> str:
    """Return what to do about a patch that does not fit: the next larger one that does, where there is one."""
    patch = recipe.training.patch
    for multiple in MULTIPLES:
        i, j, k = (side if side == 1 else math.ceil(side / multiple) * multiple for side in patch)
        larger = (i, j, k)
        with suppress(*MISFITS):
            network = _made(recipe, channels, outputs, larger)
            if larger != patch and not _misfit(network, channels, larger, recipe.training.batch):
                return f"make training.patch {list(larger)}, of sides that it can halve, or mend [model.options]"
    return "mend [model.options]"


def _unfit(recipe: Recipe, error: Exception, remedy: str) -> RecipeError:
    reason = " ".join(str(error).split()) or type(error).__name__
    sides = "×".join(map(str, recipe.training.patch))
    return RecipeError(
        f"building the model {recipe.model.name!r} for a patch of {sides}", found=reason[:300], remedy=remedy
    )


def parameter_count(network: nn.Module) -> int:
    """Return how many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
