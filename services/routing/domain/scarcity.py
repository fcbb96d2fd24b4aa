"""What a group of agents is worth to those who are not yet there: the price of scarce skills."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .needs import Need

MEMORY_SECONDS = 1800.0  # arrivals of the last half hour count
LEARNING = 0.05  # share of the newest in the mean time of service
USUAL_SERVICE_SECONDS = 180.0  # until the first service of any kind is over
REMEMBERED_NEEDS = 2048
CELLS = 40_000  # needs × groups weighed at one pricing: 10 ms at most
COMPARED = 2000  # pairs of need and group compared for the first time at one pricing
LEAST_ERLANGS = 1e-9  # of a need; less is what nobody has asked for since the day before, and no price
ROUNDS, STEPS = 12, 10
AT_REST = 1e-9
"""A round that moved the utilisations less than this share of the highest is the last."""
DIGITS = 6
"""Of a price: groups that are equally busy cost the same, however the sums were rounded."""


class Demand:
    """Offered load in erlangs by kind of need: exponentially weighted arrivals a second × mean seconds of service."""

    def __init__(self) -> None:
        self._arrivals: dict[Need, tuple[float, float]] = {}  # need -> weight of its arrivals, when counted
        self._seconds: dict[Need, float] = {}
        self._usual: float | None = None
        self._began: float | None = None

    def arrival(self, need: Need, now: float) -> None:
        self._began = now if self._began is None else self._began
        weight, at = self._arrivals.pop(need, (0.0, now))
        self._arrivals[need] = (weight * _decay(now - at) + 1.0, max(now, at))
        if len(self._arrivals) > REMEMBERED_NEEDS:
            oldest = next(iter(self._arrivals))
            del self._arrivals[oldest]
            self._seconds.pop(oldest, None)

    def service(self, need: Need, seconds: float) -> None:
        self._usual = _learnt(self._usual, seconds)
        if need in self._arrivals:
            self._seconds[need] = _learnt(self._seconds.get(need), seconds)

    def erlangs(self, now: float) -> dict[Need, float]:
        """The time seen so far stands for all where it is shorter than the memory."""
        if self._began is None:
            return {}
        seen = MEMORY_SECONDS * max(1.0 - _decay(now - self._began), 1.0 / MEMORY_SECONDS)
        usual = USUAL_SERVICE_SECONDS if self._usual is None else self._usual
        return {need: weight * _decay(now - at) / seen * self._seconds.get(need, usual) for need, (weight, at) in self._arrivals.items()}


def utilisations(demand: np.ndarray, agents: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """How busy each group gets when the demand is spread as evenly as those who fit allow.

    demand (needs,) in erlangs, agents (groups,) heads, fits (needs, groups) bool; answers (groups,) erlangs a head.
    Each need spreads over those who fit in proportion to weights w of the groups, at first their heads, and w ← w/u with u the
    utilisation this gives. At rest all groups that a need uses are equally busy and those it leaves alone are busier: the minimum
    of Σ agents·u²/2, which is the even solution of the fluid allocation linear programme, and shares its bottleneck: where the
    programme's dual price is above 0, utilisation is highest (Gurvich & Whitt 2009, queue-and-idleness-ratio controls).
    """
    able = fits & (agents > 0)
    served = able.any(axis=1)
    able, load = able[served], demand[served]
    heads = np.maximum(agents, 1e-9)
    shares, busy, before = able * agents, np.zeros(len(agents)), np.zeros(len(agents))
    weights, asked = np.ones(len(agents)), np.zeros(len(load))
    for _ in range(ROUNDS if len(load) else 0):
        shares /= shares.sum(axis=1, keepdims=True)
        per_head = shares / heads
        weights.fill(1.0)
        for _ in range(STEPS):  # in between the weights alone move: two products with a vector each
            np.divide(load, np.dot(shares, weights, out=asked), out=asked)
            np.dot(asked, per_head, out=busy)
            busy *= weights
            weights /= np.maximum(busy, 1e-6 * np.maximum.reduce(busy))
        if np.abs(busy - before).max() <= AT_REST * np.maximum.reduce(busy):
            break
        before = busy.copy()
        shares = np.maximum(shares * (weights / weights.min()), able * 1e-12)
    return busy


def prices(demand: Mapping[Need, float], agents: np.ndarray, fits: Mapping[Need, np.ndarray]) -> np.ndarray:
    """Price of each group, 0 to 1: its utilisation; where demand exceeds the agents, in proportion to the busiest.

    agents by group; fits: need -> bool vector over the groups. Without known demand all are 0.
    """
    known = [need for need in demand if demand[need] >= LEAST_ERLANGS and need in fits]
    if not known or not len(agents):
        return np.zeros(len(agents))
    busy = utilisations(np.array([demand[need] for need in known]), agents, np.stack([fits[need] for need in known]))
    return np.round(busy / max(1.0, float(busy.max())), DIGITS)


def most(demand: Mapping[Need, float], groups: int) -> list[Need]:
    """The needs worth weighing, largest demand first: as many as fit in the time of one pricing."""
    return sorted(demand, key=lambda need: -demand[need])[: max(1, CELLS // max(1, groups))]


def _decay(seconds: float) -> float:
    return math.exp(-max(0.0, seconds) / MEMORY_SECONDS)


def _learnt(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + LEARNING * (newest - mean)
