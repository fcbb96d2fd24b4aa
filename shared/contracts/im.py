"""What im announces."""

from marshmallow import fields

from shared.contracts.fields import Data, Time


class EscalationEvent(Data):
    """`people`: who is in the room or was asked, and so may see it. `agent`: who has the customer."""

    escalation = fields.String(required=True)
    code = fields.String(required=True, metadata={"description": "short enough to be typed: a reply from a chat names it"})
    contact = fields.String(required=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    customer = fields.String(allow_none=True)
    topic = fields.String(required=True)
    agent = fields.String(required=True)
    people = fields.List(fields.String(), load_default=list)
    at = Time(required=True)


class EscalationOpened(EscalationEvent):
    """An agent who is stuck asks inside, with the customer still there."""

    question = fields.String(required=True)
    urgency = fields.String(required=True)


class ExpertAsked(EscalationEvent):
    """A step of the ladder: these are asked, beside those asked before."""

    step = fields.Integer(required=True, metadata={"description": "from 0"})
    who = fields.String(required=True, metadata={"description": "experts, seniors, managers, department or everyone"})
    experts = fields.List(fields.String(), required=True)
    question = fields.String(required=True)
    urgency = fields.String(required=True)


class EscalationClaimed(EscalationEvent):
    """One has it; the others need not."""

    expert = fields.String(required=True)
    seconds = fields.Float(required=True, metadata={"description": "since it was asked"})
    step = fields.Integer(allow_none=True)
    late = fields.Boolean(load_default=False, metadata={"description": "after the ladder's end"})


class EscalationReleased(EscalationEvent):
    """Who had claimed it has it no longer; the ladder goes on."""

    expert = fields.String(required=True)
    reason = fields.String(required=True, metadata={"description": "released, or silence"})


class EscalationHandedOver(EscalationEvent):
    """Another expert has it now."""

    expert = fields.String(required=True)
    to = fields.String(required=True)


class MemberJoined(EscalationEvent):
    """Somebody came into the room."""

    person = fields.String(required=True)
    role = fields.String(required=True)


class MessagePosted(EscalationEvent):
    """A message in a room, numbered from 1 without a gap."""

    number = fields.Integer(required=True)
    author = fields.String(required=True)
    role = fields.String(required=True)
    kind = fields.String(required=True, metadata={"description": "text or answer"})
    text = fields.String(required=True)


class AnswerRefused(EscalationEvent):
    """The answer was no help; the ladder goes on."""

    expert = fields.String(allow_none=True)


class QuestionAnswered(EscalationEvent):
    """The agent accepted the answer: what a knowledge base can grow from."""

    question = fields.String(required=True)
    answer = fields.String(required=True)
    expert = fields.String(required=True)
    seconds = fields.Float(required=True, metadata={"description": "from the question to the first answer"})
    hold_seconds = fields.Float(allow_none=True, metadata={"description": "for so long the customer was on hold for it"})
    in_contact = fields.Boolean(allow_none=True, metadata={"description": "whether the answer reached the customer in that contact"})


class EscalationUnanswered(EscalationEvent):
    """Nobody took it: the agent promises, and routing books what was promised."""

    promise = fields.String(required=True, metadata={"description": "callback"})
    waited_seconds = fields.Float(required=True)


class EscalationClosed(EscalationEvent):
    """The question is over without an answer."""

    reason = fields.String(required=True)


class RoomFollowed(EscalationEvent):
    """The contact went to another agent, and the room with it."""


class RoomOutlivesContact(EscalationEvent):
    """The contact is over; the room goes on as a follow-up."""


EVENTS = {
    "im.escalation_opened.v1": EscalationOpened,
    "im.expert_asked.v1": ExpertAsked,
    "im.escalation_claimed.v1": EscalationClaimed,
    "im.escalation_released.v1": EscalationReleased,
    "im.escalation_handed_over.v1": EscalationHandedOver,
    "im.member_joined.v1": MemberJoined,
    "im.message_posted.v1": MessagePosted,
    "im.answer_refused.v1": AnswerRefused,
    "im.question_answered.v1": QuestionAnswered,
    "im.escalation_unanswered.v1": EscalationUnanswered,
    "im.escalation_closed.v1": EscalationClosed,
    "im.room_followed.v1": RoomFollowed,
    "im.room_outlives_contact.v1": RoomOutlivesContact,
}
