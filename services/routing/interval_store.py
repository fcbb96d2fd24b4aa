"""The tables behind the interval reports: agents' time, the outcomes of contacts, and which quarter hours are final.

Every zone of today is a multiple of 15 minutes ahead of UTC, so a quarter hour of UTC is one in each of them, and every interval of every step
and zone is made of such quarters: they alone are kept as final or restated.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, Integer, Table, Text, or_, select

from services.routing.domain.intervals import MONEY
from services.routing.store import leg, metadata
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial

QUARTER = 900
GRACE_SECONDS = 900.0
"""How long after its end an interval waits for late data before it is final."""
MARGIN_SECONDS = 60.0
"""Longer than any transaction: a leg that is written while its quarter becomes final counts as late."""

agent_span = Table(
    "agent_span",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("seq", Serial, primary_key=True, autoincrement=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("presence", Text, nullable=False),
)
"""Every stretch that an agent spends in a state; the one that goes on has no `until`."""
Index("agent_span_open", agent_span.c.agent, postgresql_where=agent_span.c.until.is_(None), sqlite_where=agent_span.c.until.is_(None))
Index("agent_span_until", agent_span.c.until)

contact_outcome = Table(
    "contact_outcome",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("leg", Integer, primary_key=True, autoincrement=False),
    Column("agent", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("resolved", Boolean),
    Column("amount", Serial),
    Column("currency", Text),
    Column("at", Moment, nullable=False),
)
"""What an agent noted at wrap-up; the latest holds. `amount` is money in whole ten-thousandths."""

interval_state = Table(
    "interval_state",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("start", Serial, primary_key=True, autoincrement=False),
    Column("figures", Document),
    Column("finalised_at", Moment),
    Column("restated_count", Integer, nullable=False),
    Column("looked_at", Moment, nullable=False),
    Column("due", Serial),
)
"""A quarter hour of a queue: its figures as last found. `due`: to be looked at (again)."""
Index(
    "interval_due",
    interval_state.c.looked_at,
    postgresql_where=interval_state.c.due.is_not(None),
    sqlite_where=interval_state.c.due.is_not(None),
)

interval_restatement = Table(
    "interval_restatement",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("start", Serial, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("before", Document, nullable=False),
    Column("after", Document, nullable=False),
)
"""A change of a quarter hour's figures after it had become final."""
Index("interval_restatement_start", interval_restatement.c.start)

interval_progress = Table(
    "interval_progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since", Serial, nullable=False),
    Column("until", Serial, nullable=False),
)
"""The period whose quarters have become final, or are due."""

KEY = ("queue", "start")
MOST_MONEY = 10**17
SPAN_COLUMNS = bulk.columns_of(agent_span)


