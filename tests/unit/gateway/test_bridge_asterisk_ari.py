from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from services.gateway import handlers
from services.gateway.bridges.asterisk_ari import Bridge, Rest
from services.gateway.bridges.kernel import Pauses
from services.gateway.bridges.websocket import Refused
from services.gateway.domain import ari
from services.gateway.domain.observation import Observation
from tests.unit.gateway.asterisk_peers import BOOT, Kept, RestInterface, Talk, frames
from tests.unit.gateway.telephony_samples import TRUTH, ami_lines, by_agent, by_queue, by_queue_log
from tests.unit.gateway.test_snapshots import legs_with_evidence


@cache
def events() -> tuple[tuple[float, bytes, str, str], ...]:
    """(when, the event, a channel of it, the channel that it says is gone)"""
    told = []
    for line in ami_lines("ari_events"):
        read = json.loads(line)
        event = read["ari"]
        channel = event.get("channel", {}).get("id", "")
        text = json.dumps(event, ensure_ascii=False).encode()
        told.append((read["recv"], text, channel, channel if event["type"] == "ChannelDestroyed" else ""))
    return tuple(told)


def alive(until: int) -> list[str]:
    part = events()[:until]
    return sorted({channel for _, _, channel, _ in part if channel} - {gone for *_, gone in part})


def said(start: int, end: int, seed: int = 0) -> bytes:
    return frames([text for _, text, _, _ in events()[start:end]], seed)


@contextmanager
def followed(peer: RestInterface, kept: Kept) -> Iterator[Bridge]:
    bridge, stopped = Bridge(Rest(f"http://127.0.0.1:{peer.port}", "answerline", "s3cret"), kept), threading.Event()
    thread = threading.Thread(target=bridge.run, args=(stopped, Pauses(0.001, 0.002)))
    thread.start()
    try:
        yield bridge
    finally:
        stopped.set()
        thread.join(20)
        assert not thread.is_alive()


def observed(kept: Kept) -> list[Observation]:
    readings = list(handlers.read_ari(kept.body, 1795296250.0))
    assert not any(reading.rejected for reading in readings)
    return [told for reading in readings for told in reading.observations]


def follow_all(*talks: Talk) -> tuple[Kept, RestInterface]:
    kept = Kept()
    end = next(text for _, text, *_ in reversed(events()) if isinstance(ari.interpret(json.loads(text)), Observation))
    with RestInterface(list(talks)) as peer, followed(peer, kept):
        kept.wait_for(lambda body: end in body)
    return kept, peer


def test_a_whole_evening_gives_what_ari_knows() -> None:
    kept, peer = follow_all(Talk(BOOT + 4, (), said(0, len(events()))))
    figures = by_queue(legs_with_evidence(observed(kept)))
    for queue, truth in TRUTH["run1"]["queues"].items():
        for name in ("offered", "answered", "abandoned", "left_by_key", "waiting"):
            assert figures[queue][name] == truth[name]
    assert {request["path"].partition("?")[0] for request in peer.requests} == {"/ari/events", "/ari/channels", "/ari/asterisk/info"}
    assert "subscribeAll=true" in peer.requests[0]["path"]
    assert not any("s3cret" in request["path"] for request in peer.requests)


def test_of_what_does_not_matter_nothing_is_posted() -> None:
    kept, _ = follow_all(Talk(BOOT + 4, (), said(0, len(events()))))
    assert len(observed(kept)) == len(kept.items)
    assert len(kept.items) < len(events())


@pytest.mark.parametrize("seed", range(4))
def test_after_breaks_anywhere_the_figures_are_exact_with_the_queue_log_and_nothing_stays_open(seed: int) -> None:
    chance = random.Random(seed)
    count = len(events())
    first, back = sorted(chance.sample(range(50, count - 200), 2))
    back = min(back, first + chance.choice([1, 40, 400]))
    part = said(0, first, seed)
    talks = [
        Talk(BOOT + 4, (), part[: len(part) - chance.randrange(30)], breaks=True),
        Talk(events()[back][0], alive(back), said(back, count, seed)),
    ]
    kept, _ = follow_all(*talks)
    told = observed(kept)
    assert [one.kind for one in told].count("snapshot") == 2
    open_now = {leg.call for leg in legs_with_evidence(told) if leg.outcome in ("waiting", "talking")}
    assert open_now <= set(alive(count))
    legs = legs_with_evidence((told + list(by_queue_log())) * 2)
    assert by_queue(legs) == TRUTH["run1"]["queues"]
    assert by_agent(legs) == TRUTH["run1"]["agents"]
    assert not any(leg.uncertain for leg in legs)


def test_a_wrong_password_is_said() -> None:
    with RestInterface([Talk(BOOT)], secret="another") as peer, pytest.raises(Refused, match="401"):
        Rest(f"http://127.0.0.1:{peer.port}", "answerline", "s3cret").listen()
    assert "s3cret" not in repr(Rest("http://h", "u", "s3cret"))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8088", "ftp://h", "http://"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Rest(url, "u", "s").address()
