"""The tables of training, and the statements that read and write them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, Integer, MetaData, Table, Text, and_, delete, func, insert, or_, select, update

from services.training.domain.certificate import Seen
from services.training.domain.sessions import Seat, Session
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial
from shared.ids import is_id

metadata = MetaData()

definition = Table(
    "definition",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)
"""The highest version is in force."""

person = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("roles", Document, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("since", Moment, nullable=False),
    Column("heard", Serial, nullable=False),
    Column("sequence", Integer, nullable=False),
)
"""`roles`: role -> since when; `heard`: the directory's last word (0: none); `sequence`: counts what is announced of them. Its row is locked by whoever
changes anything of the person's."""

learning = Table(
    "learning",
    metadata,
    Column("id", Id, primary_key=True),
    Column("person", Text, nullable=False, index=True),
    Column("target", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("outcome", Text),
    Column("opened_by", Text, nullable=False),
    Column("approver", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("skipped", Document, nullable=False),
)
"""`outcome`: certified or given_up. `skipped`: what was missing when an approver let the step be skipped."""

permit = Table(
    "permit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("person", Text, nullable=False, index=True),
    Column("channel", Text, nullable=False),
    Column("supervisor", Text, nullable=False),
    Column("contacts_a_day", Integer, nullable=False),
    Column("queues", Document, nullable=False),
    Column("given_at", Moment, nullable=False),
    Column("given_by", Text, nullable=False),
    Column("until", Moment, nullable=False),
    Column("ended_at", Moment),
)

certificate = Table(
    "certificate",
    metadata,
    Column("id", Id, primary_key=True),
    Column("person", Text, nullable=False, index=True),
    Column("target", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("certified_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("ended_at", Moment),
    Column("end_reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("certified_by", Text, nullable=False),
    Column("renews", Id),
    Column("evidence", Document, nullable=False),
    Column("reminded", Integer),
    Column("due_at", Moment),
)
"""One row for each time it was given: a renewal is a row of its own that names the one it `renews`. `source`: earned, renewed or imported; `due_at`: when
something is to be done about it next; `ended_at`: it holds no longer, or another took its place (`end_reason`: expired, renewed, revoked: …)."""
_due = certificate.c.due_at.is_not(None)
Index("certificate_due", certificate.c.due_at, postgresql_where=_due, sqlite_where=_due)
_holds = certificate.c.ended_at.is_(None)
Index("certificate_holds", certificate.c.person, certificate.c.target, unique=True, postgresql_where=_holds, sqlite_where=_holds)

practice_day = Table(
    "practice_day",
    metadata,
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("contacts", Integer, nullable=False),
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person", Text, nullable=False),
    Column("contact", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("contact_at", Moment, nullable=False),
    Column("score", Moment),
    Column("counts", Boolean, nullable=False),
    Column("practice", Boolean, nullable=False),
    Column("evaluator", Text),
    Column("marks", Document, nullable=False),
    Column("sequence", Serial, nullable=False),
)
"""Evaluations by people on internal scorecards. `marks`: scorecard/criterion -> value from 0 to 1."""
Index("evaluation_person", evaluation.c.person, evaluation.c.contact_at)

session = Table(
    "session",
    metadata,
    Column("id", Id, primary_key=True),
    Column("course", Text, nullable=False),
    Column("course_version", Integer, nullable=False),
    Column("day", Text, nullable=False),
    Column("half", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("starts_at", Moment, nullable=False, index=True),
    Column("ends_at", Moment, nullable=False),
    Column("site", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("room", Text, nullable=False),
    Column("trainers", Document, nullable=False),
    Column("equipment", Document, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("programme", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
booking = Table(
    "booking",
    metadata,
    Column("session", Id, primary_key=True),
    Column("resource", Text, primary_key=True),
    Column("starts_at", Moment, nullable=False),
    Column("ends_at", Moment, nullable=False),
)
Index("booking_resource", booking.c.resource, booking.c.starts_at)

seat = Table(
    "seat",
    metadata,
    Column("session", Id, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("hours", Moment, nullable=False),
    Column("course", Text, nullable=False),
    Column("starts_at", Moment, nullable=False),
    Column("ends_at", Moment, nullable=False),
)
Index("seat_person", seat.c.person, seat.c.starts_at)

resource_lock = Table("resource_lock", metadata, Column("id", Text, primary_key=True))
"""A row for each resource, to be locked by whoever books it."""

completion = Table(
    "completion",
    metadata,
    Column("person", Text, primary_key=True),
    Column("course", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
)

hours = Table(
    "hours",
    metadata,
    Column("id", Id, primary_key=True),
    Column("person", Text, nullable=False),
    Column("year", Integer, nullable=False),
    Column("day", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("hours", Moment, nullable=False),
    Column("session", Id),
    Column("course", Text, nullable=False),
    Column("course_version", Integer, nullable=False),
    Column("noted_by", Text, nullable=False),
)
"""The ledger. A correction is a row of its own, with the difference."""
Index("hours_person", hours.c.person, hours.c.year)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("person", Text, nullable=False),
    Column("exam", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("drawn", Document, nullable=False),
    Column("marked", Document),
    Column("score", Moment),
    Column("passed", Boolean),
)
"""`drawn`: the questions with the order of their choices; `marked`: question -> right or not."""
Index("attempt_person", attempt.c.person, attempt.c.exam)
Index("attempt_exam", attempt.c.exam)

lesson = Table(
    "lesson",
    metadata,
    Column("finding", Text, primary_key=True),
    Column("person", Text, nullable=False, index=True),
    Column("scorecard", Text, nullable=False),
    Column("criterion", Text, nullable=False),
    Column("course", Text),
    Column("evaluation", Text),
    Column("at_least", Moment, nullable=False),
    Column("assigned_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("done_at", Moment),
    Column("verdict", Text, nullable=False),
    Column("comparison", Document),
    Column("sequence", Serial, nullable=False),
)
"""What a finding of quality gave somebody to learn; `course` None: no module teaches the criterion. `verdict`: assigned, done, closed, open or unclear."""

programme = Table(
    "programme",
    metadata,
    Column("id", Text, primary_key=True),
    Column("told", Document, nullable=False),
    Column("template_version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

plan = Table(
    "plan",
    metadata,
    Column("id", Id, primary_key=True),
    Column("state", Text, nullable=False),
    Column("told", Document, nullable=False),
    Column("progress", Document, nullable=False),
    Column("result", Document),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("touched_at", Moment, nullable=False),
)
"""`state`: waiting, planning, ready, failed, accepted, applying, applied. One of which nothing was heard for a while is taken up again."""

Row = dict[str, Any]


def plain(row: Mapping[Any, Any]) -> Row:
    """A row whose keys are plain text, as they must be to be written again."""
    return {str(name): value for name, value in row.items()}


def _rows(connection: Connection, query: Any) -> list[Row]:
    return [plain(row) for row in connection.execute(query).mappings()]


def _one(connection: Connection, query: Any) -> Row | None:
    row = connection.execute(query).mappings().first()
    return plain(row) if row else None


# ---- definitions


def newest(connection: Connection, kind: str, name: str, version: int | None = None) -> Row | None:
    query = select(definition).where(definition.c.kind == kind, definition.c.name == name).order_by(definition.c.version.desc()).limit(1)
    return _one(connection, query if version is None else query.where(definition.c.version == version))


def all_newest(
    connection: Connection, kind: str, names: Collection[str] | None = None, after: str = "", limit: int | None = None
) -> list[Row]:
    """The version in force of each, by name."""
    top = (
        select(definition.c.name, func.max(definition.c.version).label("version"))
        .where(definition.c.kind == kind)
        .group_by(definition.c.name)
    )
    if names is not None:
        top = top.where(definition.c.name.in_(set(names)))
    if after:
        top = top.where(definition.c.name > after)
    found = top.order_by(definition.c.name).limit(limit).subquery()
    query = select(definition).join(found, and_(definition.c.name == found.c.name, definition.c.version == found.c.version))
    return _rows(connection, query.where(definition.c.kind == kind).order_by(definition.c.name))


def put_definition(connection: Connection, kind: str, name: str, document: Mapping[str, Any], who: str, now: float) -> Row:
    """A new version; the same document again changes nothing."""
    known = newest(connection, kind, name)
    if known and known["document"] == document:
        return known
    row = {
        "kind": kind,
        "name": name,
        "version": known["version"] + 1 if known else 1,
        "document": dict(document),
        "created_at": now,
        "created_by": who,
    }
    connection.execute(insert(definition).values(**row))
    return row


# ---- people


def get_person(connection: Connection, id: str, lock: bool = False) -> Row | None:
    query = select(person).where(person.c.id == id)
    return _one(connection, query.with_for_update() if lock else query)


def lock_people(connection: Connection, ids: Iterable[str]) -> dict[str, Row]:
    """In the order of their ids, so that two who want the same do not wait for each other."""
    query = select(person).where(person.c.id.in_(set(ids))).order_by(person.c.id).with_for_update()
    return {row["id"]: row for row in _rows(connection, query)}


def put_people(connection: Connection, rows: Sequence[Row]) -> None:
    bulk.insert(connection, person, rows, key=("id",), update=[name for name in bulk.columns_of(person) if name != "id"])


def people(
    connection: Connection, scope: Mapping[str, Any] | None = None, ids: Collection[str] | None = None, active: bool = True
) -> list[Row]:
    """Those in sight, by id."""
    query = select(person).order_by(person.c.id)
    if active:
        query = query.where(person.c.active)
    if ids is not None:
        query = query.where(person.c.id.in_(set(ids)))
    for name, of in (("site", "sites"), ("team", "teams")):
        if scope and scope.get(of):
            query = query.where(person.c[name].in_(["", *scope[of]]))
    if scope and scope.get("agent"):
        query = query.where(person.c.id == scope["agent"])
    return _rows(connection, query)


def numbered(connection: Connection, id: str) -> int:
    """The next number of what is announced of somebody, who is locked."""
    connection.execute(update(person).where(person.c.id == id).values(sequence=person.c.sequence + 1))
    found: int = connection.execute(select(person.c.sequence).where(person.c.id == id)).scalar_one()
    return found


# ---- learning, permits, certificates


def learning_of(connection: Connection, who: str | Collection[str], open_only: bool = True) -> list[Row]:
    names = [who] if isinstance(who, str) else set(who)
    query = select(learning).where(learning.c.person.in_(names)).order_by(learning.c.id)
    return _rows(connection, query.where(learning.c.closed_at.is_(None)) if open_only else query)


def certificates_of(connection: Connection, who: str | Collection[str], holding: bool = True) -> list[Row]:
    names = [who] if isinstance(who, str) else set(who)
    query = select(certificate).where(certificate.c.person.in_(names)).order_by(certificate.c.id)
    return _rows(connection, query.where(certificate.c.ended_at.is_(None)) if holding else query)


def permits_of(connection: Connection, who: str, now: float) -> list[Row]:
    query = select(permit).where(permit.c.person == who, permit.c.ended_at.is_(None), permit.c.until > now)
    return _rows(connection, query.order_by(permit.c.id))


def change(connection: Connection, table: Table, id: str, **values: Any) -> None:
    connection.execute(update(table).where(table.c.id == id).values(**values))


def add(connection: Connection, table: Table, *rows: Row) -> None:
    bulk.insert(connection, table, rows)


def due_certificates(connection: Connection, now: float, most: int) -> list[Row]:
    """Those of which something is due, not locked: their people are first."""
    return _rows(connection, select(certificate).where(certificate.c.due_at <= now).order_by(certificate.c.due_at).limit(most))


def next_due(connection: Connection) -> float | None:
    found: float | None = connection.scalar(select(func.min(certificate.c.due_at)))
    return found


def certificates_page(
    connection: Connection, who: str, target: str, state: str, after: str, limit: int, scope: Mapping[str, Any] | None
) -> list[Row]:
    """The newest first."""
    query = select(certificate).join(person, person.c.id == certificate.c.person).order_by(certificate.c.id.desc()).limit(limit)
    for column, value in ((certificate.c.person, who), (certificate.c.target, target)):
        if value:
            query = query.where(column == value)
    if state:
        query = query.where(certificate.c.ended_at.is_(None) if state == "holds" else certificate.c.ended_at.is_not(None))
    if after and is_id(after):
        query = query.where(certificate.c.id < after)
    for name, of in (("site", "sites"), ("team", "teams")):
        if scope and scope.get(of):
            query = query.where(person.c[name].in_(["", *scope[of]]))
    if scope and scope.get("agent"):
        query = query.where(certificate.c.person == scope["agent"])
    return _rows(connection, query)


def find(connection: Connection, table: Table, id: str, lock: bool = False) -> Row | None:
    if not is_id(id):
        return None
    query = select(table).where(table.c.id == id)
    return _one(connection, query.with_for_update() if lock else query)


# ---- practice and evaluations


def count_contacts(connection: Connection, counted: Mapping[tuple[str, str, str], int]) -> None:
    """(person, channel, day) -> contacts more."""
    for (who, channel, on), more in sorted(counted.items()):
        known = and_(practice_day.c.person == who, practice_day.c.channel == channel, practice_day.c.day == on)
        row = {"person": who, "channel": channel, "day": on, "contacts": 0}
        bulk.insert(connection, practice_day, [row], key=("person", "channel", "day"))
        connection.execute(update(practice_day).where(known).values(contacts=practice_day.c.contacts + more))


def practice_days(connection: Connection, who: Collection[str]) -> dict[str, dict[str, int]]:
    """person -> channel -> on how many days they served it."""
    query = select(practice_day.c.person, practice_day.c.channel, func.count()).where(practice_day.c.person.in_(set(who)))
    found: dict[str, dict[str, int]] = {}
    for one, channel, count in connection.execute(query.group_by(practice_day.c.person, practice_day.c.channel)):
        found.setdefault(one, {})[channel] = count
    return found


def put_evaluation(connection: Connection, row: Row) -> None:
    changing = [name for name in row if name != "id"]
    bulk.insert(connection, evaluation, [row], key=("id",), update=changing, newer="sequence")


def evaluations_of(connection: Connection, who: Collection[str], since: float = 0.0) -> list[Row]:
    """Those that count, the newest contact first."""
    query = select(evaluation).where(evaluation.c.person.in_(set(who)), evaluation.c.counts, evaluation.c.contact_at >= since)
    return _rows(connection, query.order_by(evaluation.c.contact_at.desc(), evaluation.c.id))


def seen(rows: Iterable[Mapping[str, Any]]) -> list[Seen]:
    return [
        Seen(row["contact"], row["channel"], row["queue"], row["contact_at"], row["score"], bool(row["practice"]))
        for row in rows
        if row["score"] is not None
    ]


# ---- sessions

SESSION_COLUMNS = bulk.columns_of(session)


def lock_session(connection: Connection, id: str) -> Session | None:
    row = find(connection, session, id, lock=True)
    return _with_seats(connection, [row])[0] if row else None


def sessions_of(connection: Connection, query: Any) -> list[Session]:
    return _with_seats(connection, _rows(connection, query))


def _with_seats(connection: Connection, rows: Sequence[Row]) -> list[Session]:
    made = [Session(**{name: row[name] for name in SESSION_COLUMNS}) for row in rows]
    by_id = {one.id: one for one in made}
    query = select(seat).where(seat.c.session.in_(by_id)).order_by(seat.c.number)
    for row in connection.execute(query).mappings():
        by_id[row["session"]].seats[row["person"]] = Seat(row["person"], row["state"], row["number"], row["hours"])
    return made


def save_sessions(connection: Connection, sessions: Sequence[Session]) -> None:
    """The sessions, their seats, and what they book."""
    rows = [{name: getattr(one, name) for name in SESSION_COLUMNS} for one in sessions]
    bulk.insert(connection, session, rows, key=("id",), update=[name for name in SESSION_COLUMNS if name != "id"])
    connection.execute(delete(booking).where(booking.c.session.in_([one.id for one in sessions])))
    booked = [
        {"session": one.id, "resource": name, "starts_at": one.starts_at, "ends_at": one.ends_at}
        for one in sessions
        if one.state != "cancelled"
        for name in one.resources
    ]
    bulk.insert(connection, booking, booked)
    save_seats(connection, sessions)


def save_seats(connection: Connection, sessions: Sequence[Session]) -> None:
    rows = [
        {"session": one.id, "person": taken.person, "state": taken.state, "number": taken.number, "hours": taken.hours, "course": one.course,
         "starts_at": one.starts_at, "ends_at": one.ends_at}
        for one in sessions
        for taken in one.seats.values()
    ]  # fmt: skip
    bulk.insert(connection, seat, rows, key=("session", "person"), update=("state", "number", "hours", "starts_at", "ends_at"))


def lock_resources(connection: Connection, names: Iterable[str]) -> None:
    wanted = sorted(set(names))
    bulk.insert(connection, resource_lock, [{"id": name} for name in wanted], key=("id",))
    connection.execute(select(resource_lock).where(resource_lock.c.id.in_(wanted)).order_by(resource_lock.c.id).with_for_update()).all()


def taken(
    connection: Connection, names: Collection[str], starts_at: float, ends_at: float, but: Collection[str] = ()
) -> list[tuple[str, str]]:
    """(resource, session) of bookings that overlap."""
    query = select(booking.c.resource, booking.c.session).where(
        booking.c.resource.in_(set(names)), booking.c.starts_at < ends_at, booking.c.ends_at > starts_at
    )
    found = connection.execute(query.order_by(booking.c.resource)).all()
    return [(row.resource, row.session) for row in found if row.session not in but]


def busy(
    connection: Connection,
    who: Collection[str],
    starts_at: float,
    ends_at: float,
    but: str = "",
    states: Collection[str] = ("enrolled", "attended"),
) -> dict[str, str]:
    """Of these people those with a seat in another session then -> that session."""
    query = select(seat.c.person, seat.c.session).where(
        seat.c.person.in_(set(who)), seat.c.state.in_(states), seat.c.starts_at < ends_at, seat.c.ends_at > starts_at
    )
    return {row.person: row.session for row in connection.execute(query) if row.session != but}


def attended(connection: Connection, who: str, course: str, version: int) -> float:
    """Hours of this version of a course: in sessions and alone."""
    query = select(func.sum(hours.c.hours)).where(hours.c.person == who, hours.c.course == course, hours.c.course_version == version)
    return float(connection.scalar(query) or 0.0)


def complete(connection: Connection, who: str, course: str, version: int, at: float) -> bool:
    """Whether it is new."""
    row = {"person": who, "course": course, "version": version, "at": at}
    return bool(bulk.insert(connection, completion, [row], key=("person", "course", "version"), returning=("person",)))


def uncomplete(connection: Connection, who: str, course: str, version: int) -> None:
    table = completion
    connection.execute(delete(table).where(table.c.person == who, table.c.course == course, table.c.version == version))


def completions(connection: Connection, who: Collection[str], since: float = 0.0) -> dict[str, dict[str, int]]:
    """person -> course -> the newest version completed."""
    query = select(completion.c.person, completion.c.course, func.max(completion.c.version))
    query = query.where(completion.c.person.in_(set(who)), completion.c.at >= since).group_by(completion.c.person, completion.c.course)
    found: dict[str, dict[str, int]] = {}
    for one, course, version in connection.execute(query):
        found.setdefault(one, {})[course] = version
    return found


# ---- hours


def hours_by_source(connection: Connection, who: Collection[str], year: int) -> dict[str, list[tuple[str, float]]]:
    query = select(hours.c.person, hours.c.source, func.sum(hours.c.hours)).where(hours.c.person.in_(set(who)), hours.c.year == year)
    found: dict[str, list[tuple[str, float]]] = {}
    for one, source, amount in connection.execute(query.group_by(hours.c.person, hours.c.source)):
        found.setdefault(one, []).append((source, amount))
    return found


def planned_hours(connection: Connection, who: Collection[str], starts: float, ends: float) -> dict[str, float]:
    """Of seats in sessions that begin in this span."""
    length = func.sum(seat.c.ends_at - seat.c.starts_at)
    query = select(seat.c.person, length).join(session, session.c.id == seat.c.session)
    query = query.where(seat.c.person.in_(set(who)), seat.c.state == "enrolled", session.c.state == "planned")
    query = query.where(seat.c.starts_at >= starts, seat.c.starts_at < ends).group_by(seat.c.person)
    return {one: seconds / 3600.0 for one, seconds in connection.execute(query)}


# ---- exams


def attempts_of(connection: Connection, who: str, exam: str) -> list[Row]:
    return _rows(connection, select(attempt).where(attempt.c.person == who, attempt.c.exam == exam).order_by(attempt.c.id))


def passed_exams(connection: Connection, who: Collection[str], since: float = 0.0) -> dict[str, set[str]]:
    query = select(attempt.c.person, attempt.c.exam).where(attempt.c.person.in_(set(who)), attempt.c.passed, attempt.c.ended_at >= since)
    found: dict[str, set[str]] = {}
    for one, exam in connection.execute(query.distinct()):
        found.setdefault(one, set()).add(exam)
    return found


def marked(connection: Connection, exam: str) -> list[dict[str, bool]]:
    query = select(attempt.c.marked).where(attempt.c.exam == exam, attempt.c.ended_at.is_not(None)).order_by(attempt.c.id)
    return [row for row in connection.scalars(query) if row]


# ---- lessons


def lessons_of(connection: Connection, who: Collection[str] | None = None, unsettled: bool = False) -> list[Row]:
    query = select(lesson).order_by(lesson.c.assigned_at, lesson.c.finding)
    if who is not None:
        query = query.where(lesson.c.person.in_(set(who)))
    if unsettled:
        query = query.where(or_(lesson.c.done_at.is_(None), lesson.c.verdict.in_(("done", "unclear", "open"))))
    return _rows(connection, query)


def put_lesson(connection: Connection, row: Row) -> None:
    bulk.insert(connection, lesson, [row], key=("finding",), update=[name for name in row if name != "finding"])
