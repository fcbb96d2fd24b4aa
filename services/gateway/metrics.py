"""Every metric of the gateway's own."""

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.gateway.handlers import Receipt, Taken
from services.gateway.store import audit, intake
from shared import clock
from shared.observability.metrics import StateCollector

BACKUP, BACKUP_OBJECT = "answerline backup", "backup"
"""By which a backup is known in the log of administrative acts."""

REQUESTS = Histogram(
    "answerline_gateway_http_request_seconds",
    "Time to answer a request, long polls and streams included, by route.",
    ["route", "method", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
INTAKE = Counter(
    "answerline_gateway_intake_observations_total", "Observations posted, by door and what became of them.", ["door", "result"]
)
FROM_SOURCE = Counter(
    "answerline_gateway_source_observations_total",
    "Observations posted, known ones among them, by source; beyond 200 sources the rest together as ~others.",
    ["source"],
)
CORRELATED = Counter("answerline_gateway_correlated_observations_total", "Observations turned into contacts and agents' states.")
WAITING_REQUESTS = Gauge("answerline_gateway_waiting_requests", "Long polls and streams open now.", ["kind"])

WEBHOOK_DELIVERIES = Counter(
    "answerline_gateway_webhook_deliveries_total",
    "Attempts to deliver an event to a webhook: delivered, retrying, dead (given up), deleted (the webhook was, meanwhile).",
    ["outcome"],
)
WEBHOOK_SECONDS = Histogram(
    "answerline_gateway_webhook_attempt_seconds",
    "Time of an attempt to deliver to a webhook.",
    buckets=(0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
WEBHOOK_OLDEST = Gauge(
    "answerline_gateway_webhook_oldest_pending_seconds",
    "How long the oldest event has been owed to an enabled webhook, in the process that delivers.",
)
STREAM_DELIVERED = Counter("answerline_gateway_stream_events_total", "Events given to listeners, each as often as there are listeners.")
STREAM_CUT_OFF = Counter("answerline_gateway_stream_cut_off_total", "Listeners cut off because they did not keep up.")


MOST_SOURCES = 200
OTHERS = "~others"
_sources: set[str] = set()


def count_intake(taken: Taken, receipt: Receipt) -> None:
    source = taken.source if taken.source in _sources or len(_sources) < MOST_SOURCES else OTHERS
    _sources.add(source)
    FROM_SOURCE.labels(source).inc(receipt.accepted + receipt.duplicate)
    counts = {
        "accepted": receipt.accepted, "duplicate": receipt.duplicate, "ignored": receipt.ignored, "rejected": receipt.rejected_total,
    }  # fmt: skip
    for result, count in counts.items():
        if count:
            INTAKE.labels(taken.door, result).inc(count)


def observe(route: str, method: str, status: int, seconds: float) -> None:
    REQUESTS.labels(route, method, str(status)).observe(seconds)


class GatewayMetrics(StateCollector):
    """What the gateway's tables say."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        backup = GaugeMetricFamily(
            "answerline_backup_last_success_timestamp_seconds", "When the last backup of all services was whole; 0: none ever was."
        )
        query = select(func.max(audit.c.at)).where(audit.c.object == BACKUP_OBJECT, audit.c.act == BACKUP)
        backup.add_metric([], connection.scalar(query) or 0.0)
        yield backup
        waiting = intake.c.processed_at.is_(None)
        count, oldest = connection.execute(select(func.count(), func.min(intake.c.received_at)).where(waiting)).one()
        yield GaugeMetricFamily("answerline_gateway_intake_pending_observations", "Observations that are to become contacts.", value=count)
        yield GaugeMetricFamily(
            "answerline_gateway_intake_lag_seconds",
            "Age of the oldest observation that is to become a contact.",
            value=max(clock.now() - oldest, 0.0) if oldest else 0.0,
        )
