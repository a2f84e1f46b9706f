"""Vary training patches, so that a model learns the organ and not the scan."""

from medseg.augment.augment import Augmenter

__all__ = ["Augmenter"]
