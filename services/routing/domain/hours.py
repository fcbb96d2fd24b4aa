"""When a queue is open: weekly hours, holidays and make-up workdays of a calendar, closings by hand on top of it.

Moments are epoch seconds, UTC; hours are local times of the calendar's zone; durations are absolute time, so that a day on
which the clocks change has 23 or 25 hours. Hours belong to the day on which they begin: Friday 22:00–06:00 ends on Saturday morning
even where Saturday is a holiday, and a holiday on Friday takes all of it away.

Where the clocks go forward, a time that the clocks skip is the moment of the change. Where they go back, hours that begin at a time that
comes twice begin the first time, and hours that end at one end the second time: nobody is turned away by a change of clocks.
The end of the day, 24:00, is the first moment of the next date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY = 1440
"""Minutes."""

HOURS, HOLIDAY, NIGHT, EMERGENCY = "hours", "holiday", "night", "emergency"
KINDS = (EMERGENCY, NIGHT)
"""Closures by hand, the stronger first."""

SETTLED_DAYS = 15
"""After the last exception a calendar that was the same for two weeks stays so."""


class Span(NamedTuple):
    """Open from `opens` until before `closes`: minutes by the clock after midnight of the day it belongs to; more than 1440 is the day after."""

    opens: int
    closes: int


class Special(NamedTuple):
    """A date with hours of its own."""

    name: str
    spans: tuple[Span, ...]


Week = tuple[tuple[Span, ...], ...]
ALL_WEEK: Week = ((Span(0, DAY),),) * 7


@dataclass(frozen=True)
class Calendar:
    """The hours of a day are the first that applies: its own (`special`), those of `workday_like` on a make-up workday, none on a holiday,
    those of its weekday (Monday first). Raises ValueError where spans make no sense, ZoneInfoNotFoundError for an unknown zone."""

    name: str = ""
    zone: str = "UTC"
    weekly: Week = ALL_WEEK
    holidays: Mapping[date, str] = field(default_factory=dict)
    workdays: Mapping[date, str] = field(default_factory=dict)
    special: Mapping[date, Special] = field(default_factory=dict)
    workday_like: int = 0
    messages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What callers are told, by cause (hours, holiday) and language."""

    def __post_init__(self) -> None:
        ZoneInfo(self.zone)
        if len(self.weekly) != 7 or not 0 <= self.workday_like < 7:
            raise ValueError("a week has seven days, Monday first")
        for spans in (*self.weekly, *(special.spans for special in self.special.values())):
            for opens, closes in spans:
                if not (0 <= opens < DAY and opens < closes <= opens + DAY):
                    raise ValueError(f"hours begin within their day and last at most 24 hours: {opens} to {closes} minutes do not")

    @cached_property
    def last_exception(self) -> date:
        return max((*self.holidays, *self.workdays, *self.special), default=date.min)

    def spans(self, day: date) -> tuple[Span, ...]:
        if day in self.special:
            return self.special[day].spans
        if day in self.workdays:
            return self.weekly[self.workday_like]
        if day in self.holidays:
            return ()
        return self.weekly[day.weekday()]


ALWAYS_OPEN = Calendar()


def is_open(calendar: Calendar, moment: float) -> bool:
    today = _local_date(calendar, moment)
    # two days back and one ahead: spans last into the next date, and clocks that go back over midnight repeat a date
    days = (today + timedelta(days=shift) for shift in (-2, -1, 0, 1))
    return any(start <= moment < end for day in days for start, end in _on(calendar.zone, day, calendar.spans(day)))


def next_open(calendar: Calendar, moment: float) -> float | None:
    """The first moment from `moment` on (itself included) at which the calendar is open; None where it never is again."""
    return next((start for start, _ in _openings(calendar, moment)), None)


def next_change(calendar: Calendar, moment: float) -> float | None:
    """The first moment after `moment` at which the calendar opens or closes; None where it does neither ever again."""
    openings = _openings(calendar, moment)
    start, end = next(openings, (moment, None))
    if start > moment or end is None:
        return start if start > moment else None
    settled = max(_local_date(calendar, moment), calendar.last_exception) + timedelta(days=SETTLED_DAYS)
    for start, following in openings:
        if start > end:
            break
        end = following
        if _local_date(calendar, end) > settled:
            return None
    return end


def business_seconds(calendar: Calendar, start: float, end: float) -> float:
    """Open time between two moments, in seconds; 0 where `end` is not after `start`."""
    total = 0.0
    if end > start:
        for opened, closed in _openings(calendar, start):
            if opened >= end:
                break
            total += min(closed, end) - opened
    return total


def add_business_seconds(calendar: Calendar, start: float, seconds: float) -> float | None:
    """The first moment at which `seconds` of open time have passed since `start`; None where they never will.

    Raises ValueError where `seconds` is negative.
    """
    if seconds < 0:
        raise ValueError("open time can only be added")
    if seconds == 0:
        return start
    for opened, closed in _openings(calendar, start):
        if closed - opened >= seconds:
            return opened + seconds
        seconds -= closed - opened
    return None


def why_closed(calendar: Calendar, moment: float) -> tuple[str, str] | None:
    """(`hours` or `holiday`, name of the holiday or special day); None where the calendar is open."""
    if is_open(calendar, moment):
        return None
    today = _local_date(calendar, moment)
    if today in calendar.special:
        return HOURS, calendar.special[today].name
    for day in (today, today - timedelta(days=1)):
        if day in calendar.holidays and day not in calendar.special and day not in calendar.workdays:
            usual = _on(calendar.zone, day, calendar.weekly[day.weekday()])
            if day == today or any(start <= moment < end for start, end in usual):
                return HOLIDAY, calendar.holidays[day]
    return HOURS, ""


