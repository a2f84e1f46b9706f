"""Facts about devices: which names there are, and what is said of one that is not there."""

import os
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info

from medseg.device import choose_device, leaves_cores, multiplies_bf16, one_thread_for_numpy
from medseg.errors import DeviceError, OptionError

GPUS = torch.cuda.device_count()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without any accelerator."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def test_auto_takes_cuda_then_mps_then_the_cpu(machine: pytest.MonkeyPatch) -> None:
    assert choose_device() == torch.device("cpu")
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    machine.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_always_there(name: str, machine: pytest.MonkeyPatch) -> None:
    assert choose_device(name).type == "cpu"


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:one", "cuda:", "cpu:", "cuda:-1", "cuda:²", "cuda:0:1", " cpu"]
)
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        choose_device(name)
    assert caught.value.code == "E_OPTION"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3", "mps", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(name: str, machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=name) as caught:
        choose_device(name)
    assert caught.value.code == "E_DEVICE"
    assert "--device auto" in caught.value.remedy


def test_of_two_gpus_there_is_no_third(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="2 device"):
        choose_device("cuda:2")


def test_bfloat16_pays_on_no_device_but_cuda_and_a_cpu_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert multiplies_bf16(torch.device("mps")) is False
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert multiplies_bf16(torch.device("cpu")) is False
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert multiplies_bf16(torch.device("cpu")) is True
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert multiplies_bf16(torch.device("cuda")) is True


def test_a_network_on_the_cpu_leaves_cores_when_it_takes_fewer_threads_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for threads, left in ((1, True), (3, True), (4, False), (8, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert leaves_cores(torch.device("cpu")) is left
        assert leaves_cores(torch.device("cuda"))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert leaves_cores(torch.device("cpu"))


def test_numpys_products_take_one_thread_in_the_block_and_the_same_as_before_after_it() -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with one_thread_for_numpy():
        assert set(threads()) <= {1}
    assert threads() == before


def test_keeping_freed_memory_changes_no_result() -> None:
    program = (
        "import torch; from medseg.device import keep_freed_memory; keep_freed_memory(); keep_freed_memory();"
        "x = torch.ones(20_000_000); del x; print(int(torch.ones(20_000_000).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "20000000"


@pytest.mark.skipif(GPUS == 0, reason="needs a CUDA device")
def test_a_gpu_that_is_there_is_chosen() -> None:
    assert choose_device("auto").type == "cuda"
    assert choose_device(f"cuda:{GPUS - 1}").index == GPUS - 1
