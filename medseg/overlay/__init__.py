"""Report: what a human looks at, pictures first."""

from medseg.overlay.overlay import draw_overlay, write_overlay

__all__ = ["draw_overlay", "write_overlay"]
