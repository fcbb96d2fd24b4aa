"""Which contacts are listened to, with what chance each was drawn, and what such a sample says of all contacts.

The stratified sample gives every agent the same expected number (new staff more), spread over their channels and queues. Each contact's chance
is known, so means weighted by its inverse are unbiased. The risk-based sample finds what went wrong; it has no chances and is in no mean.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.qa.domain.errors import Invalid
from services.qa.domain.intervals import CONFIDENCE, Interval, normal_quantile, student_quantile, wilson

BOOST_NEW = 2.0
WORST_SPREAD = 0.5
"""The largest standard deviation that scores between 0 and 1 can have: half of them 0, half 1."""


@dataclass(frozen=True)
class Candidate:
    """A contact that could be evaluated. `new`: its agent is new."""

    id: str
    agent: str
    channel: str
    queue: str
    new: bool = False

    @property
    def stratum(self) -> str:
        return f"{self.agent}/{self.channel}/{self.queue}"


@dataclass(frozen=True)
class Drawn:
    id: str
    stratum: str
    probability: float


@dataclass(frozen=True)
class Risk:
    """A contact worth hearing, and why."""

    id: str
    reasons: tuple[str, ...]
    score: float


def draw(frame: Iterable[Candidate], size: int, seed: str | int, boost_new: float = BOOST_NEW) -> list[Drawn]:
    """`size` contacts (all where there are fewer). The same frame, in any order, and seed give the same sample.

    Systematic sampling with unequal chances (Madow, Ann. Math. Statist. 20, 1949, p. 333) along the list ordered by agent, channel, queue and
    chance: every stratum gets its expected number rounded up or down, also where there are more strata than evaluations, and no contact's chance is 0.
    """
    if size < 1:
        raise Invalid("a sample has at least one contact: mend `size`")
    if boost_new <= 0:
        raise Invalid("`boost_new` is how many times as often new staff are heard: more than 0")
    key = str(seed).encode()
    ordered = sorted(frame, key=lambda one: (one.agent, one.channel, one.queue, _random(key, one.id.encode()), one.id))
    if not ordered:
        return []
    chances = probabilities(ordered, size, boost_new)
    sums = np.concatenate(([0.0], np.cumsum(chances)))
    points = _random(key, b"") + np.arange(round(float(sums[-1])))
    taken = np.unique(np.searchsorted(sums, points, side="right") - 1)
    return [Drawn(ordered[at].id, ordered[at].stratum, float(chances[at])) for at in taken if at < len(ordered)]


def probabilities(frame: Sequence[Candidate], size: int, boost_new: float = BOOST_NEW) -> NDArray[np.float64]:
    """The chance of each to be drawn: agents have equal expected numbers, new ones `boost_new` times as many, and who has fewer contacts than that
    all of them; what is left over goes to the others. They add up to `size`."""
    agents, of_agent, counts = np.unique([one.agent for one in frame], return_inverse=True, return_counts=True)
    share = np.ones(len(agents))
    share[of_agent[np.array([one.new for one in frame], dtype=bool)]] = boost_new
    size = min(size, len(frame))
    expected = np.zeros(len(agents))
    open_ = np.ones(len(agents), dtype=bool)
    while open_.any():
        level = (size - expected[~open_].sum()) / share[open_].sum()
        full = open_ & (share * level >= counts)
        if not full.any():
            expected[open_] = share[open_] * level
            break
        expected[full] = counts[full]
        open_ &= ~full
    return np.minimum(1.0, (expected / counts)[of_agent])


def by_risk(risks: Iterable[Risk], size: int, exclude: Collection[str] = ()) -> list[Risk]:
    """Those with the most to hear first; ties by id."""
    left = (risk for risk in risks if risk.id not in exclude and risk.score > 0)
    return sorted(left, key=lambda risk: (-risk.score, risk.id))[:size]


def weighted_mean(scores: Sequence[tuple[float, float | None]], confidence: float = CONFIDENCE) -> Interval:
    """The mean score (0..1) of all contacts from (score, chance) of those drawn: Hájek's ratio of Horvitz-Thompson totals.

    Its variance is Deville's approximation for samples of a fixed size with unequal chances (Survey Methodology 25, 1999, p. 193), which for
    equal chances is the textbook's (1 - f) s²/n. Scores that are all alike would give an interval of no length: then it is Wilson's. Raises
    Invalid for a score without a chance: it came from a sample that was not random.
    """
    if any(chance is None or not 0 < chance <= 1 for _, chance in scores):
        raise Invalid("a mean takes only evaluations of a random sample, each with its probability (more than 0, at most 1)")
    n = len(scores)
    if not n:
        return Interval(None, None, None, 0)
    y = np.array([score for score, _ in scores])
    chance = np.array([chance for _, chance in scores], dtype=float)
    average = float((y / chance).sum() / (1 / chance).sum())
    if np.ptp(y) == 0:
        low_high = wilson(average * n, n, confidence)
        return Interval(average, low_high.low, low_high.high, n)
    half = student_quantile(confidence, n - 1) * math.sqrt(_variance(y, chance, average))
    return Interval(average, max(0.0, average - half), min(1.0, average + half), n)


def _variance(y: NDArray[np.float64], chance: NDArray[np.float64], average: float) -> float:
    n, left = len(y), 1 - chance
    if not left.any():
        return 0.0  # everybody was asked
    error = (y - average) / chance / (1 / chance).sum()
    centre = (left * error).sum() / left.sum()
    return float(n / (n - 1) * (left * (error - centre) ** 2).sum())


def needed(spread: float | None, within: float, population: int | None = None, confidence: float = CONFIDENCE) -> int:
    """Evaluations that an agent needs for a mean known to ±`within`, of `population` contacts (None: very many).

    `spread`: the standard deviation of the agent's scores so far; None: not known, the worst is assumed. Cochran, Sampling Techniques (3rd ed.
    1977), §4.4 and 4.7; a spread that is itself an estimate takes Student's quantile instead of the normal one.
    """
    if not 0 < within < 1:
        raise Invalid("`within` is how near the mean must be: more than 0 and less than 1, as in 0.05")
    quantile = normal_quantile(confidence)
    n = _size(quantile, WORST_SPREAD if spread is None else spread, within, population)
    if spread is None:
        return n
    n = max(2, n)
    while (population is None or n < population) and student_quantile(confidence, n - 1) * spread * math.sqrt(
        _left(n, population) / n
    ) > within:
        n += 1
    return n if population is None else min(n, population)


def _left(n: int, population: int | None) -> float:
    """The finite population correction."""
    return 1.0 if population is None else max(0.0, 1 - n / population)


def _size(quantile: float, spread: float, within: float, population: int | None) -> int:
    infinite = (quantile * spread / within) ** 2
    return max(1, math.ceil(infinite if population is None else infinite / (1 + (infinite - 1) / max(1, population)) - 1e-9))


def _random(key: bytes, text: bytes) -> float:
    """A number in [0, 1) that belongs to the seed and the contact, whatever else is in the frame."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=7, key=key[:64]).digest()) / 2**56
