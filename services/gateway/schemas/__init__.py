"""What the doors take and give, as marshmallow schemas; the OpenAPI document is made of them."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar
from zoneinfo import available_timezones

from marshmallow import ValidationError, fields, validate

from services.gateway.sources import TWILIO_API
from shared.contracts.fields import Data, Input, Time
from shared.observability.health import WITHOUT

NAME = validate.Length(min=1, max=200)
TEXT = validate.Length(max=200)
SOURCE = validate.And(NAME, validate.Regexp(r"[^:/]+\Z", error="a source's name holds no : or /"))
LEVEL = validate.Range(min=1, max=5)
REPLY = validate.Range(min=1, max=30 * 86400)
SECONDS = validate.Range(min=0.001, max=86400)
SKILLS: dict[str, Any] = {"keys": fields.String(validate=NAME), "values": fields.Integer(strict=True, validate=LEVEL)}
SIZE = validate.Range(min=0, max=1e15)
CUSTOMER = validate.And(NAME, validate.Regexp(r"(?!\+)", error="a customer's id is no telephone number: it travels, which numbers do not"))
STEPS = ("15m", "30m", "60m", "day")
DIALLED = ("connected", "busy", "no_answer", "machine", "wrong_number", "refused")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone(name: str) -> None:
    """A time zone's name as IANA has it, or nothing. Raises ValidationError."""
    if name and name not in _zones():
        raise ValidationError("a time zone's name is one such as Europe/Berlin")


class Money(fields.Field[str]):
    """An amount, as text of decimal digits or as a number; text inside, so that no digit is lost."""

    shape: ClassVar = {"type": ["string", "number"], "minimum": 0, "pattern": r"^[0-9]+(\.[0-9]+)?$", "maxLength": 40}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:  # noqa: ARG002
        if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > 40:
            raise ValidationError("an amount is a decimal number such as 129.90")
        return str(value)


class Page(Input):
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=1000))
    cursor = fields.String(load_default="", validate=TEXT, metadata={"description": "`next` of the page before"})


class Listing(Data):
    items = fields.List(fields.Dict())
    next = fields.String(allow_none=True, metadata={"description": "the next page's `cursor`; null on the last"})


class Source(Input):
    source = fields.String(
        load_default="default", validate=SOURCE, metadata={"description": "the name of the telephony system that tells this"}
    )


