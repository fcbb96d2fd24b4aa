"""Programmes: terms of months with some days in each, made of a template."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from services.training.domain.courses import Course
from services.training.domain.errors import Invalid
from services.training.domain.sessions import FIRST_YEAR, LAST_YEAR

LONGEST_MONTHS = 60


@dataclass(frozen=True)
class Term:
    """So many `months` with `days` in each, beginning `gap_months` after the term before; `courses` in their order fill its half-days."""

    months: int
    days: int = 4
    gap_months: int = 0
    courses: tuple[str, ...] = ()


STANDARD = (Term(4, 4), Term(4, 4, 3), Term(3, 4))
"""Four months of four days each, a second term three months later, then a last one of three months."""


@dataclass(frozen=True)
class Lesson:
    """A half-day of a programme; `part`: of the course's half-days, from 1."""

    day: date
    half: str
    term: int
    course: str
    part: int


def months_after(day: date, months: int) -> date:
    """The same day so many months later, or that month's last."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def term_days(term: Term, start: date, weekday: int, is_open: Callable[[date], bool]) -> list[date]:
    """The days of a term that begins on `start`: in each month those of one weekday, one a week; where that day is closed, the next open one before
    the same day of the week after. Raises Invalid for a month that has not enough."""
    days: list[date] = []
    for number in range(term.months):
        first, after = months_after(start, number), months_after(start, number + 1)
        found: list[date] = []
        day = first + timedelta(days=(weekday - first.weekday()) % 7)
        while day < after and len(found) < term.days:
            found += next(([one] for one in (day + timedelta(days=n) for n in range(7)) if one < after and is_open(one)), [])
            day += timedelta(days=7)
        if len(found) < term.days:
            raise Invalid(f"The month from {first} has {len(found)} days that are open, and the programme needs {term.days}.")
        days += found
    return days


def schedule(
    terms: Sequence[Term],
    start: date,
    weekday: int,
    halves: Sequence[str],
    half_day_hours: float,
    known: Mapping[str, Course],
    is_open: Callable[[date], bool],
) -> list[Lesson]:
    """All half-days of a programme with their courses, each course for as many half-days as its hours need. Half-days that no course needs are left
    free. Raises Invalid where the courses of a term need more than it has."""
    if (months := sum(term.gap_months + term.months for term in terms)) > LONGEST_MONTHS:
        raise Invalid(f"The programme takes {months} months; {LONGEST_MONTHS} are the most.")
    if not FIRST_YEAR <= start.year <= LAST_YEAR:
        raise Invalid(f"The programme begins on {start}; it must be in a year from {FIRST_YEAR} to {LAST_YEAR}.")
    lessons: list[Lesson] = []
    for number, term in enumerate(terms, 1):
        start = months_after(start, term.gap_months)
        slots = [(day, half) for day in term_days(term, start, weekday, is_open) for half in halves]
        wanted = [(name, part) for name in term.courses for part in range(1, parts(known[name], half_day_hours) + 1)]
        if len(wanted) > len(slots):
            raise Invalid(
                f"The courses of term {number} need {len(wanted)} half-days; it has {len(slots)}: {len(wanted) - len(slots)} too many."
            )
        lessons += [Lesson(day, half, number, name, part) for (day, half), (name, part) in zip(slots, wanted, strict=False)]
        start = months_after(start, term.months)
    return lessons


def parts(course: Course, half_day_hours: float) -> int:
    """How many half-days a course takes."""
    return max(1, -int(-course.hours // half_day_hours))
