"""Look datasets and scans over before training and predicting."""

from medseg.check.finding import Finding
from medseg.check.preflight import Checked, check

__all__ = ["Checked", "Finding", "check"]
