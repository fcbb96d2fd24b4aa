"""The log of all events that the gateway hears: what streams and webhooks read from, each at its own place.

Positions rise in the order of the commits: whoever has read up to one has missed nothing before it. They rise with gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, String, Table, Text, cast, func, select, text

from services.gateway.store import metadata
from shared import clock, contracts
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial

stream_event = Table(
    "stream_event",
    metadata,
    Column("position", Serial, primary_key=True, autoincrement=True),
    Column("id", Id, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("subject", Text, nullable=False),
    Column("contact", Text),
    Column("queue", Text),
    Column("agent", Text),
    Column("people", Text),
    Column("body", Document, nullable=False),
    sqlite_autoincrement=True,
)
"""`at`: when it came here; `body`: the whole CloudEvent; contact, queue and agent: whom it concerns, where it names any;
`people`: who of those that do not lead may see it, each in lines of their own with one before and after (null: it is not said)."""

COLUMNS = ("id", "type", "at", "subject", "contact", "queue", "agent", "people", "body")
ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtext('answerline stream_event'), 0)")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the log. `body` is the CloudEvent as JSON text."""

    position: int
    id: str
    type: str
    at: float
    subject: str
    contact: str | None
    queue: str | None
    agent: str | None
    people: frozenset[str] | None
    body: str


@dataclass(frozen=True, slots=True)
class Extent:
    """What the log holds: after `start`, up to `end`; its first event came at `since` (None: there was none yet)."""

    start: int = 0
    end: int = 0
    since: float | None = None


def append(work: Work, events: Sequence[Event]) -> None:
    """Write down what was heard, in this order. No other transaction writes before this one is over."""
    rows = [_row(event) for event in events]
    if work.connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        work.connection.execute(ONE_AT_A_TIME)
    bulk.insert(work.connection, stream_event, rows, columns=COLUMNS)


def _row(event: Event) -> dict[str, Any]:
    published = replace(event, data=contracts.write(event.type, event.data))
    data, leg = published.data, published.data.get("leg")
    leg = leg if isinstance(leg, Mapping) else {}
    return {
        "id": event.id,
        "type": event.type,
        "at": clock.now(),
        "subject": event.subject,
        "contact": data.get("contact"),
        "queue": data.get("queue") or leg.get("queue"),
        "agent": data.get("agent") or leg.get("agent") or data.get("person"),
        "people": "".join(f"\n{person}\n" for person in data["people"]) if "people" in data else None,
        "body": published.envelope(),
    }


def after(connection: Connection, position: int, types: Collection[str] | None, limit: int) -> list[Entry]:
    """The first events after a position, of these types (None: of all), in order. Fewer than `limit`: there are no more up to the
    `newest` that was asked for before."""
    wanted = [stream_event.c.position > position]
    if types is not None:
        wanted.append(stream_event.c.type.in_(sorted(types)))
    return _entries(connection, wanted, limit)


def between(connection: Connection, start: int, end: int, limit: int, *wanted: ColumnElement[bool]) -> list[Entry]:
    """The first events after `start` and up to `end` that fulfil all that is wanted, in order."""
    return _entries(connection, [stream_event.c.position > start, stream_event.c.position <= end, *wanted], limit)


def _entries(connection: Connection, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[Entry]:
    columns = [cast(column, String).label("body") if column.name == "body" else column for column in stream_event.c]
    rows = connection.execute(select(*columns).where(*wanted).order_by(stream_event.c.position).limit(limit)).mappings()
    return [Entry(**{**row, "people": None if row["people"] is None else frozenset(row["people"].split("\n")) - {""}}) for row in rows]


def concerns(person: str) -> ColumnElement[bool]:
    """Of the rows that name this one among their people."""
    return stream_event.c.people.contains(f"\n{person}\n", autoescape=True)


def newest(connection: Connection) -> int:
    """The last position; 0 before the first event."""
    return connection.scalar(select(func.max(stream_event.c.position))) or 0


def extent(connection: Connection) -> Extent:
    """From where to where the log reaches."""
    first = connection.execute(select(stream_event.c.position, stream_event.c.at).order_by(stream_event.c.position).limit(1)).first()
    return Extent(first.position - 1, newest(connection), first.at) if first else Extent()


def prune(units: UnitOfWork, before: float) -> bool:
    """Forget a slice of what came before then; whether there may be more. The last event stays, so that its position is known."""
    with units.database.transaction() as connection:
        last = newest(connection)
        return bulk.forget_oldest(connection, stream_event.c.position, lambda row: row.position < last, lambda row: row.at < before)
