"""What tests of both services and of `shared` need: an empty database of either kind, and a clock that they set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database

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
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database; the test runs once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/unit.sqlite3"
    return str(request.getfixturevalue("database").create("unit"))


@pytest.fixture
def make_units(url: str) -> Iterator[MakeUnits]:
    """Makes the tables of a service, beside those of the bus, and gives its units of work."""
    database = Database(url)

    def make(metadata: MetaData) -> UnitOfWork:
        metadata.create_all(database.engine)
        bus = MetaData()
        tables = BusTables(bus)
        bus.create_all(database.engine)
        return UnitOfWork(database, tables)

    yield make
    database.close()


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    """The bus alone."""
    return make_units(MetaData())
