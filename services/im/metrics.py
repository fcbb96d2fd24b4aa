"""Every metric of im."""

from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.im import store
from shared.observability.metrics import StateCollector

TIMER_ERROR = Histogram(
    "answerline_im_timer_error_seconds", "How late a step of a ladder was done.", buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)  # fmt: skip


class RoomMetrics(StateCollector):
    """How the rooms stand."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        rooms = GaugeMetricFamily("answerline_im_rooms", "Rooms that are not closed, by the state of their question.", labels=["state"])
        table = store.escalation
        query = select(table.c.state, func.count()).where(table.c.closed_at.is_(None)).group_by(table.c.state)
        for state, count in connection.execute(query):
            rooms.add_metric([state], count)
        yield rooms
