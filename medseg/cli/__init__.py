"""The command line: parse, one library call, print, exit code."""

from medseg.cli import commands
from medseg.cli.frame import app, main, run
from medseg.interrupt import Terminated

__all__ = ["Terminated", "app", "commands", "main", "run"]
