"""What routing announces."""

from marshmallow import fields

from shared.contracts.fields import Data, Time


class ContactEvent(Data):
    """`observed`: a telephony system distributes and we only watch. `leg` counts the queues that the contact has been in."""

    contact = fields.String(required=True)
    leg = fields.Integer(load_default=1)
    source = fields.String(allow_none=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    customer = fields.String(allow_none=True)
    direction = fields.String(load_default="inbound")
    observed = fields.Boolean(load_default=False)
    at = Time(required=True)


class ContactQueued(ContactEvent):
    """A contact waits for an agent."""

    required_skills = fields.Dict(keys=fields.String(), values=fields.Integer(), load_default=dict)
    kind = fields.String(load_default="inbound", metadata={"description": "inbound, callback or transfer"})


class ContactParked(ContactEvent):
    """Nobody asks for the contact any more: its place is kept for a while, and it is offered to nobody."""

    reason = fields.String(required=True)
    until = Time(allow_none=True)


class ContactReleased(ContactEvent):
    """Somebody else serves the contact, perhaps the telephony system's own queue."""

    reason = fields.String(required=True)


class ContactTurnedAway(ContactEvent):
    """The queue takes nobody now: outside its hours, on a holiday, or closed by hand."""

    cause = fields.String(required=True, metadata={"description": "hours, holiday, special, night or emergency"})
    opens_at = Time(allow_none=True)


class ContactOverflowed(ContactEvent):
    """The contact has waited too long in its queue and goes on to another, in the place that it has."""

    target = fields.String(required=True)
    waited_seconds = fields.Float(required=True)


class ContactPending(ContactEvent):
    """A matter in writing waits for something; its owner has room for others meanwhile."""

    agent = fields.String(required=True)
    talk_seconds = fields.Float(allow_none=True)


class ContactReplied(ContactEvent):
    """An agent wrote to the customer."""

    agent = fields.String(required=True)
    replies = fields.Integer(required=True)
    call_suggested = fields.Boolean(required=True, metadata={"description": "so much has been written that a call would be better"})


class ContactConferenced(ContactEvent):
    """Somebody joined the conversation."""

    agent = fields.String(allow_none=True)
    participant = fields.String(allow_none=True)


class ChannelSuggested(ContactEvent):
    """On the channel that the customer prefers, somebody would answer sooner."""

    preferred = fields.String(required=True)
    target = fields.String(required=True, metadata={"description": "the queue of that channel"})
    wait_seconds = fields.Float(required=True)
    preferred_wait_seconds = fields.Float(required=True)


class CallbackPromised(ContactEvent):
    """The contact keeps its place while the customer hangs up."""

    due_at = Time(allow_none=True)
    attempts_left = fields.Integer(required=True)


class CallbackDialled(ContactEvent):
    """The customer's number was called."""

    agent = fields.String(required=True)
    outcome = fields.String(required=True)


class CallbackClosed(ContactEvent):
    """A callback is over without a conversation."""

    outcome = fields.String(required=True, metadata={"description": "given_up, merged or cancelled"})


class OfferEvent(ContactEvent):
    offer = fields.String(required=True)
    agent = fields.String(required=True)


class OfferMade(OfferEvent):
    """An agent is asked to take the contact."""

    address = fields.String(allow_none=True)
    expires_at = Time(required=True)
    waited_seconds = fields.Float(required=True)
    decision = fields.Dict(required=True, metadata={"description": "who was considered, who was excluded and why"})


class OfferClosed(OfferEvent):
    reason = fields.String(allow_none=True)
    open_seconds = fields.Float(required=True)
    declined = fields.Integer(metadata={"description": "how often this agent has declined this contact"})
    missed = fields.Integer(metadata={"description": "how often this agent has missed this contact"})


class OfferAccepted(OfferClosed):
    """The agent takes the contact."""


class OfferDeclined(OfferClosed):
    """The agent does not take the contact; it goes on to another."""


class OfferExpired(OfferClosed):
    """The agent did not answer in time."""


class OfferWithdrawn(OfferClosed):
    """The customer left while the agent was being asked; no fault of the agent's."""


class ContactAssigned(ContactEvent):
    """Agent and contact belong together now; a dialplan dials `address`."""

    agent = fields.String(allow_none=True)
    address = fields.String(allow_none=True)
    offer = fields.String(allow_none=True)
    waited_seconds = fields.Float(allow_none=True)


class ContactAbandoned(ContactEvent):
    """The contact left unanswered; `reason` says how."""

    reason = fields.String(required=True)
    waited_seconds = fields.Float(allow_none=True)


class ContactTransferred(ContactEvent):
    """The agent passed the contact on."""

    agent = fields.String(allow_none=True)
    target = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    talk_seconds = fields.Float(allow_none=True)


class ContactCompleted(ContactEvent):
    """An answered contact is over."""

    agent = fields.String(allow_none=True)
    ended_by = fields.String(allow_none=True)
    waited_seconds = fields.Float(allow_none=True)
    talk_seconds = fields.Float(allow_none=True)
    wrap_up = fields.Boolean(load_default=False)


class ContactWrappedUp(ContactEvent):
    """The agent has finished what the contact left to do."""

    agent = fields.String(required=True)
    disposition = fields.String(allow_none=True, metadata={"description": "the code chosen from the queue's tree"})
    resolved = fields.Boolean(allow_none=True)
    amount = fields.String(allow_none=True, metadata={"description": "sold, as a decimal number"})
    currency = fields.String(allow_none=True)
    wrap_up_seconds = fields.Float(required=True)


class AgentStateChanged(Data):
    """An agent is in another state, for a reason."""

    agent = fields.String(required=True)
    state = fields.String(required=True)
    previous = fields.String(required=True)
    reason = fields.String(allow_none=True)
    contact = fields.String(allow_none=True)
    at = Time(required=True)


class AgentSignedInElsewhere(Data):
    """Somebody has signed in as this agent anew; the session named here is the old one, and over."""

    agent = fields.String(required=True)
    session = fields.String(required=True)
    at = Time(required=True)


EVENTS = {
    "routing.contact_queued.v1": ContactQueued,
    "routing.offer_made.v1": OfferMade,
    "routing.offer_accepted.v1": OfferAccepted,
    "routing.offer_declined.v1": OfferDeclined,
    "routing.offer_expired.v1": OfferExpired,
    "routing.offer_withdrawn.v1": OfferWithdrawn,
    "routing.contact_assigned.v1": ContactAssigned,
    "routing.contact_abandoned.v1": ContactAbandoned,
    "routing.contact_transferred.v1": ContactTransferred,
    "routing.contact_completed.v1": ContactCompleted,
    "routing.contact_wrapped_up.v1": ContactWrappedUp,
    "routing.contact_parked.v1": ContactParked,
    "routing.contact_released.v1": ContactReleased,
    "routing.contact_turned_away.v1": ContactTurnedAway,
    "routing.contact_overflowed.v1": ContactOverflowed,
    "routing.contact_pending.v1": ContactPending,
    "routing.contact_replied.v1": ContactReplied,
    "routing.contact_conferenced.v1": ContactConferenced,
    "routing.channel_suggested.v1": ChannelSuggested,
    "routing.callback_promised.v1": CallbackPromised,
    "routing.callback_dialled.v1": CallbackDialled,
    "routing.callback_closed.v1": CallbackClosed,
    "routing.agent_state_changed.v1": AgentStateChanged,
    "routing.agent_signed_in_elsewhere.v1": AgentSignedInElsewhere,
}
