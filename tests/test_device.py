"""Facts about devices: which names there are, and what is said of one that is not there."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medseg.device import choose_device, deterministic, mixed_precision, multiplies_bf16
from medseg.errors import DeviceError, OptionError

CPU = torch.device("cpu")
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


def test_whether_bfloat16_pays_is_asked_of_the_gpu_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    majors = {"cuda:0": 7, "cuda:1": 9}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=majors[str(device)]))
    monkeypatch.setattr(torch.version, "hip", None)
    assert multiplies_bf16(torch.device("cuda:0")) is False
    assert multiplies_bf16(torch.device("cuda:1")) is True
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert multiplies_bf16(torch.device("cuda:0")) is True


@pytest.mark.skipif(GPUS == 0, reason="needs a CUDA device")
def test_a_gpu_that_is_there_is_chosen() -> None:
    assert choose_device("auto").type == "cuda"
    assert choose_device(f"cuda:{GPUS - 1}").index == GPUS - 1


def test_each_of_several_processes_takes_a_gpu_of_its_own(machine: pytest.MonkeyPatch) -> None:
    assert choose_device("auto", place=1) == torch.device("cpu")
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto", place=1) == torch.device("cpu")
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", place=1) == choose_device("cuda", place=1) == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="cuda:2"):
        choose_device("auto", place=2)
    for name in ("cuda:0", "mps"):
        with pytest.raises(OptionError, match="several processes"):
            choose_device(name, place=0)


def test_deterministic_lasts_as_long_as_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def gradients(layer: nn.Module, image: torch.Tensor, *, bf16: bool) -> tuple[torch.dtype, torch.Tensor]:
    """Return the type of what a layer says in mixed precision, and the gradient of its kernel."""
    layer.zero_grad()
    with mixed_precision(CPU, bf16=bf16):
        said = layer(image)
    said.float().square().sum().backward()
    assert isinstance(layer.weight, torch.Tensor)
    assert layer.weight.grad is not None
    return said.dtype, layer.weight.grad.clone()


@pytest.mark.parametrize("make", [nn.Conv3d, nn.ConvTranspose3d])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    ("side", "kernel", "padding", "expected"),
    [(2, 3, 1, torch.float32), (4, 5, 2, torch.float32), (3, 3, 1, torch.bfloat16), (5, 5, 2, torch.bfloat16),
     (1, 1, 0, torch.bfloat16), (2, 2, 0, torch.bfloat16)],
)  # fmt: skip
def test_gradients_in_mixed_precision_are_right_however_short_the_sides(
    make: type[nn.Conv3d], last: bool, side: int, kernel: int, padding: int, expected: torch.dtype
) -> None:
    torch.manual_seed(0)
    layer = make(16, 32, kernel, padding=padding)
    image = torch.randn(2, 16, side, 6, 6)
    if last:
        layer, image = (one.to(memory_format=torch.channels_last_3d) for one in (layer, image))
    _, exact = gradients(layer, image, bf16=False)
    kind, found = gradients(layer, image, bf16=True)
    assert kind == expected
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02 * float(exact.abs().max()))


def test_without_bfloat16_nothing_is_mixed() -> None:
    with mixed_precision(CPU, bf16=False):
        assert nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 4, 4, 4)).dtype == torch.float32
