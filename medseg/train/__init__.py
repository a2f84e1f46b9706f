"""Train a network on a dataset, as a recipe says."""

from medseg.train.train import TrainingResult, train

__all__ = ["TrainingResult", "train"]
