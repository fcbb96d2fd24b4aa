"""Transactions, the lease and migrations, on both kinds of database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from sqlalchemy import MetaData, inspect, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import services.gateway
import services.gateway.service  # with all tables
import services.gateway.store
import services.im
import services.im.store
import services.qa
import services.qa.store
import services.routing
import services.routing.handlers  # with all tables
import services.routing.store
import services.training
import services.training.store
from shared.bus.tables import BusTables
from shared.db import engine, lease, migrate
from shared.db.engine import Database, is_outage, why_out
from shared.db.lease import Lease, Presence
from tests.system import eventually
from tests.unit.conftest import MakeUrl

SERVICES = {
    "gateway": (services.gateway.definition, services.gateway.store),
    "im": (services.im.definition, services.im.store),
    "qa": (services.qa.definition, services.qa.store),
    "routing": (services.routing.definition, services.routing.store),
    "training": (services.training.definition, services.training.store),
}


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    with closing(Database(url)) as made:
        yield made


# ---- transactions


def test_a_transaction_is_kept_whole_or_not_at_all(db: Database) -> None:
    with db.transaction() as connection:
        connection.execute(text("create table t (n integer primary key)"))
    with pytest.raises(IntegrityError), db.transaction() as connection:
        connection.execute(text("insert into t values (1)"))
        connection.execute(text("insert into t values (1)"))
    with db.reading() as connection:
        assert connection.scalar(text("select count(*) from t")) == 0


def test_nothing_done_while_reading_is_kept(db: Database) -> None:
    with db.transaction() as connection:
        connection.execute(text("create table t (n integer)"))
    if not db.sqlite:
        with db.reading() as connection:
            connection.execute(text("insert into t values (1)"))
        with db.reading() as connection:
            assert connection.scalar(text("select count(*) from t")) == 0


def test_an_error_does_not_show_the_parameters(db: Database) -> None:
    with pytest.raises(DBAPIError) as caught, db.reading() as connection:
        connection.execute(text("select nothing.here, :caller"), {"caller": "+49 30 1234567"})
    assert "parameters hidden" in str(caught.value)


def test_a_lost_connection_is_an_outage_and_a_mistake_is_none(db: Database) -> None:
    assert is_outage(OperationalError("x", None, Exception()))
    assert is_outage(PoolTimeout())
    assert is_outage(DBAPIError("x", None, Exception(), connection_invalidated=True))
    assert not is_outage(IntegrityError("x", None, Exception()))
    assert not is_outage(ValueError())


def test_a_row_too_long_for_an_index_is_no_outage(db: Database) -> None:
    with db.transaction() as connection:
        connection.execute(text("create table t (name text primary key)"))
    long = "".join(map(chr, range(33, 4033)))
    try:
        with db.transaction() as connection:
            connection.execute(text("insert into t values (:name)"), {"name": long})
    except DBAPIError as error:
        assert not is_outage(error)
    else:
        assert db.sqlite


# ---- the lease


def test_one_at_a_time_holds_the_lease(url: str) -> None:
    with closing(Database(url)) as one, closing(Database(url)) as two:
        first, second, other = Lease(one, "gateway:active"), Lease(two, "gateway:active"), Lease(two, "gateway:relay")
        assert [first.acquire(), first.acquire(), second.acquire(), other.acquire()] == [True, True, False, True]
        first.release()
        eventually(second.acquire)  # the server may learn a moment later that we have gone
        assert not first.acquire()
        second.release()


def test_a_dead_holder_frees_the_lease(url: str) -> None:
    code = f"""
