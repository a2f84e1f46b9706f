"""A signal ends a command in order at any moment: as it starts, amid an import, at work, and as it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SIGNALS = pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def python(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, in a folder."""
    (folder / "script.py").write_text(textwrap.dedent(script), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[1]}"}
    # These tests may run in the background, where Ctrl-C is ignored, and processes inherit that.
    kept = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        command = [sys.executable, folder / "script.py"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder)
    finally:
        signal.signal(signal.SIGINT, kept)


def ended_well(done: subprocess.CompletedProcess[str], code: int) -> None:
    """Check the exit code, and that one sentence says it."""
    word = "Interrupted" if code == 130 else "Terminated"
    assert (done.returncode, done.stderr) == (code, f"{word}. What was finished is kept.\n")


@SIGNALS
def test_before_the_work_it_ends_at_once(tmp_path: Path, how: int, code: int) -> None:
    script = f"""
        import os
        from medseg.interrupt import listen
        listen()
        os.kill(os.getpid(), {how})
        print("still here")
    """
    done = python(tmp_path, script)
    ended_well(done, code)
    assert done.stdout == ""


@SIGNALS
def test_amid_an_import_it_ends_at_once(tmp_path: Path, how: int, code: int) -> None:
    (tmp_path / "library.py").write_text(
        f"import os\ntry:\n    os.kill(os.getpid(), {how})\nexcept BaseException:\n    pass"
    )
    script = """
        from medseg.interrupt import listen, working
        listen()
        with working():
            import library
    """
    ended_well(python(tmp_path, script), code)


@SIGNALS
def test_work_is_ended_by_one_exception_and_more_signals_change_nothing(tmp_path: Path, how: int, code: int) -> None:
    script = f"""
        import os, signal, sys
        from medseg.interrupt import Terminated, listen, working
        listen()
        try:
            with working():
                try:
                    os.kill(os.getpid(), {how})
                finally:
                    for number in (signal.SIGINT, signal.SIGTERM):
                        os.kill(os.getpid(), number)
                    print("finished")
        except (KeyboardInterrupt, Terminated) as stop:
            print(type(stop).__name__)
        os.kill(os.getpid(), signal.SIGINT)
        sys.exit({code})
    """
    done = python(tmp_path, script)
    assert done.stdout.split() == ["finished", "KeyboardInterrupt" if code == 130 else "Terminated"]
    assert (done.returncode, done.stderr) == (code, "")


def test_a_second_ctrl_c_after_a_while_counts_again(tmp_path: Path) -> None:
    script = """
        import os, signal
        from medseg import interrupt
        interrupt.GRACE_SECONDS = 0.0
        interrupt.listen()
        with interrupt.working():
            for _ in range(2):
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:
                    print("raised")
    """
    assert python(tmp_path, script).stdout.split() == ["raised", "raised"]


def test_a_command_in_the_background_that_ignores_ctrl_c_goes_on(tmp_path: Path) -> None:
    script = """
        import os, signal
        from medseg.interrupt import listen
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        listen()
        os.kill(os.getpid(), signal.SIGINT)
        print("still here")
    """
    assert python(tmp_path, script).stdout == "still here\n"


@SIGNALS
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_a_command_that_starts_up_ends_with_its_code_and_no_trace(how: int, code: int, seconds: float) -> None:
    listening = "import sys; from medseg.__main__ import listen; listen(); print(flush=True); "
    starting = f"{listening} import time; time.sleep(0.01); from medseg.__main__ import run; "
    script = f"{starting} sys.argv = ['medseg', 'predict', 'nowhere', 'nothing', '--out', 'out']; import torch; run()"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout
    child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(how)
    _, said = child.communicate(timeout=60)
    if child.returncode in (1, 2):  # it was faster
        pytest.skip("it had ended before the signal")
    assert (child.returncode, "Traceback" in said) == (code, False)


@SIGNALS
def test_a_signal_waits_for_what_must_not_be_torn(tmp_path: Path, how: int, code: int) -> None:
    script = f"""
        import os
        from medseg.interrupt import Terminated, held, listen, pending, working
        listen()
        try:
            with working():
                with held():
                    print(pending())
                    os.kill(os.getpid(), {how})
                    os.kill(os.getpid(), {how})
                    print(pending())
                print("never here")
        except (KeyboardInterrupt, Terminated) as stop:
            print(type(stop).__name__, pending())
    """
    said = python(tmp_path, script).stdout.splitlines()
    assert said == ["0", f"{code}", f"{'KeyboardInterrupt' if code == 130 else 'Terminated'} 0"]


def test_who_signals_again_after_a_while_does_not_wait(tmp_path: Path) -> None:
    script = """
        import os, signal
        from medseg import interrupt
        interrupt.GRACE_SECONDS = 0.0
        interrupt.listen()
        try:
            with interrupt.working(), interrupt.held():
                os.kill(os.getpid(), signal.SIGINT)
                print("waited")
                os.kill(os.getpid(), signal.SIGINT)
                print("never here")
        except KeyboardInterrupt:
            print("raised")
    """
    assert python(tmp_path, script).stdout.split() == ["waited", "raised"]
