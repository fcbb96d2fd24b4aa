"""Gaming: found where it is, and not where people merely differ, hang up first, or pass on everything."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from services.qa.domain.gaming import Served, beyond, funnel, hardness, watch

WAFERS = [12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13, 9, 6]
"""Faulty chips of 50 on each of 30 wafers: NIST/SEMATECH e-Handbook of Statistical Methods, §6.3.3.2 (proportions control charts)."""


def test_the_limits_are_those_of_a_textbooks_chart():
    """The handbook: centre 0.2313, upper limit 0.4102 (0.41 x 50 = 20.5); wafers 15 and 23 are out of control."""
    rate = sum(WAFERS) / 1500
    assert rate == pytest.approx(0.2313, abs=1e-4)
    least, chance = beyond(50, rate, 0.0, 0.00135)
    assert [number + 1 for number, faulty in enumerate(WAFERS) if faulty >= least] == [15, 23]
    assert least == 22
    assert chance == pytest.approx(stats.binom.sf(21, 50, rate))


@pytest.mark.parametrize(
    ("n", "rate", "correlation"), [(50, 0.02, 0.0), (400, 0.02, 0.01), (1000, 0.3, 0.05), (30, 0.9, 0.2), (20, 0.5, 0.0)]
)
def test_a_limit_is_passed_by_chance_as_seldom_as_it_says(n, rate, correlation):
    least, chance = beyond(n, rate, correlation, 0.001)
    size = 1 / correlation - 1 if correlation else None
    sf = (lambda k: stats.betabinom.sf(k, n, rate * size, (1 - rate) * size)) if size else (lambda k: stats.binom.sf(k, n, rate))
    assert chance == pytest.approx(sf(least - 1), abs=1e-12)
    assert chance <= 0.001
    if least <= n:
        assert sf(least - 2) > 0.001


@pytest.mark.parametrize(("tail", "limit", "families"), [(0.04, 10, 177.9 + 43.8 + 5.2), (0.01, 11, 43.8 + 5.2), (0.001, 12, 5.2)])
def test_where_peers_differ_the_tail_is_that_of_the_beta_binomial(tail, limit, families):
    """Boys among the first 12 of 13 children in 6,115 families of Saxony (Geissler 1889), fitted with alpha = 34.135 and beta = 31.6085: expected
    177.9, 43.8 and 5.2 families with 10, 11 and 12 boys (Wikipedia, Beta-binomial distribution, example of the sex ratio), where the binomial has fewer."""
    alpha, beta = 34.1350, 31.6085
    least, chance = beyond(12, alpha / (alpha + beta), 1 / (alpha + beta + 1), tail)
    assert (least, chance * 6115) == (limit, pytest.approx(families, abs=0.15))
    assert beyond(12, alpha / (alpha + beta), 0.0, tail)[0] <= limit


def test_all_of_few_need_not_be_beyond_the_limit():
    assert beyond(3, 0.5, 0.0, 0.001) == (4, 0.0)


def test_peers_who_differ_widen_the_funnel_and_one_culprit_does_not():
    rng = np.random.default_rng(3)
    n = np.full(40, 500)
    alike = rng.binomial(n, 0.05)
    differing = rng.binomial(n, rng.beta(0.05 * 60, 0.95 * 60, 40))
    culprit = alike.copy()
    culprit[0] = 90
    found = {name: funnel(cases, n) for name, cases in (("alike", alike), ("differing", differing), ("culprit", culprit))}
    assert found["alike"].overdispersion < 1.6
    assert found["differing"].overdispersion > 4
    assert found["differing"].limit.mean() > found["alike"].limit.mean() * 1.5
    assert found["culprit"].overdispersion < 1.9
    assert culprit[0] >= found["culprit"].limit[0]
    assert (culprit[1:] < found["culprit"].limit[1:]).all()


def test_a_culprit_is_not_measured_against_themselves():
    cases, n = np.array([60, 4, 6, 5, 5, 4, 6]), np.full(7, 100)
    found = funnel(cases, n)
    assert found.peer_rate[0] == pytest.approx(30.5 / 601)
    assert found.peers == 6


def centre(agents=20, contacts=600, seed=0, ends=0.85, short=0.03):
    """One queue: agents end most calls (85 % unless said otherwise for each), three of a hundred are short, one in ten hard, one in five goes badly."""
    rng = np.random.default_rng(seed)
    agent = np.repeat(np.arange(agents), contacts)
    size = len(agent)
    talk = rng.lognormal(5, 0.6, size)
    is_short = rng.random(size) < np.broadcast_to(short, agents)[agent]
    talk[is_short] = rng.uniform(2, 14, is_short.sum())
    hard = rng.random(size) < 0.2
    passed_on = ~is_short & (rng.random(size) < np.where(hard, 0.15, 0.05))
    bad = rng.random(size) < 0.2
    return Served(
        group=np.zeros(size, dtype=np.int64),
        agent=agent,
        talk=talk,
        by_agent=rng.random(size) < np.broadcast_to(ends, agents)[agent],
        passed_on=passed_on,
        hard=hard,
        bad=bad,
        surveyable=rng.random(size) < 0.9,
        heard_of=rng.random(size) < 0.3,
    )


def flagged(served):
    return {(one.measure, point.agent) for one in watch(served) for point in one.points if point.flag}


def test_in_ordinary_traffic_nobody_is_flagged_and_chance_is_told():
    found = [watch(centre(seed=seed)) for seed in range(15)]
    flags = sum(point.flag for run in found for one in run for point in one.points)
    assert flags <= 1
    for run in found:
        for one in run:
            assert one.peers == 19
            assert 0 < one.expected_by_chance <= 20 * 0.001


def test_who_gets_rid_of_customers_at_once_is_flagged():
    served = centre()
    of = np.nonzero(served.agent == 7)[0][:60]
    served.talk[of], served.by_agent[of], served.passed_on[of] = 6.0, True, False
    assert flagged(served) == {("short_hang_ups", 7)}
    point = next(point for one in watch(served) if one.measure == "short_hang_ups" for point in one.points if point.agent == 7)
    assert point.rate > point.limit > point.peer_rate


def test_who_hung_up_alone_never_flags():
    """One agent ends every call, the others a third; short calls come to all alike."""
    ends = np.full(20, 0.3)
    ends[4] = 1.0
    served = centre(contacts=5000, ends=ends)
    assert not flagged(served)
    point = next(point for one in watch(served) if one.measure == "short_hang_ups" for point in one.points if point.agent == 4)
    assert point.rate > point.limit  # as many as that by the one sign alone
    assert (point.why, point.control_beyond) == ("control", False)


def test_whose_customers_leave_soon_is_not_flagged_for_hanging_up():
    """Many short contacts, ended by the customer."""
    short = np.full(20, 0.03)
    short[2] = 0.15
    served = centre(short=short)
    of = (served.agent == 2) & (served.talk < 15)
    assert not flagged(replace(served, by_agent=served.by_agent & ~of))


def test_who_passes_on_the_hard_ones_is_flagged_and_who_passes_on_all_is_not():
    served = centre()
    rng = np.random.default_rng(9)
    served.passed_on[(served.agent == 3) & served.hard] |= rng.random(((served.agent == 3) & served.hard).sum()) < 0.4
    served.passed_on[served.agent == 5] |= rng.random((served.agent == 5).sum()) < 0.4
    assert flagged(served) == {("hard_transfers", 3)}


def test_whose_unhappy_customers_are_never_heard_of_is_flagged():
    served = centre(contacts=1200)
    served.heard_of[(served.agent == 11) & served.bad] = False
    assert flagged(served) == {("survey_steering", 11)}
    served.heard_of[served.agent == 11] = False  # none of this agent's customers answers: a broken address, not a choice
    assert not flagged(served)


def test_with_few_peers_or_few_contacts_nobody_is_flagged():
    served = centre(agents=5)
    served.talk[served.agent == 0], served.by_agent[served.agent == 0] = 3.0, True
    assert not flagged(served)
    assert {point.why for one in watch(served) for point in one.points} == {"too_few_peers"}
    served = centre(agents=10)
    few = np.nonzero(served.agent == 0)[0]
    keep = np.ones(len(served.agent), dtype=bool)
    keep[few[15:]] = False
    served.talk[few], served.by_agent[few] = 3.0, True
    assert not flagged(Served(**{field.name: getattr(served, field.name)[keep] for field in fields(Served)}))


def test_queues_are_judged_apart():
    """Where all calls are short, short calls are nothing."""
    served = centre()
    other = centre(seed=1, short=0.4)
    both = Served(
        **{
            field.name: np.concatenate((getattr(served, field.name), getattr(other, field.name) + (field.name == "group")))
            if field.name == "group"
            else np.concatenate((getattr(served, field.name), getattr(other, field.name)))
            for field in fields(Served)
        }
    )
    assert not flagged(both)
    assert {one.group for one in watch(both)} == {0, 1}


def test_hard_is_what_takes_long_whoever_has_it_and_customers_who_tried_before():
    matter = np.repeat([0, 1, 2], 100)
    talk = np.concatenate((np.full(100, 60.0), np.full(100, 120.0), np.full(100, 600.0)))
    passed_on = np.zeros(300, dtype=bool)
    passed_on[200:240], talk[200:240] = True, 20.0  # passing a hard one on at once does not make it an easy one
    burdened = np.zeros(300, dtype=bool)
    burdened[5] = True
    hard = hardness(matter, talk, passed_on, burdened, np.zeros(300, dtype=np.int64))
    assert hard[200:].all()
    assert hard[:200].sum() == 1
    assert hard[5]
    alike = hardness(np.zeros(300, dtype=np.int64), talk, passed_on, burdened, np.zeros(300, dtype=np.int64))
    assert alike.sum() == 1


def test_a_matter_that_came_a_few_times_is_not_called_hard():
    matter = np.concatenate((np.zeros(100, dtype=np.int64), np.ones(60, dtype=np.int64), np.full(5, 2)))
    talk = np.concatenate((np.full(100, 60.0), np.full(60, 300.0), np.full(5, 3000.0)))
    none = np.zeros(165, dtype=bool)
    hard = hardness(matter, talk, none, none, np.zeros(165, dtype=np.int64))
    assert hard[100:160].all()
    assert not hard[160:].any()


@pytest.mark.parametrize(("agents", "correlation"), [(8, 0.0), (30, 0.003), (30, 0.01), (100, 0.01)])
def test_chance_passes_the_limit_about_as_seldom_as_is_told_though_peers_differ(agents, correlation):
    rng = np.random.default_rng(agents)
    flags, told = 0, 0.0
    for _ in range(min(100, 3000 // agents)):
        n = rng.integers(100, 900, agents)
        rates = rng.beta(0.05 * (1 / correlation - 1), 0.95 * (1 / correlation - 1), agents) if correlation else 0.05
        cases = rng.binomial(n, rates)
        found = funnel(cases, n)
        flags, told = flags + int((cases >= found.limit).sum()), told + float(found.chance.sum())
    assert flags <= 4 * told + 2


def test_in_a_small_team_one_culprit_still_stands_out():
    rng = np.random.default_rng(4)
    caught = 0
    for _ in range(40):
        cases = rng.binomial(500, 0.05, 8)
        cases[0] = rng.binomial(500, 0.2)
        found = funnel(cases, np.full(8, 500))
        caught += cases[0] >= found.limit[0]
    assert caught >= 36
