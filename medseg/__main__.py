"""`python -m medseg` is `medseg`."""

from medseg.cli import run

run()
