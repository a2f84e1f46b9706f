"""Boxes of voxels: drawn at random to train on, laid side by side to predict with."""

from medseg.patches.sample import draw_patch
from medseg.patches.scratch import Scratch
from medseg.patches.slide import Slab, slabs, slide
from medseg.patches.windows import Tiling

__all__ = ["Scratch", "Slab", "Tiling", "draw_patch", "slabs", "slide"]
