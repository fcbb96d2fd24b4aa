"""Every metric of the gateway's own."""

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.gateway.handlers import Receipt
from services.gateway.store import audit
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


def count_intake(door: str, receipt: Receipt) -> None:
    counts = {
        "accepted": receipt.accepted, "duplicate": receipt.duplicate, "ignored": receipt.ignored, "rejected": receipt.rejected_total,
    }  # fmt: skip
    for result, count in counts.items():
        if count:
            INTAKE.labels(door, result).inc(count)


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
