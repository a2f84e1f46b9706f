"""Interrupt: how Ctrl-C and SIGTERM end a command, whatever it is at.

It imports next to nothing, so that it can listen before the libraries are imported.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
SAID = {INTERRUPTED: "Interrupted. What was finished is kept.", TERMINATED: "Terminated. What was finished is kept."}
# Who presses Ctrl-C twice means one end; who presses it again later has waited for the end in vain.
GRACE_SECONDS = 10.0


class Terminated(BaseException):
    """SIGTERM came."""


class _State:
    working = False
    stopped_at: float | None = None


def listen() -> None:
    """Let Ctrl-C and SIGTERM end this process in order from now on: at once, or, while it works, by an exception.

    Ctrl-C that the process was started to ignore, as in the background, stays ignored.
    """
    _State.working, _State.stopped_at = False, None
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


def _stop(number: int, frame: FrameType | None) -> None:
    """End the process, or raise in the block that works; not amid an import, which libraries in C++ do not survive."""
    code = INTERRUPTED if number == signal.SIGINT else TERMINATED
    if not _State.working or _imports(frame):
        os.write(2, f"{SAID[code]}\n".encode())
        os._exit(code)
    now = time.monotonic()
    if _State.stopped_at is not None and now - _State.stopped_at < GRACE_SECONDS:
        return
    _State.stopped_at = now
    raise KeyboardInterrupt if code == INTERRUPTED else Terminated


def _imports(frame: FrameType | None) -> bool:
    """Say whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False
