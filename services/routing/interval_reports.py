"""Figures by interval of a site's clock, which add up to the reports of the whole period; what is not final yet, and what was restated.

A leg belongs to the interval in which it arrived in its queue, with all that became of it later: so does its talk, and the amount noted at its
wrap-up. An agent's time in a state belongs to the intervals in which it was spent.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Subquery, and_, case, cast, func, insert, literal, or_, select, true, update

from services.routing import reports
from services.routing.domain import errors as domain
from services.routing.domain.intervals import (
    FACTS,
    FIGURES,
    MICROS,
    MONEY,
    STEPS,
    Figures,
    Grid,
    Interval,
    ServiceLevel,
    State,
    Tally,
    Value,
    occupancy,
    signed_in,
    zone_called,
)
from services.routing.interval_store import (
    GRACE_SECONDS,
    KEY,
    QUARTER,
    agent_span,
    contact_outcome,
    interval_progress,
    interval_restatement,
    interval_state,
    quarter,
    states_of,
)
from services.routing.reports import ANSWERED, EXITS, OPEN, OTHERWISE, Filters, within
from services.routing.scope import hidden_agents, of_queue
from services.routing.store import leg
from shared import clock, errors
from shared.db import bulk

DAY = 86400
MAX_ROWS = 20_000

Cell = tuple[str, int]
"""Of a report: the queue (or agent), and the number of the interval."""

QUEUE_COLUMNS = (
    "queue", "label", "start", "end", "whole", "provisional", "offered", "answered", "answered_in_time", "abandoned", "short_abandoned", "timed_out",
    "left_by_key", "left_otherwise", "lost", "waiting", "talking", "hold_seconds", "talk_seconds", "wait_seconds", "wait_max_seconds",
    "service_level_of", "service_level", "target", "target_met", "outcomes", "resolved", "amount", "amount_per_contact", "restated_at", "restated_count", "before",
)  # fmt: skip
AGENT_COLUMNS = (
    "agent", "id", "label", "start", "end", "whole", "provisional", "signed_in_seconds", "states", "reasons", "wrap_up_seconds", "occupancy",
    "answered", "talk_seconds", "ring_no_answer", "outcomes", "resolved", "dispositions", "amount", "amount_per_contact",
)  # fmt: skip


# ---- queues


def queue_intervals(
    connection: Connection,
    filters: Filters,
    step: str,
    zone: str,
    *,
    grace: float = GRACE_SECONDS,
    definitions: Mapping[str, ServiceLevel] | None = None,
) -> dict[str, Any]:
    """Per queue and interval what became of the contacts that arrived in it, and per queue the totals, which are those of reports.queues.

    `filters`: from, to (epoch seconds, both needed), source, queue, kind (inbound, transfer or callback; none: all but callbacks). Only
    intervals in which something arrived, or once had, have a row. `definitions` of the service level are the queues' own unless given. Raises Invalid.
    """
    grid = _grid(filters, step, zone)
    now = clock.now()
    definitions = reports.service_levels(connection) if definitions is None else definitions
    found = _figures_by_cell(connection, grid, filters, definitions)
    tallies = _tallies_by_contact(connection, grid, filters, definitions)
    values = _values(connection, grid, filters, leg.c.queue)
    waiting_on = _open_cells(connection, grid, filters, found)
    restated = _restated(connection, grid, filters, grace)
    rows: list[dict[str, Any]] = []
    sums: dict[str, _Sum] = {}
    for queue, index in sorted(found.keys() | tallies.keys() | restated.keys()):
        interval, key = grid.intervals[index], (queue, index)
        definition = definitions.get(queue, ServiceLevel())
        figures, value = found.get(key, Figures()), values.get(key, Value())
        tally = tallies.get(key, Tally()) if definition.unit == "contacts" else figures.tally
        provisional = now < interval.end + grace or key in waiting_on
        rows.append(
            {
                "queue": queue,
                **_time(interval),
                "provisional": provisional,
                **_shown(figures, definition, tally, value),
                **restated.get(key, {"restated_at": None, "restated_count": 0, "before": None}),
            }
        )
        sums.setdefault(queue, _Sum(definition)).add(figures, tally, value, provisional)
    totals = [
        {"queue": queue, "provisional": one.provisional, **_shown(one.figures, one.definition, one.tally, one.value)}
        for queue, one in sums.items()
    ]
    return {"step": step, "zone": zone, "intervals": rows, "totals": totals}


@dataclass
class _Sum:
    definition: ServiceLevel
    figures: Figures = field(default_factory=Figures)
    tally: Tally = field(default_factory=Tally)
    value: Value = field(default_factory=Value)
    provisional: bool = False

    def add(self, figures: Figures, tally: Tally, value: Value, provisional: bool) -> None:
        self.figures += figures
        self.tally = self.tally.plus(tally)
        self.value.add_all(value)
        self.provisional |= provisional


def _shown(figures: Figures, definition: ServiceLevel, tally: Tally, value: Value) -> dict[str, Any]:
    counts = ("offered", "answered", "abandoned", "timed_out", "left_by_key", "left_otherwise", "lost", "waiting", "talking")
    return {
        **{name: getattr(figures, name) for name in counts},
        "answered_in_time": tally.in_time,
        "short_abandoned": tally.short_abandoned,
        **{f"{name}_seconds": getattr(figures, f"{name}_micros") / MICROS for name in ("hold", "talk", "wait", "wait_max")},
        "service_level_of": definition.counted(tally),
        "service_level": definition.share(tally),
        "target": definition.target,
        "target_met": definition.is_met(tally),
        **_value(value, figures.answered),
    }


def _value(value: Value, answered: int) -> dict[str, Any]:
    return {
        "outcomes": value.outcomes,
        "resolved": value.resolved,
        "amount": {currency: amount / MONEY for currency, amount in sorted(value.amounts.items())},
        "amount_per_contact": value.per_contact(answered),
    }


def _figures_by_cell(connection: Connection, grid: Grid, filters: Filters, definitions: Mapping[str, ServiceLevel]) -> dict[Cell, Figures]:
    found: dict[Cell, Figures] = {}
    settled = _legs(filters, definitions, _cell(connection, grid, leg.c.arrived_at))
    for row in _rows(connection, _figures(connection, settled).add_columns(settled.c.cell).group_by(settled.c.cell)):
        key = row["queue"], grid.of_cell[row["cell"]]
        found[key] = found.get(key, Figures()) + _own(row)
    return found


def _own(row: Mapping[str, Any]) -> Figures:
    return Figures(**{name: int(row[name]) for name in FIGURES})  # PostgreSQL sums integers to decimals


def _legs(filters: Filters, definitions: Mapping[str, ServiceLevel], cell: ColumnElement[int] | None = None) -> Subquery:
    """The legs of a report, each with the cell of its arrival, and the limits of its queue."""
    columns = (leg.c.queue, leg.c.outcome, leg.c.hold_seconds, leg.c.talk_seconds)
    cells = [] if cell is None else [cell.label("cell")]
    return select(*columns, *cells, *_limits(leg.c.queue, definitions)).where(within(filters)).subquery("settled")


def _limits(queue: ColumnElement[str], definitions: Mapping[str, ServiceLevel]) -> list[Any]:
    """Threshold and short-abandon limit. Few differ, so they are told as a handful of lists rather than by a join."""
    limits = []
    for name in ("threshold_seconds", "short_abandon_seconds"):
        usual = getattr(ServiceLevel(), name)
        queues_with: dict[float, list[str]] = defaultdict(list)
        for of, definition in definitions.items():
            queues_with[getattr(definition, name)].append(of)
        cases = [(queue.in_(sorted(names)), literal(float(seconds))) for seconds, names in queues_with.items() if seconds != usual]
        limits.append((case(*cases, else_=literal(usual)) if cases else literal(usual)).label(name))
    return limits


def _figures(connection: Connection, legs: Subquery) -> Any:
    outcome, hold = legs.c.outcome, legs.c.hold_seconds
    answered, decided, abandoned = outcome.in_(ANSWERED), outcome != "waiting", outcome == "abandoned"
    wait = _micros(connection, func.coalesce(hold, 0.0))
    counts = {
        "offered": true(),
        "answered": answered,
        **{name: outcome == told for name, told in EXITS.items()},
        "left_otherwise": outcome.in_(OTHERWISE),
        "lost": outcome == "lost",
        "in_time": and_(answered, hold <= legs.c.threshold_seconds),
        "short_abandoned": and_(abandoned, hold < legs.c.short_abandon_seconds),
        "decided": decided,
        "waiting": outcome == "waiting",
        "talking": outcome == "talking",
    }
    sums = {
        "hold_micros": (wait, answered),
        "talk_micros": (_micros(connection, func.coalesce(legs.c.talk_seconds, 0.0)), answered),
        "wait_micros": (wait, decided),
    }
    return select(
        legs.c.queue,
        *[func.sum(case((condition, 1), else_=0)).label(name) for name, condition in counts.items()],
        *[func.sum(case((condition, number), else_=0)).label(name) for name, (number, condition) in sums.items()],
        func.max(case((decided, wait), else_=0)).label("wait_max_micros"),
    ).group_by(legs.c.queue)


def _tallies_by_contact(connection: Connection, grid: Grid, filters: Filters, definitions: Mapping[str, ServiceLevel]) -> dict[Cell, Tally]:
    """For queues whose service level counts contacts: all stays of a contact in the queue as one, at the arrival of the first."""
    of = sorted(queue for queue, definition in definitions.items() if definition.unit == "contacts")
    if not of:
        return {}
    asked = select(leg.c.contact).where(within(filters), leg.c.queue.in_(of)).correlate(None)
    ever = within({**filters, "from": None, "to": None})
    conditions = ever, leg.c.queue.in_(of), leg.c.arrived_at.is_not(None), leg.c.contact.in_(asked)
    answered = leg.c.outcome.in_(ANSWERED)

    def over(aggregate: Any, name: str) -> Any:
        return aggregate.over(partition_by=(leg.c.contact, leg.c.queue)).label(name)

    stays = (
        select(
            leg.c.contact,
            leg.c.queue,
            leg.c.number,
            leg.c.outcome,
            leg.c.hold_seconds,
            over(func.min(leg.c.arrived_at), "arrived_at"),
            over(func.max(leg.c.number), "last"),
            over(func.min(case((answered, leg.c.number))), "answered_by"),
        )
        .where(*conditions)
        .subquery("stays")
    )
    counts = or_(stays.c.answered_by.is_(None), stays.c.number <= stays.c.answered_by)
    decides = stays.c.number == func.coalesce(stays.c.answered_by, stays.c.last)
    contacts = (
        select(
            stays.c.queue,
            stays.c.arrived_at,
            func.max(case((decides, stays.c.outcome))).label("outcome"),
            func.sum(case((counts, func.coalesce(stays.c.hold_seconds, 0.0)), else_=0.0)).label("hold_seconds"),
        )
        .where(stays.c.arrived_at >= grid.start, stays.c.arrived_at < grid.end)
        .group_by(stays.c.queue, stays.c.contact, stays.c.arrived_at)
        .subquery("contacts")
    )
    one = select(
        contacts.c.queue,
        contacts.c.outcome,
        contacts.c.hold_seconds,
        literal(0.0).label("talk_seconds"),
        _cell(connection, grid, contacts.c.arrived_at).label("cell"),
        *_limits(contacts.c.queue, definitions),
    ).subquery("settled")
    found: dict[Cell, Tally] = {}
    for row in _rows(connection, _figures(connection, one).add_columns(one.c.cell).group_by(one.c.cell)):
        key = row["queue"], grid.of_cell[row["cell"]]
        found[key] = found.get(key, Tally()).plus(_own(row).tally)
    return found


def _open_cells(connection: Connection, grid: Grid, filters: Filters, found: dict[Cell, Figures]) -> set[Cell]:
    """Where a leg still waits or talks that nobody contradicts. Those that others contradict are taken off `found`, as in reports.queues."""
    suspected = reports.suspected_legs(connection, filters.get("source"))
    still: set[Cell] = set()
    columns = leg.c.contact, leg.c.number, leg.c.queue, leg.c.arrived_at, leg.c.outcome
    for row in connection.execute(select(*columns).where(within(filters), leg.c.outcome.in_(OPEN))):
        key = row.queue, grid.index(row.arrived_at)
        suspicion = suspected.get((row.contact, row.number))
        if suspicion and suspicion.over:
            found[key] = found[key] + Figures(**{row.outcome: -1})
        else:
            still.add(key)
    return still


# ---- agents


def agent_intervals(connection: Connection, filters: Filters, step: str, zone: str, *, grace: float = GRACE_SECONDS) -> dict[str, Any]:
    """Per agent and interval: the time signed in, in each state and for each reason, and what became of the contacts that arrived in it.

    `filters`: from, to (epoch seconds, both needed), source, queue, kind: they narrow the contacts, not the time; agent: its id, name or any
    alias; scope: the agents, not the queues. `ring_no_answer` is null where no source would know. Raises Invalid: for a step above a day too.
    """
    grid = _grid(filters, step, zone)
    now = clock.now()
    names = reports.directory(connection)
    hidden, filters = hidden_agents(connection, filters.get("scope")), {**filters, "scope": None}
    rows: dict[Cell, _Row] = {}

    wanted = filters.get("agent")
    if wanted is not None:
        mine = names.get(wanted)
        wanted = {alias for alias, known in names.items() if mine and known["id"] == mine["id"]} | {wanted}

    def row(agent: str, index: int) -> _Row:
        if len(rows) > MAX_ROWS:
            raise errors.Invalid(f"These are more than {MAX_ROWS} rows: ask for one agent, a shorter period or a longer step.")
        known = names.get(agent)
        name = known["name"] if known else agent
        return rows.setdefault((name, index), _Row(known["id"] if known else None, {}, {}, Value()))

    for agent, index, state, share in _time_in_states(connection, grid, now, wanted):
        times = row(agent, index).times
        times[state] = times.get(state, 0) + share
    for agent, index, counts in _answered(connection, grid, filters, wanted):
        tallied = row(agent, index).counts
        for name, number in counts.items():
            tallied[name] = tallied.get(name, 0) + number
    for (agent, index), value in _values(connection, grid, filters, contact_outcome.c.agent, wanted).items():
        row(agent, index).value.add_all(value)
    heard = connection.scalar(select(leg.c.contact).where(within(filters), leg.c.missed.is_not(None)).limit(1)) is not None
    shown = []
    for (name, index), one in sorted(rows.items(), key=lambda item: item[0]):
        if one.id in hidden:
            continue
        interval = grid.intervals[index]
        provisional = now < interval.end + grace or one.counts.get("open", 0) > 0
        shown.append({"agent": name, "id": one.id, **_time(interval), "provisional": provisional, **_agent_figures(one, heard)})
    return {"step": step, "zone": zone, "intervals": shown}


class _Row(NamedTuple):
    id: str | None
    times: dict[State, int]
    counts: dict[str, int]
    value: Value


def _agent_figures(mine: _Row, heard: bool) -> dict[str, Any]:
    states: dict[str, int] = {}
    for (state, _), number in sorted(mine.times.items()):
        states[state] = states.get(state, 0) + number
    answered = mine.counts.get("answered", 0)
    return {
        "signed_in_seconds": signed_in(mine.times) / MICROS,
        "states": {state: number / MICROS for state, number in states.items()},
        "reasons": {f"{state}/{reason}": number / MICROS for (state, reason), number in sorted(mine.times.items()) if reason},
        "wrap_up_seconds": states.get("wrap_up", 0) / MICROS,
        "occupancy": occupancy(mine.times),
        "answered": answered,
        "talk_seconds": mine.counts.get("talk_micros", 0) / MICROS,
        "ring_no_answer": mine.counts.get("ring_no_answer", 0) if heard else None,
        "dispositions": dict(sorted(mine.value.codes.items())),
        **_value(mine.value, answered),
    }


def _time_in_states(connection: Connection, grid: Grid, now: float, agents: set[str] | None) -> Iterable[tuple[str, int, State, int]]:
    """(agent, interval, state, microseconds). The database sums the many spans that lie within one interval; the others are split here."""
    since, until = agent_span.c.since, agent_span.c.until
    end = min(grid.end, now)
    if end <= grid.start:
        return
    overlaps = _among(agent_span.c.agent, agents), agent_span.c.state != "offline", since < end, or_(until.is_(None), until > grid.start)
    inside = and_(until.is_not(None), since >= grid.start, until < grid.end)
    spans = (
        select(
            agent_span.c.agent,
            agent_span.c.state,
            agent_span.c.reason,
            case((inside, _cell(connection, grid, since))).label("cell"),
            case((inside, _cell(connection, grid, until))).label("last"),
            since,
            until,
            (_micros(connection, until) - _micros(connection, since)).label("micros"),
        )
        .where(*overlaps)
        .subquery("spans")
    )
    keys = spans.c.agent, spans.c.state, spans.c.reason
    uncut = spans.c.cell == spans.c.last
    for row in connection.execute(
        select(*keys, spans.c.cell, func.sum(spans.c.micros).label("micros")).where(uncut).group_by(*keys, spans.c.cell)
    ):
        yield row.agent, grid.of_cell[row.cell], (row.state, row.reason), int(row.micros)
    across = or_(spans.c.cell.is_(None), spans.c.last.is_(None), spans.c.cell != spans.c.last)
    for row in connection.execute(select(*keys, spans.c.since, spans.c.until).where(across)):
        for index, share in grid.split(row.since, end if row.until is None else row.until):
            yield row.agent, index, (row.state, row.reason), share


def _answered(connection: Connection, grid: Grid, filters: Filters, agents: set[str] | None) -> Iterable[tuple[str, int, dict[str, int]]]:
    who = func.coalesce(leg.c.agent, leg.c.address)
    cell = _cell(connection, grid, leg.c.arrived_at)
    legs = (
        select(who.label("agent"), cell.label("cell"), leg.c.outcome, leg.c.talk_seconds)
        .where(within(filters), leg.c.outcome.in_(ANSWERED), who.is_not(None), _among(who, agents))
        .subquery("legs")
    )
    talk = _micros(connection, func.coalesce(legs.c.talk_seconds, 0.0))
    still = func.sum(case((legs.c.outcome == "talking", 1), else_=0)).label("open")
    query = select(legs.c.agent, legs.c.cell, func.count().label("answered"), func.sum(talk).label("talk_micros"), still)
    for row in connection.execute(query.group_by(legs.c.agent, legs.c.cell)):
        counts = {"answered": int(row.answered), "talk_micros": int(row.talk_micros), "open": int(row.open)}
        yield row.agent, grid.of_cell[row.cell], counts
    if connection.dialect.name == "postgresql":
        rings: Any = func.json_each_text(leg.c.missed).table_valued("key", "value").lateral("rings")
    else:
        rings = func.json_each(leg.c.missed).table_valued("key", "value", name="rings")
    each = select(rings.c.key.label("agent"), cell.label("cell"), cast(rings.c.value, BigInteger).label("rings"))
    missed = (
        each.select_from(leg)
        .join(rings, true())
        .where(within(filters), leg.c.missed.is_not(None), _among(rings.c.key, agents))
        .subquery("missed")
    )
    for row in connection.execute(
        select(missed.c.agent, missed.c.cell, func.sum(missed.c.rings).label("rings")).group_by(missed.c.agent, missed.c.cell)
    ):
        yield row.agent, grid.of_cell[row.cell], {"ring_no_answer": int(row.rings)}


# ---- what both have


def _grid(filters: Filters, step: str, zone: str) -> Grid:
    start, end = filters.get("from"), filters.get("to")
    if start is None or end is None:
        raise errors.Invalid("A report by intervals needs a period: from and to.")
    try:
        return Grid(start, end, step, zone_called(zone))
    except domain.Invalid as refused:
        raise errors.Invalid(str(refused)) from refused


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _time(interval: Interval) -> dict[str, Any]:
    return {"label": interval.label, "start": interval.start, "end": interval.end, "whole": interval.whole}


def _among(column: ColumnElement[str], names: set[str] | None) -> ColumnElement[bool]:
    return true() if names is None else column.in_(sorted(names))


def _values(
    connection: Connection, grid: Grid, filters: Filters, of: ColumnElement[str], among: set[str] | None = None
) -> dict[Cell, Value]:
    """Outcomes by queue or agent, in the interval in which their leg arrived."""
    outcomes = (
        select(
            of.label("of"),
            _cell(connection, grid, leg.c.arrived_at).label("cell"),
            contact_outcome.c.code,
            contact_outcome.c.currency,
            case((contact_outcome.c.resolved, 1), else_=0).label("resolved"),
            func.coalesce(contact_outcome.c.amount, 0).label("amount"),
        )
        .join(leg, and_(leg.c.contact == contact_outcome.c.contact, leg.c.number == contact_outcome.c.leg))
        .where(within(filters), _among(of, among))
        .subquery("outcomes")
    )
    keys = outcomes.c.of, outcomes.c.cell, outcomes.c.code, outcomes.c.currency
    sums = func.count().label("outcomes"), func.sum(outcomes.c.resolved).label("resolved"), func.sum(outcomes.c.amount).label("amount")
    found: dict[Cell, Value] = {}
    for row in connection.execute(select(*keys, *sums).group_by(*keys)):
        value = found.setdefault((row.of, grid.of_cell[row.cell]), Value())
        value.add(row.code, row.currency, int(row.outcomes), int(row.resolved), int(row.amount))
    return found


def _cell(connection: Connection, grid: Grid, moment: ColumnElement[float]) -> ColumnElement[int]:
    """The number of the grid's cell that holds a moment of the period. The difference of two moments is exact, that of their quotients is not."""
    size = float(STEPS[grid.step])
    cells = [(one.end, literal(one.first) + _floor(connection, (moment - float(one.base)) / size)) for one in grid.stretches]
    if len(cells) == 1:
        return cells[0][1]
    return case(*[(moment < literal(end), cell) for end, cell in cells[:-1]], else_=cells[-1][1])


