"""One broker and one database server for all chaos tests, killed at will; each test has databases and queues of its own."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.harness import CORE, Chaos, Monkey
from tests.stack import Broker, Database, new_broker, new_database, plugin


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chaos" in item.path.parts:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(300 * ROUNDS))


ROUNDS = int(os.environ.get("ANSWERLINE_CHAOS_ROUNDS") or 1)
SEED = int(os.environ.get("ANSWERLINE_CHAOS_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture
def seed() -> int:
    """Printed with every failure; give it as ANSWERLINE_CHAOS_SEED to have the same plan again (moments still differ)."""
    print(f"ANSWERLINE_CHAOS_SEED={SEED}")
    return SEED


@pytest.fixture
def rounds() -> int:
    return ROUNDS


@pytest.fixture
def monkey(seed: int) -> Monkey:
    return Monkey(seed)


@pytest.fixture
def say(request: pytest.FixtureRequest, seed: int, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """A line to the terminal, whatever pytest captures: what was tried and what came of it."""
    began = time.monotonic()

    def line(*figures: object) -> None:
        with capsys.disabled():
            told = " ".join(map(str, figures))
            print(f"\nchaos {request.node.name} (ANSWERLINE_CHAOS_SEED={seed}, {time.monotonic() - began:.0f} s): {told}")

    return line


@pytest.fixture(scope="session")
def broker_server() -> Iterator[Broker]:
    for make in plugin._factory(new_broker):
        yield make()


@pytest.fixture(scope="session")
def database_server() -> Iterator[Database]:
    for make in plugin._factory(new_database):
        yield make()


@pytest.fixture
def killable(broker_server: Broker, database_server: Database) -> tuple[Broker, Database]:
    """Both servers, running, whatever an earlier test did to them."""
    for server in (broker_server, database_server):
        revive(server)
    return broker_server, database_server


@pytest.fixture
def services() -> tuple[str, ...]:
    """Those that run; a module that is about others has a fixture of its own."""
    return CORE


@pytest.fixture
def embedded() -> Iterator[Chaos]:
    with Chaos("embedded") as system:
        yield system


@pytest.fixture
def deployed(killable: tuple[Broker, Database], services: tuple[str, ...]) -> Iterator[Chaos]:
    system = Chaos("deployed", *killable, services)
    try:
        system.migrate()
        for service in system.apart:
            system.start(service, wait=False)
        system.all_ready()
        yield system
    finally:
        revive(killable[1])
        system.remove()


def revive(server: Broker | Database) -> None:
    if not server.running():
        server.kill()
        server.start()


@pytest.fixture(params=["embedded", "deployed"])
def either(request: pytest.FixtureRequest) -> Chaos:
    system: Chaos = request.getfixturevalue(request.param)
    for service in system.apart:
        system.start(service)
    return system
