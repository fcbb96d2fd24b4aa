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
    def begun(self) -> bool: ...

    @property
    def connected(self) -> bool: ...


WITHOUT = ("broker",)
"""What readiness may be asked for without."""


def ready(services: Mapping[str, Checked], without: str = "") -> Response:
    """200 when the services of this process can do their work, else 503 with what is missing. Without the broker: when they can do what needs
    the database alone, such as taking in what telephony tells, which is published later."""
    checks = {name: {"database": _answers(service.database)} | _broker(service, without) for name, service in services.items()}
    fine = all(all(check.values()) for check in checks.values())
    return Response(orjson.dumps({"status": "ok" if fine else "unavailable", "checks": checks}), 200 if fine else 503)


def _broker(service: Checked, without: str) -> dict[str, bool]:
    return {"started": service.begun} if without == "broker" else {"broker": service.connected}


def _answers(database: Database) -> bool:
    try:
        with database.reading() as connection:
            return connection.scalar(text("select 1")) == 1
    except Exception:  # noqa: BLE001 - whatever the reason, it is not ready
        return False


def metrics() -> Response:
    return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
