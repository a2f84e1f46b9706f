"""Facts about the sliding window: every voxel is seen, and what is put together is what a network said."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any
from weakref import WeakSet, ref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.engine import Engine
from medseg.engine.torch import TorchEngine
from medseg.patches import Scratch, Tiling, slabs
from medseg.patches import slide as slide_engine
from medseg.patches.window_runner import mirrored as mirrored_by
from medseg.patches.windows import window_shares, window_starts, windows

slab_sums = import_module("medseg.patches.slab_sums")

Sides = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 17)] * 3)
PATCHES = st.tuples(*[st.integers(1, 8)] * 3)
OVERLAPS = st.floats(0, 0.9)


def image_of(shape: Sides, *, channels: int = 1) -> Tensor:
    return torch.rand((channels, *shape), generator=torch.Generator().manual_seed(0)) - 0.5


class Function(Engine):
    """An engine that calls a function of tensors."""

    name = "test"

    def __init__(self, function: Callable[[Tensor], Tensor], batch_voxels: int = 2**20) -> None:
        self.function = function
        self.batch_voxels = batch_voxels

    def run(self, patches: Any) -> Any:
        return self.function(torch.from_numpy(np.array(patches))).numpy()


def slide(function: Callable[[Tensor], Tensor], image: Tensor, *, batch_voxels: int = 2**20, **options: Any) -> Tensor:
    return torch.from_numpy(slide_engine(Function(function, batch_voxels), image.numpy(), Tiling(**options)))


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


@given(shape=SHAPES, patch=PATCHES, overlap=OVERLAPS, placement=st.sampled_from(["even", "stepped"]))
@settings(deadline=None, max_examples=50)
def test_every_voxel_of_a_volume_lies_in_a_window(shape: Sides, patch: Sides, overlap: float, placement: Any) -> None:
    shape = tuple(max(size, side) for size, side in zip(shape, patch, strict=True))  # type: ignore[assignment]
    starts = [window_starts(*sides, overlap, placement) for sides in zip(shape, patch, strict=True)]
    seen = np.zeros(shape, int)
    for box in windows(starts, patch):
        assert seen[box].shape == patch
        seen[box] += 1
    assert seen.min() >= 1
    assert math.prod(map(len, starts)) * math.prod(patch) == seen.sum()


@pytest.mark.parametrize(
    ("size", "overlap", "starts"),
    [(96, 0.5, [0]), (100, 0.5, [0, 4]), (240, 0.5, [0, 48, 96, 144]), (225, 0.25, [0, 72, 129]), (192, 0.0, [0, 96])],
)
def test_stepped_windows_begin_where_monai_has_them(size: int, overlap: float, starts: list[int]) -> None:
    assert window_starts(size, 96, overlap, "stepped") == starts
    found = dense_patch_slices((size, 96, 96), (96, 96, 96), (int(96 * (1 - overlap)), 96, 96))
    assert [window[0].start for window in found] == starts


@given(
    size=st.integers(1, 60),
    side=st.integers(1, 20),
    overlap=OVERLAPS,
    weighting=st.sampled_from(["gaussian", "constant"]),
)
@settings(deadline=None)
def test_the_shares_of_all_windows_at_a_voxel_sum_to_one(size: int, side: int, overlap: float, weighting: Any) -> None:
    size = max(size, side)
    starts = window_starts(size, side, overlap)
    total = np.zeros(size)
    for start, share in window_shares(starts, side, size, weighting).items():
        assert (share > 0).all()
        total[start : start + side] += share
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_window_counts_most_in_its_middle_or_everywhere_alike() -> None:
    (gaussian,) = window_shares([0], 9, 9, "gaussian").values()
    np.testing.assert_allclose(gaussian, 1)  # nobody else is there
    first, second = window_shares([0, 4], 9, 13, "gaussian").values()
    np.testing.assert_allclose(first, second[::-1], rtol=1e-5)
    assert first[4] > 0.95
    assert 0 < first[8] < 0.05
    assert (np.diff(first[4:]) < 0).all()
    even, _ = window_shares([0, 4], 9, 13, "constant").values()
    np.testing.assert_allclose(even, [1] * 4 + [0.5] * 5)


# What is put together


@given(shape=SHAPES, patch=PATCHES, overlap=OVERLAPS, margin=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_a_network_that_returns_its_input_gives_the_image_back(
    shape: Sides, patch: Sides, overlap: float, margin: int
) -> None:
    image = image_of(shape)
    logits = slide(identity, image, patch=patch, overlap=overlap, margin=margin)
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


def test_a_margin_shows_the_network_a_small_volume_in_several_places_of_its_patch() -> None:
    volume = torch.zeros(1, 3, 5, 6)
    volume[0, 1, 2, 3] = 1
    places: list[list[int]] = []

    def watching(batch: Tensor) -> Tensor:
        places.extend(batch[:, 0].nonzero()[:, 1:].tolist())
        return batch

    slide(watching, volume, patch=(5, 7, 1), overlap=0.5, margin=1)
    assert sorted(places) == [[1, 2, 0], [1, 4, 0], [3, 2, 0], [3, 4, 0]]  # at 2, 3 without a margin


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


# Slab by slab


@given(shape=SHAPES, patch=PATCHES, overlap=OVERLAPS, batch_voxels=st.integers(1, 5000))
@settings(deadline=None, max_examples=60)
def test_slabs_follow_each_other_and_hold_what_the_whole_does(
    shape: Sides, patch: Sides, overlap: float, batch_voxels: int
) -> None:
    engine, image = Function(lambda batch: batch * 2 + 1, batch_voxels), image_of(shape).numpy()
    tiling = Tiling(patch, overlap)
    reached, held = 0, []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slab_sums, "LEAST_PLANES", 1)
        for slab in slabs(engine, image, tiling):
            assert slab.first == reached
            reached += slab.values.shape[slab.axis + 1]
            held.append(slab.values)
    assert reached == shape[slab.axis]
    np.testing.assert_allclose(np.concatenate(held, axis=slab.axis + 1), image * 2 + 1, rtol=1e-5)


def test_a_slab_has_been_computed_when_it_comes() -> None:
    done: list[str] = []

    class Ordered(Function):
        def run(self, patches: Any) -> Any:
            done.append("asked")
            return super().run(patches)

        def wait(self) -> None:
            done.append("computed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slab_sums, "LEAST_PLANES", 1)
        coming = slabs(Ordered(identity, 1), image_of((24, 8, 8)).numpy(), Tiling((8, 8, 8), 0.0))
        while next(coming, None) is not None:
            done.append("came")
    assert done == ["asked", "computed", "came"] * 3


class Watched(Scratch):
    """A scratch that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.planned, self.made = 0, 0

    def plan(self, engine: Engine, *, sums: int, slab: int) -> None:
        assert slab <= sums
        self.planned = sums

    def zeros(self, engine: Engine, shape: Any) -> Any:
        self.made += math.prod(shape)
        return super().zeros(engine, shape)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
