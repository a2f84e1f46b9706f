"""The processor: numpy's threads, and the system's memory."""

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from medseg.processor import cores, one_thread_for_numpy


def test_the_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert cores() == 16


def test_numpys_products_take_one_thread_in_the_block_and_the_same_as_before_after_it() -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with one_thread_for_numpy():
        assert set(threads()) <= {1}
    assert threads() == before


def test_keeping_freed_memory_changes_no_result() -> None:
    program = (
        "import torch; from medseg.processor import keep_freed_memory; keep_freed_memory(); keep_freed_memory();"
        "x = torch.ones(20_000_000); del x; print(int(torch.ones(20_000_000).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "20000000"
