"""Sessions: half-days in a room with a trainer, who has a seat and who waits, what a resource can take and when. Times of day are a site's own;
moments are epoch seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from services.training.domain.courses import Course
from services.training.domain.errors import Conflict, Invalid, NotFound

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PLACES = ("on_site", "off_site", "lab")
KINDS = ("room", "trainer", "equipment")
FIRST_YEAR, LAST_YEAR = 1971, 2199


@dataclass(frozen=True)
class Policy:
    """The limits. `halves`: the half-days of a day and when they begin; `sites`: their time zones, where they are not `zone`. `away_share`: so much of
    a team at most is away at one time; `self_study_hours`: so many a year count. Days before the end of a certificate when people are reminded:
    `reminders`. A lesson is judged from so many evaluations on (`lesson_evaluations`), of at most `lesson_days` before it and after it."""

    zone: str = "UTC"
    sites: Mapping[str, str] = field(default_factory=dict)
    halves: Mapping[str, str] = field(default_factory=lambda: {"am": "08:30", "pm": "13:00"})
    half_day_hours: float = 4.0
    hours_a_year: float = 24.0
    self_study_hours: float = 6.0
    capacity: int = 30
    away_share: float = 0.2
    reminders: tuple[int, ...] = (90, 60, 30, 7)
    permit_days: int = 60
    permit_contacts: int = 20
    lesson_evaluations: int = 5
    lesson_days: int = 90
    least_people: int = 4

    def zone_of(self, site: str) -> str:
        return self.sites.get(site, self.zone)


@dataclass(frozen=True)
class Resource:
    """A room, a trainer (whose id is the person's) or a piece of lab equipment, for at most `capacity` learners at once. `weekly`: the half-days it is
    there, by day of the week; `closed`: from the one date to the other it is not. `model`: the customers' equipment it is one of; `courses`: what
    a trainer teaches; empty: all. `external`: a trainer from outside."""

    id: str
    kind: str
    name: str = ""
    site: str = ""
    capacity: int = 30
    weekly: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    closed: tuple[tuple[date, date], ...] = ()
    model: str = ""
    courses: tuple[str, ...] = ()
    external: bool = False

    def is_open(self, day: date, half: str) -> bool:
        there = self.weekly.get(WEEKDAYS[day.weekday()], ()) if self.weekly else (half,) if day.weekday() < 5 else ()
        return half in there and not any(first <= day <= last for first, last in self.closed)

    def teaches(self, course: str) -> bool:
        return not self.courses or course in self.courses


@dataclass
class Seat:
    """`state`: enrolled, waiting (in the order of `number`), withdrawn, attended or absent."""

    person: str
    state: str
    number: int
    hours: float = 0.0


@dataclass
class Session:
    id: str
    course: str
    course_version: int
    day: str
    half: str
    zone: str
    starts_at: float
    ends_at: float
    site: str
    place: str
    room: str
    trainers: list[str]
    equipment: list[str]
    capacity: int
    state: str = "planned"
    programme: str = ""
    reason: str = ""
    seats: dict[str, Seat] = field(default_factory=dict)

    @property
    def resources(self) -> list[str]:
        return sorted({self.room, *self.trainers, *self.equipment} - {""})

    @property
    def enrolled(self) -> list[str]:
        return [seat.person for seat in self.seats.values() if seat.state in ("enrolled", "attended")]

    @property
    def waiting(self) -> list[str]:
        return [seat.person for seat in sorted(self.seats.values(), key=lambda seat: seat.number) if seat.state == "waiting"]

    @property
    def hours(self) -> float:
        return (self.ends_at - self.starts_at) / 3600.0

    def require_planned(self, what: str) -> None:
        if self.state != "planned":
            raise Conflict(f"The session is {self.state}: {what} is not possible any more.")

    def enrol(self, person: str, wait: bool, now: float) -> str:
        """A seat, or with `wait` a place on the waiting list where all are taken; returns the state. Raises Conflict."""
        self.require_planned("to enrol")
        if now >= self.starts_at:
            raise Conflict("The session has begun.")
        known = self.seats.get(person)
        if known and known.state in ("enrolled", "waiting"):
            return known.state
        full = len(self.enrolled) >= self.capacity
        if full and not wait:
            taken = f"all {self.capacity} seats are taken, and {len(self.waiting)} wait"
            raise Conflict(f"{person} would be one too many: {taken}. Send `wait` to be put on the waiting list.")
        number = max((seat.number for seat in self.seats.values()), default=0) + 1
        self.seats[person] = Seat(person, "waiting" if full else "enrolled", number)
        return self.seats[person].state

    def withdraw(self, person: str) -> None:
        self.require_planned("to withdraw")
        seat = self.seats.get(person)
        if seat is None or seat.state not in ("enrolled", "waiting"):
            raise NotFound(f"{person} has no seat in this session.")
        seat.state = "withdrawn"

    def promote(self, is_free: Callable[[str], bool]) -> list[str]:
        """Free seats go to those who wait, in their order; who is not free then is passed over, and goes on waiting."""
        moved = []
        for person in self.waiting:
            if len(self.enrolled) >= self.capacity:
                break
            if is_free(person):
                self.seats[person].state = "enrolled"
                moved.append(person)
        return moved

    def attend(self, person: str, hours: float | None, now: float) -> float:
        """Somebody was there, for so many hours (None: all of it); 0: they were not. Returns by how much their hours changed."""
        if self.state == "cancelled":
            raise Conflict("The session was cancelled: nobody attended it.")
        if now < self.starts_at:
            raise Conflict("The session has not begun: nobody has attended it yet.")
        length = self.hours
        if hours is not None and not 0 <= hours <= length + 1e-9:
            raise Invalid(f"The session lasts {length:g} hours: {person} cannot have attended {hours:g}.")
        seat = self.seats.get(person)
        if seat is None or seat.state in ("withdrawn", "waiting"):
            number = max((one.number for one in self.seats.values()), default=0) + 1
            if len(self.enrolled) >= self.capacity:
                raise Conflict(f"{person} would be one too many: the session has {self.capacity} seats.")
            seat = self.seats[person] = Seat(person, "enrolled", number)
        before, seat.hours = seat.hours, length if hours is None else hours
        seat.state = "attended" if seat.hours > 0 else "absent"
        self.state = "held"
        return seat.hours - before

    def cancel(self, reason: str) -> list[str]:
        """Returns who had a seat or waited for one."""
        self.require_planned("to cancel it")
        self.state, self.reason = "cancelled", reason
        return [seat.person for seat in self.seats.values() if seat.state in ("enrolled", "waiting")]


def moments(policy: Policy, zone: str, day: date, half: str) -> tuple[float, float]:
    """When a half-day begins and ends. Raises Invalid for a half-day that the policy has not, and for a time of day that the change to
    summer time leaves out."""
    if half not in policy.halves:
        raise Invalid(f"A day has no half-day {half}; there are {', '.join(policy.halves)}.")
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Invalid(f"{day} is no day for a session: it lies in a year from {FIRST_YEAR} to {LAST_YEAR}.")
    local = datetime.combine(day, time.fromisoformat(policy.halves[half]), ZoneInfo(zone))
    begins = local.astimezone(UTC)
    if begins.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise Invalid(f"On {day} the clock of {zone} leaves out {policy.halves[half]}: it is set forward then.")
    return begins.timestamp(), (begins + timedelta(hours=policy.half_day_hours)).timestamp()


def local_day(at: float, zone: str) -> date:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).date()


def capacity_of(resources: Iterable[Resource], policy: Policy) -> int:
    """How many learners the session takes: what its room and each kind of its equipment take, and all its trainers together."""
    taken: dict[str, int] = {}
    for one in resources:
        key = one.model or one.id if one.kind == "equipment" else one.kind
        taken[key] = taken.get(key, 0) + one.capacity
    return min(taken.values(), default=policy.capacity)


def check(session: Session, course: Course, resources: Mapping[str, Resource]) -> None:
    """Whether the resources are what they are named as, are there at that time, belong to the site, teach the course, and suffice. Raises Invalid or
    Conflict."""
    day = date.fromisoformat(session.day)
    for kind, names in (("room", [session.room] if session.room else []), ("trainer", session.trainers), ("equipment", session.equipment)):
        for name in names:
            one = resources.get(name)
            if one is None or one.kind != kind:
                raise Invalid(f"There is no {kind} {name}: write it down among the resources first.")
            if one.site and session.site and one.site != session.site:
                raise Invalid(f"The {kind} {name} is at {one.site}, the session at {session.site}.")
            if not one.is_open(day, session.half):
                raise Conflict(f"The {kind} {name} is not there on {session.day} ({session.half}).")
            if kind == "trainer" and not one.teaches(course.name):
                raise Invalid(f"{name} does not teach {course.name}.")
    if session.place == "lab" and not session.equipment:
        raise Invalid("A session in the learning lab needs equipment: name some.")
    models = {resources[name].model or name for name in session.equipment}
    if lacking := [model for model in course.equipment if model not in models]:
        raise Invalid(f"{course.name} is taught on equipment that the session has not: {', '.join(lacking)}.")
    if session.place != "off_site" and not session.room:
        raise Invalid("A session on site or in the lab needs a room.")


def require_free(session: Session, taken: Sequence[tuple[str, str]]) -> None:
    """`taken`: (resource, session) of others that overlap. Raises Conflict that names all."""
    if taken:
        told = "; ".join(f"{resource} by session {other}" for resource, other in taken)
        raise Conflict(f"On {session.day} ({session.half}) these are taken already: {told}.")
