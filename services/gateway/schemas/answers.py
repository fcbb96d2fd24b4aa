"""What the doors answer, where it is more than what was put in. The OpenAPI document is made of them; nothing is filtered by them."""

from typing import Any

from marshmallow import fields

from services.gateway import schemas
from shared.contracts.fields import Data, Time

OR_NULL: dict[str, Any] = {"allow_none": True}
NUMBERS: dict[str, Any] = {"keys": fields.String(), "values": fields.Float()}


def told(description: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"description": description}, **more}


class Since(Time):
    """A moment that has not come yet is 0 inside, and null here."""

    def _serialize(self, value: float | None, *arguments: Any, **more: Any) -> str | None:
        return super()._serialize(value, *arguments, **more) if value else None


def seconds(**more: Any) -> fields.Float:
    return fields.Float(**more)


def texts(**more: Any) -> fields.List:
    return fields.List(fields.String(), **more)


# ---- contacts


class Leg(Data):
    """One stay of a contact in one queue, from joining it to leaving it or to the end of the talk."""

    number = fields.Integer(**told("from 1; what Answerline began by itself (a transfer, a callback) from 1001"))
    call = fields.String(**OR_NULL)
    queue = fields.String()
    kind = fields.String(**told("inbound, transfer or callback"))
    agent = fields.String(**OR_NULL)
    address = fields.String(**OR_NULL)
    position = fields.Integer(**OR_NULL)
    arrived_at = Time(**OR_NULL)
    answered_at = Time(**OR_NULL)
    ended_at = Time(**OR_NULL)
    outcome = fields.String(
        **told(
            "waiting, talking, completed, transferred, abandoned, timed_out, left_by_key, left_empty, withdrawn, overflowed, callback, closed or lost"
        )
    )
    ended_by = fields.String(**OR_NULL)
    target = fields.String(**OR_NULL)
    hold_seconds = seconds(**told("the wait in the queue, as a PBX calls it", **OR_NULL))
    talk_seconds = seconds(**OR_NULL)
    holds = fields.Integer(**told("how often the agent put the customer on hold; null: nobody would know", **OR_NULL))
    on_hold_seconds = seconds(**told("all of them together", **OR_NULL))
    missed = fields.Dict(
        keys=fields.String(), values=fields.Integer(), **told("rings not answered, by agent; null: nobody would know", **OR_NULL)
    )
    ringing = texts(**OR_NULL)
    estimated = texts(**told("the fields that were taken from clocks", **OR_NULL))
    uncertain = fields.String(**told("why its end is in doubt", **OR_NULL))
    estimate = seconds(**told("the wait that was foretold, in seconds", **OR_NULL))


class Contact(schemas.Contact):
    legs = fields.List(fields.Nested(Leg))


class DeskContact(Data):
    """A contact as it stands on the desk."""

    contact = fields.String()
    id = fields.String(**told("the same as `contact`"))
    queue = fields.String()
    channel = fields.String()
    kind = fields.String(**told("inbound, transfer or callback"))
    leg = fields.Integer()
    state = fields.String()
    agent = fields.String(**OR_NULL)
    customer = fields.String(**OR_NULL)
    callback_at = Time(**told("when the customer is called back", **OR_NULL))
    reply_due_at = Time(**told("in writing: by then a reply is due", **OR_NULL))
    replies = fields.Integer()
    call_suggested = fields.Boolean(**told("a call would be better by now"))


class Words(Data):
    en = texts()
    zh = texts()


class Decision(Data):
    offer = fields.String()
    at = Time()
    agent = fields.String()
    state = fields.String(**told("what came of the offer"))
    words = fields.Nested(Words, **told("why, in sentences"))
    rerun_agrees = fields.Boolean(**told("the recorded numbers lead to the same choice when it is made again"))
    record = fields.Dict(**told("all that was weighed: the need, the scores, the pool and the terms of the policy"))
    asked_about = fields.Dict(**told("why the agent that was asked about was chosen, or was not"))