class _BeforeUuid(fields.String):
    """mod_json_cdr puts `?uuid=…` after the address that it is given, whether or not that has a query already."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        return text.partition("?uuid=")[0] if isinstance(text, str) else text


class CdrSource(Input):
    source = _BeforeUuid(
        load_default="default", validate=SOURCE, metadata={"description": "the name of the telephony system that tells this"}
    )
    uuid = fields.String(load_default="", validate=TEXT, metadata={"description": "FreeSWITCH adds it; the record itself says it too"})


class Receipt(Data):
    accepted = fields.Integer(metadata={"description": "new and now durable"})
    duplicate = fields.Integer(metadata={"description": "known already; nothing changed"})
    ignored = fields.Integer(metadata={"description": "understood, but of no concern here"})
    rejected = fields.List(fields.Dict(), metadata={"description": "line and reason of what could not be read; it is kept for inspection"})
    rejected_total = fields.Integer(metadata={"description": "how many there are; `rejected` shows the first hundred"})
    contact = fields.String(allow_none=True)


class Facts(Input):
    """What policies may ask about a contact. What it says counts before what the directory says of its customer."""

    value = fields.Float(validate=SIZE)
    buying_power = fields.Float(validate=SIZE)
    tier = fields.String(validate=TEXT)
    preferred_channel = fields.String(validate=TEXT)
    last_agent = fields.String(validate=TEXT)
    age_seconds = fields.Float(validate=SIZE, metadata={"description": "how long its matter has been open"})
    repeat = fields.Integer(
        strict=True, validate=validate.Range(min=0, max=1_000_000), metadata={"description": "contacts before it in the same matter"}
    )
    self_service_failed = fields.Boolean()


class NewContact(Input):
    queue = fields.String(required=True, validate=NAME)
    channel = fields.String(load_default="voice", validate=NAME)
    source = fields.String(load_default="api", validate=SOURCE)
    call = fields.String(validate=NAME, metadata={"description": "your own id of the call; posting it again finds the same contact"})
    caller = fields.String(
        validate=validate.Length(max=200), metadata={"description": "a number; it tells whose contact this is and goes nowhere else"}
    )
    required_skills = fields.Dict(**SKILLS, load_default=dict)
    customer = fields.String(validate=CUSTOMER, metadata={"description": "the customer's id in the directory, or in your own system"})
    thread = fields.String(validate=NAME, metadata={"description": "the matter that it belongs to"})
    preferred_skills = fields.List(fields.String(validate=NAME), validate=validate.Length(max=50))
    language = fields.String(validate=NAME)
    region = fields.String(validate=NAME)
    site = fields.String(validate=NAME)
    deadline = Time(metadata={"description": "by then it wants an agent: from that moment it goes before all who are not overdue"})
    facts = fields.Nested(Facts)


class ContactRef(Data):
    contact = fields.String()


class EndContact(Input):
    ended_by = fields.String(load_default="caller", validate=validate.OneOf(("caller", "agent")))


class Contact(Data):
    contact = fields.String()
    source = fields.String()
    channel = fields.String()
    observed = fields.Boolean()
    customer = fields.String()
    conference = fields.List(fields.Dict(), metadata={"description": "who joined the conversation, and when"})
    disposition = fields.Dict(metadata={"description": "what was noted at wrap-up"})
    legs = fields.List(fields.Dict())


class Wait(Input):
    wait = fields.Float(load_default=0.0, validate=validate.Range(min=0, max=120), metadata={"description": "seconds to wait for news"})


class Assignment(Data):
    contact = fields.String()
    state = fields.String(
        metadata={"description": "waiting, offered, parked, assigned, pending, callback, closed, released, ended, abandoned or observed"}
    )
    queue = fields.String()
    agent = fields.String(allow_none=True)
    name = fields.String(allow_none=True)
    address = fields.String(allow_none=True, metadata={"description": "what the dialplan dials"})
    position = fields.Integer(metadata={"description": "place in line, from 1"})
    estimated_wait_seconds = fields.Float()
    estimated_wait_minutes = fields.Integer(metadata={"description": "rounded up; absent beyond an hour"})
    offer = fields.Dict(
        metadata={"description": "who is being asked, with `expires_at`: for whoever rings the agent's telephone (offered)"}
    )
    announce = fields.String(metadata={"description": "what to tell who waits: the self-service address"})
    announce_every_seconds = fields.Float(metadata={"description": "how often"})
    dial = fields.String(metadata={"description": "the customer's number: an agent is reserved for a callback"})
    callback_offered = fields.Boolean(metadata={"description": "the customer may be asked whether to be called back"})
    suggested_channel = fields.String(metadata={"description": "on which an answer would come sooner"})
    message = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "by language, why nobody is let in (closed)"}
    )
    opens_at = Time()


class Transfer(Input):
    """To a queue, to an agent, or to an agent for a queue's work; one of the two is needed."""

    queue = fields.String(load_default="", validate=TEXT)
    agent = fields.String(load_default="", validate=TEXT)


class Requeue(Input):
    reason = fields.String(load_default="", validate=TEXT)


class Conference(Input):
    """Another agent, or somebody outside by name; one of the two is needed."""

    agent = fields.String(load_default="", validate=TEXT)
    participant = fields.String(load_default="", validate=TEXT, metadata={"description": "a name, never a number"})


class Outcome(Input):
    code = fields.String(required=True, validate=NAME, metadata={"description": "of the queue's dispositions"})
    resolved = fields.Boolean(allow_none=True)
    amount = Money(allow_none=True, metadata={"description": "what was sold"})
    currency = fields.String(allow_none=True, validate=validate.Length(equal=3))


