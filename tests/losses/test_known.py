"""Facts about labels that a case lacks and voxels that are not labelled: no loss asks about them."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.losses import LOSSES, Target, build_loss
from medseg.recipe import Head

HEADS: tuple[Head, ...] = ("softmax", "sigmoid")
EACH = [(name, head) for name in LOSSES for head in HEADS]
each_loss = pytest.mark.parametrize(("name", "head"), EACH, ids=["-".join(pair) for pair in EACH])

# Two voxels of a case that lacks the liver: one labelled 0, which is background or liver, and one labelled spleen.
# Channels are background, spleen, liver.
PROBABILITIES = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]])
SPLEEN = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def voxels(rows: Tensor) -> Tensor:
    """Return a row of channels for each voxel as a batch of one patch: (1, L, voxels, 1, 1)."""
    return rows.T[None, :, :, None, None]


def cases(*has: tuple[bool, ...]) -> Tensor:
    """Return whether each case has each channel, (B, L, 1, 1, 1)."""
    return torch.tensor(has)[:, :, None, None, None]


def random_batch(head: Head, *, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return logits and channels, (3, 4, 5, 2, 1); with a softmax head the first is background."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 4, (3, 5, 2, 1), generator=rng)
    channels = torch.nn.functional.one_hot(ids, 4).movedim(-1, 1).to(dtype)
    if head == "sigmoid":
        channels[:, 0] = channels[:, :2].amax(1)
    return torch.randn(channels.shape, generator=rng, dtype=dtype) * 2, channels


def partly_known(head: Head) -> Tensor:
    """Return what is known of the batch: the first case lacks the label of channel 2, the second that of channel 3."""
    rest = head == "sigmoid"  # a softmax head's background is not known where a label is not
    return cases((rest, True, False, True), (rest, True, True, False), (True, True, True, True))


# By hand


def test_a_voxel_labelled_0_is_background_or_what_the_case_lacks() -> None:
    known = cases((False, True, False))
    target = Target(voxels(SPLEEN), known)
    logits = voxels(PROBABILITIES.log())
    cost = {name: build_loss(name, "softmax")(logits, target).item() for name in LOSSES}
    assert cost["cross_entropy"] == pytest.approx(-(math.log(0.2 + 0.5) + math.log(0.6)) / 2)
    assert cost["dice"] == pytest.approx(1 - 2 * 0.6 / (0.3 + 0.6 + 1), abs=1e-5)
    assert cost["focal"] == pytest.approx(-(0.3**2 * math.log(0.7) + 0.4**2 * math.log(0.6)) / 6)


def test_a_sigmoid_head_leaves_out_the_channel_that_the_case_lacks() -> None:
    p = torch.tensor([[0.3, 0.5], [0.6, 0.9]])
    target = Target(voxels(torch.tensor([[0.0, 0.0], [1.0, 0.0]])), cases((True, False)))
    cost = {name: build_loss(name, "sigmoid")(voxels(p.logit()), target).item() for name in LOSSES}
    assert cost["bce"] == pytest.approx(-(math.log(0.7) + math.log(0.6)) / 2)
    assert cost["dice"] == pytest.approx(1 - 2 * 0.6 / (0.3 + 0.6 + 1), abs=1e-5)
    assert cost["focal"] == pytest.approx(-(0.3**2 * math.log(0.7) + 0.4**2 * math.log(0.6)) / 2)


def test_a_voxel_that_is_not_labelled_counts_nowhere() -> None:
    known = torch.tensor([True, False])[None, None, :, None, None].expand(1, 3, 2, 1, 1)
    target = Target(voxels(SPLEEN), known)
    cost = {name: build_loss(name, "softmax")(voxels(PROBABILITIES.log()), target).item() for name in LOSSES}
    assert cost["cross_entropy"] == pytest.approx(-math.log(0.2))
    assert cost["dice"] == pytest.approx(1, abs=1e-4)  # 0.3 of spleen and 0.5 of liver where there is none
    assert cost["focal"] == pytest.approx(-(0.8**2) * math.log(0.2) / 3)


def test_probabilities_too_small_for_float32_are_added_exactly() -> None:
    logits = torch.tensor([[-200.0, 0.0, -200.0]], requires_grad=True)
    target = Target(voxels(torch.tensor([[1.0, 0.0, 0.0]])), cases((False, True, False)))
    cost = build_loss("cross_entropy", "softmax")(voxels(logits), target)
    assert cost.item() == pytest.approx(200 - math.log(2))
    cost.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-0.5, 1.0, -0.5], rel=1e-5)


def test_a_part_of_a_merged_label_that_the_case_lacks_is_not_known_to_be_it() -> None:
    shown = voxels(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    logits, known = voxels(PROBABILITIES.log()), cases((False, True, False))
    for name in LOSSES:
        loss = build_loss(name, "softmax")
        assert loss(logits, Target(shown, known)) == loss(logits, Target(voxels(SPLEEN), known))


# For every loss


@pytest.mark.parametrize("sides", [(1, 1, 1), (5, 2, 1)], ids=["cases", "voxels"])
@each_loss
@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_where_everything_is_known_a_loss_is_the_plain_one(
    name: str, head: Head, sides: tuple[int, int, int], seed: int
) -> None:
    logits, channels = random_batch(head, seed=seed)
    known = torch.ones(3, 4, *sides, dtype=torch.bool)
    loss = build_loss(name, head)
    plain = loss(logits, Target(channels)).item()
    assert loss(logits, Target(channels, known)).item() == pytest.approx(plain, rel=1e-5)


def shared_out(seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, and others in which background and the label that the first case lacks share their probability."""
    logits, channels = random_batch("softmax", seed=seed)
    channels[0, 0], channels[0, 2] = channels[0, 0] + channels[0, 2], 0
    together, moved = logits[0, [0, 2]].logsumexp(0), logits.clone()
    moved[0, 0], moved[0, 2] = together + math.log(share), together + math.log(1 - share)
    return logits, moved, channels


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**31), share=st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=15)
def test_moving_probability_between_background_and_a_label_that_is_lacking_changes_nothing(
    name: str, seed: int, share: float
) -> None:
    logits, moved, channels = shared_out(seed, share)
    target, loss = Target(channels, partly_known("softmax")), build_loss(name, "softmax")
    assert loss(moved, target).item() == pytest.approx(loss(logits, target).item(), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_moving_probability_to_a_label_that_the_case_has_does_cost(name: str) -> None:
    logits, moved, channels = shared_out(0, 0.01)
    loss = build_loss(name, "softmax")
    assert loss(moved, Target(channels)).item() > 1.001 * loss(logits, Target(channels)).item()


@pytest.mark.parametrize("name", LOSSES)
def test_the_channel_of_a_label_that_is_lacking_has_no_gradient_in_a_sigmoid_head(name: str) -> None:
    logits, channels = random_batch("sigmoid", seed=0)
    known = partly_known("sigmoid")
    logits.requires_grad_()
    build_loss(name, "sigmoid")(logits, Target(channels, known)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known.expand_as(logits))


@each_loss
def test_a_voxel_that_is_not_labelled_has_no_gradient_and_the_others_cost_what_they_do_alone(
    name: str, head: Head
) -> None:
    logits, channels = random_batch(head, seed=1)
    known = (torch.arange(5) < 3)[None, None, :, None, None].expand(3, 4, 5, 2, 1)
    loss = build_loss(name, head)
    alone = loss(logits[:, :, :3], Target(channels[:, :, :3]))
    logits.requires_grad_()
    cost = loss(logits, Target(channels, known))
    assert cost.item() == pytest.approx(alone.item(), rel=1e-5)
    cost.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known)