class Decisions(Data):
    contact = fields.String()
    decisions = fields.List(fields.Nested(Decision))


# ---- agents


class HeldPermit(Data):
    """Leave to practise a channel before the certificate."""

    supervisor = fields.String(**told("who must be there meanwhile"))
    per_day = fields.Integer()
    until = Time(**OR_NULL)


class Agent(schemas.Agent):
    """An agent's profile and state."""

    class Meta(Data.Meta):
        pass

    id = fields.String()
    certificates = fields.Dict(
        keys=fields.String(),
        values=Time(allow_none=True),
        **told("by channel, until when (null: without end); null where `channels` counts", **OR_NULL),
    )
    permits = fields.Dict(keys=fields.String(), values=fields.Nested(HeldPermit), **told("leave to practise, by channel"))
    practised = fields.Dict(**told("contacts of today under a permit, by channel"))
    presence = fields.String(**told("what the agent chose: available, paused or offline"))
    state = fields.String(**told("what is: available, offered, busy, wrap_up, paused or offline"))
    reason = fields.String()
    since = Since(**told("in this state", **OR_NULL))
    idle_since = Since(**OR_NULL)
    work = fields.Dict(**told("contacts in hand, by id"))
    missed_in_row = fields.Integer()
    session = fields.String()


class Offer(Data):
    id = fields.String()
    contact = fields.String()
    agent = fields.String()
    made_at = Time()
    expires_at = Time(**OR_NULL)
    state = fields.String(**told("open, accepted, declined, expired or withdrawn"))
    reason = fields.String()
    closed_at = Time(**OR_NULL)


class OfferToAgent(Offer):
    queue = fields.String()
    channel = fields.String()
    kind = fields.String()
    customer = fields.String(**OR_NULL)
    waited_seconds = seconds()


class Offers(Data):
    offers = fields.List(fields.Nested(OfferToAgent))


# ---- queues, policies, hours, dispositions


class Queue(schemas.Queue):
    """A queue's settings."""

    class Meta(Data.Meta):
        pass

    name = fields.String()


class Policy(Data):
    """A version of a policy."""

    name = fields.String()
    version = fields.Integer()
    document = fields.String(**told("as it was written"))
    state = fields.String(**told("draft, scheduled, active, superseded or rolled_back"))
    note = fields.String()
    starts_at = Time(**OR_NULL)
    created_at = Time()
    created_by = fields.String()


class PolicyPut(Policy):
    """The new version; with `dry_run` changes, contacts, segments, moved and failures: what it would change."""

    changes = fields.List(fields.Dict())
    contacts = fields.List(fields.Dict(), **told("those who wait, and where they would stand"))
    segments = fields.Dict(keys=fields.String(), values=fields.Integer())
    moved = fields.Integer()
    failures = fields.Dict()


class Policies(Data):
    policies = fields.List(fields.Nested(Policy))
    next = fields.String(allow_none=True, **told("the next page's `cursor`; null on the last"))


class PolicyAct(Data):
    version = fields.Integer()
    action = fields.String()
    who = fields.String()
    at = Time()
    note = fields.String()


class PolicyVersions(Data):
    versions = fields.List(fields.Nested(Policy))
    history = fields.List(fields.Nested(PolicyAct))
    next = fields.String(allow_none=True, **told("the next page's `cursor`; null on the last"))


class PolicyDiff(Data):
    changes = fields.List(fields.Dict(), **told("path, before, after"))


class ShadowFigure(Data):
    live = fields.Float()
    shadow = fields.Float()
    gap = fields.Float(**told("shadow less live"))
    half = fields.Float(**told("half the 95 % interval of the gap", **OR_NULL))