def open_spans(connection: Connection, agents: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """agent -> the span that goes on; of all agents, or of these."""
    query = select(agent_span).where(agent_span.c.until.is_(None))
    found = connection.execute(query if agents is None else query.where(agent_span.c.agent.in_(set(agents)))).mappings()
    return {row["agent"]: {name: row[name] for name in SPAN_COLUMNS} for row in found}


def of_states(current: dict[str, dict[str, Any]], rows: Iterable[Mapping[str, Any]]) -> bulk.Insert:
    """Agents' changes of state in their order: {agent, state, reason, at}, and if known {presence, seq}. Closes the open span and opens the next,
    in `current` (see `open_spans`) too.

    `seq` rises with every change of an agent (by default the microseconds of `at`, and one more for a second change at that moment): what is
    not above that of the open span is known already, so that the same rows may come again. A reason that belongs to the presence, not to the
    state shown, is left out. A clock that was put back makes spans of no length, never of a negative one.
    """
    ordered = sorted(({**row, "seq": _sequence(row)} for row in rows), key=lambda row: (row["agent"], row["seq"]))
    for before, row in pairwise(ordered):
        if before["agent"] == row["agent"]:
            row["seq"] = max(row["seq"], before["seq"] + 1)
    written: dict[tuple[str, int], dict[str, Any]] = {}
    for row in ordered:
        agent, open_span = row["agent"], current.get(row["agent"])
        after = {name: row.get(name) or "" for name in ("state", "reason", "presence")}
        if after["presence"] not in ("", after["state"]):
            after["reason"] = ""
        if open_span and (row["seq"] <= open_span["seq"] or all(open_span[name] == value for name, value in after.items())):
            continue
        since = max(row["at"], open_span["since"]) if open_span else row["at"]
        if open_span:
            open_span["until"] = since
            written[agent, open_span["seq"]] = open_span
        current[agent] = {"agent": agent, "seq": row["seq"], "since": since, "until": None, **after}
        written[agent, row["seq"]] = current[agent]
    return bulk.Insert(agent_span, list(written.values()), SPAN_COLUMNS, ("agent", "seq"), ("until",))


def _sequence(row: Mapping[str, Any]) -> int:
    return int(row["seq"]) if row.get("seq") is not None else int(row["at"] * 1_000_000)


def of_outcomes(rows: Sequence[Mapping[str, Any]]) -> bulk.Insert:
    """{contact, leg, agent, code, resolved, amount, currency, at}: `resolved` is "yes", "no" or a truth value, `amount` decimal digits or a
    number, in `currency`. Of several of one leg the latest by `at` holds."""
    last = {(row["contact"], row["leg"]): row for row in sorted(rows, key=lambda row: row["at"])}
    columns = bulk.columns_of(contact_outcome)
    facts = tuple(name for name in columns if name not in ("contact", "leg"))
    written = [{**row, "resolved": _truth(row["resolved"]), "amount": _ten_thousandths(row["amount"])} for row in last.values()]
    return bulk.Insert(contact_outcome, written, columns, ("contact", "leg"), facts, "at")


def _truth(told: Any) -> bool | None:
    return {"yes": True, "no": False}.get(told) if isinstance(told, str) else told


def _ten_thousandths(amount: Any) -> int | None:
    """Bounded, so that a slip of the keyboard cannot make a sum that no database holds."""
    if amount is None:
        return None
    exact = int((Decimal(str(amount)) * MONEY).to_integral_value())
    return max(-MOST_MONEY, min(exact, MOST_MONEY))


def note_late(connection: Connection, rows: Sequence[Mapping[str, Any]], now: float, grace: float = GRACE_SECONDS) -> None:
    """To be called in the transaction that writes these legs, before they are written: quarters that are final already, and that the legs
    arrive in or leave, are looked at again. Costs nothing while nothing is late."""
    late = [row for row in rows if row["arrived_at"] is not None and is_final(row["arrived_at"], now + MARGIN_SECONDS, grace)]
    if not late:
        return
    touched = {(row["queue"], quarter(row["arrived_at"])) for row in late}
    known = select(leg.c.queue, leg.c.arrived_at).where(leg.c.contact.in_({row["contact"] for row in late}), leg.c.arrived_at.is_not(None))
    touched |= {(row.queue, quarter(row.arrived_at)) for row in connection.execute(known)}
    # another number each time: whoever looks can tell whether it was touched meanwhile
    fresh = {"restated_count": 0, "looked_at": 0.0, "due": 1 + secrets.randbits(52)}
    states = [{"queue": queue, "start": start, **fresh} for queue, start in touched if is_final(start, now + MARGIN_SECONDS, grace)]
    bulk.insert(connection, interval_state, states, key=KEY, update=("due",))


def state_at(connection: Connection, agent: str, moment: float) -> str | None:
    """What an agent did then; None where nobody knows."""
    covers = agent_span.c.since <= moment, or_(agent_span.c.until.is_(None), agent_span.c.until > moment)
    query = select(agent_span.c.state).where(agent_span.c.agent == agent, *covers).order_by(agent_span.c.seq.desc()).limit(1)
    state: str | None = connection.scalar(query)
    return state


def quarter(moment: float) -> int:
    """The start of the quarter hour that holds a moment."""
    return int(moment // QUARTER) * QUARTER


def is_final(moment: float, now: float, grace: float) -> bool:
    """Whether the quarter hour of a moment has waited long enough for late data."""
    return quarter(moment) + QUARTER + grace <= now


def states_of(connection: Connection, queues: Iterable[str], start: float, end: float) -> list[dict[str, Any]]:
    """Quarters of these queues in a period that are, or were, final."""
    wanted = interval_state.c.queue.in_(set(queues)), interval_state.c.start >= start, interval_state.c.start < end
    query = select(interval_state).where(*wanted, interval_state.c.finalised_at.is_not(None))
    return [dict(row) for row in connection.execute(query).mappings()]
