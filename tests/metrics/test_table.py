"""Facts about metrics.csv: it reads back the same, and what is undefined stays empty."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from medseg.errors import UnwritableError
from medseg.metrics import CaseScore, read_metrics, write_metrics

SPLEEN = CaseScore("scan 1, early", 1, "spleen", 0.9375, 0.882353, 1.0, 0.882353, 1.5, 0.25, 0.5, 201.125, 0.0)
ABSENT = CaseScore('"quoted" ü', 300, "label_300", None, None, None, None, reference_ml=0.0, prediction_ml=0.0)


def test_a_table_reads_back_the_same(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", [SPLEEN, ABSENT])
    assert read_metrics(tmp_path / "metrics.csv") == [SPLEEN, ABSENT]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", [])
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    assert text == ",".join(field.name for field in fields(CaseScore)) + "\n"
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_what_is_undefined_is_an_empty_cell_and_zero_is_written(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", [replace(ABSENT, case_id="c")])
    header, cells = (line.split(",") for line in (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines())
    written = dict(zip(header, cells, strict=True))
    assert written["dice"] == written["hd95_mm"] == ""
    assert float(written["reference_ml"]) == 0


def test_no_name_breaks_the_table(tmp_path: Path) -> None:
    odd = [replace(SPLEEN, case_id=name) for name in ("a;b", "a\nb", "a,b", "'", "")]
    write_metrics(tmp_path / "metrics.csv", odd)
    assert [row.case_id for row in read_metrics(tmp_path / "metrics.csv")] == ["a;b", "a\nb", "a,b", "'", ""]


def test_a_table_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableError):
        write_metrics(tmp_path / "file" / "metrics.csv", [SPLEEN])
