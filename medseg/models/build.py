"""Build the network that a recipe names, and fit it to its patch."""

import torch
from torch import Tensor, nn

from medseg.choose import choose
from medseg.errors import RecipeError
from medseg.models.networks import MODELS, Task
from medseg.recipe import Recipe


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
        try_patch: run an empty patch, so that sides that do not fit are found before training.

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
    sides = tuple(side for side in patch if side > 1)
    make = choose(MODELS, recipe.model.name, kind="model")
    try:
        network = make(Task(channels, outputs, sides), **recipe.model.options)
        if recipe.two_dimensional:
            network = SliceNetwork(network, patch.index(1))
        if try_patch:
            _try(network, channels, patch)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(
            f"building the model {recipe.model.name!r} for a patch of {'×'.join(map(str, patch))}",
            found=reason[:300],
            remedy="make each side of training.patch a multiple of 32, or mend [model.options]",
        ) from error
    return network


def _try(network: nn.Module, channels: int, patch: tuple[int, int, int]) -> None:
    """Run one empty patch, and see that its logits have its sides."""
    network.eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, channels, *patch))
    if tuple(logits.shape[2:]) != patch:
        raise ValueError(f"the logits have sides {tuple(logits.shape[2:])}")


def parameter_count(network: nn.Module) -> int:
    """Return how many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
