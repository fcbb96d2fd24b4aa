"""Services start in any order and wait for what they need; SIGTERM under load ends them in time and loses nothing (G6)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos import checks
from tests.chaos.conftest import revive
from tests.chaos.harness import RECOVERY_SECONDS, Chaos, Monkey
from tests.chaos.load import Floor, Pbx, until
from tests.chaos.synthetic import Say
from tests.stack import Broker, Database
from tests.system import STOP_SECONDS, eventually


def test_services_wait_for_broker_database_and_migration(killable: tuple[Broker, Database], monkey: Monkey, seed: int, say: Say) -> None:
    """Routing first, with nothing there; then the servers appear, in an order that the seed decides."""
    broker, database = killable
    servers = monkey.random.sample(killable, 2)
    system = Chaos("deployed", broker, database)
    system.create()
    try:
        broker.kill()
        database.kill()
        for service in reversed(system.apart):
            system.start(service, wait=False)
        with ThreadPoolExecutor() as pool:
            migrated = pool.submit(system.answerline, "migrate", "gateway")
            for server in servers:
                eventually(lambda: "waiting for the database" in system.log("routing") or database.running())
                server.start()
            eventually(lambda: "waiting for `answerline migrate`" in system.log("routing"), RECOVERY_SECONDS)
            migrated.result()
        began = time.monotonic()
        system.answerline("migrate", "routing")
        system.all_ready()
        took = time.monotonic() - began
        with Pbx([system], seed).working() as pbx:
            eventually(lambda: pbx.posts >= 5)
        checks.settled(system)
        say(
            {
                "first": type(servers[0]).__name__,
                "ready after": round(took, 1),
                **checks.nothing_lost_or_twice(system),
                **checks.pbx(system, pbx),
            }
        )
    finally:
        for server in killable:
            revive(server)
        system.remove()


def test_sigterm_under_load(either: Chaos, monkey: Monkey, seed: int, rounds: int, say: Say) -> None:
    system = either
    took = []

    def terminate(service: str) -> None:
        began = time.monotonic()
        system.terminate(service, STOP_SECONDS)
        took.append(round(time.monotonic() - began, 1))

    with Pbx([system], seed).working() as pbx, Floor([system], seed).open().working() as floor, ThreadPoolExecutor() as pool:
        for _ in range(rounds):
            enough = pbx.posts + 30
            until(pbx, lambda enough=enough: pbx.posts >= enough)
            monkey.pause(0.2)
            list(pool.map(terminate, system.apart))
            for service in system.apart:
                system.start(service)
    checks.settled(system)
    figures = checks.nothing_lost_or_twice(system) | checks.pbx(system, pbx) | checks.floor(system, floor)
    say({"seconds to end": took, **figures, "answers": dict(pbx.statuses)})
