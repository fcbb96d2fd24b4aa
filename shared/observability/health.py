"""Health and metrics, as orchestrators and Prometheus ask for them."""

from collections.abc import Mapping
from typing import Protocol

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from sqlalchemy import text

from shared.db.engine import Database
from shared.http.endpoint import Response


class Checked(Protocol):
    """What readiness asks of a service."""

    database: Database

    @property
    def connected(self) -> bool: ...


def ready(services: Mapping[str, Checked]) -> Response:
    """200 when the services of this process can do their work, else 503 with what is missing."""
    checks = {name: {"database": _answers(service.database), "broker": service.connected} for name, service in services.items()}
    fine = all(all(check.values()) for check in checks.values())
    return Response(orjson.dumps({"status": "ok" if fine else "unavailable", "checks": checks}), 200 if fine else 503)


def _answers(database: Database) -> bool:
    try:
        with database.reading() as connection:
            return connection.scalar(text("select 1")) == 1
    except Exception:  # noqa: BLE001 - whatever the reason, it is not ready
        return False


def metrics() -> Response:
    return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
