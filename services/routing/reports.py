"""The figures: what happened per queue and per agent, and how things stand now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Select, Text, and_, case, cast, func, or_, select, true

from services.routing import policy_store, store
from services.routing.domain.estimate import Errors
from services.routing.domain.evidence import BEYOND_BELIEF_SECONDS, LegFacts, Suspicion, is_believable, suspicions
from services.routing.domain.foresight import Experience
from services.routing.domain.intervals import ServiceLevel, Tally
from services.routing.domain.matters import Matter, is_late
from services.routing.scope import hidden_agents, of_queue
from services.routing.store import leg
from shared import clock
from shared.errors import NotFound

OPEN = ("waiting", "talking")
ANSWERED = ("talking", "completed", "transferred")
MOST_MATTERS = 1000
NOT_TO_BE_SERVED = ("wrong_number", "refused")
"""Callbacks that were answered, and yet no conversation."""
OTHERWISE = ("left_empty", "withdrawn", "overflowed", "callback", "closed")
EXITS = {"abandoned": "abandoned", "timed_out": "timed_out", "left_by_key": "left_by_key"}
LOOK_BACK_SECONDS = 7200.0
"""By so much a call may be older than another on which it throws light."""
LATEST_OF_A_QUEUE = 1000
"""So many who have left it, within a day, tell beside all who are there who stood before whom: enough of them where the queue is long, too."""
FACTS = [leg.c[name] for name in ("contact", "number", "queue", "agent", "position", "arrived_at", "answered_at", "ended_at", "address")]
"""What LegFacts wants, in its order."""

Suspicions = dict[tuple[str, int], Suspicion]

Filters = Mapping[str, Any]


def queues(connection: Connection, filters: Filters) -> dict[str, Any]:
    """Per queue: contacts offered and what became of them. Seconds are the telephony system's own where it tells them;
    columns named in `estimated` hold some that were taken from clocks. `uncertain` lists the legs whose end is in doubt."""
    return {"queues": _queues(connection, filters, suspected_legs(connection, filters.get("source")))}


def _queues(connection: Connection, filters: Filters, suspected: Suspicions) -> list[dict[str, Any]]:
    doubts = _doubts(connection, filters, suspected)
    rows = {row["queue"]: dict(row) for row in connection.execute(_queue_query(filters)).mappings()}
    definitions = service_levels(connection)
    missed = _missed_by(connection, leg.c.queue, filters)
    estimated = _estimated(connection, filters)
    for name, row in rows.items():
        unheard = row.pop("unheard")
        row["ring_no_answer"] = None if unheard == row["offered"] else missed.get(name, 0)
        tally = tally_of({key: row.pop(key) for key in ("in_time", "decided", "short_abandoned")} | {"abandoned": row["abandoned"]})
        row["service_level"] = definitions.get(name, ServiceLevel()).share(tally)
        row["estimated"] = sorted(estimated.get(name, ()))
        row["uncertain"] = doubts.get(name, [])
        for doubt in row["uncertain"]:
            if doubt["over"]:
                row[doubt["state"]] -= 1
    return [rows[name] for name in sorted(rows)]


def recent(since: float) -> Select[Any]:
    """What became of the contacts of each queue that arrived since then; `tally_of` counts a row for its service level."""
    return _queue_query({"from": since})


def tally_of(row: Mapping[str, Any]) -> Tally:
    return Tally(row["decided"], row["in_time"], row["abandoned"], row["short_abandoned"])


def longest_waits() -> Select[Any]:
    """(queue, since when the first in line has been waiting)"""
    waiting = leg.c.outcome == "waiting", leg.c.kind != "callback"
    return select(leg.c.queue, func.min(leg.c.arrived_at)).where(*waiting).group_by(leg.c.queue)


def _queue_query(filters: Filters) -> Select[Any]:
    answered = leg.c.outcome.in_(ANSWERED)
    threshold = func.coalesce(store.queue.c.service_level_seconds, ServiceLevel().threshold_seconds)
    return (
        select(
            leg.c.queue,
            func.count().label("offered"),
            _count(answered).label("answered"),
            *[_count(leg.c.outcome == outcome).label(name) for name, outcome in EXITS.items()],
            _count(leg.c.outcome.in_(OTHERWISE)).label("left_otherwise"),
            _count(leg.c.outcome == "lost").label("lost"),
            _count(leg.c.outcome == "waiting").label("waiting"),
            _count(leg.c.outcome == "talking").label("talking"),
            _sum(leg.c.hold_seconds, answered).label("hold_seconds"),
            _sum(leg.c.talk_seconds, answered).label("talk_seconds"),
            _count(leg.c.missed.is_(None)).label("unheard"),
            _count(and_(answered, leg.c.hold_seconds <= threshold)).label("in_time"),
            _count(leg.c.outcome != "waiting").label("decided"),
            _count(and_(leg.c.outcome == "abandoned", leg.c.hold_seconds < func.coalesce(store.queue.c.short_abandon_seconds, 0.0))).label(
                "short_abandoned"
            ),
        )
        .join(store.queue, store.queue.c.name == leg.c.queue, isouter=True)
        .where(within(filters))
        .group_by(leg.c.queue)
    )


def service_levels(connection: Connection) -> dict[str, ServiceLevel]:
    """The service level of each queue as its settings define it; queues without settings have the defaults."""
    columns = (
        store.queue.c[name]
        for name in ("name", "service_level_seconds", "short_abandon_seconds", "abandons_count", "service_level_unit", "policy")
    )
    targets = policy_store.targets(connection)
    return {
        name: ServiceLevel(threshold, short, bool(count), unit, targets.get(policy))
        for name, threshold, short, count, unit, policy in connection.execute(select(*columns))
    }


def agents(connection: Connection, filters: Filters) -> dict[str, Any]:
    """Per agent: contacts answered, seconds talked, rings not answered. PBX names that belong to an agent of the directory are his."""
    names = directory(connection)
    hidden, filters = hidden_agents(connection, filters.get("scope")), {**filters, "scope": None}
    figures: dict[str, dict[str, Any]] = {}

    def row(agent: str) -> dict[str, Any]:
        known = names.get(agent)
        name = known["name"] if known else agent
        blank = {"agent": name, "id": known and known["id"], "answered": 0, "talk_seconds": 0.0, "ring_no_answer": 0}
        return figures.setdefault(name, blank)

    who = func.coalesce(leg.c.agent, leg.c.address)
    answered = select(
        who.label("agent"), func.count().label("answered"), func.coalesce(func.sum(leg.c.talk_seconds), 0.0).label("talk_seconds")
    )
    for found in connection.execute(
        answered.where(within(filters), leg.c.outcome.in_(ANSWERED), who.is_not(None)).group_by(who)
    ).mappings():
        mine = row(found["agent"])
        mine["answered"] += found["answered"]
        mine["talk_seconds"] += found["talk_seconds"]
    for agent, count in _missed_by(connection, None, filters).items():
        row(agent)["ring_no_answer"] += count
    heard = connection.scalar(select(leg.c.contact).where(within(filters), leg.c.missed.is_not(None)).limit(1))
    if heard is None:  # nobody who would know has told anything
        for figure in figures.values():
            figure["ring_no_answer"] = None
    return {"agents": [figures[name] for name in sorted(figures) if figures[name]["id"] not in hidden]}


def live(connection: Connection, since: float) -> dict[str, Any]:
    """The wallboard: queues since `since` (epoch seconds) and how they stand, agents and what they do."""
    suspected = suspected_legs(connection)
    report = _queues(connection, {"from": since}, suspected)
    known = {row.name: row.mode for row in connection.execute(select(store.queue.c.name, store.queue.c.mode))}
    waits = {row[0]: row[1] for row in connection.execute(longest_waits())}
    shown = ("queue", "offered", "waiting", "talking", "answered", "abandoned", "timed_out", "left_by_key", "service_level")
    rows = {row["queue"]: {name: row[name] for name in shown} for row in report}
    for name in known.keys() - rows.keys():
        rows[name] = {**dict.fromkeys(shown, 0), "queue": name, "service_level": None}
    for row in report:
        for doubt in row["uncertain"]:
            if doubt["state"] in OPEN and not doubt["over"]:  # nobody knows whether it goes on: nothing to show as live
                rows[row["queue"]][doubt["state"]] -= 1
    for name, row in rows.items():
        row["mode"] = known.get(name, "observed")
        row["longest_wait_since"] = waits.get(name) if row["waiting"] else None
    return {"queues": [rows[name] for name in sorted(rows)], "agents": _agents_now(connection, suspected)}


def _agents_now(connection: Connection, suspected: Suspicions) -> list[dict[str, Any]]:
    names = directory(connection)
    states: dict[str, dict[str, Any]] = {}

    def name_of(agent: str) -> str:
        return str(names[agent]["name"]) if agent in names else agent

    def note(agent: str, state: str, reason: str | None, since: float | None, queue: str | None = None) -> None:
        name = name_of(agent)
        states[name] = {"agent": name, "state": state, "reason": reason or None, "since": since, "queue": queue}

    for row in connection.execute(select(store.observed_agent).order_by(store.observed_agent.c.since)):
        paused_elsewhere = row.state == "available" and row.queue and states.get(name_of(row.agent), {}).get("state") == "paused"
        if not paused_elsewhere:
            note(row.agent, row.state, row.reason, row.since)
    for row in connection.execute(select(store.agent)):
        if row.state != "offline" or name_of(row.id) not in states:
            note(row.id, row.state, row.reason, row.since or None)
    for row in connection.execute(select(leg).where(leg.c.outcome.in_(OPEN), leg.c.observed)):
        if (row.contact, row.number) in suspected:
            continue
        if row.outcome == "talking" and (row.agent or row.address):
            note(row.agent or row.address, "busy", None, row.answered_at, row.queue)
        for agent in row.ringing or [] if row.outcome == "waiting" else []:
            note(agent, "offered", None, row.arrived_at, row.queue)
    return [states[name] for name in sorted(states)]


def directory(connection: Connection) -> dict[str, dict[str, Any]]:
    """Every name under which an agent is known -> id and name."""
    found: dict[str, dict[str, Any]] = {}
    for row in connection.execute(select(store.agent.c.id, store.agent.c.name, store.agent.c.address, store.agent.c.aliases)):
        for alias in {row.id, row.name, row.address, *row.aliases} - {""}:
            found[alias] = {"id": row.id, "name": row.name or row.id}
    return found


def within(filters: Filters) -> ColumnElement[bool]:
    """The legs that filters (from, to, source, queue, kind, scope) leave over. Callbacks are among them only where that kind is asked for."""
    kind = filters.get("kind")
    conditions = [leg.c.outcome != "void", leg.c.kind == kind if kind else leg.c.kind != "callback"]
    if (start := filters.get("from")) is not None:
        conditions.append(leg.c.arrived_at >= start)
    if (end := filters.get("to")) is not None:
        conditions.append(leg.c.arrived_at < end)
    if source := filters.get("source"):
        conditions.append(leg.c.source == source)
    if queue := filters.get("queue"):
        conditions.append(leg.c.queue == queue)
    conditions.append(of_queue(leg.c.queue, filters.get("scope")))
    return and_(*conditions)


def _missed_by(connection: Connection, column: Any, filters: Filters) -> dict[str, int]:
    """Rings not answered by the column, or by agent."""
    each = func.json_each_text(leg.c.missed) if connection.dialect.name == "postgresql" else func.json_each(leg.c.missed)
    rings = (
        each.table_valued("key", "value").lateral("rings")
        if connection.dialect.name == "postgresql"
        else each.table_valued("key", "value", name="rings")
    )
    by = rings.c.key if column is None else column
    total = func.sum(rings.c.value.cast(store.leg.c.number.type))
    query = select(by, total).select_from(leg).join(rings, true()).where(within(filters), leg.c.missed.is_not(None)).group_by(by)
    return {name: int(count) for name, count in connection.execute(query)}


def _estimated(connection: Connection, filters: Filters) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    names = cast(leg.c.estimated, Text)  # as text, for PostgreSQL compares no JSON; most are empty
    query = select(leg.c.queue, names).where(within(filters), leg.c.outcome.in_(ANSWERED), names != "[]").distinct()
    for queue, estimated in connection.execute(query):
        found[queue].update(name for name in orjson.loads(estimated) if name in ("hold_seconds", "talk_seconds"))
    return found


def _doubts(connection: Connection, filters: Filters, suspicions: Suspicions) -> dict[str, list[dict[str, Any]]]:
    """By queue, the legs whose end is uncertain: by their own story, by what other calls tell, or because nobody tells anything."""
    listed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    suspects = or_(leg.c.uncertain.is_not(None), leg.c.contact.in_({contact for contact, _ in suspicions}))
    for row in connection.execute(select(leg).where(within(filters), suspects).order_by(leg.c.arrived_at)):
        suspicion = suspicions.get((row.contact, row.number))
        why = suspicion.why if suspicion else row.uncertain
        if why:
            over = bool(suspicion and suspicion.over)
            who = row.agent or row.address
            listed[row.queue].append(
                {"contact": row.contact, "leg": row.number, "call": row.call, "agent": who, "state": row.outcome, "over": over, "why": why}
            )
    return listed


def suspected_legs(connection: Connection, of_source: str | None = None) -> Suspicions:
    """What there is to say against the observed legs that are open by their own story, source by source.

    A day of a large centre has more legs than can be read at each look: besides the open ones these are the latest that left a queue in
    which somebody waits. Of who talks the database tells the newest answer."""
    found: Suspicions = {}
    open_legs: dict[str, list[LegFacts]] = defaultdict(list)
    is_open = and_(leg.c.outcome.in_(OPEN), leg.c.observed, leg.c.source == of_source if of_source else true())
    for source, *told in connection.execute(select(leg.c.source, *FACTS).where(is_open)):
        open_legs[source].append(LegFacts(*told))
    for source, legs in open_legs.items():
        now = clock.now()
        news = _news(connection, source, legs, now)
        believable = [one for one in legs if is_believable(one, news)]
        known = {(one.contact, one.leg): one for one in legs}
        for queue in {one.queue for one in believable if one.answered_at is None}:
            known |= {(one.contact, one.leg): one for one in _latest(connection, source, queue, news - BEYOND_BELIEF_SECONDS)}
        answered = [one.answered_at for one in believable if one.answered_at is not None]
        last_answers = _last_answers(connection, source, min(answered)) if answered else {}
        found |= suspicions(known.values(), now, news, last_answers)
    return found


def _news(connection: Connection, source: str, open_legs: Iterable[LegFacts], now: float) -> float:
    """The newest moment that a source has told."""
    told = [leg.c.source == source, leg.c.outcome != "void"]
    newest = connection.scalar(select(func.max(leg.c.arrived_at)).where(*told))
    moments = [moment for one in open_legs for moment in (one.arrived_at, one.answered_at)]
    if newest is not None:
        of_all = (func.max(leg.c[name]) for name in ("arrived_at", "answered_at", "ended_at"))
        moments += connection.execute(select(*of_all).where(*told, leg.c.arrived_at >= newest - LOOK_BACK_SECONDS)).one()
    return max((moment for moment in moments if moment is not None), default=now)


def _latest(connection: Connection, source: str, queue: str, start: float) -> list[LegFacts]:
    told = leg.c.source == source, leg.c.outcome.not_in(("void", *OPEN)), leg.c.queue == queue, leg.c.arrived_at >= start
    rows = connection.execute(select(*FACTS).where(*told).order_by(leg.c.arrived_at.desc()).limit(LATEST_OF_A_QUEUE))
    return [LegFacts(*row) for row in rows]


def _last_answers(connection: Connection, source: str, start: float) -> dict[str, float]:
    """By agent (or address), of the answers after `start`."""
    who = func.coalesce(func.nullif(leg.c.agent, ""), func.nullif(leg.c.address, ""))
    told = leg.c.source == source, leg.c.outcome != "void", leg.c.arrived_at >= start - LOOK_BACK_SECONDS, leg.c.answered_at > start
    rows = connection.execute(select(who, func.max(leg.c.answered_at)).where(*told, who.is_not(None)).group_by(who))
    return {row[0]: row[1] for row in rows}


def callbacks(connection: Connection, filters: Filters) -> dict[str, Any]:
    """Callbacks per queue, apart from calls: promised in the period, and what became of each; seconds from the promise to the conversation.
    One that was passed on before it was reached is promised again in the queue that it went to."""
    answered = leg.c.outcome.in_(ANSWERED) & leg.c.answered_at.is_not(None)
    in_vain, unanswered = leg.c.outcome == "abandoned", leg.c.answered_at.is_(None)
    query = select(
        leg.c.queue,
        func.count().label("promised"),
        _count(answered).label("connected"),
        *[_count(and_(in_vain, leg.c.ended_by == outcome)).label(outcome) for outcome in NOT_TO_BE_SERVED],
        _count(and_(in_vain, func.coalesce(leg.c.ended_by, "").not_in(NOT_TO_BE_SERVED))).label("given_up"),
        _count(and_(leg.c.outcome == "transferred", unanswered)).label("passed_on"),
        _count(and_(leg.c.outcome.in_(OPEN), unanswered)).label("open"),
        _count(leg.c.outcome == "withdrawn").label("merged_or_cancelled"),
        _sum(leg.c.hold_seconds, answered).label("hold_seconds"),
        _sum(leg.c.talk_seconds, answered).label("talk_seconds"),
    )
    rows = connection.execute(query.where(within({**filters, "kind": "callback"})).group_by(leg.c.queue).order_by(leg.c.queue)).mappings()
    return {"callbacks": [dict(row) for row in rows]}


def open_matters(connection: Connection, filters: Filters) -> dict[str, Any]:
    """Matters in writing that are not settled, those first whose reply is due first; `late` beyond its target."""
    now = clock.now()
    in_sight = of_queue(store.contact.c.queue, filters.get("scope"))
    unsettled = store.contact.c.ended_at.is_(None), store.contact.c.matter.is_not(None), in_sight
    queue = filters.get("queue")
    found = connection.execute(select(store.contact).where(*unsettled, store.contact.c.queue == queue if queue else true())).mappings()
    rows = [(Matter.from_dict(row["matter"]), row) for row in found]
    rows.sort(key=lambda pair: (pair[0].reply_due is None, pair[0].reply_due or 0.0, pair[1]["id"]))
    return {
        "matters": [
            {
                "contact": row["id"],
                "thread": matter.thread,
                "queue": row["queue"],
                "channel": row["channel"],
                "state": row["state"],
                "owner": matter.owner,
                "replies": matter.replies,
                "reply_due_at": None if matter.reply_due is None else clock.to_text(matter.reply_due),
                "late": is_late(matter, now),
            }
            for matter, row in rows[:MOST_MATTERS]
        ],
        "late": sum(is_late(matter, now) for matter, _ in rows),
        "open": len(rows),
    }


def estimates(connection: Connection, filters: Filters) -> dict[str, Any]:
    """Per queue how far the waits foretold on arrival were from what then happened: of those who arrived in a period (from, to), or since the
    queue's first contact where none is named. `factor`: by which estimates are corrected now."""
    wanted = filters.get("queue")
    in_sight = of_queue(store.experience.c.queue, filters.get("scope"))
    learnt = {name: Experience.from_row(row) for name, row in store.load_experience(connection, in_sight).items()}
    errors = {name: one.calibration.errors for name, one in learnt.items() if wanted in (None, name)}
    if any(filters.get(name) is not None for name in ("from", "to", "source")):
        errors = _errors_within(connection, filters)
    factors = {name: round(learnt.get(name, Experience()).calibration.factor, 3) for name in errors}
    return {"estimates": [{"queue": name, "factor": factors[name], **one.figures()} for name, one in sorted(errors.items())]}


