"""The learning rate rises in a line and falls along a cosine to zero."""

import pytest

from medseg.train.schedule import learning_rate


def rates(total: int, warm_up: float) -> list[float]:
    return [learning_rate(step, total=total, peak=0.1, warm_up=warm_up) for step in range(total)]


def test_it_rises_to_the_peak_and_falls_to_almost_nothing() -> None:
    found = rates(1000, 0.1)
    assert found[0] == pytest.approx(0.004)
    assert max(found) == found[100] == pytest.approx(0.1)
    assert found[:101] == sorted(found[:101])
    assert found[100:] == sorted(found[100:], reverse=True)
    assert 0 < found[-1] < 1e-6


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert rates(10, 0.0)[0] == pytest.approx(0.1)
