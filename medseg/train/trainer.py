"""Trainer: the steps of a training, and the state that goes on from one to the next."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medseg.across import mean_over_processes, processes, rank
from medseg.device import full_float32, mixed_precision
from medseg.engine.torch import uses_bf16
from medseg.errors import TrainingError
from medseg.progress import Notify
from medseg.recipe import Recipe
from medseg.train.average import Average
from medseg.train.batch_norm import share_batch_norm
from medseg.train.checkpoint import State, load_checkpoint, save_checkpoint
from medseg.train.encoder import encoder_layers, parameter_groups
from medseg.train.objective import Objective
from medseg.train.schedule import learning_rate

# Gradients overflow now and then in bfloat16; so often in a row, training has come apart.
LEFT_OUT_AT_MOST = 5


class Trainer:
    """Takes optimiser steps.

    Args:
        network: to be trained, on its device.
        recipe: how.
        objective: what a step makes of a sample.
        device: where the network is.
        seed: of dropout and every patch.
        state: where training stands; counted up in place.

    Attributes:
        settings: the recipe's section.
        device: where the network is.
        state: where training stands.
        torn: whether a step was begun and not ended, so that weights and state may not fit each other.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        objective: Objective,
        *,
        device: torch.device,
        seed: int,
        state: State,
    ) -> None:
        settings, model = recipe.training, recipe.model.name
        several = processes() > 1
        self.network = share_batch_norm(network, device) if several else network
        groups = parameter_groups(self.network, model, rate=settings.encoder_rate)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.state = state
        self.torn = False
        self._forward = DistributedDataParallel(self.network, static_graph=True) if several else self.network
        self._average = Average(self.network, settings.average) if settings.average else None
        self.settings = settings
        self._objective = objective
        self._trained = [parameter for group in groups for parameter in group["params"]]
        self._frozen = encoder_layers(self.network, model) if settings.encoder_rate == 0 else []
        self.device = device
        self._bf16 = uses_bf16(settings.precision, device)
        if settings.precision == "fp32":
            full_float32()
        self._seed = seed

    @property
    def averaged(self) -> nn.Module:
        """The network that is validated and kept: with the averaged weights, where the recipe averages them."""
        return self.network if self._average is None else self._average.network

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.settings.epochs * self.settings.steps_per_epoch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        settings = self.settings
        return learning_rate(step, total=self.total, peak=settings.learning_rate, warm_up=settings.warm_up)

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        average = None if self._average is None else self._average.network
        save_checkpoint(folder, self.state, self.network, self.optimizer, average)

    def load(self, folder: Path, *, notify: Notify) -> None:
        """Go back to where the last checkpoint stands."""
        average = None if self._average is None else self._average.network
        self.state = load_checkpoint(
            folder, self.network, self.optimizer, average, fingerprint=self.state.fingerprint, notify=notify
        )

    def step(self, *sample: Tensor) -> float:
        """Take one step and return its loss, that of all processes together.

        A step whose gradients are not finite leaves the weights as they are, and counts.

        Args:
            sample: this process's share of the batch, as the objective takes it.

        Raises:
            TrainingError: the loss is not finite, or the gradients of several steps in a row are not.
        """
        self.torn = True
        self._forward.train()
        for layer in self._frozen:
            layer.eval()
        # Dropout, drawn alike after a resume, and differently in each process.
        torch.manual_seed((self._seed * 2_000_003 + self.state.step) * processes() + rank())
        loss = self._backward(*sample)
        norm = nn.utils.clip_grad_norm_(self._trained, self.settings.gradient_clip)
        value, length = mean_over_processes(torch.stack([loss, norm])).tolist()  # waits for the device once
        self._check(value, length)
        if math.isfinite(length):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.state.step) * group["part"]
            self.optimizer.step()
        self.state.step += 1
        self.state.losses += value
        if self._average is not None:
            self._average.update(self.network, steps=self.state.step)
        self.torn = False
        return float(value)

    def _backward(self, *sample: Tensor) -> Tensor:
        """Have the gradients computed, and return the loss."""
        ahead = self.device.type == "cuda"  # MPS may copy what lies there later (PyTorch's issue 189690)
        placed = [tensor.to(self.device, non_blocking=ahead) for tensor in sample]
        loss = self._objective(self._say, placed)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _say(self, image: Tensor) -> Tensor:
        """Return what the network says of images."""
        with mixed_precision(self.device, bf16=self._bf16):
            said: Tensor = self._forward(image)
        return said

    def _check(self, loss: float, norm: float) -> None:
        """Raise TrainingError when training has come apart, before the weights are changed."""
        self.state.left_out = 0 if math.isfinite(norm) else self.state.left_out + 1
        if math.isfinite(loss) and self.state.left_out <= LEFT_OUT_AT_MOST:
            return
        raise TrainingError(
            f"training step {self.state.step}",
            found=f"the gradients of {self.state.left_out} steps in a row are not finite"
            if math.isfinite(loss)
            else f"the loss is {loss}",
            remedy='lower training.learning_rate or set training.precision = "fp32", and train into another --out; the '
            "checkpoint is still that of an earlier step",
        )
