"""The command line: parse, one library call, print, exit code."""

from medseg.cli import commands
from medseg.cli.frame import Terminated, app, main, run

__all__ = ["Terminated", "app", "commands", "main", "run"]