def test_no_more_is_held_than_windows_to_come_reach(overlap: float) -> None:
    image = np.random.default_rng(0).random((1, 397, 24, 24), np.float32)
    scratch, held, most = Watched(), 0, 0
    for slab in slabs(Function(identity, 1), image, Tiling((32, 24, 24), overlap), scratch=scratch):
        most = max(most, scratch.made - held)
        held += slab.values.size
    assert held == scratch.made == image.size
    assert most == scratch.planned <= 64 * 24 * 24


def test_a_slab_that_nobody_holds_is_let_go_of_before_the_next_is_computed() -> None:
    made: list[ref[Any]] = []

    class Watching(Function):
        def zeros(self, shape: Any) -> Any:
            array = super().zeros(shape)
            made.append(ref(array))
            return array

        def run(self, patches: Any) -> Any:
            assert not any(array() is not None for array in made)
            return super().run(patches)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slab_sums, "LEAST_PLANES", 1)
        coming = slabs(Watching(identity, 1), image_of((40, 8, 8)).numpy(), Tiling((8, 8, 8), 0.0))
        while next(coming, None) is not None:
            pass
    assert len(made) == 5


# Where memory does not suffice


def gpu_is_full() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize(
    "error", [MemoryError(), gpu_is_full(), RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)")], ids=repr
)
def test_batches_get_smaller_where_memory_does_not_hold_them_and_stay_so(error: Exception) -> None:
    tried: list[int] = []

    def hungry(batch: Tensor) -> Tensor:
        tried.append(len(batch))
        if len(batch) > 2:
            raise error
        return batch

    image = image_of((12, 10, 8))
    torch.testing.assert_close(slide(hungry, image, batch_voxels=8 * 4**3, patch=(4, 4, 4), overlap=0.0), image)
    assert tried == [8, 4, *[2] * 9]  # 3·3·2 windows


