"""What the gateway announces."""

from marshmallow import fields, validate

from shared.contracts.fields import Data, Time

OUTCOMES = (
    "waiting",
    "talking",
    "completed",
    "abandoned",
    "timed_out",
    "left_by_key",
    "left_empty",
    "withdrawn",
    "transferred",
    "lost",
    "void",
)
STAND_IN = "erased-"
AGENT_STATES = ("offline", "available", "paused", "unknown")


def is_stand_in(customer: str) -> bool:
    """Whether it is the id that a forgotten customer left behind (CustomerErased): nobody is to be asked anything by it."""
    return customer.startswith(STAND_IN)


class Leg(Data):
    """One stay of a contact in one queue, as far as it is known. Each event carries the whole leg, so the newest replaces the rest."""

    number = fields.Integer(required=True, metadata={"description": "1 for the first queue that the contact entered"})
    queue = fields.String(required=True)
    call = fields.String(allow_none=True, metadata={"description": "the telephony system's own id of the call"})
    agent = fields.String(allow_none=True)
    address = fields.String(allow_none=True, metadata={"description": "the agent's interface, for example PJSIP/1001"})
    position = fields.Integer(allow_none=True, metadata={"description": "place in the queue on entering it, from 1"})
    arrived_at = Time(allow_none=True)
    answered_at = Time(allow_none=True)
    ended_at = Time(allow_none=True)
    outcome = fields.String(required=True, validate=validate.OneOf(OUTCOMES))
    ended_by = fields.String(allow_none=True)
    target = fields.String(allow_none=True, metadata={"description": "where a transfer went"})
    hold_seconds = fields.Float(allow_none=True, metadata={"description": "the wait in the queue, as the PBX calls it"})
    talk_seconds = fields.Float(allow_none=True)
    holds = fields.Integer(
        allow_none=True,
        metadata={"description": "how often the agent put the customer on hold while they talked; null where no source would tell"},
    )
    on_hold_seconds = fields.Float(
        allow_none=True, metadata={"description": "all of them together; a hold that still lasts is counted once it is over"}
    )
    missed = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata={"description": "ring-no-answers per agent; null where no source tells"},
    )
    ringing = fields.List(fields.String(), metadata={"description": "agents whose telephones ring now"})
    estimated = fields.List(fields.String(), metadata={"description": "figures taken from clocks because the PBX's own are missing"})
    uncertain = fields.String(allow_none=True, metadata={"description": "why the leg's end is in doubt"})


class ContactEvent(Data):
    """`required_skills` are the contact's own, beside its queue's. `wants` and `facts` are what routing policies may ask about."""

    contact = fields.String(required=True)
    source = fields.String(required=True)
    channel = fields.String(load_default="voice")
    required_skills = fields.Dict(keys=fields.String(), values=fields.Integer(), load_default=dict)
    customer = fields.String(allow_none=True, metadata={"description": "the customer's id, never a number"})
    thread = fields.String(allow_none=True, metadata={"description": "the matter that the contact belongs to"})
    wants = fields.Dict(
        keys=fields.String(), metadata={"description": "preferred_skills, language, region, site, deadline (epoch seconds)"}
    )
    observed = fields.Boolean(
        metadata={"description": "its source, or a queue of it, distributes by itself: it is watched, whatever its queue's mode"}
    )
    facts = fields.Dict(keys=fields.String(), metadata={"description": "value, buying_power, tier, preferred_channel, …"})
    leg = fields.Nested(Leg, required=True)


class ContactArrived(ContactEvent):
    """A contact entered a queue."""


class ContactAnswered(ContactEvent):
    """An agent and the customer speak."""


class ContactAbandoned(ContactEvent):
    """The contact left the queue unanswered; the leg's outcome says how."""


class ContactTransferred(ContactEvent):
    """The agent passed the contact on; the leg ends here."""


class ContactEnded(ContactEvent):
    """Agent and customer have parted."""


class OfferMissed(ContactEvent):
    """An agent's telephone rang in vain."""


class ContactCorrected(ContactEvent):
    """What was announced of this leg was wrong or incomplete; this is what holds. Outcome `void`: there never was such a leg."""

    merged_into = fields.String(allow_none=True, metadata={"description": "the contact that turned out to be the same call"})


class AgentStateReported(Data):
    """What a telephony system says of an agent; without a queue it is said of all."""

    source = fields.String(required=True)
    agent = fields.String(required=True)
    address = fields.String(allow_none=True)
    queue = fields.String(allow_none=True)
    state = fields.String(required=True, validate=validate.OneOf(AGENT_STATES))
    reason = fields.String(allow_none=True)
    since = Time(required=True)


class SourceRestarted(Data):
    """A telephony system began anew: calls it held are gone, its agents' states unknown."""

    source = fields.String(required=True)
    at = Time(required=True)


