"""What FreeSWITCH posts, as it posts it, and the answers that it understands."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from services.gateway import keys, store
from services.gateway.keys import Keyring
from shared.errors import Unavailable
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors
from tests.unit.gateway.freeswitch_samples import NUMBER, TRUTH, as_base64, as_form, as_json, as_xml, calls, events, frame, records, uuid

CDR = "/v1/telephony/freeswitch/cdr"
CALLCENTER = "/v1/telephony/freeswitch/callcenter"
WRAPS: list[tuple[str, Callable[[dict[str, Any]], bytes]]] = [
    ("application/json", as_json),
    ("application/x-www-form-urlencoded", as_form),
    ("application/x-www-form-urlencoded", as_json),  # disable-100-continue loses the Content-Type
    ("application/x-www-form-base64-encoded", as_base64),
    ("text/xml", as_xml),
]


@pytest.fixture
def doors(make_units: MakeUnits, at: SetClock) -> Doors:
    at.seconds = 1_790_080_000.0
    return Doors(make_units(store.metadata))


def told(doors: Doors) -> dict[str, list[tuple[str, str, str | None]]]:
    doors.announced()
    names = {uuid(f"session {name}"): name for name in TRUTH}
    with doors.units.database.reading() as connection:
        rows = connection.execute(select(store.contact).where(store.contact.c.merged_into.is_(None))).all()
    return {names[row.legs[0]["call"]]: [(leg["queue"], leg["outcome"], leg["agent"]) for leg in row.legs] for row in rows}


def truth() -> dict[str, list[tuple[str, str, str | None]]]:
    return {name: [leg[:3] for leg in legs] for name, legs in TRUTH.items()}


def test_a_stream_and_the_records_of_the_same_calls_are_each_contact_once(doors: Doors) -> None:
    answer = doors("POST", f"{CALLCENTER}?source=fs1", b"".join(map(frame, events())), key="telephony", kind="text/event-plain")
    assert answer.status == 200 and answer.json["rejected"] == [] and answer.json["accepted"] > 20
    assert told(doors) == truth()
    for number, (_, record) in enumerate(records()):
        kind, write = WRAPS[number % len(WRAPS)]
        answer = doors("POST", f"{CDR}?source=fs1?uuid={record['variables']['uuid']}", write(record), key="telephony", kind=kind)
        assert answer.status == 200 and not answer.json["rejected"], (kind, answer)
    assert told(doors) == truth()


def test_what_was_posted_before_is_a_duplicate(doors: Doors) -> None:
    body = as_json(calls()[0].record())
    first = doors("POST", f"{CDR}?uuid=x", body, key="telephony").json
    again = doors("POST", f"{CDR}?uuid=x", body, key="telephony").json
    assert (first["accepted"], first["duplicate"]) == (again["duplicate"], again["accepted"]) == (4, 0)


def test_a_call_outside_the_queues_is_ignored(doors: Doors) -> None:
    answer = doors("POST", CDR, {"variables": {"uuid": "u"}}, key="telephony")
    assert (answer.status, answer.json["ignored"]) == (200, 1)


def test_a_record_that_cannot_be_read_is_kept_and_answered_as_success(doors: Doors) -> None:
    answer = doors("POST", CDR, b'{"variables":{"uuid":', key="telephony")
    assert answer.status == 200 and "whole" in answer.json["rejected"][0]["reason"]
    with doors.units.database.reading() as connection:
        (kept,) = connection.execute(select(store.refused)).all()
    assert (kept.door, kept.body) == ("freeswitch-cdr", '{"variables":{"uuid":')


def test_events_that_cannot_be_read_are_refused_with_what_to_mend(doors: Doors) -> None:
    event = {**events()[0], "CC-Queue": ""}
    answer = doors("POST", CALLCENTER, event, key="telephony")
    assert answer.status == 400 and "CC-Queue" in answer.json["detail"]
    some = doors("POST", CALLCENTER, b"".join(map(frame, [event, *events()[1:3]])), key="telephony", kind="text/event-plain")
    assert some.status == 200 and [one["line"] for one in some.json["rejected"]] == [1]


def test_our_own_trouble_is_503_with_a_time_to_come_back(doors: Doors) -> None:
    def away(_taken: Any) -> Any:
        raise Unavailable("the database is away")

    doors.service.core.take = away
    for path in (CDR, CALLCENTER):
        answer = doors("POST", path, as_json(calls()[0].record()) if path == CDR else events()[0], key="telephony")
        assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0


def test_no_answer_repeats_a_number(doors: Doors) -> None:
    event = {**events()[0], "Event-Date-Timestamp": "soon"}
    assert NUMBER not in str(doors("POST", CALLCENTER, event, key="telephony").json)
    assert NUMBER not in str(doors("POST", CDR, as_json(calls()[0].record())[:-9], key="telephony").json)


@pytest.mark.parametrize("path", [CDR, CALLCENTER])
def test_who_may(doors: Doors, path: str) -> None:
    assert [doors("POST", path, b"{}", key=key).status for key in ("", "agent", "supervisor")] == [401, 403, 403]


def test_a_key_may_come_as_the_password_of_basic_at_telephonys_doors_alone(make_units: MakeUnits, at: SetClock) -> None:
    units = make_units(store.metadata)
    key, ring = keys.create(units, "fs1", ["telephony"])["key"], Keyring(units, "boot")

    def basic(text: str, path: str = CDR) -> object:
        return ring.authenticate({"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(text.encode()).decode(), "PATH_INFO": path})

    assert basic(f"freeswitch:{key}") and basic(f":{key}")
    assert basic(f"{key}:") is basic(key) is basic("freeswitch:wrong") is basic(f"freeswitch:{key}", "/v1/contacts") is None
    assert ring.authenticate({"HTTP_AUTHORIZATION": "Basic ****", "PATH_INFO": CDR}) is None
