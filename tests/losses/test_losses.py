"""Facts about the losses: their formulas, written out once more in numpy, and the contract that all of them keep."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.errors import UnknownNameError
from medseg.losses import LOSSES, Target, build_loss
from medseg.losses.losses import SMOOTH
from medseg.recipe import Head

HEADS: tuple[Head, ...] = ("softmax", "sigmoid")
EACH = [(name, head) for name in LOSSES for head in HEADS]
each_loss = pytest.mark.parametrize(("name", "head"), EACH, ids=["-".join(pair) for pair in EACH])
Array = NDArray[np.float64]


def example(head: Head, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return logits and target, (2, 3, 4, 3, 2): exclusive channels, or regions that overlap."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (2, 4, 3, 2))
    if head == "softmax":
        target = np.stack([ids == channel for channel in range(3)], axis=1)
    else:
        target = np.stack([ids >= 1, ids == 2, ids == 0], axis=1)
    return torch.from_numpy(rng.normal(0, 2, target.shape)).float(), torch.from_numpy(target).float()


def probabilities(logits: Array, head: Head) -> Array:
    if head == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


# The formulas, channel by channel


def dice(x: Array, y: Array, head: Head) -> float:
    p = probabilities(x, head)
    losses = []
    for channel in range(1 if head == "softmax" else 0, p.shape[1]):
        overlap, sizes = (p[:, channel] * y[:, channel]).sum(), (p[:, channel] + y[:, channel]).sum()
        losses.append(1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH))
    return float(np.mean(losses))


def cross_entropy(x: Array, y: Array, head: Head) -> float:
    if head == "sigmoid":
        return bce(x, y, head)
    return float(-(y * np.log(probabilities(x, head))).sum(axis=1).mean())


def bce(x: Array, y: Array, head: Head) -> float:
    p = probabilities(x, "sigmoid")
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def focal(x: Array, y: Array, head: Head) -> float:
    p = probabilities(x, head)
    loss = -y * (1 - p) ** 2 * np.log(p)
    if head == "sigmoid":
        loss -= (1 - y) * p**2 * np.log(1 - p)
    return float(loss.mean())


FORMULAS: dict[str, Callable[[Array, Array, Head], float]] = {
    "dice": dice,
    "cross_entropy": cross_entropy,
    "bce": bce,
    "focal": focal,
    "dice_ce": lambda x, y, head: dice(x, y, head) + cross_entropy(x, y, head),
    "bce_focal_dice": lambda x, y, head: bce(x, y, head) + focal(x, y, head) + dice(x, y, head),
}


@each_loss
def test_every_loss_is_its_formula(name: str, head: Head) -> None:
    logits, target = example(head)
    expected = FORMULAS[name](logits.double().numpy(), target.double().numpy(), head)
    assert build_loss(name, head)(logits, Target(target)).item() == pytest.approx(expected, rel=1e-4)


def test_dice_of_a_hand_made_patch() -> None:
    logits = torch.tensor([10.0, 10.0, -10.0, -10.0]).reshape(1, 1, 4, 1, 1)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4, 1, 1)
    assert build_loss("dice", "sigmoid")(logits, Target(target)).item() == pytest.approx(0.5, abs=1e-3)


def test_dice_sums_over_the_batch_so_that_an_empty_patch_is_no_miss() -> None:
    logits, target = example("sigmoid")
    target[1] = 0
    logits[1] = -30
    logits[0] = torch.where(target[0] == 1, 30.0, -30.0)
    assert build_loss("dice", "sigmoid")(logits, Target(target)).item() == pytest.approx(0, abs=1e-4)


# The contract


@each_loss
def test_every_loss_is_one_finite_number_with_a_gradient(name: str, head: Head) -> None:
    logits, target = example(head)
    logits.requires_grad_()
    loss = build_loss(name, head)(logits, Target(target))
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@each_loss
def test_a_better_prediction_costs_less_and_a_perfect_one_nothing(name: str, head: Head) -> None:
    logits, target = example(head)
    loss = build_loss(name, head)
    towards = torch.where(target == 1, 1.0, -1.0)
    costs = [loss(logits + strength * towards, Target(target)).item() for strength in (-4, -2, 0, 2, 4)]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 5
    assert loss(40 * towards, Target(target)).item() == pytest.approx(0, abs=1e-4)
    assert loss(-40 * towards, Target(target)).item() > 0.5


@each_loss
def test_a_step_down_the_gradient_costs_less(name: str, head: Head) -> None:
    logits, target = example(head)
    logits.requires_grad_()
    loss = build_loss(name, head)
    before = loss(logits, Target(target))
    before.backward()
    assert logits.grad is not None
    with torch.no_grad():
        assert loss(logits - 0.1 * logits.grad / logits.grad.norm(), Target(target)) < before


@pytest.mark.parametrize("strength", [0.0, 1.0, 100.0], ids=lambda strength: f"±{strength}")
@each_loss
def test_a_patch_without_any_label_is_safe(name: str, head: Head, strength: float) -> None:
    target = torch.zeros(1, 2, 4, 4, 1)
    if head == "softmax":
        target[:, 0] = 1
    for sign in (-1, 1):
        logits = torch.full(target.shape, sign * strength)
        logits[:, 0] *= -1
        logits.requires_grad_()
        loss = build_loss(name, head)(logits, Target(target))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@each_loss
def test_bfloat16_logits_are_taken_and_counted_in_float32(name: str, head: Head) -> None:
    logits, target = example(head)
    half = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = build_loss(name, head)(half, Target(target))
    assert loss.dtype == torch.float32
    assert loss.item() == build_loss(name, head)(half.float(), Target(target)).item()
    loss.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


@each_loss
def test_slices_and_patches_one_voxel_thick_cost_the_same(name: str, head: Head) -> None:
    logits, target = example(head)
    thick = build_loss(name, head)(logits[..., :1], Target(target[..., :1]))
    assert build_loss(name, head)(logits[..., 0], Target(target[..., 0])).item() == pytest.approx(thick.item())


def test_a_softmax_dice_leaves_background_out() -> None:
    target = torch.zeros(1, 2, 10, 1, 1)
    target[:, 0, 1:], target[:, 1, :1] = 1, 1
    missed = torch.where(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1, 1) == 1, 30.0, -30.0).expand(target.shape)
    assert build_loss("dice", "softmax")(missed, Target(target)).item() == pytest.approx(1, abs=1e-3)


def test_a_misspelt_loss_is_met_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dice_ce'"):
        build_loss("dise_ce", "softmax")
