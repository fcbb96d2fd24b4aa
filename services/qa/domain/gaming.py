"""Loopholes (R25, R71, R73): agents who get rid of customers, against peers who serve the same queue. A flag is a reason to listen, not a verdict.

Each measure counts cases among opportunities. Peers' share, how much peers differ among themselves, and how well both are known give each agent a
limit that chance alone passes with a known probability: a funnel, wide for few contacts and narrow for many (Spiegelhalter, Statistics in
Medicine 24, 2005, p. 1185). Every measure has a control that honest work of another kind would raise as well; a flag needs both.

    short_hang_ups   cases: contacts that the agent ended within seconds.  Control: the agent's short contacts altogether, whoever ended them, are
                     beyond their limit too. In ordinary traffic agents end most calls, so who hung up alone says nothing and never flags.
    hard_transfers   cases: hard contacts passed on, of all hard ones.  Control: the easy ones are not: who passes everything on lacks
                     knowledge or a skill.
    survey_steering  cases: contacts that went badly and were not heard of, of all that could be surveyed.  Control: those that went well were heard of as
                     usual: whose customers never answer has another problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Measure = Literal["short_hang_ups", "hard_transfers", "survey_steering"]
Why = Literal["flagged", "within_limit", "too_few_cases", "too_few_peers", "control"]

TAIL = 0.001
"""How often chance alone passes the limit: the upper of Spiegelhalter's 99.8 % limits."""
FEWEST_CASES = 3
FEWEST_PEERS = 5
FEWEST_OPPORTUNITIES = 20
"""Of an agent, to be a peer or a suspect."""
WINSORISED = 0.1
"""Of agents on each side, and one at least, that are drawn in to the rest before it is measured how much peers differ."""
WIDEST = 0.5
"""Of correlations between two contacts of an agent."""
SHORT_SECONDS = 15.0
LISTEN_TO = 20


@dataclass(frozen=True)
class Funnel:
    """Of the agents of one queue, in their order. `limit`: the least number of cases that is beyond it; `chance`: the probability of so many by
    chance alone; `peer_rate`: the share of all others. `overdispersion`: how many times as much as chance alone peers differ."""

    limit: Ints
    chance: Floats
    peer_rate: Floats
    peers: int
    overdispersion: float


def funnel(cases: Ints, opportunities: Ints, tail: float = TAIL) -> Funnel:
    """Upper limits for each agent against all others.

    Without overdispersion and with very many peers this is the exact binomial limit. Peers who differ (an additive random effect, Spiegelhalter's
    τ², here as the correlation of a beta-binomial, so that small counts stay exact) widen it, and so does a peer rate known from few contacts.
    A tenth of the agents on either side is drawn in before their differences are measured, so that the culprits do not excuse themselves.
    """
    total_cases, total = float(cases.sum()), float(opportunities.sum())
    others = np.maximum(total - opportunities, 0.0)
    peer_rate = (total_cases - cases + 0.5) / (others + 1.0)  # Jeffreys: no rate is 0 for certain
    spread, correlation = _overdispersion(cases, opportunities, total_cases / total if total else 0.0)
    width = correlation + 1 / (others + 2.0)
    limit = np.zeros(len(cases), dtype=np.int64)
    chance = np.zeros(len(cases))
    for number, (n, rate, rho) in enumerate(zip(opportunities, peer_rate, width, strict=True)):
        limit[number], chance[number] = beyond(int(n), float(rate), float(min(rho, WIDEST)), tail)
    counted = int((opportunities >= FEWEST_OPPORTUNITIES).sum())
    return Funnel(limit, chance, peer_rate, max(0, counted - 1), spread)


def beyond(n: int, rate: float, correlation: float, tail: float) -> tuple[int, float]:
    """The least k for which k or more cases of `n` have at most the probability `tail`, and that probability. Beta-binomial with the mean `rate` and
    the correlation `correlation` between two contacts of an agent (0: binomial). k is n + 1 where even all would not be beyond."""
    k = np.arange(n + 1)
    with np.errstate(divide="ignore"):
        if correlation < 1e-9:
            logarithm = special.xlogy(k, rate) + special.xlog1py(n - k, -rate)
        else:
            size = 1 / correlation - 1
            a, b = rate * size, (1 - rate) * size
            logarithm = special.betaln(k + a, n - k + b) - special.betaln(a, b)
        logarithm = logarithm - special.betaln(k + 1, n - k + 1) - np.log(n + 1)
    upper = np.cumsum(np.exp(logarithm)[::-1])[::-1]  # scipy.stats.betabinom gives the same and takes three times as long
    least = int(np.searchsorted(-upper, -tail))
    return (least, float(upper[least])) if least <= n else (n + 1, 0.0)


