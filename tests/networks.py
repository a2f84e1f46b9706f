"""Small networks for all tests."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg.models import build_network
from medseg.recipe import Recipe, parse_recipe

# The least that each network works with: options, and a patch whose last side may become 1.
SMALL: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "unet": ({"channels": [4, 8, 8], "num_res_units": 1}, (16, 12, 8)),
    "dynunet": ({"filters": [4, 8, 8]}, (16, 24, 8)),
    "segresnet": ({"init_filters": 8}, (16, 24, 8)),
    "attention_unet": ({"channels": [4, 8]}, (8, 12, 4)),
    "vnet": ({}, (32, 16, 16)),
    "unetr": ({"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2}, (32, 16, 16)),
    "swin_unetr": ({"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}, (64, 32, 32)),
    "basic_unet": ({"features": [4, 4, 4, 8, 8, 4]}, (16, 32, 16)),
}


def recipe_of(name: str, *, patch: tuple[int, int, int] | None = None, **model: Any) -> Recipe:
    options, usual = SMALL[name]
    value = {"model": {"name": name, "options": options} | model, "training": {"patch": patch or usual}}
    return parse_recipe(value, name=name)


def flat(name: str, axis: int = 2) -> tuple[int, int, int]:
    """Return a network's small patch with a side of 1 at `axis`."""
    i, j, _ = SMALL[name][1]
    sides = [i, j]
    sides.insert(axis, 1)
    return sides[0], sides[1], sides[2]


def noise(recipe: Recipe, *, channels: int = 1, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, *recipe.training.patch, generator=torch.Generator().manual_seed(1))


def seeded(recipe: Recipe, seed: int = 0, **options: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(recipe, **{"channels": 1, "labels": 2} | options)
