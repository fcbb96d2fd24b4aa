"""What the doors of questions to experts take and give."""

from marshmallow import fields, validate

from services.gateway.schemas import LEVEL, NAME, TEXT, Page
from shared.contracts.fields import Data, Input, Time

PRESENCES = ("available", "away", "offline")
RANKS = ("senior", "manager")
STATES = ("asking", "claimed", "answered", "accepted", "unanswered", "closed")
TOPIC = validate.And(NAME, validate.Regexp(r"[^/]+\Z", error="a topic holds no /"))
WHO = {"description": "who does it; somebody who is signed in does it themselves"}
LONGEST_QUESTION = 2000
LONGEST_TEXT = 8000


class _Actor(Input):
    person = fields.String(load_default="", validate=TEXT, metadata=WHO)


class Ask(_Actor):
    contact = fields.String(required=True, validate=NAME)
    topic = fields.String(required=True, validate=TOPIC)
    question = fields.String(required=True, validate=validate.Length(min=1, max=LONGEST_QUESTION))
    urgency = fields.String(load_default="normal", validate=validate.OneOf(("normal", "high")))
    language = fields.String(load_default="", validate=TEXT, metadata={"description": "of the answer; empty: any"})
    site = fields.String(load_default="", validate=TEXT, metadata={"description": "the agent's, for steps that ask at the same site"})


class Act(_Actor):
    pass


class HandOver(_Actor):
    to = fields.String(required=True, validate=NAME)


class Say(_Actor):
    text = fields.String(required=True, validate=validate.Length(min=1, max=LONGEST_TEXT))


class Read(_Actor):
    number = fields.Integer(required=True, strict=True, validate=validate.Range(min=0, max=2**31 - 1))


class Accept(_Actor):
    hold_seconds = fields.Float(
        load_default=None,
        allow_none=True,
        validate=validate.Range(min=0, max=86400),
        metadata={"description": "for so long the customer was on hold for the answer"},
    )
    in_contact = fields.Boolean(
        load_default=None,
        allow_none=True,
        metadata={"description": "whether it reached the customer in this contact; unsaid: whether it came before the contact's end"},
    )


class Close(_Actor):
    reason = fields.String(load_default="", validate=TEXT)


class Escalations(Page):
    contact = fields.String(load_default="", validate=TEXT)
    person = fields.String(load_default="", validate=TEXT, metadata={"description": "only those that concern them"})
    state = fields.String(load_default="", validate=validate.OneOf(STATES))


class Messages(Input):
    after = fields.Integer(load_default=0, validate=validate.Range(min=0, max=2**31 - 1), metadata={"description": "a message's number"})
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=1000))


class Member(Data):
    person = fields.String()
    role = fields.String()
    present = fields.Boolean()
    read_to = fields.Integer()


class Escalation(Data):
    id = fields.String()
    code = fields.String(metadata={"description": "short enough to be typed"})
    contact = fields.String()
    queue = fields.String()
    channel = fields.String()
    customer = fields.String()
    agent = fields.String()
    topic = fields.String()
    question = fields.String()
    urgency = fields.String()
    language = fields.String()
    site = fields.String()
    state = fields.String(validate=validate.OneOf(STATES))
    step = fields.Integer(metadata={"description": "the ladder's next, from 0"})
    ladder = fields.String()
    ladder_version = fields.Integer()
    claimed_by = fields.String(allow_none=True)
    answered_by = fields.String(allow_none=True)
    answer = fields.Integer(allow_none=True, metadata={"description": "the number of the message"})
    close_reason = fields.String()
    hold_seconds = fields.Float(allow_none=True)
    in_contact = fields.Boolean(allow_none=True)
    messages = fields.Integer()
    opened_at = Time()
    next_at = Time(allow_none=True)
    claimed_at = Time(allow_none=True)
    answered_at = Time(allow_none=True)
    closed_at = Time(allow_none=True)
    contact_ended_at = Time(allow_none=True)
    members = fields.List(fields.Nested(Member))
    asked = fields.List(fields.Dict())
    card = fields.Dict(metadata={"description": "the contact's: queue, channel, customer, agent, how long it waited"})
    steps = fields.List(fields.Dict(), metadata={"description": "of the ladder, each with whom it asked and why"})


