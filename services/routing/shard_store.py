"""Which shard has which pool, and the mail between shards. All shards share one database: what one gives and another gets is decided there,
in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Column, Connection, Index, Integer, Table, Text, delete, func, select, text

from services.routing.domain.entities import Contact
from services.routing.store import AGENT_FIELDS, CONTACT_FIELDS, agent, contact, metadata, queue
from shared import clock
from shared.db import bulk
from shared.db.types import Document, Moment, Serial
from shared.ids import is_id

DEFAULT_POOL = "default"
"""Always of the first shard."""

Kind = Literal[
    "event", "contact", "agent", "queue", "colleague", "rules", "restart", "report", "ask_anew", "training", "score", "people", "erased"
]  # fmt: skip

pool = Table("pool", metadata, Column("name", Text, primary_key=True), Column("shard", Integer, nullable=False))

mailbox = Table(
    "mailbox",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("shard", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Document, nullable=False),
    Column("at", Moment, nullable=False),
    sqlite_autoincrement=True,
)
"""What one shard has for another, until that one has taken it."""
Index("mailbox_shard", mailbox.c.shard, mailbox.c.seq)
Index("mailbox_subject", mailbox.c.subject)

MOST_MAIL = 1000
"""In one turn."""


Letter = tuple[int, Kind, str, Mapping[str, Any]]
"""To which shard, what, about whom."""


class Mail(NamedTuple):
    seq: int
    kind: Kind
    subject: str
    body: dict[str, Any]


# ---- pools


def pools(connection: Connection) -> dict[str, int]:
    """name -> shard"""
    return {DEFAULT_POOL: 0, **{row.name: row.shard for row in connection.execute(select(pool.c.name, pool.c.shard))}}


def assign_pools(connection: Connection, names: Iterable[str], shards: int) -> dict[str, int]:
    """All pools by shard, those named included: a pool that is named for the first time goes to the shard that has the fewest."""
    known = pools(connection)
    if set(names) <= known.keys():
        return known
    if connection.dialect.name == "postgresql":
        connection.execute(text("lock table pool in share row exclusive mode"))
        known = pools(connection)
    new = []
    for name in sorted(set(names) - known.keys()):
        known[name] = emptiest(known.values(), shards)
        new.append({"name": name, "shard": known[name]})
    bulk.insert(connection, pool, new, key=("name",))
    return known


def emptiest(taken: Iterable[int], shards: int) -> int:
    """The shard with the fewest pools, of equals the first."""
    sizes = Counter(taken)
    return min(range(shards), key=lambda shard: (sizes[shard], shard))


def named_pools(connection: Connection) -> set[str]:
    """Those of all queues and agents."""
    return {*connection.scalars(select(queue.c.pool).distinct()), *connection.scalars(select(agent.c.pool).distinct())}


def highest_shard(connection: Connection) -> int:
    """Of all that have anything."""
    live = select(func.max(contact.c.shard)).where(contact.c.ended_at.is_(None))
    return max(connection.scalar(query) or 0 for query in (select(func.max(pool.c.shard)), select(func.max(agent.c.shard)), live))


# ---- who has what


def shard_of_agent(connection: Connection, agent_id: str) -> int | None:
    shard: int | None = connection.scalar(select(agent.c.shard).where(agent.c.id == agent_id))
    return shard


def shards_of_contacts(connection: Connection, contacts: Iterable[str]) -> dict[str, int]:
    """Of those that were on a desk, or that mail to one is about."""
    ids = {id for id in contacts if is_id(id)}
    mailed = select(mailbox.c.subject, mailbox.c.shard).where(mailbox.c.kind == "event", mailbox.c.subject.in_(ids)).order_by(mailbox.c.seq)
    known = {row.subject: row.shard for row in connection.execute(mailed)}
    return known | {row.id: row.shard for row in connection.execute(select(contact.c.id, contact.c.shard).where(contact.c.id.in_(ids)))}


def pools_of_queues(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """queue -> pool"""
    found = connection.execute(select(queue.c.name, queue.c.pool).where(queue.c.name.in_(set(names))))
    return {row.name: row.pool for row in found}


def colleagues(connection: Connection, shard: int) -> dict[str, str]:
    """The presence of the agents of all other shards."""
    return {row.id: row.presence for row in connection.execute(select(agent.c.id, agent.c.presence).where(agent.c.shard != shard))}


def claimed_elsewhere(connection: Connection, shard: int, agent_id: str, names: Sequence[str]) -> str | None:
    """Another agent, of another shard, who is known by one of these names."""
    if connection.dialect.name != "postgresql" or not names:
        return None
    query = text(
        "select id from agent where shard <> :shard and id <> :agent and "
        "(id = any(:names) or address = any(:names) or cast(aliases as jsonb) ?| cast(:names as text[])) limit 1"
    )
    found: str | None = connection.scalar(query, {"shard": shard, "agent": agent_id, "names": list(names)})
    return found


def agent_rows(connection: Connection, ids: Iterable[str], shard: int) -> list[dict[str, Any]]:
    query = select(*AGENT_FIELDS).where(agent.c.id.in_(set(ids)), agent.c.shard == shard)
    return [dict(row) for row in connection.execute(query).mappings()]


def contact_rows(connection: Connection, ids: Iterable[str], shard: int | None = None) -> list[dict[str, Any]]:
    """Of one shard, or of whichever it may be."""
    query = select(*CONTACT_FIELDS).where(contact.c.id.in_(set(ids)))
    return [dict(row) for row in connection.execute(query if shard is None else query.where(contact.c.shard == shard)).mappings()]


def waiting_elsewhere(connection: Connection, shard: int, policy: str) -> list[Contact]:
    """Contacts that wait in queues with this policy, in all other shards."""
    under = contact.c.queue.in_(select(queue.c.name).where(queue.c.policy == policy))
    query = select(*CONTACT_FIELDS).where(under, contact.c.shard != shard, contact.c.ended_at.is_(None))
    return [Contact.from_row(dict(row)) for row in connection.execute(query).mappings()]


# ---- mail


def post(connection: Connection, letters: Iterable[Letter]) -> None:
    columns = ("shard", "kind", "subject", "body", "at")
    bulk.insert(connection, mailbox, [dict(zip(columns, (*letter, clock.now()), strict=True)) for letter in letters])


def has_mail(connection: Connection, shard: int) -> bool:
    return connection.scalar(select(mailbox.c.seq).where(mailbox.c.shard == shard).limit(1)) is not None


def take_mail(connection: Connection, shard: int) -> list[Mail]:
    """The oldest, in their order; gone from the mailbox when the transaction commits."""
    columns = mailbox.c.seq, mailbox.c.kind, mailbox.c.subject, mailbox.c.body
    found = connection.execute(select(*columns).where(mailbox.c.shard == shard).order_by(mailbox.c.seq).limit(MOST_MAIL)).all()
    if found:
        connection.execute(delete(mailbox).where(mailbox.c.seq.in_([row.seq for row in found])))
    return [Mail(*row) for row in found]
