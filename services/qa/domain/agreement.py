"""How far evaluators agree beyond what chance alone would give, who differs from the others, and who began to differ.

"Within a point" flatters: where nearly everything is marked yes, two people who mark at random agree nearly always. Krippendorff's alpha is 1 for
perfect agreement and 0 for what chance would give, takes any number of evaluators and any gaps, and is the same for yes/no, scales and numbers but
for the distance between two values (Krippendorff, Content Analysis, 2nd ed. 2004, ch. 11; Hayes and Krippendorff, Communication Methods and
Measures 1, 2007, p. 77).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from services.qa.domain.intervals import CONFIDENCE, Interval, mean

Level = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RELIABLE = 0.8
TENTATIVE = 0.667
"""Krippendorff's own customary limits (2004, p. 241): rely on variables at 0.8, draw tentative conclusions down to 0.667."""
FEWEST_UNITS = 10
"""Contacts that two or more have marked, below which no verdict is given."""
RESAMPLES = 1000
BLOCK = 2_000_000
"""Numbers in memory at a time while resampling."""


@dataclass(frozen=True)
class Ratings:
    """One mark each: `unit` (a contact's number), `rater` (an evaluator's), `value`; times in epoch seconds where order matters."""

    unit: Ints
    rater: Ints
    value: Floats
    at: Floats | None = None

    @classmethod
    def of(cls, matrix: ArrayLike) -> Ratings:
        """From a table of evaluators (rows) by contacts (columns), NaN where there is no mark."""
        table = np.asarray(matrix, dtype=float)
        rater, unit = np.nonzero(~np.isnan(table))
        return cls(unit.astype(np.int64), rater.astype(np.int64), table[rater, unit])

    def pairable(self) -> Ratings:
        """Without units that one alone has marked, which say nothing about agreement; units numbered from 0."""
        _, unit, counts = np.unique(self.unit, return_inverse=True, return_counts=True)
        paired = counts[unit] > 1
        number = np.cumsum(counts > 1) - 1
        return Ratings(
            number[unit[paired]].astype(np.int64),
            self.rater[paired],
            self.value[paired],
            None if self.at is None else self.at[paired],
        )


@dataclass(frozen=True)
class Against:
    """One evaluator against all others who marked the same contacts. `bias`: the mean of their marks less the others' mean."""

    rater: int
    alpha: float | None
    units: int
    bias: Interval


@dataclass(frozen=True)
class Agreement:
    """`alpha` with the ends of its bootstrap interval; None where nothing varies. `within_a_point`: of all pairs of marks, beside it and never instead."""

    level: Level
    alpha: float | None
    low: float | None
    high: float | None
    within_a_point: float | None
    units: int
    raters: int
    verdict: Literal["reliable", "tentative", "unreliable", "not_enough_data"]
    against: tuple[Against, ...]


def alpha(matrix: ArrayLike, level: Level) -> float | None:
    """Krippendorff's alpha of evaluators (rows) by contacts (columns), NaN where there is no mark. None where all marks are alike."""
    return _Table(Ratings.of(matrix).pairable(), level).alpha()


