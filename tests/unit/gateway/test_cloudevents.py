"""CloudEvents at the door: three modes, the handshake, and what our words mean."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.gateway import store
from services.gateway.domain import cloudevents
from services.gateway.domain.cloudevents import BATCH, STRUCTURED, NotUnderstood
from services.gateway.domain.observation import Malformed
from services.gateway.doors.events import VOCABULARY
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

DATA = Path(__file__).parents[2] / "data/telephony/cloudevents"
EVENTS = "/v1/events?source=acd"
MOMENT = 1795296250.0
ONE: dict[str, Any] = {"specversion": "1.0", "id": "e1", "source": "/acd", "type": "t", "data": {"a": 1}}


def example(name: str) -> bytes:
    return (DATA / name).read_bytes()


# ---- the three modes


def test_one_event_in_a_body_of_its_own() -> None:
    assert cloudevents.decode(json.dumps(ONE).encode(), STRUCTURED, {}) == [ONE]
    assert cloudevents.decode(b"\xef\xbb\xbf" + json.dumps(ONE).encode(), f"{STRUCTURED}; charset=UTF-8", {}) == [ONE]


def test_many_in_one_body() -> None:
    assert cloudevents.decode(json.dumps([ONE, ONE]).encode(), BATCH, {}) == [ONE, ONE]
    assert cloudevents.decode(b"[]", BATCH.upper(), {}) == []


def test_attributes_in_headers() -> None:
    headers = {"specversion": "1.0", "id": "e1", "source": "/acd", "type": "t", "extra": "Z%C3%BCrich %E2%82%AC %F0%9F%98%80 %22x%22"}
    (event,) = cloudevents.decode(b'{"a": 1}', "application/json", headers)
    assert event == {**ONE, "extra": 'Zürich € \U0001f600 "x"'}
    assert cloudevents.decode(b"", "", headers)[0].get("data") is None


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("plain", "plain"),
        ('"in quotes"', "in quotes"),
        (r'"a \"b\" \\"', r'a "b" \ '.strip()),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("z\xc3\xbcrich", "zürich"),
        ("%zz", "%zz"),
    ],
)
def test_a_header_is_unquoted_and_decoded_once(raw: str, value: str) -> None:
    assert cloudevents.header_value("subject", raw) == value


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        (b"{}", "application/json", {}),
        (b"{}", "", {}),
        (b"<a/>", "application/cloudevents+xml", {}),
        (b"{}", f"{STRUCTURED}; charset=utf-16", {}),
        (b"a,b", "text/csv", {"specversion": "1.0"}),
    ],
)
def test_what_is_no_cloud_event_is_not_understood(body: bytes, kind: str, headers: dict[str, str]) -> None:
    with pytest.raises(NotUnderstood):
        cloudevents.decode(body, kind, headers)


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        (b"{", STRUCTURED, {}),
        (b"\xff", STRUCTURED, {}),
        (b"[" * 100_000, BATCH, {}),
        (b"{}", BATCH, {}),
        (b"{", "application/json", {"specversion": "1.0"}),
        (b"{}", "application/json", {"specversion": "1.0", "id": "%ff"}),
        (b"{}", "application/json", {"specversion": "1.0", "id": "\xff"}),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes, kind: str, headers: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        cloudevents.decode(body, kind, headers)


# ---- one event


def test_an_event_is_its_attributes_and_data() -> None:
    read = cloudevents.interpret({**ONE, "time": "2026-11-21T22:24:10+01:00", "subject": "s", "traceparent": "x"})
    assert read == ("e1", "/acd", "t", {"a": 1}, MOMENT)
    packed = {name: value for name, value in ONE.items() if name != "data"} | {"data_base64": base64.b64encode(b'{"a": 1}').decode()}
    assert cloudevents.interpret(packed).data == {"a": 1}


def test_a_time_without_a_zone_is_read_in_that_of_its_source() -> None:
    event = {**ONE, "time": "2026-11-22T05:24:10"}
    assert cloudevents.interpret(event, ZoneInfo("Asia/Hong_Kong")).at == MOMENT
    with pytest.raises(Malformed, match="register the zone"):
        cloudevents.interpret(event)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"specversion": "0.3"}, '"specversion" must be "1.0"'),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ""}, 'needs "id"'),
        ({"id": 7}, 'needs "id"'),
        ({"id": "x" * 2001}, 'needs "id"'),
        ({"id": "a\x00"}, "character that is none"),
        ({"source": None}, 'needs "source"'),
        ({"type": "\ud800"}, "character that is none"),
        ({"time": "now"}, '"time" must be RFC 3339'),
        ({"time": 5}, '"time" must be RFC 3339'),
        ({"time": "1969-01-01T00:00:00Z"}, "out of range"),
        ({"data_base64": "e30="}, "not both"),
    ],
)
def test_an_event_that_lacks_something_is_told_so(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        cloudevents.interpret({**ONE, **change})


@pytest.mark.parametrize("encoded", ["%", "e30", 5, base64.b64encode(b"\xff").decode()])
def test_data_that_is_not_base64_of_json_is_refused(encoded: Any) -> None:
    event = {name: value for name, value in ONE.items() if name != "data"}
    with pytest.raises(Malformed, match=r"base64|not JSON"):
        cloudevents.interpret({**event, "data_base64": encoded})


@pytest.mark.parametrize("event", [None, 5, [], "x"])
def test_an_event_is_an_object(event: Any) -> None:
    with pytest.raises(Malformed, match="JSON object"):
        cloudevents.interpret(event)


# ---- the handshake


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"webhook-request-origin": "acd.example.com"}, {"WebHook-Allowed-Origin": "acd.example.com", "WebHook-Allowed-Rate": "6000"}),
        ({"webhook-request-origin": "acd.example.com", "webhook-request-rate": "120"}, {"WebHook-Allowed-Origin": "acd.example.com", "WebHook-Allowed-Rate": "120"}),
        ({"webhook-request-origin": "acd.example.com", "webhook-request-rate": "9999999"}, {"WebHook-Allowed-Origin": "acd.example.com", "WebHook-Allowed-Rate": "6000"}),
        ({"webhook-request-origin": "acd.example.com", "webhook-request-rate": "many"}, {"WebHook-Allowed-Origin": "acd.example.com", "WebHook-Allowed-Rate": "6000"}),
        ({}, {}),
        ({"webhook-request-origin": "a\r\nSet-Cookie: x"}, {}),
        ({"webhook-request-origin": "x" * 300}, {}),
    ],
)  # fmt: skip
def test_who_asks_may_post(asked: dict[str, str], told: dict[str, str]) -> None:
    assert dict(cloudevents.permission(asked, 6000)) == told


# ---- through the door


@pytest.fixture
def doors(make_units: MakeUnits, at: SetClock) -> Doors:
    at.seconds = MOMENT + 100
    return Doors(make_units(store.metadata))


def test_a_batch_tells_whole_stories(doors: Doors) -> None:
    answer = doors("POST", EVENTS, example("batch.json"), key="telephony", kind=BATCH)
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (202, 12, [])
    legs = doors.legs()
    assert [(leg["call"], leg["queue"], leg["outcome"], leg["agent"], leg["ended_by"], leg["missed"]) for leg in legs] == [
        ("c-1", "sales", "completed", "Ann", "agent", {"Bob": 1}),
        ("c-2", "sales", "timed_out", None, None, {}),
        ("c-3", "sales", "transferred", "Ann", "transfer", {}),
        ("c-3", "billing", "abandoned", None, None, {}),
    ]
    assert (legs[0]["hold_seconds"], legs[0]["talk_seconds"], legs[0]["address"], legs[2]["target"]) == (20, 60, "SIP/1001", "billing")
    arrival = next(event["data"] for event in doors.announced() if event["data"].get("leg", {}).get("call") == "c-1")
    assert (arrival["source"], arrival["required_skills"], arrival["wants"]) == ("acd", {"sales": 2}, {"language": "de"})
    assert "23125" not in str(doors.announced())


def test_the_same_source_and_id_again_change_nothing(doors: Doors) -> None:
    doors("POST", EVENTS, example("batch.json"), key="telephony", kind=BATCH)
    before = doors.announced()
    contact = next(event["subject"] for event in before if event["data"].get("leg", {}).get("call") == "c-1")
    again = doors("POST", EVENTS, example("batch.json"), key="telephony", kind=BATCH).json
    assert (again["accepted"], again["duplicate"]) == (0, 12)
    head, _, body = example("binary.http").decode().partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    ce = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items() if name.startswith("ce-")}
    for answer in (
        doors("POST", EVENTS, example("structured.json"), key="telephony", kind=STRUCTURED),
        doors("POST", EVENTS, body, key="telephony", kind=headers["Content-Type"], **ce),
    ):
        assert (answer.status, answer.json["duplicate"], answer.json["contact"]) == (202, 1, contact)
    assert doors.announced() == before


def test_who_is_held_and_resumed_was_on_hold(doors: Doors) -> None:
    def told(number: int, what: str, second: int, **data: str) -> dict[str, Any]:
        time = f"2026-11-21T21:24:{second:02}Z"
        return {**ONE, "id": f"h{number}", "type": f"gateway.call_{what}.v1", "time": time, "data": {"call": "c-1", **data}}

    story = [
        told(1, "arrived", 0, queue="sales"), told(2, "answered", 5, agent="Ann"), told(3, "held", 10), told(4, "resumed", 13),
        told(5, "held", 20), told(6, "ended", 22),
    ]  # fmt: skip
    assert doors("POST", EVENTS, story, key="telephony", kind=BATCH).json["accepted"] == 6
    assert [(leg["holds"], leg["on_hold_seconds"]) for leg in doors.legs()] == [(2, 5.0)]


def test_an_id_is_its_sources_own(doors: Doors) -> None:
    event = json.loads(example("structured.json"))
    doors("POST", EVENTS, event, key="telephony", kind=STRUCTURED)
    other = {**event, "source": "/acd/paris", "data": {**event["data"], "call": "c-9"}}
    assert doors("POST", EVENTS, other, key="telephony", kind=STRUCTURED).json["accepted"] == 1
    assert len(doors.legs()) == 2


def test_an_unknown_type_is_refused_with_those_that_are_known(doors: Doors) -> None:
    answer = doors("POST", EVENTS, ONE, key="telephony", kind=STRUCTURED)
    assert answer.status == 400
    assert all(name in answer.json["detail"] for name in VOCABULARY)


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("call_arrived", {"call": "c"}, "queue: Missing"),
        ("call_arrived", {"call": "c", "queue": "q", "source": "x"}, "source: Unknown"),
        ("call_answered", {"call": "c"}, "agent: Missing"),
        ("call_ended", {"call": "c", "ended_by": "nobody"}, "ended_by: Must be"),
        ("call_ended", {"call": "x" * 201}, "call: Length"),
        ("call_transferred", {"call": "c", "target": "+493023125001"}, "target is no telephone number"),
        ("call_ended", {"call": "c\x00"}, "U\\+0000"),
        ("call_ended", {"call": "\ud800"}, "character that is none"),
        ("call_ended", [], "JSON object"),
        ("call_ended", None, "JSON object"),
    ],
)
def test_data_that_lacks_something_is_told_so(doors: Doors, kind: str, data: Any, said: str) -> None:
    event = json.dumps({**ONE, "type": f"gateway.{kind}.v1", "data": data})
    answer = doors("POST", EVENTS, event, key="telephony", kind=STRUCTURED)
    assert answer.status == 400
    assert re.search(said, answer.json["detail"]), answer.json
    assert "23125001" not in str(answer.json)
    assert doors.announced() == []


def test_of_a_batch_what_can_be_read_is_taken_and_the_rest_named_and_kept(doors: Doors) -> None:
    answer = doors("POST", EVENTS, [5, json.loads(example("structured.json")), ONE], key="telephony", kind=BATCH)
    assert (answer.status, answer.json["accepted"], [one["line"] for one in answer.json["rejected"]]) == (202, 1, [1, 3])
    assert len(doors.kept(store.refused)) == 2
    assert doors("POST", EVENTS, [ONE] * 1001, key="telephony", kind=BATCH).status == 422
    assert doors("POST", EVENTS, [], key="telephony", kind=BATCH).status == 202


def test_what_is_no_cloud_event_is_415_or_400(doors: Doors) -> None:
    assert doors("POST", EVENTS, b"{}", key="telephony").status == 415
    assert doors("POST", EVENTS, b"{", key="telephony", kind=STRUCTURED).status == 400
    assert doors("POST", EVENTS, b"{}", kind=STRUCTURED).status == 401
    assert doors("POST", EVENTS, b"{}", key="agent", kind=STRUCTURED).status == 403


def test_the_handshake_needs_no_key(doors: Doors) -> None:
    asked = {"HTTP_WEBHOOK_REQUEST_ORIGIN": "acd.example.com", "HTTP_WEBHOOK_REQUEST_RATE": "120"}
    answer = doors("OPTIONS", "/v1/events", **asked)
    assert (answer.status, answer.headers["Allow"]) == (204, "OPTIONS, POST")
    assert (answer.headers["WebHook-Allowed-Origin"], answer.headers["WebHook-Allowed-Rate"]) == ("acd.example.com", "120")
    assert not {"WebHook-Allowed-Origin", "WebHook-Allowed-Rate"} & set(doors("OPTIONS", "/v1/events").headers)


def test_a_customers_answer_is_told_once_of_a_contact_that_is_known(doors: Doors) -> None:
    def told(id: str = "s1", **data: Any) -> dict[str, Any]:
        kind = "gateway.survey_answered.v1"
        return {**ONE, "id": id, "type": kind, "time": "2026-11-20T10:00:00Z", "data": {"contact": "acd:c-1", "satisfied": 4, **data}}

    early = doors("POST", EVENTS, told(), key="telephony", kind=STRUCTURED)
    assert (early.status, "no contact acd:c-1" in early.json["detail"]) == (400, True)
    both = doors("POST", EVENTS, [told(), json.loads(example("structured.json")), told()], key="telephony", kind=BATCH).json
    assert (both["accepted"], both["duplicate"], both["rejected"]) == (2, 1, []), "in a batch order does not matter"
    assert doors("POST", EVENTS, told(), key="telephony", kind=STRUCTURED).json["duplicate"] == 1
    answers = [event for event in doors.announced() if event["type"] == "gateway.survey_answered.v1"]
    assert [(one["data"]["satisfied"], one["data"]["at"], one["data"]["people"]) for one in answers] == [
        (4, "2026-11-20T10:00:00.000Z", [])
    ]
    for wrong in (told("s2", satisfied=6), told("s3", satisfied=None), told("s4", answered_at="2026-11-20T10:00:00Z")):
        assert doors("POST", EVENTS, wrong, key="telephony", kind=STRUCTURED).status == 400
    assert len([event for event in doors.announced() if event["type"] == "gateway.survey_answered.v1"]) == 1
