"""The gateway's tables, and the statements that read and write them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    select,
    text,
)

from services.gateway.domain.legs import Snapshot
from shared.db import bulk
from shared.db.engine import LeaseLostError
from shared.db.types import Document, Id, Moment, Serial
from shared.ids import lowest_id

metadata = MetaData()

LONGEST_NAME = 200

intake = Table(
    "intake",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("observation", Document, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("processed_at", Moment),
    UniqueConstraint("source", "key"),
    sqlite_autoincrement=True,
)
Index("intake_unprocessed", intake.c.seq, postgresql_where=intake.c.processed_at.is_(None), sqlite_where=intake.c.processed_at.is_(None))

refused = Table(
    "refused",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("door", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_at", Moment, nullable=False),
)

contact = Table(
    "contact",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("required_skills", Document, nullable=False),
    Column("wishes", Document, nullable=False),
    Column("observations", Document, nullable=False),
    Column("legs", Document, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("merged_into", Id),
)
Index("contact_open", contact.c.source, postgresql_where=contact.c.is_open, sqlite_where=contact.c.is_open)

call_alias = Table(
    "call_alias",
    metadata,
    Column("source", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("contact", Id, nullable=False, index=True),
)

agent_report = Table(
    "agent_report",
    metadata,
    Column("source", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    Column("report", Document, nullable=False),
    Column("sequence", Integer, nullable=False),
)

source_restart = Table(
    "source_restart",
    metadata,
    Column("source", Text, primary_key=True),
    Column("at", Moment, primary_key=True),
)

source_snapshot = Table(
    "source_snapshot",
    metadata,
    Column("source", Text, primary_key=True),
    Column("at", Moment, primary_key=True),
    Column("calls", Document, nullable=False),
)

source = Table(
    "source",
    metadata,
    Column("name", Text, primary_key=True),
    Column("settings", Document, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("deleted_at", Moment),
)
"""One that was deleted stays, with its settings for what it left behind."""

source_secret = Table(
    "source_secret",
    metadata,
    Column("source", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Sealed (see sealing.py); read by services.gateway.sources alone, and never shown."""

