"""From a scan's own grid and intensities to those the network sees, and a cache of cases so prepared."""

from medseg.preprocess.cache import prepare_case, prepare_scan
from medseg.preprocess.prepare import prepare

__all__ = ["prepare", "prepare_case", "prepare_scan"]
