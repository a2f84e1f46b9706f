"""Facts about verdicts: what helps only the cases it was chosen on is not kept."""

import math

import numpy as np
import pytest

from medseg.postprocess.verdict import Verdict, gained, judge, mean

NAN = math.nan


def verdict(*columns: list[float], folds: list[int]) -> Verdict:
    """Judge candidates, the first of which changes nothing, by the Dice of each case."""
    return judge(np.array(columns).T, np.array(folds))


def test_what_helps_every_fold_is_kept_and_its_gain_is_that_of_cases_held_out():
    found = verdict([0.5, 0.6, 0.7, 0.8], [0.6, 0.6, 0.8, 0.8], folds=[0, 0, 1, 1])
    assert found.kept
    assert found.best == 1
    assert found.gain == pytest.approx(0.05)
    assert found.by_fold == pytest.approx({0: 0.05, 1: 0.05})


def test_what_harms_a_fold_is_not_kept_even_where_the_mean_rises():
    found = verdict([0.5, 0.5, 0.5], [0.8, 0.8, 0.4], folds=[0, 1, 2])
    assert found.best == 1
    assert found.gain > 0
    assert not found.kept


def test_what_helps_one_fold_only_gains_nothing_that_was_held_out():
    found = verdict([0.5, 0.5, 0.5], [0.8, 0.5, 0.5], folds=[0, 1, 2])
    assert found.best == 1
    assert found.gain_where_chosen == pytest.approx(0.1)
    assert found.gain == 0
    assert not found.kept


def test_a_gain_too_small_to_be_read_in_a_summary_is_not_worth_a_rule():
    assert not verdict([0.5] * 4, [0.50009] * 4, folds=[0, 0, 1, 1]).kept
    assert verdict([0.5] * 4, [0.50011] * 4, folds=[0, 0, 1, 1]).kept


def test_a_fold_is_tried_with_what_the_others_chose():
    found = verdict([0.5, 0.5, 0.5], [0.9, 0.6, 0.6], [0.4, 0.7, 0.7], folds=[0, 1, 2])
    assert found.held_out.tolist() == [0.4, 0.6, 0.6]  # folds 1 and 2 choose the second for 0, which it harms
    assert not found.kept


def test_of_candidates_that_do_equally_well_the_mildest_is_the_best():
    assert verdict([0.5, 0.5], [0.6, 0.6], [0.6, 0.6], folds=[0, 1]).best == 1
    assert verdict([0.5, 0.5], [0.5, 0.5], [0.5 + 1e-7, 0.5], folds=[0, 1]).best == 0


def test_an_invented_label_that_is_removed_leaves_the_mean():
    found = verdict([0.8, 0.0, 0.8, 0.0], [0.8, NAN, 0.8, NAN], folds=[0, 0, 1, 1])
    assert found.kept
    assert found.gain == pytest.approx(0.4)


def test_where_nothing_is_left_to_score_nothing_is_gained():
    found = verdict([0.0, 0.0], [NAN, NAN], folds=[0, 1])
    assert (found.best, found.kept, found.gain) == (0, False, 0)
    assert gained(np.array([NAN]), np.array([NAN])) == 0
    assert math.isnan(mean(np.zeros(0)))


@pytest.mark.parametrize("cases", [0, 1, 3])
def test_without_a_second_fold_nothing_is_kept(cases: int):
    found = judge(np.tile([0.5, 0.9], (cases, 1)), np.zeros(cases, np.int64))
    assert not found.kept
    assert found.gain == 0
    assert found.without.tolist() == found.held_out.tolist() == [0.5] * cases


def test_the_order_of_the_cases_does_not_matter():
    rng = np.random.default_rng(0)
    dices, folds = rng.random((12, 4)), np.arange(12) % 3
    order = rng.permutation(12)
    one, other = judge(dices, folds), judge(dices[order], folds[order])
    assert (one.best, one.kept, one.gain) == pytest.approx((other.best, other.kept, other.gain))
    assert one.held_out[order].tolist() == other.held_out.tolist()