def _errors_within(connection: Connection, filters: Filters) -> dict[str, Errors]:
    """By queue, from the legs: the sums that `Errors.add` and `add_abandoned` make."""
    foretold, actual, least = leg.c.estimate, leg.c.hold_seconds, Errors.AT_ONCE_SECONDS
    answered, abandoned = leg.c.outcome.in_(ANSWERED), leg.c.outcome == "abandoned"
    waited = and_(answered, or_(foretold > least, actual > least))
    apart = func.abs(foretold - actual)
    half, thirty = apart <= actual / 2, apart <= 30
    query = select(
        leg.c.queue,
        _count(waited).label("answered"),
        _sum(apart, waited).label("absolute"),
        _sum(foretold - actual, waited).label("signed"),
        _count(and_(waited, half)).label("half"),
        _count(and_(waited, thirty)).label("thirty"),
        _count(and_(waited, or_(half, thirty))).label("either"),
        _count(and_(answered, foretold <= least, actual <= least)).label("at_once"),
        _count(abandoned).label("abandoned"),
        _count(and_(abandoned, actual > foretold + least)).label("outlasted"),
    ).where(within(filters), foretold.is_not(None), actual.is_not(None), or_(answered, abandoned))
    rows = connection.execute(query.group_by(leg.c.queue)).mappings()
    return {row["queue"]: Errors(**{name: row[name] for name in row if name != "queue"}) for row in rows}


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sum(column: Any, condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, column), else_=0.0)), 0.0)


def contact(connection: Connection, id: str) -> dict[str, Any]:
    """One contact, leg by leg. Raises NotFound."""
    rows = connection.execute(select(leg).where(leg.c.contact == id, leg.c.outcome != "void").order_by(leg.c.number)).mappings().all()
    if not rows:
        raise NotFound(f"no contact {id}")
    hidden = ("contact", "sequence", "source", "channel", "observed")
    first = rows[0]
    legs = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
    on_desk: Mapping[Any, Any] = connection.execute(select(store.contact).where(store.contact.c.id == id)).mappings().first() or {}
    told = {name: on_desk[name] for name in ("conference", "disposition", "customer") if on_desk.get(name)}
    whole = {"contact": id, "source": first["source"], "channel": first["channel"], "observed": bool(first["observed"])}
    return {**whole, **told, "legs": legs}
