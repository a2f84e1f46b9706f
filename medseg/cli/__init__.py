"""The command line, a file for each command: parse, one library call, show the result, exit code.

Commands import libraries inside, so that help and usage errors come at once.
"""

from medseg.cli import demo, train, pretrain, plan, predict, evaluate, overlay, data  # isort: skip  # help lists them so
from medseg.cli.frame import app, main, run
from medseg.interrupt import Terminated

__all__ = [
    "Terminated",
    "app",
    "data",
    "demo",
    "evaluate",
    "main",
    "overlay",
    "plan",
    "predict",
    "pretrain",
    "run",
    "train",
]
