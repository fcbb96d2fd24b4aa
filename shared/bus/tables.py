"""The tables that let a service's database and the broker agree; every service has them beside its own."""

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text

from shared.db.types import Document, Id, Moment, Serial


class BusTables:
    """outbox: what this service announces. inbox: what it has applied. set_aside: what it could not apply yet, or ever.
    tally: how many events ended where. checkpoint: how far each publisher's stream is known to be complete."""

    def __init__(self, metadata: MetaData) -> None:
        self.outbox = Table(
            "outbox",
            metadata,
            Column("seq", Serial, primary_key=True, autoincrement=True),
            Column("id", Id, nullable=False, unique=True),
            Column("type", Text, nullable=False),
            Column("subject", Text, nullable=False),
            Column("body", Document, nullable=False),
            Column("written_at", Moment, nullable=False),
            Column("published_at", Moment),
            sqlite_autoincrement=True,
        )
        waiting = self.outbox.c.published_at.is_(None)
        Index("outbox_unpublished", self.outbox.c.seq, postgresql_where=waiting, sqlite_where=waiting)
        self.inbox = Table("inbox", metadata, Column("id", Id, primary_key=True), Column("at", Moment, nullable=False, index=True))
        self.set_aside = Table(
            "set_aside",
            metadata,
            Column("position", Serial, primary_key=True, autoincrement=True),
            Column("id", Text, nullable=False, unique=True),
            Column("type", Text, nullable=False),
            Column("subject", Text, nullable=False, index=True),
            Column("body", Text, nullable=False),
            Column("state", Text, nullable=False, index=True),
            Column("attempts", Integer, nullable=False),
            Column("next_try_at", Moment, nullable=False),
            Column("cause", Text, nullable=False),
            Column("at", Moment, nullable=False),
            sqlite_autoincrement=True,
        )
        self.tally = Table("tally", metadata, Column("bucket", Text, primary_key=True), Column("events", Serial, nullable=False))
        self.checkpoint = Table(
            "checkpoint",
            metadata,
            Column("publisher", Text, primary_key=True),
            Column("position", Serial, nullable=False),
            Column("previous", Serial, nullable=False),
        )