def _floor(connection: Connection, positive: ColumnElement[Any]) -> ColumnElement[int]:
    """SQLite may lack floor, and cuts off when it casts; PostgreSQL rounds when it casts."""
    return cast(func.floor(positive) if connection.dialect.name == "postgresql" else positive, BigInteger)


def _micros(connection: Connection, seconds: ColumnElement[float]) -> ColumnElement[int]:
    return _floor(connection, seconds * float(MICROS) + 0.5)


# ---- provisional, final, restated


def _restated(connection: Connection, grid: Grid, filters: Filters, grace: float) -> dict[Cell, dict[str, Any]]:
    """Whole intervals whose figures changed after they had become final: when last, how often, and the figures before the first of the changes.
    These are kept of all sources and kinds together, so a report of one source or kind has none."""
    if filters.get("source") or filters.get("kind"):
        return {}
    in_period = interval_restatement.c.start >= grid.start, interval_restatement.c.start < grid.end
    among = [of_queue(interval_restatement.c.queue, filters.get("scope"))]
    if filters.get("queue"):
        among.append(interval_restatement.c.queue == filters["queue"])
    times: dict[Cell, set[float]] = defaultdict(set)
    before: dict[Cell, Figures] = {}
    for change in _rows(connection, select(interval_restatement).where(*in_period, *among)):
        key = change["queue"], grid.index(change["start"])
        interval = grid.intervals[key[1]]
        if interval.whole and change["at"] >= interval.end + grace:
            times[key].add(change["at"])
            undone = {name: change["before"][name] - change["after"][name] for name in FACTS}
            before[key] = before.get(key, Figures()) + Figures(**undone)
    if not times:
        return {}
    touched = [grid.intervals[index] for _, index in times]
    start, end = min(interval.start for interval in touched), max(interval.end for interval in touched)
    for state in states_of(connection, (queue for queue, _ in times), start, end):
        key = state["queue"], grid.index(state["start"])
        if key in before:
            before[key] += Figures(**state["figures"])
    return {key: {"restated_at": max(at), "restated_count": len(at), "before": _facts_shown(before[key])} for key, at in times.items()}