class PersonChanged(Data):
    """Somebody's entry in the directory of people is new or was changed. Addresses and numbers do not travel."""

    person = fields.String(required=True, metadata={"description": "the id, which is their agent id too"})
    name = fields.String(required=True)
    site = fields.String(required=True, metadata={"description": "empty: none"})
    team = fields.String(required=True, metadata={"description": "empty: none"})
    roles = fields.List(fields.String(), required=True)
    language = fields.String(required=True, metadata={"description": "empty: not known"})
    active = fields.Boolean(required=True, metadata={"description": "false: they have left"})


class CallbackRefused(Data):
    """A callback that an agent was to promise, because nobody inside had an answer, cannot be booked: the agent says something else."""

    contact = fields.String(required=True)
    escalation = fields.String(required=True)
    queue = fields.String(required=True)
    agent = fields.String(required=True)
    reason = fields.String(
        required=True,
        validate=validate.OneOf(("withheld", "over")),
        metadata={"description": "withheld: there is no number to call; over: the contact had ended before"},
    )
    at = Time(required=True)


class WebhookDisabled(Data):
    """A webhook's receiver is not written to any more."""

    webhook = fields.String(required=True)
    reason = fields.String(
        required=True,
        validate=validate.OneOf(("gone", "failing")),
        metadata={"description": "gone: it answered 410; failing: for five days nothing was accepted"},
    )


class RecordingAvailable(Data):
    """A recording of a contact is whole. Announced again when what is known of it changed. Neither where it is kept nor a number: to hear
    it, ask the gateway for its media."""

    recording = fields.String(required=True)
    contact = fields.String(required=True)
    source = fields.String(required=True)
    queue = fields.String(allow_none=True)
    agent = fields.String(allow_none=True)
    started_at = Time(allow_none=True)
    ended_at = Time(required=True)
    seconds = fields.Float(allow_none=True)
    format = fields.String(required=True, metadata={"description": "the file's ending, as in wav; empty: none that is given out"})
    consent = fields.String(required=True, validate=validate.OneOf(("granted", "refused", "unknown")))


class RecordingPaused(Data):
    """Somebody asked for silence in the recordings of a contact, as for a card's number; it lasts until resumed, or the contact's end."""

    pause = fields.String(required=True)
    contact = fields.String(required=True)
    source = fields.String(required=True)
    queue = fields.String(allow_none=True)
    agent = fields.String(allow_none=True)
    at = Time(required=True)


class RecordingResumed(RecordingPaused):
    """The contact is recorded again."""


class SurveyAnswered(Data):
    """A customer said how it went."""

    survey = fields.String(allow_none=True, metadata={"description": "the one that was asked; null: nobody had asked"})
    answer = fields.String(required=True)
    contact = fields.String(required=True)
    satisfied = fields.Integer(allow_none=True, validate=validate.Range(min=1, max=5), metadata={"description": "from 1 to 5"})
    resolved = fields.Boolean(allow_none=True)
    text = fields.String(allow_none=True, metadata={"description": "as the customer wrote it"})
    people = fields.List(fields.String(), load_default=list, metadata={"description": "none but those who lead"})
    at = Time(required=True)


class CustomerErased(Data):
    """A customer is to be forgotten by whoever hears this: what was said and written goes, and `stand_in` takes the place of the id wherever
    it stands. Told again a day later, for what was under way."""

    customer = fields.String(required=True, metadata={"description": "the id"})
    stand_in = fields.String(required=True, metadata={"description": "from which nobody learns who it was"})
    contacts = fields.List(fields.String(), required=True, metadata={"description": "that were theirs, with the id or without"})
    people = fields.List(fields.String(), load_default=list, metadata={"description": "none but those who lead"})
    at = Time(required=True)


EVENTS = {
    "gateway.customer_erased.v1": CustomerErased,
    "gateway.survey_answered.v1": SurveyAnswered,
    "gateway.recording_available.v1": RecordingAvailable,
    "gateway.recording_paused.v1": RecordingPaused,
    "gateway.recording_resumed.v1": RecordingResumed,
    "gateway.contact_arrived.v1": ContactArrived,
    "gateway.contact_answered.v1": ContactAnswered,
    "gateway.contact_abandoned.v1": ContactAbandoned,
    "gateway.contact_transferred.v1": ContactTransferred,
    "gateway.contact_ended.v1": ContactEnded,
    "gateway.offer_missed.v1": OfferMissed,
    "gateway.contact_corrected.v1": ContactCorrected,
    "gateway.agent_state_reported.v1": AgentStateReported,
    "gateway.source_restarted.v1": SourceRestarted,
    "gateway.webhook_disabled.v1": WebhookDisabled,
    "gateway.callback_refused.v1": CallbackRefused,
    "gateway.person_changed.v1": PersonChanged,
}
