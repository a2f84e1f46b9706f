"""Train a network on a dataset, as a recipe says."""

from medseg.train.training import TrainingResult, train

__all__ = ["TrainingResult", "train"]
