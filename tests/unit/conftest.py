"""What tests of both services and of `shared` need: an empty database of either kind, and a clock that they set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import structlog
from sqlalchemy import MetaData

from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # these tests make trouble on purpose

MakeUrl = Callable[[str], str]
MakeHouse = Callable[[MetaData], tuple[Database, BusTables]]
MakeUnits = Callable[[MetaData], UnitOfWork]


@dataclass
class SetClock:
    """The time of day as the house sees it; monotonic time goes along."""

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    time = SetClock()
    monkeypatch.setattr(clock, "now", time)
    monkeypatch.setattr(clock, "monotonic", time)
    return time


@pytest.fixture(params=["sqlite", "postgresql"])
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> MakeUrl:
    """Makes empty databases; the test runs once for each kind."""
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path / name}.sqlite3"
    make: MakeUrl = request.getfixturevalue("database").create
    return make


@pytest.fixture
def url(make_url: MakeUrl) -> str:
    return make_url("unit")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def make_house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHouse]:
    """Makes a service's database with its tables beside those of the bus, once a session."""
    with ExitStack() as open_databases:

        @cache
        def make(metadata: MetaData) -> tuple[Database, BusTables]:
            if request.param == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('house')}/house.sqlite3"
            else:
                server, name = request.getfixturevalue("database"), f"house{id(metadata)}"
                url = server.create(name)
                server.run(f'alter database "{server.prefix}{name}" set synchronous_commit = off')
            database = open_databases.enter_context(closing(Database(url)))
            bus = MetaData()
            tables = BusTables(bus)
            bus.create_all(database.engine)
            metadata.create_all(database.engine)
            return database, tables

        yield make


@pytest.fixture
def make_units(make_house: MakeHouse) -> MakeUnits:
    """A service's units of work on a database without rows; the test runs once for each kind."""

    def make(metadata: MetaData) -> UnitOfWork:
        database, tables = make_house(metadata)
        all_tables = reversed([*metadata.sorted_tables, *tables.outbox.metadata.sorted_tables])
        statements = [f'delete from "{table.name}"' for table in all_tables]
        statements.append(
            "delete from sqlite_sequence" if database.sqlite else "select setval(oid, 1, false) from pg_class where relkind = 'S'"
        )
        with database.transaction() as connection:
            for statement in statements if database.sqlite else ["; ".join(statements)]:
                connection.exec_driver_sql(statement)
        return UnitOfWork(database, tables)

    return make


NOTHING = MetaData()


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    """The bus alone."""
    return make_units(NOTHING)