from shared.db.engine import Database
from shared.db.lease import Lease
lease = Lease(Database({url!r}), "gateway:active")
print(lease.acquire(), flush=True)
input()
"""
    with closing(Database(url)) as db:
        ours = Lease(db, "gateway:active")
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout and holder.stdout.readline() == b"True\n"
            assert not ours.acquire()
            holder.kill()
            holder.wait()
        eventually(ours.acquire)
        ours.release()


def test_processes_that_are_present_are_counted(make_url: MakeUrl) -> None:
    url = make_url("unit")
    if url.startswith("sqlite"):
        return  # an embedded centre has one
    with closing(Database(url)) as one, closing(Database(url)) as two:
        first, second, other = Presence(one, "routing"), Presence(two, "routing"), Presence(two, "gateway")
        assert (first.count(), other.count(), second.count(), first.count()) == (1, 1, 2, 2)
        second.leave()
        eventually(lambda: first.count() == 1)
        ours = "pid <> pg_backend_pid() and datname = current_database()"
        with one.transaction() as connection:
            connection.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {ours}"))
        with pytest.raises(DBAPIError):
            first.count()
        eventually(lambda: first.count() == 1)


def test_a_holder_whose_connection_dies_notices(make_url: MakeUrl) -> None:
    url = make_url("unit")
    with closing(Database(url)) as one, closing(Database(url)) as two:
        if one.sqlite:
            return  # a file lock cannot be lost
        first, second = Lease(one, "gateway:active"), Lease(two, "gateway:active")
        assert first.acquire()
        with two.transaction() as connection:
            connection.execute(
                text(
                    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
                )
            )
        with pytest.raises(DBAPIError) as lost:
            first.acquire()
        assert is_outage(lost.value)
        eventually(second.acquire)  # the server may learn a moment later that we have gone
        assert not first.acquire()
        second.release()


def test_a_holder_that_stands_still_is_relieved(make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url("unit")
    with closing(Database(url)) as one, closing(Database(url)) as two:
        if one.sqlite:
            return  # an embedded centre is one process
        first, second = Lease(one, "gateway:active"), Lease(two, "gateway:active")
        assert first.acquire()
        assert not second.acquire()
        first.keep()
        monkeypatch.setattr(lease, "FROZEN_SECONDS", -1.0)  # it has not asked for long enough
        assert not second.acquire()
        monkeypatch.undo()
        eventually(second.acquire)
        with pytest.raises(DBAPIError):
            first.keep()  # it wakes up, and finds so before it goes on
        assert not first.acquire()
        second.release()


def test_a_lease_outlives_a_time_out_in_the_middle_of_asking_for_it(make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url("unit")
    with closing(Database(url)) as one, closing(Database(url)) as two:
        if one.sqlite:
            return  # a file is not asked
        first, second = Lease(one, "gateway:active"), Lease(two, "gateway:active")
        assert first.acquire()
        held = first._connection
        assert held is not None

        def cut_short(_question: Any) -> None:
            held.exec_driver_sql("select 1")
            held.invalidate()
            raise TimeoutError

        monkeypatch.setattr(held, "scalar", cut_short)
        with pytest.raises(TimeoutError):
            first.acquire()
        monkeypatch.undo()
        eventually(first.acquire)
        assert not second.acquire()
        first.release()


def test_a_full_disk_is_told_from_a_database_that_is_away() -> None:
    assert issubclass(psycopg2.errors.DiskFull, psycopg2.OperationalError), "so it is an outage, and tried again"
    told = {why_out(OperationalError("x", None, cause)) for cause in (sqlite3.OperationalError("database or disk is full"), _disk_full())}
    assert len(told) == 1
    assert "disk is full" in told.pop()
    assert "out of reach" in why_out(OperationalError("x", None, Exception("connection refused")))


def _disk_full() -> Exception:
    return type("DiskFull", (Exception,), {"pgcode": "53100"})("could not extend file")  # only the driver can make one with its code


# ---- migrations

pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")


FIRST_BUS = {
    "outbox": "seq id type subject body written_at published_at",
    "inbox": "id at",
    "set_aside": "position id type subject body state attempts next_try_at cause at",
    "tally": "bucket events",
    "checkpoint": "publisher position previous",
}


def test_the_first_revision_makes_the_bus_tables_of_its_release(db: Database) -> None:
    """Released: it never changes, whatever shared.bus.tables says later."""
    with db.transaction() as connection:
        migrate.create_bus_tables(connection)
    made = shape(db.engine)
    assert {table: " ".join(told["columns"]) for table, told in made.items()} == FIRST_BUS
    assert {table: told["key"] for table, told in made.items()} == {
        "outbox": ["seq"], "inbox": ["id"], "set_aside": ["position"], "tally": ["bucket"], "checkpoint": ["publisher"],
    }  # fmt: skip


def shape(engine: Engine) -> dict[str, Any]:
    """Everything of a database's tables that can differ."""
    look = inspect(engine)
    names = set(look.get_table_names()) - {"alembic_version", "sqlite_sequence"}

    def sort(rows: list[Any]) -> list[str]:
        return sorted(str(sorted(row.items(), key=str)) for row in rows)

    return {
        name: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"], column.get("autoincrement"))
                for column in look.get_columns(name)
            },
            "key": look.get_pk_constraint(name)["constrained_columns"],
            "indexes": sort(
                [{key: row[key] for key in ("name", "unique", "column_names")} | {"where": where(row)} for row in look.get_indexes(name)]
            ),
            "unique": sorted(row["column_names"] for row in look.get_unique_constraints(name)),
        }
        for name in names
    }


