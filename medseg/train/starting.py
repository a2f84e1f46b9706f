"""Start: a model whose weights a training begins with, instead of with random ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.errors import RecipeError, TrainingError
from medseg.labels import LabelSet
from medseg.models import Ends, Transfer, build_network, build_with_outputs, in_encoder, load_weights, transfer, unpack
from medseg.package import COARSE, ModelPackage, load_package
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.train.seen import Seen, seen_by

# Where less of the encoder than this comes from the old model, nothing worth the name has been taken over: the layers
# that fit any network are those of one number.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Start:
    """Where a training's first weights come from.

    Attributes:
        path: of the model, for messages and run.json.
        package: the model; one that was pretrained has no labels, and of an ensemble the first network counts.
        seen: the labelled cases that it was trained on, as far as a run beside it tells.
    """

    path: Path
    package: ModelPackage
    seen: Seen = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Start":
        """Read a run, a package's folder or zip, or a run of pretraining.

        Raises:
            UnknownNameError, PackageError: there is none that can be read.
        """
        return cls(path, load_package(path), seen_by(path))

    @property
    def coarse(self) -> "Start | None":
        """Where its coarse model's come from; None where it has none."""
        return Start(self.path / COARSE, self.package.coarse, self.seen) if self.package.coarse else None

    def as_json(self, taken: Transfer) -> dict[str, Any]:
        """Return what run.json says: the model, what it has seen, and how many of the network's tensors are what."""
        counts = {"taken": len(taken.taken), "adapted": len(taken.adapted), "fresh": len(taken.fresh)}
        return {"path": str(self.path), "sha256": self.package.sha256, **counts, "seen": self.seen}

    def caveat(self, dataset: str, held_out: Sequence[str]) -> str:
        """Return what to add to "held out of training" where this model was trained on some of the cases."""
        count = len(set(held_out) & set(self.seen.get(dataset, ())))
        return f", but {count} of {len(held_out)} were in the training of {self.path}" if count else ""

    def transfer(self, network: nn.Module, recipe: Recipe, *, channels: int, labels: LabelSet) -> Transfer:
        """Return what a recipe's fresh network takes over.

        Raises:
            TrainingError: that is hardly anything, or not all of an encoder that is to be frozen.
        """
        was, package = self.package.recipe.model, self.package
        if was.name != recipe.model.name:
            raise self._misfit(recipe, 0.0)
        taken = transfer(
            unpack(package.weights),
            network,
            lambda channels, outputs: build_with_outputs(recipe, channels=channels, outputs=outputs, try_patch=False),
            was=Ends.of(package.channels, package.labels, was.head),
            now=Ends.of(channels, labels, recipe.model.head),
        )
        share = taken.share(lambda name: in_encoder(name, was.name))
        if share < LEAST_SHARE:
            raise self._misfit(recipe, share)
        if recipe.training.encoder_rate == 0 and share < 1:
            raise TrainingError(
                f"starting from {self.path} with training.encoder_rate = 0",
                found=f"{1 - share:.1%} of the encoder do not fit, and would keep random weights",
                remedy="set training.encoder_rate above 0, or give the recipe the network of the model",
            )
        return taken

    def suits(self, recipe: Recipe, *, channels: int, labels: LabelSet) -> bool:
        """Say whether a recipe's network has something to take over from it.

        Raises:
            RecipeError: the network cannot be built.
        """
        try:
            first_network(recipe, channels=channels, labels=labels, seed=0, start=self, notify=ignore)
        except TrainingError:
            return False
        return True

    def _misfit(self, recipe: Recipe, share: float) -> TrainingError:
        """Return the error of a model that has next to nothing to give."""
        return TrainingError(
            f"starting from {self.path}",
            found=f"its network is {_described(self.package.recipe)}, the recipe's is {_described(recipe)}, and "
            f"{share:.1%} of the encoder fit",
            remedy="give the recipe the [model] section of the recipe that stands in the model's model.json, or leave "
            "--from out",
        )


def first_network(
    recipe: Recipe, *, channels: int, labels: LabelSet, seed: int, start: Start | None, notify: Notify
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network as training begins with it, and what run.json says of where its weights come from.

    Args:
        recipe: names the network.
        channels: of the image.
        labels: what it is to segment.
        seed: of what is random.
        start: where weights come from; None makes all of them random.
        notify: hears what was taken over.

    Raises:
        RecipeError: the network cannot be built, or its encoder is to be frozen at random weights.
        TrainingError: the start does not fit it.
    """
    torch.manual_seed(seed)
    network = build_network(recipe, channels=channels, labels=len(labels))
    if start is None:
        if recipe.training.encoder_rate == 0:
            raise RecipeError(
                "training with training.encoder_rate = 0",
                found="there is no model to start from, and the encoder would keep its random weights",
                remedy="add --from MODEL, or set training.encoder_rate above 0",
            )
        return network, {}
    taken = start.transfer(network, recipe, channels=channels, labels=labels)
    load_weights(network, taken.weights)
    message = (
        f"starting from {start.path}: {len(taken.taken)} tensors are taken over, {len(taken.adapted)} adapted to the "
        f"labels and channels, {len(taken.fresh)} are new"
    )
    notify(Progress("train", 0, 1, message=message))
    return network, {"from": start.as_json(taken)}


def _described(recipe: Recipe) -> str:
    """Return a recipe's network in words: dynunet in 3D, filters = [16, 32]."""
    options = [f"{key} = {value}" for key, value in recipe.model.options.items()]
    return ", ".join([f"{recipe.model.name} in {'2D' if recipe.two_dimensional else '3D'}", *options])
