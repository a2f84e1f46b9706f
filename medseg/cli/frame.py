"""What every command shares: the app, the exit codes, and how a command ends."""

import functools
import inspect
import io
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from medseg import __version__
from medseg.across import rank
from medseg.cli.show import put, say
from medseg.errors import MedsegError, UnexpectedError, UsageError
from medseg.interrupt import INTERRUPTED, SAID, TERMINATED, Terminated, listen, working

DONE, FAILED, USAGE = 0, 1, 2

app = typer.Typer(
    name="medseg",
    help="Train, run and judge medical image segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _medseg(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        put(f"medseg {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed in part or whole, 2 usage, 130 Ctrl-C, 143 SIGTERM."""
    try:
        app(args=list(argv) if argv is not None else None, prog_name="medseg")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt:
        return _stopped(INTERRUPTED)
    except Terminated:
        return _stopped(TERMINATED)
    return DONE


def run() -> NoReturn:
    """Run the command line of this process."""
    listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the work
    sys.exit(main())


def _stopped(code: int, *, resumable: bool = False) -> int:
    """Say, in one of the processes, that a signal ended the command, and return its exit code."""
    if rank() == 0:
        say(f"{SAID[code]}{' The same command with --resume goes on from there.' * resumable}")
    return code


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Turn a command's result, and what it raises, into the exit code."""
    resumable = "resume" in inspect.signature(function).parameters

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            with working():
                code = function(*args, **options)
        except MedsegError as error:
            say(f"{error.code} {error}")
            code = USAGE if isinstance(error, UsageError) else FAILED
        except KeyboardInterrupt:
            code = _stopped(INTERRUPTED, resumable=resumable)
        except Terminated:
            code = _stopped(TERMINATED, resumable=resumable)
        except Exception as error:  # what nobody foresaw keeps its trace, for the report, and ends like any other error
            traceback.print_exc()
            remedy = "please report this with the lines above"
            say(f"{UnexpectedError.code} {UnexpectedError(type(error).__name__, found=str(error), remedy=remedy)}")
            code = FAILED
        raise typer.Exit(code)

    # A terminal breaks lines where it ends, and not where the source does.
    guarded.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
    return guarded