def agreement(
    ratings: Ratings, level: Level, step: float, rng: np.random.Generator, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Agreement:
    """Of one criterion. `step`: how far apart marks are that are "within a point" (one step of a scale; 0 for yes and no)."""
    pairs = ratings.pairable()
    raters = len(np.unique(pairs.rater))
    if not len(pairs.unit):
        return Agreement(level, None, None, None, None, 0, 0, "not_enough_data", ())
    table = _Table(pairs, level)
    low, high = table.bootstrap(rng, resamples, confidence)
    value = table.alpha()
    return Agreement(
        level,
        value,
        low,
        high,
        _within(pairs, step),
        table.units,
        raters,
        _verdict(value, low, high, table.units),
        tuple(table.against(pairs)),
    )


def _verdict(
    value: float | None, low: float | None, high: float | None, units: int
) -> Literal["reliable", "tentative", "unreliable", "not_enough_data"]:
    """By the end of the interval, not by its middle: a lucky handful of contacts proves nothing, and an unlucky one neither."""
    if value is None or low is None or high is None or units < FEWEST_UNITS:
        return "not_enough_data"
    if low >= TENTATIVE:
        return "reliable" if value >= RELIABLE else "tentative"
    return "unreliable" if high < RELIABLE or value < TENTATIVE else "tentative"


class _Table:
    """Marks by unit, in the form that observed and expected disagreement are computed from.

    nominal and ordinal: counts of each of the values; interval: sums alone, so the number of different values does not matter.
    """

    def __init__(self, pairs: Ratings, level: Level) -> None:
        self.level = level
        self.pairs = pairs
        self.units = int(pairs.unit.max()) + 1 if len(pairs.unit) else 0
        self.marks = np.bincount(pairs.unit, minlength=self.units).astype(float)
        self.values, self.code = np.unique(pairs.value, return_inverse=True)
        if level == "interval":
            sums = np.bincount(pairs.unit, pairs.value, self.units)
            squares = np.bincount(pairs.unit, pairs.value**2, self.units)
            observed = 2 * (self.marks * squares - sums**2) / np.maximum(self.marks - 1, 1)
            self.columns = np.column_stack((self.marks, sums, squares, np.maximum(observed, 0.0)))
        else:
            kinds = len(self.values)
            counts = np.zeros((self.units, kinds))
            np.add.at(counts, (pairs.unit, self.code), 1)
            self.columns = counts

    def alpha(self) -> float | None:
        if not self.units:
            return None
        found = self._alphas(*self._totals(np.ones((1, self.units)), self.columns))[0]
        return None if np.isnan(found) else float(found)

    def bootstrap(self, rng: np.random.Generator, resamples: int, confidence: float) -> tuple[float | None, float | None]:
        """The percentile interval over contacts drawn anew. Contacts marked alike are drawn together, as a multinomial: the same distribution, and fast."""
        kinds, of_unit, frequency = np.unique(self.columns, axis=0, return_inverse=True, return_counts=True)
        found = np.empty(resamples)
        block = max(1, BLOCK // len(kinds))
        for begin in range(0, resamples, block):
            number = min(block, resamples - begin)
            if len(kinds) < self.units / 50:
                times = rng.multinomial(self.units, frequency / self.units, size=number).astype(float)
            else:  # many kinds: drawing each contact is faster
                drawn = (of_unit[rng.integers(0, self.units, self.units)] for _ in range(number))
                times = np.array([np.bincount(one, minlength=len(kinds)) for one in drawn], dtype=float)
            found[begin : begin + len(times)] = self._alphas(*self._totals(times, kinds))
        found = found[~np.isnan(found)]
        if len(found) < resamples / 2:  # most resamples hold one value alone
            return None, None
        tail = (1 - confidence) / 2
        low, high = np.quantile(found, (tail, 1 - tail))
        return float(low), float(high)

    def _totals(self, times: Floats, columns: Floats) -> tuple[Floats, Floats]:
        """For each resample: what the marks are together, and the coincidences (interval: nothing more)."""
        if self.level == "interval":
            return times @ columns, np.empty(0)
        marks = columns.sum(axis=1)
        kinds = columns.shape[1]
        pairs = columns[:, :, None] * columns[:, None, :]
        pairs[:, np.arange(kinds), np.arange(kinds)] -= columns
        pairs /= np.maximum(marks - 1, 1)[:, None, None]
        return times @ columns, (times @ pairs.reshape(len(columns), kinds * kinds)).reshape(len(times), kinds, kinds)

    def _alphas(self, totals: Floats, coincidences: Floats) -> Floats:
        observed, expected = self._disagreements(totals, coincidences)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(expected > 1e-15, 1 - observed / expected, np.nan)

    def _disagreements(self, totals: Floats, coincidences: Floats) -> tuple[Floats, Floats]:
        if self.level == "interval":
            n, sums, squares, observed = totals.T
            return observed / n, np.maximum(2 * (n * squares - sums**2), 0.0) / (n * np.maximum(n - 1, 1))
        n = totals.sum(axis=1)
        distance = self._distance(totals)
        observed = (coincidences * distance).sum(axis=(1, 2)) / n
        expected = np.einsum("rc,rk,rck->r", totals, totals, distance) / (n * np.maximum(n - 1, 1))
        return observed, expected

    def _distance(self, totals: Floats) -> Floats:
        """Squared, between each two values, for each resample: (resamples, values, values)."""
        kinds = totals.shape[1]
        if self.level == "nominal":
            return np.broadcast_to(1 - np.eye(kinds), (len(totals), kinds, kinds))
        middle = np.cumsum(totals, axis=1) - totals / 2  # ordinal: the marks between two values, half of either end's
        return (middle[:, :, None] - middle[:, None, :]) ** 2

    def against(self, pairs: Ratings) -> list[Against]:
        """Each evaluator's alpha: their observed disagreement with the others over the expected one of all. Weighted by their contacts, these
        add up to the alpha of all, so whoever pulls it down is seen."""
        _, expected = self._disagreements(*self._totals(np.ones((1, self.units)), self.columns))
        marks = self.marks[pairs.unit]
        sums = np.bincount(pairs.unit, pairs.value, self.units)[pairs.unit]
        difference = pairs.value - (sums - pairs.value) / (marks - 1)
        if self.level == "interval":
            squares = np.bincount(pairs.unit, pairs.value**2, self.units)[pairs.unit]
            apart = (marks * pairs.value**2 - 2 * pairs.value * sums + squares) / (marks - 1)
        else:
            distance = self._distance(self.columns.sum(axis=0)[None, :])[0]
            apart = (self.columns @ distance)[pairs.unit, self.code] / (marks - 1)
        found = []
        for rater in np.unique(pairs.rater):
            of = pairs.rater == rater
            theirs = None if expected[0] <= 1e-15 else float(1 - apart[of].mean() / expected[0])
            found.append(Against(int(rater), theirs, int(of.sum()), mean(difference[of].tolist())))
        return found


def _within(pairs: Ratings, step: float) -> float | None:
    """The share of pairs of marks of the same contact that are at most `step` apart."""
    order = np.lexsort((pairs.value, pairs.unit))
    unit, value = pairs.unit[order], pairs.value[order]
    near = total = 0
    for apart in range(1, int(np.bincount(unit).max())):
        same = unit[apart:] == unit[:-apart]
        near += int((same & (value[apart:] - value[:-apart] <= step + 1e-9)).sum())
        total += int(same.sum())
    return near / total if total else None


# ---- drift


@dataclass(frozen=True)
class Drift:
    """`since`: the number of the observation (from 0) with which the run began that led to the alarm; `shift`: the mean from there on less the mean before."""

    alarm: bool
    since: int | None
    shift: float | None
    count: int


REFERENCE = 0.5
LIMIT = 5.0
"""In standard deviations: a shift of one is found within about ten observations, and a false alarm comes once in about 465 (Montgomery, Introduction
to Statistical Quality Control, 6th ed. 2009, §9.1)."""
FEWEST_FOR_DRIFT = 20
SMALLEST_SPREAD = 0.05
"""Scores are between 0 and 1; who always agreed exactly does not drift by a hundredth."""
FARTHEST = 2.0
"""Standard deviations that one contact counts, however far it is off (a robust CUSUM: Lucas and Crosier, Communications in Statistics A 11, 1982,
p. 2669). Scores come in steps, and one odd contact is no drift."""


def cusum(z: Sequence[float], reference: float = REFERENCE, limit: float = LIMIT) -> tuple[Floats, Floats, int | None, int | None]:
    """The two tabular sums of standardised observations, the observation of the first alarm, and the one with which its run began."""
    up, down = np.zeros(len(z)), np.zeros(len(z))
    high = low = 0.0
    began_high = began_low = 0
    for number, value in enumerate(z):
        high, low = max(0.0, high + value - reference), max(0.0, low - value - reference)
        began_high, began_low = (number + 1 if high == 0 else began_high), (number + 1 if low == 0 else began_low)
        up[number], down[number] = high, low
        if max(high, low) > limit:
            up[number + 1 :] = down[number + 1 :] = np.nan
            return up, down, number, began_high if high >= low else began_low
    return up, down, None, None


def self_starting(x: Floats, smallest: float = 1e-9) -> Floats:
    """Each observation from the third on as it stands to those before it: independent standard normal values, where nothing changes (Hawkins 1987)."""
    n = np.arange(1, len(x) + 1)
    sums, squares = np.cumsum(x), np.cumsum(x**2)
    before = n[2:] - 1
    average = sums[1:-1] / before
    variance = np.maximum((squares[1:-1] - before * average**2) / (before - 1), smallest**2)
    t = (x[2:] - average) / np.sqrt(variance) * np.sqrt(before / (before + 1))
    return special.ndtri(np.clip(special.stdtr(before - 1, t), 1e-12, 1 - 1e-12))


def drift(differences: Sequence[float], reference: float = REFERENCE, limit: float = LIMIT) -> Drift:
    """Whether an evaluator's distance from the others (their score of a contact less the others' mean, in order of time) has moved.

    A self-starting CUSUM (Hawkins, The Statistician 36, 1987, p. 299): each observation is held against those before it, so nobody needs a
    period that is known to be good. Being always stricter is not drift; that is the bias in `Against`.
    """
    x = np.asarray(differences, dtype=float)
    if len(x) < FEWEST_FOR_DRIFT:
        return Drift(False, None, None, len(x))
    _, _, alarm, began = cusum(np.clip(self_starting(x, SMALLEST_SPREAD), -FARTHEST, FARTHEST).tolist(), reference, limit)
    if alarm is None or began is None:
        return Drift(False, None, None, len(x))
    since = began + 2  # the first two have nothing to stand to
    return Drift(True, since, float(x[since:].mean() - x[:since].mean()), len(x))


def differences(pairs: Ratings) -> list[tuple[int, NDArray[np.int64], Floats]]:
    """For each evaluator in order of time: the units, and their mark less the others' mean. `at` must be told."""
    if pairs.at is None:
        raise ValueError("the order of time is not known")
    marks = np.bincount(pairs.unit)[pairs.unit]
    sums = np.bincount(pairs.unit, pairs.value)[pairs.unit]
    apart = pairs.value - (sums - pairs.value) / (marks - 1)
    found = []
    for rater in np.unique(pairs.rater):
        of = np.nonzero(pairs.rater == rater)[0]
        of = of[np.argsort(pairs.at[of], kind="stable")]
        found.append((int(rater), of.astype(np.int64), apart[of]))
    return found
