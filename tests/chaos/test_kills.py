"""Anything is killed at any moment under load: nothing is lost, nothing happens twice (G1, G2, G3, G5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.chaos import checks
from tests.chaos.harness import Chaos, Monkey
from tests.chaos.load import Floor, Pbx, until

MOST_POSTS = 30
"""Up to so many posts are acknowledged between one blow and the next."""


def under_load(system: Chaos, monkey: Monkey, seed: int, plan: list[Callable[[], None]]) -> dict[str, object]:
    """Carry the plan out under load, let everything come back and come to rest, and check it all. The figures."""
    with ExitStack() as stack:
        with system.supervised():
            pbx = stack.enter_context(Pbx([system], seed).working())
            floor = stack.enter_context(Floor([system], seed).open().working())
            for action in plan:
                enough = pbx.posts + monkey.random.randint(3, MOST_POSTS)
                until(pbx, lambda enough=enough: pbx.posts >= enough, 60)
                monkey.pause(0.2)
                action()
            system.all_ready()
            pbx.finish()
            floor.finish()
            checks.settled(system)
        figures = checks.nothing_lost_or_twice(system) | checks.pbx(system, pbx) | checks.floor(system, floor)
    assert set(pbx.statuses) <= {"200", "503", "no answer"}, pbx.statuses
    assert set(system.done) <= BLOWS, f"a process ended by itself: {system.done}"
    return {"done": dict(system.done), **figures, "answers": dict(pbx.statuses)}


BLOWS = {"kill all", "kill gateway", "kill im", "kill routing", "kill broker", "kill database", "wipe broker"}


def test_the_one_process_is_killed(embedded: Chaos, monkey: Monkey, seed: int, rounds: int, say: Callable[..., None]) -> None:
    embedded.start("gateway")
    say(under_load(embedded, monkey, seed, [lambda: embedded.kill("gateway")] * (8 * rounds)))


def test_services_broker_and_database_are_killed(deployed: Chaos, monkey: Monkey, seed: int, rounds: int, say: Callable[..., None]) -> None:
    system = deployed
    broker, database = system.broker, system.database
    assert broker
    assert database

    def broker_away() -> None:
        system.kill_broker()
        monkey.pause(0.5)
        system.kill("routing")
        broker.start()

    def database_away() -> None:
        system.kill_database()
        monkey.pause(0.5)
        system.kill("gateway")
        database.start()

    def wiped() -> None:
        system.wipe_broker()
        monkey.pause(0.3)
        system.kill(monkey.random.choice(system.apart))

    kills = {lambda: system.kill("gateway"): 3 * rounds, lambda: system.kill("routing"): 3 * rounds}
    plan = monkey.plan(kills | {broker_away: rounds, database_away: rounds, wiped: rounds})
    say(under_load(system, monkey, seed, plan))