class Disposition(fields.Field[Any]):
    """How a contact ended: a code alone, or {code, resolved, amount, currency}."""

    shape: ClassVar = {"anyOf": [{"type": "string", "maxLength": 200}, Outcome]}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:  # noqa: ARG002
        if isinstance(value, str):
            TEXT(value)
            return value
        if isinstance(value, dict):
            return Outcome().load(value)
        raise ValidationError("a code, or an object with code, resolved, amount and currency")


class Reply(Input):
    agent = fields.String(required=True, validate=NAME)


class WrapUp(Input):
    agent = fields.String(required=True, validate=NAME)
    disposition = Disposition(allow_none=True, load_default=None)


class Callback(Input):
    number = fields.String(required=True, validate=validate.Length(min=1, max=64))
    country = fields.String(
        load_default="", validate=validate.Length(max=2), metadata={"description": "two letters, for a number without a country code"}
    )
    zone = fields.String(load_default="", validate=zone, metadata={"description": "the customer's, where the number does not tell it"})


class Dialled(Input):
    outcome = fields.String(required=True, validate=validate.OneOf(DIALLED))


class AboutAgent(Input):
    agent = fields.String(load_default=None, validate=NAME, metadata={"description": "why this one was chosen, or was not"})


class Customer(Input):
    """What the directory knows of a customer; what is absent is unknown."""

    value = fields.Float(allow_none=True, load_default=None, validate=SIZE)
    buying_power = fields.Float(allow_none=True, load_default=None, validate=SIZE)
    tier = fields.String(load_default="", validate=TEXT)
    preferred_channel = fields.String(load_default="", validate=TEXT)
    language = fields.String(load_default="", validate=TEXT)
    region = fields.String(load_default="", validate=TEXT)
    site = fields.String(load_default="", validate=TEXT)
    numbers = fields.List(
        fields.String(validate=validate.Length(max=64)),
        load_default=list,
        validate=validate.Length(max=50),
        metadata={"description": "with country code, +49 30 1234567: calls from them are this customer's; kept as E.164"},
    )


class Queue(Input):
    mode = fields.String(load_default="routed", validate=validate.OneOf(("observed", "routed")))
    channel = fields.String(load_default="voice", validate=NAME)
    required_skills = fields.Dict(**SKILLS, load_default=dict)
    offer_seconds = fields.Float(load_default=20.0, validate=SECONDS)
    wrap_up = fields.Boolean(load_default=True)
    service_level_seconds = fields.Float(load_default=20.0, validate=SECONDS)
    retry_seconds = fields.Float(load_default=5.0, validate=SECONDS)
    pool = fields.String(load_default="default", validate=NAME, metadata={"description": "agents and queues that work together"})
    miss_limit = fields.Integer(
        load_default=3,
        strict=True,
        validate=validate.Range(min=1, max=1000),
        metadata={"description": "offers missed in a row until the agent is paused"},
    )
    short_abandon_seconds = fields.Float(
        load_default=0.0,
        validate=validate.Range(min=0, max=86400),
        metadata={"description": "who leaves sooner does not count in the service level"},
    )
    abandons_count = fields.Boolean(load_default=True, metadata={"description": "in the service level"})
    service_level_unit = fields.String(
        load_default="legs", validate=validate.OneOf(("legs", "contacts")), metadata={"description": "what is counted in interval reports"}
    )
    reply_seconds = fields.Float(
        load_default=14400.0, validate=REPLY, metadata={"description": "in writing: the target for a reply, in opening time"}
    )
    owner_seconds = fields.Float(
        load_default=3600.0, validate=REPLY, metadata={"description": "in writing: so long the owner of a matter may come back to it"}
    )
    call_after_replies = fields.Integer(
        load_default=3,
        strict=True,
        validate=validate.Range(min=0, max=1000),
        metadata={"description": "then a call is suggested; 0: never"},
    )
    policy = fields.String(load_default="", validate=TEXT, metadata={"description": "see /v1/policies; none: the built-in one"})
    calendar = fields.String(load_default="", validate=TEXT, metadata={"description": "see /v1/calendars; none: always open"})
    dispositions = fields.String(load_default="", validate=TEXT, metadata={"description": "see /v1/dispositions; none: any text"})
    zone = fields.String(load_default="", validate=zone, metadata={"description": "of its site, as in Europe/Berlin; none: the centre's"})
    site = fields.String(load_default="", validate=TEXT, metadata={"description": "whose it is (docs/access.md); none: every site's"})
    team = fields.String(load_default="", validate=TEXT, metadata={"description": "whose it is (docs/access.md); none: every team's"})


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
    languages = fields.Dict(**SKILLS, load_default=dict)
    regions = fields.List(fields.String(validate=NAME), load_default=list, metadata={"description": "speaks as people there do"})
    site = fields.String(load_default="", validate=TEXT)
    team = fields.String(load_default="", validate=TEXT)
    employment = fields.String(load_default="", validate=TEXT)
    pool = fields.String(load_default="default", validate=NAME)
    capacity = fields.Dict(
        keys=fields.String(validate=NAME),
        values=fields.Integer(strict=True, validate=validate.Range(min=1, max=100)),
        load_default=dict,
        metadata={"description": "percent of attention that one contact of a channel takes; 100 where none is said"},
    )


