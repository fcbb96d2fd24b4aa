"""CloudEvents from anybody's telephony: what happened to its calls, in words of our own (docs/cloudevents.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from marshmallow import Schema

from services.gateway import schemas
from services.gateway.domain import cloudevents
from services.gateway.domain.cloudevents import BATCH, STRUCTURED, CloudEvent, NotUnderstood
from services.gateway.domain.observation import Malformed, Observation
from services.gateway.doors import CALLING, Doors, as_receipt
from services.gateway.doors.contacts import wishes
from services.gateway.handlers import Answer, Arrival, Reading, Taken
from services.gateway.schemas.quality import SurveyAnswered, require_answer
from services.gateway.sources import Source
from shared import clock
from shared.contracts.compile import Loader, compile_loader
from shared.errors import AnswerlineError, Invalid, UnsupportedMediaType
from shared.errors import Malformed as MalformedRequest
from shared.http.endpoint import Response, check, endpoint
from shared.http.wsgi import Request, holds_nul
from shared.ids import new_id

LONGEST = 4 * 1024 * 1024
MOST_EVENTS = 1000
REQUESTS_A_MINUTE = 6000
"""What a sender is told that it may send."""

Told = Mapping[str, Any]
Facts = dict[str, Any]


class Word(NamedTuple):
    """One type of event: its data, and the observation it becomes; None: it is no observation of a call."""

    data: type[Schema]
    means: Callable[[Told], Facts] | None


def _arrived(data: Told) -> Facts:
    return {"kind": "entered", "caller": data.get("caller")}


def _answered(data: Told) -> Facts:
    return {"kind": "answered", "agent": data["agent"], "interface": data.get("address")}


def _missed(data: Told) -> Facts:
    return {"kind": "missed", "agent": data["agent"], "interface": data.get("address")}


def _abandoned(data: Told) -> Facts:
    return {"kind": data["how"]}


def _transferred(data: Told) -> Facts:
    return {"kind": "transferred", "target": data.get("target")}


def _ended(data: Told) -> Facts:
    return {"kind": "hung_up", "reason": data.get("ended_by")}


def _agent_state(data: Told) -> Facts:
    facts = {"agent": data["agent"], "interface": data.get("address")}
    if data["state"] == "offline":
        return {"kind": "member_removed", **facts}
    paused = data["state"] == "paused"
    return {"kind": "member_status", "paused": paused, "reason": data.get("reason") if paused else None, **facts}


VOCABULARY = {
    "gateway.call_arrived.v1": Word(schemas.CallArrived, _arrived),
    "gateway.call_answered.v1": Word(schemas.CallAnswered, _answered),
    "gateway.call_missed.v1": Word(schemas.CallMissed, _missed),
    "gateway.call_abandoned.v1": Word(schemas.CallAbandoned, _abandoned),
    "gateway.call_transferred.v1": Word(schemas.CallTransferred, _transferred),
    "gateway.call_held.v1": Word(schemas.CallHeld, lambda _: {"kind": "held"}),
    "gateway.call_resumed.v1": Word(schemas.CallResumed, lambda _: {"kind": "resumed"}),
    "gateway.call_ended.v1": Word(schemas.CallEnded, _ended),
    "gateway.agent_state_changed.v1": Word(schemas.AgentStateChanged, _agent_state),
    "gateway.survey_answered.v1": Word(SurveyAnswered, None),
}
LOADERS: dict[str, Loader] = {name: compile_loader(word.data()) for name, word in VOCABULARY.items()}
_ATTRIBUTE = {"type": "string", "minLength": 1, "maxLength": cloudevents.LONGEST_ATTRIBUTE}
EVENT: dict[str, Any] = {
    "oneOf": [
        {
            "type": "object",
            "description": (word.data.__doc__ or "").strip(),
            "required": ["specversion", "id", "source", "type", "data"],
            "properties": {
                "specversion": {"const": cloudevents.VERSION},
                "id": _ATTRIBUTE,
                "source": _ATTRIBUTE,
                "type": {"const": name},
                "time": {"type": "string", "format": "date-time"},
                "data": word.data,
            },
        }
        for name, word in VOCABULARY.items()
    ]
}


class EventDoors(Doors):
    @endpoint("POST", "/v1/events", query=schemas.Source, answer=schemas.Receipt, status=202, roles=CALLING, limit=LONGEST,
              takes=(STRUCTURED, BATCH), tag="telephony",
              shapes={STRUCTURED: EVENT, BATCH: {"type": "array", "items": EVENT, "maxItems": MOST_EVENTS}})  # fmt: skip
    def post_events(self, request: Request) -> Response:
        """CloudEvents 1.0, structured, batched or binary (application/json with ce- headers). The same source and id again change nothing."""
        source, received = self.core.sources.get(request.query["source"]), clock.now()
        try:
            events = cloudevents.decode(request.raw, request.header("Content-Type"), _attributes(request))
        except NotUnderstood as error:
            raise UnsupportedMediaType(str(error)) from error
        except Malformed as error:
            raise MalformedRequest(str(error)) from error
        if len(events) > MOST_EVENTS:
            raise Invalid(f"a batch has at most {MOST_EVENTS} events, this one {len(events)}")
        posts = [_post(source, number, event, received) for number, event in enumerate(events, 1)]
        return as_receipt(self.take_all(posts), 202)

    @endpoint("OPTIONS", "/v1/events", status=204, public=True, tag="telephony")
    def options_events(self, request: Request) -> Response:
        """The handshake of the CloudEvents webhook specification: who asks by WebHook-Request-Origin is told that it may post, and how often."""
        asked = {name: request.header(name) for name in ("webhook-request-origin", "webhook-request-rate")}
        return Response(status=204, headers=[("Allow", "OPTIONS, POST"), *cloudevents.permission(asked, REQUESTS_A_MINUTE)])


def _attributes(request: Request) -> dict[str, str]:
    return {name[8:].lower(): value for name, value in request.environ.items() if name.startswith("HTTP_CE_") and isinstance(value, str)}


def _post(source: Source, number: int, event: Any, received: float) -> Taken:
    reading, known = Reading(), None

    def interpret() -> Observation | Answer:
        nonlocal known
        known = cloudevents.interpret(event, source.zone)
        data = _data(known)
        if VOCABULARY[known.type].means is None:
            at = received if known.at is None else known.at
            return Answer(number, f"events|{known.source}|{known.id}", data["contact"], data, at, repr(event))
        return observation(known, data, received)

    reading.read(number, repr(event), interpret)
    if known is None or not reading.observations or known.type != "gateway.call_arrived.v1":
        return Taken(source.name, "events", reading)
    data = _data(known)
    return Taken(source.name, "events", reading, Arrival(new_id(), data["channel"], data["required_skills"], wishes(data)))


def observation(event: CloudEvent, data: Told, received: float) -> Observation:
    """An event of the vocabulary as an observation; `received` (epoch seconds) where it has no time."""
    means = VOCABULARY[event.type].means
    assert means is not None
    facts = {"call": data.get("call"), "queue": data.get("queue"), **means(data)}
    at = received if event.at is None else event.at
    return Observation("events", facts.pop("kind"), f"events|{event.source}|{event.id}", at, **facts)


def _data(event: CloudEvent) -> dict[str, Any]:
    """The event's data, as its type wants it. Raises Malformed."""
    load = LOADERS.get(event.type)
    if load is None:
        raise Malformed(f'"type" must be one of {", ".join(VOCABULARY)}')
    if not isinstance(event.data, dict):
        raise Malformed(f'{event.type} needs "data": a JSON object')
    try:
        orjson.dumps(event.data)
        if holds_nul(event.data):
            raise Malformed('no text in "data" may hold the character U+0000')
        data = check(load, event.data, f"data of {event.type}")
        if load is LOADERS["gateway.survey_answered.v1"]:
            require_answer(data)
        return data
    except TypeError as error:
        raise Malformed('"data" holds a character that is none, or a number beyond 64 bits') from error
    except AnswerlineError as error:
        wrong = "; ".join(f"{name}: {_words(why)}" for name, why in error.more.get("errors", {}).items())
        raise Malformed(f"{error.detail}: {wrong}" if wrong else error.detail) from error


def _words(why: Any) -> str:
    return " ".join(map(str, why)) if isinstance(why, list) else str(why)
