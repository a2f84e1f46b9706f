"""Look a dataset over before training on it."""

from medseg.check.findings import Finding, check_dataset

__all__ = ["Finding", "check_dataset"]
