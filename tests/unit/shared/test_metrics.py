"""What every service tells of itself when it is scraped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import OperationalError

from services.gateway import metrics as of_gateway
from services.gateway.handlers import Receipt
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict, Elsewhere, Unavailable
from shared.observability.metrics import BusCollector
from shared.runtime.rpc import _outcome
from tests.unit.conftest import SetClock


@dataclass
class Running:
    units: UnitOfWork
    connected: bool = True
    linked: bool = True
    published: int = 7


def told(running: Running) -> dict[str, float]:
    samples = [sample for family in BusCollector("x", running).collect() for sample in family.samples]
    return {"/".join([sample.name.removeprefix("answerline_x_"), *sample.labels.values()]): sample.value for sample in samples}


def test_a_service_that_is_well(units: UnitOfWork, at: SetClock) -> None:
    with units() as work:
        row = {"id": "018f0000-0000-7000-8000-000000000000", "type": "t", "subject": "s", "body": {}, "written_at": at() - 12}
        work.connection.execute(insert(units.tables.outbox).values(**row))
    found = told(Running(units))
    assert (found["ready"], found["broker_up"], found["database_up"]) == (1, 1, 1)
    assert (found["outbox_pending_events"], found["outbox_lag_seconds"], found["outbox_published_events_total"]) == (1, 12, 7)
    assert found["inbox_received_events_total"] == sum(
        value for name, value in found.items() if name.startswith(("inbox_events_", "inbox_set_"))
    )
    assert found["database_bytes"] > 10_000
    assert abs(found["clock_skew_seconds"]) < 1
    with units.database.reading():
        assert told(Running(units))["database_connections/in_use"] == found["database_connections/in_use"] + 1
    assert found["database_connections/most"] >= 10
    assert ("data_free_bytes" in found) == units.database.sqlite


def test_one_that_has_lost_its_broker_or_its_database(units: UnitOfWork, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(Running(units, connected=False, linked=False))
    assert (found["ready"], found["broker_up"], found["database_up"]) == (0, 0, 1)

    def gone() -> Any:
        raise OperationalError("select", {}, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr(units.database, "reading", gone)
    found = told(Running(units))
    assert (found["ready"], found["broker_up"], found["database_up"]) == (0, 1, 0)
    assert "outbox_lag_seconds" not in found


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "ok"), (Elsewhere(1), "ok"), (Conflict("x"), "refused"), (Unavailable("x"), "failed"), (RuntimeError("x"), "failed")],
)
def test_a_refusal_is_no_failure(error: BaseException | None, outcome: str) -> None:
    assert _outcome(error) == outcome


def test_however_many_sources_somebody_invents_a_scrape_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_gateway, "_sources", set())
    monkeypatch.setattr(of_gateway, "MOST_SOURCES", 2)
    before = of_gateway.FROM_SOURCE.labels(of_gateway.OTHERS)._value.get()
    for source in ("invented1", "invented2", "invented3", "invented4", "invented1"):
        taken: Any = type("Taken", (), {"source": source, "door": "ami"})
        of_gateway.count_intake(taken, Receipt(accepted=2, duplicate=1, ignored=0, rejected=[]))
    assert of_gateway.FROM_SOURCE.labels("invented1")._value.get() == 6
    assert of_gateway.FROM_SOURCE.labels(of_gateway.OTHERS)._value.get() - before == 6
