from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.ami import RECEIVED, interpret, read_json, split
from services.gateway.domain.observation import Ignored, Malformed, Observation
from tests.unit.gateway.telephony_samples import ami_lines, by_ami, raw_ami

CALL = {"Uniqueid": "5.1", "Linkedid": "5.0", "Queue": "sales"}
MEMBER = {"Interface": "Local/1@a/n", "MemberName": "Ann", "DestUniqueid": "5.2"}


def told(event: str, received: float | None = None, **headers: str) -> Observation:
    observation = interpret({"Event": event, **headers}, received)
    assert isinstance(observation, Observation)
    return observation


# ---- messages


def test_bytes_become_messages_and_a_rest() -> None:
    raw = b"Asterisk Call Manager/11.0.0\r\nEvent: Hangup\r\nUniqueid: 5.1\r\nCause:\r\n\r\nEvent: Newexten\r\nExten: 1\r\n\r\nEvent: Que"
    messages, rest = split(raw)
    assert messages == [{"Event": "Hangup", "Uniqueid": "5.1", "Cause": ""}, {"Event": "Newexten"}]
    assert rest == b"Event: Que"


@given(st.lists(st.integers(0, 30_000), max_size=4))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    raw, messages, rest = raw_ami()[:30_000], [], b""
    bounds = [0, *sorted(cuts), len(raw)]
    for start, end in itertools.pairwise(bounds):
        some, rest = split(rest + raw[start:end])
        messages += some
    assert (messages, rest) == split(raw)


def test_bytes_that_are_not_utf8_do_not_stop_the_stream() -> None:
    (message,), _ = split(b"Event: QueueCallerJoin\r\nCallerIDName: Jos\xe9\r\n\r\n")
    assert message["CallerIDName"] == "Jos�"


def test_a_stream_without_an_end_of_message_is_refused() -> None:
    with pytest.raises(Malformed, match="this is not an AMI stream"):
        split(b"x" * 300_000)


def test_json_lines_come_bare_or_with_their_time_of_receipt() -> None:
    message = {"Event": "Hangup", "Uniqueid": "5.1", "ChanVariable": ["A=", "B="], "Cause": 16}
    read, received = read_json(json.dumps({"recv": 7.5, "seq": 1, "ami": message}))
    assert (read["Uniqueid"], read["ChanVariable"], read["Cause"], received) == ("5.1", "A=", "16", 7.5)
    assert read_json(json.dumps(message)) == (read, None)


@pytest.mark.parametrize(
    "line", ["", "[]", "{", "7", '{"ami": 3}', '{"recv": "soon", "ami": {}}', '{"recv": 1e15, "ami": {}}', "[" * 99_999]
)
def test_lines_that_are_no_message_are_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        read_json(line)


def test_bytes_and_json_tell_the_same() -> None:
    messages, _ = split(raw_ami())
    from_bytes = [o for m in messages if isinstance(o := interpret(m), Observation) and m.get("Timestamp")]
    assert len(from_bytes) > 30
    assert {o.key for o in from_bytes} <= {o.key for o in (*by_ami(), *by_ami("ami_holds"))}


# ---- observations


def test_the_time_is_the_timestamp_or_that_of_receipt() -> None:
    assert told("QueueCallerJoin", 9.0, Timestamp="7.25", **CALL).at == 7.25
    assert told("QueueCallerJoin", 9.0, **CALL).at == 9.0
    assert told("QueueCallerJoin", **CALL).at is None


def test_ring_time_of_an_answer_is_in_seconds_and_of_a_miss_in_milliseconds() -> None:
    assert told("AgentConnect", RingTime="3", HoldTime="6", **CALL, **MEMBER).ring_seconds == 3
    assert told("AgentRingNoAnswer", RingTime="3000", **CALL, **MEMBER).ring_seconds == 3


