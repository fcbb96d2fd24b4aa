"""What the service itself sees to: that others have their turn while somebody asks for a report."""

from __future__ import annotations

from typing import Any

import eventlet
import pytest
from sqlalchemy import Connection, text

from services.routing import store
from services.routing.domain import errors as domain
from services.routing.service import RoutingCore
from shared.bus.outbox import UnitOfWork
from shared.errors import NotFound
from tests.unit.conftest import MakeUnits

LONG = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 1000000) select count(*) from numbers"


@pytest.fixture
def core(make_units: MakeUnits) -> RoutingCore:
    units: UnitOfWork = make_units(store.metadata)
    core = object.__new__(RoutingCore)
    core.database = units.database
    return core


def test_others_go_on_while_an_embedded_report_is_made(core: RoutingCore) -> None:
    if not core.database.sqlite:
        return  # there the driver sees to it, once the process is made cooperative
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            eventlet.sleep(0)

    def make(connection: Connection, more: int) -> Any:
        return connection.scalar(text(LONG)) + more

    beside = eventlet.spawn(others)
    assert core.report(make, 5) == 1_000_005
    beside.kill()
    assert turns > 1


def test_what_refuses_a_report_says_so(core: RoutingCore) -> None:
    def refuse(_connection: Connection) -> None:
        raise domain.NotFound("There is none.")

    with pytest.raises(NotFound, match="There is none"):
        core.report(refuse)