def _facts_shown(figures: Figures) -> dict[str, float]:
    """Only what follows from the legs alone was kept."""
    shown: dict[str, float] = {}
    for name in FACTS:
        number = getattr(figures, name)
        shown |= {name.replace("_micros", "_seconds"): number / MICROS} if name.endswith("_micros") else {name: number}
    return shown


def finalise(connection: Connection, now: float, grace: float = GRACE_SECONDS, limit: int = 50) -> int:
    """Keep the figures of quarters that have become final, and mark those whose figures changed since: to be called every minute or so, in a
    transaction. At most a day of quarters and `limit` of what is due a call; returns how many are settled: where that is `limit`, there is more.

    A quarter is final once `grace` seconds have passed since its end and nobody who arrived in it still waits or talks. A leg that comes later
    is told by interval_store.note_late, and the difference is a restatement, an arrival in a quarter that was final without any too.
    """
    since = _advance(connection, now, grace)
    if since is None:
        return 0
    due = _rows(
        connection,
        select(interval_state)
        .where(interval_state.c.due.is_not(None), interval_state.c.start < quarter(now - grace))
        .order_by(interval_state.c.looked_at, interval_state.c.start)
        .limit(limit),
    )
    by_start: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for state in due:
        by_start[state["start"]].append(state)
    if not by_start:
        return 0
    suspected: reports.Suspicions | None = None
    written, changes = [], []
    for start, states in by_start.items():
        period = {"from": start, "to": start + QUARTER}
        legs = _legs(period, {})
        found = {row["queue"]: _own(row) for row in _rows(connection, _figures(connection, legs))}
        still: set[str] = set()
        if any(figures.waiting or figures.talking for figures in found.values()):
            suspected = reports.suspected_legs(connection) if suspected is None else suspected
            columns = leg.c.queue, leg.c.contact, leg.c.number
            for one in connection.execute(select(*columns).where(within(period), leg.c.outcome.in_(OPEN))):
                suspicion = suspected.get((one.contact, one.number))
                still |= set() if suspicion and suspicion.over else {one.queue}
        for state in states:
            figures = found.get(state["queue"], Figures())
            facts = {name: getattr(figures, name) for name in FACTS}
            row = _looked_at(state, facts, state["queue"] in still, since, now)
            written.append(row)
            if (change := _restatement(state, row, now)) is not None:
                changes.append(change)
    bulk.insert(connection, interval_restatement, changes, key=(*KEY, "number"))
    for row in sorted(written, key=lambda row: (row["queue"], str(row["start"]))):  # the order in which note_late locks them
        newest = update(interval_state).where(*(interval_state.c[name] == row.pop(name) for name in KEY))
        seen, column = row.pop("due"), interval_state.c.due
        still_due = column if row["finalised_at"] is None else case((column == seen, None), else_=column)
        connection.execute(newest.values(**row, due=still_due))
    return sum(row["finalised_at"] is not None for row in written)


