"""How long callers would have stayed, from waits of which most were ended by an answer: patience under censoring."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Survival:
    """The share of callers who stay longer than t seconds: a staircase down at `times` to `shares`, and beyond the last of them an
    exponential fall at `tail_rate` a second. Without any abandonment and with rate 0 everybody stays for ever."""

    times: np.ndarray
    shares: np.ndarray
    tail_rate: float

    def share(self, seconds: np.ndarray) -> np.ndarray:
        seconds = np.asarray(seconds, dtype=float)
        if not len(self.times):
            return np.exp(-self.tail_rate * seconds)
        index = np.searchsorted(self.times, seconds, side="right")
        stairs = np.concatenate([[1.0], self.shares])[index]
        beyond = np.maximum(seconds - self.times[-1], 0.0)
        return np.where(beyond > 0.0, self.shares[-1] * np.exp(-self.tail_rate * beyond), stairs)

    def longer_than(self, stayed: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Patience of callers who are known to have stayed so many seconds; `chance` are numbers from 0 to 1, drawn evenly."""
        wanted = np.asarray(chance, dtype=float) * self.share(stayed)
        if not len(self.times):
            return _beyond(wanted, 1.0, self.tail_rate)
        index = np.searchsorted(-self.shares, -wanted, side="left")  # the first step down to `wanted` or below
        within = index < len(self.times)
        found = np.where(within, self.times[np.minimum(index, len(self.times) - 1)], 0.0)
        late = self.times[-1] + _beyond(wanted, float(self.shares[-1]), self.tail_rate)
        return np.where(within, np.maximum(found, stayed), np.maximum(late, stayed))

    @property
    def mean(self) -> float:
        """Seconds; inf where some stay for ever."""
        steps = np.diff(np.concatenate([[0.0], self.times]))
        area = float((steps * np.concatenate([[1.0], self.shares])[:-1]).sum())
        left = float(self.shares[-1]) if len(self.shares) else 1.0
        return area + (left / self.tail_rate if self.tail_rate else (math.inf if left else 0.0))


def _beyond(wanted: np.ndarray, left: float, rate: float) -> np.ndarray:
    if not rate:
        return np.full(np.shape(wanted), math.inf)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nobody is left beyond
        return np.maximum(np.log(left) - np.log(wanted), 0.0) / rate


def kaplan_meier(waited: np.ndarray, abandoned: np.ndarray, least_at_risk: int = 30) -> Survival:
    """The product-limit estimate (Kaplan & Meier 1958) of how long callers stay, who was answered being censored.

    S(t) = ∏ (1 − d_i / n_i) over the moments t_i ≤ t at which d_i of the n_i who still waited gave up; of one moment, who gave up did so
    before who was answered. Where fewer than `least_at_risk` still wait the staircase says little: from there on it falls at the rate
    abandonments / seconds waited of all who waited beyond half of that time (the censored estimate of an exponential tail).
    """
    waited, abandoned = np.asarray(waited, dtype=float), np.asarray(abandoned, dtype=bool)
    times, counts = np.unique(waited[abandoned], return_counts=True)
    ordered = np.sort(waited)
    at_risk = len(ordered) - np.searchsorted(ordered, times, side="left")
    kept = at_risk >= least_at_risk
    times, counts, at_risk = times[kept], counts[kept], at_risk[kept]
    shares = np.cumprod(1.0 - counts / at_risk) if len(times) else np.zeros(0)
    since = times[-1] / 2 if len(times) else 0.0
    rate = exponential_rate(np.maximum(waited - since, 0.0), abandoned & (waited > since))
    return Survival(times, shares, rate)


def exponential_rate(waited: np.ndarray, abandoned: np.ndarray) -> float:
    """Abandonments a second of waiting: the maximum-likelihood rate of exponential patience, who was answered being censored
    (total time on test; for calls see Brown et al., JASA 100, 2005)."""
    total = float(np.sum(waited))
    return float(np.sum(abandoned)) / total if total else 0.0
