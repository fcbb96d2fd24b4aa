"""The bridge against a scripted peer that says a captured session, breaks off anywhere and has other channels when it is back."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from services.gateway import handlers
from services.gateway.bridges import asterisk_ami
from services.gateway.bridges.asterisk_ami import Bridge, Denied, Session
from services.gateway.bridges.kernel import Pauses, secret_of
from services.gateway.domain.legs import Leg
from services.gateway.domain.observation import Observation
from tests.unit.gateway.asterisk_peers import BOOT, Kept, Manager, Talk
from tests.unit.gateway.telephony_samples import TRUTH, ami_lines, by_agent, by_queue, by_queue_log, raw_ami
from tests.unit.gateway.test_snapshots import legs_with_evidence


@dataclass(frozen=True)
class Said:
    """One captured message: when, its bytes, the channels that it names, and the one that it says is gone."""

    at: float
    frame: bytes
    channels: frozenset[str]
    gone: str


@cache
def session() -> tuple[Said, ...]:
    told = []
    for line in ami_lines("ami_with_timestamps"):
        read = json.loads(line)
        message = read["ami"]
        if message.get("Event") in ("FullyBooted", "QueueMember", "QueueEntry"):
            continue  # the peer answers for itself
        headers = [(header, one) for header, value in message.items() for one in (value if isinstance(value, list) else [value])]
        frame = "".join(f"{header}: {value}\r\n" for header, value in headers) + "\r\n"
        channels = frozenset(message[header] for header in ("Uniqueid", "DestUniqueid") if message.get(header))
        told.append(Said(read["recv"], frame.encode(), channels, message["Uniqueid"] if message["Event"] == "Hangup" else ""))
    return tuple(told)


def alive(until: int) -> list[str]:
    """The channels there are after so many messages."""
    seen = {channel for said in session()[:until] for channel in said.channels}
    return sorted(seen - {said.gone for said in session()[:until]})


@contextmanager
def followed(peer: Manager, kept: Kept, **options: float) -> Iterator[Bridge]:
    manager = asterisk_ami.Manager("127.0.0.1", peer.port, "answerline", "s3cret")
    bridge, stopped = Bridge(manager, kept, **options), threading.Event()
    thread = threading.Thread(target=bridge.run, args=(stopped, Pauses(0.001, 0.002)))
    thread.start()
    try:
        yield bridge
    finally:
        stopped.set()
        thread.join(20)
        assert not thread.is_alive()


def observed(kept: Kept) -> list[Observation]:
    readings = list(handlers.read_ami(kept.body, 1795296250.0))
    assert not any(reading.rejected for reading in readings)
    return [told for reading in readings for told in reading.observations]


def follow_all(*talks: Talk) -> tuple[Kept, Manager]:
    kept = Kept()
    end = session()[-1].frame.partition(b"Timestamp: ")[2].partition(b"\r\n")[0]
    with Manager(list(talks)) as peer, followed(peer, kept):
        kept.wait_for(lambda body: end in body)
    return kept, peer


def said(start: int, end: int, half: bool = False) -> bytes:
    part = b"".join(one.frame for one in session()[start:end])
    return part + session()[end].frame[:40] if half else part


def test_a_whole_session_gives_what_ami_knows() -> None:
    kept, peer = follow_all(Talk(BOOT + 4, (), said(0, len(session()))))
    truth = {queue: dict(figures) for queue, figures in TRUTH["run1"]["queues"].items()}
    truth["support-phone"]["missed"] -= 1  # it rang after the capture had ended
    assert by_queue(legs_with_evidence(observed(kept))) == truth
    asked = [request["Action"] for request in peer.requests]
    assert asked[:3] == ["Challenge", "Login", "Ping"]
    assert {"CoreShowChannels", "QueueStatus"} <= set(asked)
    assert "Secret" not in peer.requests[1]
    assert peer.requests[1]["Events"] == "system,call,agent,dialplan"


def test_the_bytes_of_a_real_session_come_through() -> None:
    kept = Kept()
    frames = raw_ami()
    whole = frames[: frames.rindex(b"\r\n\r\n") + 4]
    with Manager([Talk(BOOT + 4, (), whole)]) as peer, followed(peer, kept):
        kept.wait_for(lambda body: body.count(b'"Hangup"') == whole.count(b"Event: Hangup\r\n"))
    straight = [told.key for reading in handlers.read_ami(whole, 1795296250.0) for told in reading.observations if told.at]
    stamped = {key for key in straight if "≈" not in key and "|snapshot|" not in key and "FullyBooted" not in key}
    assert len(stamped) > 20
    assert stamped <= {told.key for told in observed(kept)}


@pytest.mark.parametrize("seed", range(6))
def test_after_breaks_anywhere_the_figures_are_exact_with_the_queue_log_and_nothing_stays_open(seed: int) -> None:
    chance = random.Random(seed)
    count = len(session())
    first, back = sorted(chance.sample(range(50, count - 50), 2))
    back = min(back, first + chance.choice([1, 40, 400]))
    moment = session()[back].at
    talks = [Talk(BOOT + 4, (), said(0, first, half=True), breaks=True), Talk(moment, alive(back), said(back, count))]
    kept, _ = follow_all(*talks)
    told = observed(kept)
    assert [one.calls for one in told if one.kind == "snapshot"][:2] == [(), tuple(alive(back))]

    alone = legs_with_evidence(told)
    assert all(leg.uncertain for leg in alone if leg.outcome == "lost")
    true_legs = {(leg.call, leg.queue): leg for leg in legs_with_evidence(list(by_queue_log()))}
    for leg in alone:
        if leg.outcome == "lost":
            assert _overlaps(true_legs[leg.call, leg.queue], session()[first].at, moment), leg
        if leg.outcome == "waiting":
            assert true_legs[leg.call, leg.queue].outcome == "waiting" or leg.call in alive(count), leg

    for with_log in (told + list(by_queue_log()), (told + list(by_queue_log())) * 2):
        chance.shuffle(with_log)
        legs = legs_with_evidence(with_log)
        assert by_queue(legs) == TRUTH["run1"]["queues"]
        assert by_agent(legs) == TRUTH["run1"]["agents"]
        assert not any(leg.uncertain for leg in legs)


def _overlaps(leg: Leg, start: float, end: float) -> bool:
    return (leg.arrived_at or 0) <= end + 1 and (leg.ended_at or 0) >= start - 2


def test_messages_without_a_timestamp_are_dated_by_the_pbxs_clock() -> None:
    frame = b"Event: QueueCallerJoin\r\nUniqueid: 5.1\r\nLinkedid: 5.1\r\nQueue: sales\r\nPosition: 1\r\nCount: 1\r\n\r\n"
    kept = Kept()
    with Manager([Talk(1795296253.0 + 3600, (), frame)]) as peer, followed(peer, kept):
        kept.wait_for(lambda body: b"QueueCallerJoin" in body)
    told = {one.kind: one.at or 0.0 for one in observed(kept)}
    assert 0 <= told["entered"] - (1795296253.0 + 3600) < 30
    assert abs(told["restarted"] - BOOT) < 30, "an old start is no restart of today"


def test_a_wrong_secret_is_said_and_nothing_is_followed() -> None:
    with Manager([Talk(BOOT)], secret="another") as peer, pytest.raises(Denied, match="Authentication failed"):
        Session(asterisk_ami.Manager("127.0.0.1", peer.port, "answerline", "s3cret"))
    assert "s3cret" not in repr(asterisk_ami.Manager("h", 1, "u", "s3cret"))


def test_a_manager_without_challenge_gets_the_secret_only_when_told_so() -> None:
    with Manager([Talk(BOOT)]) as peer:
        Session(asterisk_ami.Manager("127.0.0.1", peer.port, "answerline", "s3cret", plain=True)).close()
    assert [request["Action"] for request in peer.requests[:2]] == ["Login", "Ping"]
    assert peer.requests[0]["Secret"] == "s3cret"


def test_a_line_break_in_a_secret_sends_no_second_action() -> None:
    with Manager([Talk(BOOT)]) as peer, pytest.raises(Denied, match="line break"):
        Session(asterisk_ami.Manager("127.0.0.1", peer.port, "answerline", "x\r\nAction: Command", plain=True))


def test_what_was_lost_for_want_of_room_is_made_up_for_by_a_snapshot() -> None:
    class Live:
        asked = 0
        ahead = 0.0

        def now(self) -> float:
            return BOOT

        def send(self, action: str, **_headers: str) -> str:
            self.asked += action == "CoreShowChannels"
            return action

    kept, live = Kept(), Live()
    bridge = Bridge(asterisk_ami.Manager("127.0.0.1", 1, "answerline", "s3cret"), kept)
    joined = {"Event": "QueueCallerJoin", "Uniqueid": "5.1", "Queue": "sales"}
    for room, asked in ((True, 0), (False, 0), (False, 0), (True, 1), (True, 1)):
        kept.room = room
        bridge.take([joined], live)  # type: ignore[arg-type]
        assert live.asked == asked


def test_the_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("X_SECRET", raising=False)
    with pytest.raises(click.ClickException, match="X_SECRET_FILE"):
        secret_of("X_SECRET")
    monkeypatch.setenv("X_SECRET", "one")
    assert secret_of("X_SECRET") == "one"
    path = tmp_path / "secret"
    path.write_text("two\n")
    monkeypatch.setenv("X_SECRET_FILE", str(path))
    assert secret_of("X_SECRET") == "two"
