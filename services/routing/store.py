"""Routing's tables, and the statements that read and write them."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    false,
    or_,
    select,
    text,
    update,
)

from services.routing.domain.desk import Changes
from services.routing.domain.entities import ABOUT_CUSTOMER
from shared.bus.envelope import Event
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial
from shared.ids import is_id

metadata = MetaData()

# The desk's four tables have one column for each field of services.routing.domain.entities, and for
# agents and contacts the shard whose desk has them.

queue = Table(
    "queue",
    metadata,
    Column("name", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("required_skills", Document, nullable=False),
    Column("offer_seconds", Moment, nullable=False),
    Column("retry_seconds", Moment, nullable=False),
    Column("miss_limit", Integer, nullable=False),
    Column("wrap_up", Boolean, nullable=False),
    Column("service_level_seconds", Moment, nullable=False),
    Column("short_abandon_seconds", Moment, nullable=False),
    Column("abandons_count", Boolean, nullable=False),
    Column("service_level_unit", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("calendar", Text, nullable=False),
    Column("dispositions", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("reply_seconds", Moment, nullable=False),
    Column("owner_seconds", Moment, nullable=False),
    Column("call_after_replies", Integer, nullable=False),
    Column("site", Text, nullable=False),
    Column("team", Text, nullable=False),
)

agent = Table(
    "agent",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("skills", Document, nullable=False),
    Column("languages", Document, nullable=False),
    Column("regions", Document, nullable=False),
    Column("site", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("employment", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("channels", Document, nullable=False),
    Column("certificates", Document),
    Column("permits", Document, nullable=False),
    Column("practised", Document, nullable=False),
    Column("capacity", Document, nullable=False),
    Column("queues", Document, nullable=False),
    Column("address", Text, nullable=False),
    Column("aliases", Document, nullable=False),
    Column("presence", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("idle_since", Moment, nullable=False),
    Column("work", Document, nullable=False),
    Column("missed_in_row", Integer, nullable=False),
    Column("session", Text, nullable=False),
    Column("shard", Integer, nullable=False, server_default="0"),
)

contact = Table(
    "contact",
    metadata,
    Column("id", Id, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("arrived_at", Moment, nullable=False),
    Column("place_at", Moment, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("told_leg", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("required_skills", Document, nullable=False),
    Column("wants", Document, nullable=False),
    Column("facts", Document, nullable=False),
    Column("customer", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("thread", Text, nullable=False),
    Column("matter", Document),
    Column("state", Text, nullable=False),
    Column("agent", Text),
    Column("reserved_for", Text),
    Column("reserved_until", Moment, nullable=False),
    Column("offer", Id),
    Column("passed", Document, nullable=False),
    Column("parked_at", Moment),
    Column("parked_until", Moment),
    Column("polled", Boolean, nullable=False, server_default=false()),
    Column("pended_at", Moment),
    Column("callback", Document),
    Column("estimate", Moment),
    Column("answered_at", Moment),
    Column("ended_at", Moment),
    Column("ended_by", Text, nullable=False),
    Column("disposition", Document),
    Column("conference", Document, nullable=False),
    Column("suggested", Text, nullable=False),
    Column("trace", Text, nullable=False, server_default=""),
    Column("shard", Integer, nullable=False, server_default="0"),
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

person = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("sequence", Serial, nullable=False),
)
"""Of everybody of the directory: whether they still work here, as of which event."""

last_agent = Table(
    "last_agent",
    metadata,
    Column("customer", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("at", Moment, nullable=False),
)
"""Who spoke last with a customer."""

decision = Table(
    "decision",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False, index=True),
    Column("agent", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("record", Text, nullable=False),
)
"""Why each offer was made: the record, compressed JSON. Its id is the offer's."""

experience = Table("experience", metadata, Column("queue", Text, primary_key=True), Column("learnt", Document, nullable=False))
"""What each queue has taught about waiting (domain.foresight)."""

