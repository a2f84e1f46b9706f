"""Facts about the sliding window: every voxel is seen, and what is put together is what a network said."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from medseg.engine import Engine
from medseg.patches import slide as slide_engine
from medseg.patches.slide import gaussian_weight, window_starts, windows
from medseg.patches.slide import mirrored as mirrored_by

Sides = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 17)] * 3)
PATCHES = st.tuples(*[st.integers(1, 8)] * 3)
OVERLAPS = st.floats(0, 0.9)


def image_of(shape: Sides, *, channels: int = 1) -> Tensor:
    return torch.rand((channels, *shape), generator=torch.Generator().manual_seed(0)) - 0.5


class Function(Engine):
    """An engine that calls a function of tensors."""

    name = "test"
    out_of_memory = torch.OutOfMemoryError

    def __init__(self, function: Callable[[Tensor], Tensor], batch_voxels: int = 2**20) -> None:
        self.function = function
        self.batch_voxels = batch_voxels

    def run(self, patches: Any) -> Any:
        return self.function(torch.from_numpy(np.array(patches))).numpy()


def slide(function: Callable[[Tensor], Tensor], image: Tensor, *, batch_voxels: int = 2**20, **options: Any) -> Tensor:
    return torch.from_numpy(slide_engine(Function(function, batch_voxels), image.numpy(), **options))


def mirrored(function: Callable[[Tensor], Tensor], batch: Tensor, flips: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.array(mirrored_by(Function(function), batch.numpy(), flips)))


def identity(batch: Tensor) -> Tensor:
    return batch


class Position:
    """A network that sees nothing and says where in its patch a voxel lies."""

    def __init__(self, axis: int) -> None:
        self.axis = axis + 2

    def __call__(self, batch: Tensor) -> Tensor:
        shape = [1] * 5
        shape[self.axis] = batch.shape[self.axis]
        return torch.arange(batch.shape[self.axis], dtype=torch.float32).reshape(shape).expand(batch.shape)


# Where the windows lie


@given(size=st.integers(1, 400), side=st.integers(1, 130), overlap=st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_windows_cover_an_axis_evenly_with_the_overlap_asked_for(size: int, side: int, overlap: float) -> None:
    starts = window_starts(size, side, overlap)
    assert starts[0] == 0
    if size <= side:
        assert starts == [0]
        return
    assert starts[-1] == size - side
    gaps = np.diff(starts)
    assert side - gaps.max() >= min(side - 1, side * overlap)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("size", "side", "overlap", "starts"),
    [
        (96, 96, 0.5, [0]),
        (97, 96, 0.5, [0, 1]),
        (144, 96, 0.5, [0, 48]),
        (145, 96, 0.5, [0, 24, 49]),
        (10, 4, 0.0, [0, 3, 6]),
        (3, 1, 0.5, [0, 1, 2]),
        (9, 5, 0.5, [0, 2, 4]),
    ],
)
def test_no_more_windows_are_laid_than_needed(size: int, side: int, overlap: float, starts: list[int]) -> None:
    assert window_starts(size, side, overlap) == starts


@given(shape=SHAPES, patch=PATCHES, overlap=OVERLAPS)
@settings(deadline=None, max_examples=50)
def test_every_voxel_of_a_volume_lies_in_a_window(shape: Sides, patch: Sides, overlap: float) -> None:
    shape = tuple(max(size, side) for size, side in zip(shape, patch, strict=True))  # type: ignore[assignment]
    seen = np.zeros(shape, int)
    for box in windows(shape, patch, overlap):
        assert seen[box].shape == patch
        seen[box] += 1
    assert seen.min() >= 1
    assert sum(1 for _ in windows(shape, patch, overlap)) * math.prod(patch) == seen.sum()


def test_a_window_counts_most_in_its_middle_and_nowhere_nothing() -> None:
    weight = gaussian_weight((7, 1, 9))
    assert weight.shape == (7, 1, 9)
    assert weight[3, 0, 4] == weight.max() == 1
    assert weight.min() == pytest.approx(1e-3)
    assert np.array_equal(weight, np.flip(weight))
    assert (np.diff(weight[3, 0])[:4] > 0).all()


# What is put together


@given(shape=SHAPES, patch=PATCHES, overlap=OVERLAPS)
@settings(deadline=None, max_examples=60)
def test_a_network_that_returns_its_input_gives_the_image_back(shape: Sides, patch: Sides, overlap: float) -> None:
    image = image_of(shape)
    logits = slide(identity, image, patch=patch, overlap=overlap)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, image)


@pytest.mark.parametrize("patch", [(1, 5, 4), (5, 1, 4), (5, 4, 1), (16, 16, 1), (40, 40, 40), (3, 40, 7)], ids=str)
def test_slices_and_patches_larger_than_the_volume_give_it_back_too(patch: Sides) -> None:
    image = image_of((11, 8, 6), channels=2)
    torch.testing.assert_close(slide(identity, image, patch=patch, overlap=0.5), image)


def test_channels_may_become_more_or_fewer() -> None:
    image = image_of((11, 8, 6), channels=2)
    mix = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    logits = slide(lambda batch: torch.einsum("lc,bcijk->blijk", mix, batch), image, patch=(5, 3, 4), overlap=0.3)
    torch.testing.assert_close(logits, torch.einsum("lc,cijk->lijk", mix, image))


def test_a_smaller_volume_lies_in_the_middle_of_its_patch_and_goes_on_as_at_its_edges() -> None:
    seen: list[Tensor] = []

    def watching(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch

    volume = torch.arange(24.0).reshape(1, 2, 3, 4)
    slide(watching, volume, patch=(5, 3, 8), overlap=0.5)
    (batch,) = seen
    assert torch.equal(batch[0], volume[:, [0, 0, 1, 1, 1]][..., [0, 0, 0, 1, 2, 3, 3, 3]])


def test_windows_are_batched_and_none_is_left_out() -> None:
    sizes: list[int] = []

    def counting(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return batch

    image = image_of((12, 10, 8))
    torch.testing.assert_close(slide(counting, image, batch_voxels=7 * 4**3, patch=(4, 4, 4), overlap=0.0), image)
    assert sizes == [7, 7, 4]  # 3·3·2 windows


def test_of_windows_that_hold_one_value_the_network_is_asked_once() -> None:
    seen: list[Tensor] = []

    def watching(batch: Tensor) -> Tensor:
        seen.extend(batch)
        return batch + 1

    image = torch.zeros(1, 40, 8, 8)
    image[:, 30:] = image_of((10, 8, 8))
    torch.testing.assert_close(slide(watching, image, patch=(8, 8, 8), overlap=0.5), image + 1)
    assert len(seen) == 4  # 9 windows begin at 0, 4, … 32: one for the six of zeros, and three
    assert sum(bool((patch == 0).all()) for patch in seen) == 1


def test_where_windows_meet_their_logits_are_blended_without_a_step() -> None:
    blended = slide(Position(0), torch.zeros(1, 64, 3, 3), patch=(16, 3, 3), overlap=0.5)[0, :, 1, 1]
    step = 7  # where a window of 16 begins in the middle of the one before, position falls from 8 to 0
    assert blended.diff().abs().max() < step / 2
    assert blended.min() == 0
    assert blended.max() == 15


def test_a_window_speaks_loudest_in_its_middle() -> None:
    blended = slide(Position(1), torch.zeros(1, 3, 24, 3), patch=(3, 16, 3), overlap=0.5)[0, 1, :, 1]
    assert blended[8].item() == pytest.approx(8, abs=0.02)
    assert blended[15].item() == pytest.approx(7, abs=0.02)


# Test-time flips


def test_a_network_that_does_not_care_for_sides_says_the_same_with_flips() -> None:
    kernel = torch.full((1, 1, 3, 3, 3), 1 / 27)
    image = image_of((11, 8, 6))

    def mean(batch: Tensor) -> Tensor:
        return F.conv3d(batch, kernel, padding=1)

    plain = slide(mean, image, patch=(6, 5, 4), overlap=0.5)
    flipped = slide(mean, image, patch=(6, 5, 4), overlap=0.5, flips=(0, 1, 2))
    torch.testing.assert_close(flipped, plain)


@pytest.mark.parametrize("flips", [(), (1,), (0, 2), (0, 1, 2)], ids=str)
def test_flips_come_in_every_combination_and_each_is_turned_back(flips: tuple[int, ...]) -> None:
    seen: list[Tensor] = []

    def watching(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch * 3

    batch = image_of((4, 5, 6))[None]
    torch.testing.assert_close(mirrored(watching, batch, flips), batch * 3)
    assert len(seen) == 2 ** len(flips)
    assert len({tuple(patch.flatten().tolist()) for patch in seen}) == len(seen)


def test_what_a_network_says_of_the_mirror_image_counts_as_much() -> None:
    batch = torch.zeros(1, 1, 4, 5, 6)
    logits = mirrored(Position(2), batch, (2,))
    torch.testing.assert_close(logits, torch.full_like(logits, 2.5))
    torch.testing.assert_close(mirrored(Position(2), batch, (0,)), Position(2)(batch))


def test_batches_get_smaller_where_memory_does_not_hold_them() -> None:
    sizes: list[int] = []

    def hungry(batch: Tensor) -> Tensor:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        sizes.append(len(batch))
        return batch

    image = image_of((11, 8, 6))
    torch.testing.assert_close(slide(hungry, image, patch=(4, 4, 4), overlap=0.5), image)
    assert max(sizes) == 2


def test_one_patch_that_does_not_fit_is_an_error() -> None:
    def starving(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        slide(starving, image_of((11, 8, 6)), patch=(4, 4, 4), overlap=0.5)
