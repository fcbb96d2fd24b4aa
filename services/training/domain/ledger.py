"""The ledger of hours: what each person has learnt in a year, and who will miss the hours that everybody is to have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from services.training.domain.sessions import Policy

SOURCES = ("session", "self_study", "import")


@dataclass(frozen=True)
class Account:
    """One person's year, in hours: attended, studied alone (all of it, though only so much counts), what counts, and what is planned in sessions still to
    come. `at_this_rate`: what the year will bring if it goes on as it has; None before the first two weeks are over."""

    attended: float
    self_study: float
    counted: float
    planned: float
    at_this_rate: float | None
    needed: float

    @property
    def will_miss(self) -> bool:
        """Neither what is planned nor the present rate reaches the hours."""
        ahead = max(self.counted + self.planned, self.at_this_rate or 0.0)
        return ahead + 1e-9 < self.needed


def year_bounds(year: int, zone: str) -> tuple[float, float]:
    """The year's first moment there, and the next year's."""
    first, after = (datetime(one, 1, 1, tzinfo=ZoneInfo(zone)).timestamp() for one in (year, year + 1))
    return first, after


def counted(attended: float, self_study: float, policy: Policy) -> float:
    return attended + min(self_study, policy.self_study_hours)


def account(hours: Iterable[tuple[str, float]], planned: float, since: float, year: int, zone: str, now: float, policy: Policy) -> Account:
    """`hours`: (source, hours) of the year; `since`: when the person came. Who came in the middle of the year needs their share of the hours."""
    of = dict.fromkeys(SOURCES, 0.0)
    for source, amount in hours:
        of[source] += amount
    attended = of["session"] + of["import"]
    total = counted(attended, of["self_study"], policy)
    first, after = year_bounds(year, zone)
    begins = min(max(first, since), after)
    needed = policy.hours_a_year * (after - begins) / (after - first)
    elapsed, left = min(now, after) - begins, max(after - max(now, begins), 0.0)
    rate = total * (1 + left / elapsed) if elapsed >= 14 * 86400.0 else None
    return Account(attended, of["self_study"], total, planned, rate, needed)


def check_day(day: str, zone: str, now: float) -> date:
    """Raises ValueError for what is no date, or one to come."""
    read = date.fromisoformat(day)
    if read > datetime.fromtimestamp(now, ZoneInfo(zone)).date():
        raise ValueError(f"{day} is still to come")
    return read
