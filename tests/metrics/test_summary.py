"""Facts about summaries: means with their denominators, and intervals that bracket them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.metrics import CaseScore, summarise
from medseg.metrics.summary import statistics


def row(case_id: str, label_id: int, dice: float | None, **scores: float | None) -> CaseScore:
    rest = {"iou": dice, "precision": dice, "recall": dice} | scores
    return CaseScore(case_id, label_id, f"label {label_id}", dice, **rest)


ROWS = [
    row("b", 1, 0.6),
    row("b", 7, None),
    row("a", 1, 0.8),
    row("a", 7, 0.4),
    row("c", 1, 0.0, precision=None),
    row("c", 7, 0.0, recall=None),
]


def test_each_label_has_the_mean_of_the_cases_where_it_is_defined() -> None:
    labels = summarise(ROWS)["labels"]
    assert list(labels) == ["label 1", "label 7"]
    one, seven = labels["label 1"], labels["label 7"]
    assert (one["label_id"], seven["label_id"]) == (1, 7)
    assert (one["dice"]["n"], one["dice"]["mean"], one["dice"]["median"]) == pytest.approx((3, 1.4 / 3, 0.6))
    assert (seven["dice"]["n"], seven["dice"]["mean"], seven["dice"]["median"]) == pytest.approx((2, 0.2, 0.2))
    assert (one["precision"]["n"], one["recall"]["n"]) == (2, 3)


def test_a_label_that_files_number_differently_is_one_label_and_two_labels_of_one_number_are_two() -> None:
    rows = [
        CaseScore("a", 1, "liver", 0.4, 0.4, 0.4, 0.4),
        CaseScore("a", 2, "spleen", 0.8, 0.8, 0.8, 0.8),
        CaseScore("b", 3, "liver", 0.6, 0.6, 0.6, 0.6),
        CaseScore("b", 1, "spleen", 1.0, 1.0, 1.0, 1.0),
        CaseScore("b", 2, "aorta", 0.1, 0.1, 0.1, 0.1),
    ]
    labels = summarise(rows)["labels"]
    assert {name: (label["label_id"], label["n"], label["dice"]["mean"]) for name, label in labels.items()} == {
        "liver": (1, 2, pytest.approx(0.5)),
        "spleen": (1, 2, pytest.approx(0.9)),
        "aorta": (2, 1, pytest.approx(0.1)),
    }
    assert list(labels) == ["liver", "spleen", "aorta"]


def test_what_was_empty_is_counted() -> None:
    summary = summarise(ROWS)
    empties = {"n_reference_empty": 2, "n_prediction_empty": 1, "n_both_empty": 1}
    assert {key: summary["labels"]["label 7"][key] for key in empties} == empties
    assert summary["labels"]["label 7"]["n"] == 3
    empties = {"n_reference_empty": 2, "n_prediction_empty": 2, "n_both_empty": 1}
    assert {key: summary["overall"][key] for key in empties} == empties


def test_overall_each_case_counts_once_however_many_labels_it_has() -> None:
    overall = summarise(ROWS)["overall"]
    assert overall["n"] == overall["dice"]["n"] == 3
    assert overall["dice"]["mean"] == pytest.approx((0.6 + 0.6 + 0.0) / 3)


def test_a_case_where_nothing_is_defined_counts_in_no_mean() -> None:
    summary = summarise([row("a", 1, 0.5), row("b", 1, None)])
    assert summary["overall"]["n"] == 2
    assert summary["overall"]["dice"]["n"] == 1
    assert summary["overall"]["dice"]["mean"] == 0.5


def test_where_nothing_is_defined_the_summary_says_none() -> None:
    nothing = {"n": 0, "mean": None, "median": None, "ci95": None}
    summary = summarise([row("a", 1, None), row("b", 1, None)])
    assert summary["overall"]["dice"] == nothing
    assert summary["labels"]["label 1"]["recall"] == nothing
    assert summarise([])["overall"]["dice"] == nothing
    assert summarise([])["labels"] == {}


def test_one_case_has_no_interval() -> None:
    assert statistics([0.7, None]) == {"n": 1, "mean": 0.7, "median": 0.7, "ci95": None}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
@settings(deadline=None, max_examples=30)
def test_the_interval_brackets_the_mean_and_stays_among_the_values(values: list[float]) -> None:
    found = statistics([None, *values])
    low, high = found["ci95"]
    assert found["n"] == len(values)
    assert low - 1e-9 <= found["mean"] <= high + 1e-9
    assert min(values) - 1e-9 <= low
    assert high <= max(values) + 1e-9


def test_the_interval_is_as_wide_as_the_standard_error_says() -> None:
    values = [0.5 + 0.01 * (n % 21 - 10) for n in range(210)]
    found = statistics(values)
    error = (sum((v - 0.5) ** 2 for v in values) / 210 / 210) ** 0.5
    assert found["ci95"] == pytest.approx([0.5 - 1.96 * error, 0.5 + 1.96 * error], abs=0.1 * error)


def test_a_summary_is_the_same_each_time_in_whatever_order_and_fits_json() -> None:
    assert summarise(ROWS) == summarise(ROWS)
    assert json.loads(json.dumps(summarise(ROWS), allow_nan=False)) == summarise(ROWS)
    assert list(summarise(ROWS[::-1])["labels"]) == ["label 1", "label 7"]
