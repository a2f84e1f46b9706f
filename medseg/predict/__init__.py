"""Segment scans with a model package, a folder of them with one load of the model."""

from medseg.predict.case_result import CaseResult
from medseg.predict.cases import Case, Cases, find_cases
from medseg.predict.cohort import predict
from medseg.predict.formats import FORMATS, chosen_formats
from medseg.predict.settings import Settings
from medseg.predict.shard import Shard

__all__ = ["FORMATS", "Case", "CaseResult", "Cases", "Settings", "Shard", "chosen_formats", "find_cases", "predict"]