def test_names_are_unescaped_and_unknown_ones_left_out() -> None:
    assert told("QueueCallerJoin", CallerIDName="O\\'Brien", **CALL).name == "O'Brien"
    assert told("QueueCallerJoin", CallerIDName="<unknown>", CallerIDNum="<unknown>", **CALL).caller is None


def test_completion_for_a_transfer_is_a_transfer() -> None:
    assert told("AgentComplete", Reason="transfer", HoldTime="1", TalkTime="2", **CALL, **MEMBER).kind == "transferred"
    assert told("AgentComplete", Reason="agent", HoldTime="1", TalkTime="2", **CALL, **MEMBER).kind == "completed"


def test_a_boot_is_dated_by_its_uptime() -> None:
    boot = told("FullyBooted", 100.0, Uptime="4")
    assert (boot.kind, boot.at) == ("restarted", 96.0)


def test_a_pause_has_two_directions() -> None:
    member = {"Queue": "sales", "Interface": "Local/1@a/n", "MemberName": "Ann"}
    assert told("QueueMemberPause", Paused="1", PausedReason="lunch", **member).kind == "paused"
    assert told("QueueMemberPause", Paused="0", **member).kind == "unpaused"


@pytest.mark.parametrize(
    "message", [{}, {"Event": "Newexten"}, {"Response": "Success"}, {"Event": "VarSet", "Variable": "X", "Uniqueid": "1"}]
)
def test_everything_else_is_ignored(message: dict[str, str]) -> None:
    assert isinstance(interpret(message), Ignored)


@pytest.mark.parametrize("event", [[], ["Hangup"], {"a": 1}, None, 5])
def test_an_event_whose_name_is_no_text_is_ignored(event: Any) -> None:
    message, _ = read_json(json.dumps({"ami": {"Event": event}, "recv": 1}))
    assert isinstance(interpret(message, 1.0), Ignored)


def test_a_message_without_its_call_is_malformed() -> None:
    with pytest.raises(Malformed, match="QueueCallerJoin has no Uniqueid"):
        interpret({"Event": "QueueCallerJoin", "Queue": "sales"})


# ---- identity


def test_a_timestamp_makes_the_fact() -> None:
    once = told("QueueCallerJoin", 9.0, Timestamp="7.25", **CALL)
    assert once.key == told("QueueCallerJoin", 99.0, Timestamp="7.25", **CALL).key
    assert once.key != told("QueueCallerJoin", 9.0, Timestamp="8.25", **CALL).key


def test_without_timestamps_the_members_channel_tells_attempts_apart() -> None:
    once = told("AgentRingNoAnswer", 9.0, RingTime="0", **CALL, **MEMBER)
    assert once.key == told("AgentRingNoAnswer", 99.0, RingTime="0", **CALL, **MEMBER).key
    assert once.key != told("AgentRingNoAnswer", 9.0, RingTime="0", **CALL, **(MEMBER | {"DestUniqueid": "5.3"})).key


def test_without_either_the_second_of_receipt_must_do() -> None:
    once, again = told("QueueCallerJoin", 9.0, **CALL), told("QueueCallerJoin", 99.0, **CALL)
    assert once.key != again.key
    assert once.key.partition(RECEIVED)[0] == again.key.partition(RECEIVED)[0]


# ---- damage

LINES = ami_lines("ami_with_timestamps")


@given(st.sampled_from(LINES), st.data())
def test_a_damaged_message_is_read_ignored_or_malformed(line: bytes, data: st.DataObject) -> None:
    message, received = read_json(line)
    damaged = dict(message)
    damaged[data.draw(st.sampled_from(sorted(message)))] = data.draw(st.text(max_size=8))
    with contextlib.suppress(Malformed):
        assert isinstance(interpret(damaged, received), Observation | Ignored)
    at = data.draw(st.integers(0, len(line)))
    with contextlib.suppress(Malformed):
        assert isinstance(interpret(*read_json(line[:at] + data.draw(st.binary(max_size=4)) + line[at + 1 :])), Observation | Ignored)
