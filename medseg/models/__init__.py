"""Networks, 2D and 3D, behind one dict; each takes (B, C, *patch) to logits (B, labels, *patch) in every mode."""

from medseg.models.build import build_network, parameter_count
from medseg.models.export import to_onnx
from medseg.models.networks import MODELS
from medseg.models.weights import load_weights, pack, unpack, weights_of

__all__ = ["MODELS", "build_network", "load_weights", "pack", "parameter_count", "to_onnx", "unpack", "weights_of"]
