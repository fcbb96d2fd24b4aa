"""One-call resolution: what is not known yet is no success."""

import numpy as np
import pytest

from services.qa.domain.resolution import DAY, outcome, rate, survival

NOW = 100 * DAY


def test_a_repeat_within_the_days_undoes_a_resolution():
    assert outcome(10 * DAY, None, 7, NOW) == "resolved"
    assert outcome(10 * DAY, 16.9 * DAY, 7, NOW) == "repeated"
    assert outcome(10 * DAY, 17.1 * DAY, 7, NOW) == "resolved"


def test_a_recent_contact_is_neither_until_its_days_are_over():
    assert outcome(NOW - 6 * DAY, None, 7, NOW) == "too_recent"
    assert outcome(NOW - 6 * DAY, NOW - 5 * DAY, 7, NOW) == "repeated"
    assert outcome(NOW - 7 * DAY, None, 7, NOW) == "resolved"


def test_days_end_with_what_has_been_heard_not_with_the_clock():
    """The feed stopped on day 12: nothing says that the customer of day 10 did not come again."""
    assert outcome(10 * DAY, None, 7, known_until=12 * DAY) == "too_recent"


def test_survival_is_kaplan_and_meiers_of_the_6_mp_patients():
    """Freireich et al., Blood 21 (1963), p. 699, remission in weeks; estimates as in Kleinbaum and Klein, Survival Analysis (3rd ed. 2012), ch. 2."""
    relapsed = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    weeks = relapsed + censored
    happened = [True] * len(relapsed) + [False] * len(censored)
    found = {until: survival(weeks, happened, until) for until in (6, 7, 10, 13, 16, 22, 23)}
    assert {until: round(one.value, 4) for until, one in found.items()} == {
        6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482,
    }  # fmt: skip
    assert (found[10].low, found[10].high) == (pytest.approx(0.5032, abs=2e-4), pytest.approx(0.8894, abs=2e-4))


def test_where_nobody_came_again_who_was_watched_for_an_hour_says_little_about_a_week():
    """Wilson's interval of the one who was watched to the end, not of all sixteen: what NIST and Newcombe give for 1 of 1."""
    found = survival([7 * DAY] + [DAY / 24] * 15, [False] * 16, 7 * DAY)
    assert (found.value, round(found.low, 4), found.high, found.count) == (1.0, 0.2065, 1.0, 16)


def test_nothing_is_said_of_a_day_until_which_nobody_was_watched():
    assert survival([1.0, 2.0], [False, True], 7.0).value is None


def test_recent_contacts_do_not_lower_the_rate():
    """One contact in ten comes again, on a random day of the week after: whoever counted the recent repeats and left out the other recent ones would find fewer resolved."""
    rng = np.random.default_rng(1)
    ended = rng.uniform(60 * DAY, NOW, 40_000)
    following = np.where(rng.random(40_000) < 0.1, ended + rng.uniform(0, 7 * DAY, 40_000), np.nan)
    found = rate(ended, following, 7, NOW)  # what comes after NOW is not known yet
    assert found.rate.low < 0.9 < found.rate.high
    assert found.survival.low < 0.9 < found.survival.high
    assert found.survival.half_width < found.rate.half_width
    assert found.repeated_early == (following[(ended > NOW - 7 * DAY)] <= NOW).sum()
    assert found.resolved + found.repeated + found.too_recent + found.repeated_early == 40_000
    naive = found.resolved / (found.resolved + found.repeated + found.repeated_early)
    assert naive < found.rate.low
