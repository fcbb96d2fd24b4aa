"""What all commands of training have at hand: what is written down as the domain has it, people in sight, announcements, and hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from services.training import documents, store
from services.training.domain import errors as domain
from services.training.domain import ladder, ledger
from services.training.domain.courses import Course
from services.training.domain.paths import Record
from services.training.domain.sessions import Policy, local_day
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.ids import new_id

Row = dict[str, Any]
Scope = Mapping[str, Any] | None
LANGUAGES = ("en", "zh")


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except domain.Refused as refused:
        kinds = {domain.NotFound: errors.NotFound, domain.Conflict: errors.Conflict, domain.Invalid: errors.Invalid}
        raise kinds.get(type(refused), errors.Conflict)(str(refused)) from refused


def known(connection: Connection, kind: str, name: str, version: int | None = None) -> Any:
    """As the domain has it. Raises NotFound."""
    row = store.newest(connection, kind, name, version)
    if row is None:
        raise errors.NotFound(f"there is no {name} among the {kind}: PUT /v1/training/{kind}/{name} first")
    return documents.compile(kind, name, row["version"], row["document"])


def policy(connection: Connection) -> Policy:
    row = store.newest(connection, "policy", "default")
    made: Policy = documents.compile("policy", "default", row["version"], row["document"]) if row else Policy()
    return made


def all_known(connection: Connection, kind: str) -> dict[str, Any]:
    return {
        row["name"]: documents.compile(kind, row["name"], row["version"], row["document"]) for row in store.all_newest(connection, kind)
    }


def courses(connection: Connection) -> dict[str, Course]:
    return all_known(connection, "courses")


def require_person(connection: Connection, id: str, scope: Scope = None, lock: bool = False) -> Row:
    """Raises NotFound, for somebody out of sight too."""
    row = store.get_person(connection, id, lock)
    if row is None or not in_sight(row, scope):
        raise errors.NotFound(f"nobody called {id} is known to training: PUT /v1/people/{id} first")
    return row


def require_active(row: Row) -> None:
    """Raises Conflict."""
    if not row["active"]:
        raise errors.Conflict(f"{row['id']} does not work here any more")


def in_sight(row: Mapping[str, Any], scope: Scope) -> bool:
    if not scope:
        return True
    places = (row["site"], scope.get("sites")), (row["team"], scope.get("teams"))
    return scope.get("agent") in (None, row["id"]) and all(not names or of in ("", *names) for of, names in places)


def announce(work: Work, what: str, person: str, **data: Any) -> None:
    sequence = store.numbered(work.connection, person)
    work.announce(
        Event(f"training.{what}.v1", person, {"person": person, "agent": person, "people": [person], **data}, clock.now(), sequence)
    )


def tell(work: Work, what: str, person: str, **data: Any) -> None:
    """As `announce`, with the moment in it."""
    announce(work, what, person, at=clock.now(), **data)


def words(lacking: Sequence[ladder.Missing]) -> dict[str, str]:
    return {language: ladder.words(list(lacking), language) for language in LANGUAGES}


def texts(row: Mapping[str, Any], *names: str) -> Row:
    return {name: None if row[name] is None else clock.to_text(row[name]) for name in names}


def record_hours(
    work: Work,
    person: str,
    year: int,
    day: str,
    source: str,
    amount: float,
    by: str,
    session: str | None = None,
    course: str = "",
    version: int = 0,
) -> None:
    row = {
        "id": new_id(), "person": person, "year": year, "day": day, "source": source, "hours": amount, "session": session, "course": course,
        "course_version": version, "noted_by": by,
    }  # fmt: skip
    store.add(work.connection, store.hours, row)
    tell(work, "hours_recorded", person, year=year, day=day, source=source, hours=amount)


def settle_course(work: Work, person: str, course: Course, site: str) -> bool:
    """A course is completed when its hours are there, and with it the lessons that it was given for. Returns whether it is complete."""
    now = clock.now()
    whole = store.attended(work.connection, person, course.name, course.version) + 1e-9 >= course.hours
    if whole:
        store.complete(work.connection, person, course.name, course.version, now)
    else:
        store.uncomplete(work.connection, person, course.name, course.version)  # attendance was corrected
    zone = policy(work.connection).zone_of(site)
    for row in store.lessons_of(work.connection, [person]):
        if row["course"] == course.name and row["done_at"] is None:
            since = local_day(row["assigned_at"], zone).isoformat()
            query = select(store.hours.c.hours).where(
                store.hours.c.person == person, store.hours.c.course == course.name, store.hours.c.day >= since
            )
            if sum(one.hours for one in work.connection.execute(query)) + 1e-9 >= course.hours:
                store.put_lesson(work.connection, {**row, "done_at": now, "verdict": "done"})
    return whole


def account_of(connection: Connection, person: Mapping[str, Any], year: int) -> Row:
    return accounts(connection, [person], year)[person["id"]]


def accounts(connection: Connection, people: Sequence[Mapping[str, Any]], year: int) -> dict[str, Row]:
    """By person: the year's account, as the API shows it."""
    limits, now = policy(connection), clock.now()
    ids = [row["id"] for row in people]
    by_source = store.hours_by_source(connection, ids, year)
    planned = store.planned_hours(connection, ids, now, ledger.year_bounds(year, limits.zone)[1])
    told = {}
    for row in people:
        id = row["id"]
        made = ledger.account(by_source.get(id, ()), planned.get(id, 0.0), row["since"], year, limits.zone_of(row["site"]), now, limits)
        told[id] = {
            "person": id,
            "name": row["name"],
            "site": row["site"],
            "team": row["team"],
            "year": year,
            **asdict(made),
            "will_miss": made.will_miss,
        }
    return told


def records(connection: Connection, people: Sequence[Mapping[str, Any]]) -> dict[str, Record]:
    """What each of these brings for a path."""
    ids, now = [row["id"] for row in people], clock.now()
    certified: dict[str, list[str]] = {}
    for one in store.certificates_of(connection, ids):
        certified.setdefault(one["person"], []).append(one["target"])
    scores: dict[str, list[float]] = {}
    for one in store.evaluations_of(connection, ids):
        if one["score"] is not None:
            scores.setdefault(one["person"], []).append(one["score"])
    completed = store.completions(connection, ids)
    year = local_day(now, policy(connection).zone).year
    hours = accounts(connection, people, year)
    return {
        row["id"]: Record(
            row["roles"],
            row["team"],
            certified.get(row["id"], ()),
            completed.get(row["id"], {}),
            scores.get(row["id"], []),
            hours[row["id"]]["counted"],
        )
        for row in people
    }
