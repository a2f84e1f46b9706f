"""Scores of a prediction against its reference, one case at a time, and what they say together."""

from medseg.metrics.overlap import CaseScore, score_label_map
from medseg.metrics.summary import summarise
from medseg.metrics.table import read_metrics, write_metrics

__all__ = ["CaseScore", "read_metrics", "score_label_map", "summarise", "write_metrics"]
