"""Intervals around shares and means, so that no figure of few contacts looks like knowledge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
FEWEST_FOR_SKEW = 30
"""Values below which the skewness of a mean's sample is not known well enough to say anything about the mean."""


@dataclass(frozen=True)
class Interval:
    """`value` with the ends of its interval, from `count` observations; all None where they do not suffice."""

    value: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def wilson(cases: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """A share with Wilson's score interval (JASA 22, 1927, p. 209). `n` need not be whole: an effective size."""
    if n <= 0:
        return Interval(None, None, None, 0)
    share, z = cases / n, normal_quantile(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, 0.0 if cases <= 0 else centre - half, 1.0 if cases >= n else centre + half, round(n))


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """A mean with Student's interval; one value alone has none."""
    n = len(values)
    if not n:
        return Interval(None, None, None, 0)
    average = math.fsum(values) / n
    if n == 1:
        return Interval(average, None, None, 1)
    spread = math.sqrt(math.fsum((value - average) ** 2 for value in values) / (n - 1))
    half = student_quantile(confidence, n - 1) * spread / math.sqrt(n)
    return Interval(average, average - half, average + half, n)


def of_moments(count: int, total: float, squares: float, cubes: float, confidence: float = CONFIDENCE) -> Interval:
    """A mean from the sums of its values, of their squares and of their cubes: what one statement of SQL gives of a million amounts.

    Amounts are skewed (most contacts sell nothing, a few much), and Student's interval then ends too low on both sides. Hall's transformation
    removes the skewness (J. R. Statist. Soc. B 54, 1992, p. 221; tried by Zhou and Gao, The American Statistician 54, 2000, p. 100). Below
    30 values there is a mean and no interval.
    """
    if not count:
        return Interval(None, None, None, 0)
    average = total / count
    if count < FEWEST_FOR_SKEW:
        return Interval(average, None, None, count)
    variance = max(0.0, squares / count - average**2)
    if variance <= 1e-12 * max(squares / count, 1e-300):
        return Interval(average, None, None, count)  # all alike: how much they differ is not known yet
    spread = math.sqrt(variance)
    skewness = (cubes / count - 3 * average * squares / count + 2 * average**3) / spread**3
    half = student_quantile(confidence, count - 1)
    error = spread * math.sqrt(count / (count - 1)) / math.sqrt(count)
    ends = sorted(average - error * _unskewed(t, skewness, count) for t in (half, -half))
    return Interval(average, ends[0], ends[1], count)


def _unskewed(t: float, skewness: float, n: int) -> float:
    """The t of a skewed sample that belongs to `t` of a symmetric one: the inverse of Hall's cubic."""
    root = math.sqrt(n)
    if abs(skewness) < 1e-6:
        return t
    return float(3 * root / skewness * (np.cbrt(1 + skewness * (t - skewness / (6 * root)) / root) - 1))


@lru_cache(maxsize=64)
def normal_quantile(confidence: float) -> float:
    """1.96 for 0.95."""
    return float(special.ndtri(0.5 + confidence / 2))


@lru_cache(maxsize=4096)
def student_quantile(confidence: float, degrees: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, degrees)) if degrees < 100_000 else normal_quantile(confidence)