class AgentState(Input):
    state = fields.String(required=True, validate=validate.OneOf(("available", "paused", "offline")))
    reason = fields.String(load_default="", validate=validate.Length(max=200))
    disposition = Disposition(
        allow_none=True,
        load_default=None,
        metadata={"description": "how the contact just wrapped up ended: a code, or {code, resolved, amount, currency}"},
    )
    session = fields.String(load_default="", validate=TEXT, metadata={"description": "your own name for this sign-in: the newest holds"})


class Offers(Wait):
    session = fields.String(load_default="", validate=TEXT)


class Certificate(Input):
    until = Time(allow_none=True, load_default=None, metadata={"description": "null: without end"})


class Permit(Input):
    supervisor = fields.String(required=True, validate=NAME, metadata={"description": "who must be signed in meanwhile"})
    per_day = fields.Integer(required=True, strict=True, validate=validate.Range(min=1, max=1000))
    until = Time(required=True)


class AcceptOffer(Input):
    agent = fields.String(required=True, validate=NAME)
    session = fields.String(load_default="", validate=TEXT)


class RejectOffer(AcceptOffer):
    reason = fields.String(load_default="", validate=validate.Length(max=200))
    missed = fields.Boolean(
        load_default=False, metadata={"description": "the agent's telephone rang and nobody answered: it counts as a miss"}
    )


class Readiness(Input):
    without = fields.String(
        load_default="",
        validate=validate.OneOf(WITHOUT),
        metadata={"description": "what need not be there: what needs it is left out of account"},
    )


class Period(Input):
    since = Time(data_key="from", metadata={"description": "contacts that arrived at or after this moment"})
    until = Time(data_key="to", metadata={"description": "contacts that arrived before this moment"})
    source = fields.String(validate=NAME)


class QueuePeriod(Period):
    queue = fields.String(validate=NAME)


class Intervals(QueuePeriod):
    kind = fields.String(validate=validate.OneOf(("inbound", "callback", "transfer")))
    step = fields.String(load_default="30m", validate=validate.OneOf(STEPS))
    zone = fields.String(load_default="", validate=zone, metadata={"description": "by whose clock; none: the centre's"})
    format = fields.String(validate=validate.OneOf(("json", "csv")), metadata={"description": "instead of an Accept header"})


class AgentIntervals(Intervals):
    agent = fields.String(validate=NAME)


class Report(Data):
    queues = fields.List(fields.Dict())
    agents = fields.List(fields.Dict())


class PutPolicy(Input):
    note = fields.String(load_default="", validate=validate.Length(max=1000))
    starts_at = Time(load_default=None, metadata={"description": "when it takes effect; none: now"})
    dry_run = fields.Boolean(load_default=False, metadata={"description": "change nothing, and say what would change"})


