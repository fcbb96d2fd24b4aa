"""Intervals of a site's clock, the figures of one interval, service level and occupancy.

Moments are epoch seconds UTC. Durations are counted in whole microseconds and money in ten-thousandths of a unit: sums of whole numbers are
exact in any order, so the intervals of a period add up to the period.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from .errors import Invalid

STEPS = {"15m": 900, "30m": 1800, "60m": 3600, "day": 86400}
"""Seconds by the clock. A day on which the clocks change has 23 or 25 hours."""
MAX_INTERVALS = 5000
"""52 days of quarter hours, more than 13 years of days."""

MICROS = 1_000_000
MONEY = 10_000
"""No currency of ISO 4217 has more than four decimals."""

Unit = Literal["legs", "contacts"]


# ---- the grid


class Interval(NamedTuple):
    """From `start` until before `end`. `label`: the local time at which it begins, with its offset from UTC, so that the hour which comes
    twice has two labels. `whole` is False where the asked period cuts it."""

    start: float
    end: float
    label: str
    whole: bool


class Stretch(NamedTuple):
    """A part of the period without a change of clocks: the cell of a moment in it is first + floor((moment − base) / step)."""

    start: float
    end: float
    base: int
    first: int


class _Cell(NamedTuple):
    start: int
    end: int
    date: int


FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC).timestamp(), datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Of the moments that have a date in every zone, with the days beside theirs."""


