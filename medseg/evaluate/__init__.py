"""Score label maps against references."""

from medseg.evaluate.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
