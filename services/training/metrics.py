"""Every metric of training."""

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import func, select

from services.training import store
from shared import clock
from shared.db.engine import Database, is_outage
from shared.runtime.context import Context

LAPSE_ERROR = Histogram(
    "answerline_training_lapse_error_seconds", "How late the end of a certificate, or a reminder of it, was dealt with.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 5, 60, 3600),
)  # fmt: skip
PLANNED = Histogram("answerline_training_plan_seconds", "How long a plan took.", buckets=(1, 5, 10, 30, 60, 120, 300, 600))
PLANS = Counter("answerline_training_plans_total", "Plans by how they ended: ready, short or failed.", ["outcome"])


class TrainingMetrics(Collector):
    """How training stands when scraped."""

    def __init__(self, context: Context) -> None:
        self.database: Database = context.database
        REGISTRY.register(self)

    def close(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        now, certificate, permit, learning = clock.now(), store.certificate, store.permit, store.learning
        figures = {
            ("certificates", "Certificates that hold."): (certificate, certificate.c.ended_at.is_(None)),
            ("permits", "Practice permits that hold."): (permit, (permit.c.ended_at.is_(None)) & (permit.c.until > now)),
            ("learning", "People on the way to a certificate."): (learning, learning.c.closed_at.is_(None)),
        }
        try:
            with self.database.reading() as connection:
                found = [
                    GaugeMetricFamily(
                        f"answerline_training_{name}", told, value=connection.scalar(select(func.count()).select_from(table).where(which))
                    )
                    for (name, told), (table, which) in figures.items()
                ]
        except Exception as outage:
            if not is_outage(outage):
                raise
            return
        yield from found
