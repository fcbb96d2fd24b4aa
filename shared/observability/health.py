"""Health and metrics, as orchestrators and Prometheus ask for them."""

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from sqlalchemy import text

from shared.db.engine import Database
from shared.http.endpoint import Response


def ready(database: Database, running: bool) -> Response:
    """200 when the service can do its work, else 503 with what is missing."""
    checks = {"database": _answers(database), "consumers": running}
    status = 200 if all(checks.values()) else 503
    return Response(orjson.dumps({"status": "ok" if status == 200 else "unavailable", "checks": checks}), status)


def _answers(database: Database) -> bool:
    try:
        with database.reading() as connection:
            return connection.scalar(text("select 1")) == 1
    except Exception:  # noqa: BLE001 - whatever the reason, it is not ready
        return False


def metrics() -> Response:
    return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