desk_epoch = Table(
    "desk_epoch", metadata, Column("shard", Integer, primary_key=True, autoincrement=False), Column("epoch", Integer, nullable=False)
)
"""Who opened the shard's desk last; anybody who opened it before must not write any more."""

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
    Column("holds", Integer),
    Column("on_hold_seconds", Moment),
    Column("missed", Document),
    Column("ringing", Document),
    Column("estimated", Document),
    Column("uncertain", Text),
    Column("kind", Text, nullable=False, server_default="inbound"),
    Column("estimate", Moment),
    Column("sequence", Serial, nullable=False),
)
"""Every stay of a contact in a queue: the raw material of all reports. The row with the highest sequence holds."""
Index("leg_arrived", leg.c.arrived_at)
Index("leg_of_source", leg.c.source, leg.c.arrived_at)
Index("leg_of_queue", leg.c.source, leg.c.queue, leg.c.arrived_at)
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

Row = dict[str, Any]

FIRST_OF_THE_DESK = 10**12
"""The desk numbers its writings by microseconds, the gateway from 1."""

LEG_COLUMNS = bulk.columns_of(leg)
LEG_FACTS = tuple(name for name in LEG_COLUMNS if name not in ("contact", "number"))
ROUTED_FACTS = (
    "observed", "agent", "address", "answered_at", "ended_at", "outcome", "ended_by", "hold_seconds", "talk_seconds", "missed", "ringing", "kind", "estimate", "target", "sequence",
)  # fmt: skip
AGENT_FIELDS = [column for column in agent.c if column.name != "shard"]
CONTACT_FIELDS = [column for column in contact.c if column.name != "shard"]
KEYS = {"queues": (queue, "name"), "agents": (agent, "id"), "contacts": (contact, "id"), "offers": (offer, "id")}


def open_desk(connection: Connection, shard: int) -> int:
    """The epoch that whoever opens the desk works under."""
    opened = text(
        "insert into desk_epoch (shard, epoch) values (:shard, 1) on conflict (shard) do update set epoch = desk_epoch.epoch + 1 returning epoch"
    )
    epoch = connection.scalar(opened, {"shard": shard})
    assert epoch is not None
    return int(epoch)


def desk_rows(connection: Connection, since: float, matters_since: float, shard: int) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """All queues, and the shard's agents, contacts (those that are over: since these moments) and offers: what `Desk.load` wants."""
    agents = fetch(connection, select(*AGENT_FIELDS).where(agent.c.shard == shard))
    at_work = {id for row in agents for id in row["work"]}
    matters = and_(contact.c.ended_at > matters_since, contact.c.thread != "")
    recent = or_(contact.c.ended_at.is_(None), contact.c.ended_at > since, matters)
    held = contact.c.id.in_(at_work) if at_work else recent
    ours = contact.c.shard == shard, or_(recent, held)
    contacts = fetch(connection, select(*CONTACT_FIELDS).where(*ours))
    offers = fetch(connection, select(offer).where(offer.c.contact.in_(select(contact.c.id).where(*ours))))
    return fetch(connection, select(queue)), agents, contacts, offers


def over(connection: Connection, contacts: Iterable[str], since: float, shard: int) -> list[tuple[Row, list[Row]]]:
    """Those of these contacts that the shard had and that ended since then, each with its offers."""
    ids = [id for id in contacts if is_id(id)]
    ended = contact.c.id.in_(ids), contact.c.ended_at > since, contact.c.shard == shard
    rows = fetch(connection, select(*CONTACT_FIELDS).where(*ended)) if ids else []
    offers = fetch(connection, select(offer).where(offer.c.contact.in_([row["id"] for row in rows]))) if rows else []
    return [(row, [one for one in offers if one["contact"] == row["id"]]) for row in rows]


