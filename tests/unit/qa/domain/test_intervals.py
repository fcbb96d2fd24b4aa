"""Intervals against published tables, and against what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from services.qa.domain import intervals


@pytest.mark.parametrize(
    ("cases", "n", "wilson"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0000, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_shares_have_the_intervals_of_newcombes_table(cases, n, wilson):
    """Newcombe, Statistics in Medicine 17 (1998), p. 857, Table I: method 3."""
    found = intervals.wilson(cases, n)
    assert (round(found.low, 4), round(found.high, 4)) == wilson


def test_a_mean_has_students_interval():
    """Student's sleep data, group 2 of 'The probable error of a mean' (Biometrika 6, 1908, p. 20): mean 2.33, s = 2.002."""
    found = intervals.mean([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert (found.value, found.low, found.high) == (pytest.approx(2.33), pytest.approx(0.8977, abs=1e-4), pytest.approx(3.7623, abs=1e-4))


def test_what_is_too_little_has_no_interval():
    assert intervals.wilson(0, 0) == intervals.mean([]) == intervals.of_moments(0, 0, 0, 0) == intervals.Interval(None, None, None, 0)
    assert intervals.mean([3.0]) == intervals.Interval(3.0, None, None, 1)
    assert intervals.of_moments(29, 29.0, 40.0, 60.0).low is None
    assert intervals.of_moments(1000, 7000.0, 49_000.0, 343_000.0) == intervals.Interval(7.0, None, None, 1000)


def test_moments_of_symmetric_values_give_students_interval():
    values = np.concatenate((np.arange(50.0), -np.arange(50.0)))
    found = intervals.of_moments(len(values), values.sum(), (values**2).sum(), (values**3).sum())
    student = intervals.mean(list(values))
    assert (found.low, found.high) == (pytest.approx(student.low), pytest.approx(student.high))


def test_amounts_of_a_few_sales_are_covered_where_students_interval_misses_above():
    """One contact of twenty sells, for very different amounts: the interval of the mean value must not lie below the truth too often."""
    rng = np.random.default_rng(5)
    truth, n = 0.05 * np.exp(0.5), 400
    amounts = (rng.random((1500, n)) < 0.05) * rng.lognormal(0.0, 1.0, (1500, n))
    halls = [intervals.of_moments(n, x.sum(), (x**2).sum(), (x**3).sum()) for x in amounts]
    half = stats.t.ppf(0.975, n - 1) * amounts.std(axis=1, ddof=1) / np.sqrt(n)
    too_low = np.mean([one.high < truth for one in halls])
    students_too_low = np.mean(amounts.mean(axis=1) + half < truth)
    assert students_too_low > 0.07
    assert too_low < 0.05
    assert np.mean([one.low <= truth <= one.high for one in halls]) > np.mean(np.abs(amounts.mean(axis=1) - truth) <= half)


@given(t=st.floats(-4, 4), skewness=st.floats(-3, 8), n=st.integers(30, 5000))
@settings(max_examples=40, deadline=None)
def test_the_transformation_is_halls(t, skewness, n):
    """g(t) = t + γt²/(3√n) + γ²t³/(27n) + γ/(6√n): Hall (1992), as in Zhou and Gao (2000)."""
    root = np.sqrt(n)
    told = t + skewness * t**2 / (3 * root) + skewness**2 * t**3 / (27 * n) + skewness / (6 * root)
    assert intervals._unskewed(told, skewness, n) == pytest.approx(t, abs=1e-4)
