"""Pages that people open: scores and overlays, self-contained."""

from medseg.report.page import write_page

__all__ = ["write_page"]
