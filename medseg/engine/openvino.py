"""The OpenVINO engine: an ONNX network on the CPU, without torch."""

from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.engine.engine import Engine
from medseg.errors import PackageError


@cache
def core() -> Any:
    """Return OpenVINO's core, one for the whole process.

    With the last core its plugin for the CPU is unloaded, under the feet of threads that are still in it.
    """
    import openvino

    return openvino.Core()


class OpenVINOEngine(Engine):
    """Runs a network that was exported to ONNX.

    Args:
        onnx: the network, whose input is (B, C, *patch).
        patch: its window, in voxels.
        channels: of the image.
        precision: "auto" multiplies in bfloat16 where the processor does so in hardware; "bf16", "fp32".

    Raises:
        PackageError: OpenVINO cannot read the network.
    """

    name = "openvino"
    batch_voxels = 1  # a window at a time: more in one pass is no faster on a CPU, and holds more memory

    def __init__(self, onnx: bytes, *, patch: Sides, channels: int, precision: str = "auto") -> None:
        self._onnx = onnx  # the network reads its weights where they are
        self._core = core()
        try:
            self._model = self._core.read_model(onnx)
            self._model.reshape([1, channels, *patch])
        except RuntimeError as error:
            raise PackageError(
                "loading the model's ONNX network",
                found=str(error).strip().splitlines()[-1],
                remedy="predict with --engine torch, or train or download the package again",
            ) from error
        self.bf16 = precision == "bf16" or (precision == "auto" and self._multiplies_bf16())

    def _multiplies_bf16(self) -> bool:
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    @cached_property
    def _compiled(self) -> Any:
        """The network made ready for this processor, at the first patch: that takes 0.1 s."""
        hints = {"INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32", "PERFORMANCE_HINT": "LATENCY"}
        if any(operation.get_type_name() == "Softmax" for operation in self._model.get_ops()):
            hints["SNIPPETS_MODE"] = "DISABLE"  # which fuse small attention heads (OpenVINO 2026.4) to other numbers
        return self._core.compile_model(self._model, "CPU", hints)

    def run(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take patches to what the network says of them."""
        results = [self._compiled(np.ascontiguousarray(patch[None]))[0] for patch in patches]
        return np.concatenate(results) if len(results) > 1 else np.asarray(results[0])
