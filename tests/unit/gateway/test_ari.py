from __future__ import annotations

import contextlib
import json
import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.domain.ari import interpret, messages
from services.gateway.domain.legs import Snapshot, fold
from services.gateway.domain.observation import Ignored, Malformed, Observation
from tests.thorough import TIMES
from tests.unit.gateway.telephony_samples import (
    TRUTH,
    ami_lines,
    by_agent,
    by_ami,
    by_dialplan,
    by_queue,
    by_queue_log,
    group_by_contact,
    legs_of,
)

LINES = ami_lines("ari_events")
CALLER = {"id": "5.1", "name": "PJSIP/trunk-1", "caller": {"name": "Ann", "number": "7"}, "connected": {}}
IN_QUEUE = CALLER | {"dialplan": {"context": "q", "exten": "sales", "priority": 5, "app_name": "Queue", "app_data": "sales,tT,,,90"}}
MEMBER = {"id": "5.2", "name": "Local/1@a-1;1", "dialplan": {"app_name": "AppQueue", "app_data": "(Outgoing Line)"}}
AT = "2026-11-21T21:24:18.357+0000"


@cache
def by_ari() -> tuple[Observation, ...]:
    read = [interpret(message) for _, message in messages(b"\n".join(LINES))]
    return tuple(told for told in read if isinstance(told, Observation))


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": AT, "application": "cc", "asterisk_id": "00:01", **fields}


def told(kind: str, **fields: Any) -> Observation:
    observation = interpret(event(kind, **fields))
    assert isinstance(observation, Observation)
    return observation


def varset(variable: str, value: str, channel: dict[str, Any] = IN_QUEUE) -> Observation | Ignored:
    return interpret(event("ChannelVarset", variable=variable, value=value, channel=channel))


# ---- a real PBX's evening


def test_ari_alone_knows_every_call_its_outcome_and_its_agent() -> None:
    legs, truth = legs_of(by_ari()), TRUTH["run1"]
    counted = ("offered", "answered", "abandoned", "timed_out", "left_by_key", "waiting", "talking")
    for queue, figures in by_queue(legs).items():
        assert {name: figures[name] for name in counted} == {name: truth["queues"][queue][name] for name in counted}
        assert abs(figures["hold_seconds"] - truth["queues"][queue]["hold_seconds"]) <= 1
    assert {who: row["answered"] for who, row in by_agent(legs).items()} == {
        who: row["answered"] for who, row in truth["agents"].items() if row["answered"]
    }
    assert all(leg.missed is None for leg in legs), "ARI does not tell of rings that were missed"


@pytest.mark.parametrize("others", [by_queue_log(), by_queue_log() + by_ami() + by_dialplan()], ids=["queue_log", "all"])
def test_beside_the_queue_log_ari_changes_no_figure(others: tuple[Observation, ...]) -> None:
    legs = legs_of(others + by_ari())
    assert by_queue(legs) == TRUTH["run1"]["queues"]
    assert by_agent(legs) == TRUTH["run1"]["agents"]
    assert not any(leg.uncertain for leg in legs)


def test_beside_ami_ari_changes_no_figure() -> None:
    assert by_queue(legs_of(by_ami() + by_ari())) == by_queue(legs_of(by_ami()))


@pytest.mark.parametrize("seed", range(3))
def test_order_and_doubled_delivery_change_nothing(seed: int) -> None:
    shuffled = [*by_ari()] * 2
    random.Random(seed).shuffle(shuffled)
    assert by_queue(legs_of(shuffled)) == by_queue(legs_of(by_ari()))


CONTACTS = [contact for contact in group_by_contact(by_queue_log() + by_ami() + by_ari()) if fold(contact)]


@settings(max_examples=60 * TIMES)
@given(st.sampled_from(CONTACTS), st.data())
def test_any_part_of_a_story_and_any_evidence_fold_the_same_in_any_order(contact: list[Observation], data: st.DataObject) -> None:
    part = data.draw(st.lists(st.sampled_from(contact), unique_by=lambda o: o.key, max_size=len(contact)))
    moments = st.floats(1795296250, 1795296400)
    calls = st.frozensets(st.sampled_from([id for told in contact for id in told.identifiers]))
    shots = data.draw(st.lists(st.builds(Snapshot, moments, calls), max_size=3))
    restarts = data.draw(st.lists(moments, max_size=2))
    shuffled = data.draw(st.permutations(part + part[: data.draw(st.integers(0, len(part)))]))
    once = fold(sorted(part, key=lambda o: o.key), restarts, shots)
    assert fold(shuffled, restarts[::-1], data.draw(st.permutations(shots))) == once
    assert all(leg.uncertain and leg.ended_at for leg in once if leg.outcome == "lost")


# ---- what an event tells


def test_the_position_in_the_dialplan_names_the_queue() -> None:
    entered = varset("ANSWEREDTIME", "")
    assert isinstance(entered, Observation)
    assert (entered.kind, entered.call, entered.queue, entered.caller, entered.name) == ("entered", "5.1", "sales", "7", "Ann")
    assert (entered.place, entered.at) == ("sales@q", 1795296258.357)
    assert isinstance(varset("ANSWEREDTIME", "12"), Ignored), "set again at the end of the talk"
    assert isinstance(varset("ANSWEREDTIME", "", MEMBER), Ignored), "Dial() does the same on other channels"


