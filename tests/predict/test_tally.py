"""What is said while cases are done."""

import pytest

from medseg.errors import CorruptFileError
from medseg.predict import CaseResult
from medseg.predict.tally import Tally, duration
from medseg.progress import Progress
from medseg.remarks import Remark


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (40, "40 s"), (89, "89 s"), (181, "3 min"), (5399, "90 min"), (7500, "2 h 5 min")],
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text.replace("90 min", "1 h 30 min")


def test_cases_are_counted_with_those_done_before_and_the_time_left_is_that_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Progress] = []
    clock = iter([0.0, 100.0, 200.0])
    monkeypatch.setattr("medseg.predict.tally.time.perf_counter", lambda: next(clock))
    tally = Tally(10, skipped=6, notify=heard.append)
    bad = CaseResult("b", "b.nii")
    bad.fail(CorruptFileError("reading b.nii", found="it ends early", remedy="copy it again"))
    tally.add(CaseResult("a", "a.nii"))
    tally.add(bad)
    assert [(p.done, p.note) for p in heard if not p.message] == [
        (6, "6 done before"),
        (7, "0 failed, 5 min left"),
        (8, "1 failed, 3 min left"),
    ]
    assert {(p.stage, p.total) for p in heard} == {("predict", 10)}


def test_warnings_and_errors_are_said_with_the_case_and_their_code() -> None:
    heard: list[Progress] = []
    tally = Tally(1, skipped=0, notify=heard.append)
    result = CaseResult("a", "a.nii")
    result.warn(Remark("W_TILTED", "The slices lean."))
    result.fail(CorruptFileError("reading a.nii", found="it ends early", remedy="copy it again"))
    tally.add(result)
    assert [p.message for p in heard if p.message] == [
        "a: W_TILTED The slices lean.",
        "a: E_CORRUPT reading a.nii: it ends early. Copy it again.",
    ]
