"""Engines: OpenVINO and torch say the same of a patch, and each is chosen where it belongs."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from medseg.engine import Engine, OpenVINOEngine
from medseg.engine.torch import TorchEngine, uses_bf16
from medseg.errors import OptionError, PackageError, UnknownNameError
from medseg.models import build_network, to_onnx
from medseg.package import ModelPackage, load_package
from medseg.patches import Tiling, slide
from medseg.recipe import parse_recipe
from medseg.segment import GPU_SIGNS, choose_engine

CPU = torch.device("cpu")
PATCH = (16, 16, 8)


def network(name: str = "unet", patch: tuple[int, int, int] = PATCH, **options: object) -> nn.Module:
    settings = {"channels": [4, 8], "num_res_units": 1, "norm": "instance"} if name == "unet" else {}
    model = {"name": name, "options": settings | options}
    recipe = parse_recipe({"model": model, "training": {"patch": list(patch)}}, name="r")
    torch.manual_seed(0)
    return build_network(recipe, channels=2, labels=2)


def patches(count: int = 3, patch: tuple[int, int, int] = PATCH) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 2, *patch), np.float32)


@pytest.fixture(scope="module")
def package(run: Path) -> ModelPackage:
    return load_package(run)


@pytest.mark.parametrize("patch", [PATCH, (16, 16, 1), (1, 16, 16)], ids=str)
def test_both_engines_say_the_same_of_a_patch(patch: tuple[int, int, int]) -> None:
    net = network(patch=patch)
    onnx = OpenVINOEngine(to_onnx(net, patch=patch, channels=2), patch=patch, channels=2, precision="fp32")
    reference = TorchEngine(net, CPU, precision="fp32")
    said, expected = onnx.run(patches(patch=patch)), reference.run(patches(patch=patch))
    assert said.shape == expected.shape == (3, 3, *patch)
    assert said.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_bfloat16_is_close_to_float32_and_not_the_same_where_the_processor_has_it() -> None:
    onnx = to_onnx(network(), patch=PATCH, channels=2)
    half, full = (OpenVINOEngine(onnx, patch=PATCH, channels=2, precision=p) for p in ("bf16", "fp32"))
    assert (half.bf16, full.bf16) == (True, False)
    np.testing.assert_allclose(half.run(patches()), full.run(patches()), atol=0.1)


@pytest.mark.parametrize(("precision", "rounded"), [("auto", True), ("fp32", False)])
def test_in_full_precision_gpus_do_not_round_to_tf32(
    precision: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    TorchEngine(nn.Identity(), CPU, precision=precision)
    assert torch.backends.cudnn.allow_tf32 is rounded


def test_exporting_leaves_the_network_as_it_was_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first, second = (to_onnx(net, patch=PATCH, channels=2) for _ in range(2))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert first == second
    assert capfd.readouterr() == ("", "")


def test_a_network_that_the_exporter_does_not_know_is_an_error() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch * self.weight if bool(batch.sum() > 0) else -batch

    with pytest.raises(PackageError, match="exporting the network"):
        to_onnx(Strange(), patch=PATCH, channels=2)


@pytest.mark.parametrize(
    "error", [OverflowError(), KeyError("aten::new\nmore")], ids=["without a word", "of many lines"]
)
def test_whatever_the_exporter_stumbles_over_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.onnx.export", stumble)
    with pytest.raises(PackageError, match=r"OverflowError|aten::new"):
        to_onnx(network(), patch=PATCH, channels=2)


@pytest.mark.parametrize(("labels", "features"), [(2, 3), (3, 4), (4, 4), (19, 4)])
def test_a_pointwise_head_of_many_classes_is_left_out_and_handed_on(labels: int, features: int) -> None:
    recipe = parse_recipe(
        {"model": {"name": "dynunet", "options": {"filters": [4, 8, 8]}}, "training": {"patch": list(PATCH)}}, name="r"
    )
    torch.manual_seed(0)
    net = build_network(recipe, channels=2, labels=labels)
    engine = OpenVINOEngine(to_onnx(net, patch=PATCH, channels=2), patch=PATCH, channels=2, precision="fp32")
    expected = TorchEngine(net, CPU, precision="fp32").run(patches())
    said = engine.run(patches())
    assert said.shape[1] == features
    assert (engine.pointwise is None) == (features == labels + 1)
    if engine.pointwise:
        said = np.stack([engine.pointwise.apply(values) for values in said])
    assert said.shape == expected.shape
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_what_openvino_says_of_a_patch_and_its_mirror_images_is_averaged_as_torch_does() -> None:
    net = network(norm="batch").eval()
    onnx = OpenVINOEngine(to_onnx(net, patch=PATCH, channels=2), patch=PATCH, channels=2, precision="fp32")
    image = np.concatenate([patches(1)[0], np.zeros((2, 40, 16, 8), np.float32)], axis=1)  # some windows are constant
    said, expected = (
        slide(engine, image, Tiling(PATCH, 0.5, flips=(0, 2)))
        for engine in (onnx, TorchEngine(net, CPU, precision="fp32"))
    )
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_a_network_whose_head_is_larger_than_a_voxel_says_logits() -> None:
    engine = OpenVINOEngine(to_onnx(network(), patch=PATCH, channels=2), patch=PATCH, channels=2)
    assert engine.pointwise is None


def test_bytes_that_are_no_network_are_an_error() -> None:
    with pytest.raises(PackageError, match="ONNX"):
        OpenVINOEngine(b"no network", patch=PATCH, channels=2)


def test_torch_learns_nothing_while_it_predicts_and_does_not_drop_out() -> None:
    engine = TorchEngine(nn.Sequential(nn.Conv3d(2, 2, 1), nn.Dropout(0.5)), CPU, precision="fp32")
    np.testing.assert_array_equal(engine.run(patches()), engine.run(patches()))


def test_torch_on_the_cpu_leaves_cores_when_it_takes_fewer_threads_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medseg.engine.torch.cores", lambda: 4)
    for threads, left in ((1, True), (3, True), (4, False), (8, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert TorchEngine(nn.Identity(), CPU).leaves_cores is left


def test_batches_of_many_labels_are_smaller() -> None:
    few, some, many = (TorchEngine(nn.Identity(), CPU, outputs=outputs).batch_voxels for outputs in (2, 16, 512))
    assert few == some == 32 * many


@pytest.mark.parametrize(("device", "waited"), [("cpu", []), ("cuda:1", ["cuda:1"]), ("mps", ["mps"])])
def test_torch_waits_for_the_device_that_the_network_is_on(
    device: str, waited: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda place: asked.append(str(place)))
    TorchEngine(nn.Identity(), torch.device(device), precision="fp32").wait()
    assert asked == waited


def test_a_compiled_network_is_compiled_for_each_size_of_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.append(next(len(tensor) for tensor in inputs if tensor.ndim == 5))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    engine = TorchEngine(nn.Upsample(scale_factor=2), CPU, precision="fp32", compiled=True)
    for count in (4, 3, 2, 4, 3):
        assert engine.run(patches(count)).shape == (count, 2, 32, 32, 16)
    assert compiled == [4, 3, 2]


@pytest.mark.parametrize(
    ("precision", "fast", "used"),
    [("fp32", True, False), ("bf16", False, True), ("auto", True, True), ("auto", False, False)],
)
def test_precision_means_bfloat16_where_asked_or_where_it_pays(
    precision: str, fast: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.engine.torch.multiplies_bf16", lambda device: fast)
    assert uses_bf16(precision, CPU) is used


# Which engine


def chosen(package: ModelPackage, **names: str) -> type[Engine]:
    return type(choose_engine(package, **names))


def test_a_trained_model_runs_in_openvino_on_the_cpu_and_in_torch_when_asked(package: ModelPackage) -> None:
    assert package.onnx
    assert chosen(package, device="cpu") is OpenVINOEngine
    assert chosen(package, device="cpu", engine="openvino") is OpenVINOEngine
    assert chosen(package, device="cpu", engine="torch") is TorchEngine


def test_a_model_without_an_onnx_network_runs_in_torch(package: ModelPackage) -> None:
    bare = replace(package, onnx=None)
    assert chosen(bare, device="cpu") is TorchEngine
    with pytest.raises(OptionError, match="has no ONNX network"):
        choose_engine(bare, device="cpu", engine="openvino")


def test_auto_asks_torch_for_a_gpu_only_where_there_may_be_one(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("medseg.device.choose_device", lambda name="auto": asked.append(name) or CPU)
    monkeypatch.setattr("medseg.segment.GPU_SIGNS", (str(tmp_path / "none"),))
    assert chosen(package) is OpenVINOEngine
    assert asked == []
    monkeypatch.setattr("medseg.segment.GPU_SIGNS", (*GPU_SIGNS, str(tmp_path)))
    assert chosen(package) is OpenVINOEngine
    assert asked == ["auto"]


@pytest.mark.parametrize(
    "sign",
    [
        "/dev/nvidiactl",
        "/dev/kfd",
        "/dev/dxg",
        "C:/Windows/System32/nvcuda.dll",
        "/System/Library/Frameworks/Metal.framework",
    ],
)
def test_torch_is_asked_wherever_a_system_shows_that_it_may_have_a_gpu(
    sign: str, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("medseg.device.choose_device", lambda name="auto": asked.append(name) or CPU)
    monkeypatch.setattr("medseg.segment.Path", lambda path: SimpleNamespace(exists=lambda: path == sign))
    choose_engine(package)
    assert asked == ["auto"]


class OnDevice(TorchEngine):
    """An engine that keeps tensors, as on a GPU."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), CPU)
        self.on_host = False


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory")], ids=repr
)
def test_zeros_that_a_device_has_no_room_for_lie_in_the_hosts_memory(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "zeros", full)
    np.testing.assert_array_equal(OnDevice().zeros((2, 3)), np.zeros((2, 3), np.float32))


def test_any_other_error_of_a_device_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        OnDevice().zeros((2, 3))


def test_an_unknown_engine_is_met_with_the_nearest_name(package: ModelPackage) -> None:
    with pytest.raises(UnknownNameError, match="openvino"):
        choose_engine(package, engine="openvno")


def test_openvino_on_a_gpu_is_refused(package: ModelPackage) -> None:
    with pytest.raises(OptionError, match="runs on the CPU"):
        choose_engine(package, engine="openvino", device="cuda")
