"""Progress: what a verb tells its caller while it works. The verbs never print."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage of a verb has come.

    Attributes:
        stage: "prepare", "train", "validate", "predict", "evaluate"…
        done: steps or cases finished.
        total: how many there are.
        note: what is worth saying now: a loss, a score, a case id.
        message: a line to keep, such as the code of a failed case; empty for mere progress.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    message: str = ""


Notify = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Tell nobody."""