def _overdispersion(cases: Ints, opportunities: Ints, rate: float) -> tuple[float, float]:
    """(φ, ρ): the mean of the squared winsorised z-scores against what chance alone would give, and the correlation between two contacts of an agent.

    z is of arcsines, whose spread depends on n alone; agents of different n are alike once divided by 1 + (n - 1) ρ. ρ is the one at which what is left
    looks like chance; a cautious one, at the lower fifth of chance, since few peers tell little of how much peers differ.
    """
    counted = opportunities >= FEWEST_OPPORTUNITIES
    if counted.sum() < FEWEST_PEERS or not 0 < rate < 1:
        return 1.0, 0.0
    x, n = cases[counted].astype(float), opportunities[counted].astype(float)
    z = 2 * np.sqrt(n) * (np.arcsin(np.sqrt((x + 0.375) / (n + 0.75))) - math.asin(math.sqrt(rate)))
    by_chance = _winsorised_square(len(z))
    cautious = by_chance * float(special.chdtri(len(z), 0.8)) / len(z)

    def squares(correlation: float) -> float:
        left = z / np.sqrt(1 + (n - 1) * correlation)
        return float(np.mean(_drawn_in(left - np.median(left)) ** 2))

    phi = squares(0.0) / by_chance
    if squares(0.0) <= cautious:
        return phi, 0.0
    low, high = 0.0, WIDEST
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if squares(middle) > cautious else (low, middle)
    return phi, high


def _drawn_in(z: Floats) -> Floats:
    ordered = np.sort(z)
    pulled = max(1, int(WINSORISED * len(z)))
    return np.clip(z, ordered[pulled], ordered[-1 - pulled])


@lru_cache(maxsize=512)
def _winsorised_square(count: int) -> float:
    """The mean of the squares of so many standard normal values, the outer ones drawn in: by simulation, the same each time."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal(count) for _ in range(max(200, min(2000, 200_000 // count))))
    return float(np.mean([np.mean(_drawn_in(row - np.median(row)) ** 2) for row in rows]))


# ---- measures


@dataclass(frozen=True)
class Served:
    """One row a contact, ended and answered. `group`: number of its queue and channel; `agent`: number of the agent whom it says something of.

    talk: seconds, NaN where unknown. by_agent: who ended it is known to be the agent. passed_on: the agent transferred it. hard, bad: see `hardness`
    and `went_badly`. surveyable: it was of the kind that is surveyed; heard_of: the customer's answer came."""

    group: Ints
    agent: Ints
    talk: Floats
    by_agent: Bools
    passed_on: Bools
    hard: Bools
    bad: Bools
    surveyable: Bools
    heard_of: Bools


@dataclass(frozen=True)
class Point:
    """One agent in a funnel. `limit`: as a share; `control_beyond`: the control's count is beyond its own limit."""

    agent: int
    cases: int
    opportunities: int
    rate: float
    limit: float
    peer_rate: float
    control_cases: int
    control_opportunities: int
    control_beyond: bool
    flag: bool
    why: Why


@dataclass(frozen=True)
class Watched:
    """One measure in one queue. `expected_by_chance`: how many agents it would flag, at most, were nobody any different from their peers."""

    group: int
    measure: Measure
    peers: int
    overdispersion: float
    expected_by_chance: float
    points: tuple[Point, ...]


def watch(served: Served, short_seconds: float = SHORT_SECONDS, tail: float = TAIL) -> list[Watched]:
    """All measures in all groups."""
    found = []
    keys, of = _pairs(served.group, served.agent)
    for measure, (opportunity, case, control_opportunity, control_case, wanted) in _measures(served, short_seconds).items():
        counts = [np.bincount(of[rows], minlength=len(keys)) for rows in (case, opportunity, control_case, control_opportunity)]
        for group in np.unique(keys[:, 0]):
            here = (keys[:, 0] == group) & (counts[1] > 0)
            if here.any():
                found.append(_watched(int(group), measure, keys[here, 1], [count[here] for count in counts], wanted, tail))
    return found


