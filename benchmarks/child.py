"""Child: one program as a whole process, with the seconds and the memory it took by its parent's reckoning."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# What ru_maxrss counts in.
RSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Child:
    """What became of a process.

    Attributes:
        seconds: from before it was started until it was gone.
        peak_mb: the most memory it held at once (resident), in MB of 10⁶ bytes.
        failure: why it did not end well, None when it did.
    """

    seconds: float
    peak_mb: float
    failure: str | None


def run(
    command: Sequence[str | Path], *, log: Path, address_gb: float | None = None, limit_s: float | None = None
) -> Child:
    """Run a program to its end.

    It finds the time of its start in BENCHMARK_BEGAN, and compiled bytecode where an earlier one left it. Its peak is
    at least its parent's own up to then, because the kernel hands that on: a parent keeps itself small.

    Args:
        command: the program and its arguments.
        log: where its output goes.
        address_gb: how much address space it may have (Linux only), so that a greedy one fails alone.
        limit_s: the seconds after which it is killed, with all that it started.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["BENCHMARK_BEGAN"] = repr(time.time())
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        began = time.perf_counter()
        group = 0 if limit_s else None
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, process_group=group
        )
        if address_gb and sys.platform.startswith("linux"):
            limit = int(address_gb * 1e9)
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        with _limited(process.pid, limit_s):
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    return Child(seconds, usage.ru_maxrss * RSS_BYTES / 1e6, _failure(process.returncode, log))


@contextmanager
def _limited(group: int, limit_s: float | None) -> Iterator[None]:
    """Kill a group of processes when the block takes too long or is broken off, and what is left of it afterwards."""
    if limit_s is None:
        yield
        return

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)

    timer = threading.Timer(limit_s, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        kill()


def _failure(returncode: int, log: Path) -> str | None:
    """Return the last line that a failed process wrote."""
    if returncode == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit {returncode}: {lines[-1].strip()[:200] if lines else 'no output'}"


def installed_gb() -> float:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
