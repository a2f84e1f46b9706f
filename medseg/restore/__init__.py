"""Restore: from logits on the prepared grid to labels on the scan's own."""

from medseg.restore.restorer import Restorer, restore

__all__ = ["Restorer", "restore"]
