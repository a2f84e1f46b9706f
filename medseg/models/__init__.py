"""Networks, 2D and 3D, behind one dict; each takes (B, C, *patch) to logits (B, labels, *patch) in every mode."""

from medseg.models.build import build_network, parameter_count
from medseg.models.networks import MODELS
from medseg.models.weights import load_weights, weights_of

__all__ = ["MODELS", "build_network", "load_weights", "parameter_count", "weights_of"]