def where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("postgresql_where", options.get("sqlite_where", ""))).replace("(", "").replace(")", "").lower()


@pytest.mark.parametrize("name", SERVICES)
def test_a_migrated_database_is_what_the_service_expects(name: str, make_url: MakeUrl) -> None:
    definition, store = SERVICES[name]
    with closing(Database(make_url("migrated"))) as migrated, closing(Database(make_url("expected"))) as expected:
        migrate.upgrade(migrated, definition.migrations)
        store.metadata.create_all(expected.engine)
        bus = MetaData()
        BusTables(bus)
        bus.create_all(expected.engine)
        assert shape(migrated.engine) == shape(expected.engine)
        assert {"outbox", "inbox", "set_aside", "tally", "checkpoint"} < shape(migrated.engine).keys()


@pytest.mark.parametrize("name", SERVICES)
def test_upgrading_twice_changes_nothing(name: str, db: Database) -> None:
    definition, _ = SERVICES[name]
    migrate.upgrade(db, definition.migrations)
    with db.transaction() as connection:
        connection.execute(text("insert into tally (bucket, events) values ('received', 7)"))
    before = shape(db.engine)
    migrate.upgrade(db, definition.migrations)
    with db.reading() as connection:
        assert connection.scalar(text("select events from tally")) == 7
    assert shape(db.engine) == before


def test_processes_that_start_together_wait_for_one_another(url: str) -> None:
    code = f"""
from shared.db import migrate
from shared.db.engine import Database
import services.routing
import services.routing.handlers  # with all tables
input()
migrate.upgrade(Database({url!r}), services.routing.definition.migrations)
"""
    starting = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in starting:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    said = [process.communicate()[1].decode() for process in starting]
    assert [process.returncode for process in starting] == [0, 0], "\n".join(said)
    with closing(Database(url)) as db:
        assert "leg" in shape(db.engine)


def test_a_step_of_a_migration_may_take_hours(make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float] = []
    monkeypatch.setattr(migrate, "_run", lambda *_: patience.append(engine.PATIENCE.get()))
    with closing(Database(make_url("slow"))) as db:
        migrate.upgrade(db, Path())
        assert db.sqlite or patience[0] > 36_000
    assert engine.PATIENCE.get() < 36_000


SILENT = """
from shared.runtime import patch
patch.apply()
import socket
from sqlalchemy.exc import OperationalError
from shared.db import engine
engine.PROMPT_SECONDS = 0.05
silent = socket.create_server(("127.0.0.1", 0))
try:
    with engine.Database(f"postgresql://anna:secret@127.0.0.1:{silent.getsockname()[1]}/x").reading():
        raise AssertionError("nobody answered")
except OperationalError as error:
    assert engine.is_outage(error)
    print(error.orig)
"""


def test_a_server_that_takes_a_connection_and_says_nothing_is_an_outage() -> None:
    told = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "the database said nothing for 0.05 s", told.stderr