@each_loss
def test_what_stands_in_the_target_where_it_is_not_known_does_not_matter(name: str, head: Head) -> None:
    logits, channels = random_batch(head, seed=2)
    known = torch.rand(3, 1, 5, 2, 1, generator=torch.Generator().manual_seed(0)).expand_as(channels) < 0.5
    other = torch.where(known, channels, channels.flip(1))
    loss = build_loss(name, head)
    cost = loss(logits, Target(channels, known)).item()
    assert loss(logits, Target(other, known)).item() == pytest.approx(cost, rel=1e-6)


@each_loss
def test_where_nothing_is_known_a_loss_is_0_and_has_no_gradient(name: str, head: Head) -> None:
    logits, channels = random_batch(head, seed=3)
    logits.requires_grad_()
    cost = build_loss(name, head)(logits, Target(channels, torch.zeros(3, 4, 1, 1, 1, dtype=torch.bool)))
    cost.backward()
    assert cost.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("head", HEADS)
def test_dice_is_averaged_over_the_labels_that_a_case_of_the_batch_has(head: Head) -> None:
    logits, channels = random_batch(head, seed=4)
    first = 1 if head == "softmax" else 0
    known = torch.ones(3, 4, 1, 1, 1, dtype=torch.bool)
    known[:, 3] = False
    known[:, :first] = False
    p = (logits.softmax(1) if head == "softmax" else logits.sigmoid())[:, first:3]
    y = channels[:, first:3]
    axes = (0, 2, 3, 4)
    expected = (1 - 2 * (p * y).sum(axes) / (p.sum(axes) + y.sum(axes))).mean()
    assert build_loss("dice", head)(logits, Target(channels, known)).item() == pytest.approx(expected.item(), rel=1e-4)


@each_loss
def test_processes_that_know_different_parts_have_the_loss_of_the_whole(
    name: str, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, channels = random_batch(head, seed=5)
    known = partly_known(head).expand_as(channels) & (torch.arange(5) < 4)[None, None, :, None, None]
    loss = build_loss(name, head)
    whole = loss(logits, Target(channels, known)).item()
    told: list[Tensor] = []

    def sum_with(other: Callable[[Tensor], Tensor]) -> None:
        monkeypatch.setattr("medseg.losses.losses.sum_over_processes", other)

    def tell(tensor: Tensor) -> Tensor:
        told.append(tensor)
        return tensor

    sum_with(tell)
    loss(logits[:1], Target(channels[:1], known[:1]))
    heard: Iterator[Tensor] = iter(told)
    sum_with(lambda tensor: tensor + next(heard))
    assert loss(logits[1:], Target(channels[1:], known[1:])).item() == pytest.approx(whole, rel=1e-5)
