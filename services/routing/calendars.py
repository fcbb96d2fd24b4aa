"""Calendar documents, and the holidays of the countries they name. (In YAML here, for people; JSON is what is sent and stored.)

    zone: Europe/Berlin
    weekly: {mon-fri: ["09:00-12:00", "13:00-18:00"], sat: "10:00-14:00"}    # or: weekly: always
    countries: [CN, DE-BY]                   # closed on the public holidays of each; open on their make-up workdays
    closed_on: {2026-12-31: Stocktaking}     # or a list of dates
    workdays: [2026-10-10]                   # open on these, whatever else they are …
    workdays_like: mon                       # … and on the countries' make-up workdays, with the hours of this weekday
    special: {2026-12-24: ["09:00-12:00"]}   # or {name: Christmas Eve, hours: […]}
    messages: {holiday: {en: We are closed today., zh: 今日休息。}, hours: {en: …}}

On one date `special` counts before `workdays`, these before `closed_on`, these before a country's holiday, and a holiday of one country
before a make-up workday of another. Hours to or past midnight: "22:00-24:00", "22:00-06:00"; they belong to the day on which they begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import holidays

from services.routing.domain.hours import ALL_WEEK, ALWAYS_OPEN, DAY, HOLIDAY, HOURS, KINDS, Calendar, Closure, Span, Special
from shared import clock
from shared.errors import Invalid

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIELDS = ("name", "zone", "weekly", "countries", "closed_on", "workdays", "workdays_like", "special", "messages")
CLOSURE_FIELDS = ("kind", "queues", "closed", "message", "reason", "minutes", "until")
MOST_DAYS, MOST_COUNTRIES, MOST_SPANS, MOST_LANGUAGES = 1000, 20, 20, 50
"""Of each list in a calendar, so that nobody waits while it is worked out."""
YEARS_AHEAD = 10
LONGEST_CLOSURE = 366 * DAY
"""Minutes."""

JOINS_WEEKENDS = {"CN"}
"""The State Council's notices count weekend days that adjoin a holiday as part of it; the package lists the weekdays only."""

