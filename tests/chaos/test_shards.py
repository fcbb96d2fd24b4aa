"""Routing in two shards: two processes have a pool each, one takes over when the other dies, and contacts and agents go from one to the other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos import checks
from tests.chaos.conftest import revive
from tests.chaos.harness import Chaos
from tests.chaos.load import Floor, until
from tests.chaos.synthetic import Say
from tests.stack import Broker, Database
from tests.system import eventually

TAKE_OVER_SECONDS = 10.0
PACE = 0.02
"""Seconds between two requests of one who asks on and on."""
POOLS = ("east", "west")
HELD = "answerline_routing_shards_held"


@pytest.fixture
def sharded(killable: tuple[Broker, Database]) -> Iterator[Chaos]:
    system = Chaos("deployed", *killable)
    system.settings["ANSWERLINE_ROUTING_SHARDS"] = "2"
    try:
        system.migrate()
        for service in system.apart:
            system.start(service, wait=False)
        system.all_ready()
        yield system
    finally:
        revive(killable[1])
        system.remove()


def held(system: Chaos) -> int:
    try:
        return int(system.metrics("routing").get(HELD, 0))
    except (OSError, AssertionError):
        return -1


def have_one_each(*systems: Chaos) -> bool:
    return all(held(system) == 1 and system.ready("routing") for system in systems)


def offered(system: Chaos, agent: str) -> dict[str, Any]:
    found: dict[str, Any] = eventually(lambda: system.get(f"/v1/agents/{agent}/offers", wait=1).ok()["offers"])[0]
    return found


def test_each_process_has_its_half_and_one_takes_over_from_the_other(sharded: Chaos, seed: int, say: Say) -> None:
    system = sharded
    eventually(lambda: held(system) == 2)
    with system.twin() as twin:
        twin.start("routing")
        eventually(lambda: have_one_each(system, twin))
        east = Floor([system], seed, callers=3, agents=3, name="east", pool="east").open()
        west = Floor([system], seed + 1, callers=3, agents=3, name="west", pool="west").open()
        shards = {row.name: row.shard for row in system.sql("routing", "select name, shard from pool")}
        assert sorted(shards.values()) == [0, 1], "each pool has a shard of its own"
        took = []
        with east.working(), west.working():
            for one, other in ((system, twin), (twin, system)):
                until(east, lambda: min(sum(floor.outcomes.values()) for floor in (east, west)) >= 5)
                one.kill("routing")
                began = time.monotonic()
                for floor in (east, west):
                    agent = {"channels": ["voice"], "pool": floor.pool, "queues": ["nowhere"]}
                    eventually(lambda f=floor, a=agent: system.put(f"/v1/agents/probe-{f.pool}", a).status == 200, TAKE_OVER_SECONDS)
                took.append(round(time.monotonic() - began, 1))
                assert took[-1] <= TAKE_OVER_SECONDS
                assert held(other) == 2
                before = {floor.source: len(floor.contacts) for floor in (east, west)}
                until(east, lambda before=before: all(len(floor.contacts) > before[floor.source] + 4 for floor in (east, west)))
                one.start("routing")
                eventually(lambda one=one, other=other: have_one_each(one, other))
        checks.settled(system)
        eventually(lambda: system.count("routing", "mailbox") == 0)
        say({"took over in": took, **checks.nothing_lost_or_twice(system), **checks.floor(system, east, west)})
        for process in (twin, system):
            process.terminate("routing")


def test_whoever_comes_or_leaves_in_order_leaves_no_request_behind(sharded: Chaos, say: Say) -> None:
    system = sharded
    for pool in POOLS:
        system.put(f"/v1/queues/{pool}", {"mode": "routed", "pool": pool}).ok()
    answers: Counter[int] = Counter()
    over = threading.Event()

    def ask(pool: str) -> None:
        while not over.is_set():
            answers[system.put(f"/v1/agents/{pool}", {"channels": ["voice"], "pool": pool}).status] += 1
            over.wait(PACE)

    def answered() -> None:
        enough = answers.total() + 20
        eventually(lambda: answers.total() > enough)

    with ThreadPoolExecutor() as people:
        asking = [people.submit(ask, pool) for pool in POOLS]
        try:
            with system.twin() as twin:
                for _ in range(2):
                    twin.start("routing")
                    eventually(lambda: have_one_each(system, twin))
                    answered()
                    twin.terminate("routing")
                    eventually(lambda: held(system) == 2)
                    answered()
        finally:
            over.set()
        for one in asking:
            one.result()
    say({"answers": dict(answers)})
    assert set(answers) <= {200, 503}, "at most told to come again, where the next was slow to take over"


def test_contacts_and_agents_go_from_shard_to_shard(sharded: Chaos) -> None:
    system = sharded
    people = system.patient()
    with system.twin() as twin:
        twin.start("routing")
        eventually(lambda: have_one_each(system, twin))
        for pool in POOLS:
            people.put(f"/v1/queues/{pool}", {"mode": "routed", "pool": pool, "offer_seconds": 60}).ok()
            people.put(f"/v1/agents/{pool}", {"channels": ["voice"], "pool": pool, "address": f"PJSIP/{pool}"}).ok()
            people.put(f"/v1/agents/{pool}/state", {"state": "available"}).ok()
        assert {row["name"] for row in people.get("/v1/queues").ok()["items"]} >= set(POOLS)
        assert [row["id"] for row in people.get("/v1/agents").ok()["items"]] == sorted(POOLS)
        assert people.put("/v1/agents/other", {"pool": "west", "address": "PJSIP/east"}).status == 409, (
            "whoever has it, has it in every shard"
        )

        contact = people.post("/v1/contacts", {"queue": "east", "source": "s", "call": "1"}).ok()["contact"]
        people.post(f"/v1/offers/{offered(system, 'east')['id']}/accept", {"agent": "east"}).ok()
        people.post(f"/v1/contacts/{contact}/transfer", {"queue": "west"}).ok()
        assert people.get("/v1/agents/east").ok()["state"] == "wrap_up"
        assert offered(system, "west")["contact"] == contact
        people.post(f"/v1/offers/{offered(system, 'west')['id']}/accept", {"agent": "west"}).ok()
        assert people.post(f"/v1/contacts/{contact}/assignment").ok()["agent"] == "west"
        people.put("/v1/agents/east/state", {"state": "available"}).ok()
        assert people.get("/v1/agents/east").ok()["state"] == "available"
        people.post(f"/v1/contacts/{contact}/end", {}).ok()
        eventually(lambda: people.get("/v1/agents/west").ok()["state"] == "wrap_up")

        people.put("/v1/agents/east", {"channels": ["voice"], "pool": "west", "address": "PJSIP/east"}).ok()
        second = people.post("/v1/contacts", {"queue": "west", "source": "s", "call": "2"}).ok()["contact"]
        assert offered(system, "east")["contact"] == second, "east works in west now"

        waiting = {queue: people.post("/v1/contacts", {"queue": queue, "source": "s", "call": queue}).ok()["contact"] for queue in POOLS}
        for one in waiting.values():
            eventually(lambda one=one: people.post(f"/v1/contacts/{one}/assignment").ok()["state"] == "waiting")
        people.post("/v1/closures", {"kind": "emergency", "reason": "drill", "message": {"en": "fire"}}).ok()
        for one in waiting.values():
            eventually(lambda one=one: people.post(f"/v1/contacts/{one}/assignment").ok()["state"] == "closed")
        eventually(lambda: system.count("routing", "mailbox") == 0)
        checks.settled(system)
        checks.nothing_lost_or_twice(system)


def test_each_keeps_its_half_when_database_and_broker_begin_anew(sharded: Chaos, seed: int, say: Say) -> None:
    system = sharded
    with system.twin() as twin:
        twin.start("routing")
        eventually(lambda: have_one_each(system, twin))
        east = Floor([system], seed, callers=2, agents=2, name="east", pool="east").open()
        west = Floor([system], seed + 1, callers=2, agents=2, name="west", pool="west").open()
        with east.working(), west.working():
            for server in (system.database, system.broker):
                until(east, lambda: min(sum(floor.outcomes.values()) for floor in (east, west)) >= 3)
                assert server
                server.kill()
                server.start()
                before = {floor.source: len(floor.contacts) for floor in (east, west)}
                until(east, lambda before=before: all(len(floor.contacts) > before[floor.source] + 4 for floor in (east, west)))
        eventually(lambda: have_one_each(system, twin))
        checks.settled(system)
        say({**checks.nothing_lost_or_twice(system), **checks.floor(system, east, west)})


def test_more_shards_than_before_share_what_one_had(killable: tuple[Broker, Database]) -> None:
    system = Chaos("deployed", *killable)
    people = system.patient()
    try:
        system.migrate()
        for service in system.apart:
            system.start(service, wait=False)
        system.all_ready()
        waiting: dict[str, str] = {}
        for pool in POOLS:
            people.put(f"/v1/queues/{pool}", {"mode": "routed", "pool": pool, "offer_seconds": 60}).ok()
            people.put(f"/v1/agents/{pool}", {"channels": ["voice"], "pool": pool}).ok()
            people.put(f"/v1/agents/{pool}/state", {"state": "available"}).ok()
            talking = people.post("/v1/contacts", {"queue": pool, "source": "s", "call": f"{pool}-1"}).ok()["contact"]
            people.post(f"/v1/offers/{offered(system, pool)['id']}/accept", {"agent": pool}).ok()
            waiting[pool] = people.post("/v1/contacts", {"queue": pool, "source": "s", "call": f"{pool}-2"}).ok()["contact"]
            assert people.post(f"/v1/contacts/{talking}/assignment").ok()["agent"] == pool
        system.terminate("routing")
        system.settings["ANSWERLINE_ROUTING_SHARDS"] = "3"
        system.start("routing")
        eventually(lambda: held(system) == 3)
        shards = {row.name: row.shard for row in system.sql("routing", "select name, shard from pool")}
        assert len({shards[pool] for pool in POOLS}) == 2
        for pool in POOLS:
            talking = next(iter(people.get(f"/v1/agents/{pool}").ok()["work"]))
            people.post(f"/v1/contacts/{talking}/end", {}).ok()
            eventually(lambda pool=pool: people.get(f"/v1/agents/{pool}").ok()["state"] == "wrap_up")
            people.put(f"/v1/agents/{pool}/state", {"state": "available"}).ok()
            assert offered(system, pool)["contact"] == waiting[pool], "whoever waited is offered where their pool is now"
        eventually(lambda: system.count("routing", "mailbox") == 0)
        checks.nothing_lost_or_twice(system)
    finally:
        revive(killable[1])
        system.remove()
