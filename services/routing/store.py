"""Routing's tables, and the statements that read and write them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, Integer, MetaData, Table, Text, or_, select, text, update

from services.routing.domain.desk import Changes, Desk
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial

metadata = MetaData()

# The desk's four tables have one column for each field of services.routing.domain.entities.

queue = Table(
    "queue",
    metadata,
    Column("name", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("required_skills", Document, nullable=False),
    Column("offer_seconds", Moment, nullable=False),
    Column("wrap_up", Boolean, nullable=False),
    Column("service_level_seconds", Moment, nullable=False),
    Column("retry_seconds", Moment, nullable=False),
)

agent = Table(
    "agent",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("skills", Document, nullable=False),
    Column("channels", Document, nullable=False),
    Column("queues", Document, nullable=False),
    Column("address", Text, nullable=False),
    Column("aliases", Document, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("idle_since", Moment, nullable=False),
    Column("offer", Id),
    Column("contacts", Document, nullable=False),
    Column("wrapping_up", Id),
    Column("next_state", Text),
    Column("next_reason", Text, nullable=False),
)

contact = Table(
    "contact",
    metadata,
    Column("id", Id, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("arrived_at", Moment, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("required_skills", Document, nullable=False),
    Column("customer", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("agent", Text),
    Column("offer", Id),
    Column("passed", Document, nullable=False),
    Column("parked_at", Moment),
    Column("parked_until", Moment),
    Column("answered_at", Moment),
    Column("ended_at", Moment),
    Column("ended_by", Text, nullable=False),
    Column("disposition", Text),
)
Index("contact_live", contact.c.id, postgresql_where=contact.c.ended_at.is_(None), sqlite_where=contact.c.ended_at.is_(None))
Index("contact_ended", contact.c.ended_at)

offer = Table(
    "offer",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False, index=True),
    Column("agent", Text, nullable=False),
    Column("made_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("closed_at", Moment),
)

desk_epoch = Table("desk_epoch", metadata, Column("pool", Text, primary_key=True), Column("epoch", Integer, nullable=False))
"""Who opened the desk last; anybody who opened it before must not write any more."""

leg = Table(
    "leg",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("call", Text),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("observed", Boolean, nullable=False),
    Column("agent", Text),
    Column("address", Text),
    Column("position", Integer),
    Column("arrived_at", Moment),
    Column("answered_at", Moment),
    Column("ended_at", Moment),
    Column("outcome", Text, nullable=False),
    Column("ended_by", Text),
    Column("target", Text),
    Column("hold_seconds", Moment),
    Column("talk_seconds", Moment),
    Column("missed", Document),
    Column("ringing", Document),
    Column("estimated", Document),
    Column("uncertain", Text),
    Column("sequence", Serial, nullable=False),
)
"""Every stay of a contact in a queue: the raw material of all reports. The row with the highest sequence holds."""
Index("leg_arrived", leg.c.arrived_at)
Index(
    "leg_open",
    leg.c.source,
    postgresql_where=leg.c.outcome.in_(("waiting", "talking")),
    sqlite_where=leg.c.outcome.in_(("waiting", "talking")),
)

observed_agent = Table(
    "observed_agent",
    metadata,
    Column("source", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    Column("address", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("since", Moment, nullable=False),
    Column("sequence", Serial, nullable=False),
)

FIRST_OF_THE_DESK = 10**12
"""The desk numbers its writings by microseconds, the gateway from 1."""

LEG_COLUMNS = bulk.columns_of(leg)
LEG_FACTS = tuple(name for name in LEG_COLUMNS if name not in ("contact", "number"))
ROUTED_FACTS = (
    "observed", "agent", "address", "answered_at", "ended_at", "outcome", "ended_by", "hold_seconds", "talk_seconds", "missed", "ringing", "sequence",
)  # fmt: skip
KEYS = {"queues": (queue, "name"), "agents": (agent, "id"), "contacts": (contact, "id"), "offers": (offer, "id")}


def open_desk(connection: Connection, pool: str, remember_seconds: float, now: float) -> tuple[Desk, int]:
    """The desk as stored, and the epoch that whoever opens it works under."""
    opened = text(
        "insert into desk_epoch (pool, epoch) values (:pool, 1) on conflict (pool) do update set epoch = desk_epoch.epoch + 1 returning epoch"
    )
    epoch = connection.scalar(opened, {"pool": pool})
    assert epoch is not None
    recent = or_(contact.c.ended_at.is_(None), contact.c.ended_at > now - remember_seconds)
    in_wrap_up = contact.c.id.in_(select(agent.c.wrapping_up).where(agent.c.wrapping_up.is_not(None)))
    contacts = _rows(connection, select(contact).where(or_(recent, in_wrap_up)))
    offers = _rows(connection, select(offer).where(offer.c.contact.in_(select(contact.c.id).where(or_(recent, in_wrap_up)))))
    return Desk.load(_rows(connection, select(queue)), _rows(connection, select(agent)), contacts, offers), epoch


def still_ours(connection: Connection, pool: str, epoch: int) -> bool:
    """Whether nobody has opened the desk since; until the transaction ends nobody can."""
    mine = update(desk_epoch).where(desk_epoch.c.pool == pool, desk_epoch.c.epoch == epoch).values(epoch=epoch)
    return connection.execute(mine).rowcount == 1


def save_desk(connection: Connection, changes: Changes) -> None:
    for name, (table, key) in KEYS.items():
        rows = getattr(changes, name)
        if rows:
            columns = bulk.columns_of(table)
            bulk.insert(connection, table, rows, columns=columns, key=(key,), update=[column for column in columns if column != key])


def save_legs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """The last of several rows of one leg counts. Returns the legs (contact, number) of which we did not know anything newer."""
    last = {(row["contact"], row["number"]): row for row in rows}
    key = ("contact", "number")
    written = bulk.insert(
        connection, leg, list(last.values()), columns=LEG_COLUMNS, key=key, update=LEG_FACTS, newer="sequence", returning=key
    )
    return {(str(row.contact), row.number) for row in written}


def save_routed_legs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    bulk.insert(connection, leg, rows, columns=LEG_COLUMNS, key=("contact", "number"), update=ROUTED_FACTS, newer="sequence")


def hand_back(connection: Connection, contact: str, number: int) -> None:
    """The leg is the telephony system's to tell again: whatever it tells counts, although the desk wrote later."""
    written_here = leg.c.sequence >= FIRST_OF_THE_DESK
    connection.execute(update(leg).where(leg.c.contact == contact, leg.c.number == number, written_here).values(sequence=0))


def save_observed_agents(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    last = {(row["source"], row["agent"], row["queue"]): row for row in rows}
    facts = ("address", "state", "reason", "since", "sequence")
    bulk.insert(connection, observed_agent, list(last.values()), key=("source", "agent", "queue"), update=facts, newer="sequence")


def forget_agents_of(connection: Connection, source: str, at: float) -> None:
    stale = observed_agent.c.source == source, observed_agent.c.since < at
    connection.execute(update(observed_agent).where(*stale).values(state="unknown", reason=None, since=at))


def known_queues(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """name -> mode"""
    return {row.name: row.mode for row in connection.execute(select(queue.c.name, queue.c.mode).where(queue.c.name.in_(set(names))))}


def on_desk(connection: Connection, contacts: Iterable[str]) -> set[str]:
    """Those that the desk holds, or has handed back."""
    held = or_(contact.c.ended_at.is_(None), contact.c.state == "released")
    return {row.id for row in connection.execute(select(contact.c.id).where(contact.c.id.in_(set(contacts)), held))}


def _rows(connection: Connection, query: Any) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]
