"""The centre's own contact log as a record of calls, and what another policy would have made of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, or_, select

from services.routing import policy_store, score_store, store
from services.routing.domain.entities import Agent, Queue
from services.routing.domain.needs import Score
from services.routing.domain.policy import DEFAULT
from services.routing.interval_store import agent_span
from services.routing.simulation.play import Shift, Worker
from services.routing.simulation.scenario import Record, Scenario, staffing
from shared.errors import NotFound

ANSWERED, GAVE_UP = ("completed", "transferred"), ("abandoned",)
PROFILE = ("languages", "regions", "site", "employment", "pool", "channels", "queues", "capacity")
MOST = 200_000
"""Contacts in one replay: what fits into some hundred megabytes."""


class Log(NamedTuple):
    """A stretch of the log: its contacts as a record, who was there when, and the policies in force now, by name, as documents."""

    record: Record
    agents: Sequence[Worker]
    shifts: Sequence[Shift]
    policies: Mapping[str, str]
    left_out: int  # stays in a queue that were neither answered nor given up: overflows, callbacks, those not yet over


def read(connection: Connection, since: float, until: float, scenario: Scenario) -> Log:
    """Contacts that joined a queue from `since` until `until`, observed or routed. Raises NotFound where there is none to be played.

    Agents are there as they signed in; observed ones, of whom nobody tells that, as their calls show (see `scenario.staffing`).
    """
    legs = _legs(connection, since, until)
    played = [leg for leg in legs if _outcome(leg) is not None]
    if not played:
        raise NotFound("no contact of that time was answered or given up in a queue, so there is nothing to replay")
    rows = store.fetch(connection, select(*store.AGENT_FIELDS))
    known = {
        name: agent.id for agent in map(Agent.from_row, rows) for name in (agent.id, agent.name, agent.address, *agent.aliases) if name
    }
    played.sort(key=lambda leg: leg["arrived_at"])
    queues = _queues(connection, {leg["queue"] for leg in played})
    facts = [dict(leg["facts"] or {}) for leg in played]
    values = np.array([_value(one) for one in facts])
    record = Record(
        np.array([leg["arrived_at"] for leg in played]),
        [leg["queue"] for leg in played],
        [leg["customer"] or "" for leg in played],
        np.array([_waited(leg) for leg in played]),
        np.array([bool(_outcome(leg)) for leg in played]),
        np.array([_talked(leg) if _outcome(leg) else 0.0 for leg in played]),
        [known.get(leg["agent"] or "", leg["agent"] or "") if _outcome(leg) else "" for leg in played],
        np.zeros(len(played), dtype=int),
        [f"{leg['contact']}/{leg['number']}" for leg in played],
        facts,
        [leg["wants"] or {} for leg in played],
        [leg["required_skills"] or {} for leg in played],
        values,
        queues,
    )
    agents, shifts = _staff(connection, rows, record, since, until, scenario)
    policies = {row["name"]: row["document"] for row in policy_store.all_active(connection)}
    return Log(record, agents, shifts, policies, len(legs) - len(played))


def _legs(connection: Connection, since: float, until: float) -> list[dict[str, Any]]:
    leg, contact = store.leg, store.contact
    told = (contact.c.facts, contact.c.wants, contact.c.required_skills, contact.c.customer)
    query = (
        select(leg, *told)
        .join(contact, contact.c.id == leg.c.contact, isouter=True)
        .where(leg.c.arrived_at >= since, leg.c.arrived_at < until)
        .order_by(leg.c.arrived_at.desc())
        .limit(MOST)
    )
    return store.fetch(connection, query)


def _outcome(leg: Mapping[str, Any]) -> bool | None:
    """Whether it was answered; None where it is not for us to play: a callback, or not over, or gone on to another queue."""
    if leg["kind"] == "callback" or (leg["ended_at"] is None and leg["outcome"] in GAVE_UP):
        return None
    if leg["outcome"] in ANSWERED and leg["answered_at"] is not None and leg["ended_at"] is not None:
        return True
    return False if leg["outcome"] in GAVE_UP else None


def _waited(leg: Mapping[str, Any]) -> float:
    until = leg["answered_at"] if _outcome(leg) else leg["ended_at"]
    return max(0.0, float(until - leg["arrived_at"]))


def _talked(leg: Mapping[str, Any]) -> float:
    return max(0.0, float(leg["ended_at"] - leg["answered_at"]))


def _value(facts: Mapping[str, Any]) -> float:
    value = facts.get("value")
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if good and value is not None else 1.0


def _queues(connection: Connection, names: set[str]) -> list[Queue]:
    """As they are now, all of them routed: overflows may name others than those that were called."""
    found = {row["name"]: Queue.from_row(row) for row in store.fetch(connection, select(store.queue))}
    queues = [*found.values(), *(Queue(name) for name in sorted(names - found.keys()))]
    return [replace(queue, mode="routed", wrap_up=False) for queue in queues]


def _staff(
    connection: Connection, rows: Sequence[Mapping[str, Any]], record: Record, since: float, until: float, scenario: Scenario
) -> tuple[list[Worker], list[Shift]]:
    query = select(agent_span).where(
        agent_span.c.since < until, or_(agent_span.c.until.is_(None), agent_span.c.until > since), agent_span.c.presence == "available"
    )
    present: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in store.fetch(connection, query.order_by(agent_span.c.agent, agent_span.c.seq)):
        start, end = max(since, span["since"]), min(until, span["until"] if span["until"] is not None else until)
        mine = present[span["agent"]]
        if mine and start <= mine[-1][1]:
            mine[-1] = (mine[-1][0], max(end, mine[-1][1]))
        elif end > start:
            mine.append((start, end))
    seen, seen_shifts = staffing(record, scenario)
    workers, shifts = [], []
    for row in rows:
        if row["id"] in present:
            told = {name: row[name] for name in PROFILE} | {"channels": _channels(row)}
            workers.append(Worker(row["id"], row["skills"], told, _scores(connection, row)))
            shifts += [Shift(row["id"], *span) for span in present[row["id"]]]
    for worker in seen:
        if worker.id not in present:
            served = sorted({queue for queue, agent in zip(record.kind, record.agent, strict=True) if agent == worker.id})
            profile = next((row for row in rows if row["id"] == worker.id), None)
            kept = {name: profile[name] for name in PROFILE} | {"channels": _channels(profile)} if profile else {"queues": served}
            workers.append(Worker(worker.id, profile["skills"] if profile else {}, kept, _scores(connection, profile)))
            shifts += [shift for shift in seen_shifts if shift.agent == worker.id]
    return workers, sorted(shifts, key=lambda shift: (shift.since, shift.agent))


def _scores(connection: Connection, row: Mapping[str, Any] | None) -> dict[str, Score]:
    """How well they do as it is known now, whatever was known then."""
    if row is None:
        return {}
    names = {row["id"], row["address"], *row["aliases"]} - {""}
    return {card: score._replace(until=math.inf) for card, score in score_store.scores_of(connection, names).items()}


def _channels(row: Mapping[str, Any]) -> list[str]:
    """Certificates as they are now; what has ended since is taken as held."""
    return sorted({*row["channels"], *(row["certificates"] or ())})


def changed(log: Log, document: str, name: str | None) -> dict[str, str]:
    """The policies with this document in the place of one of them; of every policy that a queue of the log goes by, where none is named.
    `standard` is the built-in one: of all queues that name none, or one that is not in force."""
    busy = set(log.record.kind)
    names = {queue.policy for queue in log.record.queues if queue.name in busy}
    if name == DEFAULT.name:
        names = {one for one in names if one not in log.policies} | {name}
    elif name is not None:
        names = {name}
    return {**log.policies, **dict.fromkeys(names, document)}


def scenario_of(zone: ZoneInfo) -> Scenario:
    """Nothing is drawn but what nobody can know: how long those would have stayed who were answered."""
    return Scenario(timezone=zone.key)