SPAN = re.compile(r"([0-9]{2}):([0-9]{2})\s*[-–]\s*([0-9]{2}):([0-9]{2})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Document = dict[str, Any]
Problems = dict[str, list[str]]
Days = Mapping[date, str]


def check(document: Mapping[str, Any]) -> Document:
    """The document in the form that is stored: dates as text, ready for JSON. Raises Invalid with `errors` by field."""
    _load(document)
    return json.loads(json.dumps(_texts(document), ensure_ascii=False))


def compile(document: Mapping[str, Any], years: Iterable[int]) -> Calendar:
    """The calendar with the countries' holidays of these years. Raises Invalid as `check` does."""
    loaded = _load(document)
    calendar: Calendar = loaded["calendar"]
    closed, made_up = _of_countries(loaded["countries"], sorted(set(years)))
    closed |= loaded["closed_on"]
    made_up = {day: name for day, name in made_up.items() if day not in closed}
    return replace(calendar, holidays=closed, workdays=made_up | dict(calendar.workdays))


class Calendars:
    """The calendars of a process, compiled for last year, this year and the next; anew when the year changes."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._compiled: dict[str, tuple[int, Calendar]] = {}

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Raises Invalid as `check` does; the calendar of that name is then as it was."""
        self._documents[name] = check({**document, "name": name})
        self._compiled.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._documents

    def of(self, name: str, now: float) -> Calendar:
        """The named calendar; one that nobody has written down is always open."""
        if name not in self._documents:
            return ALWAYS_OPEN
        year = datetime.fromtimestamp(now, UTC).year
        known = self._compiled.get(name)
        if known is None or known[0] != year:
            known = self._compiled[name] = (year, compile(self._documents[name], (year - 1, year, year + 1)))
        return known[1]


def closure(request: Mapping[str, Any], *, id: str, by: str, now: float) -> Closure:
    """A closure as asked for: kind, queues (none: all), closed, message by language, reason, and an end: `minutes` from now or `until` (RFC 3339).

    Raises Invalid with `errors` by field. An emergency needs a message and a reason: both are read by people who were not there.
    """
    problems = _Problems()
    problems.unknown(request, CLOSURE_FIELDS)
    kind = request.get("kind")
    if kind not in KINDS:
        problems.add("kind", f"{' or '.join(KINDS)}, not {kind!r}")
    closed = request.get("closed", True)
    if not isinstance(closed, bool):
        problems.add("closed", "true (nobody is let in) or false (the night switch holds open)")
    elif kind == "emergency" and not closed:
        problems.add("closed", "an emergency closes; only the night switch can hold open")
    queues = request.get("queues") or []
    if not isinstance(queues, list) or not all(isinstance(queue, str) and queue for queue in queues):
        problems.add("queues", "a list of names of queues; an empty one means all")
    message = problems.message("message", request.get("message") or {})
    reason = request.get("reason") or ""
    if not isinstance(reason, str):
        problems.add("reason", "a text")
    if kind == "emergency":
        if not message:
            problems.add("message", 'an emergency tells callers why: {"en": "…", "zh": "…"}')
        if not reason:
            problems.add("reason", "an emergency needs a reason, for the record")
    until = _until(request, now, problems)
    problems.settle("closure")
    return Closure(id, str(kind), tuple(sorted(set(queues))), closed, message, reason, by, now, until)


def _until(request: Mapping[str, Any], now: float, problems: _Problems) -> float | None:
    minutes, until = request.get("minutes"), request.get("until")
    if minutes is not None and until is not None:
        problems.add("until", "either minutes or until")
    elif minutes is not None:
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= LONGEST_CLOSURE:
            problems.add("minutes", f"a number of minutes, more than 0 and at most {LONGEST_CLOSURE}")
        else:
            return now + 60 * minutes
    elif until is not None:
        try:
            moment = clock.from_text(until) if isinstance(until, str) else float(until)
        except (TypeError, ValueError) as error:
            problems.add("until", str(error))
        else:
            if now < moment <= now + 60 * LONGEST_CLOSURE:
                return moment
            problems.add("until", "this is not within the next 366 days")
    return None


class _Problems:
    def __init__(self) -> None:
        self.found: Problems = {}

    def add(self, name: str, sentence: str) -> None:
        self.found.setdefault(name, []).append(sentence)

    def unknown(self, given: Mapping[Any, Any], known: Iterable[str]) -> None:
        known = tuple(known)
        for name in given:
            if name not in known:
                self.add(str(name), f"not a field of this; the fields are {', '.join(known)}")

    def message(self, name: str, given: Any) -> dict[str, str]:
        if not isinstance(given, Mapping):
            self.add(name, 'texts by language: {"en": "…", "zh": "…"}')
            return {}
        if len(given) > MOST_LANGUAGES:
            self.add(name, f"at most {MOST_LANGUAGES} languages")
            return {}
        for language, text in given.items():
            if not isinstance(language, str) or not isinstance(text, str) or not text.strip() or len(text) > 1000:
                self.add(f"{name}.{language}", "a text of at most 1,000 characters")
        return {str(language): str(text) for language, text in given.items()}

    def settle(self, what: str) -> None:
        if self.found:
            first, sentences = next(iter(self.found.items()))
            raise Invalid(f"the {what} is not as it must be: {first}: {sentences[0]}", errors=self.found)


def _load(document: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise Invalid("a calendar is a mapping with zone and weekly")
    problems = _Problems()
    problems.unknown(document, FIELDS)
    name = document.get("name", "")
    if not isinstance(name, str) or (name and not NAME.fullmatch(name)):
        problems.add("name", "letters, digits, and _ . - between them, at most 64")
    zone = _zone(document.get("zone"), problems)
    weekly = _weekly(document.get("weekly"), problems)
    countries = _countries(document.get("countries") or [], problems)
    closed_on = _days("closed_on", document.get("closed_on") or {}, problems)
    workdays = _days("workdays", document.get("workdays") or {}, problems)
    special = _special(document.get("special") or {}, problems)
    for day in sorted(closed_on.keys() & (workdays.keys() | special.keys())):
        problems.add(f"closed_on.{day}", "this date is among workdays or special too: which is it?")
    for day in sorted(workdays.keys() & special.keys()):
        problems.add(f"workdays.{day}", "this date is in special too, with hours of its own: which are they?")
    like = document.get("workdays_like", "mon")
    if like not in WEEKDAYS:
        problems.add("workdays_like", f"a weekday: {', '.join(WEEKDAYS)}")
        like = "mon"
    elif (workdays or "workdays_like" in document) and not weekly[WEEKDAYS.index(like)] and "weekly" not in problems.found:
        problems.add("workdays_like", f"{like} has no hours in weekly: make-up workdays would be closed; name a weekday that has")
    messages = _messages(document.get("messages") or {}, problems)
    problems.settle("calendar")
    calendar = Calendar(name, zone, weekly, {}, workdays, special, WEEKDAYS.index(like), messages)
    return {"calendar": calendar, "countries": countries, "closed_on": closed_on}


def _zone(zone: Any, problems: _Problems) -> str:
    try:
        if isinstance(zone, str) and zone:
            ZoneInfo(zone)
            return zone
    except (LookupError, ValueError, OSError):
        pass
    problems.add("zone", f"a zone of the time zone database, such as Europe/Berlin or Asia/Shanghai, not {zone!r}")
    return "UTC"


def _weekly(given: Any, problems: _Problems) -> tuple[tuple[Span, ...], ...]:
    if given == "always":
        return ALL_WEEK
    week: list[tuple[Span, ...] | None] = [None] * 7
    if not isinstance(given, Mapping) or not given:
        problems.add("weekly", 'hours by weekday, such as {mon-fri: ["09:00-18:00"]}, or always')
        given = {}
    for key, hours in given.items():
        at = f"weekly.{key}"
        days = _weekdays(key)
        if not days:
            problems.add(at, f"weekdays are {', '.join(WEEKDAYS)}, a range as mon-fri or a list as mon,wed")
        spans = _spans(at, hours, problems)
        for day in days:
            if week[day] is not None:
                problems.add(at, f"{WEEKDAYS[day]} has hours already")
            week[day] = spans
    return tuple(spans or () for spans in week)


def _weekdays(key: Any) -> list[int]:
    days: list[int] = []
    for part in str(key).lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            return []
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        days += [day % 7 for day in range(begin, end + 1 + 7 * (end < begin))]
    return days


def _spans(at: str, given: Any, problems: _Problems) -> tuple[Span, ...]:
    spans: list[Span] = []
    if not isinstance(given, str | list):
        problems.add(at, f'hours such as "09:00-18:00", or a list of them, not {given!r}')
        return ()
    if isinstance(given, list) and len(given) > MOST_SPANS:
        problems.add(at, f"at most {MOST_SPANS} of these hours a day")
        return ()
    for text in [given] if isinstance(given, str) else given:
        match = SPAN.fullmatch(text.strip()) if isinstance(text, str) else None
        if not match:
            problems.add(at, f'hours are written "09:00-18:00", with both digits, not {text!r}')
            continue
        hour, minute, to_hour, to_minute = map(int, match.groups())
        opens, closes = 60 * hour + minute, 60 * to_hour + to_minute
        if minute > 59 or to_minute > 59 or opens >= DAY or closes > DAY:
            problems.add(at, f"{text} is beyond the day: times are 00:00 to 23:59, and 24:00 at its end")
        elif opens == closes:
            problems.add(at, f"{text} is no time at all; the whole day is 00:00-24:00")
        else:
            spans.append(Span(opens, closes if closes > opens else closes + DAY))
    spans.sort()
    for one, next_one in pairwise(spans):
        if next_one.opens < one.closes:
            problems.add(at, "two of these hours overlap")
    return tuple(spans)


def _date(given: Any) -> date | None:
    if isinstance(given, datetime):
        return None
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given) if isinstance(given, str) and len(given) == 10 else None
    except ValueError:
        return None


def _too_many(at: str, given: Mapping[Any, Any] | list[Any], most: int, what: str, problems: _Problems) -> bool:
    if len(given) > most:
        problems.add(at, f"at most {most:,} {what}")
    return len(given) > most


def _this_year() -> int:
    return datetime.fromtimestamp(clock.now(), UTC).year


def _days(at: str, given: Any, problems: _Problems) -> dict[date, str]:
    if not isinstance(given, Mapping | list):
        problems.add(at, "a list of dates such as 2026-12-31, or names by date")
        return {}
    if _too_many(at, given, MOST_DAYS, "dates", problems):
        return {}
    names = given if isinstance(given, Mapping) else {}
    days: dict[date, str] = {}
    for written in given:
        day, name = _date(written), names.get(written) if isinstance(written, Hashable) else None
        if day is None:
            problems.add(f"{at}.{written}", "not a date: write 2026-12-31")
        elif day.year > _this_year() + YEARS_AHEAD:
            problems.add(f"{at}.{written}", f"more than {YEARS_AHEAD} years ahead")
        elif day in days:
            problems.add(f"{at}.{written}", "this date is here twice")
        elif not isinstance(name, str | None):
            problems.add(f"{at}.{written}", "its name is a text")
        else:
            days[day] = name or ""
    return days


def _special(given: Any, problems: _Problems) -> dict[date, Special]:
    if not isinstance(given, Mapping):
        problems.add("special", 'hours by date: {2026-12-24: ["09:00-12:00"]}')
        return {}
    if _too_many("special", given, MOST_DAYS, "dates", problems):
        return {}
    days: dict[date, Special] = {}
    for written, what in given.items():
        at, day, name, hours = f"special.{written}", _date(written), "", what
        if isinstance(what, Mapping):
            name, hours = what.get("name") or "", what.get("hours")
            for field in what:
                if field not in ("name", "hours"):
                    problems.add(f"{at}.{field}", "not a field of this; the fields are name, hours")
        if not isinstance(name, str):
            problems.add(f"{at}.name", "a text")
        spans = _spans(at, hours, problems)
        if day is None:
            problems.add(at, "not a date: write 2026-12-24")
        elif day.year > _this_year() + YEARS_AHEAD:
            problems.add(at, f"more than {YEARS_AHEAD} years ahead")
        elif hours in ([], ""):
            problems.add(at, "no hours: name the date in closed_on")
        elif day in days:
            problems.add(at, "this date is here twice")
        else:
            days[day] = Special(str(name), spans)
    return days


def _messages(given: Any, problems: _Problems) -> dict[str, dict[str, str]]:
    if not isinstance(given, Mapping):
        problems.add("messages", "texts by cause (hours, holiday) and language")
        return {}
    for cause in given:
        if cause not in (HOURS, HOLIDAY):
            problems.add(f"messages.{cause}", f"the causes are {HOURS} and {HOLIDAY}")
    return {str(cause): problems.message(f"messages.{cause}", texts) for cause, texts in given.items()}


def _countries(given: Any, problems: _Problems) -> list[str]:
    if not isinstance(given, list):
        problems.add("countries", "a list of country codes, such as [CN, DE-BY]")
        return []
    if _too_many("countries", given, MOST_COUNTRIES, "countries", problems):
        return []
    supported = holidays.list_supported_countries()
    found: list[str] = []
    for place, code in enumerate(given):
        at = f"countries.{place}"
        country, _, part = code.partition("-") if isinstance(code, str) else ("", "", "")
        if country not in supported:
            problems.add(at, f"{code!r} is not the ISO 3166 code of a country whose holidays are known, such as CN or DE-BY")
        elif part and part not in supported[country]:
            problems.add(at, f"{country} has no part {part}; known are {', '.join(supported[country]) or 'none'}")
        elif code in found:
            problems.add(at, f"{code} is here twice")
        else:
            found.append(code)
    return found


def _of_countries(codes: Iterable[str], years: list[int]) -> tuple[dict[date, str], dict[date, str]]:
    """Holidays and make-up workdays by date. A name says whose it is: `Labor Day (CN, DE)`."""
    whose: dict[date, dict[str, list[str]]] = {}
    workdays: dict[date, list[str]] = {}
    for code in codes:
        closed, made_up = _of_country(code, tuple(years))
        for day, name in closed.items():
            whose.setdefault(day, {}).setdefault(name, []).append(code)
        for day in made_up:
            workdays.setdefault(day, []).append(code)
    named = {day: ", ".join(f"{name} ({', '.join(codes)})" for name, codes in names.items()) for day, names in whose.items()}
    return named, {day: f"Make-up workday ({', '.join(codes)})" for day, codes in workdays.items()}


@lru_cache(maxsize=256)
def _of_country(code: str, years: tuple[int, ...]) -> tuple[Days, tuple[date, ...]]:
    country, _, part = code.partition("-")
    if not years:
        return {}, ()
    # a neighbouring year too: the make-up workday for a holiday of January can be in December
    around = range(min(years) - 1, max(years) + 2)
    english = "en_US" if "en_US" in _languages(country) else None
    found = holidays.country_holidays(country, subdiv=part or None, years=around, language=english)
    closed = dict(found)
    made_up = {day for day in found.weekend_workdays if day not in closed}
    if country in JOINS_WEEKENDS:
        closed |= _joined_weekends(closed, made_up, found.weekend)
    return {day: closed[day] for day in sorted(closed) if day.year in years}, tuple(sorted(day for day in made_up if day.year in years))


def _joined_weekends(closed: Days, made_up: set[date], weekend: Iterable[int]) -> dict[date, str]:
    joined: dict[date, str] = {}
    for first in closed:
        for step in (timedelta(days=1), timedelta(days=-1)):
            day = first + step
            while day.weekday() in weekend and day not in made_up and day not in closed:
                joined[day] = "Weekend beside a holiday"
                day += step
    return joined


@lru_cache(maxsize=256)
def _languages(country: str) -> tuple[str, ...]:
    return tuple(holidays.country_holidays(country).supported_languages)


def _texts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_texts(key): _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
