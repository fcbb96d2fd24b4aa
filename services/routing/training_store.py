"""What training said last of each person and channel, whether or not there is such an agent yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Integer, Table, Text, select

from services.routing.store import metadata
from shared.bus.envelope import Event
from shared.db import bulk
from shared.db.types import Document, Moment, Serial

training_word = Table(
    "training_word",
    metadata,
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("until", Moment),
    Column("supervisor", Text),
    Column("per_day", Integer),
    Column("sequence", Serial, nullable=False),
    Column("queues", Document),
)
"""kind: certified (until None: without end), permitted or lapsed. The row with the highest sequence holds."""

KINDS = {
    "training.certified.v1": "certified",
    "training.practice_permitted.v1": "permitted",
    "training.certification_lapsed.v1": "lapsed",
}


def note(connection: Connection, events: Sequence[Event]) -> dict[str, list[str]]:
    """Keep what these events say, unless something newer is known. Returns of whom there is news, and on which channels."""
    last = {(event.data["person"], event.data["channel"]): event for event in sorted(events, key=lambda event: event.sequence)}
    rows = [
        {
            "person": person,
            "channel": channel,
            "kind": KINDS[event.type],
            "until": event.data.get("expires_at") or event.data.get("until"),
            "supervisor": event.data.get("supervisor"),
            "per_day": event.data.get("contacts_a_day"),
            "sequence": event.sequence,
            "queues": event.data.get("queues"),
        }
        for (person, channel), event in last.items()
    ]
    facts = ("kind", "until", "supervisor", "per_day", "sequence", "queues")
    key = ("person", "channel")
    written = bulk.insert(connection, training_word, rows, key=key, update=facts, newer="sequence", returning=key)
    news: dict[str, list[str]] = {}
    for row in written:
        news.setdefault(str(row.person), []).append(str(row.channel))
    return news


def words_on(connection: Connection, person: str, channels: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """{channel, kind, until, supervisor, per_day, queues} of a person, of all channels or of these."""
    query = select(training_word).where(training_word.c.person == person).order_by(training_word.c.channel)
    rows = connection.execute(query if channels is None else query.where(training_word.c.channel.in_(set(channels)))).mappings()
    return [dict(row) for row in rows]


def spoken_for(connection: Connection, people: Iterable[str]) -> list[str]:
    """Those of whom training has said something."""
    query = select(training_word.c.person).where(training_word.c.person.in_(set(people))).distinct()
    return list(connection.scalars(query.order_by(training_word.c.person)))
