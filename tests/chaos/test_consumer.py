"""The one consumer dies again and again, or its database does: all that the broker holds is applied once in the end."""

from __future__ import annotations

import time
from typing import Any

from kombu import Connection

from tests.chaos import checks
from tests.chaos.harness import Chaos, Monkey
from tests.chaos.synthetic import SOURCE, Say, Stream, backlog
from tests.system import eventually

KILLS = 20
PREFETCH = 400
AWAY_SECONDS = 15.0
LOOK_SECONDS = 0.1


def applied_once(system: Chaos, stream: Stream) -> dict[str, Any]:
    eventually(lambda: system.count("routing", "inbox") >= len(stream.ids), 60, every=0.2)
    applied, tally = system.ids("routing", "inbox"), checks.tally(system)
    figures = {"events": len(stream.ids), "sent": stream.sent, "lost": len(stream.ids - applied), "twice": tally["applied"] - len(applied)}
    assert applied == stream.ids, figures
    assert tally["applied"] == len(applied), figures
    checks.sums_agree(tally)
    assert not (tally["waiting"] or tally["retrying"] or tally["dead"]), tally
    row = eventually(lambda: system.get("/v1/reports/queues", source=SOURCE).ok()["queues"])[0]
    assert (row["offered"], row["answered"], row["talk_seconds"]) == (stream.calls, stream.calls, 3 * stream.calls)
    return figures | dict(tally)


def test_the_consumer_is_killed_many_times_in_a_row(deployed: Chaos, monkey: Monkey, rounds: int, say: Say) -> None:
    system = deployed
    stream = Stream(system.broker_url, monkey.random)
    full = 0
    with Connection(system.broker_url) as watching:
        system.kill("routing")
        stream.send()
        for _ in range(KILLS * rounds):
            if backlog(watching)[0] < 3 * PREFETCH:
                stream.send()
            system.start("routing", wait=False)
            eventually(lambda: backlog(watching)[1] or not system.running("routing"), 30, every=0.01)
            monkey.pause(0.1)
            full += backlog(watching)[0] > 0  # somebody consumes and something is left: its prefetch is full
            system.kill("routing")
    system.start("routing")
    say({"kills": KILLS * rounds, "with full prefetch": full, **applied_once(system, stream)})
    assert full > KILLS * rounds / 2


def test_the_database_is_away_while_the_broker_is_full(deployed: Chaos, monkey: Monkey, say: Say) -> None:
    system = deployed
    assert system.database
    stream = Stream(system.broker_url, monkey.random)
    stream.send(2000)
    eventually(lambda: system.count("routing", "inbox"))
    routing = system.pid("routing")
    with system.supervised(), Connection(system.broker_url) as watching:
        system.kill_database()
        back_at = time.monotonic() + AWAY_SECONDS
        stream.send()
        while time.monotonic() < back_at:
            assert system.internal("routing").get("/livez").status == 200, "it lives, and says that it is not ready"
            assert not system.ready("routing")
            assert system.post("/v1/contacts", {"queue": "any", "call": "1"}).status == 503
            time.sleep(LOOK_SECONDS)
        assert backlog(watching)[0] > 0
        system.database.start()
    began = time.monotonic()
    figures = applied_once(system, stream)
    assert system.pid("routing") == routing, "it never ended"
    say({"away": AWAY_SECONDS, "caught up in": round(time.monotonic() - began, 1), **figures})
