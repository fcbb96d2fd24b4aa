"""What the doors take and give, as marshmallow schemas; the OpenAPI document is made of them."""

from typing import Any

from marshmallow import fields, validate

from shared.contracts.fields import Data, Input, Time

NAME = validate.Length(min=1, max=200)
SOURCE = validate.And(NAME, validate.Regexp(r"[^:/]+\Z", error="a source's name holds no : or /"))
LEVEL = validate.Range(min=1, max=5)
SECONDS = validate.Range(min=0.001, max=86400)
SKILLS: dict[str, Any] = {"keys": fields.String(validate=NAME), "values": fields.Integer(strict=True, validate=LEVEL)}


class Source(Input):
    source = fields.String(
        load_default="default", validate=SOURCE, metadata={"description": "the name of the telephony system that tells this"}
    )


class Receipt(Data):
    accepted = fields.Integer(metadata={"description": "new and now durable"})
    duplicate = fields.Integer(metadata={"description": "known already; nothing changed"})
    ignored = fields.Integer(metadata={"description": "understood, but of no concern here"})
    rejected = fields.List(fields.Dict(), metadata={"description": "line and reason of what could not be read; it is kept for inspection"})
    rejected_total = fields.Integer(metadata={"description": "how many there are; `rejected` shows the first hundred"})
    contact = fields.String(allow_none=True)


class NewContact(Input):
    queue = fields.String(required=True, validate=NAME)
    channel = fields.String(load_default="voice", validate=NAME)
    source = fields.String(load_default="api", validate=SOURCE)
    call = fields.String(validate=NAME, metadata={"description": "your own id of the call; posting it again finds the same contact"})
    caller = fields.String(validate=validate.Length(max=200))
    required_skills = fields.Dict(**SKILLS, load_default=dict)


class ContactRef(Data):
    contact = fields.String()


class EndContact(Input):
    ended_by = fields.String(load_default="caller", validate=validate.OneOf(("caller", "agent")))


class Contact(Data):
    contact = fields.String()
    source = fields.String()
    channel = fields.String()
    observed = fields.Boolean()
    legs = fields.List(fields.Dict())


class Wait(Input):
    wait = fields.Float(load_default=0.0, validate=validate.Range(min=0, max=120), metadata={"description": "seconds to wait for news"})


class Assignment(Data):
    contact = fields.String()
    state = fields.String(metadata={"description": "waiting, offered, assigned, ended, abandoned or observed"})
    queue = fields.String()
    agent = fields.String(allow_none=True)
    name = fields.String(allow_none=True)
    address = fields.String(allow_none=True, metadata={"description": "what the dialplan dials"})


class Queue(Input):
    mode = fields.String(load_default="routed", validate=validate.OneOf(("observed", "routed")))
    channel = fields.String(load_default="voice", validate=NAME)
    required_skills = fields.Dict(**SKILLS, load_default=dict)
    offer_seconds = fields.Float(load_default=20.0, validate=SECONDS)
    wrap_up = fields.Boolean(load_default=True)
    service_level_seconds = fields.Float(load_default=20.0, validate=SECONDS)
    retry_seconds = fields.Float(load_default=5.0, validate=SECONDS)


class Agent(Input):
    name = fields.String(load_default="", validate=validate.Length(max=200))
    skills = fields.Dict(**SKILLS, load_default=dict)
    channels = fields.List(
        fields.String(validate=NAME), load_default=list, metadata={"description": "certified for these; none gets no contact"}
    )
    queues = fields.List(fields.String(validate=NAME), load_default=list, metadata={"description": "serves these; empty serves all"})
    address = fields.String(
        load_default="", validate=validate.Length(max=200), metadata={"description": "what a dialplan dials: PJSIP/1001"}
    )
    aliases = fields.List(
        fields.String(validate=NAME), load_default=list, metadata={"description": "what telephony systems call this agent"}
    )


class AgentState(Input):
    state = fields.String(required=True, validate=validate.OneOf(("available", "paused", "offline")))
    reason = fields.String(load_default="", validate=validate.Length(max=200))
    disposition = fields.String(allow_none=True, load_default=None, metadata={"description": "how the contact just wrapped up ended"})


class AcceptOffer(Input):
    agent = fields.String(required=True, validate=NAME)


class RejectOffer(AcceptOffer):
    reason = fields.String(load_default="", validate=validate.Length(max=200))


class Period(Input):
    since = Time(data_key="from", metadata={"description": "contacts that arrived at or after this moment"})
    until = Time(data_key="to", metadata={"description": "contacts that arrived before this moment"})
    source = fields.String(validate=NAME)


class Report(Data):
    queues = fields.List(fields.Dict())
    agents = fields.List(fields.Dict())


class NewKey(Input):
    name = fields.String(required=True, validate=NAME)
    roles = fields.List(fields.String(), required=True)


class Stream(Input):
    topic = fields.String(load_default="live", validate=validate.OneOf(("live",)))
