"""Every metric of training."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.training import store
from shared import clock
from shared.observability.metrics import StateCollector

LAPSE_ERROR = Histogram(
    "answerline_training_lapse_error_seconds", "How late the end of a certificate, or a reminder of it, was dealt with.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 5, 60, 3600),
)  # fmt: skip
PLANNED = Histogram("answerline_training_plan_seconds", "How long a plan took.", buckets=(1, 5, 10, 30, 60, 120, 300, 600))
PLANS = Counter("answerline_training_plans_total", "Plans by how they ended: ready, short or failed.", ["outcome"])


LAPSING_SECONDS = 14 * 86400.0


class TrainingMetrics(StateCollector):
    """How training stands when scraped."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        now, certificate, permit, learning = clock.now(), store.certificate, store.permit, store.learning
        figures = {
            ("certificates", "Certificates that hold."): (certificate, certificate.c.ended_at.is_(None)),
            ("permits", "Practice permits that hold."): (permit, (permit.c.ended_at.is_(None)) & (permit.c.until > now)),
            ("learning", "People on the way to a certificate."): (learning, learning.c.closed_at.is_(None)),
            ("certificates_lapsing", "Certificates that hold and end within 14 days."): (
                certificate,
                certificate.c.ended_at.is_(None) & (certificate.c.expires_at < now + LAPSING_SECONDS),
            ),
            ("lessons_open", "Findings of quality that gave somebody something to learn, not yet done."): (
                store.lesson,
                store.lesson.c.done_at.is_(None),
            ),
            ("sessions_ahead", "Sessions that are to come."): (
                store.session,
                (store.session.c.starts_at > now) & (store.session.c.state == "planned"),
            ),
            ("seats_ahead", "Places taken in sessions that are to come."): (
                store.seat,
                (store.seat.c.starts_at > now) & (store.seat.c.state == "enrolled"),
            ),
        }
        for (name, told), (table, which) in figures.items():
            count = connection.scalar(select(func.count()).select_from(table).where(which))
            yield GaugeMetricFamily(f"answerline_training_{name}", told, value=count)
        noted = connection.scalar(select(func.sum(store.hours.c.hours)).where(store.hours.c.year == datetime.fromtimestamp(now, UTC).year))
        yield GaugeMetricFamily("answerline_training_hours", "Hours of training noted this year.", value=noted or 0)
