"""Calling a customer back: when to dial, when again, when to stop.

    plan = first(number, zones, wanted_at, rules)          # waits for its moment inside the customer's hours
    plan = after(plan, "busy", now, rules)                 # dialled in vain: due again, or given up
    plan = closed(plan, "merged", now)                     # the customer rang meanwhile

Moments are epoch seconds UTC. A plan is never changed: each step gives a new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

from .errors import Conflict, Invalid

Unreached = Literal["busy", "no_answer", "machine"]
Reached = Literal["connected", "wrong_number", "refused"]
Undialled = Literal["given_up", "merged", "cancelled"]
Outcome = Literal[Unreached, Reached, Undialled]

UNREACHED: tuple[str, ...] = get_args(Unreached)
"""Dialled in vain: dialled again, as often as the rules allow."""
REACHED: tuple[str, ...] = get_args(Reached)
"""Dialled, and nothing more to dial for."""
UNDIALLED: tuple[str, ...] = get_args(Undialled)
"""Over without another attempt."""

QUARTER = 900
HORIZON_SECONDS = 3 * 86400
LONGEST_PAUSE_SECONDS = 7 * 86400.0
MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class Rules:
    """How a queue calls back. Hours are local where the customer is, from 0 to 24 in quarters: 9.5 is half past nine."""

    attempts: int = 3
    retry_seconds: Mapping[str, float] = field(default_factory=lambda: {"busy": 300.0, "no_answer": 1800.0, "machine": 7200.0})
    from_hour: float = 9
    to_hour: float = 20

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise Invalid(f"attempts must be a whole number from 1 to {MOST_ATTEMPTS}, not {self.attempts!r}.")
        if set(self.retry_seconds) != set(UNREACHED):
            raise Invalid(f"retry_seconds must name {', '.join(UNREACHED)}, and nothing else.")
        for outcome, seconds in self.retry_seconds.items():
            if not _is_number(seconds) or not 1 <= seconds <= LONGEST_PAUSE_SECONDS:
                raise Invalid(f"retry_seconds.{outcome} must be a number of seconds from 1 to 604800, not {seconds!r}.")
        for name in ("from_hour", "to_hour"):
            hour = getattr(self, name)
            if not _is_number(hour) or not 0 <= hour <= 24 or hour * 4 % 1:
                raise Invalid(f"{name} must be an hour from 0 to 24, in quarters, not {hour!r}.")
        if self.from_hour >= self.to_hour:
            raise Invalid(f"from_hour must be before to_hour: {self.from_hour} is not before {self.to_hour}.")


@dataclass(frozen=True)
class Plan:
    """The callback of one contact. `number` in E.164; `zones`: wherever the customer may be, all of them count."""

    number: str
    zones: tuple[str, ...]
    attempts: int = 0  # done
    next_at: float | None = None  # None: over
    outcome: Outcome | None = None  # of the last attempt; once over, how it ended
    outcome_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self.next_at is not None

    def to_row(self) -> dict[str, Any]:
        return {**asdict(self), "zones": list(self.zones)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(**{**row, "zones": tuple(row["zones"])})


def first(number: str, zones: Iterable[str], wanted_at: float, rules: Rules) -> Plan:
    """A plan whose first attempt is at wanted_at, or as soon after it as the customer's hours allow.

    Invalid where no zone is given, one does not exist, or there is no moment at which all of them are within the hours.
    """
    plan = Plan(number, tuple(dict.fromkeys(zones)))
    if not plan.zones:
        raise Invalid("The customer's time zone is not known: name it.")
    moment = first_due(plan, wanted_at, rules)
    if moment is None:
        hours = f"between {rules.from_hour} and {rules.to_hour} o'clock"
        raise Invalid(f"It is never {hours} in all {len(plan.zones)} time zones where this customer may be: name the customer's own.")
    return replace(plan, next_at=moment)


def first_due(plan: Plan, not_before: float, rules: Rules) -> float | None:
    """The earliest moment from then on at which the customer may be called; None where there is none.

    To be asked before dialling too, since an agent may have become free too late in the evening.
    """
    return next_within(not_before, plan.zones, rules.from_hour, rules.to_hour)


def next_due(plan: Plan, outcome: str, now: float, rules: Rules) -> float | None:
    """When to dial again after an attempt that ended so at `now`; None where that was the last."""
    if outcome not in UNREACHED or plan.attempts + 1 >= rules.attempts:
        return None
    return first_due(plan, now + rules.retry_seconds[outcome], rules)


def after(plan: Plan, outcome: str, now: float, rules: Rules) -> Plan:
    """After an attempt: due again later, over, or given up. Invalid where an attempt cannot end so."""
    _require_open(plan)
    if outcome not in (*UNREACHED, *REACHED):
        raise Invalid(f"An attempt ends as {_either(*UNREACHED, *REACHED)}, not {outcome!r}.")
    moment = next_due(plan, outcome, now, rules)
    ended: Any = "given_up" if moment is None and outcome in UNREACHED else outcome
    return replace(plan, attempts=plan.attempts + 1, next_at=moment, outcome=ended, outcome_at=now)


def closed(plan: Plan, outcome: str, now: float) -> Plan:
    """Given up, cancelled or merged, without another attempt."""
    _require_open(plan)
    if outcome not in UNDIALLED:
        raise Invalid(f"A callback is closed as {_either(*UNDIALLED)}, not {outcome!r}.")
    ended: Any = outcome
    return replace(plan, next_at=None, outcome=ended, outcome_at=now)


def merges(plan: Plan, number: str | None) -> bool:
    """Whether a call from this number (E.164; None: withheld) is the customer for whom this plan waits.

    If so the plan is closed as merged and the call takes the place in line that the callback kept: nobody is called about what they
    have just asked. That holds while they are being dialled too; the attempt is withdrawn.
    """
    return plan.is_open and number is not None and plan.number == number


def within(moment: float, zones: Iterable[str], from_hour: float, to_hour: float) -> bool:
    """Whether the clocks of all zones stand between from_hour (included) and to_hour (excluded)."""
    return all(from_hour * 3600 <= _time_of_day(moment, zone) < to_hour * 3600 for zone in zones)


def next_within(moment: float, zones: Iterable[str], from_hour: float, to_hour: float) -> float | None:
    """The earliest such moment from then on; None where there is none in three days.

    Offsets from UTC, and the moments at which they change, are multiples of a quarter of an hour: so is every opening.
    """
    zones = tuple(zones)
    if within(moment, zones, from_hour, to_hour):
        return moment
    quarter = math.floor(moment / QUARTER) + 1
    for candidate in range(quarter, quarter + HORIZON_SECONDS // QUARTER):
        if within(candidate * QUARTER, zones, from_hour, to_hour):
            return float(candidate * QUARTER)
    return None


def _time_of_day(moment: float, zone: str) -> float:
    clock = datetime.fromtimestamp(math.floor(moment), _zone(zone))
    return clock.hour * 3600 + clock.minute * 60 + clock.second + moment % 1


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise Invalid(f"There is no time zone {name!r}.") from error


def _require_open(plan: Plan) -> None:
    if not plan.is_open:
        raise Conflict(f"This callback is over: {plan.outcome}.")


def _either(*words: str) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
