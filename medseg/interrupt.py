"""Interrupt: how Ctrl-C and SIGTERM end a command, whatever it is at.

It imports next to nothing, so that it can listen before the libraries are imported.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
SAID = {INTERRUPTED: "Interrupted. What was finished is kept.", TERMINATED: "Terminated. What was finished is kept."}
# Who presses Ctrl-C twice means one end; who presses it again later has waited for the end in vain.
GRACE_SECONDS = 10.0


class Terminated(BaseException):
    """SIGTERM came."""


class _State:
    working = False
    held = False
    pending = 0
    stopped_at: float | None = None


def listen() -> None:
    """Let Ctrl-C and SIGTERM end this process in order from now on: at once, or, while it works, by an exception.

    Ctrl-C that the process was started to ignore, as in the background, stays ignored.
    """
    _State.working, _State.held, _State.pending, _State.stopped_at = False, False, 0, None
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


@contextmanager
def working() -> Iterator[None]:
    """Have the block ended by KeyboardInterrupt or Terminated; once it has ended, further signals change nothing."""
    _State.working = True
    try:
        yield
    finally:
        _State.working = False
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is _stop:
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Have a signal wait while the block, which must not be torn, does its work, and raise it when that has ended.

    A block that takes long asks `pending` now and then. Who signals again after a while does not wait: that is raised
    where the block is. Blocks of this kind do not lie within each other.
    """
    _State.held, _State.pending = True, 0
    try:
        yield
    finally:
        _State.held = False
    if _State.pending:
        stop(_State.pending)


def pending() -> int:
    """Return the exit code that a signal asked for within this block, 0 where none came."""
    return _State.pending


def stop(code: int) -> NoReturn:
    """Raise what a signal of this exit code raises."""
    _State.pending = 0
    raise KeyboardInterrupt if code == INTERRUPTED else Terminated


def _stop(number: int, frame: FrameType | None) -> None:
    """End the process, or raise in the block that works; not amid an import, which libraries in C++ do not survive."""
    code = INTERRUPTED if number == signal.SIGINT else TERMINATED
    if not _State.working or (not _State.held and _imports(frame)):
        os.write(2, f"{SAID[code]}\n".encode())
        os._exit(code)
    now = time.monotonic()
    if _State.stopped_at is not None and now - _State.stopped_at < GRACE_SECONDS:
        return
    first, _State.stopped_at = _State.stopped_at is None, now
    if _State.held and first:
        _State.pending = code
        return
    stop(code)


def _imports(frame: FrameType | None) -> bool:
    """Say whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False
