"""What a command shows: results on standard output, everything else on standard error. The only file that prints."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from medseg.progress import Notify, Progress

# Without a terminal, a line this often is enough to see that work goes on.
SECONDS_BETWEEN_LINES = 20.0
# A case may be called CASE_1; a code stands by itself.
ERROR_CODE = re.compile(r"\bE_[A-Z]")
# What a table may take where no terminal says.
FILE_COLUMNS = 160
# A narrower terminal has no room for every score.
NARROW_COLUMNS = 100


def shortened(names: list[str]) -> list[str]:
    """Return the names, or the first of many and how many more there are."""
    return names if len(names) <= 6 else [*names[:5], f"and {len(names) - 5} more"]


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 case", "2 cases"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def put(text: str) -> None:
    """Print a line of the result; where nobody reads on, as `head` does, the command goes on to its end."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(text: str) -> None:
    """Print a message."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    put(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; None is left open."""
    return "" if value is None else f"{value:.{digits}f}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as the terminal, or as wide as it needs to be in a file.

    Words are kept whole; where there is no room for that, those of the widest column are broken.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column, width in zip(columns, _widths(columns, rows), strict=True):
        table.add_column(column, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    console = _console()
    with console.capture() as drawn:
        console.print(table)
    put(drawn.get().removesuffix("\n"))


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a table breaks no word but those of its first column."""
    least = [_longest_word(cells) for cells in zip(columns, *rows, strict=True)]
    return all(width >= need for width, need in list(zip(_widths(columns, rows), least, strict=True))[1:])


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide the columns of a table are: the widest give way, down to their longest word first."""
    from rich.cells import cell_len

    cells = list(zip(columns, *rows, strict=True))
    widths = [max(map(cell_len, own)) for own in cells]
    least = [_longest_word(own) for own in cells]
    room = _console().width - 3 * len(columns) - 1
    while sum(widths) > max(room, len(widths)):
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return widths


def _longest_word(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(word) for cell in cells for word in cell.split()), default=1)


def _console() -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else FILE_COLUMNS
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_summary(summary: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print scores with their denominators; a narrow terminal gets Dice and IoU, and metrics.csv has the others.

    Labels that no case shows, in reference or prediction, are counted below.
    """
    if as_json:
        print_json(summary)
        return
    shown = {name: part for name, part in summary["labels"].items() if part["n_both_empty"] < part["n"]}
    scores = {"iou": "IoU", "precision": "precision", "recall": "recall"}
    if _console().width < NARROW_COLUMNS:
        scores = {"iou": "IoU"}

    def row(name: str, part: dict[str, Any]) -> list[str]:
        interval = part["dice"]["ci95"]
        return [
            name,
            number(part["dice"]["mean"]),
            f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else "",
            *(number(part[score]["mean"]) for score in scores),
            str(part["n"]),
            _unequal(part),
        ]

    print_table(
        title,
        ["label", "Dice", "95 % CI", *scores.values(), "n", "missed, invented, absent"],
        [*(row(name, part) for name, part in shown.items()), row("all", summary["overall"])],
    )
    if absent := len(summary["labels"]) - len(shown):
        put(f"Left out, as in no reference and no prediction: {counted(absent, 'label')}.")


def _unequal(part: dict[str, Any]) -> str:
    """Return in how many cases a label is only in the reference, only in the prediction, in neither; "" where never."""
    absent = part["n_both_empty"]
    counts = (part["n_prediction_empty"] - absent, part["n_reference_empty"] - absent, absent)
    return ", ".join(map(str, counts)) if any(counts) else ""


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
            if progress.done or progress.total:
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
