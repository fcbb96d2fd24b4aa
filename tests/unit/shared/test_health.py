"""What readiness says, of whom, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.exc import OperationalError

from shared.config import Settings
from shared.runtime import context
from shared.runtime.context import Context
from shared.runtime.runner import _internal_application


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Context]:
    """A gateway that has started, its database and its broker there."""
    ours = context.build("gateway", replace(Settings(), data=tmp_path))
    ours.phase, ours.links = "started", {"Consume": True, "RelayLoop": True}
    yield ours
    ours.database.close()


def asked(ours: Context, query: str = "", path: str = "/readyz") -> tuple[int, Any]:
    """The status at the port for those inside, and which checks hold (of what is no JSON: the text)."""
    told: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query}
    body = b"".join(_internal_application({"gateway": ours})(environ, lambda status, _headers: told.append(status)))
    return int(told[0][:3]), orjson.loads(body)["checks"]["gateway"] if body.startswith(b"{") else body.decode()


def test_one_that_is_well(running: Context) -> None:
    assert asked(running) == (200, {"database": True, "broker": True})
    assert asked(running, "without=broker") == (200, {"database": True, "started": True})


def test_without_its_broker_the_door_stays_open(running: Context) -> None:
    running.links["RelayLoop"] = False
    assert asked(running) == (503, {"database": True, "broker": False})
    assert asked(running, "without=broker") == (200, {"database": True, "started": True})


@pytest.mark.parametrize("query", ["", "without=broker"])
def test_without_its_database_it_is_ready_for_nothing(running: Context, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def gone() -> Iterator[Any]:
        raise OperationalError("select", {}, Exception("gone"), connection_invalidated=True)
        yield

    monkeypatch.setattr(running.database, "reading", gone)
    status, checks = asked(running, query)
    assert (status, checks["database"]) == (503, False)


@pytest.mark.parametrize("query", ["", "without=broker"])
def test_one_that_has_not_started_is_ready_for_nothing(running: Context, query: str) -> None:
    """It waits for its tables, and its door is not open yet."""
    running.phase = "starting"
    assert asked(running, query)[0] == 503


@pytest.mark.parametrize("query", ["", "without=broker"])
def test_one_that_stands_by_is_ready(running: Context, query: str) -> None:
    """Another gateway's relay publishes: this one's has no link to lose, and takes in what comes. A service of which one works at a time waits whole."""
    running.links.pop("RelayLoop")
    assert asked(running, query)[0] == 200
    running.phase, running.links = "standing by", {}
    assert asked(running, query)[0] == 200


def test_of_a_service_in_shards_every_one_counts(running: Context) -> None:
    running.parts = {0: replace(running, parts={}), 1: replace(running, parts={}, phase="starting")}
    assert asked(running, "without=broker") == (503, {"database": True, "started": False})
    running.parts[1].phase = "started"
    assert asked(running, "without=broker") == (200, {"database": True, "started": True})


def test_whoever_asks_for_something_else_is_told_what_there_is(running: Context) -> None:
    assert asked(running, "without=database") == asked(running, "without=") == (400, "without=broker\n")
    assert asked(running, path="/nothing") == (404, "/livez /readyz /metrics\n")


def test_what_a_scraper_adds_is_no_hindrance(running: Context) -> None:
    assert asked(running, "name[]=up", "/metrics")[0] == 200