def _looked_at(state: Mapping[str, Any], facts: dict[str, int], still_open: bool, since: int, now: float) -> dict[str, Any]:
    row = dict(state) | {"looked_at": now}
    if state["finalised_at"] is None:
        was_final_without_any = state["looked_at"] == 0 and state["start"] >= since
        if still_open and not was_final_without_any:
            return row
        row |= {"finalised_at": now, "figures": dict.fromkeys(FACTS, 0) if was_final_without_any else facts}
    if row["figures"] != facts:
        row |= {"figures": facts, "restated_count": state["restated_count"] + 1}
    return row


def _restatement(state: Mapping[str, Any], row: Mapping[str, Any], now: float) -> dict[str, Any] | None:
    if row["restated_count"] == state["restated_count"]:
        return None
    before = state["figures"] or dict.fromkeys(FACTS, 0)
    of = {name: row[name] for name in KEY}
    return {**of, "number": row["restated_count"], "at": now, "before": before, "after": row["figures"]}


def _advance(connection: Connection, now: float, grace: float) -> int | None:
    """Quarters that ended `grace` ago are due. Returns since when they are followed; None before the first leg."""
    progress = connection.execute(select(interval_progress).where(interval_progress.c.name == "leg")).one_or_none()
    horizon = quarter(now - grace)
    first = connection.scalar(select(func.min(leg.c.arrived_at)).where(leg.c.arrived_at >= (progress.until if progress else 0)))
    if progress is None:
        if first is None:
            return None
        since = quarter(first)
        connection.execute(insert(interval_progress).values(name="leg", since=since, until=since))
    else:
        since = progress.since
    start = horizon if first is None else max(quarter(first), progress.until if progress else 0)
    until = min(horizon, start + DAY)
    if progress is not None and until <= progress.until:
        return since
    if until > start:
        number = _floor(connection, leg.c.arrived_at / float(QUARTER)).label("number")
        arrived = select(leg.c.queue, number).where(within({"from": start, "to": until})).distinct()
        states = [{"queue": row.queue, "start": row.number * QUARTER} for row in connection.execute(arrived)]
        fresh = {"restated_count": 0, "looked_at": now, "due": 0}
        # one that came late, but before this, has never been reported: it is no more than looked at
        bulk.insert(connection, interval_state, [state | fresh for state in states], key=KEY, update=("looked_at",))
    connection.execute(update(interval_progress).where(interval_progress.c.name == "leg").values(until=max(until, since)))
    return since


# ---- as a file


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = QUEUE_COLUMNS) -> str:
    """RFC 4180: a line of column names, then a line a row, CRLF after each. What is a mapping in the report is `name=number; name=number` in a
    cell. A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers are left as they are."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\r\n")
    lines.writerow(columns)
    for row in rows:
        lines.writerow([_moment(row.get(column)) if column in MOMENTS else _plain(row.get(column)) for column in columns])
    return written.getvalue()


def _moment(value: float | None) -> str | None:
    return None if value is None else clock.to_text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return value
    text = "; ".join(f"{name}={number}" for name, number in value.items()) if isinstance(value, Mapping) else str(value)
    return f"'{text}" if text[:1] in FORMULA else text


MOMENTS = ("start", "end", "restated_at")
"""Columns in epoch seconds, which others are told as RFC 3339."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
