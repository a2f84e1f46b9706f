"""Ladder: the times of a training at which its weights are looked at, on a clock that stands still meanwhile."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class OutOfTimeError(Exception):
    """The last rung has been reached."""


class Ladder:
    """Rungs at minutes of training, counted from before the process was started: importing and preparing is in them.

    At each rung the clock stops, the held-out cases are predicted, and the clock goes on. A rung is looked at after the
    step during which its time came, so at most a step late. Processes that draw patches fill their queues meanwhile,
    which is a few steps' worth, in favour of the training.

    Args:
        minutes: the rungs, ascending.
        folder: gets a folder of label maps for each rung, and `ladder.jsonl` with a line for each.
        predict: writes the held-out cases' label maps, CASE.nii.gz, into the folder it is given.
    """

    def __init__(self, minutes: Sequence[float], folder: Path, predict: Callable[[Path], None]) -> None:
        self._began = float(os.environ.get("BENCHMARK_BEGAN", time.time()))
        self._stood = 0.0
        self._rungs = list(minutes)
        self._last = 60 * minutes[-1]
        self._folder = folder
        self._predict = predict

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.time() - self._began - self._stood

    @property
    def left(self) -> float:
        """The part of the time that is left, 1 to 0."""
        return max(0.0, 1 - self.seconds / self._last)

    def begin(self) -> None:
        """Leave out the rungs that went by before the first step: there was nothing to look at.

        Raises:
            OutOfTimeError: that is all of them.
        """
        self._pass(self.seconds)
        print(f"{self.seconds:.1f} s until the first step", flush=True)
        if not self._rungs:
            raise OutOfTimeError

    def climb(self, steps: int) -> None:
        """Look at the weights when a rung is due.

        Args:
            steps: of the optimiser so far.

        Raises:
            OutOfTimeError: it was the last rung.
        """
        seconds = self.seconds
        minutes = self._pass(seconds)
        if minutes is None:
            return
        stopped = time.time()
        folder = self._folder / f"{minutes:g}"
        folder.mkdir(parents=True)
        self._predict(folder)
        line = {"minutes": minutes, "seconds": round(seconds, 2), "steps": steps}
        with (self._folder / "ladder.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._stood += time.time() - stopped
        print(f"rung {line}, {time.time() - stopped:.1f} s to predict", flush=True)
        if not self._rungs:
            raise OutOfTimeError

    def _pass(self, seconds: float) -> float | None:
        """Take away the rungs up to here, and return the highest of them, or None."""
        passed = None
        while self._rungs and seconds >= 60 * self._rungs[0]:
            passed = self._rungs.pop(0)
        return passed