class Shadow(Data):
    """A document that is tried beside the policy that runs. Both are simulated on the contacts of the last day, as far as they came
    since the shadow began, every five minutes."""

    name = fields.String()
    document = fields.String(**told("as it was written"))
    created_by = fields.String()
    since = Time()
    compared_at = Time(**OR_NULL)
    contacts = fields.Integer(**told("how many were compared"))
    figures = fields.Dict(keys=fields.String(), values=fields.Nested(ShadowFigure))
    problem = fields.String(**told("why nothing could be compared yet", **OR_NULL))


class Calendar(Data):
    name = fields.String()
    version = fields.Integer()
    document = fields.Dict()
    changed_at = Time()
    changed_by = fields.String()


class Closure(Data):
    id = fields.String()
    kind = fields.String()
    queues = texts(**told("none: all"))
    closed = fields.Boolean()
    message = fields.Dict(keys=fields.String(), values=fields.String())
    reason = fields.String()
    by = fields.String()
    since = Time()
    until = Time(**OR_NULL)
    ended_at = Time(**OR_NULL)
    ended_by = fields.String(**OR_NULL)


class Closures(Data):
    closures = fields.List(fields.Nested(Closure))
    next = fields.String(allow_none=True, **told("the next page's `cursor`; null on the last"))


class Dispositions(Data):
    name = fields.String()
    version = fields.Integer()
    document = fields.Dict()
    created_at = Time()
    created_by = fields.String()


# ---- the directory


class Customer(schemas.Customer):
    """What the directory knows of a customer."""

    class Meta(Data.Meta):
        pass

    id = fields.String()


class Erased(Data):
    customer = fields.String()
    contacts = fields.Integer(metadata={"description": "that were theirs, and now are nobody's"})
    recordings = fields.Integer(metadata={"description": "that nobody finds any more; the files are the telephony system's to delete"})
    numbers = fields.Integer(metadata={"description": "that stood in the directory"})
    at = Time()


# ---- reports


class QueueRow(Data):
    queue = fields.String()
    offered = fields.Integer()
    answered = fields.Integer()
    abandoned = fields.Integer()
    timed_out = fields.Integer()
    left_by_key = fields.Integer()
    left_otherwise = fields.Integer()
    lost = fields.Integer()
    waiting = fields.Integer()
    talking = fields.Integer()
    hold_seconds = seconds()
    talk_seconds = seconds()
    ring_no_answer = fields.Integer(**told("null: no source would know", **OR_NULL))
    service_level = fields.Float(**OR_NULL)
    estimated = texts(**told("the columns that hold some figures taken from clocks"))
    uncertain = fields.List(fields.Dict(), **told("the legs whose end is in doubt, and why"))


class QueueReport(Data):
    queues = fields.List(fields.Nested(QueueRow))


class AgentRow(Data):
    agent = fields.String()
    id = fields.String(**told("null: not in the directory", **OR_NULL))
    answered = fields.Integer()
    talk_seconds = seconds()
    ring_no_answer = fields.Integer(**OR_NULL)


class AgentReport(Data):
    agents = fields.List(fields.Nested(AgentRow))


class Value(Data):
    outcomes = fields.Integer(**told("dispositions noted"))
    resolved = fields.Integer()
    amount = fields.Dict(**NUMBERS, **told("by currency, never added"))
    amount_per_contact = fields.Dict(**NUMBERS, **told("sold per contact answered, by currency"))


class Interval(Value):
    label = fields.String(**told("the local time at which it begins"))
    start = Time()
    end = Time()
    whole = fields.Boolean(**told("false: the period cuts it"))
    provisional = fields.Boolean()


class QueueFigures(Value):
    queue = fields.String()
    offered = fields.Integer()
    answered = fields.Integer()
    answered_in_time = fields.Integer()
    abandoned = fields.Integer()
    short_abandoned = fields.Integer()
    timed_out = fields.Integer()
    left_by_key = fields.Integer()
    left_otherwise = fields.Integer()
    lost = fields.Integer()
    waiting = fields.Integer()
    talking = fields.Integer()
    hold_seconds = seconds()
    talk_seconds = seconds()
    wait_seconds = seconds()
    wait_max_seconds = seconds()
    service_level_of = fields.Integer()
    service_level = fields.Float(**OR_NULL)
    target = fields.Float(**told("the share that the queue's policy aims at today", **OR_NULL))
    target_met = fields.Boolean(**OR_NULL)
    provisional = fields.Boolean()