class Against(Input):
    to = fields.Integer(
        required=True, validate=validate.Range(min=1, max=10**9), metadata={"description": "a version, held against the one that runs"}
    )


class Dispositions(Input):
    nodes = fields.List(
        fields.Dict(keys=fields.String()),
        required=True,
        metadata={"description": "code, label by language, resolved (yes, no or null: the agent says), requires_amount, children"},
    )


class Closure(Input):
    """An emergency closing or the night switch. It ends after `minutes`, at `until`, or by DELETE."""

    kind = fields.String(required=True, metadata={"description": "emergency or night"})
    queues = fields.List(fields.String(validate=NAME), metadata={"description": "none: all"})
    closed = fields.Boolean(metadata={"description": "false: the night switch holds open"})
    message = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "by language; an emergency needs one"})
    reason = fields.String(metadata={"description": "for the record; an emergency needs one"})
    minutes = fields.Float()
    until = fields.String(metadata={"description": "RFC 3339"})


# ---- sources


class PutSource(Input):
    kind = fields.String(load_default="other", validate=validate.OneOf(("asterisk", "freeswitch", "twilio", "other")))
    zone = fields.String(load_default="", validate=zone, metadata={"description": "of its times without one, as in Asia/Hong_Kong"})
    country = fields.String(
        load_default="",
        validate=validate.Regexp(r"([A-Za-z]{2})?\Z", error="a country is two letters such as DE"),
        metadata={"description": "of its callers' numbers without a country code; none: the centre's"},
    )
    mode = fields.String(
        load_default="routed",
        validate=validate.OneOf(("observed", "routed")),
        metadata={"description": "observed: it distributes its contacts by itself. routed: each queue's own mode counts"},
    )
    available_activities = fields.List(
        fields.String(validate=NAME),
        load_default=list,
        validate=validate.Length(max=100),
        metadata={"description": "of a TaskRouter workspace, in which a worker takes tasks; none: the usual names"},
    )
    twilio_account = fields.String(
        load_default="",
        validate=validate.Regexp(r"(AC[0-9A-Za-z]{1,64})?\Z", error="an account's Sid begins with AC"),
        metadata={"description": "its Sid: with it and the auth token we fetch recordings, and pause them"},
    )
    twilio_api = fields.String(
        load_default=TWILIO_API,
        validate=validate.And(TEXT, validate.Regexp(r"https?://[^\s/?#@]+\Z", error="an address such as https://api.twilio.com")),
        metadata={"description": "where Twilio is asked; account and token go nowhere else"},
    )
    recordings_root = fields.String(
        load_default="",
        validate=validate.And(
            validate.Length(max=500), validate.Regexp(r"(/[^\0]*[^\0/][^\0]*)?\Z", error="an absolute path of a folder, not / itself")
        ),
        metadata={"description": "the folder on the gateway's machine that its recordings are in; none: no file is given out"},
    )
    recordings_prefix = fields.String(
        load_default="",
        validate=validate.And(validate.Length(max=500), validate.Regexp(r"(/.*)?\Z", error="an absolute path of a folder")),
        metadata={"description": "what the telephony system calls that folder; none: the same"},
    )
    recordings_days = fields.Integer(
        strict=True,
        allow_none=True,
        load_default=None,
        validate=validate.Range(min=0, max=36500),
        metadata={"description": "after so many days a recording is no longer given out; null: never"},
    )
    recordings_need_consent = fields.Boolean(
        load_default=False, metadata={"description": "a recording of which nobody says that the customer agreed is not given out"}
    )
    twilio_auth_token = fields.String(
        allow_none=True,
        validate=validate.And(NAME, validate.Regexp(r"[!-~]+\Z", error="an auth token has no blanks")),
        metadata={"description": "never shown again, and kept where it is not sent; null removes it", "writeOnly": True},
    )


