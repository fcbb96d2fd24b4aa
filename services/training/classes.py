"""What happens for each command about sessions and programmes. One transaction each: first sessions are locked, then resources, then people, in
one statement each, so that whoever gives a seat and whoever lets the same person teach then wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, select

from services.training import documents, store
from services.training.base import (
    Row,
    Scope,
    all_known,
    known,
    policy,
    record_hours,
    refusals,
    require_active,
    require_person,
    settle_course,
    tell,
    texts,
)
from services.training.domain import errors as domain
from services.training.domain import programme, sessions
from services.training.domain.courses import Course
from services.training.domain.sessions import Policy, Resource, Session
from shared import clock, errors
from shared.bus.outbox import UnitOfWork, Work
from shared.ids import new_id

MOVABLE = ("day", "half", "room", "trainers", "equipment", "site", "place")


# ---- sessions


def create(units: UnitOfWork, told: Mapping[str, Any], new: str = "") -> Row:
    """A half-day of a course; said again with the same `new` it is the session that it is by now. Raises Invalid or Conflict, which names
    whatever is taken already."""
    with units() as work, refusals():
        if new and store.find(work.connection, store.session, new):
            return get(work.connection, new)
        made = _arrange(work.connection, [_made(work.connection, told, new or new_id())])[0]
        store.save_sessions(work.connection, [made])
        return shown(made)


def arrange(connection: Connection, told: Sequence[Mapping[str, Any]]) -> None:
    """Whether all these could be held. Raises Invalid or Conflict."""
    _arrange(connection, [_made(connection, one, one["id"]) for one in told])


def create_with(units: UnitOfWork, told: Mapping[str, Any], people: Sequence[str]) -> None:
    """A planned session with its people, unless it is there already. Who is elsewhere by now is left out."""
    with units() as work, refusals():
        if store.find(work.connection, store.session, told["id"]):
            return
        one = _arrange(work.connection, [_made(work.connection, told, told["id"])], people)[0]
        there = {row["id"] for row in store.people(work.connection, ids=people)}
        elsewhere = {*store.busy(work.connection, people, one.starts_at, one.ends_at), *_teaching(work.connection, one, people, [one.id])}
        for person in people:
            if person in there and person not in elsewhere:
                one.enrol(person, False, clock.now())
        store.save_sessions(work.connection, [one])
        for person in one.enrolled:
            _tell_seat(work, one, person)


def _made(connection: Connection, told: Mapping[str, Any], id: str, course: Course | None = None, limits: Policy | None = None) -> Session:
    course = course or known(connection, "courses", told["course"])
    limits = limits or policy(connection)
    zone = limits.zone_of(told["site"])
    starts, ends = sessions.moments(limits, zone, documents.day(told["day"]), told["half"])
    return Session(
        id, course.name, course.version, told["day"], told["half"], zone, starts, ends, told["site"], told["place"], told["room"],
        list(told["trainers"]), list(told["equipment"]), told["capacity"] or 0, programme=told.get("programme", ""),
    )  # fmt: skip


def _arrange(connection: Connection, made: Sequence[Session], people: Collection[str] = ()) -> list[Session]:
    """The sessions, held against resources, calendars and each other; their capacity is what their resources take, or less where that was said.
    Locks whoever teaches, sits or waits in them, and `people`."""
    there: dict[str, Resource] = all_known(connection, "resources")
    known_courses, limits, now = all_known(connection, "courses"), policy(connection), clock.now()
    store.lock_resources(connection, {name for one in made for name in one.resources})
    store.lock_people(connection, {*people, *(who for one in made for who in (*one.trainers, *one.enrolled, *one.waiting))})
    ours = [one.id for one in made]
    booked: dict[str, list[Session]] = {}
    for one in sorted(made, key=lambda one: one.starts_at):
        if one.starts_at <= now:
            raise domain.Invalid(f"The session of {one.day} ({one.half}) would begin in the past.")
        sessions.check(one, known_courses[one.course], there)
        clashes = store.taken(connection, one.resources, one.starts_at, one.ends_at, but=ours)
        clashes += [(name, other.id) for name in one.resources for other in booked.get(name, ()) if other.ends_at > one.starts_at]
        sessions.require_free(one, clashes)
        teaching = store.busy(connection, one.trainers, one.starts_at, one.ends_at, but=one.id)
        if teaching:
            raise domain.Conflict(
                f"{', '.join(sorted(teaching))} cannot teach on {one.day} ({one.half}): they have a seat in another session then."
            )
        for name in one.resources:
            booked.setdefault(name, []).append(one)
        most = sessions.capacity_of([there[name] for name in one.resources], limits)
        if one.capacity > most:
            raise domain.Invalid(f"The session would take {one.capacity} people; its room, trainers and equipment take {most}.")
        one.capacity = one.capacity or most
        if len(one.enrolled) > one.capacity:
            raise domain.Conflict(f"{len(one.enrolled)} people have seats in the session, and there it would take {one.capacity}.")
    return list(made)


def move(units: UnitOfWork, id: str, told: Mapping[str, Any], scope: Scope = None) -> Row:
    """Another day, half-day, room, trainer or equipment; whoever has a seat keeps it. Raises Conflict where somebody cannot be there then."""
    with units() as work, refusals():
        one = _locked(work.connection, id, scope)
        one.require_planned("to move it")
        if not _seen({"site": told.get("site", one.site)}, scope):
            raise errors.Invalid("it would belong to others than you", errors={"site": ["Say one of yours."]})
        _move(work, [one], [{**{name: getattr(one, name) for name in MOVABLE}, **told}])
        return shown(one)


def _move(work: Work, moved: Sequence[Session], places: Sequence[Mapping[str, Any]]) -> None:
    """All of them or none."""
    limits, there = policy(work.connection), all_known(work.connection, "resources")
    for one, place in zip(moved, places, strict=True):
        used = one.resources
        for name in MOVABLE:
            setattr(one, name, place[name])
        one.zone = limits.zone_of(one.site)
        before = sessions.capacity_of([there[name] for name in used if name in there], limits)
        one.starts_at, one.ends_at = sessions.moments(limits, one.zone, documents.day(one.day), one.half)
        after = sessions.capacity_of([there[name] for name in one.resources if name in there], limits)
        one.capacity = min(one.capacity, after) if one.capacity < before else 0  # fewer than there would be seats for was said
    _arrange(work.connection, moved)
    ids = {one.id for one in moved}
    for one in moved:
        taken = store.busy(work.connection, one.enrolled, one.starts_at, one.ends_at)
        if clash := sorted(person for person, other in taken.items() if other not in ids):
            raise domain.Conflict(f"On {one.day} ({one.half}) these have a seat elsewhere: {', '.join(clash)}.")
        if teaching := _teaching(work.connection, one, one.enrolled, ids):
            raise domain.Conflict(f"On {one.day} ({one.half}) these have a seat and teach: {', '.join(teaching)}.")
    store.save_sessions(work.connection, moved)
    for one in moved:
        for person in [*one.enrolled, *one.waiting]:
            _tell_seat(work, one, person)
    for one in moved:
        _promote(work, one)


def cancel(units: UnitOfWork, id: str, reason: str, scope: Scope = None) -> Row:
    with units() as work, refusals():
        one = _locked(work.connection, id, scope)
        people = one.cancel(reason)
        store.lock_people(work.connection, people)
        for person in people:
            one.seats[person].state = "withdrawn"
            _tell_seat(work, one, person)
        store.save_sessions(work.connection, [one])
        return shown(one)


def enrol(units: UnitOfWork, id: str, people: Sequence[str], wait: bool, scope: Scope = None) -> Row:
    """All of them or none. Raises Conflict for one too many, and for somebody who is elsewhere then."""
    with units() as work, refusals():
        one = _locked(work.connection, id, scope)
        store.lock_people(work.connection, people)
        known_people = {person: require_person(work.connection, person, scope) for person in people}
        course: Course = known(work.connection, "courses", one.course, one.course_version)
        for person, row in known_people.items():
            require_active(row)
            if not course.is_for(list(row["roles"])):
                raise errors.Invalid(
                    f"{course.name} is for {', '.join(course.audience)}; {person} is {', '.join(row['roles']) or 'none of these'}"
                )
        _require_free(work.connection, one, people)
        for person in people:
            before = one.seats[person].state if person in one.seats else ""
            if one.enrol(person, wait, clock.now()) != before:
                _tell_seat(work, one, person)
        store.save_seats(work.connection, [one])
        return shown(one)


def _require_free(connection: Connection, one: Session, people: Collection[str]) -> None:
    if taken := store.busy(connection, people, one.starts_at, one.ends_at, but=one.id):
        raise domain.Conflict(
            "These are in another session then: " + ", ".join(f"{person} ({other})" for person, other in sorted(taken.items())) + "."
        )
    if teaching := _teaching(connection, one, people, [one.id]):
        raise domain.Conflict(f"These teach then: {', '.join(teaching)}.")


def _teaching(connection: Connection, one: Session, people: Collection[str], but: Collection[str]) -> list[str]:
    """Of these people those who teach while the session lasts, here or in another session that is none of `but`."""
    elsewhere = store.taken(connection, people, one.starts_at, one.ends_at, but=but)
    return sorted({name for name, _ in elsewhere} | (set(one.trainers) & set(people)))


def withdraw(units: UnitOfWork, id: str, person: str, scope: Scope = None) -> Row:
    """A seat is given back; the first who waits and is free has it."""
    with units() as work, refusals():
        one = _locked(work.connection, id, scope)
        store.lock_people(work.connection, [person, *one.waiting])
        require_person(work.connection, person, scope)
        if clock.now() >= one.starts_at:
            raise domain.Conflict("The session has begun: who was there is told as attendance.")
        one.withdraw(person)
        _tell_seat(work, one, person)
        _promote(work, one)
        return shown(one)


def _promote(work: Work, one: Session) -> None:
    def free(who: str) -> bool:
        elsewhere = store.busy(work.connection, [who], one.starts_at, one.ends_at, but=one.id)
        return not elsewhere and not _teaching(work.connection, one, [who], [one.id])

    for person in one.promote(free):
        _tell_seat(work, one, person)
    store.save_seats(work.connection, [one])


def release(work: Work, people: Sequence[str], now: float, also: Collection[str] = ()) -> None:
    """These have left: their seats go to those who wait. Locks them, and whoever is concerned `also`."""
    seats = select(store.seat.c.session).where(
        store.seat.c.person.in_(set(people)), store.seat.c.state.in_(("enrolled", "waiting")), store.seat.c.starts_at > now
    )
    query = select(store.session).where(store.session.c.id.in_(seats)).order_by(store.session.c.id).with_for_update()
    found = [one for one in store.sessions_of(work.connection, query) if one.state == "planned"] if people else []
    store.lock_people(work.connection, {person for one in found for person in one.waiting} | {*people, *also})
    for one in found:
        for person in set(people) & {*one.enrolled, *one.waiting}:
            one.withdraw(person)
            _tell_seat(work, one, person)
        _promote(work, one)


def attend(units: UnitOfWork, id: str, told: Sequence[Mapping[str, Any]], by: str, scope: Scope = None) -> Row:
    """Who was there, and for how long. Told again, it corrects what was told before. All of it or nothing."""
    with units() as work, refusals():
        one = _locked(work.connection, id, scope)
        store.lock_people(work.connection, [row["person"] for row in told])
        course: Course = known(work.connection, "courses", one.course, one.course_version)
        for row in told:
            person = require_person(work.connection, row["person"], scope)
            if row["present"]:
                _require_not_attending(work.connection, one, row["person"])
            change = one.attend(row["person"], row["hours"] if row["present"] else 0.0, clock.now())
            if abs(change) > 1e-9:
                year = date.fromisoformat(one.day).year
                record_hours(
                    work, row["person"], year, one.day, "session", change, by, session=one.id, course=one.course, version=one.course_version
                )
            done = settle_course(work, row["person"], course, person["site"])
            facts = {"session": one.id, "course": one.course, "course_version": one.course_version}
            tell(work, "session_attended", row["person"], **facts, hours=one.seats[row["person"]].hours, completed=done)
        store.save_sessions(work.connection, [one])
        return shown(one)


def _require_not_attending(connection: Connection, one: Session, person: str) -> None:
    """Hours of one time count once: who was in another session then, or taught, was not in this one. Raises Conflict."""
    if elsewhere := store.busy(connection, [person], one.starts_at, one.ends_at, but=one.id, states=("attended",)):
        raise domain.Conflict(f"{person} attended session {elsewhere[person]} at that time: correct the attendance there first.")
    if _teaching(connection, one, [person], [one.id]):
        raise domain.Conflict(f"{person} taught at that time.")


def _locked(connection: Connection, id: str, scope: Scope) -> Session:
    one = store.lock_session(connection, id)
    if one is None or not _seen({"site": one.site}, scope):
        raise errors.NotFound(f"there is no session {id}")
    return one


def _tell_seat(work: Work, one: Session, person: str) -> None:
    told = {"session": one.id, "course": one.course, "state": one.seats[person].state, "starts_at": one.starts_at, "ends_at": one.ends_at}
    if store.get_person(work.connection, person):
        tell(work, "enrolled", person, **told)


# ---- looking


def get(connection: Connection, id: str, scope: Scope = None) -> Row:
    row = store.find(connection, store.session, id)
    if row is None or not _seen(row, scope):
        raise errors.NotFound(f"there is no session {id}")
    one = store.sessions_of(connection, select(store.session).where(store.session.c.id == id))[0]
    return shown(one, None if not scope or not scope.get("agent") else scope["agent"])


def _seen(row: Mapping[str, Any], scope: Scope) -> bool:
    return not scope or not scope.get("sites") or row["site"] in ("", *scope["sites"])


def listing(connection: Connection, asked: Mapping[str, Any], scope: Scope = None) -> Row:
    """Sessions by their beginning; `after`: the id of the last of the page before."""
    table, limit = store.session, asked["limit"]
    query = (
        select(table)
        .where(table.c.starts_at >= asked["from"], table.c.starts_at < asked["to"])
        .order_by(table.c.starts_at, table.c.id)
        .limit(limit)
    )
    for name in ("course", "site", "programme"):
        if asked.get(name):
            query = query.where(table.c[name] == asked[name])
    if asked.get("person"):
        require_person(connection, asked["person"], scope)
        mine = select(store.seat.c.session).where(store.seat.c.person == asked["person"], store.seat.c.state != "withdrawn")
        query = query.where(table.c.id.in_(mine))
    if scope and scope.get("sites"):
        query = query.where(table.c.site.in_(["", *scope["sites"]]))
    if asked["after"]:
        last = store.find(connection, table, asked["after"])
        if last is None:
            raise errors.Invalid("the page before is no longer there", errors={"cursor": ["Begin again without it."]})
        query = query.where(
            (table.c.starts_at > last["starts_at"]) | ((table.c.starts_at == last["starts_at"]) & (table.c.id > last["id"]))
        )
    found = store.sessions_of(connection, query)
    agent = scope.get("agent") if scope else None
    return {"items": [shown(one, agent) for one in found], "next": found[-1].id if len(found) == limit else None}


def seats_of(connection: Connection, person: str, now: float) -> list[Row]:
    """What somebody has a seat in, or waits for, from now on."""
    query = select(store.session, store.seat.c.state.label("seat")).join(store.seat, store.seat.c.session == store.session.c.id)
    query = query.where(store.seat.c.person == person, store.seat.c.state.in_(("enrolled", "waiting")), store.session.c.ends_at > now)
    rows = [store.plain(row) for row in connection.execute(query.order_by(store.session.c.starts_at)).mappings()]
    return [
        {
            "session": row["id"],
            "course": row["course"],
            "site": row["site"],
            "room": row["room"],
            "state": row["seat"],
            **texts(row, "starts_at", "ends_at"),
        }
        for row in rows
    ]


def shown(one: Session, agent: str | None = None) -> Row:
    """`agent`: somebody who sees, of seats, their own alone."""
    plain = (
        "id",
        "course",
        "course_version",
        "day",
        "half",
        "zone",
        "site",
        "place",
        "room",
        "trainers",
        "equipment",
        "capacity",
        "state",
        "programme",
        "reason",
    )
    told: Row = {name: getattr(one, name) for name in plain}
    told |= {
        "starts_at": clock.to_text(one.starts_at),
        "ends_at": clock.to_text(one.ends_at),
        "free": max(0, one.capacity - len(one.enrolled)),
    }
    seats = sorted(one.seats.values(), key=lambda seat: seat.number)
    told["seats"] = [{"person": seat.person, "state": seat.state, "hours": seat.hours} for seat in seats if agent in (None, seat.person)]
    return told


# ---- programmes


def create_programme(units: UnitOfWork, id: str, told: Mapping[str, Any], by: str) -> Row:
    """All sessions of a template from a day on, in one room with the same trainers. All of them or none."""
    with units() as work, refusals():
        if work.connection.execute(select(store.programme.c.id).where(store.programme.c.id == id)).first():
            raise errors.Conflict(f"there is a programme {id} already: POST /v1/programmes/{id}/move to move it")
        template = store.newest(work.connection, "templates", told["template"])
        if template is None:
            raise errors.NotFound(f"there is no template {told['template']}: PUT /v1/training/templates/{told['template']} first")
        lessons = _lessons(work.connection, told, template["version"])
        limits, there = policy(work.connection), all_known(work.connection, "courses")
        place = {name: told[name] for name in ("site", "place", "room", "trainers", "equipment", "capacity")}
        made = [
            _made(
                work.connection,
                {**place, "day": one.day.isoformat(), "half": one.half, "programme": id},
                new_id(),
                there[one.course],
                limits,
            )
            for one in lessons
        ]
        if not made:
            raise domain.Invalid("The template's terms name no courses: there is nothing to hold.")
        store.save_sessions(work.connection, _arrange(work.connection, made))
        row = {"id": id, "told": dict(told), "template_version": template["version"], "created_at": clock.now(), "created_by": by}
        store.add(work.connection, store.programme, row)
        return _programme(row, made)


def _lessons(connection: Connection, told: Mapping[str, Any], version: int) -> list[programme.Lesson]:
    limits = policy(connection)
    terms = known(connection, "templates", told["template"], version)
    there: dict[str, Resource] = all_known(connection, "resources")
    used = [there[name] for name in (told["room"], *told["trainers"], *told["equipment"]) if name in there]
    start, halves = documents.day(told["start"]), list(limits.halves)
    weekday = sessions.WEEKDAYS.index(told["weekday"]) if told["weekday"] else start.weekday()
    is_open: Callable[[date], bool] = lambda day: day.weekday() < 5 and all(one.is_open(day, half) for one in used for half in halves)  # noqa: E731
    return programme.schedule(terms, start, weekday, halves, limits.half_day_hours, all_known(connection, "courses"), is_open)


def move_programme(units: UnitOfWork, id: str, start: str, weekday: str) -> Row:
    """The programme begins on another day: what is still to come is held in its order on the new days; what was held stays. All of it or nothing."""
    with units() as work, refusals():
        row = work.connection.execute(select(store.programme).where(store.programme.c.id == id).with_for_update()).mappings().first()
        if row is None:
            raise errors.NotFound(f"there is no programme {id}")
        table = store.session
        query = select(table).where(table.c.programme == id, table.c.state != "cancelled").order_by(table.c.id)
        whole = sorted(store.sessions_of(work.connection, query.with_for_update()), key=lambda one: (one.starts_at, one.id))
        now = clock.now()
        begun = [one for one in whole if one.starts_at <= now or one.state != "planned"]
        coming = [one for one in whole if one not in begun]
        told = {**row["told"], "start": start, "weekday": weekday}
        lessons = _lessons(work.connection, told, row["template_version"])
        behind = lessons[len(whole) - len(coming) :]
        if len(behind) < len(coming):
            raise domain.Conflict(f"The new days are {len(behind)}, and {len(coming)} sessions are still to come.")
        places = [
            {**{name: getattr(one, name) for name in MOVABLE}, "day": on.day.isoformat(), "half": on.half}
            for one, on in zip(coming, behind, strict=False)
        ]
        if coming:
            _move(work, coming, places)
        work.connection.execute(store.programme.update().where(store.programme.c.id == id).values(told=told))
        return _programme({**store.plain(row), "told": told}, whole)


def get_programme(connection: Connection, id: str) -> Row:
    row = connection.execute(select(store.programme).where(store.programme.c.id == id)).mappings().first()
    if row is None:
        raise errors.NotFound(f"there is no programme {id}")
    return _programme(store.plain(row), store.sessions_of(connection, select(store.session).where(store.session.c.programme == id)))


def _programme(row: Mapping[str, Any], held: Sequence[Session]) -> Row:
    in_order = sorted(held, key=lambda one: (one.starts_at, one.id))
    told = {name: row["told"][name] for name in ("template", "start", "weekday", "site", "room", "trainers")}
    summary = [{"session": one.id, "course": one.course, "day": one.day, "half": one.half, "state": one.state} for one in in_order]
    return {
        "id": row["id"], **told, "template_version": row["template_version"], "created_at": clock.to_text(row["created_at"]),
        "created_by": row["created_by"], "sessions": summary, "ends": in_order[-1].day if in_order else None,
        "weeks": (date.fromisoformat(in_order[-1].day) - date.fromisoformat(in_order[0].day) + timedelta(days=1)).days // 7 if in_order else 0,
    }  # fmt: skip
