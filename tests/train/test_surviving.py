"""Whatever ends a training, what it has reached is kept, and resuming ends as if nothing had happened."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from copies import start, wait

from medseg.cli import run as run_command
from medseg.dataset import open_dataset
from medseg.errors import MedsegError, OutOfMemoryError, TrainingError, UnwritableError
from medseg.models import unpack
from medseg.package import load_package
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe, load_recipe
from medseg.run import Run, read_lines
from medseg.train import TrainingResult, epochs, finish, train
from medseg.train.checkpoint import _read
from medseg.train.trainer import LEFT_OUT_AT_MOST, Trainer
from medseg.train.validate import Validator

CPU = torch.device("cpu")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="copies this process, which Windows cannot")
# Dropout, batch norm and averaging have states of their own. The network has one epoch more than validations.
CHANGES = [
    "model.options={channels=[4, 8], num_res_units=0, norm='batch', dropout=0.3}",
    "training.patch=[16, 16, 12]",
    "training.average=0.9",
    "training.epochs=3",
    "training.steps_per_epoch=6",
    "training.validate_every=2",
]
STEPS = 18


@pytest.fixture(scope="module")
def small(recipe: Path) -> Recipe:
    return load_recipe(str(recipe), CHANGES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared cases, which all these runs share."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module", autouse=True)
def _no_export() -> Iterator[None]:
    """Leave the ONNX network out of the packages: it takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "to_onnx", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def undisturbed(small: Recipe, dataset: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small, open_dataset(dataset), folder, fold=0, device=CPU, deterministic=True, cache=cache)
    return folder


@pytest.fixture
def again(small: Recipe, dataset: Path, cache: Path, tmp_path: Path) -> Any:
    """A function that trains into one folder, or goes on there."""

    def go(*, notify: Notify = ignore, workers: int = 0) -> TrainingResult:
        opened, folder = open_dataset(dataset), tmp_path / "run"
        return train(
            small, opened, folder, fold=0, device=CPU, resume=True, deterministic=True, workers=workers, cache=cache,
            notify=notify,
        )  # fmt: skip

    return go


class StoppedError(Exception):
    """Raised in a test to break training off."""


