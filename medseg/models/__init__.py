"""Networks, 2D and 3D, behind one dict; each takes (B, C, *patch) to logits (B, labels, *patch) in every mode."""

from medseg.models.build import build_network, build_with_outputs, parameter_count
from medseg.models.export import to_onnx
from medseg.models.layout import channels_last, for_training
from medseg.models.networks import ENCODERS, MODELS, in_encoder
from medseg.models.transfer import Ends, Transfer, transfer
from medseg.models.weights import load_weights, pack, unpack, weights_of

__all__ = [
    "ENCODERS",
    "MODELS",
    "Ends",
    "Transfer",
    "build_network",
    "build_with_outputs",
    "channels_last",
    "for_training",
    "in_encoder",
    "load_weights",
    "pack",
    "parameter_count",
    "to_onnx",
    "transfer",
    "unpack",
    "weights_of",
]
