"""Several processes train as one does: the same losses for the same batches, one run, one end."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from copies import side_by_side, wait

from medseg.across import TORCHRUN, gathered, highest, joined, mean_over_processes, rank, shared, sum_over_processes
from medseg.cli import main
from medseg.dataset import open_dataset
from medseg.errors import RecipeError
from medseg.interrupt import Terminated, listen, working
from medseg.recipe import load_recipe
from medseg.run import read_lines
from medseg.train import finish, train
from medseg.train.checkpoint import _read
from medseg.train.trainer import Trainer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="copies this process, which Windows cannot")
CPU = torch.device("cpu")
SETTINGS = ["training.batch=4", "training.epochs=2", "training.steps_per_epoch=10", "training.average=0.9"]
NORMS = {
    "instance": "model.options={channels=[4, 8], num_res_units=0, norm='instance'}",
    "batch": "model.options={channels=[4, 8], num_res_units=0, norm='batch'}",
}


@pytest.fixture
def trained(recipe: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that trains into a folder of this name and writes each step's loss beside it."""

    def work(name: str, norm: str, *settings: str) -> None:
        losses: list[float] = []
        step = Trainer.step
        monkeypatch.setattr(finish, "to_onnx", lambda *_, **__: None)
        monkeypatch.setattr(Trainer, "step", lambda *sample: losses.append(step(*sample)) or losses[-1])
        chosen = load_recipe(str(recipe), [*SETTINGS, NORMS[norm], *settings])
        cache = tmp_path / "prepared"
        train(chosen, open_dataset(dataset), tmp_path / name, device=CPU, resume=True, workers=0, cache=cache)
        (tmp_path / f"{name}.{rank()}.json").write_text(json.dumps(losses))
        monkeypatch.undo()

    return work


def wait_for(children: list[int], said: Path) -> None:
    """See that all end well."""
    codes = [wait(child) for child in children]
    assert codes == [0] * len(codes), "\n".join(
        path.read_text(encoding="utf-8") for path in said.parent.glob(f"{said.name}.*")
    )


@pytest.mark.parametrize("norm", NORMS)
def test_two_processes_have_the_losses_of_one_over_20_steps(
    norm: str, trained: Callable[..., None], tmp_path: Path
) -> None:
    wait_for(side_by_side(lambda: trained("two", norm), said=tmp_path / "said"), tmp_path / "said")
    trained("one", norm)
    one, *two = (json.loads((tmp_path / f"{name}.json").read_bytes()) for name in ("one.0", "two.0", "two.1"))
    assert len(one) == 20
    for losses in two:
        assert losses == pytest.approx(one, abs=1e-4)
    metrics = [tmp_path / name / "validation" / "metrics.csv" for name in ("one", "two")]
    scores = [path.read_text(encoding="utf-8").splitlines() for path in metrics]
    assert [line.split(",")[:3] for line in scores[0]] == [line.split(",")[:3] for line in scores[1]]
    journals = [list(read_lines(tmp_path / name / "journal.jsonl")) for name in ("one", "two")]
    assert [line["epoch"] for line in journals[1]] == [1, 2]
    assert journals[1][-1]["validation_dice"] == pytest.approx(journals[0][-1]["validation_dice"], abs=0.02)
    assert json.loads((tmp_path / "two/run.json").read_text(encoding="utf-8"))["processes"] == 2


def test_a_signal_to_one_process_ends_both_after_the_same_step_and_one_goes_on(
    trained: Callable[..., None], tmp_path: Path
) -> None:
    def work() -> int:
        backward = Trainer._backward

        def signalled(self: Trainer, *sample: Any) -> torch.Tensor:
            if rank() == 1 and self.state.step == 12:
                os.kill(os.getpid(), signal.SIGTERM)
            return backward(self, *sample)

        Trainer._backward = signalled  # type: ignore[method-assign]
        listen()
        try:
            with working():
                trained("run", "instance")
        except Terminated:
            return 143
        return 0

    assert [wait(child) for child in side_by_side(work, said=tmp_path / "said")] == [143, 143]
    assert _read(tmp_path / "run/checkpoint/last.safetensors")[0].step == 13
    trained("run", "instance")
    trained("one", "instance")
    resumed, one = (json.loads((tmp_path / f"{name}.0.json").read_text(encoding="utf-8")) for name in ("run", "one"))
    assert resumed == pytest.approx(one[13:], abs=1e-4)


def test_when_one_process_dies_the_other_says_so_and_the_checkpoint_stays(
    trained: Callable[..., None], tmp_path: Path
) -> None:
    def work() -> None:
        backward = Trainer._backward

        def dying(self: Trainer, *sample: Any) -> torch.Tensor:
            if rank() == 1 and self.state.step == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            return backward(self, *sample)

        Trainer._backward = dying  # type: ignore[method-assign]
        trained("run", "instance")

    codes = [wait(child) for child in side_by_side(work, said=tmp_path / "said")]
    assert codes == [70, -signal.SIGKILL]
    assert "another process of this training has ended" in (tmp_path / "said.0").read_text(encoding="utf-8").lower()
    assert _read(tmp_path / "run/checkpoint/last.safetensors")[0].step == 10


def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    recipe: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCHRUN:
        monkeypatch.setenv(name, "3" if name == "WORLD_SIZE" else "0")
    with pytest.raises(RecipeError, match=r"training\.batch is 2"):
        train(load_recipe(str(recipe)), open_dataset(dataset), tmp_path / "run", device=CPU)


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_only_the_first_process_ends_with_1_for_a_case_that_was_left_out(
    command: str, recipe: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"a": {"code": "E_CORRUPT", "message": "cut short"}}
    result = SimpleNamespace(summary={"scored_on": "training data"}, failed=failed)
    monkeypatch.setattr(f"medseg.train.{command}", lambda *_, **__: result)
    arguments = [command, str(recipe), "--data", str(dataset), "--out", str(tmp_path), "--device", "cpu", "--json"]
    for number, code in enumerate([1, 0]):  # torchrun ends the others when one ends with 1
        for name in TORCHRUN:
            monkeypatch.setenv(name, {"WORLD_SIZE": "2"}.get(name, str(number)))
        assert main(arguments) == code


# What the processes tell each other


def test_sums_and_their_gradients_run_over_the_processes(tmp_path: Path) -> None:
    def work() -> None:
        with joined(CPU):
            value = torch.tensor([1.0, 2.0]) * (rank() + 1)
            value.requires_grad_()
            total = sum_over_processes(value)
            assert total.tolist() == [3.0, 6.0]
            total.square().sum().backward()  # alike in both; of its gradient, 2·total, each gets both processes' parts
            assert value.grad is not None
            assert value.grad.tolist() == [12.0, 24.0]
            assert mean_over_processes(value).tolist() == [1.5, 3.0]
            assert gathered(f"process {rank()}") == ["process 0", "process 1"]
            assert highest(rank() * 143) == 143
            assert shared(lambda number: number**2, range(5)) == [0, 1, 4, 9, 16]
            assert shared(lambda number: number**2, range(1)) == [0]

    wait_for(side_by_side(work, said=tmp_path / "said"), tmp_path / "said")


def test_a_single_process_keeps_what_it_has() -> None:
    value = torch.tensor([1.0], requires_grad=True)
    assert sum_over_processes(value) is value
    assert mean_over_processes(value).tolist() == [1.0]
    assert gathered("alone") == ["alone"]
    assert highest(3) == 3
    assert shared(abs, [-1, 2]) == [1, 2]
