"""Transfer: the weights of one network in another that has other labels or other channels.

Which dimensions of a tensor stand for outputs or for channels, sizes alone do not tell: a layer may happen to have as
many features as there are labels. So the network is built with another number of them, and what changes is what depends
on it. That holds for every network, whoever wrote it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medseg.labels import LabelSet
from medseg.models.weights import weights_of
from medseg.recipe import Head

BACKGROUND = "background"
# Makes a network with so many channels and so many outputs.
Build = Callable[[int, int], nn.Module]
Dimensions = tuple[int, ...]


@dataclass(frozen=True)
class Ends:
    """What goes into a network and what comes out of it.

    Attributes:
        channels: how many the image has.
        outputs: what each channel of the logits stands for: the names of the labels, and before them background where
            the head is softmax. Empty where a network tells no labels.
    """

    channels: int
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, channels: int, labels: LabelSet, head: Head) -> "Ends":
        """Return the ends of a network that segments these labels."""
        names = tuple(label.name for label in labels)
        return cls(channels, (BACKGROUND, *names) if names and head == "softmax" else names)


@dataclass(frozen=True, eq=False)
class Transfer:
    """The weights that a network starts with, and where they come from.

    Attributes:
        weights: all of the new network's, by their first names.
        taken: the names of those that are an old tensor, as it was.
        adapted: of those that hold old rows in new places, or the mean of old channels.
        fresh: of those that hold nothing old.
    """

    weights: dict[str, Tensor]
    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]

    def share(self, of: Callable[[str], bool]) -> float:
        """Return the part of the numbers in some tensors, chosen by their names, that is not fresh; 0 of none is 0."""
        sizes = {name: tensor.numel() for name, tensor in self.weights.items() if of(name)}
        fresh = set(self.fresh)
        return sum(size for name, size in sizes.items() if name not in fresh) / max(1, sum(sizes.values()))


def transfer(old: Mapping[str, Tensor], network: nn.Module, build: Build, *, was: Ends, now: Ends) -> Transfer:
    """Return what a new network starts with: all that an old one's weights can give, and its own where they cannot.

    A tensor of the same name and shape is taken over. Where a dimension goes by outputs, each output takes the rows of
    the one of its name, and others keep their fresh ones; in a layer from outputs to outputs, those that were there
    before do not listen to those that were not. So as long as no output is dropped and the channels are the same, each
    says what it said before. Where the number of channels changes, each new one gets the mean of the old ones' weights,
    scaled so that their sum stays: an image with the same values in every channel is seen as before. Tensors that fit
    nowhere start fresh.

    Args:
        old: the old network's weights, by their first names.
        network: the new one, on the CPU, with fresh weights; it is left as it is.
        build: makes the new network with another number of channels and outputs.
        was: the ends of the old one.
        now: those of the new one.

    Raises:
        RecipeError: the network cannot be built with the old number of channels.
    """
    fresh = weights_of(network)
    with torch.random.fork_rng(devices=[]):
        by_output = _changed(fresh, build(now.channels, len(now.outputs) + 1))
        same = was.channels == now.channels
        by_channel = {} if same else _changed(fresh, build(was.channels, len(now.outputs)))
    weights: dict[str, Tensor] = {}
    kinds: dict[str, list[str]] = {"taken": [], "adapted": [], "fresh": []}
    for name, begun in fresh.items():
        rows, columns = by_output.get(name, ()), by_channel.get(name, ())
        fitted = _fitted(old[name], begun, rows, columns, was, now) if name in old else None
        weights[name] = begun if fitted is None else fitted
        kind = "fresh" if fitted is None else "adapted" if rows or columns else "taken"
        kinds[kind].append(name)
    return Transfer(weights, tuple(kinds["taken"]), tuple(kinds["adapted"]), tuple(kinds["fresh"]))


def _changed(weights: Mapping[str, Tensor], other: nn.Module) -> dict[str, Dimensions]:
    """Return which dimensions of which weights have another size in another network."""
    return dict(_differences(weights, other.state_dict()))


def _differences(weights: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[tuple[str, Dimensions]]:
    for name, tensor in weights.items():
        if name in other and other[name].ndim == tensor.ndim:
            sizes = enumerate(zip(tensor.shape, other[name].shape, strict=True))
            if differing := tuple(dimension for dimension, (size, its) in sizes if size != its):
                yield name, differing


def _fitted(old: Tensor, begun: Tensor, rows: Dimensions, columns: Dimensions, was: Ends, now: Ends) -> Tensor | None:
    """Return a tensor with what an old one can give it, or None where that is nothing.

    Args:
        old: the old one.
        begun: the fresh one.
        rows: the dimensions that go by outputs.
        columns: those that go by channels.
        was: what the old ones stand for.
        now: what the new ones do.
    """
    if columns:
        if columns != (1,) or rows or old.ndim < 2 or old.shape[1] != was.channels:
            return None
        repeats = [now.channels if dimension == 1 else 1 for dimension in range(old.ndim)]
        old = (old.mean(dim=1, keepdim=True) * (was.channels / now.channels)).repeat(repeats)
    if rows:
        return _rows(old, begun, rows, was.outputs, now.outputs)
    return old if old.shape == begun.shape else None


def _rows(old: Tensor, begun: Tensor, rows: Dimensions, was: tuple[str, ...], now: tuple[str, ...]) -> Tensor | None:
    """Return a fresh tensor with the rows of the outputs that were there before, or None where there are none."""
    kept = [(was.index(name), place) for place, name in enumerate(now) if name in was]
    expected = tuple(len(was) if dimension in rows else size for dimension, size in enumerate(begun.shape))
    if not kept or tuple(old.shape) != expected or any(begun.shape[dimension] != len(now) for dimension in rows):
        return None
    sources, places = (torch.tensor(indices) for indices in zip(*kept, strict=True))
    fitted = begun.clone().index_fill_(rows[0], places, 0)
    chosen = [places.tolist() if dimension in rows else range(size) for dimension, size in enumerate(begun.shape)]
    for dimension in rows:
        old = old.index_select(dimension, sources)
    fitted[tuple(map(torch.from_numpy, np.ix_(*chosen)))] = old
    return fitted
