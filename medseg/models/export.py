"""Export a network to ONNX, for engines that need no torch."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from torch import nn

from medseg.axes import Sides
from medseg.errors import PackageError

# Its operators have one meaning in every runtime of 2024 and later.
OPSET = 20


def to_onnx(network: nn.Module, *, patch: Sides, channels: int) -> bytes:
    """Return a network with its weights as an ONNX model: (1, C, *patch) to (1, L, *patch), float32.

    Args:
        network: on any device; it is left as it is.
        patch: its window, in voxels.
        channels: of the image.

    Raises:
        PackageError: the exporter does not know one of its operations, or fails in another way.
    """
    device = next(network.parameters()).device
    training = network.training
    example = torch.zeros((1, channels, *patch), device=device)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(network.eval(), (example,), dynamo=True, opset_version=OPSET, verbose=False)
            assert program is not None
            return bytes(program.model_proto.SerializeToString())
    except Exception as error:  # whatever the exporter stumbles over must not cost the training whose end this is
        raise PackageError(
            "exporting the network to ONNX",
            found=str(error).strip().partition("\n")[0] or type(error).__name__,
            remedy="predict with it through torch, which needs no export",
        ) from error
    finally:
        network.train(training)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on other libraries, and its progress, off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
