"""Every metric of im."""

from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import func, select

from services.im import store
from shared.db.engine import Database, is_outage
from shared.runtime.context import Context

TIMER_ERROR = Histogram(
    "answerline_im_timer_error_seconds", "How late a step of a ladder was done.", buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)  # fmt: skip


class RoomMetrics(Collector):
    """How the rooms stand when scraped."""

    def __init__(self, context: Context) -> None:
        self.database: Database = context.database
        REGISTRY.register(self)

    def close(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        rooms = GaugeMetricFamily("answerline_im_rooms", "Rooms that are not closed, by the state of their question.", labels=["state"])
        table = store.escalation
        query = select(table.c.state, func.count()).where(table.c.closed_at.is_(None)).group_by(table.c.state)
        try:
            with self.database.reading() as connection:
                for state, count in connection.execute(query):
                    rooms.add_metric([state], count)
        except Exception as outage:
            if not is_outage(outage):
                raise
            return
        yield rooms