class EscalationPage(Data):
    items = fields.List(fields.Nested(Escalation))
    next = fields.String(allow_none=True)


class Message(Data):
    escalation = fields.String()
    number = fields.Integer()
    author = fields.String()
    role = fields.String()
    kind = fields.String()
    text = fields.String()
    at = Time()


class MessagePage(Data):
    messages = fields.List(fields.Nested(Message))
    read_to = fields.Dict(metadata={"description": "member -> the last message that they have read"})


class PutExpert(Input):
    name = fields.String(validate=TEXT)
    topics = fields.Dict(
        keys=fields.String(validate=TOPIC), values=fields.Integer(strict=True, validate=LEVEL), validate=validate.Length(max=200)
    )
    languages = fields.List(fields.String(validate=NAME), validate=validate.Length(max=50))
    site = fields.String(validate=TEXT)
    team = fields.String(validate=TEXT)
    department = fields.String(validate=TEXT)
    ranks = fields.List(fields.String(validate=validate.OneOf(RANKS)), validate=validate.Length(max=len(RANKS)))
    cap = fields.Integer(strict=True, validate=validate.Range(min=0, max=100), metadata={"description": "rooms at once"})
    active = fields.Boolean()


class Expert(PutExpert):
    id = fields.String()
    presence = fields.String(validate=validate.OneOf(PRESENCES))


class ExpertPage(Data):
    items = fields.List(fields.Nested(Expert))
    next = fields.String(allow_none=True)


class PutPresence(Input):
    state = fields.String(required=True, validate=validate.OneOf(PRESENCES))


class Presence(Data):
    person = fields.String()
    state = fields.String()
    holds_seconds = fields.Float(metadata={"description": "unless it is said again, or a stream is open"})


class QuestionFilters(Input):
    from_ = Time(data_key="from", load_default=0.0)
    to = Time(load_default=4102444800.0)
    topic = fields.String(load_default="", validate=TEXT)


class LadderStep(Data):
    after = fields.Float(metadata={"description": "seconds from the question"})
    who = fields.String(metadata={"description": "experts, seniors, managers, department or everyone"})
    best = fields.Integer(allow_none=True, metadata={"description": "so many at most; null: all"})
    level = fields.Integer(metadata={"description": "of the topic, at least"})
    department = fields.String()
    same_site = fields.Boolean()


class Ladder(Data):
    name = fields.String()
    version = fields.Integer(metadata={"description": "0: the one that is built in"})
    document = fields.String(allow_none=True)
    created_at = Time()
    created_by = fields.String()
    steps = fields.List(fields.Nested(LadderStep))


class Seconds(Data):
    count = fields.Integer()
    p50 = fields.Float(allow_none=True)
    p95 = fields.Float(allow_none=True)
    within_10 = fields.Float(allow_none=True, metadata={"description": "the share, from 0 to 1"})
    within_30 = fields.Float(allow_none=True)
    within_60 = fields.Float(allow_none=True)


class StepFigures(Data):
    step = fields.Integer(allow_none=True, metadata={"description": "from 0; null: who came by themselves"})
    answered = fields.Integer()
    first_answer_seconds = fields.Nested(Seconds)


class TopicFigures(Data):
    topic = fields.String()
    asked = fields.Integer()
    accepted = fields.Integer()
    unanswered = fields.Integer()
    open = fields.Integer()
    answered = fields.Integer()
    unanswered_share = fields.Float(allow_none=True)
    claims = fields.Integer()
    claims_too_late = fields.Integer()
    first_answer_seconds = fields.Nested(Seconds)
    hold_seconds = fields.Nested(Seconds)
    reached_customer_share = fields.Float(allow_none=True)
    steps = fields.List(fields.Nested(StepFigures))


class QuestionReport(Data):
    topics = fields.List(fields.Nested(TopicFigures))


class ExpertFigures(Data):
    expert = fields.String()
    asked = fields.Integer()
    passed = fields.Integer()
    took = fields.Integer()
    answered = fields.Integer()
    accepted = fields.Integer()


class ExpertReport(Data):
    experts = fields.List(fields.Nested(ExpertFigures))


class EffectReport(Data):
    """Each with and without a question, within the same queue and disposition, and the difference with its 95 % interval."""

    resolved = fields.Dict()
    satisfied = fields.Dict()
    talk_seconds = fields.Dict()
