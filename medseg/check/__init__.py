"""Look a dataset over before training on it."""

from medseg.check.check import Finding, check_dataset

__all__ = ["Finding", "check_dataset"]
