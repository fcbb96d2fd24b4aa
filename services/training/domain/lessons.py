"""Whether a lesson closed the gap for which it was given: the same criterion, before and after.

Difference of means with the interval of Welch (Biometrika 34, 1947). Who was found with a gap was found at a bad moment, and would do better
without any lesson too; the evaluation that found the gap is therefore no part of what was before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

ENOUGH_LESSONS = 5


@dataclass(frozen=True)
class Comparison:
    """Means of values from 0 to 1, their difference (after less before) with its 95 % interval; None where the data do not say.
    `verdict`: closed (better beyond chance, or at the mark with nothing to compare with), open (not better by the mark), unclear."""

    before: float | None
    after: float | None
    before_count: int
    after_count: int
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


def compare(before: Sequence[float], after: Sequence[float], at_least: float, enough: int) -> Comparison:
    mean_before, mean_after = _mean(before), _mean(after)
    difference = low = high = None
    if mean_before is not None and mean_after is not None:
        difference = mean_after - mean_before
        if (half := _half_width(before, after)) is not None:
            low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(
        mean_before, mean_after, len(before), len(after), difference, low, high, _verdict(mean_after, len(after), low, at_least, enough)
    )


def _verdict(after: float | None, count: int, low: float | None, at_least: float, enough: int) -> str:
    if after is None or count < enough:
        return "unclear"
    if after >= at_least and (low is None or low > 0):
        return "closed"
    if after < at_least and (low is None or low <= 0):
        return "open"
    return "closed" if low is not None and low > 0 else "unclear"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _half_width(one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(one) < 2 or len(other) < 2:
        return None
    parts = []
    for values in (one, other):
        mean = math.fsum(values) / len(values)
        parts.append(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    if sum(parts) < 1e-12:
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    return float(stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))


@dataclass(frozen=True)
class Effect:
    """Of all judged lessons of one module: the mean difference with its 95 % interval (Student's t over lessons). `closes_nothing`: enough were judged,
    none is closed, and the interval does not lie above zero."""

    judged: int
    closed: int
    difference: float | None
    low: float | None
    high: float | None
    closes_nothing: bool


def effect(differences: Sequence[float], judged: int, closed: int) -> Effect:
    mean, count = _mean(differences), len(differences)
    low = high = None
    if mean is not None and count >= 2:
        spread = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (count - 1) / count)
        half = float(stdtrit(count - 1, 0.975)) * spread
        low, high = mean - half, mean + half
    nothing = judged >= ENOUGH_LESSONS and closed == 0 and (low is None or low <= 0)
    return Effect(judged, closed, mean, low, high, nothing)
