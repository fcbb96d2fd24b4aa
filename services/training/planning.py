"""Plans: asked for, made in a process of their own, and carried out. The process reads a problem and writes lines of progress, the last with the plan."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from functools import cache
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, and_, or_, select

from services.training import classes, documents, store
from services.training.base import Row, Scope, accounts, all_known, courses, policy, refusals
from services.training.domain import planner, programme, sessions
from services.training.domain.courses import Course, done_of
from services.training.domain.errors import Refused
from services.training.domain.planner import Equipment, Learner, Problem, Room, Trainer
from services.training.domain.sessions import Resource
from shared import clock, errors
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.ids import new_id

log = structlog.get_logger()

LONGEST_DAYS = 200
LEFT_ALONE_SECONDS = 120.0
"""A plan of which nothing was heard for so long was interrupted."""
TELL_EVERY = 1.0
LONGEST_SECONDS = 900.0
SILENT_SECONDS = 90.0
"""A process that says nothing for so long hangs: it is ended before another takes its plan up."""
LOOK_EVERY = 0.2

Run = Callable[[bytes], Iterator[bytes]]
"""Lines that planning a problem gives."""


def ask(units: UnitOfWork, told: Mapping[str, Any], by: str, id: str = "") -> Row:
    """A plan is to be made; asked again with the same `id` it is the plan that it is. Raises Invalid."""
    first, last = documents.day(told["from"]), documents.day(told["to"])
    if not sessions.FIRST_YEAR <= first.year <= sessions.LAST_YEAR:
        raise errors.Invalid(
            f"{first} lies too far away", errors={"from": [f"Say a year from {sessions.FIRST_YEAR} to {sessions.LAST_YEAR}."]}
        )
    if not first <= last <= first + timedelta(days=LONGEST_DAYS):
        raise errors.Invalid(
            f"a plan is for 1 to {LONGEST_DAYS} days", errors={"to": [f"It lies from {first} to {first + timedelta(days=LONGEST_DAYS)}."]}
        )
    if first.year != last.year:
        raise errors.Invalid(
            "a plan is for days of one year, for hours are counted by the year", errors={"to": [f"It lies in {first.year}."]}
        )
    with units() as work:
        there = courses(work.connection)
        if lacking := [name for name in told["courses"] if name not in there]:
            raise errors.Invalid(
                f"there is no course {', '.join(lacking)}", errors={"courses": ["Write it down first: PUT /v1/training/courses/NAME."]}
            )
        now, id = clock.now(), id or new_id()
        row = {
            "id": id, "state": "waiting", "told": dict(told), "progress": {}, "result": None, "created_at": now, "created_by": by, "touched_at": now,
        }  # fmt: skip
        bulk.insert(work.connection, store.plan, [row], key=("id",))
        return _shown(store.find(work.connection, store.plan, id) or row)


def get(connection: Connection, id: str, scope: Scope = None) -> Row:
    row = store.find(connection, store.plan, id)
    sites = set(scope["sites"]) if scope else set()
    if row is None or (sites and not (row["told"]["sites"] and sites.issuperset(row["told"]["sites"]))):
        raise errors.NotFound(f"there is no plan {id}")
    return _shown(row)


def _shown(row: Mapping[str, Any]) -> Row:
    told = {name: row[name] for name in ("id", "state", "told", "progress", "created_by")}
    return {**told, "created_at": clock.to_text(row["created_at"]), "result": row["result"]}


def apply(units: UnitOfWork, id: str) -> Row:
    """The plan is to be carried out: its sessions are created with their people, one after the other, unless something is taken by now. Raises Conflict."""
    with units() as work, refusals():
        row = store.find(work.connection, store.plan, id, lock=True)
        if row is None:
            raise errors.NotFound(f"there is no plan {id}")
        if row["state"] in ("accepted", "applying", "applied"):
            return _shown(row)
        if row["state"] != "ready":
            raise errors.Conflict(f"the plan is {row['state']}: only one that is ready can be carried out")
        classes.arrange(work.connection, row["result"]["sessions"])
        store.change(work.connection, store.plan, id, state="accepted", touched_at=clock.now())
        return _shown({**row, "state": "accepted"})


# ---- the work


def work_off(units: UnitOfWork, run: Run) -> tuple[str, float]:
    """Make the plan that waits longest, or carry one out. Returns how it ended ("": there was none) and the seconds it took."""
    began, table = clock.monotonic(), store.plan
    with units() as work:
        left_alone = and_(table.c.state.in_(("planning", "applying")), table.c.touched_at < clock.now() - LEFT_ALONE_SECONDS)
        query = select(table).where(or_(table.c.state.in_(("waiting", "accepted")), left_alone)).order_by(table.c.id).limit(1)
        row = work.connection.execute(query.with_for_update(skip_locked=True)).mappings().first()
        if row is None:
            return "", 0.0
        state = "planning" if row["state"] in ("waiting", "planning") else "applying"
        store.change(work.connection, table, row["id"], state=state, touched_at=clock.now())
    if state == "applying":
        _carry_out(units, store.plain(row))
        return "applied", clock.monotonic() - began
    try:
        result = _make(units, store.plain(row), run)
    except (errors.AnswerlineError, ChildProcessError) as error:
        log.warning("a plan failed", plan=row["id"], error=type(error).__name__)
        with units() as work:
            store.change(work.connection, table, row["id"], state="failed", result={"error": str(error)}, touched_at=clock.now())
        return "failed", clock.monotonic() - began
    with units() as work:
        store.change(work.connection, table, row["id"], state="ready", result=result, touched_at=clock.now())
    return "short" if result["short"] or result["unplaced"] else "ready", clock.monotonic() - began


def _make(units: UnitOfWork, row: Row, run: Run) -> Row:
    with units.database.reading() as connection, refusals():
        problem, slots, lacking = problem_of(connection, row["told"])
    told_at, result = 0.0, None
    for line in run(orjson.dumps(as_json(problem))):
        told = orjson.loads(line)
        if "plan" in told:
            result = told["plan"]
        elif clock.monotonic() - told_at > TELL_EVERY:
            told_at = clock.monotonic()
            with units() as work:
                store.change(work.connection, store.plan, row["id"], progress=told, touched_at=clock.now())
    if result is None:
        raise ChildProcessError("the planning process ended without a plan; plan again")
    held = [
        {
            "id": new_id(), "site": one["site"], "day": slots[one["slot"]][0], "half": slots[one["slot"]][1], "course": one["course"], "room": one["room"],
            "trainers": [one["trainer"]], "equipment": one["equipment"], "capacity": None, "place": "lab" if one["equipment"] else "on_site",
            "people": one["people"],
        }
        for one in result["sessions"]
    ]  # fmt: skip
    short = [planner.Short(**one) for one in result["short"]]
    told_short = [{**asdict(one), "words": {language: planner.words(one, language) for language in ("en", "zh")}} for one in short]
    return {
        "needed": result["needed"], "placed": result["placed"], "people": len(problem.learners), "sessions": held, "unplaced": result["unplaced"],
        "short": told_short, "no_course_left": lacking,
    }  # fmt: skip


def problem_of(connection: Connection, told: Mapping[str, Any]) -> tuple[Problem, list[tuple[str, str]], int]:
    """The problem, its half-days, and how many people will not reach their hours because the courses given do not suffice."""
    limits, there, now = policy(connection), courses(connection), clock.now()
    first, last = documents.day(told["from"]), documents.day(told["to"])
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    slots = [(day, half) for day in days for half in limits.halves]
    sites = told["sites"]
    resources: dict[str, Resource] = {
        name: one for name, one in all_known(connection, "resources").items() if not one.site or not sites or one.site in sites
    }
    people = [row for row in store.people(connection) if not sites or row["site"] in sites]
    places = {*(one.site for one in resources.values()), *(row["site"] for row in people)}
    zones = sorted({limits.zone, *map(limits.zone_of, places)})
    spans = {zone: [_moments(limits, zone, day, half) for day, half in slots] for zone in zones}
    overlaps = _overlaps(spans, 3 * len(limits.halves)) if len(zones) > 1 else ()
    in_time = {zone: sorted((*span, number) for number, span in enumerate(of)) for zone, of in spans.items()}  # all are of one length
    begins = {zone: [begin for begin, _, _ in of] for zone, of in in_time.items()}
    overs = {zone: [over for _, over, _ in of] for zone, of in in_time.items()}

    @cache
    def at(site: str, starts: float, ends: float) -> frozenset[int]:
        """The half-days of a site, or where none is named of any, that something from the one moment to the other touches."""
        return frozenset(
            number
            for zone in ([limits.zone_of(site)] if site else zones)
            for _, _, number in in_time[zone][bisect_right(overs[zone], starts) : bisect_left(begins[zone], ends)]
        )

    def is_to_come(site: str, number: int) -> bool:
        """And it is one there: the change to summer time leaves some out."""
        return all(begins > now for begins, ends in (spans[zone][number] for zone in ([limits.zone_of(site)] if site else zones)))

    def during(site: str, of: Iterable[tuple[float, float]]) -> frozenset[int]:
        return frozenset().union(*(at(site, *span) for span in of))

    booking, last_over = store.booking, max((over for of in overs.values() for over in of), default=now)
    booked: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    query = select(booking.c.resource, booking.c.starts_at, booking.c.ends_at)
    for resource, starts, ends in connection.execute(query.where(booking.c.ends_at > now, booking.c.starts_at < last_over)):
        booked[resource].append((starts, ends))
    seated, coming = _seats(connection, now)

    def taken(id: str, one: Resource) -> frozenset[int]:
        return during(one.site, [*booked.get(id, ()), *(seated.get(id, ()) if one.kind == "trainer" else ())])

    open = {
        id: frozenset(n for n, slot in enumerate(slots) if one.is_open(*slot) and is_to_come(one.site, n)) - taken(id, one)
        for id, one in resources.items()
    }
    away = {row["id"]: during(row["site"], seated.get(row["id"], ())) for row in people}
    teaching = {row["id"]: during(row["site"], booked.get(row["id"], ())) for row in people}
    learners, team_sizes, busy, lacking = _learners(connection, people, told, limits, there, coming, away, teaching)
    problem = Problem(
        len(slots),
        tuple(Room(id, one.site, one.capacity, open[id]) for id, one in resources.items() if one.kind == "room"),
        tuple(Trainer(id, one.site, one.capacity, open[id], frozenset(one.courses)) for id, one in resources.items() if one.kind == "trainer"),
        tuple(Equipment(id, one.site, one.model or id, one.capacity, open[id]) for id, one in resources.items() if one.kind == "equipment"),
        tuple(learners), {name: one.equipment for name, one in there.items() if one.equipment}, team_sizes, busy, limits.away_share, limits.least_people,
        limits.capacity, overlaps,
    )  # fmt: skip
    return problem, [(day.isoformat(), half) for day, half in slots], lacking


def _moments(limits: sessions.Policy, zone: str, day: date, half: str) -> tuple[float, float]:
    """When the half-day begins and ends there; one that the change to summer time leaves out is over before it began."""
    try:
        return sessions.moments(limits, zone, day, half)
    except Refused:
        return -math.inf, -math.inf


def _overlaps(spans: Mapping[str, Sequence[tuple[float, float]]], reach: int) -> tuple[tuple[int, ...], ...]:
    """By half-day the others, at most `reach` away, that lie at the same time in one zone or another."""
    by_slot, told = list(zip(*spans.values(), strict=True)), []
    for number, of in enumerate(by_slot):
        near = [other for other in range(max(0, number - reach), min(len(by_slot), number + reach + 1)) if other != number]
        told.append(tuple(o for o in near if any(a < d and c < b for a, b in of for c, d in by_slot[o])))
    return tuple(told)


def _seats(connection: Connection, now: float) -> tuple[dict[str, list[tuple[float, float]]], dict[str, set[str]]]:
    """By person when they sit in sessions to come, and of which courses."""
    seat = store.seat
    seated: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    coming: defaultdict[str, set[str]] = defaultdict(set)
    query = select(seat.c.person, seat.c.course, seat.c.starts_at, seat.c.ends_at).join(store.session, store.session.c.id == seat.c.session)
    for person, course, starts, ends in connection.execute(
        query.where(seat.c.state == "enrolled", store.session.c.state == "planned", seat.c.ends_at > now)
    ):
        seated[person].append((starts, ends))
        coming[person].add(course)
    return seated, coming


def _learners(
    connection: Connection, people: Sequence[Row], told: Mapping[str, Any], limits: sessions.Policy, there: Mapping[str, Course],
    coming: Mapping[str, set[str]], away: Mapping[str, frozenset[int]], teaching: Mapping[str, frozenset[int]],
) -> tuple[list[Learner], dict[str, int], dict[tuple[str, int], int], int]:  # fmt: skip
    ids = [row["id"] for row in people]
    completed, accounts_of = store.completions(connection, ids), accounts(connection, people, documents.day(told["from"]).year)
    learners: list[Learner] = []
    team_sizes: defaultdict[str, int] = defaultdict(int)
    busy: defaultdict[tuple[str, int], int] = defaultdict(int)
    lacking = 0
    for row in people:
        team = row["team"] or planner.NO_TEAM + row["site"]
        team_sizes[team] += 1
        for number in away[row["id"]]:
            busy[team, number] += 1
        made = accounts_of[row["id"]]
        hours = made["needed"] - made["counted"] - made["planned"]
        wanted = [name for name in told["courses"] if there[name].is_for(list(row["roles"])) and name not in coming.get(row["id"], ())]
        open = done_of(tuple(wanted), there, completed.get(row["id"], {}))[1]
        needs: list[str] = []
        for name in open:
            if hours <= 1e-9:
                break
            needs += [name] * programme.parts(there[name], limits.half_day_hours)
            hours -= limits.half_day_hours * programme.parts(there[name], limits.half_day_hours)
        lacking += hours > 1e-9
        if needs:
            learners.append(Learner(row["id"], team, row["site"], tuple(needs), away[row["id"]] | teaching[row["id"]]))
    return learners, dict(team_sizes), dict(busy), lacking


def _carry_out(units: UnitOfWork, row: Row) -> None:
    """Each session with its people in a transaction of its own; begun again, it goes on where it was."""
    planned, refused = row["result"]["sessions"], list(row["result"].get("refused", ()))
    for number, one in enumerate(planned, 1):
        try:
            classes.create_with(units, one, one["people"])
        except errors.AnswerlineError as error:
            refused.append({"session": one["id"], "reason": error.detail})
        if number % 10 == 0 or number == len(planned):
            with units() as work:
                store.change(work.connection, store.plan, row["id"], progress={"done": number, "of": len(planned)}, touched_at=clock.now())
    with units() as work:
        store.change(
            work.connection, store.plan, row["id"], state="applied", result={**row["result"], "refused": refused}, touched_at=clock.now()
        )


# ---- the process


COMMAND = [sys.executable, "-m", "services.training.planning"]


def in_a_process(problem: bytes, command: Sequence[str] = COMMAND) -> Iterator[bytes]:
    """Lines that a process of its own writes. One that takes too long, or says nothing for too long, is killed: a solver that hangs ends nothing by
    itself. Raises ChildProcessError."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    over, began = threading.Event(), clock.monotonic()
    heard_at, killed = began, ""

    def watch() -> None:
        nonlocal killed
        while not over.wait(LOOK_EVERY):
            now = clock.monotonic()
            if now - began > LONGEST_SECONDS:
                killed = f"planning took longer than {LONGEST_SECONDS:g} s: plan for fewer days or sites"
            elif now - heard_at > SILENT_SECONDS:
                killed = f"the planning process said nothing for {SILENT_SECONDS:g} s and was ended; plan again, or for fewer days or sites"
            if killed:
                child.kill()
                return

    threading.Thread(target=watch, name="planner's watch", daemon=True).start()
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended: its code says so
            child.stdin.write(problem)
            child.stdin.close()
        for line in child.stdout:
            heard_at = clock.monotonic()
            yield line
        if code := child.wait():
            raise ChildProcessError(killed or f"the planning process ended with code {code}; plan again")
    finally:
        over.set()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()


