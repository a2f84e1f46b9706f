"""Page: the scores of a run and its overlays in one HTML file that opens offline."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from medseg.atomic import write_text
from medseg.metrics import CaseScore

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #f6f7f9; margin: 0 auto; max-width: 1100px;
       padding: 2rem 1.5rem 4rem }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p { margin: .3rem 0; color: #4a5567 }
table { border-collapse: collapse; background: #fff; box-shadow: 0 1px 3px #0002; width: 100% }
th, td { padding: .4rem .8rem; text-align: right; border-bottom: 1px solid #e6e9ee; font-variant-numeric: tabular-nums }
th { background: #eef1f5; font-weight: 600 } th:first-child, td:first-child { text-align: left }
tr.all td { font-weight: 600 }
img { width: 100%; border-radius: 4px; display: block }
"""
SUMMARY_COLUMNS = (
    "label",
    "Dice",
    "95 % interval",
    "IoU",
    "precision",
    "recall",
    "cases",
    "no reference",
    "no prediction",
)
CASE_COLUMNS = ("case", "label", "Dice", "IoU", "precision", "recall", "reference [ml]", "prediction [ml]")


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    summary: dict[str, Any],
    rows: Sequence[CaseScore],
    pictures: Sequence[Path] = (),
) -> None:
    """Write the page.

    Args:
        path: the .html file; it appears whole.
        title: its heading.
        lead: a sentence or two below it.
        summary: as in summary.json.
        rows: the scores of each case and label, as in metrics.csv.
        pictures: PNG files to show, each under its name.
    """
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p>",
        "<h2>Scores by label</h2>",
        _table(SUMMARY_COLUMNS, [*map(_label_row, summary["labels"].items()), _label_row(("all", summary["overall"]))]),
        "<p>Scores are means over the cases where they are defined; the interval is the Dice's, by bootstrap over "
        "cases. The last two columns count cases that lack the label.</p>",
        *(f"<h2>{escape(picture.stem)}</h2>{_image(picture)}" for picture in pictures),
        "<h2>Scores by case</h2>",
        _table(CASE_COLUMNS, [_case_row(row) for row in rows]),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>{body}</body></html>\n',
    )


def _label_row(entry: tuple[str, dict[str, Any]]) -> list[str]:
    name, part = entry
    interval = part["dice"]["ci95"]
    return [
        name,
        _number(part["dice"]["mean"]),
        f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else "",
        *(_number(part[score]["mean"]) for score in ("iou", "precision", "recall")),
        *(str(part[count]) for count in ("n", "n_reference_empty", "n_prediction_empty")),
    ]


def _case_row(row: CaseScore) -> list[str]:
    scores = [_number(value) for value in (row.dice, row.iou, row.precision, row.recall)]
    return [row.case_id, row.label, *scores, _number(row.reference_ml, 1), _number(row.prediction_ml, 1)]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; a row whose first cell is "all" stands out."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = []
    for row in rows:
        kind = ' class="all"' if row[0] == "all" else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _image(picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'<img alt="overlay of {escape(picture.stem)}" src="data:image/png;base64,{data}">'
