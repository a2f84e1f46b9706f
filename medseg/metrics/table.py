"""metrics.csv: one row per case and label."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from medseg.atomic import write_text
from medseg.metrics.overlap import CaseScore

COLUMNS = tuple(field.name for field in fields(CaseScore))


def write_metrics(path: Path, rows: Sequence[CaseScore]) -> None:
    """Write the table; what is undefined stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in asdict(row).items()})
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[CaseScore]:
    """Read what `write_metrics` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _row(cells: dict[str, str]) -> CaseScore:
    numbers = {key: float(text) if text else None for key, text in cells.items() if key not in COLUMNS[:3]}
    return CaseScore(cells["case_id"], int(cells["label_id"]), cells["label"], **numbers)
