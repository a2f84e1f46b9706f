"""Boxes of voxels: drawn at random to train on, laid side by side to predict with."""

from medseg.patches.sample import draw_patch
from medseg.patches.slide import slide

__all__ = ["draw_patch", "slide"]
