"""Schema migrations: each service keeps its Alembic revisions in its own `migrations` folder."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from shared.bus.tables import BusTables
from shared.db.engine import Database

log = structlog.get_logger()

SCRIPTS = Path(__file__).parent / "alembic"
LOCK = 4_117_001
LOCK_TIMEOUT = "10s"


def upgrade(database: Database, migrations: Path, revision: str = "head") -> None:
    """Bring the database to the newest revision. Processes that start together wait for one another."""
    config = _config(migrations)
    if database.sqlite:
        with database.transaction() as connection:
            _run(config, connection, revision)
    else:
        with database.engine.begin() as connection:
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


def is_current(database: Database, migrations: Path) -> bool:
    """Whether the database is at our newest revision, or at one of a newer Answerline, whose migrations ours can work with."""
    known = ScriptDirectory.from_config(_config(migrations))
    revision = revision_of(database)
    if revision is None:
        return False
    return revision == known.get_current_head() or revision not in {script.revision for script in known.walk_revisions()}


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
    """The first revision of every service makes outbox, inbox, set_aside, tally and checkpoint."""
    metadata = MetaData()
    BusTables(metadata)
    metadata.create_all(connection)
