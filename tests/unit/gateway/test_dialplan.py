from __future__ import annotations

import json
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.dialplan import decode, interpret
from services.gateway.domain.observation import Malformed, Observation
from tests.unit.gateway.telephony_samples import posts

ARRIVED = {"event": "call.arrived", "queue": "sales", "callid": "5.1", "linkedid": "5.0", "caller": "7", "name": "Ann", "at": 1795296258}
ANSWERED = {"event": "call.answered", "queue": "sales", "callid": "5.0", "member_uniqueid": "5.2", "agent": "Local/1@a/n", "at": 1795296259}
HANGUP = {"event": "call.hangup", "queue": "sales", "callid": "5.1", "linkedid": "5.0", "status": "TIMEOUT", "agent": "", "at": 1795296260}


def test_an_arrival_names_channel_and_call() -> None:
    told = interpret({**ARRIVED, "surprise": [1]})
    assert (told.kind, told.call, told.linked, told.queue, told.caller, told.at) == ("arrived", "5.1", "5.0", "sales", "7", 1795296258)


def test_an_answer_knows_the_call_by_its_linkedid_alone() -> None:
    told = interpret(ANSWERED)
    assert (told.kind, told.call, told.linked, told.member_call, told.interface) == ("answered", None, "5.0", "5.2", "Local/1@a/n")


def test_a_hangup_carries_the_queues_status() -> None:
    told = interpret(HANGUP)
    assert (told.kind, told.call, told.reason, told.interface) == ("hung_up", "5.1", "TIMEOUT", None)
    assert interpret({**HANGUP, "queue": ""}).queue is None


@pytest.mark.parametrize("at", [1795296258, "1795296258", "2026-11-21T21:24:18Z", "2026-11-22T05:24:18+0800", "2026-11-22T05:24:18+08:00"])
def test_times_come_as_epoch_or_with_a_zone(at: object) -> None:
    assert interpret({**ARRIVED, "at": at}).at == 1795296258


def test_a_time_without_a_zone_needs_the_pbxs() -> None:
    body = {**ARRIVED, "at": "2026-11-22T05:24:18"}
    with pytest.raises(Malformed, match="%z"):
        interpret(body)
    assert interpret(body, zone=timezone(timedelta(hours=8))).at == 1795296258


def test_without_any_time_that_of_receipt_stands_in_and_is_not_part_of_the_identity() -> None:
    body = {name: value for name, value in ARRIVED.items() if name != "at"}
    first, again = interpret(body, received=9.0), interpret(body, received=10.0)
    assert (first.at, first.key) == (9.0, again.key)


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"event": "call.arived"}, '"event" must be one of call.arrived'),
        ({"queue": ""}, 'call.arrived needs "queue"'),
        ({"callid": None}, 'call.arrived needs "callid"'),
        ({"callid": ["5.1"]}, '"callid" must be text'),
        ({"at": 1795296258000}, "not milliseconds"),
        ({"at": "nan"}, "out of range"),
        ({"at": "yesterday"}, "epoch seconds"),
        ({"at": True}, "epoch seconds"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "epoch seconds|out of range"),
        ({"at": 10**400}, "out of range"),
    ],
)
def test_what_cannot_be_read_says_what_to_mend(change: dict[str, object], mend: str) -> None:
    with pytest.raises(Malformed, match=mend):
        interpret({**ARRIVED, **change})


def test_what_no_database_takes_is_replaced() -> None:
    told = interpret({**ARRIVED, "name": json.loads('"A\\ud800B\\u0000"')})
    assert told.name == "A?B\ufffd"


# ---- bodies


def test_json_is_json_whatever_the_header_says() -> None:
    body = json.dumps(ARRIVED).encode()
    types = ["application/json", "application/json, application/json", "application/x-www-form-urlencoded", ""]
    assert [decode(body, content_type) for content_type in types] == [ARRIVED] * 4


def test_a_form_carries_every_name_whole() -> None:
    assert decode(b"event=call.arrived&name=%20Joe%20%22The%20Boss%22%20%E6%9E%97&caller=", "application/x-www-form-urlencoded") == {
        "event": "call.arrived",
        "name": ' Joe "The Boss" 林',
        "caller": "",
    }


def test_a_tab_in_a_name_is_forgiven() -> None:
    assert decode(b'{"name":"tab\there"}', "application/json") == {"name": "tab\there"}


@pytest.mark.parametrize(
    ("body", "mend"),
    [
        (rb"{\"event\":\"call.arrived\"\,\"queue\":\"sales\"}", "arrive with backslashes. Inside CURL"),
        (b'{"event":"call.arrived","name":"Joe "The Boss" Chan","at":1}', 'value of "name" seems to hold a quote'),
        (b'{"event":"call.arrived","name":"back\\slash","at":1}', 'value of "name" has a backslash'),
        (b'{"event":"call.hangup","cause":,"at":1}', "Expecting value at character 31"),
        (b'{"name":"Jos\xe9"}', "byte 12 of the body is not utf-8"),
        (b"[1]", "one JSON object"),
        (b"7" * 5000, "not JSON we can read"),
        (b"{" * 100_000, "not JSON"),
    ],
)
def test_a_body_that_is_not_json_is_explained(body: bytes, mend: str) -> None:
    with pytest.raises(Malformed, match=mend) as refusal:
        decode(body, "application/json")
    assert "Joe" not in str(refusal.value)


def test_charsets() -> None:
    assert decode('{"name":"José"}'.encode("latin-1"), "application/json; charset=latin-1") == {"name": "José"}
    for name in ("klingon", "punycode", "unicode-escape", "zlib"):
        with pytest.raises(Malformed, match="charset unknown"):
            decode(b"{}", f"application/json; charset={name}")
    with pytest.raises(Malformed, match="not UTF-8"):
        decode(b"name=%e9", "application/x-www-form-urlencoded")
    with pytest.raises(Malformed, match="at most 64 fields"):
        decode(b"&".join([b"a=1"] * 65), "application/x-www-form-urlencoded")


@given(st.sampled_from([post["body"].encode() for post in posts()]), st.data())
def test_a_damaged_post_is_read_or_malformed(body: bytes, data: st.DataObject) -> None:
    at, until = sorted(data.draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
    content_type = data.draw(st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/x; charset=utf-16", ""]))
    try:
        told = interpret(decode(body[:at] + data.draw(st.binary(max_size=6)) + body[until:], content_type))
    except Malformed:
        return
    assert Observation.from_dict(told.to_dict()) == told