def _pairs(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """The different pairs of two numbers, and which of them each row is."""
    width = int(second.max(initial=0)) + 1
    codes, of = np.unique(first * width + second, return_inverse=True)
    return np.column_stack((codes // width, codes % width)), of.astype(np.int64)


def cases_of(served: Served, measure: Measure, short_seconds: float = SHORT_SECONDS) -> Bools:
    """Which contacts are a measure's cases: those to listen to."""
    return _measures(served, short_seconds)[measure][1]


def _measures(served: Served, short_seconds: float) -> Mapping[Measure, tuple[Bools, Bools, Bools, Bools, bool]]:
    """opportunity, case, opportunity of the control, case of the control, and whether the control must be beyond its limit (or must not)."""
    timed = ~np.isnan(served.talk)
    short = timed & (served.talk <= short_seconds) & ~served.passed_on
    bad, good = served.surveyable & served.bad, served.surveyable & ~served.bad
    return {
        "short_hang_ups": (timed, short & served.by_agent, timed, short, True),
        "hard_transfers": (served.hard, served.hard & served.passed_on, ~served.hard, ~served.hard & served.passed_on, False),
        "survey_steering": (bad, bad & ~served.heard_of, good, good & ~served.heard_of, False),
    }


def _watched(group: int, measure: Measure, agents: Ints, counts: Sequence[Ints], wanted: bool, tail: float) -> Watched:
    cases, opportunities, control_cases, control_opportunities = counts
    limits = funnel(cases, opportunities, tail)
    control = funnel(control_cases, control_opportunities, tail)
    points = []
    for number, agent in enumerate(agents):
        n = int(opportunities[number])
        over = bool(cases[number] >= limits.limit[number])
        control_over = bool(control_cases[number] >= control.limit[number])
        why: Why = "flagged"
        if limits.peers < FEWEST_PEERS or n < FEWEST_OPPORTUNITIES:
            why = "too_few_peers" if limits.peers < FEWEST_PEERS else "too_few_cases"
        elif not over:
            why = "within_limit"
        elif cases[number] < FEWEST_CASES:
            why = "too_few_cases"
        elif control_over != wanted:
            why = "control"
        points.append(
            Point(
                int(agent),
                int(cases[number]),
                n,
                float(cases[number] / n),
                min(1.0, float(limits.limit[number] / n)),
                float(limits.peer_rate[number]),
                int(control_cases[number]),
                int(control_opportunities[number]),
                control_over,
                why == "flagged",
                why,
            )
        )
    judged = (
        (opportunities >= FEWEST_OPPORTUNITIES) & (limits.limit >= FEWEST_CASES)
        if limits.peers >= FEWEST_PEERS
        else np.zeros(len(agents), bool)
    )
    return Watched(group, measure, limits.peers, limits.overdispersion, float(limits.chance[judged].sum()), tuple(points))


def hardness(matter: Ints, talk: Floats, passed_on: Bools, burdened: Bools, group: Ints) -> Bools:
    """Which contacts are hard: the customer had tried before (`burdened`: self-service failed, or a repeat), or their matter is among the
    third of the group's contacts whose matters take longest when somebody keeps them. Who served it does not enter, only what it was about."""
    kinds, of = _pairs(group, matter)
    kept = ~passed_on & ~np.isnan(talk)
    counts = np.bincount(of[kept], minlength=len(kinds))
    typical = np.bincount(of[kept], talk[kept], len(kinds)) / np.maximum(counts, 1)
    typical[counts < FEWEST_OPPORTUNITIES] = 0.0  # a matter that nobody knows is not called hard
    hard = burdened.copy()
    for one in np.unique(kinds[:, 0]):
        here = group == one
        lengths = typical[of[here]]
        limit = np.quantile(lengths, 2 / 3)
        if lengths.min() < limit or lengths.max() > limit:
            hard[here] |= lengths >= max(limit, np.nextafter(lengths.min(), np.inf))
    return hard


def went_badly(repeated: Bools, passed_on: Bools, unresolved: Bools) -> Bools:
    """Signs, other than a survey, that a customer was not served: they came again, were passed on, or the agent noted it as not resolved."""
    return repeated | passed_on | unresolved