def in_this_process(problem: bytes) -> Iterator[bytes]:
    """The same, here: what the process of its own does."""
    lines: list[bytes] = []
    made = planner.plan(
        _problem(orjson.loads(problem)),
        lambda *told: lines.append(orjson.dumps(dict(zip(("done", "of", "placed", "needed"), told, strict=True)))),
    )
    lines.append(orjson.dumps({"plan": asdict(made)}))
    return iter(lines)


def main() -> None:
    """Read a problem, write progress and the plan. Whoever asked may be gone by then: it lives no longer than they would have let it."""
    signal.alarm(int(LONGEST_SECONDS + SILENT_SECONDS))
    os.nice(10)
    out = sys.stdout.buffer

    def tell(*told: int) -> None:
        out.write(orjson.dumps(dict(zip(("done", "of", "placed", "needed"), told, strict=True))) + b"\n")
        out.flush()

    made = planner.plan(_problem(orjson.loads(sys.stdin.buffer.read())), tell)
    out.write(orjson.dumps({"plan": asdict(made)}) + b"\n")
    out.flush()


def as_json(problem: Problem) -> Row:
    told = {name: [_plain(one) for one in getattr(problem, name)] for name in ("rooms", "trainers", "equipment", "learners")}
    plain = {
        name: getattr(problem, name) for name in ("slots", "models", "team_sizes", "away_share", "least_people", "capacity", "overlaps")
    }
    return {**told, **plain, "busy": [[team, slot, count] for (team, slot), count in problem.busy.items()]}


def _plain(one: Any) -> Row:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in vars(one).items()}


def _problem(told: Row) -> Problem:
    rooms = tuple(Room(**{**one, "open": frozenset(one["open"])}) for one in told["rooms"])
    trainers = tuple(Trainer(**{**one, "open": frozenset(one["open"]), "courses": frozenset(one["courses"])}) for one in told["trainers"])
    equipment = tuple(Equipment(**{**one, "open": frozenset(one["open"])}) for one in told["equipment"])
    learners = tuple(Learner(**{**one, "needs": tuple(one["needs"]), "away": frozenset(one["away"])}) for one in told["learners"])
    busy = {(team, slot): count for team, slot, count in told["busy"]}
    overlaps = tuple(tuple(one) for one in told["overlaps"])
    return Problem(
        **{**told, "overlaps": overlaps, "rooms": rooms, "trainers": trainers, "equipment": equipment, "learners": learners, "busy": busy}
    )


if __name__ == "__main__":
    main()