class RegisteredSource(Data):
    name = fields.String()
    kind = fields.String()
    zone = fields.String()
    country = fields.String()
    mode = fields.String()
    available_activities = fields.List(fields.String())
    twilio_account = fields.String()
    twilio_api = fields.String()
    recordings_root = fields.String()
    recordings_prefix = fields.String()
    recordings_days = fields.Integer(allow_none=True)
    recordings_need_consent = fields.Boolean()
    secrets = fields.List(fields.String(), metadata={"description": "the names of those that are kept"})


# ---- Twilio


class Twilio(Source):
    digest = fields.String(
        data_key="bodySHA256", validate=TEXT, metadata={"description": "Twilio adds it to the address of a JSON body, and signs both"}
    )


class TwilioVoice(Twilio):
    queue = fields.String(validate=NAME, metadata={"description": "in which the legs of a <Dial> are rings and talks"})
    agent = fields.String(validate=NAME, metadata={"description": "who is dialled"})


class VoiceCallback(Data):
    call = fields.String(data_key="CallSid", required=True, validate=NAME)
    status = fields.String(
        data_key="CallStatus",
        required=True,
        validate=validate.OneOf(
            ("queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"),
        ),
    )
    parent = fields.String(data_key="ParentCallSid", validate=TEXT)
    direction = fields.String(data_key="Direction", validate=TEXT)
    at = fields.String(data_key="Timestamp", metadata={"description": "RFC 2822"})
    seconds = fields.String(data_key="CallDuration", metadata={"description": "whole seconds"})


class TaskRouterCallback(Data):
    event = fields.String(data_key="EventType", required=True, metadata={"description": "such as reservation.accepted"})
    resource = fields.String(data_key="ResourceSid", validate=TEXT)
    task = fields.String(data_key="TaskSid", validate=TEXT)
    attributes = fields.String(data_key="TaskAttributes", metadata={"description": "JSON, with the call's call_sid"})
    reservation = fields.String(data_key="ReservationSid", validate=TEXT)
    worker = fields.String(data_key="WorkerName", validate=TEXT)
    queue = fields.String(data_key="TaskQueueName", validate=TEXT)
    at = fields.String(data_key="TimestampMs", metadata={"description": "epoch milliseconds"})


STREAM: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["type", "data"],
        "properties": {"type": {"type": "string", "examples": ["com.twilio.taskrouter.reservation.accepted"]}, "data": {"type": "object"}},
    },
}


# ---- CloudEvents


class CallArrived(NewContact):
    """A customer waits in a queue."""

    class Meta(Input.Meta):
        exclude = ("source",)

    call = fields.String(required=True, validate=NAME, metadata={"description": "your own id of the call; all that is told of it names it"})


class OfCall(Input):
    call = fields.String(required=True, validate=NAME)
    queue = fields.String(validate=NAME, metadata={"description": "none: the one that the call is in"})


class CallAnswered(OfCall):
    """An agent and the customer are connected."""

    agent = fields.String(required=True, validate=NAME)
    address = fields.String(validate=TEXT)


class CallMissed(CallAnswered):
    """An agent was rung and did not answer."""


class CallAbandoned(OfCall):
    """The customer left the queue unanswered."""

    how = fields.String(load_default="abandoned", validate=validate.OneOf(("abandoned", "timed_out", "left_by_key", "left_empty")))


class CallTransferred(OfCall):
    """The agent's part ended by passing the customer on. The next queue begins with an arrival of the same call."""

    target = fields.String(
        validate=validate.And(TEXT, validate.Regexp(r"(?!\+)", error="a target is no telephone number: it travels, which numbers do not"))
    )


class CallHeld(OfCall):
    """The agent put the customer on hold."""


class CallResumed(OfCall):
    """The two talk again."""


class CallEnded(OfCall):
    """The call is over; where nobody had answered, the customer gave up."""

    ended_by = fields.String(validate=validate.OneOf(("caller", "agent")))


class AgentStateChanged(Input):
    """What an agent does between calls."""

    agent = fields.String(required=True, validate=NAME)
    state = fields.String(required=True, validate=validate.OneOf(("available", "paused", "offline")))
    reason = fields.String(validate=TEXT)
    address = fields.String(validate=TEXT)
