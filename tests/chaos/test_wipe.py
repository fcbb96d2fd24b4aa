"""The broker's data are gone: what was in its queues is sent again from the outbox (G5)."""

from __future__ import annotations

import pytest
from kombu import Connection

from shared.bus import broker as brokers
from tests.chaos import checks
from tests.chaos.harness import Chaos
from tests.chaos.load import Pbx
from tests.chaos.synthetic import Say
from tests.system import eventually


def fill(system: Chaos, seed: int, posts: int, source: str) -> Pbx:
    """Events in the broker, confirmed and thus published, that nobody has received."""
    with Pbx([system], seed, source, pace=0.0).working() as pbx:
        eventually(lambda: pbx.posts >= posts)
    eventually(lambda: not system.count("gateway", "intake where processed_at is null"))
    eventually(lambda: not system.count("gateway", "outbox where published_at is null"))
    return pbx


@pytest.mark.parametrize("first", ["the receiver", "one that died at once"])
def test_what_was_in_the_queues_is_sent_again(deployed: Chaos, seed: int, first: str, say: Say) -> None:
    """Whoever notices first: the receiver before its publisher, or one that made the queue anew and could do no more."""
    system = deployed
    before = fill(system, seed, 10, "before")
    checks.settled(system)
    system.kill("routing")
    lost = fill(system, seed, 30, "lost")
    in_queue = system.count("gateway", "outbox") - system.count("routing", "inbox")
    assert in_queue > 0
    system.kill("gateway")
    system.wipe_broker()
    if first == "one that died at once":
        with Connection(system.broker_url) as connection, connection.channel() as channel:
            brokers.inbox("routing")(channel).declare()
    for service in ("routing", "gateway") if first == "the receiver" else ("gateway", "routing"):
        system.start(service)
    checks.settled(system)
    figures = checks.nothing_lost_or_twice(system)
    checks.pbx(system, before)
    checks.pbx(system, lost)
    say({"in the queue when it was wiped": in_queue, **figures})


def test_an_arrival_that_comes_again_behind_its_end_is_offered_to_nobody(deployed: Chaos) -> None:
    """The arrival was in the queue that was lost; the end was not yet published, and so comes first (G4)."""
    system = deployed
    system.put("/v1/queues/q", {"mode": "routed"}).ok()
    system.put("/v1/agents/a", {"channels": ["voice"], "queues": ["q"], "address": "PJSIP/1"}).ok()
    system.put("/v1/agents/a/state", {"state": "available"}).ok()
    system.kill("routing")
    contact = system.post("/v1/contacts", {"queue": "q", "source": "s", "call": "1"}).ok()["contact"]
    eventually(lambda: system.count("gateway", "outbox where published_at is not null"))
    system.kill_broker()
    system.post(f"/v1/contacts/{contact}/end", {}).ok()
    eventually(lambda: system.count("gateway", "outbox where published_at is null") == 1)
    system.wipe_broker()
    eventually(lambda: not system.count("gateway", "outbox where published_at is null"))
    system.start("routing")
    checks.settled(system)
    assert not system.get("/v1/agents/a/offers").ok()["offers"]
    assert not system.count("routing", "offer")
    row = eventually(lambda: system.get("/v1/reports/queues", source="s").ok()["queues"])[0]
    assert (row["offered"], row["abandoned"], row["waiting"]) == (1, 1, 0)
    checks.nothing_lost_or_twice(system)
