"""Train a network on a dataset, as a recipe says, or pretrain it on scans without labels."""

from medseg.train.folds import train_folds
from medseg.train.pretraining import PretrainingResult, pretrain
from medseg.train.scans import find_scans
from medseg.train.starting import Start
from medseg.train.training import TrainingResult, train

__all__ = ["PretrainingResult", "Start", "TrainingResult", "find_scans", "pretrain", "train", "train_folds"]
