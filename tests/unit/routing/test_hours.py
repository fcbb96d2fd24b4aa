"""Opening hours by example. Times are written as a wall clock shows them, in the calendar's zone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from services.routing.domain.hours import (
    ALWAYS_OPEN,
    Calendar,
    Closure,
    Opening,
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

H = 3600
NINE_TO_SIX = (Span(9 * 60, 18 * 60),)
WITH_LUNCH = (Span(9 * 60, 12 * 60), Span(13 * 60, 18 * 60))
ALL_DAY = (Span(0, 24 * 60),)
NIGHT_SHIFT = (Span(22 * 60, 30 * 60),)
NONE: tuple[Span, ...] = ()


def week(
    mon_fri: tuple[Span, ...] = NINE_TO_SIX, sat: tuple[Span, ...] = NONE, sun: tuple[Span, ...] = NONE
) -> tuple[tuple[Span, ...], ...]:
    return (mon_fri,) * 5 + (sat, sun)


class Office:
    """A calendar that is asked in local times and answers in them."""

    def __init__(self, zone: str = "Europe/Berlin", **calendar: Any) -> None:
        self.calendar = Calendar("office", zone, **{"weekly": week(), **calendar})
        self.zone = ZoneInfo(zone)

    def at(self, text: str, second_time: bool = False) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=self.zone, fold=int(second_time)).timestamp()

    def says(self, moment: float | None) -> str | None:
        return None if moment is None else f"{datetime.fromtimestamp(moment, self.zone):%Y-%m-%d %H:%M}"

    def open(self, text: str, second_time: bool = False) -> bool:
        return is_open(self.calendar, self.at(text, second_time))

    def next_open(self, text: str) -> str | None:
        return self.says(next_open(self.calendar, self.at(text)))

    def next_change(self, text: str) -> str | None:
        return self.says(next_change(self.calendar, self.at(text)))

    def seconds(self, start: str, end: str) -> float:
        return business_seconds(self.calendar, self.at(start), self.at(end))

    def add(self, start: str, seconds: float) -> str | None:
        return self.says(add_business_seconds(self.calendar, self.at(start), seconds))

    def why(self, text: str) -> tuple[str, str] | None:
        return why_closed(self.calendar, self.at(text))

    def decide(self, text: str, *closures: Closure, queue: str = "sales") -> Opening:
        return decide(self.calendar, closures, queue, self.at(text))


class TestAWeek:
    # 2026-06-01 is a Monday
    def test_open_from_the_first_minute_until_before_the_last(self) -> None:
        office = Office(weekly=week(WITH_LUNCH))
        times = ("08:59", "09:00", "11:59", "12:00", "12:59", "13:00", "17:59", "18:00")
        assert [office.open(f"2026-06-01 {time}") for time in times] == [False, True, True, False, False, True, True, False]
        assert not office.open("2026-06-06 10:00")

    def test_when_it_opens_and_when_it_changes(self) -> None:
        office = Office(weekly=week(WITH_LUNCH))
        assert office.next_open("2026-06-01 10:00") == "2026-06-01 10:00"
        assert office.next_open("2026-06-01 12:00") == "2026-06-01 13:00"
        assert office.next_open("2026-06-05 18:00") == "2026-06-08 09:00"
        assert office.next_change("2026-06-01 09:00") == "2026-06-01 12:00"
        assert office.next_change("2026-06-05 18:00") == "2026-06-08 09:00"

    def test_a_night_shift_belongs_to_the_day_it_begins_on(self) -> None:
        office = Office(weekly=week(NIGHT_SHIFT))
        assert office.open("2026-06-06 05:59")  # Friday's, on Saturday morning
        assert not office.open("2026-06-06 06:00")
        assert not office.open("2026-06-06 22:00")
        assert not office.open("2026-06-01 05:00")  # Sunday has none

    def test_days_that_touch_are_one_opening(self) -> None:
        office = Office(weekly=week(ALL_DAY))
        assert office.next_change("2026-06-01 09:00") == "2026-06-06 00:00"

    def test_hours_that_overlap_count_once(self) -> None:
        office = Office(weekly=week((Span(9 * 60, 33 * 60 - 1), Span(10 * 60, 12 * 60))))
        assert office.seconds("2026-06-01 09:00", "2026-06-02 09:00") == 24 * H - 60
        assert office.seconds("2026-06-01 00:00", "2026-06-08 00:00") == 5 * (24 * H - 60)

    def test_without_a_calendar_it_is_always_open(self) -> None:
        assert is_open(ALWAYS_OPEN, 1.8e9)
        assert next_open(ALWAYS_OPEN, 1.8e9) == 1.8e9
        assert next_change(ALWAYS_OPEN, 1.8e9) is None
        assert business_seconds(ALWAYS_OPEN, 1.8e9, 1.8e9 + 86_400.5) == 86_400.5
        assert add_business_seconds(ALWAYS_OPEN, 1.8e9, 1e6) == 1.8e9 + 1e6

    def test_one_that_never_opens_says_so(self) -> None:
        office = Office(weekly=week(NONE))
        assert office.next_open("2026-06-01 09:00") is None
        assert office.next_change("2026-06-01 09:00") is None
        assert office.add("2026-06-01 09:00", 1) is None
        assert office.seconds("2026-06-01 09:00", "2027-06-01 09:00") == 0

    def test_a_single_day_far_ahead_is_found(self) -> None:
        office = Office(weekly=week(NONE), special={date(2029, 5, 5): Special("fair", NINE_TO_SIX)})
        assert office.next_open("2026-06-01 09:00") == "2029-05-05 09:00"
        assert office.add("2026-06-01 09:00", 2 * H) == "2029-05-05 11:00"
        assert office.add("2026-06-01 09:00", 10 * H) is None
        assert office.next_change("2029-05-05 09:00") == "2029-05-05 18:00"

    @pytest.mark.parametrize("span", [Span(-1, 60), Span(1440, 1500), Span(60, 60), Span(60, 30), Span(60, 1501)])
    def test_hours_that_make_no_sense_are_refused(self, span: Span) -> None:
        with pytest.raises(ValueError, match="hours begin"):
            Calendar(weekly=week((span,)))

    def test_so_is_an_unknown_zone_and_a_short_week(self) -> None:
        with pytest.raises(ZoneInfoNotFoundError):
            Calendar(zone="Europe/Atlantis")
        with pytest.raises(ValueError, match="seven"):
            Calendar(weekly=(NINE_TO_SIX,))


class TestExceptions:
    def test_a_holiday_closes_and_is_named(self) -> None:
        office = Office(holidays={date(2026, 6, 4): "Corpus Christi"})
        assert office.why("2026-06-04 10:00") == ("holiday", "Corpus Christi")
        assert office.why("2026-06-04 03:00") == ("holiday", "Corpus Christi")
        assert office.why("2026-06-03 19:00") == ("hours", "")
        assert office.why("2026-06-03 10:00") is None
        assert office.next_open("2026-06-03 18:00") == "2026-06-05 09:00"

    def test_a_holiday_takes_the_night_that_begins_on_it_not_the_one_that_ends_on_it(self) -> None:
        office = Office(weekly=week(NIGHT_SHIFT), holidays={date(2026, 6, 4): "Corpus Christi"})
        assert office.open("2026-06-04 05:00")
        assert not office.open("2026-06-04 23:00")
        assert office.why("2026-06-05 05:00") == ("holiday", "Corpus Christi")
        assert office.why("2026-06-05 07:00") == ("hours", "")

    def test_a_make_up_workday_has_mondays_hours_or_those_of_another_day(self) -> None:
        saturday = date(2026, 10, 10)
        office = Office("Asia/Shanghai", weekly=(WITH_LUNCH, *week()[1:]), workdays={saturday: "for National Day"})
        assert office.seconds("2026-10-10 00:00", "2026-10-11 00:00") == 8 * H
        office.calendar = replace(office.calendar, workday_like=1)
        assert office.seconds("2026-10-10 00:00", "2026-10-11 00:00") == 9 * H

    def test_a_special_day_goes_before_a_workday_before_a_holiday(self) -> None:
        day = date(2026, 12, 24)
        office = Office(holidays={day: "Christmas Eve"})
        assert office.seconds("2026-12-24 00:00", "2026-12-25 00:00") == 0
        office.calendar = replace(office.calendar, workdays={day: ""})
        assert office.seconds("2026-12-24 00:00", "2026-12-25 00:00") == 9 * H
        office.calendar = replace(office.calendar, special={day: Special("half a day", (Span(9 * 60, 12 * 60),))})
        assert office.seconds("2026-12-24 00:00", "2026-12-25 00:00") == 3 * H
        assert office.why("2026-12-24 13:00") == ("hours", "half a day")


class TestReplyTargets:
    def test_four_open_hours_from_friday_afternoon_end_on_monday(self) -> None:
        assert Office().add("2026-06-05 16:00", 4 * H) == "2026-06-08 11:00"

    def test_a_matter_that_arrives_at_night_counts_from_the_morning(self) -> None:
        assert Office().add("2026-06-01 23:00", 2 * H) == "2026-06-02 11:00"

    def test_what_fits_exactly_ends_with_the_day(self) -> None:
        assert Office().add("2026-06-01 09:00", 9 * H) == "2026-06-01 18:00"

    def test_nothing_to_add_is_the_start_even_when_closed(self) -> None:
        assert Office().add("2026-06-06 03:00", 0) == "2026-06-06 03:00"

    def test_open_time_is_never_taken_away(self) -> None:
        with pytest.raises(ValueError, match="added"):
            Office().add("2026-06-01 09:00", -1)
        assert Office().seconds("2026-06-02 09:00", "2026-06-01 09:00") == 0

    def test_a_holiday_in_between_does_not_count(self) -> None:
        office = Office(holidays={date(2026, 5, 25): "Whit Monday"})
        assert office.add("2026-05-22 17:00", 2 * H) == "2026-05-26 10:00"
        assert office.seconds("2026-05-22 00:00", "2026-05-27 00:00") == 18 * H


class TestClocksChange:
    """Berlin 2026: 29 March 02:00 → 03:00, 25 October 03:00 → 02:00; both Sundays."""

    def test_a_day_has_23_or_25_hours(self) -> None:
        office = Office(weekly=week(sun=ALL_DAY))
        assert office.seconds("2026-03-29 00:00", "2026-03-30 00:00") == 23 * H
        assert office.seconds("2026-10-25 00:00", "2026-10-26 00:00") == 25 * H

    def test_opening_at_a_time_that_the_clock_skips_is_at_the_change(self) -> None:
        office = Office(weekly=week(sun=(Span(150, 600),)))
        assert office.next_open("2026-03-29 00:00") == "2026-03-29 03:00"
        assert office.seconds("2026-03-29 00:00", "2026-03-30 00:00") == 7 * H

    def test_so_is_closing(self) -> None:
        office = Office(weekly=week(sun=(Span(60, 150),)))
        assert office.seconds("2026-03-29 00:00", "2026-03-30 00:00") == H

    def test_hours_wholly_within_the_skipped_one_do_not_take_place(self) -> None:
        office = Office(weekly=week(NONE, sun=(Span(130, 170),)))
        assert office.next_open("2026-03-28 00:00") == "2026-04-05 02:10"

    def test_open_from_the_first_time_to_the_second(self) -> None:
        office = Office(weekly=week(sun=(Span(130, 150),)))
        assert office.open("2026-10-25 02:10")
        assert office.open("2026-10-25 02:20", second_time=True)
        assert office.seconds("2026-10-25 00:00", "2026-10-26 00:00") == H + 20 * 60

    def test_a_night_shift_over_the_change_is_an_hour_shorter_or_longer(self) -> None:
        office = Office(weekly=week(NONE, sat=NIGHT_SHIFT))
        assert office.seconds("2026-03-28 12:00", "2026-03-29 12:00") == 7 * H
        assert office.seconds("2026-10-24 12:00", "2026-10-25 12:00") == 9 * H

    def test_a_skipped_midnight(self) -> None:
        office = Office("America/Santiago", weekly=week(NONE, sun=ALL_DAY))  # 2026-09-06 begins at 01:00
        assert office.next_open("2026-09-05 12:00") == "2026-09-06 01:00"
        assert office.seconds("2026-09-05 12:00", "2026-09-07 12:00") == 23 * H

    def test_a_repeated_midnight_closes_a_holiday_from_its_first_moment(self) -> None:
        day = date(2026, 11, 1)  # in Havana 01:00 → 00:00
        office = Office("America/Havana", weekly=(ALL_DAY,) * 7, holidays={day: "a holiday"})
        assert not office.open("2026-11-01 00:30")
        assert not office.open("2026-11-01 00:30", second_time=True)
        assert office.seconds("2026-10-31 00:00", "2026-11-02 00:00") == 24 * H

    def test_a_repeated_evening(self) -> None:
        # St. John's, 2009-11-01 00:01 → 2009-10-31 23:01: the date itself comes back
        office = Office("America/St_Johns", weekly=week(NONE, sun=ALL_DAY))
        assert office.next_open("2009-10-31 12:00") == "2009-11-01 00:00"
        assert office.open("2009-10-31 23:30", second_time=True)
        assert not office.open("2009-10-31 23:30")

    def test_a_date_that_never_was(self) -> None:
        office = Office("Pacific/Apia", weekly=(ALL_DAY,) * 7)  # no 30 December 2011
        assert office.seconds("2011-12-29 00:00", "2012-01-01 00:00") == 48 * H


def emergency(**facts: Any) -> Closure:
    return Closure(**{"id": "e1", "kind": "emergency", "message": {"en": "fire drill"}} | facts)


def night(**facts: Any) -> Closure:
    return Closure(**{"id": "n1", "kind": "night", "message": {"en": "good night"}} | facts)


class TestClosures:
    office = Office(
        holidays={date(2026, 6, 4): "Corpus Christi"},
        messages={"hours": {"en": "We open at nine."}, "holiday": {"en": "Today is a holiday."}},
    )
    noon = "2026-06-01 12:00"

    def ago(self, hours: float, text: str = noon) -> float:
        return self.office.at(text) - hours * H

    def test_by_the_calendar(self) -> None:
        assert self.office.decide(self.noon) == Opening(True, "hours")
        evening = self.office.decide("2026-06-03 20:00")
        assert (evening.open, evening.cause, evening.message) == (False, "hours", {"en": "We open at nine."})
        assert self.office.says(evening.opens_at) == "2026-06-05 09:00"
        holiday = self.office.decide("2026-06-04 12:00")
        assert (holiday.cause, holiday.name, holiday.message) == ("holiday", "Corpus Christi", {"en": "Today is a holiday."})

    def test_an_emergency_closes_with_its_message_until_it_expires(self) -> None:
        closure = emergency(since=self.ago(1), until=self.ago(-2))
        opening = self.office.decide(self.noon, closure)
        assert (opening.open, opening.cause, opening.message, opening.closure) == (False, "emergency", {"en": "fire drill"}, "e1")
        assert self.office.says(opening.opens_at) == "2026-06-01 14:00"
        assert self.office.decide("2026-06-01 14:00", closure).open

    def test_one_that_expires_at_night_opens_with_the_calendar(self) -> None:
        closure = emergency(since=self.ago(1), until=self.ago(-10))
        assert self.office.says(self.office.decide(self.noon, closure).opens_at) == "2026-06-02 09:00"

    def test_one_without_an_end_lasts_until_somebody_ends_it(self) -> None:
        closure = emergency(since=self.ago(1))
        assert self.office.decide(self.noon, closure).opens_at is None
        assert not self.office.decide("2026-07-01 12:00", closure).open
        ended = replace(closure, ended_at=self.ago(-1), ended_by="anna")
        assert self.office.decide("2026-06-01 13:00", ended).open

    def test_one_that_has_not_begun_does_not_count(self) -> None:
        assert self.office.decide(self.noon, emergency(since=self.ago(-1))).open

    def test_it_concerns_its_queues_or_all(self) -> None:
        sales_only = emergency(queues=("sales",), since=self.ago(1))
        assert not self.office.decide(self.noon, sales_only, queue="sales").open
        assert self.office.decide(self.noon, sales_only, queue="billing").open
        assert not self.office.decide(self.noon, emergency(since=self.ago(1)), queue="billing").open

    def test_the_night_switch_closes_by_day_and_holds_open_by_night(self) -> None:
        closed = self.office.decide(self.noon, night(since=self.ago(1)))
        assert (closed.open, closed.cause) == (False, "night")
        late = "2026-06-01 22:00"
        held = self.office.decide(late, night(closed=False, since=self.ago(1, late)))
        assert (held.open, held.cause, held.opens_at) == (True, "night", None)

    def test_an_emergency_wins_over_a_newer_night_switch(self) -> None:
        closures = emergency(since=self.ago(2)), night(closed=False, since=self.ago(1))
        assert self.office.decide(self.noon, *closures).cause == "emergency"

    def test_among_equals_the_newest_wins(self) -> None:
        closures = night(id="n1", since=self.ago(2)), night(id="n2", closed=False, since=self.ago(1))
        assert self.office.decide(self.noon, *closures).open
        assert self.office.decide(self.noon, *reversed(closures)).open

    def test_when_it_opens_under_several(self) -> None:
        late = "2026-06-01 22:00"
        held_open = night(closed=False, since=self.ago(1, late))
        closure = emergency(since=self.ago(1, late), until=self.ago(-1, late))
        assert self.office.says(self.office.decide(late, closure, held_open).opens_at) == "2026-06-01 23:00"
        closing = night(since=self.ago(3, late), until=self.ago(-20, late))  # until 18:00, when the office closes
        assert self.office.says(self.office.decide(late, closing, closure).opens_at) == "2026-06-03 09:00"

    def test_closures_that_make_no_sense_are_refused(self) -> None:
        for facts in ({"kind": "lunch"}, {"closed": False}, {"since": 10.0, "until": 10.0}):
            with pytest.raises(ValueError, match=r"closure|emergency"):
                emergency(**facts)
