"""Measure: how long the machine takes for a training step, by taking some."""

import time
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from medseg.augment import Augmenter
from medseg.device import mixed_precision
from medseg.engine.torch import uses_bf16
from medseg.errors import OutOfMemoryError
from medseg.losses import Target, build_loss
from medseg.memory import out_of_memory
from medseg.models import build_network, for_training
from medseg.plan.choice import Choice, as_recipe
from medseg.plan.fit import NARROW, level_filters
from medseg.plan.memory import training_bytes
from medseg.processor import keep_freed_memory
from medseg.recipe import Recipe

# After the first, which sets things up, so many steps are taken, or as many as fit into these seconds.
STEPS, SECONDS = 5, 6.0
# Sides of patches that tell a machine's speed within seconds: small on a CPU, large on a GPU, to keep it busy.
# The first that fits the memory is taken.
PROBES = {"cpu": (48, 32, 16), "cuda": (128, 96, 64, 32), "mps": (64, 48, 32)}
PATCHES = 2
SLICES_PER_PATCH = 8  # patches of slices are so many times more


@dataclass(frozen=True)
class Speed:
    """What a step takes.

    Attributes:
        step: seconds of forward pass, loss, backward pass and optimiser, for a batch.
        draw: seconds of one core to vary a batch's patches.
        workers: processes that draw, 0 where the network waits for them.
    """

    step: float
    draw: float
    workers: int

    @property
    def seconds(self) -> float:
        """Seconds from one step to the next."""
        return max(self.step, self.draw / self.workers) if self.workers else self.step + self.draw


def voxels_per_second(
    *, channels: int, labels: int, flat: int | None, device: torch.device, memory_bytes: int
) -> float:
    """Return how many voxels of patches a DynUNet of 16 filters takes in a second of training, at a look.

    Args:
        channels: of the image.
        labels: background left out.
        flat: the axis of slices that are segmented one by one, or None for 3D.
        device: where the network runs.
        memory_bytes: what it may take.

    Raises:
        OutOfMemoryError: the device has no room for the smallest patches.
    """

    def taken(probe: Recipe) -> int:
        settings, filters, bf16 = probe.training, probe.model.options["filters"], uses_bf16("auto", device)
        return training_bytes(settings.patch, settings.batch, filters, channels=channels, labels=labels, bf16=bf16)

    probes = [_probe(side, flat) for side in PROBES[device.type]]
    probes = [probe for probe in probes if taken(probe) <= memory_bytes] or probes[-1:]
    for probe in probes:
        try:
            seconds = step_seconds(probe, channels=channels, labels=labels, device=device)
        except OutOfMemoryError:
            if probe is probes[-1]:
                raise
        else:  # the fastest step: what is chosen should not depend on what else the machine does at the moment
            return probe.training.batch * float(np.prod(probe.training.patch)) / min(seconds)
    raise AssertionError


def _probe(side: int, flat: int | None) -> Recipe:
    """Return the recipe of a step that tells a machine's speed."""
    sides = [1 if axis == flat else side * (1 if flat is None else 2) for axis in range(3)]
    patch = (sides[0], sides[1], sides[2])
    return as_recipe(
        [
            Choice("model.name", "dynunet", ""),
            Choice("model.options", {"filters": list(level_filters(patch, NARROW))}, ""),
            Choice("training.patch", list(patch), ""),
            Choice("training.batch", PATCHES if flat is None else PATCHES * SLICES_PER_PATCH, ""),
        ]
    )


def measured_speed(recipe: Recipe, *, channels: int, labels: int, workers: int, device: torch.device) -> Speed:
    """Return what a step of a recipe takes on a device, from steps on random patches.

    Raises:
        OutOfMemoryError: it does not fit there.
    """
    step = float(np.median(step_seconds(recipe, channels=channels, labels=labels, device=device)))
    return Speed(step, recipe.training.batch * draw_seconds(recipe, channels=channels), workers)


def step_seconds(recipe: Recipe, *, channels: int, labels: int, device: torch.device) -> list[float]:
    """Return the seconds of some steps on a batch of random patches, after a first one.

    Raises:
        OutOfMemoryError: they do not fit the device.
    """
    try:
        return _timed(recipe, channels=channels, labels=labels, device=device)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        patch = " × ".join(map(str, recipe.training.patch))
        raise OutOfMemoryError(
            f"timing a training step on {recipe.training.batch} patches of {patch} voxels",
            found=str(error)[:500] or "memory does not suffice",
            remedy="give less --memory, or end other programs",
        ) from error


def _timed(recipe: Recipe, *, channels: int, labels: int, device: torch.device) -> list[float]:
    """Take the steps."""
    keep_freed_memory()
    settings = recipe.training
    outputs = labels + (recipe.model.head == "softmax")
    network = for_training(build_network(recipe, channels=channels, labels=labels, try_patch=False), device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    loss = build_loss(settings.loss, recipe.model.head)
    image = torch.randn(settings.batch, channels, *settings.patch, device=device)
    ids = torch.randint(outputs, (settings.batch, *settings.patch), device=device)
    target = Target(torch.nn.functional.one_hot(ids, outputs).movedim(-1, 1).float())
    taken: list[float] = []
    for number in count():
        started = time.perf_counter()
        with mixed_precision(device, bf16=uses_bf16(settings.precision, device)):
            logits = network(image)
        value = loss(logits, target)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value.item()  # waits for the device
        taken.append(time.perf_counter() - started)
        if number and (number >= STEPS or sum(taken[1:]) > SECONDS):
            break
    return taken[1:]


def draw_seconds(recipe: Recipe, *, channels: int) -> float:
    """Return the mean seconds that varying one patch takes one core."""
    patch = recipe.training.patch
    vary = Augmenter(recipe.augment, patch)
    rng = np.random.default_rng(0)
    image, ids = rng.random((channels, *patch), np.float32), rng.integers(0, 2, patch, np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.perf_counter()
        for seed in count(1):
            vary(image, ids, seed=seed)
            seconds = time.perf_counter() - started
            if seconds > SECONDS / 2 or seed >= 4 * STEPS:
                return seconds / seed
    finally:
        torch.set_num_threads(threads)
    raise AssertionError