customer = Table(
    "customer",
    metadata,
    Column("id", Text, primary_key=True),
    Column("profile", Document, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

customer_number = Table(
    "customer_number",
    metadata,
    Column("number", Text, primary_key=True),
    Column("customer", Text, primary_key=True, index=True),
)
"""In E.164. Several customers may share one."""

api_key = Table(
    "api_key",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("roles", Document, nullable=False),
    Column("sites", Document, nullable=False),
    Column("teams", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
)

site = Table(
    "site",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

team = Table(
    "team",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

person = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("email_key", Text, unique=True),
    Column("site", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("roles", Document, nullable=False),
    Column("language", Text, nullable=False),
    Column("sites", Document),
    Column("teams", Document),
    Column("active", Boolean, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("changed_at", Moment, nullable=False),
)
"""`sites` and `teams`: for which the roles hold (null: the person's own; none: all)."""

password = Table(
    "password",
    metadata,
    Column("person", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("person", Text, nullable=False, index=True),
    Column("roles", Document),
    Column("made_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
)
"""Who is signed in. `roles`: where the identity provider says them, and not the directory."""

failed_sign_in = Table(
    "failed_sign_in",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("locked_until", Moment, nullable=False),
)
"""By digest of the name that was typed, and by digest of the address: neither is kept as it is."""

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("who", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("object", Text, nullable=False, index=True),
    Column("status", Integer),
    Column("summary", Text, nullable=False),
)
"""Administrative acts, by time for their ids are. `status` null: it began, and how it ended is not known."""

PENDING = {
    "postgresql": "select seq, source, observation from intake where processed_at is null order by seq limit :most",
    "sqlite": "select seq, source, observation from intake where processed_at is null order by seq limit :most",
}
MARK = {
    "postgresql": "update intake set processed_at = :at where processed_at is null and seq in (select value::bigint from json_array_elements_text(:items))",
    "sqlite": "update intake set processed_at = :at where processed_at is null and seq in (select value from json_each(:items))",
}
ALIASES = {
    "postgresql": "select a.source, a.alias, a.contact from call_alias a join json_to_recordset(:items) as i(source text, alias text) "
    "on i.source = a.source and i.alias = a.alias",
    "sqlite": "select a.source, a.alias, a.contact from json_each(:items) i "
    "join call_alias a on a.source = i.value ->> '$.source' and a.alias = i.value ->> '$.alias'",
}
CONTACTS = {
    "postgresql": "select * from contact where id in (select value::uuid from json_array_elements_text(:items)) order by id",
    "sqlite": "select * from contact where id in (select value from json_each(:items)) order by id",
}
DOCUMENTS = ("required_skills", "wishes", "observations", "legs")


@dataclass(slots=True)
class ContactRow:
    """A contact as stored: all that was observed of it and the legs last announced. `wishes`: customer, thread, wants, facts (see Arrival)."""

    id: str
    source: str
    channel: str = "voice"
    required_skills: dict[str, int] = field(default_factory=dict)
    wishes: dict[str, Any] = field(default_factory=dict)
    observations: list[dict[str, Any]] = field(default_factory=list)
    legs: list[dict[str, Any]] = field(default_factory=list)
    sequence: int = 0
    is_open: bool = True
    merged_into: str | None = None

    def to_row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


CONTACT_COLUMNS = tuple(ContactRow.__slots__)


def pending(connection: Connection, most: int) -> Sequence[Any]:
    return connection.execute(text(PENDING[connection.dialect.name]).columns(observation=Document), {"most": most}).all()


def mark_processed(connection: Connection, seqs: Sequence[int], at: float) -> None:
    """Claims the rows for this transaction. Raises LeaseLostError when another process was quicker."""
    claimed = connection.execute(text(MARK[connection.dialect.name]), {"items": orjson.dumps(seqs).decode(), "at": at}).rowcount
    if claimed != len(seqs):
        raise LeaseLostError("another gateway process is correlating")


def contacts_of(connection: Connection, aliases: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(source, alias) -> contact, for those known."""
    items = [{"source": source, "alias": alias} for source, alias in aliases]
    return {(row.source, row.alias): str(row.contact) for row in bulk.values(connection, ALIASES, items)} if items else {}


def lock_aliases(connection: Connection, sources: Iterable[str]) -> None:
    """Until the transaction ends nobody else gives calls of these sources to contacts. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        for source in sorted(set(sources)):
            connection.execute(text("select pg_advisory_xact_lock(hashtextextended(:source, 0))"), {"source": source})


def load_contacts(connection: Connection, ids: Iterable[str]) -> dict[str, ContactRow]:
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    typed = dict.fromkeys(DOCUMENTS, Document)
    rows = connection.execute(text(CONTACTS[connection.dialect.name]).columns(**typed), {"items": orjson.dumps(wanted).decode()}).mappings()
    return {row["id"]: _contact(row) for row in rows}


def open_contacts(connection: Connection, source: str) -> dict[str, ContactRow]:
    query = select(contact).where(contact.c.source == source, contact.c.is_open)
    return {row["id"]: _contact(row) for row in connection.execute(query).mappings()}


def open_since(connection: Connection, before: float) -> list[ContactRow]:
    """Open contacts made before that moment, of all sources."""
    query = select(contact).where(contact.c.is_open, contact.c.id < lowest_id(before))
    return [_contact(row) for row in connection.execute(query).mappings()]


def _contact(row: RowMapping) -> ContactRow:
    values = {name: row[name] for name in CONTACT_COLUMNS}
    values["is_open"] = bool(values["is_open"])
    return ContactRow(**values)


def save_contacts(connection: Connection, rows: Iterable[ContactRow]) -> None:
    changing = [name for name in CONTACT_COLUMNS if name not in ("id", "source")]
    bulk.insert(connection, contact, [row.to_row() for row in rows], columns=CONTACT_COLUMNS, key=("id",), update=changing)


def save_aliases(connection: Connection, contact_of: Mapping[tuple[str, str], str]) -> None:
    rows = [{"source": source, "alias": alias, "contact": id} for (source, alias), id in contact_of.items()]
    bulk.insert(connection, call_alias, rows, key=("source", "alias"), update=("contact",))


def latest_snapshot(connection: Connection, source: str) -> float | None:
    return connection.scalar(select(func.max(source_snapshot.c.at)).where(source_snapshot.c.source == source))


def snapshots_of(connection: Connection, source: str, since: float) -> list[Snapshot]:
    """Of this source, later than `since`, by time."""
    table = source_snapshot
    query = select(table.c.at, table.c.calls).where(table.c.source == source, table.c.at > since).order_by(table.c.at)
    return [Snapshot(row.at, frozenset(row.calls)) for row in connection.execute(query)]


def forget_snapshots(connection: Connection, before: float) -> None:
    """All older than that, but for the latest of each source."""
    table, later = source_snapshot, source_snapshot.alias()
    latest = select(func.max(later.c.at)).where(later.c.source == table.c.source).scalar_subquery()
    connection.execute(delete(table).where(table.c.at < before, table.c.at < latest))


def restarts_of(connection: Connection, source: str) -> list[float]:
    return list(connection.scalars(select(source_restart.c.at).where(source_restart.c.source == source).order_by(source_restart.c.at)))
