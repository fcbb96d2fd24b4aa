"""Changing and reading the rules: policies, calendars, closures, trees of dispositions. Each change is kept with who made it, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Any

import structlog
from sqlalchemy import Connection

from services.routing import calendar_store, calendars, disposition_store, policies, policy_store, shadow_store
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Contact
from services.routing.domain.errors import NotFound
from services.routing.domain.hours import EMERGENCY, Closure
from services.routing.domain.policy import DEFAULT, Policy, highest
from shared import clock
from shared.errors import Invalid
from shared.ids import new_id

log = structlog.get_logger()

Row = dict[str, Any]

DRY_RUN_CONTACTS = 200
"""More would hold up everybody else."""
CLOSURES_SECONDS = 366 * 86400.0
"""How far back closures are listed."""


# ---- policies


def prepare_policy(document: str) -> None:
    """Read a document before the turn in which it counts: a large one takes a while, and others have their turn meanwhile.
    Raises Invalid."""
    policies.compile(document, "", 0, breathe=partial(time.sleep, 0))


def put_policy(connection: Connection, desk: Desk, name: str, document: str, by: str, note: str, starts_at: float | None) -> Row:
    """A new version, in force at once or from `starts_at` on. The same document again changes nothing."""
    _require_queues(desk, policies.compile(document, name, 0))
    row, _ = policy_store.put(connection, name, document, by, clock.now(), note)
    if starts_at is not None:
        row = policy_store.schedule(connection, name, row["version"], starts_at, by, clock.now(), note)
    else:
        row = policy_store.activate(connection, name, row["version"], by, clock.now(), note)
    return _policy(row)


def _require_queues(desk: Desk, policy: Policy) -> None:
    unknown = policies.queues_of(policy) - desk.queues.keys()
    if unknown:
        raise Invalid(f"The policy names queues that do not exist: {', '.join(sorted(unknown))}. Create them first.")


def rollback_policy(connection: Connection, _desk: Desk, name: str, by: str) -> Row:
    """One step back, to the version that was in force before."""
    return _policy(policy_store.rollback(connection, name, by, clock.now()))


def unschedule_policy(connection: Connection, _desk: Desk, name: str, by: str) -> Row:
    """Nothing of this policy starts by itself any more: the versions that were to are drafts again. The newest of them is returned."""
    waiting = [row["version"] for row in policy_store.versions(connection, name) if row["state"] == "scheduled"]
    if not waiting:
        raise NotFound(f"No version of policy {name} is scheduled.")
    rows = [policy_store.unschedule(connection, name, version, by, clock.now()) for version in waiting]
    return _policy(rows[0])


def start_due(connection: Connection) -> None:
    """Scheduled versions whose time has come are in force."""
    for name, version in policy_store.due(connection, clock.now()):
        try:
            policy_store.activate(connection, name, version, "schedule", clock.now())
        except Invalid as stricter:
            log.error("scheduled policy not understood any more", policy=name, version=version, error=stricter.detail)
            policy_store.unschedule(connection, name, version, "schedule", clock.now(), "not understood any more")


def put_shadow(connection: Connection, desk: Desk, name: str, document: str, by: str) -> Row:
    """Tried on what happens from now on, beside the policy in force, which may be the built-in one."""
    if name != DEFAULT.name and policy_store.active(connection, name) is None:
        raise NotFound(f"there is no policy {name}")
    _require_queues(desk, policies.compile(document, name, 0))
    return shadow_store.put(connection, name, document, by, clock.now())


def end_shadow(connection: Connection, _desk: Desk, name: str) -> Row:
    return shadow_store.end(connection, name)


def get_policy(connection: Connection, name: str) -> Row:
    """The version in force, or where there is none the newest; the built-in policy under its name."""
    row = policy_store.active(connection, name) or next(iter(policy_store.versions(connection, name)), None)
    if row is None and name == DEFAULT.name:
        return {"name": name, "version": 0, "state": "active", "document": policies.render(DEFAULT)}
    if row is None:
        raise NotFound(f"there is no policy {name}")
    return _policy(row)


def list_policies(connection: Connection) -> Row:
    return {"policies": [_policy(row) for row in policy_store.all_active(connection)]}


def policy_history(connection: Connection, name: str) -> Row:
    """Every version and every step, the newest first."""
    versions = [_policy(row) for row in policy_store.versions(connection, name)]
    if not versions:
        raise NotFound(f"there is no policy {name}")
    steps = [{**row, "at": clock.to_text(row["at"])} for row in policy_store.history(connection, name)]
    return {"versions": versions, "history": steps}


def diff_policy(connection: Connection, name: str, document: str | None, version: int | None) -> Row:
    """What would change: the version in force against a document, or against one of its versions."""
    if document is not None:
        other = policies.compile(document, name, 0)
    elif version is not None:
        other = policy_store.compiled(policy_store.find(connection, name, version))
    else:
        raise NotFound("name a version, or send a document, to compare with")
    return {"changes": policies.diff(_running(connection, name), other)}


def waiting_under(desk: Desk, name: str, elsewhere: Iterable[Contact] = ()) -> tuple[Policy, list[Row]]:
    """The policy that runs, and what it may ask of those who wait now in the queues with it, `elsewhere` being those of other shards."""
    everybody = chain(desk.contacts.values(), (contact for contact in elsewhere if contact.queue in desk.queues))
    waiting = (contact for contact in everybody if contact.state in ("waiting", "offered"))
    concerned = islice((contact for contact in waiting if desk.queues[contact.queue].policy == name), DRY_RUN_CONTACTS)
    facts = [
        {
            **desk.facts_of(contact),
            "id": contact.id,
            "waited": max(0.0, clock.now() - contact.place_at),
            "skills": highest(desk.queues[contact.queue].required_skills, contact.required_skills),
            "preferred": contact.wants.get("preferred_skills", ()),
        }
        for contact in concerned
    ]
    return desk.policies.get(name, DEFAULT), facts


def dry_run_policy(name: str, document: str, running: Policy, waiting: Iterable[Row]) -> Row:
    """What a document would mean for those who wait (see `waiting_under`). Long rules take seconds for many: others have their turn between."""
    policy = policies.compile(document, name, 0, breathe=partial(time.sleep, 0))

    def one_by_one() -> Iterator[Row]:
        for facts in waiting:
            yield facts
            time.sleep(0)

    return {"changes": policies.diff(running, policy), **policies.dry_run(policy, one_by_one(), running)}


def _running(connection: Connection, name: str) -> Policy:
    row = policy_store.active(connection, name)
    return policy_store.compiled(row) if row else DEFAULT


def _policy(row: Row) -> Row:
    return {**row, "created_at": clock.to_text(row["created_at"]), "starts_at": row["starts_at"] and clock.to_text(row["starts_at"])}


# ---- calendars and closures


def prepare_calendar(document: Row) -> None:
    """As `prepare_policy`: the holidays of some countries take a while when they are first worked out."""
    checked, year = calendars.check(document), datetime.fromtimestamp(clock.now(), UTC).year
    for country in checked.get("countries") or ():
        calendars.compile({**checked, "countries": [country]}, (year - 1, year, year + 1))
        time.sleep(0)


def put_calendar(connection: Connection, _desk: Desk, name: str, document: Row, by: str) -> Row:
    return _calendar(calendar_store.put_calendar(connection, name, calendars.check({**document, "name": name}), by=by, now=clock.now()))


def get_calendar(connection: Connection, name: str) -> Row:
    return _calendar(calendar_store.get_calendar(connection, name))


def put_closure(connection: Connection, desk: Desk, request: Row, by: str) -> Row:
    """Close, or hold open, at once. In an emergency those who wait are told so too."""
    now = clock.now()
    new = calendars.closure(request, id=new_id(), by=by, now=now)
    for queue in new.queues:
        if queue not in desk.queues:
            raise NotFound(f"there is no queue {queue}")
    calendar_store.add_closure(connection, new)
    return _closure(new)


def turn_away(desk: Desk, closures: Iterable[Closure], now: float) -> None:
    """Those who waited when an emergency closed their queues. Said again, it reaches whom it has not reached yet."""
    for closure in closures:
        if closure.kind == EMERGENCY and closure.in_force(now):
            desk.turn_away(set(closure.queues) or None, now, EMERGENCY, closure.since)


def end_closure(connection: Connection, _desk: Desk, closure_id: str, by: str) -> Row:
    return _closure(calendar_store.end_closure(connection, closure_id, by=by, now=clock.now()))


def list_closures(connection: Connection) -> Row:
    """Those of the last year and those in force, the newest first."""
    return {"closures": [_closure(one) for one in calendar_store.closures_since(connection, clock.now() - CLOSURES_SECONDS)]}


def _calendar(row: Row) -> Row:
    return {**row, "changed_at": clock.to_text(row["changed_at"])}


def _closure(closure: Closure) -> Row:
    moments = {name: getattr(closure, name) for name in ("since", "until", "ended_at")}
    told = {name: None if moment is None else clock.to_text(moment) for name, moment in moments.items()}
    return {**vars(closure), "queues": list(closure.queues), "message": dict(closure.message), **told}


# ---- dispositions


def put_dispositions(connection: Connection, _desk: Desk, name: str, document: Row, by: str) -> Row:
    tree = disposition_store.put(connection, name, document, created_by=by, now=clock.now())
    return _tree(disposition_store.document(connection, name, tree.version))


def get_dispositions(connection: Connection, name: str) -> Row:
    return _tree(disposition_store.document(connection, name))


def _tree(row: Row) -> Row:
    return {**row, "created_at": clock.to_text(row["created_at"])}
