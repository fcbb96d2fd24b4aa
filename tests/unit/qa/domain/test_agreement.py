"""Agreement against Krippendorff's own tables, and drift against Montgomery's."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from services.qa.domain.agreement import Ratings, agreement, alpha, cusum, differences, drift, self_starting

NAN = np.nan
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Krippendorff, Computing Krippendorff's Alpha-Reliability (2007), section C: four observers, twelve units, missing data."""


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs(level, published):
    assert round(alpha(FOUR_OBSERVERS, level), 3) == published


def test_alpha_of_two_observers_is_krippendorffs():
    """Section A of the same paper: two observers, binary; and section B: two observers, five values."""
    meg, owen = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert round(alpha([meg, owen], "nominal"), 3) == 0.095
    ben, gerry = "aabbdcccedda", "babbbccceddd"
    numbers = {letter: number for number, letter in enumerate("abcde")}
    assert round(alpha([[numbers[mark] for mark in ben], [numbers[mark] for mark in gerry]], "nominal"), 3) == 0.692


def test_agreeing_by_chance_is_zero_though_most_marks_are_alike():
    """Both mark 95 % yes at random: 90 % agree, and it means nothing."""
    rng = np.random.default_rng(2)
    marks = (rng.random((2, 5000)) < 0.95).astype(float)
    found = agreement(Ratings.of(marks), "nominal", 0.0, rng)
    assert found.within_a_point > 0.89
    assert found.low < 0 < found.high
    assert found.verdict == "unreliable"


def test_where_nothing_varies_nothing_is_known():
    found = agreement(Ratings.of(np.ones((3, 40))), "nominal", 0.0, np.random.default_rng(0))
    assert (found.alpha, found.low, found.verdict, found.within_a_point) == (None, None, "not_enough_data", 1.0)
    assert agreement(Ratings.of([[1, NAN], [NAN, 2]]), "interval", 0.1, np.random.default_rng(0)).units == 0


def test_agreement_within_a_point_counts_pairs():
    """Contact 1: 1, 2, 4 (one pair of three within a point); contact 2: 3, 3."""
    found = agreement(Ratings.of([[1, 3], [2, 3], [4, NAN]]), "ordinal", 1.0, np.random.default_rng(0))
    assert found.within_a_point == pytest.approx(2 / 4)


