"""Metrics that every service has: its bus, its commands, its database; and what those of its own tables are made of.
Names are answerline_<service>_<what>_<unit>, of what the whole process shares process_<what>_<unit>; no ids as labels."""

import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from shared import clock
from shared.bus.inbox import SET_ASIDE, sums
from shared.bus.outbox import UnitOfWork
from shared.db.engine import Database, is_outage

log = structlog.get_logger()

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 20)
HUB_DELAY = Histogram(
    "process_hub_delay_seconds",
    "How late a timer fires, looked at four times a second: a step of work that does not yield delays all others by its length.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)


class Watched(Protocol):
    """What is asked of a running service beside its tables."""

    units: UnitOfWork

    @property
    def connected(self) -> bool: ...

    @property
    def linked(self) -> bool: ...

    @property
    def published(self) -> int: ...


@cache
def commands(service: str) -> Histogram:
    """Observed by whoever answers commands and questions of other services."""
    return Histogram(
        f"answerline_{service}_command_seconds",
        "Time to carry out a command or question of another service: ok, refused (who asked was wrong) or failed.",
        ["method", "outcome"],
        buckets=SECONDS,
    )


@cache
def batches(service: str) -> Histogram:
    """Observed by whoever takes events out of the inbox."""
    return Histogram(f"answerline_{service}_inbox_batch_seconds", "Time to apply a batch of events, outages included.", buckets=SECONDS)


@cache
def connections(service: str) -> Gauge:
    """Set by a service's web server."""
    return Gauge(f"answerline_{service}_http_connections", "Connections open now, and how many there may be.", ["what"])


@cache
def shards_held(service: str) -> Gauge:
    """Set by whoever holds the shards of a service that has more than one."""
    return Gauge(f"answerline_{service}_shards_held", "Shards that this process holds.")


class BusCollector(Collector):
    """Reads the bus tables when scraped. `received` equals the sum of all buckets (guarantee G2)."""

    def __init__(self, service: str, watched: Watched) -> None:
        self.prefix = f"answerline_{service}"
        self.watched = watched
        self.units = watched.units

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        ready, linked, outbox = self.watched.connected, self.watched.linked, self.units.tables.outbox
        yield GaugeMetricFamily(f"{self.prefix}_broker_up", "Whether the loops that need the broker are connected to it.", value=linked)
        yield CounterMetricFamily(
            f"{self.prefix}_outbox_published_events", "Events that the broker has confirmed to this process.", value=self.watched.published
        )
        pool = GaugeMetricFamily(
            f"{self.prefix}_database_connections", "Connections to the database: in use, and the most.", labels=["what"]
        )
        pool.add_metric(["in_use"], self.units.database.in_use)
        pool.add_metric(["most"], self.units.database.most)
        yield pool
        fine = GaugeMetricFamily(f"{self.prefix}_ready", "Whether the service can do its work, as /readyz says.")
        up = GaugeMetricFamily(f"{self.prefix}_database_up", "Whether the database answered this scrape.")
        try:
            with self.units.database.reading() as connection:
                buckets = sums(connection, self.units)
                oldest = connection.scalar(select(func.min(outbox.c.written_at)).where(outbox.c.published_at.is_(None)))
                pending = connection.scalar(select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None)))
                skew, size = self.units.database.skew(connection), self.units.database.size(connection)
        except SQLAlchemyError as error:
            log.warning("metrics without database", error=type(error).__name__)
            for family in (up, fine):
                family.add_metric([], 0)
                yield family
            return
        up.add_metric([], 1)
        yield up
        fine.add_metric([], ready)
        yield fine
        yield GaugeMetricFamily(f"{self.prefix}_database_bytes", "Size of the service's database.", value=size)
        yield GaugeMetricFamily(f"{self.prefix}_clock_skew_seconds", "How far this machine's clock is ahead of the database's.", value=skew)
        received = CounterMetricFamily(f"{self.prefix}_inbox_received_events", "Events delivered to this service.")
        received.add_metric([], buckets.pop("received"))
        yield received
        settled = CounterMetricFamily(
            f"{self.prefix}_inbox_events", "Delivered events for which all is done, by bucket.", labels=["bucket"]
        )
        aside = GaugeMetricFamily(
            f"{self.prefix}_inbox_set_aside_events", "Delivered events that wait, are retried or are dead.", labels=["bucket"]
        )
        for bucket, events in buckets.items():
            (aside if bucket in SET_ASIDE else settled).add_metric([bucket], events)
        yield settled
        yield aside
        backlog = GaugeMetricFamily(f"{self.prefix}_outbox_pending_events", "Events written and not yet confirmed by the broker.")
        backlog.add_metric([], pending or 0)
        yield backlog
        lag = GaugeMetricFamily(f"{self.prefix}_outbox_lag_seconds", "Age of the oldest event not yet confirmed by the broker.")
        lag.add_metric([], max(clock.now() - oldest, 0.0) if oldest else 0.0)
        yield lag
        free = GaugeMetricFamily(f"{self.prefix}_data_free_bytes", "Room left on the disk of the data folder; a deployed service has none.")
        if self.units.database.sqlite and self.units.database.url.database:
            free.add_metric([], shutil.disk_usage(Path(self.units.database.url.database).parent).free)
        yield free


class StateCollector(Collector):
    """What a service's tables say when scraped; nothing while the database is out of reach."""

    def __init__(self, database: Database) -> None:
        self.database = database
        REGISTRY.register(self)

    def close(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self.database.reading() as connection:
                families = list(self.families(connection))
        except Exception as outage:
            if not is_outage(outage):
                raise
            return
        yield from families

    def families(self, connection: Connection) -> Iterable[Metric]:
        """The metrics, with their samples."""
        raise NotImplementedError


def register(service: str, watched: Watched) -> None:
    REGISTRY.register(BusCollector(service, watched))
