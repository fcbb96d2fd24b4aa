"""The list of docs/metrics.md: every metric that the code has, with its type, labels and meaning. Generated from the code:

python -m tests.unit.shared.metrics_table
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from sqlalchemy import MetaData

from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database
from shared.observability import metrics
from shared.observability.metrics import BusCollector, StateCollector
from shared.runtime.definition import installed

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
BEGIN, END = "<!-- generated from the code -->\n", "<!-- end -->\n"
EVERY = "<service>"
OF_EVERY_SERVICE = (metrics.commands, metrics.batches, metrics.connections, metrics.shards_held)
ENDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, order=True)
class Known:
    name: str
    type: str
    labels: tuple[str, ...]
    told: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        return tuple(self.name + end for end in ENDS[self.type])


@dataclass
class _Idle:
    """Stands for a service that runs and has nothing to do."""

    units: UnitOfWork
    connected: bool = True
    linked: bool = True
    published: int = 0


def _of(metric: Any) -> Known:
    """Of a metric, or of a family as a scrape makes one."""
    if isinstance(metric, MetricWrapperBase):
        (family,) = metric.describe()
        return Known(family.name, family.type, tuple(metric._labelnames), family.documentation)
    assert isinstance(metric, Metric)
    return Known(metric.name, metric.type, tuple(getattr(metric, "_labelnames", ())), metric.documentation)


def _made_in(module: ModuleType, database: Database) -> Iterator[Known]:
    for one in vars(module).values():
        if isinstance(one, MetricWrapperBase):
            yield _of(one)
        elif inspect.isclass(one) and issubclass(one, StateCollector) and one.__module__ == module.__name__:
            with closing(one(database)) as collector, database.reading() as connection:
                yield from map(_of, collector.families(connection))


def _database(folder: Path, tables: MetaData) -> Database:
    database = Database(f"sqlite:///{folder}/{id(tables)}.sqlite3")
    with database.transaction() as connection:
        tables.create_all(connection)
    return database


@cache
def catalogue() -> dict[str, list[Known]]:
    """Every metric there is: of all services under `<service>`, of the process under `process`, and each service's own under its name."""
    found: dict[str, list[Known]] = {}
    with tempfile.TemporaryDirectory() as place:
        tables = MetaData()
        bus = BusTables(tables)
        with closing(_database(Path(place), tables)) as database:
            collector = BusCollector("xservicex", _Idle(UnitOfWork(database, bus)))
            shared = [*map(_of, collector.collect()), *(_of(make("xservicex")) for make in OF_EVERY_SERVICE)]
        found[EVERY] = sorted(Known(one.name.replace("xservicex", EVERY), one.type, one.labels, one.told) for one in shared)
        for service in sorted(installed()):
            import_module(f"services.{service}.service")  # with all tables
            with closing(_database(Path(place), import_module(f"services.{service}.store").metadata)) as database:
                found[service] = sorted(_made_in(import_module(f"services.{service}.metrics"), database))
    found["process"] = sorted([_of(metrics.HUB_DELAY), *map(_of, PROCESS_COLLECTOR.collect())])
    return found


def every_series() -> dict[str, tuple[str, ...]]:
    """name -> labels, of all that our processes show; `<service>` is each of them."""
    return {
        name.replace(EVERY, service): one.labels + (("le",) if one.type == "histogram" else ())
        for known in catalogue().values()
        for one in known
        for name in one.series
        for service in installed()
    }


def lines(known: Iterable[Known]) -> Iterator[str]:
    yield "| metric | type | labels | what it says |"
    yield "|---|---|---|---|"
    for one in known:
        name = one.name + ("_total" if one.type == "counter" else "")
        yield f"| `{name}` | {one.type} | {', '.join(one.labels)} | {one.told} |"


def table() -> str:
    heads = {EVERY: "Every service", "process": "Every process"}
    parts = ("\n".join([f"## {heads.get(name, name)}", "", *lines(known), ""]) for name, known in catalogue().items())
    return "\n".join(["", *parts])


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
