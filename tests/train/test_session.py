"""Facts about how a training is run: on which GPU, and with how many threads."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from medseg.across import TORCHRUN, local_processes
from medseg.train import session
from medseg.train.session import Session


def torchrun(monkeypatch: pytest.MonkeyPatch, *, processes: int, here: int) -> None:
    """Have this process be one of several, some of them on this machine."""
    for name in TORCHRUN:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setattr(session, "joined", lambda _: nullcontext())


@pytest.mark.parametrize(("name", "current"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_gpu_that_is_named_becomes_the_current_one(
    name: str, current: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    with Session(torch.device(name)).run(tmp_path / "run"):
        assert chosen == current


@pytest.mark.parametrize(
    ("processes", "here", "asked", "threads"),
    [(4, 4, "1", [4]), (8, 2, "1", [8]), (40, 20, "1", [1]), (4, 4, "3", []), (1, 1, "1", []), (4, 1, "1", [])],
)
def test_processes_of_one_machine_share_its_cores(
    processes: int, here: int, asked: str, threads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    torchrun(monkeypatch, processes=processes, here=here)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)  # as torchrun sets it for several, where nobody else does
    monkeypatch.setattr(session, "cores", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    with Session(torch.device("cpu")).run(tmp_path / "run"):
        assert given == threads


def test_where_nobody_says_how_many_processes_are_on_this_machine_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun(monkeypatch, processes=16, here=4)
    assert local_processes() == 4
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert local_processes() == 16
