"""One-call resolution: a contact counts as resolved when the same customer did not come again about the same matter within N days (R72).

A contact younger than N days may still be undone, so it is neither a success nor a failure. Nor may the recent ones that were undone already be
counted while the recent others are left out: the share would be too low. There are two honest figures: the share among contacts whose N days
are over, and the estimate of Kaplan and Meier, which uses the recent ones for as long as they have been watched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.qa.domain.intervals import CONFIDENCE, Interval, normal_quantile, wilson

DAY = 86400.0
Outcome = Literal["resolved", "repeated", "too_recent"]


def outcome(ended_at: float, next_at: float | None, days: float, known_until: float) -> Outcome:
    """`next_at`: when the same customer next came about the same matter; `known_until`: the time of the newest event that has been applied, which
    may be long before now. All in epoch seconds."""
    if next_at is not None and next_at <= min(ended_at + days * DAY, known_until):
        return "repeated"
    return "resolved" if known_until >= ended_at + days * DAY else "too_recent"


@dataclass(frozen=True)
class Resolution:
    """`rate`: among contacts whose days are over. `survival`: by Kaplan and Meier, of all. `too_recent` and `repeated_early` (undone before
    their days were over) are in `survival` alone."""

    rate: Interval
    survival: Interval
    resolved: int
    repeated: int
    too_recent: int
    repeated_early: int


def rate(ended_at: ArrayLike, next_at: ArrayLike, days: float, known_until: float, confidence: float = CONFIDENCE) -> Resolution:
    """Of many contacts; `next_at` is NaN where nobody came again. Contacts that ended after `known_until` are left out."""
    ended, following = np.asarray(ended_at, dtype=float), np.asarray(next_at, dtype=float)
    known = ended <= known_until
    ended, following = ended[known], following[known]
    over = ended + days * DAY <= known_until
    repeated = following <= np.minimum(ended + days * DAY, known_until)
    watched = np.minimum(np.where(repeated, following, known_until) - ended, days * DAY)
    good = int((over & ~repeated).sum())
    return Resolution(
        wilson(good, int(over.sum()), confidence),
        survival(np.maximum(watched, 0.0), repeated, days * DAY, confidence),
        good,
        int((over & repeated).sum()),
        int((~over & ~repeated).sum()),
        int((~over & repeated).sum()),
    )


def survival(watched: ArrayLike, happened: ArrayLike, until: float, confidence: float = CONFIDENCE) -> Interval:
    """The share to which it has not happened by `until`, where each was watched so long (Kaplan and Meier, JASA 53, 1958, p. 457), with
    Greenwood's variance on the log-minus-log scale. None where nobody was watched to that day: nothing is known of it then."""
    times, events = np.asarray(watched, dtype=float), np.asarray(happened, dtype=bool)
    n = len(times)
    if not n or times.max() < until:
        return Interval(None, None, None, n)
    moments, counts = np.unique(times[events & (times <= until)], return_counts=True)
    at_risk = n - np.searchsorted(np.sort(times), moments, side="left")
    alive = float(np.prod(1 - counts / at_risk))
    if alive in (0.0, 1.0):  # Greenwood's variance is 0 then; who was watched for an hour says little about a week
        watched_to_the_end = int((times >= until).sum())
        return replace(wilson(alive * watched_to_the_end, watched_to_the_end, confidence), count=n)
    greenwood = _greenwood(counts, at_risk)
    reach = normal_quantile(confidence) * math.sqrt(greenwood) / abs(math.log(alive))
    return Interval(alive, alive ** math.exp(reach), alive ** math.exp(-reach), n)


def _greenwood(counts: NDArray[np.int64], at_risk: NDArray[np.int64]) -> float:
    return float((counts / (at_risk * (at_risk - counts).astype(float))).sum())
