"""A report page holds everything it shows, and shows what was scored."""

import base64
import re
from pathlib import Path

from PIL import Image

from medseg.metrics import CaseScore, summarise
from medseg.report import write_page


def page(tmp_path: Path, rows: list[CaseScore]) -> str:
    Image.new("RGB", (8, 6), "red").save(tmp_path / "case_1.png")
    write_page(
        tmp_path / "report.html",
        title="Spleen <1>",
        lead="Three cases.",
        summary=summarise(rows),
        rows=rows,
        pictures=[tmp_path / "case_1.png"],
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = page(tmp_path, [CaseScore("a", 1, "spleen", 0.5, 0.25, 0.5, 0.5)])
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    (picture,) = re.findall(r"data:image/png;base64,([^\"]+)", html)
    assert base64.b64decode(picture) == (tmp_path / "case_1.png").read_bytes()


def test_it_shows_scores_and_leaves_undefined_ones_open(tmp_path: Path) -> None:
    rows = [
        CaseScore("a", 1, "spleen", 0.5, 1 / 3, 0.5, 0.5, reference_ml=100, prediction_ml=90),
        CaseScore("b", 1, "spleen", None, None, None, None, reference_ml=0, prediction_ml=0),
    ]
    html = page(tmp_path, rows)
    assert "<td>0.500</td><td>0.333</td>" in html
    assert "<td>b</td><td>spleen</td><td>–</td>" in html
    assert "Spleen &lt;1&gt;" in html
