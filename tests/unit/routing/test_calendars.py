"""Calendar documents, the holidays of several countries, and closures as they are asked for."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from services.routing import calendars
from services.routing.domain.hours import ALWAYS_OPEN, Span, business_seconds, is_open, why_closed
from shared.errors import Invalid

OFFICE = """
zone: Asia/Shanghai
weekly:
  mon-fri: ["09:00-12:00", "13:00-18:00"]
  sat: 10:00-14:00
countries: [CN, DE]
closed_on: {2026-12-31: Stocktaking}
special:
  2026-12-24: {name: Christmas Eve, hours: ["09:00-12:00"]}
messages:
  holiday: {en: We are closed today., zh: 今日休息。}
"""
WEEK = {"zone": "UTC", "weekly": {"mon-fri": "09:00-18:00"}}


def hours_on(document: dict[str, Any], day: str) -> float:
    """Open hours of one local date."""
    calendar = calendars.compile(document, (2024, 2025, 2026))
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(calendar.zone))
    return business_seconds(calendar, start.timestamp(), (start + timedelta(days=1)).timestamp()) / 3600


def why(document: dict[str, Any], text: str) -> tuple[str, str] | None:
    calendar = calendars.compile(document, (2024, 2025, 2026))
    return why_closed(calendar, datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(calendar.zone)).timestamp())


def problems(document: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as refused:
        calendars.check(document)
    found: dict[str, list[str]] = refused.value.more["errors"]
    assert next(iter(found)) in refused.value.detail
    return found


class TestADocument:
    def test_from_yaml(self) -> None:
        office = yaml.safe_load(OFFICE)
        assert hours_on(office, "2026-06-01") == 8
        assert hours_on(office, "2026-06-06") == 4
        assert hours_on(office, "2026-06-07") == 0
        assert hours_on(office, "2026-12-24") == 3
        assert why(office, "2026-12-31 10:00") == ("holiday", "Stocktaking")

    def test_the_stored_form_is_json_and_means_the_same(self) -> None:
        office = yaml.safe_load(OFFICE)
        stored = calendars.check(office)
        assert json.loads(json.dumps(stored)) == stored == calendars.check(stored)
        assert stored["closed_on"] == {"2026-12-31": "Stocktaking"}
        assert calendars.compile(stored, [2026]) == calendars.compile(office, [2026])

    def test_weekdays_in_ranges_and_lists(self) -> None:
        document = {"zone": "UTC", "weekly": {"fri-mon": "09:00-10:00", "tue, thu": "09:00-11:00", "WED": []}}
        week = calendars.compile(document, []).weekly
        assert [sum(span.closes - span.opens for span in day) for day in week] == [60, 120, 0, 120, 60, 60, 60]

    def test_to_and_past_midnight(self) -> None:
        week = calendars.compile({"zone": "UTC", "weekly": {"mon": "00:00-24:00", "tue": "22:00-06:00", "wed": "12:00-00:00"}}, []).weekly
        assert week[:3] == ((Span(0, 1440),), (Span(1320, 1800),), (Span(720, 1440),))

    def test_always(self) -> None:
        assert calendars.compile({"zone": "UTC", "weekly": "always"}, []) == ALWAYS_OPEN


class TestSize:
    """So that nobody waits while a calendar is worked out."""

    @pytest.mark.parametrize("field", ["closed_on", "workdays", "special", "countries"])
    def test_a_list_has_a_limit(self, field: str) -> None:
        days = [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(1001)]
        given = {"special": dict.fromkeys(days, "09:00-10:00"), "countries": ["DE"] * 21}.get(field, days)
        assert "at most" in problems({**WEEK, field: given})[field][0]

    def test_so_have_hours_and_languages(self) -> None:
        assert "at most 20" in problems({"zone": "UTC", "weekly": {"mon": ["09:00-10:00"] * 21}})["weekly.mon"][0]
        assert "at most 50" in problems({**WEEK, "messages": {"hours": {f"l{n}": "x" for n in range(51)}}})["messages.hours"][0]

    @pytest.mark.parametrize("field", ["closed_on", "special"])
    def test_nobody_looks_for_the_next_opening_in_thousands_of_years(self, field: str) -> None:
        assert "years ahead" in problems({**WEEK, field: {"9999-12-31": "09:00-10:00"}})[f"{field}.9999-12-31"][0]


class TestWhatIsWrongIsNamed:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"zone": None}, "zone"),
            ({"zone": "Europe/Atlantis"}, "zone"),
            ({"zone": "../etc/passwd"}, "zone"),
            ({"name": "a b"}, "name"),
            ({"hours": {}}, "hours"),
            ({"weekly": None}, "weekly"),
            ({"weekly": {}}, "weekly"),
            ({"weekly": {"monday": "09:00-18:00"}}, "weekly.monday"),
            ({"weekly": {1: "09:00-18:00"}}, "weekly.1"),
            ({"weekly": {"mon-fri": "09:00-18:00", "fri": "09:00-12:00"}}, "weekly.fri"),
            ({"weekly": {"mon": 540}}, "weekly.mon"),
            ({"weekly": {"mon": [540]}}, "weekly.mon"),
            ({"weekly": {"mon": "9-18"}}, "weekly.mon"),
            ({"weekly": {"mon": "09:00-18:60"}}, "weekly.mon"),
            ({"weekly": {"mon": "24:00-02:00"}}, "weekly.mon"),
            ({"weekly": {"mon": "09:00-24:01"}}, "weekly.mon"),
            ({"weekly": {"mon": "09:00-09:00"}}, "weekly.mon"),
            ({"weekly": {"mon": ["09:00-12:00", "11:59-18:00"]}}, "weekly.mon"),
            ({"countries": "CN"}, "countries"),
            ({"countries": ["CN", "ZZ"]}, "countries.1"),
            ({"countries": ["DE-ZZ"]}, "countries.0"),
            ({"countries": [False]}, "countries.0"),
            ({"countries": [["CN"]]}, "countries.0"),
            ({"countries": ["CN", "CN"]}, "countries.1"),
            ({"closed_on": "2026-12-31"}, "closed_on"),
            ({"closed_on": ["31.12.2026"]}, "closed_on.31.12.2026"),
            ({"closed_on": ["2026-02-30"]}, "closed_on.2026-02-30"),
            ({"closed_on": [["2026-02-28"]]}, "closed_on.['2026-02-28']"),
            ({"closed_on": {"2026-12-31": 5}}, "closed_on.2026-12-31"),
            ({"closed_on": ["2026-12-31", "2026-12-31"]}, "closed_on.2026-12-31"),
            ({"closed_on": ["2026-12-31"], "workdays": ["2026-12-31"]}, "closed_on.2026-12-31"),
            ({"closed_on": ["2026-12-31"], "special": {"2026-12-31": "09:00-10:00"}}, "closed_on.2026-12-31"),
            ({"workdays": ["2026-12-31"], "special": {"2026-12-31": "09:00-10:00"}}, "workdays.2026-12-31"),
            ({"workdays_like": "monday"}, "workdays_like"),
            ({"workdays_like": "sun"}, "workdays_like"),
            ({"special": ["2026-12-31"]}, "special"),
            ({"special": {"2026-12-31": []}}, "special.2026-12-31"),
            ({"special": {"soon": "09:00-10:00"}}, "special.soon"),
            ({"special": {"2026-12-31": {"name": "x"}}}, "special.2026-12-31"),
            ({"special": {"2026-12-31": {"hours": "09:00-10:00", "open": True}}}, "special.2026-12-31.open"),
            ({"messages": "closed"}, "messages"),
            ({"messages": {"night": {"en": "x"}}}, "messages.night"),
            ({"messages": {"hours": "x"}}, "messages.hours"),
            ({"messages": {"hours": {"en": " "}}}, "messages.hours.en"),
        ],
    )
    def test_by_its_field(self, change: dict[str, Any], field: str) -> None:
        assert list(problems(WEEK | change)) == [field]

    def test_all_of_it_at_once(self) -> None:
        assert list(problems({"zone": "x", "weekly": {"mon": "x"}, "more": 1})) == ["more", "zone", "weekly.mon"]

    def test_what_is_no_mapping_at_all(self) -> None:
        with pytest.raises(Invalid, match="mapping"):
            calendars.check(["mon"])  # type: ignore[arg-type]


CHINA_2024_TO_2026 = {
    # The State Council's notices, with the weekends that they count in (first day, last day)
    "off": [
        ("2024-01-01", "2024-01-01"), ("2024-02-10", "2024-02-17"), ("2024-04-04", "2024-04-06"), ("2024-05-01", "2024-05-05"), ("2024-06-10", "2024-06-10"),
        ("2024-09-15", "2024-09-17"), ("2024-10-01", "2024-10-07"),
        ("2025-01-01", "2025-01-01"), ("2025-01-28", "2025-02-04"), ("2025-04-04", "2025-04-06"), ("2025-05-01", "2025-05-05"), ("2025-05-31", "2025-06-02"),
        ("2025-10-01", "2025-10-08"),
        ("2026-01-01", "2026-01-03"), ("2026-02-15", "2026-02-23"), ("2026-04-04", "2026-04-06"), ("2026-05-01", "2026-05-05"), ("2026-06-19", "2026-06-21"),
        ("2026-09-25", "2026-09-27"), ("2026-10-01", "2026-10-07"),
    ],
    "made up": [
        "2024-02-04", "2024-02-18", "2024-04-07", "2024-04-28", "2024-05-11", "2024-09-14", "2024-09-29", "2024-10-12",
        "2025-01-26", "2025-02-08", "2025-04-27", "2025-09-28", "2025-10-11",
        "2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10",
    ],
}  # fmt: skip


class TestCountries:
    def test_china_as_announced(self) -> None:
        every_day = {"zone": "Asia/Shanghai", "weekly": {"mon-sun": "09:00-18:00"}, "countries": ["CN"]}
        calendar = calendars.compile(every_day, (2024, 2025, 2026))
        off: set[date] = {date(2024, 6, 8), date(2024, 6, 9)}  # "joined with the weekend"
        for first, last in CHINA_2024_TO_2026["off"]:
            day = date.fromisoformat(first)
            while day <= date.fromisoformat(last):
                off.add(day)
                day += timedelta(days=1)
        assert set(calendar.holidays) == off
        assert sorted(map(str, calendar.workdays)) == CHINA_2024_TO_2026["made up"]

    def test_a_make_up_workday_opens_a_weekend_with_mondays_hours(self) -> None:
        document = {"zone": "Asia/Shanghai", "weekly": {"mon": "08:00-18:00", "tue-fri": "09:00-18:00"}, "countries": ["CN"]}
        assert hours_on(document, "2026-10-10") == 10  # a Saturday
        assert hours_on(document, "2026-10-17") == 0
        assert hours_on(document | {"workdays_like": "wed"}, "2026-10-10") == 9

    def test_of_two_countries_both_close(self) -> None:
        document = WEEK | {"countries": ["CN", "DE"]}
        assert why(document, "2026-10-06 10:00") == ("holiday", "Day off (substituted from 09/20/2026) (CN)")
        assert why(document, "2026-12-25 10:00") == ("holiday", "Christmas Day (DE)")
        assert why(document, "2026-05-01 10:00") == ("holiday", "Labor Day (CN, DE)")
        assert why(document, "2025-10-03 10:00") == ("holiday", "National Day (CN), German Unity Day (DE)")
        assert hours_on(document, "2026-10-10") == 9

    def test_a_part_of_a_country(self) -> None:
        assert why(WEEK | {"countries": ["DE-BY"]}, "2026-01-06 10:00") == ("holiday", "Epiphany (DE-BY)")
        assert why(WEEK | {"countries": ["DE"]}, "2026-01-06 10:00") is None

    def test_a_holiday_on_a_weekend_is_made_good_where_the_law_says_so(self) -> None:
        assert why(WEEK | {"countries": ["US"]}, "2026-07-03 10:00") == ("holiday", "Independence Day (observed) (US)")

    def test_a_holiday_of_one_goes_before_a_make_up_workday_of_another(self) -> None:
        # Sunday 2024-04-07 is worked in China, and Rwanda remembers
        document = WEEK | {"weekly": {"mon-sun": "09:00-18:00"}}
        assert hours_on(document | {"countries": ["CN"]}, "2024-04-07") == 9
        assert why(document | {"countries": ["CN", "RW"]}, "2024-04-07 10:00") is not None

    def test_the_document_has_the_last_word(self) -> None:
        document = WEEK | {"countries": ["CN"]}
        assert hours_on(document | {"workdays": ["2026-10-01"]}, "2026-10-01") == 9
        assert hours_on(document | {"closed_on": ["2026-10-10"]}, "2026-10-10") == 0
        assert hours_on(document | {"special": {"2026-10-01": "10:00-12:00"}}, "2026-10-01") == 2

    def test_every_country_that_is_known_can_be_named(self) -> None:
        for country in ("AZ", "HU", "TW", "SA", "BR", "NO", "AU"):
            assert calendars.compile(WEEK | {"countries": [country]}, [2025]).holidays


class TestCalendars:
    def test_holidays_follow_the_clock_into_the_next_years(self) -> None:
        known = calendars.Calendars()
        known.put("office", WEEK | {"countries": ["US"]})

        def christmas(year: int) -> float:
            return datetime(year, 12, 25, 12, tzinfo=UTC).timestamp()

        first = known.of("office", christmas(2026))
        assert first is known.of("office", christmas(2026) - 86_400)
        assert first.name == "office"
        assert not is_open(first, christmas(2026))
        assert not is_open(first, christmas(2025))
        assert {day.year for day in first.holidays} == {2025, 2026, 2027}
        later = known.of("office", christmas(2030))
        assert {day.year for day in later.holidays} == {2029, 2030, 2031}
        assert not is_open(later, christmas(2030))

    def test_a_new_document_holds_at_once_and_a_wrong_one_not_at_all(self) -> None:
        known = calendars.Calendars()
        monday = datetime(2026, 6, 1, 17, tzinfo=UTC).timestamp()
        known.put("office", WEEK)
        assert is_open(known.of("office", monday), monday)
        known.put("office", WEEK | {"weekly": {"mon-fri": "09:00-17:00"}})
        assert not is_open(known.of("office", monday), monday)
        with pytest.raises(Invalid):
            known.put("office", WEEK | {"zone": "?"})
        assert not is_open(known.of("office", monday), monday)

    def test_a_queue_without_a_calendar_is_always_open(self) -> None:
        known = calendars.Calendars()
        assert "office" not in known
        assert known.of("office", 0.0) is known.of("", 0.0) is ALWAYS_OPEN


class TestAskingForAClosure:
    def ask(self, **request: Any) -> Any:
        return calendars.closure(request, id="c1", by="anna", now=1000.0)

    def test_an_emergency_for_two_hours(self) -> None:
        closure = self.ask(kind="emergency", queues=[], message={"en": "Fire drill", "zh": "消防演习"}, minutes=120, reason="drill")
        assert (closure.kind, closure.queues, closure.closed, closure.by, closure.since, closure.until) == (
            "emergency",
            (),
            True,
            "anna",
            1000,
            8200,
        )
        assert closure.message == {"en": "Fire drill", "zh": "消防演习"}

    def test_the_night_switch_needs_no_more_than_its_name(self) -> None:
        closure = self.ask(kind="night")
        assert (closure.queues, closure.closed, closure.message, closure.reason, closure.until) == ((), True, {}, "", None)
        assert self.ask(kind="night", closed=False, queues=["sales", "billing", "sales"]).queues == ("billing", "sales")

    def test_until_a_time(self) -> None:
        assert self.ask(kind="night", until="1970-01-01T01:00:00+00:00").until == 3600
        assert self.ask(kind="night", until=3600).until == 3600

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            ({"kind": "lunch"}, "kind"),
            ({"kind": ["night"]}, "kind"),
            ({}, "kind"),
            ({"kind": "night", "queue": "sales"}, "queue"),
            ({"kind": "night", "queues": "sales"}, "queues"),
            ({"kind": "night", "queues": [""]}, "queues"),
            ({"kind": "night", "queues": [[]]}, "queues"),
            ({"kind": "night", "closed": "no"}, "closed"),
            ({"kind": "emergency", "closed": False, "message": {"en": "x"}, "reason": "x"}, "closed"),
            ({"kind": "emergency", "message": {"en": "x"}}, "reason"),
            ({"kind": "emergency", "reason": "x"}, "message"),
            ({"kind": "night", "message": "x"}, "message"),
            ({"kind": "night", "message": {"en": 5}}, "message.en"),
            ({"kind": "night", "reason": 5}, "reason"),
            ({"kind": "night", "minutes": 0}, "minutes"),
            ({"kind": "night", "minutes": "5"}, "minutes"),
            ({"kind": "night", "minutes": True}, "minutes"),
            ({"kind": "night", "minutes": float("nan")}, "minutes"),
            ({"kind": "night", "minutes": 10**9}, "minutes"),
            ({"kind": "night", "minutes": 5, "until": 3600}, "until"),
            ({"kind": "night", "until": 1000}, "until"),
            ({"kind": "night", "until": "tomorrow"}, "until"),
            ({"kind": "night", "until": []}, "until"),
            ({"kind": "night", "until": float("inf")}, "until"),
        ],
    )
    def test_what_is_wrong_is_named(self, request_: dict[str, Any], field: str) -> None:
        with pytest.raises(Invalid) as refused:
            self.ask(**request_)
        assert list(refused.value.more["errors"]) == [field]
