"""Copies of the test's process, which have everything imported, to be killed, signalled or connected."""

import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path


def start(work: Callable[[], int | None], *, said: Path, **environment: str) -> int:
    """Have a copy of this process do some work; return the copy's id.

    Args:
        work: returns the copy's exit code, or None for 0. What it raises makes that 70.
        said: the file that standard output and standard error go to.
        environment: variables that the copy has besides.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads, of which none is in use
        child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(environment)
        sys.stdout = sys.stderr = said.open("w", buffering=1, encoding="utf-8")
        code = work() or 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 71
    except BaseException:  # told to the test by the code and the file
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def side_by_side(work: Callable[[], int | None], *, said: Path, count: int = 2) -> list[int]:
    """Have copies do some work as torchrun starts them; return their ids. Process n says it in the file `said`.n."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(work, said=said.with_name(f"{said.name}.{rank}"), RANK=str(rank), LOCAL_RANK=str(rank), **group)
        for rank in range(count)
    ]


def ended(child: int) -> int | None:
    """Return the exit code of a copy, negative for the signal that ended it, or None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def wait(child: int, *, until: float = 60.0) -> int:
    """Return the exit code of a copy, once it has one."""
    give_up = time.monotonic() + until
    while (code := ended(child)) is None:
        if time.monotonic() > give_up:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("it hangs")
        time.sleep(0.005)
    return code