@dataclass(frozen=True)
class Grid:
    """The intervals of a zone's clock that hold any of [start, end), cut to it, without gaps or overlaps.

    Quarter, half and full hours begin at multiples of the step by the clock. A change of clocks begins an interval of its own where it
    falls between such multiples (Lord Howe Island's half hour). A day begins when its date first begins, which is not midnight where the
    clocks skip it. Raises Invalid for an unknown step, an empty period, or more than MAX_INTERVALS.
    """

    start: float
    end: float
    step: str
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            told = "a longer one would make a monthly sum of what is to be judged contact by contact"
            raise Invalid(f"step is one of {', '.join(STEPS)}, not {self.step!r}: {told}.")
        if not (math.isfinite(self.start) and math.isfinite(self.end) and self.start < self.end):
            raise Invalid("A report needs a period: from, and a later to.")
        if not FIRST <= self.start < self.end <= LAST:
            raise Invalid("A report is of the years 2 to 9998.")
        if (self.end - self.start) / STEPS[self.step] > MAX_INTERVALS:
            raise Invalid(f"These are more than {MAX_INTERVALS} intervals: ask for a shorter period or a longer step.")

    @cached_property
    def intervals(self) -> tuple[Interval, ...]:
        found: list[Interval] = []
        latest = -math.inf
        start = None
        for index, cell in enumerate(self._around):
            if self.step != "day" or cell.date > latest:
                start, latest = cell.start, cell.date
            assert start is not None
            following = self._around[index + 1] if index + 1 < len(self._around) else None
            if following and self.step == "day" and following.date <= latest:
                continue
            if cell.end > self.start and start < self.end:
                whole = start >= self.start and cell.end <= self.end
                label = _label(start, self.zone)
                found.append(Interval(max(float(start), self.start), min(float(cell.end), self.end), label, whole))
        return tuple(found)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """For a database, which knows no zones but can count: the stretches of the period, in order."""
        size, found, first = STEPS[self.step], [], 0
        for since, until, offset in _offsets(self.zone, math.floor(self.start), math.ceil(self.end)):
            base = (since + offset) // size * size - offset
            found.append(Stretch(max(self.start, since), min(self.end, until), base, first))
            first += -((base - until) // size)
        return tuple(found)

    @cached_property
    def of_cell(self) -> tuple[int, ...]:
        """Cell -> the interval that it belongs to. They differ for days alone: a change of clocks makes two cells of one."""
        size, found = STEPS[self.step], []
        for stretch in self.stretches:
            cells = range(stretch.base, math.ceil(stretch.end), size)
            found += [self.index(max(stretch.start, float(start))) for start in cells]
        return tuple(found)

    def index(self, moment: float) -> int:
        """The interval that holds a moment of the period. Raises IndexError for any other moment."""
        if not self.start <= moment < self.end:
            raise IndexError(f"{moment} is not in the period")
        return bisect_right(self._starts, moment) - 1

    def split(self, since: float, until: float) -> Iterator[tuple[int, int]]:
        """A span's share of each interval: (interval, microseconds). The shares add up to the part of the span in the period."""
        since, until = max(since, self.start), min(until, self.end)
        if since >= until:
            return
        for index in range(self.index(since), len(self.intervals)):
            interval = self.intervals[index]
            if interval.start >= until:
                return
            share = micros(min(until, interval.end)) - micros(max(since, interval.start))
            if share:
                yield index, share

    @cached_property
    def _starts(self) -> list[float]:
        return [interval.start for interval in self.intervals]

    @cached_property
    def _around(self) -> list[_Cell]:
        """Cells of the period and of the days beside it, so that the ones at its ends are whole."""
        size, beside, found = STEPS[self.step], 2 * 86400, []
        for since, until, offset in _offsets(self.zone, math.floor(self.start) - beside, math.ceil(self.end) + beside):
            for start in range((since + offset) // size * size - offset, until, size):
                found.append(_Cell(max(start, since), min(start + size, until), (start + offset) // 86400))
        return found


def zone_called(name: str) -> ZoneInfo:
    """Raises Invalid for a name that the time zone database lacks."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise Invalid(f"{name!r} is no time zone: write one of the IANA names, such as Asia/Hong_Kong.") from error


def micros(seconds: float) -> int:
    """To the nearest microsecond, by an operation that databases do alike: their ways to round differ."""
    return math.floor(seconds * MICROS + 0.5)


def _offsets(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(since, until, seconds ahead of UTC): the stretches of [start, end) between changes of the clocks."""
    since, offset = start, _offset(zone, start)
    while since < end:
        until = since
        while until < end and _offset(zone, until) == offset:
            last, until = until, min(until + 86400, end)
        if (following := _offset(zone, until)) != offset:
            before, after = last, until
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if _offset(zone, middle) == offset else (before, middle)
            until, following = after, _offset(zone, after)
        if until > since:
            yield since, min(until, end), offset
        since, offset = until, following


def _offset(zone: ZoneInfo, moment: int) -> int:
    ahead = datetime.fromtimestamp(moment, zone).utcoffset()
    return 0 if ahead is None else round(ahead.total_seconds())


def _label(start: int, zone: ZoneInfo) -> str:
    local = datetime.fromtimestamp(start, zone)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


# ---- figures of a queue


class Tally(NamedTuple):
    """What a service level is made of, in legs or in contacts. `decided`: no longer waiting, answered or not; `in_time`: answered within the
    threshold; `short_abandoned`: those of the abandoned who left before the short-abandon limit."""

    decided: int = 0
    in_time: int = 0
    abandoned: int = 0
    short_abandoned: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(*map(sum, zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """How the service level of a queue is defined.

    abandons count:       answered in T / (decided − abandoned before the short limit)
    abandons don't count: answered in T / (decided − all abandoned)

    where decided = answered + abandoned + timed out + left by key + left otherwise + lost: who was sent away without an answer counts
    against the queue in either case, for that was no choice of the customer. Answered in T: waited at most `threshold_seconds`. Before the
    short limit: waited less than `short_abandon_seconds`; 0 = no abandon is short. With a limit of 0 and abandons that count, it is the
    share of answered in time among all who no longer wait.

    `unit` legs: every stay in the queue counts. `contacts`: all stays of a contact in the queue are one, at the arrival of the first;
    answered if one of them was, after the waits of the stays up to that one together; else it ended as the last did.

    `target`: the share that the queue's policy aims at, 0 to 1; None where it has no policy of its own.
    """

    threshold_seconds: float = 20.0
    short_abandon_seconds: float = 0.0
    abandons_count: bool = True
    unit: Unit = "legs"
    target: float | None = None

    def counted(self, tally: Tally) -> int:
        """The denominator."""
        return tally.decided - (tally.short_abandoned if self.abandons_count else tally.abandoned)

    def share(self, tally: Tally) -> float | None:
        """0 to 1, to four places; None where nothing is decided that counts."""
        counted = self.counted(tally)
        return round(tally.in_time / counted, 4) if counted else None

    def is_met(self, tally: Tally) -> bool | None:
        """Whether the target was reached; None where there is none, or nothing counts."""
        share = self.share(tally)
        return None if share is None or self.target is None else share >= self.target


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the legs that arrived in an interval. All fields add up over intervals, but for the longest wait."""

    offered: int = 0
    answered: int = 0
    abandoned: int = 0
    timed_out: int = 0
    left_by_key: int = 0
    left_otherwise: int = 0
    lost: int = 0
    hold_micros: int = 0
    talk_micros: int = 0
    wait_micros: int = 0
    in_time: int = 0
    short_abandoned: int = 0
    decided: int = 0
    waiting: int = 0
    talking: int = 0
    wait_max_micros: int = 0

    def __add__(self, other: Figures) -> Figures:
        summed = {name: getattr(self, name) + getattr(other, name) for name in FIGURES}
        return Figures(**summed | {"wait_max_micros": max(self.wait_max_micros, other.wait_max_micros)})

    @property
    def tally(self) -> Tally:
        return Tally(self.decided, self.in_time, self.abandoned, self.short_abandoned)


FIGURES = tuple(one.name for one in fields(Figures))
FACTS = FIGURES[: FIGURES.index("in_time")]
"""Those that follow from the legs alone, whatever the service level's definition and whoever is still talking: what can be restated."""


@dataclass
class Value:
    """Outcomes noted at wrap-up, and the money in them by currency: currencies are never added."""

    outcomes: int = 0
    resolved: int = 0
    amounts: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, currency: str | None, outcomes: int, resolved: int, amount: int) -> None:
        self.outcomes += outcomes
        self.resolved += resolved
        self.codes[code] = self.codes.get(code, 0) + outcomes
        if currency:
            self.amounts[currency] = self.amounts.get(currency, 0) + amount

    def add_all(self, other: Value) -> None:
        self.outcomes += other.outcomes
        self.resolved += other.resolved
        for mine, theirs in ((self.amounts, other.amounts), (self.codes, other.codes)):
            for name, number in theirs.items():
                mine[name] = mine.get(name, 0) + number

    def per_contact(self, answered: int) -> dict[str, float]:
        """Amount per contact answered, sold or not: per sale, it would reward noting nothing of the others."""
        return {currency: round(amount / MONEY / answered, 4) for currency, amount in sorted(self.amounts.items())} if answered else {}


# ---- an agent's time

State = tuple[str, str]
"""Of an agent: the state and its reason."""

NOT_SIGNED_IN = frozenset({"offline", "unknown"})
UNAVAILABLE = frozenset({"paused"})
HANDLING = frozenset({"busy", "wrap_up"})


def signed_in(seconds: Mapping[State, int]) -> int:
    """The time in any state but offline and unknown, in the unit of `seconds`."""
    return sum(number for (state, _), number in seconds.items() if state not in NOT_SIGNED_IN)


def occupancy(seconds: Mapping[State, int]) -> float | None:
    """(talk + hold + wrap-up) / (signed in − paused for any reason), 0 to 1 to four places; None where the denominator is nothing.

    `busy` is talk and hold: a customer put on hold is still the agent's. Ringing (`offered`) is time to be occupied, not occupied. An agent
    who pauses while they still talk is busy until the talk ends, in both terms.
    """
    reachable = signed_in(seconds) - sum(number for (state, _), number in seconds.items() if state in UNAVAILABLE)
    handling = sum(number for (state, _), number in seconds.items() if state in HANDLING)
    return round(handling / reachable, 4) if reachable else None