def contacts_offered(connection: Connection, offer_id: str) -> list[str]:
    """The contact of an offer, if there is such an offer."""
    return list(connection.execute(select(offer.c.contact).where(offer.c.id == offer_id)).scalars()) if is_id(offer_id) else []


def still_ours(connection: Connection, shard: int, epoch: int) -> bool:
    """Whether nobody has opened the desk since; until the transaction ends nobody can."""
    mine = update(desk_epoch).where(desk_epoch.c.shard == shard, desk_epoch.c.epoch == epoch).values(epoch=epoch)
    return connection.execute(mine).rowcount == 1


def of_desk(changes: Changes) -> list[bulk.Insert]:
    """What changed on the desk, as insertions."""
    inserts = []
    for name, (table, key) in KEYS.items():
        columns = bulk.columns_of(table)
        inserts.append(bulk.Insert(table, getattr(changes, name), columns, (key,), tuple(column for column in columns if column != key)))
    packed = [{**row, "record": _packed(row["record"])} for row in changes.decisions]
    met = {row["customer"]: row for row in changes.contacts if row["customer"] and row["agent"] and row["answered_at"]}
    acquaintances = [{"customer": customer, "agent": row["agent"], "at": row["answered_at"]} for customer, row in met.items()]
    return [
        *inserts,
        bulk.Insert(decision, packed),
        bulk.Insert(last_agent, acquaintances, key=("customer",), update=("agent", "at"), newer="at"),
    ]


def _packed(record: Row) -> str:
    """A record is long, and much of it is said again and again."""
    return b64encode(zlib.compress(orjson.dumps(record), 1)).decode()


def decisions_on(connection: Connection, contact_id: str) -> list[Row]:
    """Every offer of a contact with the record of its decision, first to last."""
    query = (
        select(decision, offer.c.state, offer.c.reason)
        .join(offer, offer.c.id == decision.c.id, isouter=True)
        .where(decision.c.contact == contact_id)
        .order_by(decision.c.at, decision.c.id)
    )
    return [{**row, "record": orjson.loads(zlib.decompress(b64decode(row["record"])))} for row in fetch(connection, query)]


def prune_decisions(connection: Connection, before: float) -> None:
    connection.execute(delete(decision).where(decision.c.at < before))


def load_experience(connection: Connection, among: ColumnElement[bool] | None = None) -> dict[str, Any]:
    query = select(experience) if among is None else select(experience).where(among)
    return {row.queue: row.learnt for row in connection.execute(query)}


def save_experience(connection: Connection, learnt: Mapping[str, Any]) -> None:
    rows = [{"queue": name, "learnt": row} for name, row in learnt.items()]
    bulk.insert(connection, experience, rows, key=("queue",), update=("learnt",))


def forget_customer(connection: Connection, customer: str, stand_in: str, contacts: Sequence[str]) -> None:
    """In the contacts that are over; the desk has forgotten them in the others. One that is being dialled keeps its number until then."""
    theirs = or_(contact.c.customer == customer, contact.c.id.in_([id for id in contacts if is_id(id)]))
    over = or_(contact.c.ended_at.is_not(None), contact.c.state.in_(("ended", "abandoned", "released", "closed")))
    query = select(contact.c.id, contact.c.customer, contact.c.facts).where(theirs, over)
    for row in connection.execute(query.with_for_update()).all():
        facts = {name: value for name, value in row.facts.items() if name not in ABOUT_CUSTOMER}
        changed = {"customer": row.customer and stand_in, "caller": "", "facts": facts}
        connection.execute(update(contact).where(contact.c.id == row.id).values(**changed))
    connection.execute(delete(last_agent).where(last_agent.c.customer == customer))


def last_agents(connection: Connection, customers: Iterable[str]) -> dict[str, str]:
    """customer -> the agent who spoke last with them"""
    query = select(last_agent.c.customer, last_agent.c.agent).where(last_agent.c.customer.in_(set(customers)))
    return {row.customer: row.agent for row in connection.execute(query)}


