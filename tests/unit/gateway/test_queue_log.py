from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.observation import Ignored, Malformed, Observation
from services.gateway.domain.queue_log import parse
from tests.unit.gateway.telephony_samples import queue_log_lines

CALL = "1699286234.123"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{CALL}|sales|NONE|ENTERQUEUE||7145|1", {"kind": "entered", "queue": "sales", "caller": "7145", "position": 1}),
        (f"{CALL}|sales|NONE|ENTERQUEUE||7145|1|Ann | Bee", {"kind": "entered", "position": 1, "name": "Ann | Bee"}),
        (f"{CALL}|sales|NONE|ENTERQUEUE|||2", {"kind": "entered", "caller": None, "position": 2}),
        (f"{CALL}|sales|Ann|CONNECT|6|1699286234.9|3", {"kind": "answered", "agent": "Ann", "hold_seconds": 6, "ring_seconds": 3}),
        (f"{CALL}|sales|Ann|COMPLETEAGENT|6|25|1", {"kind": "completed", "reason": "agent", "talk_seconds": 25, "position": 1}),
        (f"{CALL}|sales|Ann|COMPLETECALLER|6|25|1", {"kind": "completed", "reason": "caller", "hold_seconds": 6}),
        (f"{CALL}|sales|Ann|BLINDTRANSFER|701|xfer|28|1|7", {"kind": "transferred", "target": "701", "hold_seconds": 28, "position": 7}),
        (f"{CALL}|sales|Ann|ATTENDEDTRANSFER|BRIDGE|839d|1|8|2", {"kind": "transferred", "hold_seconds": 1, "talk_seconds": 8}),
        (f"{CALL}|sales|NONE|ABANDON|3|5|9", {"kind": "abandoned", "position": 5, "hold_seconds": 9}),
        (f"{CALL}|sales|NONE|EXITWITHTIMEOUT|3|5|9", {"kind": "timed_out", "position": 5, "hold_seconds": 9}),
        (f"{CALL}|sales|NONE|EXITWITHKEY|1|3|5|9", {"kind": "left_by_key", "target": "1", "position": 5, "hold_seconds": 9}),
        (f"{CALL}|sales|NONE|EXITEMPTY|1|1|9", {"kind": "left_empty", "hold_seconds": 9}),
        (f"{CALL}|sales|NONE|WITHDRAW|1|1|9", {"kind": "withdrawn"}),
        (f"{CALL}|sales|Ann|RINGNOANSWER|6500", {"kind": "missed", "ring_seconds": 6.5}),
        (f"{CALL}|sales|Ann|RINGCANCELED|579", {"kind": "cancelled", "ring_seconds": 0.579}),
        ('NONE|sales|Ann|PAUSE|meeting "A", B|C', {"kind": "paused", "queue": "sales", "reason": 'meeting "A", B|C', "call": None}),
        ("NONE|NONE|Ann|UNPAUSEALL|", {"kind": "unpaused", "queue": None, "agent": "Ann"}),
        ("MANAGER|sales|Local/1@a/n|ADDMEMBER|", {"kind": "member_added", "interface": "Local/1@a/n", "agent": None}),
        ("NONE|sales|Local/1@a/n|PENALTY|2", {"kind": "member_penalty", "penalty": 2}),
        ("NONE|NONE|NONE|QUEUESTART|", {"kind": "restarted", "queue": None}),
    ],
)
def test_each_event_tells(line: str, told: dict[str, object]) -> None:
    observation = parse("1699286240|" + line + "\n")
    assert isinstance(observation, Observation)
    assert observation.at == 1699286240
    assert {name: getattr(observation, name) for name in told} == told


def test_the_whole_line_is_the_identity() -> None:
    line = f"1699286240|{CALL}|sales|Ann|RINGNOANSWER|1000"
    assert parse(line).key == parse(line + "\r\n").key  # type: ignore[union-attr]
    assert parse(line).key != parse(line.replace("240|", "242|")).key  # type: ignore[union-attr]


@pytest.mark.parametrize("event", ["CONFIGRELOAD", "DID", "SYSCOMPAT", "AGENTDUMP", ""])
def test_unknown_events_are_ignored(event: str) -> None:
    assert parse(f"1699286240|{CALL}|sales|Ann|{event}|x") == Ignored(event)


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("", "epoch\\|callid"),
        (f"soon|{CALL}|sales|NONE|ENTERQUEUE||7|1", "epoch of ENTERQUEUE must be a whole number"),
        ("1|NONE|sales|NONE|ENTERQUEUE||7|1", "second field must be the call's Uniqueid"),
        (f"1|{CALL}|NONE|NONE|ENTERQUEUE||7|1", "third field must be the queue's name"),
        (f"1|{CALL}|sales|Ann|COMPLETEAGENT|6", "needs 2 data fields"),
        (f"1|{CALL}|sales|Ann|COMPLETEAGENT|6|-3|1", "talk_seconds of COMPLETEAGENT"),
        (f"1|{CALL}|sales|Ann|CONNECT|٣|x|1", "hold_seconds of CONNECT"),
    ],
)
def test_what_cannot_be_read_says_what_to_mend(line: str, mend: str) -> None:
    with pytest.raises(Malformed, match=mend):
        parse(line)


def test_the_sample_is_read_whole() -> None:
    assert all(isinstance(parse(line), Observation) for line in queue_log_lines())


@given(st.sampled_from(queue_log_lines()), st.data())
def test_a_damaged_line_is_read_ignored_or_malformed(line: str, data: st.DataObject) -> None:
    at, until = sorted(data.draw(st.tuples(st.integers(0, len(line)), st.integers(0, len(line)))))
    damaged = line[:at] + data.draw(st.text(max_size=8)) + line[until:]
    try:
        read = parse(damaged)
    except Malformed:
        return
    assert isinstance(read, Observation | Ignored)
    if isinstance(read, Observation):
        assert Observation.from_dict(read.to_dict()) == read