@dataclass(frozen=True)
class Closure:
    """A switch thrown by hand: an emergency closes, the night switch closes or (`closed` false) holds open outside the hours.

    Empty `queues` means all. In force from `since` until before `until` (None: until somebody ends it) or `ended_at`.
    Raises ValueError for an unknown kind, an emergency that opens, or an end before the beginning.
    """

    id: str
    kind: str
    queues: tuple[str, ...] = ()
    closed: bool = True
    message: Mapping[str, str] = field(default_factory=dict)
    """By language."""
    reason: str = ""
    by: str = ""
    since: float = 0.0
    until: float | None = None
    ended_at: float | None = None
    ended_by: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a closure is one of {', '.join(KINDS)}")
        if self.kind == EMERGENCY and not self.closed:
            raise ValueError("an emergency closes; only the night switch can hold open")
        if self.until is not None and self.until <= self.since:
            raise ValueError("a closure ends after it begins")

    @property
    def over_at(self) -> float | None:
        ends = [end for end in (self.until, self.ended_at) if end is not None]
        return min(ends) if ends else None

    def concerns(self, queue: str) -> bool:
        return not self.queues or queue in self.queues

    def in_force(self, moment: float) -> bool:
        return self.since <= moment and (self.over_at is None or moment < self.over_at)


@dataclass(frozen=True)
class Opening:
    """Whether a queue takes contacts, and why. `cause` of an open queue is `hours`, or `night` where the switch holds it open."""

    open: bool
    cause: str = HOURS
    name: str = ""
    """Of the holiday or special day."""
    message: Mapping[str, str] = field(default_factory=dict)
    opens_at: float | None = None
    """When it opens by what is known now; None where it is open, or where nobody can say."""
    closure: str | None = None
    """Id of the closure that decided."""


def decide(calendar: Calendar, closures: Iterable[Closure], queue: str, moment: float) -> Opening:
    """Emergency before night, night before the calendar; among equals the newest."""
    concerned = [closure for closure in closures if closure.concerns(queue)]
    ruling = _ruling(concerned, moment)
    if ruling:
        opens_at = _opens_at(calendar, concerned, moment) if ruling.closed else None
        return Opening(not ruling.closed, ruling.kind, message=ruling.message, opens_at=opens_at, closure=ruling.id)
    why = why_closed(calendar, moment)
    if why is None:
        return Opening(True, HOURS)
    cause, name = why
    message = calendar.messages.get(cause, {})
    return Opening(False, cause, name, message, _opens_at(calendar, concerned, moment))


def _ruling(closures: Iterable[Closure], moment: float) -> Closure | None:
    in_force = (closure for closure in closures if closure.in_force(moment))
    return max(in_force, key=lambda closure: (closure.kind == EMERGENCY, closure.since, closure.id), default=None)


def _opens_at(calendar: Calendar, closures: Iterable[Closure], moment: float) -> float | None:
    closures = list(closures)
    turns = {turn for closure in closures for turn in (closure.since, closure.over_at) if turn is not None and turn > moment}
    for begin, end in _stretches(moment, sorted(turns)):
        ruling = _ruling(closures, begin)
        if ruling is None:
            opens = next_open(calendar, begin)
            if opens is not None and (end is None or opens < end):
                return opens
        elif not ruling.closed:
            return begin
    return None


def _stretches(moment: float, turns: list[float]) -> Iterable[tuple[float, float | None]]:
    return zip([moment, *turns], [*turns, None], strict=True)


def _openings(calendar: Calendar, moment: float) -> Iterator[tuple[float, float]]:
    """The open time from `moment` on, in order, without overlap (touching where days or spans do); endless unless the calendar never opens again."""
    today = _local_date(calendar, moment)
    settled = max(today, calendar.last_exception) + timedelta(days=SETTLED_DAYS)
    idle_since, day, reached = today, today - timedelta(days=2), moment
    while day <= settled or (day - idle_since).days <= SETTLED_DAYS:
        for start, end in _on(calendar.zone, day, calendar.spans(day)):
            if end > max(start, reached):
                yield max(start, reached), end
                reached, idle_since = end, day
        day += timedelta(days=1)


def _local_date(calendar: Calendar, moment: float) -> date:
    return datetime.fromtimestamp(moment, ZoneInfo(calendar.zone)).date()


@lru_cache(maxsize=8192)
def _on(zone: str, day: date, spans: tuple[Span, ...]) -> tuple[tuple[float, float], ...]:
    """The spans of a day as absolute times; one that lies wholly in an hour that the clocks skip is left out."""
    times = (
        (_first(zone, day, opens), _first(zone, day, DAY) if closes == DAY else _last(zone, day, closes)) for opens, closes in sorted(spans)
    )
    return tuple((start, end) for start, end in times if end > start)


def _first(zone: str, day: date, minute: int) -> float:
    """The first moment at which the clock shows that time or a later one."""
    early, late = _readings(zone, day, minute)
    return early if early <= late else _change(zone, late, early)


def _last(zone: str, day: date, minute: int) -> float:
    early, late = _readings(zone, day, minute)
    return late if early <= late else _change(zone, late, early)


def _readings(zone: str, day: date, minute: int) -> tuple[float, float]:
    """The time read with the offset before and with that after a change of clocks: the same on all but two days a year,
    the second earlier than the first where the clocks skip that time (PEP 495)."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) + timedelta(minutes=minute)
    return local.timestamp(), local.replace(fold=1).timestamp()


def _change(zone: str, before: float, after: float) -> float:
    """The whole second in (before, after] at which the clocks change."""

    def offset(moment: int) -> timedelta | None:
        return datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(zone)).utcoffset()

    low, high = int(before), int(after)
    until = offset(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == until else (low, middle)
    return float(high)
