"""Score label maps against references."""

from medseg.evaluate.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
