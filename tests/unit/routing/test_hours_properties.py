"""What holds for opening hours of every shape, in zones whose clocks change in every way, over thirty years."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.routing.domain.hours import (
    DAY,
    Calendar,
    Closure,
    Span,
    Special,
    add_business_seconds,
    business_seconds,
    decide,
    is_open,
    next_change,
    next_open,
    why_closed,
)
from tests.thorough import TIMES

ZONES = (
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # changes at midnight
    "America/Havana",  # repeats midnight
    "America/Sao_Paulo",  # repeated the last hour of a day, until 2019
    "America/St_Johns",  # changed at 00:01, until 2011
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # left out a day in 2011
    "Africa/Casablanca",  # changes around Ramadan
)
BEGIN, END = datetime(2005, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp(), datetime(2035, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp()
CLOSE = 1e-4
"""Seconds: what adding up floats near 2e9 may lose."""


@st.composite
def spans(draw: st.DrawFn) -> tuple[Span, ...]:
    def span(opens: int, length: int) -> Span:
        return Span(opens, opens + length)

    some = st.builds(span, st.integers(0, DAY - 1), st.integers(1, DAY))
    return draw(st.one_of(st.just((Span(0, DAY),)), st.just((Span(540, 720), Span(780, 1080))), st.lists(some, max_size=3).map(tuple)))


@st.composite
def moments(draw: st.DrawFn, zone: str) -> float:
    """Half of them near a change of clocks or of the year, where mistakes live."""
    if draw(st.booleans()):
        return draw(st.floats(BEGIN, END))
    year, month = draw(st.integers(2005, 2034)), draw(st.sampled_from((1, 3, 4, 9, 10, 11, 12)))
    first = datetime(year, month, 1, tzinfo=ZoneInfo(zone)).timestamp()
    days = [first + 86_400 * day for day in range(31)]
    offsets = [datetime.fromtimestamp(day, ZoneInfo(zone)).utcoffset() for day in days]
    change = next((day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other), first)
    return change + draw(st.integers(-2 * DAY, 3 * DAY)) * 60.0


@st.composite
def cases(draw: st.DrawFn) -> tuple[Calendar, float]:
    """A calendar, and a moment around which it has its exceptions."""
    zone = draw(st.sampled_from(ZONES))
    moment = draw(moments(zone))
    today = datetime.fromtimestamp(moment, ZoneInfo(zone)).date()
    near = st.integers(-3, 12).map(lambda days: today + timedelta(days=days))
    named = st.dictionaries(near, st.sampled_from(("", "New Year")), max_size=4)
    special = st.dictionaries(near, st.builds(Special, st.just("special"), spans()), max_size=2)
    weekly = tuple(draw(st.lists(spans(), min_size=7, max_size=7)))
    calendar = Calendar("any", zone, weekly, draw(named), draw(named), draw(special), draw(st.integers(0, 6)))
    return calendar, moment


def between(start: float, end: float, count: int = 40) -> list[float]:
    """Moments in [start, end), its ends among them."""
    choose = random.Random(f"{start}{end}")
    return [moment for moment in (start, end - 0.5, *(choose.uniform(start, end) for _ in range(count))) if start <= moment < end]


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases(), st.floats(0, 20 * 86_400))
def test_what_is_added_is_measured(case: tuple[Calendar, float], seconds: float) -> None:
    calendar, start = case
    end = add_business_seconds(calendar, start, seconds)
    if end is None:
        assert business_seconds(calendar, start, start + 3 * 366 * 86_400) < seconds
    else:
        assert end >= start
        assert business_seconds(calendar, start, end) == pytest.approx(seconds, abs=CLOSE)
        if seconds > 1:  # and it is the first such moment
            assert business_seconds(calendar, start, end - 1) == pytest.approx(seconds - 1, abs=CLOSE)


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases(), st.floats(0, 30 * 86_400), st.floats(0, 30 * 86_400))
def test_open_time_adds_up(case: tuple[Calendar, float], one: float, other: float) -> None:
    calendar, start = case
    middle, end = start + one, start + one + other
    whole = business_seconds(calendar, start, end)
    parts = business_seconds(calendar, start, middle) + business_seconds(calendar, middle, end)
    assert whole == pytest.approx(parts, abs=CLOSE)
    assert 0 <= whole <= end - start + CLOSE


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases())
def test_the_next_opening_is_open_and_nothing_before_it_is(case: tuple[Calendar, float]) -> None:
    calendar, moment = case
    opens = next_open(calendar, moment)
    assert (opens == moment) == is_open(calendar, moment)
    horizon = moment + 60 * 86_400
    assert not any(is_open(calendar, before) for before in between(moment, horizon if opens is None else opens))
    if opens is not None:
        assert is_open(calendar, opens)


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases())
def test_between_two_changes_nothing_changes(case: tuple[Calendar, float]) -> None:
    calendar, moment = case
    now = is_open(calendar, moment)
    change = next_change(calendar, moment)
    assert all(is_open(calendar, until) == now for until in between(moment, moment + 60 * 86_400 if change is None else change))
    if change is not None:
        assert change > moment
        assert is_open(calendar, change) is not now


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases())
def test_open_time_is_the_sum_of_the_openings(case: tuple[Calendar, float]) -> None:
    calendar, start = case
    end, at, total = start + 12 * 86_400, start, 0.0
    while at < end:
        change = next_change(calendar, at)
        until = end if change is None else min(change, end)
        total += until - at if is_open(calendar, at) else 0
        at = until
    assert business_seconds(calendar, start, end) == pytest.approx(total, abs=CLOSE)


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases())
def test_while_the_clocks_do_not_change_the_wall_clock_decides(case: tuple[Calendar, float]) -> None:
    calendar, moment = case
    zone = ZoneInfo(calendar.zone)
    if len({datetime.fromtimestamp(moment + days * 86_400, zone).utcoffset() for days in (-2, -1, 0, 1, 2)}) > 1:
        return
    local = datetime.fromtimestamp(moment, zone)
    minute = local.hour * 60 + local.minute
    yesterday = local.date() - timedelta(days=1)
    on_the_clock = any(one <= minute < other for one, other in calendar.spans(local.date())) or any(
        one <= minute + DAY < other for one, other in calendar.spans(yesterday)
    )
    assert is_open(calendar, moment) == on_the_clock


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases())
def test_whatever_is_closed_has_a_reason(case: tuple[Calendar, float]) -> None:
    calendar, moment = case
    why = why_closed(calendar, moment)
    assert (why is None) == is_open(calendar, moment)
    if why and why[0] == "holiday":
        assert calendar.holidays.keys() - calendar.workdays.keys() - calendar.special.keys()


@settings(max_examples=40 * TIMES, deadline=None)
@given(cases(), st.data())
def test_a_queue_opens_when_it_was_said_to(case: tuple[Calendar, float], data: st.DataObject) -> None:
    calendar, moment = case
    hours = st.integers(-48, 72).map(lambda hour: moment + hour * 3600.0)

    def closure(number: int) -> Closure:
        kind, since = data.draw(st.sampled_from(("emergency", "night"))), data.draw(hours)
        closed = kind == "emergency" or data.draw(st.booleans())
        until = data.draw(st.one_of(st.none(), st.integers(1, 72).map(lambda hour: since + hour * 3600.0)))
        ended = data.draw(st.one_of(st.none(), st.just(moment - 1800)))
        return Closure(f"c{number}", kind, closed=closed, since=since, until=until, ended_at=ended)

    closures = [closure(number) for number in range(data.draw(st.integers(0, 4)))]
    opening = decide(calendar, closures, "sales", moment)
    if opening.open:
        assert opening.opens_at is None
        return
    until = moment + 30 * 86_400 if opening.opens_at is None else opening.opens_at
    assert not any(decide(calendar, closures, "sales", before).open for before in between(moment, until, 15))
    if opening.opens_at is not None:
        assert decide(calendar, closures, "sales", opening.opens_at).open


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(ZONES), st.integers(2005, 2034))
def test_days_of_a_calendar_open_by_day_and_one_open_by_night_make_the_year(zone: str, year: int) -> None:
    by_day, by_night = Calendar("day", zone, ((Span(480, 1200),),) * 7), Calendar("night", zone, ((Span(1200, 1920),),) * 7)
    start, end = (datetime.combine(date(at, 1, 1), datetime.min.time(), ZoneInfo(zone)).timestamp() for at in (year, year + 1))
    both = business_seconds(by_day, start, end) + business_seconds(by_night, start, end)
    assert both == pytest.approx(end - start, abs=CLOSE)
