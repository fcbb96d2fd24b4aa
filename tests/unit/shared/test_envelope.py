from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from shared.bus.envelope import BadEnvelope, Event, parse
from shared.ids import new_id

EVENT = Event("routing.contact_queued.v1", "c1", {"contact": "c1"}, 1795296258.5, 7, new_id(), "root", "before", "00-trace-01")
ENVELOPE = EVENT.envelope()


def body(**changed: Any) -> bytes:
    return orjson.dumps({**ENVELOPE, **changed})


def test_an_event_travels_as_cloudevents_1_0() -> None:
    assert {
        "specversion": "1.0",
        "id": EVENT.id,
        "source": "/answerline/routing",
        "type": "routing.contact_queued.v1",
        "subject": "c1",
        "time": "2026-11-21T21:24:18.500Z",
        "datacontenttype": "application/json",
        "sequence": 7,
        "correlationid": "root",
        "causationid": "before",
        "traceparent": "00-trace-01",
        "data": {"contact": "c1"},
    } == ENVELOPE


def test_it_comes_back_as_it_went() -> None:
    assert parse(body()) == parse(body().decode()) == EVENT


def test_extensions_may_be_absent_and_unknown_ones_are_passed_over() -> None:
    bare = Event("a.b.v1", "s", {}, 0.0, 1)
    assert not {"correlationid", "causationid", "traceparent"} & bare.envelope().keys()
    assert parse(orjson.dumps({**bare.envelope(), "partitionkey": "x"})) == bare


@pytest.mark.parametrize("name", ["type", "subject", "data", "time", "sequence", "id"])
def test_a_missing_attribute_is_named(name: str) -> None:
    with pytest.raises(BadEnvelope, match=f"lacks '{name}'"):
        parse(orjson.dumps({key: value for key, value in ENVELOPE.items() if key != name}))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"type": 1}, "type, subject and id are text"),
        ({"subject": None}, "type, subject and id are text"),
        ({"id": 5}, "type, subject and id are text"),
        ({"id": "a\0b"}, "NUL"),
        ({"subject": "a\0b"}, "NUL"),
        ({"data": []}, "data an object"),
        ({"sequence": "7"}, "sequence a whole number"),
        ({"sequence": True}, "sequence a whole number"),
        ({"sequence": 1.5}, "sequence a whole number"),
        ({"time": "2026-11-21T21:24:18"}, "no zone"),
        ({"time": "yesterday"}, "cannot be read"),
        ({"time": 5}, "cannot be read"),
    ],
)
def test_a_wrong_attribute_is_explained(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadEnvelope, match=said):
        parse(body(**wrong))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"5", b"[" * 5000, json.dumps("\ud800").encode()])
def test_what_is_no_object_is_no_event(text: bytes) -> None:
    with pytest.raises(BadEnvelope):
        parse(text)