def test_what_a_batch_that_did_not_fit_held_is_let_go_of_before_a_smaller_one_is_tried() -> None:
    held: WeakSet[Any] = WeakSet()

    def hungry(batch: Tensor) -> Tensor:
        assert not held
        activations = batch + 1
        held.add(activations)
        if len(batch) > 1:
            raise gpu_is_full()
        return batch

    image = image_of((11, 8, 6))
    torch.testing.assert_close(slide(hungry, image, patch=(4, 4, 4), overlap=0.5), image)


def test_what_was_said_of_a_batch_is_let_go_of_before_the_next_is_computed() -> None:
    said: WeakSet[Any] = WeakSet()

    def watching(batch: Tensor) -> Tensor:
        assert not said
        values = batch + 1
        said.add(values)
        return values

    image = image_of((11, 8, 6))
    slid = slide(watching, image, batch_voxels=2 * 4**3, patch=(4, 4, 4), overlap=0.5)
    torch.testing.assert_close(slid, image + 1)


class FullGPU(TorchEngine):
    """An engine that keeps tensors, and has no room for more than one window, nor for that beside any sums."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), torch.device("cpu"), precision="fp32")
        self.on_host, self.sums = False, WeakSet[Tensor]()

    def run(self, patches: Any) -> Any:
        if len(patches) > 1 or self.sums:
            raise gpu_is_full()
        return patches

    def zeros(self, shape: Any) -> Any:
        sums = super().zeros(shape)
        self.sums.add(sums)
        return sums

    def fetch(self, values: Any) -> Any:
        return super().fetch(values).copy()


def test_sums_leave_a_device_that_has_no_room_for_a_window_beside_them() -> None:
    image = image_of((40, 8, 6)).numpy()
    np.testing.assert_allclose(slide_engine(FullGPU(), image, Tiling((4, 4, 4), 0.5)), image, atol=1e-6)


def test_one_patch_that_does_not_fit_is_an_error() -> None:
    def starving(_: Tensor) -> Tensor:
        raise gpu_is_full()

    with pytest.raises(torch.OutOfMemoryError):
        slide(starving, image_of((11, 8, 6)), patch=(4, 4, 4), overlap=0.5)


def test_any_other_error_of_the_network_stays_what_it_is() -> None:
    tried: list[int] = []

    def failing(batch: Tensor) -> Tensor:
        tried.append(len(batch))
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        slide(failing, image_of((11, 8, 6)), patch=(4, 4, 4), overlap=0.5)
    assert len(tried) == 1


def test_of_windows_of_one_value_a_few_values_are_remembered_and_the_others_asked_each_time() -> None:
    asked: list[int] = []

    def count(batch: Tensor) -> Tensor:
        asked.append(len(batch))
        return batch * 2 + 1

    steps = torch.arange(8.0).repeat_interleave(4)
    image = torch.cat([steps, steps])[None, :, None, None].expand(1, 64, 4, 4).contiguous()
    said = slide(count, image, patch=(4, 4, 4), overlap=0.0)
    assert torch.equal(said, image * 2 + 1)
    assert sum(asked) == 4 + 2 * 4
