"""Facts about scratch: a limit of memory moves the sums into a file and changes no value."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from medseg.engine import Engine
from medseg.errors import UnwritableError
from medseg.patches import Scratch, Tiling, slabs

scratch_module = import_module("medseg.patches.scratch")


class Square(Engine):
    """A network of three features: the image, its square and ones."""

    name, batch_voxels = "test", 1

    def run(self, patches: np.ndarray) -> np.ndarray:
        return np.concatenate([patches, patches**2, np.ones_like(patches)], axis=1)


IMAGE = np.random.default_rng(0).random((1, 72, 33, 20), np.float32)
TILING = Tiling((16, 16, 16), 0.5)


def run(scratch: Scratch) -> np.ndarray:
    return np.concatenate([np.array(slab.values) for slab in slabs(Square(), IMAGE, TILING, scratch=scratch)], axis=1)


def held(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(scratch_module, "ram_held", lambda: size)


def test_without_a_limit_everything_is_in_memory() -> None:
    scratch = Scratch()
    run(scratch)
    assert not scratch.in_file
    assert scratch.sums_bytes == 3 * 24 * 33 * 20 * 4  # three features, the planes that windows to come reach


def test_sums_that_fit_stay_in_memory_and_others_go_to_a_file_with_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(monkeypatch, 1000)
    fits = 1000 + 50 + 3 * 24 * 33 * 20 * 4
    roomy, tight = Scratch(fits, tmp_path, besides=50), Scratch(fits - 1, tmp_path, besides=50)
    np.testing.assert_array_equal(run(tight), run(roomy))
    assert (roomy.in_file, tight.in_file) == (False, True)
    assert (roomy.short_bytes, tight.short_bytes) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_even_a_file_cannot_keep_is_told_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(monkeypatch, 1000)
    scratch = Scratch(1100, tmp_path)
    assert run(scratch).shape == (3, 72, 33, 20)
    assert scratch.in_file
    assert scratch.short_bytes == 3 * 16 * 33 * 20 * 4 - 100  # one slab


def test_a_full_disk_is_met_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    held(monkeypatch, 1000)
    monkeypatch.setattr(scratch_module.os, "posix_fallocate", full, raising=False)
    with pytest.raises(UnwritableError, match=r"No space left.*raise --max-ram"):
        run(Scratch(10, tmp_path))


def test_an_engine_that_keeps_its_arrays_on_a_device_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    held(monkeypatch, 1000)
    engine, scratch = Square(), Scratch(10)
    engine.on_host = False
    list(slabs(engine, IMAGE, TILING, scratch=scratch))
    assert not scratch.in_file
