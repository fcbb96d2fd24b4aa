"""How long a contact will wait: the estimate, what it is made of, and how right it was.

    times, patience, calibration = ServiceTimes.assume(), Patience.assume(), Calibration()
    times.served(412); patience.waited(35, abandoned=True)                 # as things happen
    raw = expected_wait(ahead, servers, times.mean, patience.rate)         # None: nobody could ever take it
    estimate = calibration.apply(raw)                                      # told to the customer, and recorded
    calibration.answered(estimate, waited)                                 # what then happened
    calibration.abandoned(estimate, waited, remaining)

Estimated is the wait of a customer who stays (the potential wait). All statistics are of one queue and weighted exponentially: old
contacts count for less. Each goes to a row and back, and two of the same queue can be merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

from .errors import Invalid

Row = dict[str, Any]


def expected_wait(ahead: float, servers: float, service_seconds: float, abandon_rate: float = 0.0, idle: float = 0.0) -> float | None:
    """Expected seconds until an agent takes a contact that stays; None where nobody could.

    ahead: contacts before it that compete for the same agents, in expectation (a fraction is fine). servers: agents signed in who fit,
    whatever they do now. service_seconds: mean time that a contact keeps an agent, wrap-up included. abandon_rate: of one waiting
    contact, per second (1 / mean patience). idle: agents among them with room now, each of whom takes one contact at once.

    With n servers of rate m and i contacts still ahead, the next leaves after 1 / (n·m + i·θ) seconds on average. Summed over
    i = 0..ahead this is the Markovian queue-length estimator of Ibrahim & Whitt (Management Science 55, 2009); with θ = 0 it is the
    queue-length estimator (ahead + 1) / (n·m) of Whitt (Management Science 45, 1999). Evaluated in closed form, at bounded cost.

    Invalid where a number is negative or not finite, or service_seconds is not above 0.
    """
    numbers = {"ahead": ahead, "servers": servers, "service_seconds": service_seconds, "abandon_rate": abandon_rate, "idle": idle}
    for name, number in numbers.items():
        if not math.isfinite(number) or number < 0:
            raise Invalid(f"{name} must be a number from 0 up, not {number!r}.")
    if service_seconds == 0:
        raise Invalid("service_seconds must be above 0.")
    if servers == 0:
        return None
    behind = ahead - idle
    if behind < 0:
        return 0.0
    step = service_seconds / servers
    departures = abandon_rate * step  # of one contact ahead, in the time of one service completion
    if departures * (behind + 1) < 1e-12:
        return (behind + 1) * step
    return harmonic(1 / departures, behind + 1) / abandon_rate


def harmonic(start: float, count: float) -> float:
    """1/start + 1/(start + 1) + … over `count` terms, count any number from 0 up: ψ(start + count) − ψ(start), to ten digits.

    The recurrence of the digamma function up to 10, then its asymptotic series (Abramowitz & Stegun 6.3.5 and 6.3.18), each as a
    difference without cancellation, so that it is exact for a start of 1e12 as well.
    """
    total = 0.0
    while start < 10:
        total += count / (start * (start + count))
        start += 1
    end = start + count
    a, b = 1 / start**2, 1 / end**2
    a_less_b = count * (start + end) / (start * end) ** 2
    return (
        total
        + math.log1p(count / start)
        + count / (2 * start * end)
        + a_less_b * (1 / 12 - (a + b) / 120 + (a * a + a * b + b * b) / 252 - (a + b) * (a * a + b * b) / 240)
    )


@dataclass
class ServiceTimes:
    """The mean time, in seconds, that a contact keeps an agent: talk and wrap-up. The last 200 contacts or so count."""

    contacts: float  # weighted
    seconds: float

    MEMORY: ClassVar[float] = 200.0
    OUTLIER: ClassVar[float] = 20.0

    @classmethod
    def assume(cls, mean_seconds: float = 300.0, contacts: float = 5.0) -> Self:
        """What to believe while nothing has been seen, and how many contacts that is worth; it fades like them."""
        return cls(contacts, contacts * mean_seconds)

    @property
    def mean(self) -> float:
        return self.seconds / self.contacts

    def served(self, seconds: float) -> None:
        """A contact was over. One that lasted more than 20 times the mean (a wrap-up forgotten overnight) counts as just that."""
        _require_seconds(seconds)
        seconds = min(seconds, self.OUTLIER * self.mean)
        keep = 1 - 1 / self.MEMORY
        self.contacts = self.contacts * keep + 1
        self.seconds = max(self.seconds * keep + seconds, self.contacts)  # a mean of 1 s at least: it is divided by

    def merge(self, other: ServiceTimes) -> None:
        """Take in what another process saw of the same queue."""
        self.contacts += other.contacts
        self.seconds += other.seconds
        if self.contacts > self.MEMORY:
            self.seconds *= self.MEMORY / self.contacts
            self.contacts = self.MEMORY

    def to_row(self) -> Row:
        return dict(vars(self))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(row["contacts"], row["seconds"])


@dataclass
class Patience:
    """How fast waiting contacts give up: abandonments per waiting second.

    Who was answered would have waited longer still (their patience is censored), so the rate is abandonments / seconds waited by all,
    answered or not: the maximum-likelihood estimate for exponential patience under censoring (total time on test; for calls see Brown
    et al., JASA 100, 2005). Old waiting fades by seconds waited, not by contacts: those answered at once say nothing.
    """

    abandonments: float  # weighted
    seconds: float

    MEMORY_SECONDS: ClassVar[float] = 100_000.0

    @classmethod
    def assume(cls, mean_seconds: float = 600.0, abandonments: float = 5.0) -> Self:
        """What to believe while nothing has been seen, and how many abandonments that is worth; it fades like them."""
        return cls(abandonments, abandonments * mean_seconds)

    @property
    def rate(self) -> float:
        return self.abandonments / self.seconds

    def waited(self, seconds: float, abandoned: bool) -> None:
        """A contact waited this long, then hung up or was answered."""
        _require_seconds(seconds)
        keep = math.exp(-seconds / self.MEMORY_SECONDS)
        self.abandonments = self.abandonments * keep + abandoned
        self.seconds = self.seconds * keep + seconds

    def merge(self, other: Patience) -> None:
        """Take in what another process saw of the same queue."""
        self.abandonments += other.abandonments
        self.seconds += other.seconds
        if self.seconds > self.MEMORY_SECONDS:
            self.abandonments *= self.MEMORY_SECONDS / self.seconds
            self.seconds = self.MEMORY_SECONDS

    def to_row(self) -> Row:
        return dict(vars(self))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(row["abandonments"], row["seconds"])


class Estimate(NamedTuple):
    """Recorded with the contact when it arrives: what was told, and what the formula alone said. Seconds."""

    seconds: float
    raw: float


@dataclass
class Errors:
    """How wrong estimates were, of contacts that were answered. Plain sums: add those of several queues or days.

    Left out, and counted as `at_once`, are those who should not wait and did not (5 s): they would flatter the figures.
    Who abandoned has no actual wait. They are counted apart: `abandoned`, and those among them who had `outlasted` the estimate already.
    Patient customers are answered more often, and so are those who are lucky: the errors of the answered alone lean to the high side.
    """

    answered: int = 0
    absolute: float = 0.0  # s
    signed: float = 0.0  # s, estimated less actual
    half: int = 0  # no further than 50 % of the actual wait away from it
    thirty: int = 0  # no further than 30 s
    either: int = 0
    at_once: int = 0
    abandoned: int = 0
    outlasted: int = 0

    AT_ONCE_SECONDS: ClassVar[float] = 5.0

    def add(self, estimated: float, actual: float) -> None:
        if max(estimated, actual) <= self.AT_ONCE_SECONDS:
            self.at_once += 1
            return
        error = estimated - actual
        half, thirty = abs(error) <= actual / 2, abs(error) <= 30
        self.answered += 1
        self.absolute += abs(error)
        self.signed += error
        self.half += half
        self.thirty += thirty
        self.either += half or thirty

    def add_abandoned(self, estimated: float, waited: float) -> None:
        self.abandoned += 1
        self.outlasted += waited > estimated + self.AT_ONCE_SECONDS

    def merge(self, other: Errors) -> None:
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)

    def figures(self) -> dict[str, float | int | None]:
        """For reports. None where there is nothing to divide by; a positive bias means that customers waited less than told."""

        def share(total: float) -> float | None:
            return total / self.answered if self.answered else None

        return {
            "answered": self.answered,
            "mean_absolute_error_seconds": share(self.absolute),
            "bias_seconds": share(self.signed),
            "share_within_50_percent": share(self.half),
            "share_within_30_seconds": share(self.thirty),
            "share_within_either": share(self.either),
            "at_once": self.at_once,
            "abandoned": self.abandoned,
            "abandoned_after_estimate": self.outlasted,
        }

    def to_row(self) -> Row:
        return dict(vars(self))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(**row)


@dataclass
class Calibration:
    """A queue's own factor on the estimate, learned from actual / estimated.

    The model knows no overtaking, no pauses, no skills; the factor does. It is the ratio of sums, not the mean of the ratios' logarithms:
    a wait is skewed, and the latter would tell the first in line 44 % too little. Its logarithm is drawn to 0 while few contacts speak,
    and bounded: from a third to three times.

    Who abandoned counts with what they had before them: seconds waited plus what remained by the estimate of that moment. Leaving them
    out would keep those who were lucky; taking their time as a wait would call every long queue short.
    """

    contacts: float = 0.0  # weighted
    actual: float = 0.0  # s, weighted
    raw: float = 0.0  # s, weighted
    errors: Errors = field(default_factory=Errors)

    MEMORY: ClassVar[float] = 300.0  # contacts
    CAUTIOUS: ClassVar[float] = 20.0  # contacts at which half of what was seen is believed
    MOST: ClassVar[float] = 3.0
    OUTLIER: ClassVar[float] = 10.0

    @property
    def factor(self) -> float:
        if not self.raw:
            return 1.0
        seen = math.log(max(self.actual, 1e-9) / self.raw)
        most = math.log(self.MOST)
        return math.exp(min(most, max(-most, seen * self.contacts / (self.contacts + self.CAUTIOUS))))

    def apply(self, raw: float) -> Estimate:
        return Estimate(raw * self.factor, raw)

    def answered(self, estimate: Estimate, waited: float) -> None:
        """The contact was answered after so many seconds."""
        _require_seconds(waited)
        self.errors.add(estimate.seconds, waited)
        self._learn(estimate.raw, waited)

    def abandoned(self, estimate: Estimate, waited: float, remaining: float | None = None) -> None:
        """The contact left after so many seconds. remaining: the raw estimate of its remaining wait at that moment, where known."""
        _require_seconds(waited)
        self.errors.add_abandoned(estimate.seconds, waited)
        if remaining is None:
            self._learn(estimate.raw, max(waited, estimate.raw * self.factor))
        else:
            self._learn(estimate.raw, waited + remaining * self.factor)

    def merge(self, other: Calibration) -> None:
        self.errors.merge(other.errors)
        self.contacts += other.contacts
        self.actual += other.actual
        self.raw += other.raw
        if self.contacts > self.MEMORY:
            self._fade(self.MEMORY / self.contacts)

    def to_row(self) -> Row:
        return {"contacts": self.contacts, "actual": self.actual, "raw": self.raw, "errors": self.errors.to_row()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(row["contacts"], row["actual"], row["raw"], Errors.from_row(row["errors"]))

    def _learn(self, raw: float, actual: float) -> None:
        if raw <= 0:
            return  # nothing to multiply: an agent was free
        most = self.OUTLIER * max(raw * self.factor, Errors.AT_ONCE_SECONDS)
        self._fade(1 - 1 / self.MEMORY)
        self.contacts += 1
        self.actual += min(actual, most)
        self.raw += raw

    def _fade(self, keep: float) -> None:
        self.contacts *= keep
        self.actual *= keep
        self.raw *= keep


def _require_seconds(seconds: float) -> None:
    if not math.isfinite(seconds) or seconds < 0:
        raise Invalid(f"Seconds must be a number from 0 up, not {seconds!r}.")
