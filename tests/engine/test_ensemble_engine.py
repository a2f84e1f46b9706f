"""Facts about the ensemble engine: it says the mean of what its networks say, by logits or by features."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from medseg.engine import Engine, EnsembleEngine, OpenVINOEngine
from medseg.engine.torch import TorchEngine
from medseg.models import build_network, to_onnx
from medseg.patches import Tiling, slabs, slide
from medseg.recipe import parse_recipe

CPU = torch.device("cpu")
PATCH = (16, 16, 8)


def network(seed: int, *, labels: int) -> nn.Module:
    """A network whose last operation is a 1×1×1 convolution of eight features."""
    model = {"name": "dynunet", "options": {"filters": [8, 8, 8]}}
    recipe = parse_recipe({"model": model, "training": {"patch": list(PATCH)}}, name="r")
    torch.manual_seed(seed)
    return build_network(recipe, channels=1, labels=labels)


def engines(kind: str, *, labels: int, count: int = 3) -> list[Engine]:
    networks = [network(seed, labels=labels) for seed in range(count)]
    if kind == "torch":
        return [TorchEngine(one, CPU, precision="fp32") for one in networks]
    onnx = [to_onnx(one, patch=PATCH, channels=1) for one in networks]
    return [OpenVINOEngine(one, patch=PATCH, channels=1, precision="fp32") for one in onnx]


def patches(count: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 1, *PATCH), np.float32)


def logits(engine: Engine, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    said = engine.run(batch).copy()
    return np.stack([engine.pointwise.apply(one) for one in said]) if engine.pointwise else said


@pytest.mark.parametrize("labels", [1, 12, 40], ids=["logits", "some have features", "features"])
@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_it_says_the_mean_of_the_logits(kind: str, labels: int) -> None:
    own = engines(kind, labels=labels)
    together = EnsembleEngine(own)
    # Three times eight features pay for 41 logits. They do not for 13, although each network has features then.
    assert (together.pointwise is not None) == (kind == "openvino" and labels == 40)
    expected = np.mean([logits(engine, patches()) for engine in own], axis=0)
    np.testing.assert_allclose(logits(together, patches()), expected, atol=1e-4)


def test_it_waits_for_the_device_that_its_networks_are_on() -> None:
    first, second = engines("torch", labels=1, count=2)
    waited: list[Engine] = []
    first.wait = lambda: waited.append(first)  # type: ignore[method-assign]
    EnsembleEngine([first, second]).wait()
    assert waited == [first]


def test_what_it_said_of_one_patch_stays_when_it_is_asked_of_the_next() -> None:
    together = EnsembleEngine(engines("openvino", labels=1, count=2))
    first = together.run(patches(1))
    before = first.copy()
    together.run(1 - patches(1))
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_a_volume_in_windows_with_flips_is_the_mean_too(kind: str) -> None:
    own = engines(kind, labels=2, count=2)
    image = np.random.default_rng(1).random((1, 21, 16, 13), np.float32)
    image[:, :16] = 0.25  # windows that hold one value are asked once
    tiling = Tiling(patch=PATCH, overlap=0.5, flips=(0, 2))
    expected = np.mean([slide(engine, image, tiling) for engine in own], axis=0)
    np.testing.assert_allclose(slide(EnsembleEngine(own), image, tiling), expected, atol=1e-4)


def test_an_ensemble_that_keeps_tensors_on_its_device_gives_tensors() -> None:
    own = engines("torch", labels=1, count=2)
    for engine in own:
        engine.on_host = False
    image = np.random.default_rng(1).random((1, 18, 16, 9), np.float32)
    tiling = Tiling(patch=PATCH, overlap=0.5)
    found = [slab.values for slab in slabs(EnsembleEngine(own), image, tiling)]
    assert all(isinstance(values, torch.Tensor) for values in found)
