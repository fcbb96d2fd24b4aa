"""Two gateways, one log: whoever listens at one goes on at the other when it dies, and misses nothing."""

from __future__ import annotations

from http.client import HTTPException
from itertools import islice
from typing import Any

from tests.chaos.harness import Chaos
from tests.chaos.synthetic import Say
from tests.e2e.listening import Ear, Told, busy, ended, ids, is_last


def follow(gateways: list[Chaos], topics: str, last: str, wanted: Any) -> list[Told]:
    """As a client does: where the line breaks, it goes on at the next gateway."""
    heard: list[Told] = []
    for turn in range(200):
        try:
            with Ear(gateways[turn % 2], topics, last) as ear:
                for told in ear:
                    heard.append(told)
                    last = told.id
                    if wanted(told):
                        return heard
        except (OSError, HTTPException):
            continue
    raise AssertionError(f"no end after {len(heard)} events")


def test_listeners_go_on_at_the_other_gateway(deployed: Chaos, say: Say) -> None:
    system = deployed
    with system.twin() as twin:
        twin.start("gateway")
        with Ear(system, "queue:q").opened() as ear, Ear(twin, "queue:q").opened() as other:
            start = ear.last
            with busy(system, "q") as contacts:
                heard_here, heard_there = (list(islice(one, 20)) for one in (ear, other))
            contact = ended(system, "q")
            heard_here += ear.until(is_last(contact))
            heard_there += other.until(is_last(contact))
            assert ids(heard_here) == ids(heard_there), "two processes tell the same, in one order"
            first = len(contacts)
        last = heard_here[-1].id
        for dying, living in ((system, twin), (twin, system)):
            with busy(living, "q"), Ear(dying, "queue:q", last) as ear:
                some = list(islice(ear, 5))
                dying.kill("gateway")
            contact = ended(living, "q")
            rest = follow([dying, living], "queue:q", some[-1].id, is_last(contact))
            heard_here += some + rest
            last = rest[-1].id
            dying.start("gateway")
        everything = follow([twin, system], "queue:q", start, is_last(contact))
    assert ids(everything) == ids(heard_here)
    assert len(set(ids(everything))) == len(everything)
    stored = system.sql(
        "gateway", "select id from stream_event where queue = 'q' and position > :start order by position", start=int(start)
    )
    assert [str(row.id) for row in stored] == ids(everything)
    published = system.ids("gateway", "outbox") | system.ids("routing", "outbox")
    assert system.ids("gateway", "stream_event") == published, "all that was announced, and nothing else"
    say({"events": len(everything), "contacts before the first death": first})
