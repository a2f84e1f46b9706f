"""Losses, by name: each takes logits, (B, L, *patch), and what is known of their target, to one number."""

from medseg.losses.losses import LOSSES, build_loss
from medseg.losses.reconstruction import masked_mse
from medseg.losses.target import Target

__all__ = ["LOSSES", "Target", "build_loss", "masked_mse"]
