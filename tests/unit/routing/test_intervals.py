"""The grid of a site's clock, the service level's formulas, occupancy: and that parts add up to the whole."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.routing.domain.errors import Invalid
from services.routing.domain.intervals import (
    FIGURES,
    MAX_INTERVALS,
    MICROS,
    STEPS,
    Figures,
    Grid,
    ServiceLevel,
    Tally,
    Value,
    micros,
    occupancy,
    signed_in,
    zone_called,
)
from tests.thorough import TIMES

ZONES = [
    "UTC", "Asia/Hong_Kong", "Asia/Kathmandu", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "Australia/Lord_Howe", "Africa/Casablanca", "Africa/Cairo", "Pacific/Apia", "Pacific/Chatham",
]  # fmt: skip


def midnight(zone: str, day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()


def day_of(zone: str, day: str, step: str) -> Grid:
    following = str(date.fromisoformat(day) + timedelta(days=1))
    return Grid(midnight(zone, day), midnight(zone, following), step, ZoneInfo(zone))


# ---- the grid


@pytest.mark.parametrize(
    ("zone", "day", "quarters", "hours"),
    [
        ("Europe/Berlin", "2026-06-01", 96, 24),
        ("Europe/Berlin", "2026-03-29", 92, 23),
        ("Europe/Berlin", "2026-10-25", 100, 25),
        ("America/New_York", "2026-03-08", 92, 23),
        ("America/New_York", "2026-11-01", 100, 25),
        ("Asia/Hong_Kong", "2026-10-25", 96, 24),
        ("Asia/Kathmandu", "2026-10-25", 96, 24),
        ("Australia/Lord_Howe", "2026-04-05", 98, 25),
        ("Australia/Lord_Howe", "2026-10-04", 94, 24),
        ("America/Sao_Paulo", "2018-11-04", 92, 23),
    ],
)
def test_a_day_has_as_many_quarter_hours_as_its_clock_shows(zone: str, day: str, quarters: int, hours: int) -> None:
    assert len(day_of(zone, day, "15m").intervals) == quarters
    assert len(day_of(zone, day, "60m").intervals) == hours
    (whole_day,) = day_of(zone, day, "day").intervals
    assert (whole_day.end - whole_day.start, whole_day.whole) == (quarters * 900, True)


def test_the_hour_that_comes_twice_is_told_by_its_offset() -> None:
    labels = [interval.label for interval in day_of("Europe/Berlin", "2026-10-25", "30m").intervals]
    assert labels[3:9] == [
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:00+01:00",
    ]


def test_the_hour_that_the_clocks_skip_is_not_there() -> None:
    labels = [interval.label for interval in day_of("Europe/Berlin", "2026-03-29", "60m").intervals]
    assert labels[:3] == ["2026-03-29T00:00+01:00", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"]


def test_a_day_whose_midnight_the_clocks_skip_begins_at_one() -> None:
    (day,) = day_of("America/Sao_Paulo", "2018-11-04", "day").intervals
    assert (day.label, day.end - day.start) == ("2018-11-04T01:00-02:00", 23 * 3600)


def test_where_the_clocks_change_by_half_an_hour_the_hour_is_cut() -> None:
    intervals = day_of("Australia/Lord_Howe", "2026-04-05", "60m").intervals
    assert [(one.label[11:], one.end - one.start) for one in intervals[1:4]] == [
        ("01:00+11:00", 3600),
        ("01:30+10:30", 1800),
        ("02:00+10:30", 3600),
    ]


def test_half_hours_begin_by_the_local_clock() -> None:
    grid = Grid(0.0, 3600.0, "30m", ZoneInfo("Asia/Kathmandu"))
    assert [interval.label for interval in Grid(1_800_000_000.0, 1_800_003_600.0, "30m", ZoneInfo("Asia/Kathmandu")).intervals] == [
        "2027-01-15T13:30+05:45",
        "2027-01-15T14:00+05:45",
        "2027-01-15T14:30+05:45",
    ]
    assert grid.intervals[0].label.endswith("+05:30"), "Nepal's clock was another until 1986"


def test_the_period_cuts_the_intervals_at_its_ends_and_says_so() -> None:
    start = midnight("Asia/Hong_Kong", "2026-06-01")
    grid = Grid(start + 600, start + 2000.5, "15m", ZoneInfo("Asia/Hong_Kong"))
    assert [(one.start - start, one.end - start, one.label[11:16], one.whole) for one in grid.intervals] == [
        (600, 900, "00:00", False),
        (900, 1800, "00:15", True),
        (1800, 2000.5, "00:30", False),
    ]


@pytest.mark.parametrize("step", ["5m", "week", "month", "", "15"])
def test_no_step_is_longer_than_a_day(step: str) -> None:
    with pytest.raises(Invalid, match="month"):
        Grid(0.0, 900.0, step, ZoneInfo("UTC"))


@pytest.mark.parametrize(("start", "end"), [(900.0, 900.0), (900.0, 0.0), (float("nan"), 900.0), (0.0, float("inf"))])
def test_a_period_has_a_length(start: float, end: float) -> None:
    with pytest.raises(Invalid, match="period"):
        Grid(start, end, "15m", ZoneInfo("UTC"))


def test_a_report_is_bounded() -> None:
    assert len(Grid(0.0, MAX_INTERVALS * 900.0, "15m", ZoneInfo("UTC")).intervals) == MAX_INTERVALS
    with pytest.raises(Invalid, match="shorter period"):
        Grid(0.0, MAX_INTERVALS * 900.0 + 1, "15m", ZoneInfo("UTC"))


@pytest.mark.parametrize("year", [1, 9999])
def test_years_beside_which_there_is_no_day_are_refused(year: int) -> None:
    start = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    with pytest.raises(Invalid, match="years 2 to 9998"):
        Grid(start, start + 86400, "15m", ZoneInfo("America/Sao_Paulo"))


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", "x" * 300, "a\0b"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="IANA"):
        zone_called(name)


moments = st.floats(datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2036, 1, 1, tzinfo=UTC).timestamp())
zones = st.sampled_from(ZONES).map(ZoneInfo)
steps = st.sampled_from(sorted(STEPS))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    start, step = draw(moments), draw(steps)
    # a change of clocks in most of them: a day's step looks at a year, the others at some days
    length = draw(st.floats(1.0, 400 * 86400.0 if step == "day" else 3 * 86400.0))
    return Grid(start, start + length, step, draw(zones))


@given(grids(), st.data())
@settings(max_examples=60 * TIMES, deadline=None)
def test_intervals_cover_the_period_without_gap_or_overlap_and_each_label_is_one(grid: Grid, data: st.DataObject) -> None:
    intervals = grid.intervals
    assert (intervals[0].start, intervals[-1].end) == (grid.start, grid.end)
    assert all(one.start < one.end for one in intervals)
    assert all(one.end == following.start for one, following in pairwise(intervals))
    assert all(one.whole for one in intervals[1:-1])
    assert len({one.label for one in intervals}) == len(intervals)
    moment = data.draw(st.floats(grid.start, grid.end, exclude_max=True))
    held_by = intervals[grid.index(moment)]
    assert held_by.start <= moment < held_by.end
    if held_by.whole:
        assert datetime.fromisoformat(held_by.label).timestamp() == held_by.start
    if grid.step == "day" and grid.zone.key != "America/St_Johns":  # whose date once went back for an hour, a minute after midnight
        assert held_by.label[:10] == datetime.fromtimestamp(moment, grid.zone).date().isoformat()


@given(grids(), st.data())
@settings(max_examples=60 * TIMES, deadline=None)
def test_the_cells_that_a_database_counts_are_the_intervals(grid: Grid, data: st.DataObject) -> None:
    moment = data.draw(st.floats(grid.start, grid.end, exclude_max=True))
    stretch = next(one for one in grid.stretches if moment < one.end)
    cell = stretch.first + int((moment - stretch.base) / STEPS[grid.step])
    assert grid.of_cell[cell] == grid.index(moment)


@given(grids(), st.data())
@settings(max_examples=60 * TIMES, deadline=None)
def test_the_shares_of_a_span_add_up_to_it(grid: Grid, data: st.DataObject) -> None:
    around = st.floats(grid.start - 1e5, grid.end + 1e5)
    since, until = sorted((data.draw(around), data.draw(around)))
    shares = dict(grid.split(since, until))
    inside = max(0, micros(min(until, grid.end)) - micros(max(since, grid.start)))
    assert sum(shares.values()) == inside
    for index, share in shares.items():
        interval = grid.intervals[index]
        assert 0 < share <= micros(interval.end) - micros(interval.start)


# ---- figures add up

counts = st.integers(0, 10_000)
figures = st.builds(Figures, **dict.fromkeys(FIGURES, counts))


@given(st.lists(figures), st.data())
def test_figures_add_up_in_any_order(parts: list[Figures], data: st.DataObject) -> None:
    summed = sum(parts, Figures())
    assert summed == sum(data.draw(st.permutations(parts)), Figures())
    for name in FIGURES:
        of_parts = [getattr(part, name) for part in parts]
        assert getattr(summed, name) == (max(of_parts, default=0) if name == "wait_max_micros" else sum(of_parts))


# ---- the service level


@pytest.mark.parametrize(
    ("definition", "share"),
    [
        (ServiceLevel(abandons_count=True), 60 / (100 - 5)),
        (ServiceLevel(abandons_count=False), 60 / (100 - 20)),
    ],
)
def test_the_formulas_of_the_service_level(definition: ServiceLevel, share: float) -> None:
    """Of 100 decided, 60 were answered in time; 20 abandoned, 5 of these at once."""
    assert definition.share(Tally(decided=100, in_time=60, abandoned=20, short_abandoned=5)) == round(share, 4)


def test_a_service_level_of_nobody_is_unknown() -> None:
    assert ServiceLevel().share(Tally()) is None
    assert ServiceLevel().share(Tally(decided=2, abandoned=2, short_abandoned=2)) is None
    assert ServiceLevel(abandons_count=False).share(Tally(decided=2, abandoned=2)) is None
    assert ServiceLevel(abandons_count=True).share(Tally(decided=2, abandoned=2)) == 0.0


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_a_service_level_is_a_share(in_time: int, late: int, short: int, left: int, sent_away: int, count: bool) -> None:
    tally = Tally(in_time + late + short + left + sent_away, in_time, short + left, short)
    share = ServiceLevel(abandons_count=count).share(tally)
    assert share is None or 0 <= share <= 1
    with_abandons, without = ServiceLevel(abandons_count=True).share(tally), ServiceLevel(abandons_count=False).share(tally)
    assert with_abandons is None or without is None or with_abandons <= without


# ---- an agent's time and value


def test_occupancy_is_handling_of_the_time_that_one_could_be_reached() -> None:
    seconds = {
        ("available", ""): 300, ("offered", ""): 100, ("busy", ""): 500, ("wrap_up", ""): 100, ("paused", "lunch"): 1800, ("paused", "meeting"): 600,
        ("offline", ""): 9999, ("unknown", ""): 50,
    }  # fmt: skip
    assert occupancy(seconds) == 0.6
    assert signed_in(seconds) == 3400


@pytest.mark.parametrize("seconds", [{}, {("offline", ""): 900}, {("paused", "lunch"): 900}])
def test_occupancy_of_no_time_is_unknown(seconds: dict[tuple[str, str], int]) -> None:
    assert occupancy(seconds) is None


def test_currencies_are_never_added_and_who_bought_nothing_counts() -> None:
    value = Value()
    value.add("sold", "HKD", 2, 2, 1_000_000)
    value.add("sold", "USD", 1, 0, 125_000)
    value.add("question", None, 5, 5, 0)
    assert (value.outcomes, value.resolved, value.codes) == (8, 7, {"sold": 3, "question": 5})
    assert value.per_contact(10) == {"HKD": 10.0, "USD": 1.25}
    assert value.per_contact(0) == {}


def test_a_moment_is_told_in_whole_microseconds() -> None:
    assert micros(1_800_000_000.25) == 1_800_000_000 * MICROS + 250_000
