"""Schema migrations: each service keeps its Alembic revisions in its own `migrations` folder."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text

from shared.bus.tables import BusTables
from shared.db.engine import Database

log = structlog.get_logger()

SCRIPTS = Path(__file__).parent / "alembic"
LOCK = 4_117_001
LOCK_TIMEOUT = "10s"


def upgrade(database: Database, migrations: Path, revision: str = "head") -> None:
    """Bring the database to the newest revision. Processes that start together wait for one another."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "os")
    if database.sqlite:
        with database.transaction() as connection:
            _run(config, connection, revision)
    else:
        with database.engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})
            connection.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
            _run(config, connection, revision)


def _run(config: Config, connection: Connection, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def create_bus_tables(connection: Connection) -> None:
    """The first revision of every service makes outbox, inbox, set_aside, tally and checkpoint."""
    metadata = MetaData()
    BusTables(metadata)
    metadata.create_all(connection)
