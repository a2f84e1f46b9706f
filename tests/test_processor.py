"""The processor: numpy's threads, and the system's memory."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from threadpoolctl import threadpool_info

from medseg.processor import cores, one_thread_for_numpy, ram_bytes


def test_the_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert cores() == 16


def test_memory_is_the_machines_or_what_its_container_allows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = psutil.virtual_memory().total
    limits = tmp_path / "memory.max", tmp_path / "nowhere"
    monkeypatch.setattr("medseg.processor.CONTAINER_LIMITS", limits)
    for text, expected in [("max\n", machine), ("123456789\n", 123456789), (f"{2**63 - 1}\n", machine)]:
        limits[0].write_text(text)
        assert ram_bytes() == expected


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_that_is_given_back_is_not_held() -> None:
    program = (
        "import numpy as np\n"
        "from medseg.processor import give_freed_memory_back, keep_freed_memory, ram_held\n"
        "keep_freed_memory()\n"
        "before = ram_held()\n"
        "blocks = [np.ones(2**20, np.uint8) for _ in range(64)]\n"
        "del blocks\n"
        "kept = ram_held() - before\n"
        "give_freed_memory_back()\n"
        "print(kept, ram_held() - before)\n"
    )
    kept, held = map(int, subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert kept > 2**25
    assert held < 2**23
