"""Trainer: the steps of a training, and the state that goes on from one to the next."""

import itertools
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from medseg.engine.torch import uses_bf16
from medseg.errors import TrainingError
from medseg.labels import LabelSet
from medseg.losses import build_loss
from medseg.progress import Notify, Progress
from medseg.recipe import Recipe
from medseg.train.checkpoint import State
from medseg.train.schedule import learning_rate
from medseg.train.target import encode, target_table


class Trainer:
    """Takes optimiser steps.

    Args:
        network: to be trained, on its device.
        recipe: how.
        labels: what the channels mean.
        device: where the network is.
        seed: of dropout and every patch.
        state: where training stands; counted up in place.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, labels: LabelSet, *, device: torch.device, seed: int, state: State
    ) -> None:
        settings = recipe.training
        self.network = network
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.state = state
        self._settings = settings
        self._total = settings.epochs * settings.steps_per_epoch
        self._loss = build_loss(settings.loss, recipe.model.head)
        self._table = target_table(labels, recipe.model.head).to(device)
        self._device = device
        self._bf16 = uses_bf16(recipe.training.precision, device)
        self._seed = seed

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        settings = self._settings
        return learning_rate(self.state.step, total=self._total, peak=settings.learning_rate, warm_up=settings.warm_up)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self._total

    def epoch(self, samples: Iterator[tuple[Tensor, Tensor]], *, notify: Notify) -> float:
        """Take the steps of one epoch and return their mean loss.

        Args:
            samples: batches of images, (B, C, *patch), and label maps, (B, *patch), from the next step on.
            notify: hears of each step.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.network.train()
        settings, losses = self._settings, []
        started, first = time.perf_counter(), self.state.step
        for image, label_map in itertools.islice(samples, settings.steps_per_epoch):
            losses.append(self._step(image, label_map))
            taken = self.state.step - first
            left = (time.perf_counter() - started) / taken * (self._total - self.state.step)
            note = f"loss {losses[-1]:.3f}{self._best_note()}, {clock(left)} left"
            notify(Progress("train", self.state.step, self._total, note=note))
        self.state.epoch += 1
        return sum(losses) / len(losses)

    def _step(self, image: Tensor, label_map: Tensor) -> float:
        """Take one step and return its loss."""
        torch.manual_seed(self._seed * 2_000_003 + self.state.step)  # dropout, drawn alike after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        image = image.to(self._device, non_blocking=True)
        target = encode(label_map.to(self._device, non_blocking=True), self._table)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = self.network(image)
        loss = self._loss(logits, target)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"training step {self.state.step}",
                found=f"the loss is {value}",
                remedy='lower training.learning_rate or set training.precision = "fp32", and train into another --out',
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.gradient_clip)
        self.optimizer.step()
        self.state.step += 1
        return value

    def _best_note(self) -> str:
        return "" if self.state.best_dice is None else f", best Dice {self.state.best_dice:.3f}"


def clock(seconds: float) -> str:
    """Return a duration as people read it: 48 s, 12:05 min, 3:20 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