def test_the_interval_covers_the_truth():
    """Marks = truth + noise of equal variance: alpha is one half."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(60):
        marks = rng.normal(size=80) + rng.normal(size=(3, 80))
        found = agreement(Ratings.of(marks), "interval", 0.1, rng, resamples=200)
        covered += found.low <= 0.5 <= found.high
    assert covered >= 51


def test_a_bootstrap_of_contacts_marked_alike_is_the_bootstrap_of_contacts():
    rng = np.random.default_rng(3)
    truth = rng.integers(1, 5, 60)
    marks = np.clip(truth + rng.integers(-1, 2, (3, 60)), 1, 5).astype(float)
    found = agreement(Ratings.of(marks), "ordinal", 1.0, rng, resamples=2000)
    plain = [alpha(marks[:, rng.integers(0, 60, 60)], "ordinal") for _ in range(500)]
    low, high = np.quantile(plain, (0.025, 0.975))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))


@settings(max_examples=60, deadline=None)
@given(
    marks=arrays(float, st.tuples(st.integers(2, 5), st.integers(1, 12)), elements=st.sampled_from([NAN, 0.0, 0.25, 0.5, 1.0])),
    level=st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_evaluators_alphas_add_up_to_the_alpha_of_all(marks, level):
    found = agreement(Ratings.of(marks), level, 0.25, np.random.default_rng(0), resamples=10)
    if found.alpha is None:
        return
    assert found.alpha <= 1
    n = sum(one.units for one in found.against)
    assert sum(one.alpha * one.units for one in found.against) / n == pytest.approx(found.alpha, abs=1e-9)
    shuffled = marks[::-1, ::-1]
    assert alpha(shuffled, level) == pytest.approx(found.alpha, abs=1e-9)


def test_the_evaluator_who_differs_is_seen():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 5, 100) / 4
    good = np.clip(truth + rng.choice([-0.25, 0, 0, 0.25], (3, 100)), 0, 1)
    strict = np.clip(truth - 0.5, 0, 1)
    found = agreement(Ratings.of([*good, strict]), "ordinal", 0.25, rng)
    others, odd = found.against[:3], found.against[3]
    assert all(one.alpha > odd.alpha + 0.1 for one in others)
    assert odd.bias.high < -0.2
    assert all(one.bias.low > 0 for one in others)


def test_the_tabular_sum_is_montgomerys():
    """Introduction to Statistical Quality Control (6th ed. 2009), tables 9.1 and 9.2: mean 10, then 11 from the 21st on; the alarm at the 29th."""
    x = [
        9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34, 9.03, 11.47, 10.51, 9.40, 10.08, 9.37, 10.62, 10.31, 8.52, 10.84,
        10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31, 10.52,
    ]  # fmt: skip
    up, down, alarm, began = cusum([value - 10 for value in x])
    assert alarm == 28
    assert began == 22  # seven periods back: the 23rd
    assert up[28] == pytest.approx(5.28)
    assert down[1] == pytest.approx(1.56)


def test_drift_is_found_soon_and_seldom_where_there_is_none():
    rng = np.random.default_rng(6)
    assert sum(drift(rng.normal(-0.2, 0.1, 60)).alarm for _ in range(200)) < 40
    late = [drift(np.concatenate((rng.normal(0, 0.1, 40), rng.normal(0.2, 0.1, 30)))) for _ in range(100)]
    assert sum(one.alarm for one in late) >= 95
    assert np.median([one.since for one in late if one.alarm]) == pytest.approx(40, abs=3)
    assert np.median([one.shift for one in late if one.alarm]) == pytest.approx(0.2, abs=0.04)


def test_where_nothing_changes_observations_are_standard_normal_from_the_third_on():
    rng = np.random.default_rng(9)
    z = np.array([self_starting(rng.normal(3.0, 2.0, 8)) for _ in range(1500)])
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 0.001
    assert abs(np.corrcoef(z.T) - np.eye(6)).max() < 0.1


def test_scores_in_coarse_steps_do_not_look_like_drift():
    """Three evaluators, five steps, one of them always stricter: their distances have a few values, and long runs of one."""
    rng = np.random.default_rng(12)
    alarms = 0
    for _ in range(60):
        truth = rng.integers(0, 5, 40) / 4
        scores = np.array([truth, truth, np.clip(truth - 0.5, 0, 1)])
        apart = [scores[one] - np.delete(scores, one, 0).mean(0) for one in range(3)]
        alarms += any(drift(one).alarm for one in apart)
    assert alarms <= 9


def test_drift_says_when_it_began():
    found = drift([0.1 * ((number + 1) % 2) for number in range(40)] + [0.5] * 20)
    assert (found.alarm, found.since) == (True, 40)
    assert found.shift == pytest.approx(0.45)


def test_of_few_contacts_no_drift_is_claimed():
    assert drift([0.0] * 10 + [1.0] * 9).alarm is False
    assert drift([0.0] * 10 + [0.001] * 30).alarm is False


def test_differences_are_in_order_of_time():
    ratings = Ratings(np.array([0, 1, 0, 1]), np.array([7, 7, 8, 8]), np.array([0.5, 0.9, 0.7, 0.9]), np.array([20.0, 10.0, 20.0, 10.0]))
    found = differences(ratings.pairable())
    assert [(rater, np.round(apart, 2).tolist()) for rater, _, apart in found] == [(7, [0.0, -0.2]), (8, [0.0, 0.2])]
    assert all(a <= b for _, of, _ in found for a, b in pairwise(ratings.at[of]))
