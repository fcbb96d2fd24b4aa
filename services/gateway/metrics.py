"""Every metric of the gateway's own."""

from prometheus_client import Counter, Gauge, Histogram

from services.gateway.handlers import Receipt

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


def count_intake(door: str, receipt: Receipt) -> None:
    counts = {
        "accepted": receipt.accepted, "duplicate": receipt.duplicate, "ignored": receipt.ignored, "rejected": receipt.rejected_total,
    }  # fmt: skip
    for result, count in counts.items():
        if count:
            INTAKE.labels(door, result).inc(count)


def observe(route: str, method: str, status: int, seconds: float) -> None:
    REQUESTS.labels(route, method, str(status)).observe(seconds)
