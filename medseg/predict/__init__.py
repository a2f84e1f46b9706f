"""Segment scans with a model package, a folder of them with one load of the model."""

from medseg.predict.cohort import CaseResult, find_cases, predict

__all__ = ["CaseResult", "find_cases", "predict"]
