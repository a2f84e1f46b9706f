"""The OpenVINO engine: an ONNX network on the CPU, without torch."""

from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.axes import Sides
from medseg.engine.engine import Engine
from medseg.errors import PackageError
from medseg.pointwise import Pointwise


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
            self.pointwise = self._cut_pointwise()
        except RuntimeError as error:
            raise PackageError(
                "loading the model's ONNX network",
                found=str(error).strip().splitlines()[-1],
                remedy="predict with --engine torch, or train or download the package again",
            ) from error
        self.bf16 = precision == "bf16" or (precision == "auto" and self._multiplies_bf16())

    def _cut_pointwise(self) -> Pointwise | None:
        """Leave out the network's last operation and return it, where that is a 1×1×1 convolution of few features.

        What follows (averaging, interpolating) then has so many features to do and not so many classes.
        """
        import openvino

        add = self._model.output(0).get_node().input_value(0)
        convolution, bias = (add.get_node().input_value(place) for place in (0, 1)) if _is(add, "Add") else (add, None)
        if not _is(convolution, "Convolution"):
            return None
        features, kernel = (convolution.get_node().input_value(place) for place in (0, 1))
        weight = _constant(kernel)
        shift = np.zeros(1, np.float32) if bias is None else _constant(bias)
        if weight is None or shift is None or set(weight.shape[2:]) != {1} or weight.shape[0] <= weight.shape[1]:
            return None
        if features.get_partial_shape()[1].get_length() != weight.shape[1]:
            return None
        self._model = openvino.Model([features], self._model.get_parameters())
        weight = weight.reshape(weight.shape[:2]).astype(np.float32)
        return Pointwise(weight, np.broadcast_to(shift.ravel(), len(weight)).astype(np.float32))

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
        """Take patches to what the network says of them; of a single one, it stands there until the next run."""
        if len(patches) == 1:
            return np.asarray(self._compiled(np.ascontiguousarray(patches), share_outputs=True)[0])
        return np.concatenate([self._compiled(np.ascontiguousarray(patch[None]))[0] for patch in patches])


def _is(output: Any, operation: str) -> bool:
    return bool(output.get_node().get_type_name() == operation)


def _constant(output: Any) -> NDArray[Any] | None:
    """Return the value of an operation that is the same for every image; None where it is not."""
    node = output.get_node()
    if node.get_type_name() in ("Convert", "Reshape"):
        inner = _constant(node.input_value(0))
        return None if inner is None else inner.reshape(tuple(output.get_shape()))
    return np.array(node.get_data()) if node.get_type_name() == "Constant" else None