@pytest.mark.parametrize(
    ("variable", "value", "kind", "name", "read"),
    [
        ("MEMBERINTERFACE", "Local/1@a/n", "answered", "interface", "Local/1@a/n"),
        ("MEMBERNAME", "Bob", "detail", "agent", "Bob"),
        ("QEHOLDTIME", "28", "detail", "hold_seconds", 28.0),
        ("QEORIGINALPOS", "7", "detail", "position", 7),
        ("ABANDONED", "TRUE", "abandoned", "queue", "sales"),
        ("QUEUEPOSITION", "1", "left", "place", "sales@q"),
        ("QUEUESTATUS", "TIMEOUT", "status", "reason", "TIMEOUT"),
    ],
)
def test_what_queue_sets_on_the_callers_channel(variable: str, value: str, kind: str, name: str, read: Any) -> None:
    observation = varset(variable, value)
    assert isinstance(observation, Observation)
    assert (observation.kind, getattr(observation, name)) == (kind, read)
    assert isinstance(varset(variable, value, MEMBER), Ignored), "the same is set on the member's channel"


@pytest.mark.parametrize(("status", "kind"), [("", "called"), ("ANSWER", "detail"), ("NOANSWER", "cancelled"), ("BUSY", "cancelled")])
def test_a_queues_dialling_names_the_members_channel(status: str, kind: str) -> None:
    ring = told("Dial", dialstatus=status, dialstring="Local/1@a/n", caller=IN_QUEUE, peer=MEMBER)
    assert (ring.kind, ring.call, ring.member_call, ring.interface) == (kind, "5.1", "5.2", "Local/1@a/n")
    assert isinstance(interpret(event("Dial", dialstatus=status, caller=CALLER, peer=MEMBER)), Ignored)


def test_transfers_and_hangups() -> None:
    blind = told("BridgeBlindTransfer", channel=MEMBER, transferee=CALLER, exten="700", context="xfer", result="Success")
    assert (blind.kind, blind.call, blind.member_call, blind.target) == ("redirected", "5.1", "5.2", "700")
    assert isinstance(interpret(event("BridgeBlindTransfer", channel=MEMBER, transferee=CALLER, result="Invalid")), Ignored)
    attended = told("BridgeAttendedTransfer", transferer_first_leg=MEMBER, transferee=CALLER, result="Success")
    assert (attended.kind, attended.member_call) == ("redirected", "5.2")
    over = told("ChannelDestroyed", channel=CALLER, cause=16)
    assert (over.kind, over.call) == ("hung_up", "5.1")


@pytest.mark.parametrize(
    ("words", "queue"),
    [(["support"], "support"), (["x", "queue=support"], "support"), (["5.1"], ""), (["5.1", "inbound"], ""), ([], ""), (None, "")],
)
def test_stasis_may_name_the_queue(words: list[str] | None, queue: str) -> None:
    read = interpret(event("StasisStart", args=words, channel=CALLER))
    assert (read.kind, read.queue) == ("arrived", queue) if isinstance(read, Observation) else queue == ""


def test_the_same_event_through_two_applications_is_one_fact() -> None:
    first = told("ChannelDestroyed", channel=CALLER, cause=16)
    assert first.key == told("ChannelDestroyed", channel=CALLER, cause=16, application="monitor").key
    assert first.key != told("ChannelDestroyed", channel=CALLER | {"id": "5.3"}, cause=16).key


def test_the_channels_there_are_become_a_snapshot_and_the_start_a_restart() -> None:
    read = interpret({"recv": 100.5, "channels": [{"id": "5.2"}, {"id": "5.1"}]})
    assert isinstance(read, Observation)
    assert (read.kind, read.at, read.calls) == ("snapshot", 100.5, ("5.1", "5.2"))
    assert Observation.from_dict(json.loads(json.dumps(read.to_dict()))) == read
    started = interpret({"recv": 100.5, "info": {"status": {"startup_time": AT}}})
    assert isinstance(started, Observation)
    assert (started.kind, started.at) == ("restarted", 1795296258.357)


# ---- posts


def test_one_event_many_lines_and_an_array_are_read_alike() -> None:
    one = event("ChannelDestroyed", channel=CALLER)
    for body in (json.dumps(one), json.dumps(one, indent=2), json.dumps([one]), json.dumps({"recv": 9, "ari": one}) + "\n\n"):
        (read,) = [interpret(message) for _, message in messages(body.encode())]
        assert isinstance(read, Observation)
        assert read.call == "5.1"
    assert len(list(messages(f"{json.dumps(one)}\n{json.dumps(one)}\r\n".encode()))) == 2


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "JSON"),
        (b"[[]]", "object"),
        (b"7", "object"),
        (b"{}", "type"),
        (b'{"recv": 1795296258000, "ari": {}}', "milliseconds"),
        (b'{"ari": 3}', "event"),
        (b'{"channels": [3]}', "array of channels"),
        (b'{"type": "ChannelDestroyed"}', "channel"),
        (b'{"type": "ChannelDestroyed", "channel": {"id": 5}}', "id"),
        (b'{"type": "ChannelDestroyed", "channel": {"id": "5.1"}, "timestamp": "2026-11-21T21:24:18"}', "zone"),
        (b"[" * 99_999, "JSON"),
    ],
)
def test_what_cannot_be_read_says_what_to_mend(message: bytes, says: str) -> None:
    ((_, read),) = messages(message)
    with pytest.raises(Malformed, match=says):
        interpret(read)


@given(st.sampled_from(LINES), st.data())
def test_a_damaged_event_is_read_ignored_or_malformed(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    for _, message in messages(line[:at] + data.draw(st.binary(max_size=4)) + line[at + 1 :]):
        with contextlib.suppress(Malformed):
            assert isinstance(interpret(message), Observation | Ignored)
    damaged = json.loads(line)["ari"]
    damaged[data.draw(st.sampled_from(sorted(damaged)))] = data.draw(st.one_of(st.none(), st.text(max_size=5), st.integers(), st.just([])))
    with contextlib.suppress(Malformed):
        assert isinstance(interpret(damaged), Observation | Ignored)
