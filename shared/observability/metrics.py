"""Metrics that every service has: its bus; and what those of its own tables are made of. Names are answerline_<service>_<what>_<unit>; no ids as labels."""

from collections.abc import Iterable, Iterator

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from shared import clock
from shared.bus.inbox import SET_ASIDE, sums
from shared.bus.outbox import UnitOfWork
from shared.db.engine import Database, is_outage

log = structlog.get_logger()


class BusCollector(Collector):
    """Reads the bus tables when scraped. `received` equals the sum of all buckets (guarantee G2)."""

    def __init__(self, service: str, units: UnitOfWork) -> None:
        self.prefix = f"answerline_{service}"
        self.units = units

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        outbox = self.units.tables.outbox
        up = GaugeMetricFamily(f"{self.prefix}_database_up", "Whether the database answered this scrape.")
        try:
            with self.units.database.reading() as connection:
                buckets = sums(connection, self.units)
                oldest = connection.scalar(select(func.min(outbox.c.written_at)).where(outbox.c.published_at.is_(None)))
                pending = connection.scalar(select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None)))
        except SQLAlchemyError as error:
            log.warning("metrics without database", error=type(error).__name__)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
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


def register(service: str, units: UnitOfWork) -> None:
    REGISTRY.register(BusCollector(service, units))
