"""Twilio's callbacks and streams: the signature, what each event means, and that all of one call is one contact."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from services.gateway import store
from services.gateway.domain import twilio
from services.gateway.domain.legs import Leg, fold
from services.gateway.domain.observation import Ignored, Malformed, Observation
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors
from tests.unit.gateway.twilio_samples import DATA, START, fields, posts, stream

TOKEN = "12345"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = {"CallSid": "CA1234567890ABCDE", "Digits": "1234", "From": "+14158675309", "To": "+18005551212", "Caller": "+14158675309"}
SIGNED = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
FORM_KIND = "application/x-www-form-urlencoded"


def observed(*told: Observation | Ignored) -> list[Observation]:
    return [one for one in told if isinstance(one, Observation) and one.reporter in ("taskrouter", "twilio")]


def of_tasks(*names: str) -> list[Observation]:
    return observed(*[twilio.interpret_taskrouter(one) for name in names for one in fields(name)])


def of_calls(name: str, queue: str | None = None) -> list[Observation]:
    return observed(*[twilio.interpret_voice(one, None, queue) for one in fields(name)])


def calls_alone(told: list[Observation]) -> list[Observation]:
    return [one for one in told if not one.kind.startswith("member_")]


# ---- the signature: the examples are those that Twilio publishes with its own libraries


def test_the_signature_covers_the_address_and_the_fields_of_the_form() -> None:
    assert twilio.signature(TOKEN, URL, FORM.items()) == SIGNED
    twice = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234")]
    assert twilio.signature(TOKEN, URL, twice) == twilio.signature(TOKEN, URL, reversed(twice)) == "IK+Dwps556ElfBT0I3Rgjkr1wJU="


@pytest.mark.parametrize(
    ("url", "given"),
    [
        (URL, SIGNED),
        (URL.replace(".com", ".com:1234"), SIGNED),  # Twilio leaves a port out
        (URL, "kvajT1Ptam85bY51eRf/AJRuM3w="),  # or adds that of https
        (URL.replace("https", "http"), "0ZXoZLH/DfblKGATFgpif+LLRf4="),  # or that of http
        (URL.replace("https", "http").replace(".com", ".com:1234"), "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),  # or keeps it
    ],
)
def test_the_address_counts_with_and_without_its_port(url: str, given: str) -> None:
    assert twilio.is_signed(TOKEN, url, urlencode(FORM).encode(), FORM_KIND, given)


def test_a_json_body_is_signed_by_its_digest_in_the_address() -> None:
    body = b'{"property": "value", "boolean": true}'
    url = f"{URL}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    given = "a9nBmqA0ju/hNViExpshrM61xv4="
    assert twilio.is_signed(TOKEN, url, body, "application/json; charset=utf-8", given)
    assert not twilio.is_signed(TOKEN, url, body + b" ", "application/json", given)
    assert not twilio.is_signed(TOKEN, URL, body, "application/json", twilio.signature(TOKEN, URL)), (
        "an address without a digest says nothing"
    )


@pytest.mark.parametrize(
    ("token", "url", "form", "given"),
    [
        ("12346", URL, FORM, SIGNED),
        (TOKEN, URL + "1", FORM, SIGNED),
        (TOKEN, URL.replace("mycompany", "another"), FORM, SIGNED),
        (TOKEN, URL, {**FORM, "Digits": "1235"}, SIGNED),
        (TOKEN, URL, {**FORM, "More": ""}, SIGNED),
        (TOKEN, URL, FORM, ""),
        (TOKEN, URL, FORM, SIGNED[:-1]),
        (TOKEN, URL, FORM, "é" + SIGNED),
    ],
)
def test_whoever_does_not_know_the_token_cannot_sign(token: str, url: str, form: dict[str, str], given: str) -> None:
    assert not twilio.is_signed(token, url, urlencode(form).encode(), FORM_KIND, given)


@pytest.mark.parametrize("body", [b"\xff", b"a=%ff", b"&".join(b"a%d=1" % n for n in range(300))])
def test_a_body_that_cannot_be_read_is_signed_by_nobody(body: bytes) -> None:
    assert not twilio.is_signed(TOKEN, URL, body, FORM_KIND, SIGNED)


# ---- what it means


def test_an_answered_task() -> None:
    (leg,) = fold(calls_alone(of_tasks("taskrouter_answered.form")))
    assert (leg.queue, leg.outcome, leg.agent, leg.interface, leg.missed) == ("sales", "completed", "Ann", "client:ann", {"Bob O'Neil": 1})
    assert (leg.call, leg.caller) == ("CA" + "a" * 31 + "1", "+493023125001")
    assert [round(at - START, 2) for at in (leg.arrived_at or 0, leg.answered_at or 0, leg.ended_at or 0)] == [0.05, 20.5, 80.6]
    assert (leg.hold_seconds, leg.talk_seconds, leg.uncertain, leg.ringing) == (20, 60, None, ())


def test_a_caller_who_hung_up_waiting() -> None:
    (leg,) = fold(of_tasks("taskrouter_abandoned.form"))
    assert (leg.queue, leg.outcome, leg.agent, leg.missed, leg.hold_seconds) == ("sales", "abandoned", None, {}, 7)


def test_taskrouter_and_voice_tell_of_one_contact() -> None:
    tasks = calls_alone(of_tasks("taskrouter_answered.form"))
    voice = [one for one in of_calls("voice_of_tasks.form") if one.call == tasks[0].call]
    assert {id for one in voice for id in one.identifiers} <= {id for one in tasks for id in one.identifiers}
    assert fold([*tasks, *voice]) == fold(tasks)
    without_end = [one for one in tasks if one.kind not in ("completed", "status")]
    (leg,) = fold([*without_end, *voice])
    assert (leg.outcome, leg.uncertain) == ("completed", None), "the caller's hang-up ends the talk where no wrap-up is told"
    assert fold(without_end)[0].outcome == "talking"


def test_the_order_and_the_repetition_of_callbacks_do_not_matter() -> None:
    told = calls_alone([*of_tasks("taskrouter_answered.form"), *of_calls("voice_of_tasks.form")[:1]])
    whole = fold(told)
    chance = random.Random(4)
    for _ in range(30):
        shuffled = [*told, *chance.sample(told, 5)]
        chance.shuffle(shuffled)
        assert fold(shuffled) == whole


def test_a_stream_tells_the_same_facts_as_the_callbacks() -> None:
    """Whoever has both configured counts nothing twice."""
    by_callback = [*of_tasks("taskrouter_answered.form", "taskrouter_abandoned.form"), *of_calls("voice_of_tasks.form")]
    by_stream = observed(*[twilio.interpret_event(event) for event in stream()])
    assert {one.key for one in by_stream} == {one.key for one in by_callback}
    assert [one.to_dict() for one in by_stream] == [one.to_dict() for one in by_callback]


def test_without_taskrouter_the_legs_of_a_dial_tell_of_the_queue_that_the_address_names() -> None:
    (leg,) = fold(of_calls("voice_of_dial.form", "sales"))
    assert (leg.queue, leg.outcome, leg.interface, leg.missed) == ("sales", "completed", "client:ann", {"client:bob": 1})
    assert (leg.hold_seconds, leg.talk_seconds, leg.caller) == (20, 30, "+493023125001")


def test_without_a_queue_a_voice_callback_tells_of_the_end_alone() -> None:
    assert {one.kind for one in of_calls("voice_of_dial.form")} == {"hung_up"}
    assert fold(of_calls("voice_of_dial.form")) == []


def event(kind: str, at: float = 0.0, **told: str) -> Observation | Ignored:
    attributes = json.dumps({"call_sid": "CA1", "from": "+493023125001"})
    more = {"TaskSid": "WT1", "TaskAttributes": attributes, "TaskQueueName": "sales", "ResourceSid": "WT1", "WorkflowName": "Inbound"}
    return twilio.interpret_taskrouter({"EventType": kind, "TimestampMs": str(round((START + at) * 1000)), **more, **told})


def legs(*told: Observation | Ignored) -> list[Leg]:
    return fold(observed(*told))


def by(worker: str, reservation: str) -> dict[str, str]:
    return {"WorkerName": worker, "WorkerSid": "WK1", "ReservationSid": reservation}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("hangup", "abandoned"), ("Task TTL Exceeded", "timed_out"), ("Workflow timeout", "timed_out"), ("redirected", "left_by_key"), ("spam", "withdrawn"), ("", "withdrawn")],
)  # fmt: skip
def test_why_a_task_was_canceled(reason: str, outcome: str) -> None:
    (leg,) = legs(event("task-queue.entered"), event("task.canceled", 9, TaskCanceledReason=reason))
    assert (leg.outcome, leg.hold_seconds) == (outcome, 9)


def test_a_task_that_moves_on_to_another_queue_timed_out_in_the_first() -> None:
    first, second = legs(
        event("task.created", 0, TaskQueueName=""),
        event("task-queue.entered", 0.1),
        event("task-queue.timeout", 30),
        event("task-queue.entered", 30.1, TaskQueueName="overflow", ResourceSid="WT1"),
        event("reservation.accepted", 40, TaskQueueName="overflow", **by("Ann", "WR1")),
    )
    assert (first.queue, first.outcome, first.uncertain, second.queue, second.outcome) == (
        "sales",
        "timed_out",
        None,
        "overflow",
        "talking",
    )


def in_conference(event: str, at: float, number: int, call: str = "CA1") -> Observation | Ignored:
    told = {"StatusCallbackEvent": event, "ConferenceSid": "CF1", "FriendlyName": "WT1", "CallSid": call, "SequenceNumber": str(number)}
    return twilio.interpret_conference(told | {"Timestamp": format_datetime(datetime.fromtimestamp(START + at, UTC))})


def test_a_conference_tells_when_the_caller_was_put_on_hold() -> None:
    story = (
        event("task-queue.entered"),
        event("reservation.accepted", 20, **by("Ann", "WR1")),
        event("reservation.wrapup", 80, **by("Ann", "WR1")),
    )
    (silent,) = legs(*story)
    assert (silent.holds, silent.on_hold_seconds) == (None, None), "TaskRouter alone does not know"
    held = in_conference("participant-hold", 30, 4), in_conference("participant-unhold", 42, 5), in_conference("participant-hold", 75, 6)
    (leg,) = legs(*story, *held, *held)
    assert (leg.holds, int(leg.on_hold_seconds or 0)) == (2, 17)
    (agent,) = legs(*story, in_conference("participant-hold", 30, 4, call="CA2"))
    assert agent.holds == 0, "the agent's own call"
    assert isinstance(in_conference("participant-join", 21, 2), Ignored)
    with pytest.raises(Malformed, match="no CallSid and ConferenceSid"):
        twilio.interpret_conference({"StatusCallbackEvent": "participant-hold", "CallSid": "CA1"})


def test_a_task_that_no_filter_sent_to_a_queue_stood_in_its_workflow() -> None:
    created = event("task.created", 0, TaskQueueName="")
    assert legs(created) == []
    (leg,) = legs(created, event("task.canceled", 1, TaskQueueName="", TaskCanceledReason="Workflow filters don't match"))
    assert (leg.queue, leg.outcome, leg.caller) == ("Inbound", "withdrawn", "+493023125001")


def test_a_transfer_ends_the_first_agents_part_and_begins_another() -> None:
    first, second = legs(
        event("task-queue.entered"),
        event("reservation.accepted", 5, **by("Ann", "WR1")),
        event("task.transfer-initiated", 60, TransferInitiatingReservationSid="WR1", TransferTo="WQ2"),
        event("reservation.accepted", 70, **by("Bob", "WR2")),
        event("reservation.wrapup", 71, **by("Ann", "WR1")),
        event("reservation.wrapup", 100, **by("Bob", "WR2")),
    )
    assert (first.agent, first.outcome, first.transfer_target) == ("Ann", "transferred", "WQ2")
    assert (second.agent, second.outcome) == ("Bob", "completed")


def test_who_has_nothing_left_to_do_talks_no_more() -> None:
    (leg,) = legs(event("task-queue.entered"), event("reservation.accepted", 5, **by("Ann", "WR1")), event("task.completed", 50))
    assert (leg.outcome, leg.talk_seconds) == ("completed", 45)
    assert leg.uncertain == "the end is known only from the end of the agent's work"
    (leg,) = legs(event("reservation.completed", 50, **by("Ann", "WR1")))
    assert leg.outcome == "completed", "begun before anybody listened"


def test_reservations_not_taken() -> None:
    (leg,) = legs(
        event("task-queue.entered"),
        *[event("reservation.created", 1, **by(name, f"WR{name}")) for name in ("Ann", "Bob", "Cid", "Dan", "Eve")],
        event("reservation.rejected", 2, **by("Ann", "WRAnn")),
        event("reservation.timeout", 2, **by("Bob", "WRBob")),
        event("reservation.rescinded", 2, **by("Cid", "WRCid")),
        event("reservation.failed", 2, **by("Dan", "WRDan")),
    )
    assert (leg.missed, leg.ringing) == ({"Ann": 1, "Bob": 1}, ("Eve",))


@pytest.mark.parametrize(
    ("activity", "kind", "paused", "reason"),
    [("Available", "member_status", False, None), ("Idle", "member_status", False, None), ("Lunch", "member_status", True, "Lunch"), ("Offline", "member_removed", None, None)],
)  # fmt: skip
def test_what_workers_do(activity: str, kind: str, paused: bool | None, reason: str | None) -> None:
    told = event("worker.activity.update", WorkerSid="WK1", WorkerName="Ann", WorkerActivityName=activity, ResourceSid="WK1")
    assert isinstance(told, Observation)
    assert (told.kind, told.agent, told.paused, told.reason, told.queue) == (kind, "Ann", paused, reason, None)


def test_a_centre_names_its_own_activities() -> None:
    fields = {"EventType": "worker.activity.update", "WorkerSid": "WK1", "WorkerName": "Ann", "WorkerActivityName": "On The Phones"}
    told = twilio.interpret_taskrouter(fields, START, frozenset({"on the phones"}))
    assert isinstance(told, Observation) and told.paused is False


def test_numbers_of_agents_are_no_addresses() -> None:
    told = event("reservation.accepted", 1, WorkerAttributes='{"contact_uri": "+493023125777"}', **by("Ann", "WR1"))
    assert isinstance(told, Observation)
    assert "23125777" not in str(told)
    transfer = event("task.transfer-initiated", 1, TransferTo="+493023125777")
    assert "23125777" not in str(transfer)


def test_tasks_without_a_call_are_named_by_themselves_and_have_their_channel() -> None:
    chat = {
        "EventType": "task-queue.entered",
        "TaskSid": "WT7",
        "TaskQueueName": "chat",
        "TaskAttributes": "{}",
        "TaskChannelUniqueName": "chat",
    }
    told = twilio.interpret_taskrouter(chat, START)
    assert isinstance(told, Observation)
    assert (told.call, told.linked, twilio.channel(chat)) == ("WT7", "WT7", "chat")
    assert twilio.channel({**chat, "TaskAttributes": '{"call_sid": "CA1"}'}) == "voice"
    assert twilio.channel({**chat, "TaskChannelUniqueName": "default"}) == "voice"


@pytest.mark.parametrize(
    "told",
    [
        event("workspace.updated"),
        event("task.updated"),
        event("task.deleted", TaskAssignmentStatus="completed"),
        event("task.created", TaskAttributes='{"direction": "outbound", "call_sid": "CA1"}'),
        twilio.interpret_event({"type": "com.twilio.messaging.message.sent", "data": {}}),
        twilio.interpret_voice({"CallSid": "CA1", "CallStatus": "initiated"}),
    ],
)
def test_what_is_of_no_concern_is_passed_over(told: Observation | Ignored) -> None:
    assert isinstance(told, Ignored)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "no EventType"),
        ({"EventType": "reservation.accepted", "TaskSid": "WT1"}, "no ReservationSid"),
        ({"EventType": "reservation.accepted", "ReservationSid": "WR1"}, "no TaskSid"),
        ({"EventType": "reservation.accepted", "ReservationSid": "WR1", "TaskSid": "WT1"}, "no WorkerName"),
        ({"EventType": "task.created", "TaskSid": "WT1", "TaskAttributes": "{"}, "TaskAttributes is not JSON"),
        ({"EventType": "task.created", "TaskSid": "WT1", "TimestampMs": "", "Timestamp": "yesterday"}, "Timestamp must be"),
        ({"EventType": "task.created", "TaskSid": "WT1", "TimestampMs": "9" * 20}, "Timestamp must be"),
        ({"EventType": "worker.activity.update", "WorkerSid": "WK1"}, "no WorkerActivityName"),
    ],
)
def test_a_taskrouter_callback_that_lacks_something_is_told_so(fields: dict[str, str], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        twilio.interpret_taskrouter({"TimestampMs": "1795296250123", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "no CallSid"),
        ({"CallSid": "CA1"}, "CallStatus must be one of"),
        ({"CallSid": "CA1", "CallStatus": "completed", "Timestamp": "now"}, "Timestamp must be"),
        ({"CallSid": "CA1", "ParentCallSid": "CA0", "CallStatus": "completed", "CallDuration": "-1"}, "CallDuration must be"),
    ],
)
def test_a_voice_callback_that_lacks_something_is_told_so(fields: dict[str, str], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        twilio.interpret_voice(fields, START, "sales")


@pytest.mark.parametrize("event", [5, None, {}, {"type": 5}, {"type": "com.twilio.taskrouter.task.created"}, {"type": "com.twilio.taskrouter.task.created", "data": {"payload": "x"}}])  # fmt: skip
def test_a_stream_of_something_else_is_told_so(event: Any) -> None:
    with pytest.raises(Malformed):
        twilio.interpret_event(event)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sat, 21 Nov 2026 21:24:10 +0000", 1795296250.0),
        ("Sat, 21 Nov 2026 22:24:10 +0100", 1795296250.0),
        ("Sat, 21 Nov 2026 21:24:10 -0000", 1795296250.0),
        ("2026-11-21T21:24:10Z", 1795296250.0),
        ("2026-11-21T21:24:10", 1795296250.0),
        ("1795296250", 1795296250.0),
        ("1795296250123", 1795296250.123),
    ],
)
def test_times_as_twilio_writes_them(text: str, seconds: float) -> None:
    told = twilio.interpret_voice({"CallSid": "CA1", "CallStatus": "completed", "Timestamp": text})
    assert isinstance(told, Observation) and told.at == seconds


# ---- through the doors

PUBLIC = "https://calls.example.com/answerline"
PATH = "/v1/telephony/twilio"
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def doors(make_units: MakeUnits, at: SetClock) -> Doors:
    at.seconds = START + 300
    doors = Doors(make_units(store.metadata), PUBLIC)
    assert doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "twilio_auth_token": SECRET}, key="admin").status == 200
    return doors


def signed(doors: Doors, path: str, body: str, token: str = SECRET, kind: str = FORM_KIND, public: str = PUBLIC, **headers: str) -> Any:
    if "json" in kind:
        path += f"&bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
        given = twilio.signature(token, public + path)
    else:
        given = twilio.signature(token, public + path, parse_qsl(body, keep_blank_values=True))
    return doors("POST", path, body, kind=kind, HTTP_X_TWILIO_SIGNATURE=given, **headers)


def test_signed_callbacks_become_contacts(doors: Doors) -> None:
    for name, door in (("taskrouter_answered", "taskrouter"), ("taskrouter_abandoned", "taskrouter"), ("voice_of_tasks", "voice")):
        for body in posts(f"{name}.form"):
            answer = signed(doors, f"{PATH}/{door}?source=cloud", body)
            assert (answer.status, answer.json) == (204, None)
    assert doors.stories() == [("sales", "completed", "Ann", {"Bob O'Neil": 1}), ("sales", "abandoned", None, {})]
    assert len({event["subject"] for event in doors.announced() if "leg" in event["data"]}) == 2
    states = [event["data"] for event in doors.announced() if event["type"] == "gateway.agent_state_reported.v1"]
    assert [(state["agent"], state["state"], state["reason"], state["source"]) for state in states] == [
        ("Bob O'Neil", "paused", "Break", "cloud")
    ]
    assert "23125" not in str(doors.announced())


def test_a_conference_tells_its_holds_through_the_door_of_voice(doors: Doors) -> None:
    for body in posts("taskrouter_answered.form"):
        signed(doors, f"{PATH}/taskrouter?source=cloud", body)
    (leg,) = fold(calls_alone(of_tasks("taskrouter_answered.form")))
    for number, what in enumerate(("participant-hold", "participant-unhold", "conference-end")):
        at = format_datetime(datetime.fromtimestamp(int(leg.answered_at or 0) + 3 + 4 * number, UTC))
        told = {
            "StatusCallbackEvent": what,
            "ConferenceSid": "CF1",
            "SequenceNumber": str(number),
            "CallSid": leg.call or "",
            "Timestamp": at,
        }
        assert signed(doors, f"{PATH}/voice?source=cloud", urlencode(told)).status == 204
    assert [(told["holds"], told["on_hold_seconds"]) for told in doors.legs()] == [(1, 4.0)]


def test_a_stream_beside_the_callbacks_changes_nothing(doors: Doors) -> None:
    body = (DATA / "event_stream.json").read_text()
    first = signed(doors, f"{PATH}/events?source=cloud", body, kind="application/json")
    assert (first.status, first.json["accepted"], first.json["ignored"], first.json["rejected"]) == (200, 17, 2, [])
    events = doors.announced()
    for body in posts("taskrouter_answered.form"):
        signed(doors, f"{PATH}/taskrouter?source=cloud", body)
    assert doors.announced() == events
    again = signed(doors, f"{PATH}/events?source=cloud", (DATA / "event_stream.json").read_text(), kind="application/json").json
    assert (again["accepted"], again["duplicate"]) == (0, 17)


def test_the_address_of_a_plain_dial_names_queue_and_agent(doors: Doors) -> None:
    for body in posts("voice_of_dial.form"):
        assert signed(doors, f"{PATH}/voice?source=cloud&queue=sales&agent=Ann%20B", body).status == 204
    assert doors.stories() == [("sales", "completed", "Ann B", {"Ann B": 1})]


def test_who_does_not_sign_as_the_source_does_needs_a_key(doors: Doors) -> None:
    body, path = posts("taskrouter_answered.form")[0], f"{PATH}/taskrouter?source=cloud"
    for answer in (
        doors("POST", path, body, kind=FORM_KIND),
        signed(doors, path, body, token="another"),
        signed(doors, path, body, public="https://elsewhere.example.com"),
        signed(doors, path.replace("cloud", "unknown"), body),
        doors("POST", path, body, key="wrong", kind=FORM_KIND),
    ):
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "Bearer" in answer.json["detail"]
        assert SECRET not in str(answer)
    assert doors("POST", path, body, key="agent", kind=FORM_KIND).status == 403
    assert doors.kept(store.intake) == doors.kept(store.refused) == []
    assert doors("POST", path, body, key="telephony", kind=FORM_KIND).status == 204


def test_without_a_public_address_the_one_that_was_called_counts(make_units: MakeUnits, at: SetClock) -> None:
    doors = Doors(make_units(store.metadata))
    doors("PUT", "/v1/sources/cloud", {"twilio_auth_token": SECRET}, key="admin")
    path, body = f"{PATH}/voice?source=cloud", posts("voice_of_tasks.form")[0]
    assert signed(doors, path, body, public="http://here:8000", HTTP_HOST="here:8000").status == 204
    behind = {"HTTP_HOST": "10.0.0.7:8000", "HTTP_X_FORWARDED_HOST": "calls.example.com", "HTTP_X_FORWARDED_PROTO": "https, http"}
    assert signed(doors, path, body, public="https://calls.example.com", **behind).status == 204
    assert signed(doors, path, body, public="https://calls.example.com", HTTP_HOST="here").status == 401


def test_what_cannot_be_read_is_told_and_kept(doors: Doors) -> None:
    answer = signed(doors, f"{PATH}/voice?source=cloud", "CallStatus=completed")
    assert (answer.status, answer.json["detail"]) == (400, "the callback has no CallSid: point a statusCallback here")
    assert doors("POST", f"{PATH}/taskrouter", b"", key="telephony", kind=FORM_KIND).status == 400
    assert doors("POST", f"{PATH}/events", b"{", key="telephony").json["detail"].startswith("the body is not JSON")
    mixed = doors("POST", f"{PATH}/events", [{"type": 1}, stream()[1]], key="telephony")
    assert (mixed.status, mixed.json["accepted"], [one["line"] for one in mixed.json["rejected"]]) == (200, 1, [1])
    assert [row.door for row in doors.kept(store.refused)] == ["twilio-voice", "twilio-taskrouter", "twilio-events", "twilio-events"]


def test_an_empty_batch_is_no_fault(doors: Doors) -> None:
    assert doors("POST", f"{PATH}/events", b"[]", key="telephony").status == 200


def test_a_chat_is_no_call(doors: Doors) -> None:
    chat = {"EventType": "task-queue.entered", "TaskSid": "WT7", "ResourceSid": "WT7", "TaskQueueName": "chat", "TaskAttributes": "{}",
            "TaskChannelUniqueName": "chat", "TimestampMs": "1795296250123"}  # fmt: skip
    assert signed(doors, f"{PATH}/taskrouter?source=cloud", urlencode(chat)).status == 204
    (event,) = doors.announced()
    assert (event["data"]["channel"], event["data"]["leg"]["call"]) == ("chat", "WT7")


def test_activities_are_those_that_the_source_says(doors: Doors) -> None:
    doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "available_activities": ["Phones"]}, key="admin")
    told = {
        "EventType": "worker.activity.update",
        "WorkerSid": "WK1",
        "WorkerName": "Ann",
        "WorkerActivityName": "Phones",
        "ResourceSid": "WK1",
    }
    assert signed(doors, f"{PATH}/taskrouter?source=cloud", urlencode(told)).status == 204
    assert [event["data"]["state"] for event in doors.announced()] == ["available"]