def breaking_off(at: int) -> Notify:
    """Return what breaks training off after a step."""

    def notify(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == at:
            raise StoppedError

    return notify


def step_of(run: Path, name: str = "last") -> int:
    """Return the step that a checkpoint stands at."""
    return _read(run / "checkpoint" / f"{name}.safetensors")[0].step


def same(run: Path, undisturbed: Path) -> None:
    """Check that a run has become what it would have been."""
    assert (run / "model/weights.safetensors").read_bytes() == (undisturbed / "model/weights.safetensors").read_bytes()
    assert (run / "validation/metrics.csv").read_bytes() == (undisturbed / "validation/metrics.csv").read_bytes()
    journals = [list(read_lines(folder / "journal.jsonl")) for folder in (run, undisturbed)]
    for line, expected in zip(*journals, strict=True):
        measured = {"seconds", "samples_per_second", "peak_ram_mb"}
        assert {key: line[key] for key in expected.keys() - measured} == {
            key: expected[key] for key in expected.keys() - measured
        }


# Killed


@forking
def test_killed_at_random_steps_and_resumed_it_ends_with_the_same_bytes(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    kills = 0
    for number in range(50):
        # Checkpoints within the epochs as well: after some seconds, which here are none.
        monkeypatch.setattr(epochs, "SECONDS_BETWEEN_CHECKPOINTS", draw.choice([0.0, 600.0]))
        kill_at = draw.randrange(1, 9)
        steps = iter(range(1, 100))

        def notify(progress: Progress, steps: Iterator[int] = steps, kill_at: int = kill_at) -> None:
            if progress.stage == "train" and not progress.message and next(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def work(notify: Notify = notify) -> None:
            again(notify=notify)

        code = wait(start(work, said=tmp_path / f"said_{number}"))
        kills += code == -signal.SIGKILL
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / f"said_{number}").read_text(encoding="utf-8")
    assert kills >= 3
    same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("at", [4, 6, STEPS])
def test_broken_off_after_any_step_nothing_is_lost_with_or_without_workers(
    at: int, again: Any, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        again(notify=breaking_off(at))
    assert step_of(tmp_path / "run") == at
    again(workers=1)
    same(tmp_path / "run", undisturbed)


# Signals


@forking
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_command_after_the_step_it_is_at(
    how: signal.Signals, code: int, workers: int, recipe: Path, dataset: Path, undisturbed: Path, cache: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = [
        "medseg", "train", str(recipe), "--data", str(dataset), "--out", str(tmp_path / "run"), "--fold", "0",
        "--device", "cpu", "--cache", str(cache), "--workers", str(workers), "--deterministic", "--resume",
        *(word for change in CHANGES for word in ("--set", change)),
    ]  # fmt: skip
    backward = Trainer._backward

    def signalled(self: Trainer, *sample: Any) -> torch.Tensor:
        loss = backward(self, *sample)
        if self.state.step == 8:
            for child in [*psutil.Process().children(recursive=True), psutil.Process()]:  # as a terminal does
                child.send_signal(how)
        return loss

    def work() -> None:
        sys.argv = arguments
        run_command()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_backward", signalled)
        assert wait(start(work, said=tmp_path / "said")) == code, (tmp_path / "said").read_text(encoding="utf-8")
    said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert said[-1].endswith("What was finished is kept. The same command with --resume goes on from there.")
    assert not any("Traceback" in line for line in said)
    assert step_of(tmp_path / "run") == 9
    assert wait(start(work, said=tmp_path / "said")) == 0, (tmp_path / "said").read_text(encoding="utf-8")
    same(tmp_path / "run", undisturbed)


# Damage


def test_a_damaged_checkpoint_gives_way_to_the_one_before(again: Any, undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        again(notify=breaking_off(13))
    last, messages = tmp_path / "run/checkpoint/last.safetensors", []
    assert (step_of(tmp_path / "run", "previous"), step_of(tmp_path / "run")) == (12, 13)
    damaged = bytearray(last.read_bytes())
    damaged[-1] ^= 1
    last.write_bytes(damaged)
    again(notify=lambda progress: messages.append(progress.message))
    assert any("E_CORRUPT" in message and "at step 12" in message for message in messages)
    same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("left", [0, 100])
def test_without_a_whole_checkpoint_nothing_is_resumed(left: int, again: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        again(notify=breaking_off(7))
    for path in (tmp_path / "run/checkpoint").iterdir():
        path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(TrainingError, match="Choose another --out"):
        again()


def test_a_full_disk_leaves_the_checkpoint_before(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "next.safetensors" in path.name and step_of(tmp_path / "run") == 6:
            write(path, data[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with pytest.raises(StoppedError):
        again(notify=breaking_off(6))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UnwritableError, match="No space left"):
            again()
    assert sorted(path.name for path in (tmp_path / "run/checkpoint").iterdir()) == ["last.safetensors"]
    again()
    same(tmp_path / "run", undisturbed)


# What goes wrong within


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: range, value: float) -> None:
    """Have the gradients of some steps be that."""
    backward = Trainer._backward

    def changed(self: Trainer, *sample: Any) -> torch.Tensor:
        loss = backward(self, *sample)
        if self.state.step in steps:
            next(self.network.parameters()).grad.fill_(value)  # type: ignore[union-attr]
        return loss

    monkeypatch.setattr(Trainer, "_backward", changed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_whose_gradients_are_not_finite_is_left_out(
    value: float, again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, range(3, 3 + LEFT_OUT_AT_MOST), value)
    messages: list[str] = []
    again(notify=lambda progress: messages.append(progress.message))
    assert sum("gradients are not finite" in message for message in messages) == LEFT_OUT_AT_MOST
    weights = unpack(load_package(tmp_path / "run").weights)
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_many_such_steps_in_a_row_are_an_error_and_the_checkpoint_is_sound(
    again: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, range(8, 100), float("nan"))
    with pytest.raises(TrainingError, match="in a row are not finite"):
        again()
    state, tensors = _read(tmp_path / "run/checkpoint/last.safetensors")
    assert (state.step, state.epoch, state.left_out) == (12, 2, 4)
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())


def test_a_loss_that_is_not_finite_never_reaches_a_checkpoint(
    again: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(self: Trainer, *sample: Any) -> torch.Tensor:
        if self.state.step == 8:
            for buffer in filter(torch.is_floating_point, self.network.buffers()):
                buffer.fill_(float("nan"))
            return torch.tensor(float("nan"))
        return backward(self, *sample)

    backward = Trainer._backward
    monkeypatch.setattr(Trainer, "_backward", spoiled)
    with pytest.raises(TrainingError, match="the loss is nan"):
        again()
    _, tensors = _read(tmp_path / "run/checkpoint/last.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())


@forking
def test_a_dead_worker_is_an_error_that_names_the_remedy(again: Any, undisturbed: Path, tmp_path: Path) -> None:
    def kill_a_worker(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 8:
            psutil.Process().children()[0].kill()

    with pytest.raises(TrainingError, match="--workers 0"):
        again(notify=kill_a_worker, workers=1)
    assert step_of(tmp_path / "run") >= 6
    again()
    same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["host", "gpu", "torch", "fork"],
)
def test_running_out_of_memory_is_an_error_that_says_what_helps(
    error: Exception, again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = Trainer._backward

    def greedy(self: Trainer, *sample: Any) -> torch.Tensor:
        if self.state.step == 7:
            raise error
        return backward(self, *sample)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_backward", greedy)
        with pytest.raises(OutOfMemoryError, match=r"Lower training\.batch"):
            again()
    assert step_of(tmp_path / "run") == 6
    again()
    same(tmp_path / "run", undisturbed)


def test_before_whole_scans_are_validated_there_is_a_checkpoint(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    dice = Validator.dice

    def watched(self: Validator, *, most: int) -> float:
        found.append(step_of(tmp_path / "run"))
        return dice(self, most=most)

    monkeypatch.setattr(Validator, "dice", watched)
    again()
    assert found[-1] == STEPS
    assert found == [line["step"] for line in read_lines(tmp_path / "run/journal.jsonl") if line["validation_dice"]]
    same(tmp_path / "run", undisturbed)


def test_a_second_process_keeps_out_of_a_run(again: Any, tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from medseg.atomic import claimed\n"
    code += "with claimed(Path(sys.argv[1])) as alone: print(alone, flush=True); time.sleep(60)"
    claim = Run(tmp_path / "run").claim
    with subprocess.Popen([sys.executable, "-c", code, str(claim)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with pytest.raises(TrainingError, match="another process is training into it"):
            again()
        other.kill()
    again()  # who dies lets go


def test_what_has_no_deterministic_form_says_so(again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Trainer, *_: Any) -> torch.Tensor:
        raise RuntimeError("max_pool3d_with_indices_backward_cuda does not have a deterministic implementation, but…")

    monkeypatch.setattr(Trainer, "_backward", refuse)
    with pytest.raises(MedsegError, match="--deterministic") as caught:
        again()
    assert caught.value.code == "E_TRAINING"


def test_any_other_error_stays_what_it_is(again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Trainer, *_: Any) -> torch.Tensor:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(Trainer, "_backward", fail)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        again()


def test_seconds_of_a_broken_epoch_add_up(again: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        again(notify=breaking_off(4))
    before = _read(tmp_path / "run/checkpoint/last.safetensors")[0].seconds
    again()
    first = next(read_lines(tmp_path / "run/journal.jsonl"))
    assert first["seconds"] > before > 0
    assert json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))["deterministic"] is True
