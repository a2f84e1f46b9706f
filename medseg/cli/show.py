"""What a command shows: results on standard output, everything else on standard error. The only file that prints."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.progress import Notify, Progress

# Without a terminal, a line this often is enough to see that work goes on.
SECONDS_BETWEEN_LINES = 20.0
# A case may be called CASE_1; a code stands by itself.
ERROR_CODE = re.compile(r"\bE_[A-Z]")


def shortened(names: list[str]) -> list[str]:
    """Return the names, or the first of many and how many more there are."""
    return names if len(names) <= 6 else [*names[:5], f"and {len(names) - 5} more"]


def put(text: str) -> None:
    """Print a line of the result."""
    print(text)


def say(text: str) -> None:
    """Print a message."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; None is left open."""
    return "" if value is None else f"{value:.{digits}f}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as the terminal, or as wide as it needs to be in a file."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False).print(table)


def print_summary(summary: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print scores with their denominators."""
    if as_json:
        print_json(summary)
        return

    def row(name: str, part: dict[str, Any]) -> list[str]:
        interval = part["dice"]["ci95"]
        return [
            name,
            *(number(part[score]["mean"]) for score in ("dice", "iou", "precision", "recall")),
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
            str(part["n"]),
            *(str(part[count]) for count in ("n_reference_empty", "n_prediction_empty", "n_both_empty")),
        ]

    rows = [row(name, part) for name, part in summary["labels"].items()]
    print_table(
        title,
        [
            "label",
            "Dice",
            "IoU",
            "precision",
            "recall",
            "Dice 95 % CI",
            "n",
            "no reference",
            "no prediction",
            "neither",
        ],
        [*rows, row("all", summary["overall"])],
    )


@contextmanager
def reporting(quiet: bool) -> "Iterator[Notify]":
    """Give a function that shows progress: a bar on a terminal, lines elsewhere, with --quiet only what went wrong."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines(quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def show(progress: "Progress") -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, note="")
            task = tasks[progress.stage]
            bar.update(task, completed=progress.done, total=progress.total or None)
            if progress.note:
                bar.update(task, note=progress.note)
            if progress.message:
                bar.console.print(progress.message, highlight=False, markup=False)

        yield show


class _Lines:
    """Shows progress as plain lines, now and then."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        """Say a message at once, and mere progress when it is time."""
        if progress.message and (not self._quiet or ERROR_CODE.search(progress.message)):
            say(progress.message)
        elif not self._quiet and time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            of = f" of {progress.total}" if progress.total else ""
            say(f"{progress.stage} {progress.done}{of}{', ' * bool(progress.note)}{progress.note}")
            self._last = time.monotonic()
