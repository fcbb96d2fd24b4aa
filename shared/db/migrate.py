"""Schema migrations: each service keeps its Alembic revisions in its own `migrations` folder."""

from pathlib import Path
from typing import Literal

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from shared.db.engine import Database, promptly
from shared.db.lease import Lease

log = structlog.get_logger()

SCRIPTS = Path(__file__).parent / "alembic"
LOCK = 4_117_001
LOCK_TIMEOUT = "10s"
LONGEST = 86_400.0
"""Seconds that one step may take: of a large table an index is built without a word."""
HALF_RESTORED = "half_restored"
"""A table, or a file beside the database: a restore is about to replace, or has replaced, what was there, and is not done."""


def upgrade(database: Database, migrations: Path, revision: str = "head") -> None:
    """Bring the database to the newest revision. Processes that start together wait for one another."""
    config = _config(migrations)
    if database.sqlite:
        with database.transaction() as connection:
            _run(config, connection, revision)
    else:
        with promptly(within=LONGEST), database.engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
            connection.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
            _run(config, connection, revision)


def upgrade_within(connection: Connection, migrations: Path, revision: str = "head") -> None:
    """As `upgrade`, as a part of the caller's transaction."""
    _run(_config(migrations), connection, revision)


def revision_of(database: Database) -> str | None:
    """None: it has no tables yet."""
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def knows(migrations: Path, revision: str) -> bool:
    """Whether the revision is one of ours."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config(migrations)).walk_revisions()}


def standing(database: Database, migrations: Path) -> Literal["empty", "behind", "current", "newer"]:
    """Where its tables stand, beside the revisions that we have."""
    revision = revision_of(database)
    if revision is None:
        return "empty"
    if revision == ScriptDirectory.from_config(_config(migrations)).get_current_head():
        return "current"
    return "behind" if knows(migrations, revision) else "newer"


def is_current(database: Database, migrations: Path) -> bool:
    """Whether the database is at our newest revision, or at one of a newer Answerline, whose migrations ours can work with."""
    return standing(database, migrations) in ("current", "newer")


def is_half_restored(database: Database) -> bool:
    """Whether a restore was cut off when it had begun to replace what was there: only running it again makes a whole of it."""
    if database.sqlite:
        return half_restored_mark(database).exists()
    with database.reading() as connection:
        return connection.scalar(text("select to_regclass(:name)"), {"name": HALF_RESTORED}) is not None


def mark_half_restored(database: Database) -> None:
    if database.sqlite:
        half_restored_mark(database).touch()
        return
    with database.transaction() as connection:
        connection.execute(text(f"create table if not exists {HALF_RESTORED} (at timestamptz not null default now())"))


def mark_whole(database: Database) -> None:
    if database.sqlite:
        half_restored_mark(database).unlink(missing_ok=True)
        return
    with database.transaction() as connection:
        connection.execute(text(f"drop table if exists {HALF_RESTORED}"))


def take(lease: Lease) -> bool:
    """Whether the lease is ours now, and what it stands for can be worked with: who held it may have been a restore that was cut off. Raises when
    the database is out of reach."""
    if not lease.acquire():
        return False
    try:
        whole = not is_half_restored(lease.database)
    except BaseException:
        lease.release()
        raise
    if not whole:
        lease.release()
    return whole


def half_restored_mark(database: Database) -> Path:
    return Path(database.url.database or "").with_suffix(f".{HALF_RESTORED}")


def _config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "os")
    return config


def _run(config: Config, connection: Connection, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def create_bus_tables(connection: Connection) -> None:
    """The first revision of every service makes outbox, inbox, set_aside, tally and checkpoint, as they were when it was released. What
    `shared.bus.tables` says otherwise today is a later revision, in every service."""
    for statement in FIRST_BUS_TABLES.format_map(TYPES[connection.dialect.name]).split(";"):
        connection.execute(text(statement))


TYPES = {
    "postgresql": {"counted": "bigserial", "in_order": "", "id": "uuid", "moment": "float(53)", "number": "bigint"},
    "sqlite": {"counted": "integer", "in_order": " autoincrement", "id": "text", "moment": "float", "number": "integer"},
}
FIRST_BUS_TABLES = """
create table outbox (
    seq {counted} not null primary key{in_order},
    id {id} not null unique,
    type text not null,
    subject text not null,
    body json not null,
    written_at {moment} not null,
    published_at {moment}
);
create index outbox_unpublished on outbox (seq) where published_at is null;
create table inbox (id {id} not null primary key, at {moment} not null);
create index ix_inbox_at on inbox (at);
create table set_aside (
    position {counted} not null primary key{in_order},
    id text not null unique,
    type text not null,
    subject text not null,
    body text not null,
    state text not null,
    attempts integer not null,
    next_try_at {moment} not null,
    cause text not null,
    at {moment} not null
);
create index ix_set_aside_subject on set_aside (subject);
create index ix_set_aside_state on set_aside (state);
create table tally (bucket text not null primary key, events {number} not null);
create table checkpoint (publisher text not null primary key, position {number} not null, previous {number} not null)
"""