class QueueInterval(QueueFigures, Interval):
    restated_at = Time(**OR_NULL)
    restated_count = fields.Integer()
    before = fields.Dict(**told("the figures as they were when they were final", **OR_NULL))


class QueueIntervals(Data):
    step = fields.String()
    zone = fields.String()
    intervals = fields.List(fields.Nested(QueueInterval))
    totals = fields.List(fields.Nested(QueueFigures))


class AgentInterval(Interval):
    agent = fields.String()
    id = fields.String(**OR_NULL)
    signed_in_seconds = seconds()
    states = fields.Dict(**NUMBERS)
    reasons = fields.Dict(**NUMBERS)
    wrap_up_seconds = seconds()
    occupancy = fields.Float(**OR_NULL)
    answered = fields.Integer()
    talk_seconds = seconds()
    ring_no_answer = fields.Integer(**OR_NULL)
    dispositions = fields.Dict(keys=fields.String(), values=fields.Integer())


class AgentIntervals(Data):
    step = fields.String()
    zone = fields.String()
    intervals = fields.List(fields.Nested(AgentInterval))


class CallbackRow(Data):
    queue = fields.String()
    promised = fields.Integer()
    connected = fields.Integer()
    wrong_number = fields.Integer()
    refused = fields.Integer()
    given_up = fields.Integer()
    passed_on = fields.Integer(**told("before anybody was reached: promised again where it went"))
    open = fields.Integer()
    merged_or_cancelled = fields.Integer()
    hold_seconds = seconds(**told("from the promise to the conversation"))
    talk_seconds = seconds()


class CallbackReport(Data):
    callbacks = fields.List(fields.Nested(CallbackRow))


class MatterRow(Data):
    contact = fields.String()
    thread = fields.String(**OR_NULL)
    queue = fields.String()
    channel = fields.String()
    state = fields.String()
    owner = fields.String(**OR_NULL)
    replies = fields.Integer()
    reply_due_at = Time(**OR_NULL)
    late = fields.Boolean()


class MatterReport(Data):
    matters = fields.List(fields.Nested(MatterRow))
    late = fields.Integer()
    open = fields.Integer()


class EstimateRow(Data):
    queue = fields.String()
    factor = fields.Float()
    answered = fields.Integer()
    mean_absolute_error_seconds = seconds(**OR_NULL)
    bias_seconds = seconds(**told("positive: customers waited less than told", **OR_NULL))
    share_within_50_percent = fields.Float(**OR_NULL)
    share_within_30_seconds = fields.Float(**OR_NULL)
    share_within_either = fields.Float(**OR_NULL)
    at_once = fields.Integer()
    abandoned = fields.Integer()


class EstimateReport(Data):
    estimates = fields.List(fields.Nested(EstimateRow))


# ---- keys, pages of a list, and the installation


def page_of(schema: type[Data] | type[Any]) -> type[Data]:
    """A page of a list of these."""
    return type(
        f"{schema.__name__}Page",
        (Data,),
        {
            "items": fields.List(fields.Nested(schema)),
            "next": fields.String(**told("the next page's `cursor`; null on the last", **OR_NULL)),
            "__doc__": "A page of a list.",
        },
    )


Queues, Agents, Customers = page_of(Queue), page_of(Agent), page_of(Customer)
Sources = page_of(schemas.RegisteredSource)


class Alive(Data):
    status = fields.String()


class Ready(Data):
    status = fields.String(**told("ok or unavailable"))
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(keys=fields.String(), values=fields.Boolean()),
        **told("by service, whether its database and its broker answer; without the broker: its database, and whether it has started"),
    )


class AnyDocument(Data):
    """A JSON document."""