def note_people(connection: Connection, events: Sequence[Event]) -> dict[str, bool]:
    """Keep whether people still work here, unless something newer is known: person -> active, of those of whom there is news."""
    last = {event.data["person"]: event for event in sorted(events, key=lambda event: event.sequence)}
    rows = [{"id": id, "active": event.data["active"], "sequence": event.sequence} for id, event in last.items()]
    written = bulk.insert(
        connection, person, rows, key=("id",), update=("active", "sequence"), newer="sequence", returning=("id", "active")
    )
    return {str(row.id): bool(row.active) for row in written}


def departed(connection: Connection) -> set[str]:
    """Everybody who has left."""
    return set(connection.execute(select(person.c.id).where(person.c.active.is_(False))).scalars())


def save_legs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """The last of several rows of one leg counts. Returns the legs (contact, number) of which we did not know anything newer."""
    last = {(row["contact"], row["number"]): row for row in rows}
    key = ("contact", "number")
    written = bulk.insert(
        connection, leg, list(last.values()), columns=LEG_COLUMNS, key=key, update=LEG_FACTS, newer="sequence", returning=key
    )
    return {(str(row.contact), row.number) for row in written}


def note_holds(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Of the legs that the desk writes telephony alone knows the holds: of others they come with all the rest."""
    known = {(row["contact"], row["number"]): row for row in rows if row["holds"] is not None}
    for (contact_id, number), row in sorted(known.items()):
        ours = leg.c.contact == contact_id, leg.c.number == number, leg.c.sequence >= FIRST_OF_THE_DESK
        connection.execute(update(leg).where(*ours).values(holds=row["holds"], on_hold_seconds=row["on_hold_seconds"]))


def of_routed_legs(rows: Sequence[Row]) -> bulk.Insert:
    return bulk.Insert(leg, rows, LEG_COLUMNS, ("contact", "number"), ROUTED_FACTS, "sequence")


def hand_back(connection: Connection, contact: str, number: int) -> None:
    """The leg is the telephony system's to tell again: whatever it tells counts, although the desk wrote later."""
    written_here = leg.c.sequence >= FIRST_OF_THE_DESK
    connection.execute(update(leg).where(leg.c.contact == contact, leg.c.number == number, written_here).values(sequence=0))


def save_observed_agents(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    last = {(row["source"], row["agent"], row["queue"]): row for row in rows}
    facts = ("address", "state", "reason", "since", "sequence")
    bulk.insert(connection, observed_agent, list(last.values()), key=("source", "agent", "queue"), update=facts, newer="sequence")


def agents_of(connection: Connection, source: str) -> set[str]:
    """Every name under which a source has told of agents."""
    told = connection.execute(select(observed_agent.c.agent, observed_agent.c.address).where(observed_agent.c.source == source))
    return {name for row in told for name in row if name}


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


def news_among(connection: Connection, legs: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
    """Of legs as told by events with these sequences, those of which we know nothing newer."""
    query = select(leg.c.contact, leg.c.number, leg.c.sequence).where(leg.c.contact.in_({contact for contact, _ in legs}))
    newest = {(row.contact, row.number): row.sequence for row in connection.execute(query)}
    return {key for key, sequence in legs.items() if newest.get(key, 0) <= sequence}


def page(connection: Connection, table: Table, after: str, limit: int, among: ColumnElement[bool]) -> Row:
    """Queues or agents by name, from behind `after`, of those that the condition leaves over; `next` is what to ask for more with."""
    key = next(iter(table.primary_key))
    by_name = key.collate("C") if connection.dialect.name == "postgresql" else key
    columns = [column for column in table.c if column.name != "shard"]
    rows = fetch(connection, select(*columns).where(by_name > after, among).order_by(by_name).limit(limit + 1))
    return {"items": rows[:limit], "next": rows[limit - 1][key.name] if len(rows) > limit else None}


def fetch(connection: Connection, query: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]
