"""The effect of asking: combined within strata, never as a bare average."""

from __future__ import annotations

import math

import pytest

from services.im.domain.effect import Effect, of_means, of_shares


def shares(yes: tuple[int, int], no: tuple[int, int]) -> tuple[list[float], list[float]]:
    """(events, of so many) on either side."""
    return ([1.0] * yes[0] + [0.0] * (yes[1] - yes[0]), [1.0] * no[0] + [0.0] * (no[1] - no[0]))


def test_one_stratum_is_the_plain_difference_with_the_normal_interval() -> None:
    found = of_shares([shares((151, 240), (115, 240))])
    p1, p0 = 151 / 240, 115 / 240
    half = 1.96 * math.sqrt(p1 * (1 - p1) / 240 + p0 * (1 - p0) / 240)
    assert (found.difference, found.low, found.high) == pytest.approx((p1 - p0, p1 - p0 - half, p1 - p0 + half), abs=1e-4)


def test_strata_are_weighted_as_mantel_and_haenszel_did() -> None:
    found = of_shares([shares((10, 40), (5, 60)), shares((30, 60), (10, 40))])
    weights = (40 * 60 / 100, 60 * 40 / 100)
    assert found.difference == pytest.approx((weights[0] * (10 / 40 - 5 / 60) + weights[1] * (30 / 60 - 10 / 40)) / sum(weights))
    assert (found.with_question, found.without, found.strata) == (100, 100, 2)


def test_hard_contacts_among_which_more_is_asked_do_not_make_asking_look_bad() -> None:
    """Within each stratum asking helps; over all it seems to harm (Simpson's paradox)."""
    easy, hard = shares((19, 20), (180, 200)), shares((60, 200), (4, 20))
    plain = 79 / 220 - 184 / 220
    found = of_shares([easy, hard])
    assert plain < 0
    assert found.difference is not None and found.difference > 0


def test_a_stratum_with_one_side_only_says_nothing() -> None:
    both = shares((20, 40), (10, 40))
    assert of_shares([both, shares((50, 50), (0, 0))]) == of_shares([both])


def test_too_few_say_nothing() -> None:
    assert of_shares([shares((5, 10), (5, 100))]) == Effect(None, None, None, 10, 100, 1)
    assert not of_means([]).is_known


def test_means_with_the_pooled_variance() -> None:
    yes, no = [float(10 + i % 5) for i in range(40)], [float(8 + i % 5) for i in range(50)]
    found = of_means([(yes, no)])
    squares = sum((value - 12) ** 2 for value in yes) + sum((value - 10) ** 2 for value in no)
    half = 1.96 * math.sqrt(squares / 88 * (1 / 40 + 1 / 50))
    assert (found.difference, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-3)


def test_the_stratified_difference_is_rothmans() -> None:
    """Deaths with tolbutamide and with placebo, under 55 and over: Rothman, Greenland and Lash, Modern Epidemiology (3rd ed. 2008), Table 15-1 and
    p. 276: 0.0349, and at 90 % -0.018 to 0.087."""
    found = of_shares([shares((8, 106), (5, 120)), shares((22, 98), (16, 85))])
    assert found.difference is not None and found.high is not None
    half = (found.high - found.difference) / 1.959964 * 1.644854
    assert (found.difference, found.difference - half, found.difference + half) == pytest.approx((0.0349, -0.0176, 0.0874), abs=1e-4)


def test_the_difference_of_means_is_that_of_the_sleepers() -> None:
    """Student's two samples of sleep (1908), each told four times: 1.58, and the pooled error of R's `t.test(var.equal = TRUE)`, 1.58 / 1.8608, for
    as many more."""
    first, second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = of_means([(second * 4, first * 4)])
    assert found.difference is not None and found.high is not None
    error = 1.58 / 1.8608 * math.sqrt(18 / 78)
    assert (found.difference, (found.high - found.difference) / 1.959964) == pytest.approx((1.58, error), rel=1e-4)
