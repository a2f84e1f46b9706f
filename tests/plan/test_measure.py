"""Facts about what is measured: it fits the memory, or says what would."""

import pytest
import torch

from medseg.errors import OutOfMemoryError
from medseg.plan import measure
from medseg.plan.budget import memory_to_use
from medseg.plan.measure import voxels_per_second
from medseg.recipe import Recipe

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list of the sides that were tried, on a device that has room for 32³ and less."""
    sides: list[int] = []

    def timed(recipe: Recipe, **_: object) -> list[float]:
        sides.append(max(recipe.training.patch))
        if sides[-1] > 32:
            raise RuntimeError("MPS backend out of memory")
        return [2.0, 1.0]

    monkeypatch.setattr(measure, "_timed", timed)
    monkeypatch.setattr(measure, "uses_bf16", lambda *_: False)  # what fits is that of no processor in particular
    monkeypatch.setattr(measure, "PROBES", {"cpu": (64, 48, 32, 16)})
    return sides


def pace(memory_bytes: int, *, labels: int = 4, flat: int | None = None) -> float:
    return voxels_per_second(channels=1, labels=labels, flat=flat, device=CPU, memory_bytes=memory_bytes)


def test_the_probe_is_made_smaller_until_the_device_has_room_for_it(tried: list[int]) -> None:
    assert pace(100 * GB) == 2 * 32**3
    assert tried == [64, 48, 32]


def test_a_probe_that_takes_more_than_what_is_given_is_not_tried(tried: list[int]) -> None:
    assert pace(GB) == 2 * 32**3
    assert tried == [32]
    assert pace(GB, labels=500) == 2 * 16**3


def test_the_smallest_is_tried_however_little_is_given_and_may_be_too_much(
    tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pace(1) == 2 * 16**3
    monkeypatch.setattr(measure, "PROBES", {"cpu": (64, 48)})
    with pytest.raises(OutOfMemoryError, match=r"2 patches of 48 × 48 × 48 voxels: MPS.*less --memory"):
        pace(1)


def test_of_a_gpu_that_others_use_too_only_what_is_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GB, 80 * GB))
    assert memory_to_use(torch.device("cuda")) == 8 * GB
