"""Run: one execution, kept in a folder that explains its results."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from medseg.atomic import encoded, unwritable, write_json

LIBRARIES = ("medseg", "torch", "monai", "torchio", "nibabel", "SimpleITK", "numpy", "scipy")
RESULTS, RECIPE, MODEL, RECORD, VALIDATION = "results.jsonl", "recipe.toml", "model", "run.json", "validation"


class Run:
    """A run's folder.

    Attributes:
        folder: where it is; made when it is not there.

    Raises:
        UnwritableError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        self._started = time.perf_counter()

    @property
    def recipe(self) -> Path:
        """The resolved recipe, TOML."""
        return self.folder / RECIPE

    @property
    def record(self) -> Path:
        """What was done, with what and how; written last."""
        return self.folder / RECORD

    @property
    def journal(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "journal.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The training state to go on from."""
        return self.folder / "checkpoint"

    @property
    def model(self) -> Path:
        """The model package."""
        return self.folder / MODEL

    @property
    def claim(self) -> Path:
        """What a process that trains into the folder keeps to itself."""
        return self.folder / ".training"

    @property
    def coarse(self) -> Path:
        """The run of the coarse model, where the recipe has one."""
        return self.folder / "coarse"

    @property
    def prepared(self) -> Path:
        """The cache of prepared cases."""
        return self.folder / "prepared"

    @property
    def validation(self) -> Path:
        """The scores after training."""
        return self.folder / VALIDATION

    @property
    def metrics(self) -> Path:
        """The scores of each case and label."""
        return self.validation / "metrics.csv"

    @property
    def summary(self) -> Path:
        """What they say together."""
        return self.validation / "summary.json"

    @property
    def results(self) -> Path:
        """One JSON object per predicted case."""
        return self.folder / RESULTS

    def write_record(self, **facts: Any) -> None:
        """Write run.json: the facts given, versions, machine, and seconds since the run started."""
        write_json(
            self.record,
            {
                **facts,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - self._started, 3),
                "versions": versions(),
                "machine": {
                    "system": platform.system(),
                    "processor": platform.machine(),
                    "cores": psutil.cpu_count(),
                    "ram_mb": round(psutil.virtual_memory().total / 2**20),
                },
            },
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a folder's run.json says; nothing where there is none, or one that is no run's."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def versions() -> dict[str, str]:
    """Return the versions of Python and of every library a result depends on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def as_line(value: Mapping[str, Any]) -> str:
    """Return one JSON object as a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON object to a file of lines, in one write; a line that a crash cut off is ended before it."""
    line = encoded(as_line(value))
    try:
        with path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
    except OSError as error:
        raise unwritable(path, error) from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file of lines; a line cut off by a crash is left out, a missing file is empty."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def peak_ram_mb() -> int:
    """Return the largest memory this process has held, in MiB (what it holds now, where the system does not tell)."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().rss / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
