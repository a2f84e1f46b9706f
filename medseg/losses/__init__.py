"""Losses, by name: each takes logits and one-hot or region targets, both (B, L, *patch), to one number."""

from medseg.losses.losses import LOSSES, build_loss

__all__ = ["LOSSES", "build_loss"]
