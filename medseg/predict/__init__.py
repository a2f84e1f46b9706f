"""Segment scans with a model package, a folder of them with one load of the model."""

from medseg.predict.case_result import CaseResult
from medseg.predict.cohort import predict
from medseg.predict.formats import FORMATS, chosen_formats
from medseg.predict.key import kept_key, new_key
from medseg.predict.settings import Settings

__all__ = ["FORMATS", "CaseResult", "Settings", "chosen_formats", "kept_key", "new_key", "predict"]
