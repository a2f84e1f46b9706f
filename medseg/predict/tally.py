"""Tally: how far a cohort is, and how long the rest will take."""

import time

from medseg.predict.case_result import CaseResult
from medseg.progress import Notify, Progress


class Tally:
    """Counts cases and tells of them.

    Args:
        total: how many cases there are.
        skipped: how many of them need not be done.
        notify: hears of each finished or failed case.
    """

    def __init__(self, total: int, *, skipped: int, notify: Notify) -> None:
        self._total, self._skipped, self._notify = total, skipped, notify
        self._done = self._failed = 0
        self._started = time.perf_counter()
        notify(Progress("predict", skipped, total, note=f"{skipped} done before" if skipped else ""))

    def add(self, result: CaseResult) -> None:
        """Count a case, and say its warnings and its error."""
        self._done += 1
        self._failed += result.failed
        done = self._skipped + self._done
        for message in result.messages():
            self._notify(Progress("predict", done, self._total, message=message))
        left = (time.perf_counter() - self._started) / self._done * (self._total - done)
        note = f"{self._failed} failed, {duration(left)} left"
        self._notify(Progress("predict", done, self._total, note=note))


def duration(seconds: float) -> str:
    """Return a time as people say it: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
