"""What tests of both services and of `shared` need: an empty database of either kind, and a clock that they set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from sqlalchemy import MetaData

from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database
from tests.stack import Database as Server

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # these tests make trouble on purpose

MakeUrl = Callable[[str], str]
MakeUnits = Callable[..., UnitOfWork]


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
    server = request.getfixturevalue("database")
    return lambda name: _empty(server, name)


_made: set[str] = set()


def _empty(server: Server, name: str) -> str:
    """Emptying a database takes a tenth of the time of making one."""
    url = server.url_of(server.prefix + name) if name in _made else server.create(name)
    _made.add(name)
    server.run("drop schema public cascade; create schema public", url=url)
    return url


@pytest.fixture
def url(make_url: MakeUrl) -> str:
    return make_url("unit")


@pytest.fixture
def make_units(make_url: MakeUrl) -> Iterator[MakeUnits]:
    """Makes a service's database, with its tables beside those of the bus, and gives its units of work."""
    with ExitStack() as open_databases:

        def make(metadata: MetaData, name: str = "unit") -> UnitOfWork:
            database = open_databases.enter_context(closing(Database(make_url(name))))
            bus = MetaData()
            tables = BusTables(bus)
            bus.create_all(database.engine)
            metadata.create_all(database.engine)
            return UnitOfWork(database, tables)

        yield make


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    """The bus alone."""
    return make_units(MetaData())
