"""What asking an expert does: contacts with a question against contacts without, compared within strata (the same queue and disposition).

An average over all would compare hard contacts with easy ones. Each stratum gives a difference; they are combined with the weights of
Mantel and Haenszel, w = n1 n0 / (n1 + n0). The variance of a difference of shares is that of Greenland and Robins (Biometrics 41, 1985,
p. 55); of means it is the pooled one within each stratum. The interval is the normal one at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Z = 1.959963984540054
ENOUGH = 30
"""Contacts on either side, below which nothing is concluded."""


@dataclass(frozen=True)
class Effect:
    """`difference`: with a question less without, in the unit of the values; None where the data do not suffice."""

    difference: float | None
    low: float | None
    high: float | None
    with_question: int
    without: int
    strata: int

    @property
    def is_known(self) -> bool:
        return self.difference is not None


Stratum = tuple[Sequence[float], Sequence[float]]
"""Values with a question, and without."""


def of_shares(strata: Iterable[Stratum]) -> Effect:
    """The difference of shares; values are 0 or 1."""
    return _combined(strata, _share_variance)


def of_means(strata: Iterable[Stratum]) -> Effect:
    """The difference of means."""
    return _combined(strata, _mean_variance)


def _combined(strata: Iterable[Stratum], variance: Callable[[Sequence[float], Sequence[float]], float]) -> Effect:
    weight = weighted = spread = 0.0
    counted = [0, 0, 0]
    for yes, no in strata:
        if not yes or not no or len(yes) + len(no) < 3:
            continue
        w = len(yes) * len(no) / (len(yes) + len(no))
        weight += w
        weighted += w * (math.fsum(yes) / len(yes) - math.fsum(no) / len(no))
        spread += w * w * variance(yes, no)
        counted = [counted[0] + len(yes), counted[1] + len(no), counted[2] + 1]
    if min(counted[:2]) < ENOUGH:
        return Effect(None, None, None, *counted)
    difference, half = weighted / weight, Z * math.sqrt(spread) / weight
    return Effect(difference, difference - half, difference + half, *counted)


def _share_variance(yes: Sequence[float], no: Sequence[float]) -> float:
    shares = ((math.fsum(side) / len(side), len(side)) for side in (yes, no))
    return sum(share * (1 - share) / count for share, count in shares)


def _mean_variance(yes: Sequence[float], no: Sequence[float]) -> float:
    squares = sum(math.fsum((value - math.fsum(side) / len(side)) ** 2 for value in side) for side in (yes, no))
    return squares / (len(yes) + len(no) - 2) * (1 / len(yes) + 1 / len(no))
