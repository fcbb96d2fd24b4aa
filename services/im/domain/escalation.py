"""One question and its room, from the asking to the end.

    asking ──claim──▶ claimed ──answer──▶ answered ──accept──▶ accepted
      ▲  │               │  │                │
      │  │ ladder's end   │  └─silence, release┤ did not help
      │  ▼               └────────────────────┴──▶ asking: the ladder goes on with its next step
      │ unanswered ──claim──▶ …                     closed: from anywhere, by the agent or for good

A method checks everything before it changes anything, tells what happened in `events`, and leaves what must be written in the fields.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .errors import Conflict, Invalid, NotFound
from .experts import Choice, Want
from .ladder import RANK_OF, Ladder, Step

State = Literal["asking", "claimed", "answered", "accepted", "unanswered", "closed"]
Role = Literal["agent", "expert"]
Kind = Literal["text", "answer"]
URGENCIES = ("normal", "high")
LONGEST_TEXT = 8000
LONGEST_QUESTION = 2000
MOST_MEMBERS = 20
PROMISE = "callback"
"""What the agent is told to promise when nobody has answered."""

OPEN = ("asking", "claimed", "answered")


class Told(NamedTuple):
    """Something that happened: the event's name without publisher and version, and its own data."""

    name: str
    data: dict[str, Any]


class Credit(NamedTuple):
    """What is added to an expert's record on the topic."""

    expert: str
    asked: int = 0
    accepted: int = 0
    answered: int = 0
    log_seconds: float = 0.0


@dataclass
class Member:
    person: str
    role: Role
    joined_at: float
    left_at: float | None = None
    read_to: int = 0


@dataclass
class Asked:
    """An expert whom the ladder asked."""

    expert: str
    step: int
    at: float
    passed_at: float | None = None
    counted: bool = False
    """Whether it stands in their record: they took it, or the ladder went on without them."""


@dataclass
class Message:
    number: int
    author: str
    role: Role
    kind: Kind
    text: str
    at: float


@dataclass
class Escalation:
    """Moments are epoch seconds. `origin`: since when the ladder counts. `step`: the next to be done. `next_at`: when something is due."""

    id: str
    code: str
    contact: str
    queue: str
    channel: str
    customer: str
    agent: str
    topic: str
    question: str
    urgency: str
    language: str
    site: str
    opened_at: float
    ladder: str = ""
    ladder_version: int = 0
    state: State = "asking"
    origin: float = 0.0
    step: int = 0
    next_at: float | None = None
    claimed_by: str | None = None
    claimed_at: float | None = None
    claims: int = 0
    lost_claims: int = 0
    answered_by: str | None = None
    answered_at: float | None = None
    answer: int | None = None
    answer_step: int | None = None
    closed_at: float | None = None
    close_reason: str = ""
    contact_ended_at: float | None = None
    hold_seconds: float | None = None
    in_contact: bool | None = None
    messages: int = 0
    sequence: int = 0
    members: list[Member] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)
    written: list[Message] = field(default_factory=list)
    steps_done: list[dict[str, Any]] = field(default_factory=list)
    credits: list[Credit] = field(default_factory=list)

    # The ladder

    @classmethod
    def open(cls, ladder: Ladder, now: float, **facts: Any) -> Escalation:
        """A question is asked. Raises Invalid."""
        if facts["urgency"] not in URGENCIES:
            raise Invalid(f"The urgency is {' or '.join(URGENCIES)}.")
        _text(facts["question"], "question", LONGEST_QUESTION)
        one = cls(opened_at=now, origin=now, ladder=ladder.name, ladder_version=ladder.version, **facts)
        one.members = [Member(one.agent, "agent", now)]
        one.next_at = ladder.due_at(now, 0)
        one._tell("escalation_opened", question=one.question, urgency=one.urgency)
        return one

    def want(self, step: Step) -> Want:
        """Whom a step of the ladder looks for."""
        return Want(
            self.topic,
            language=self.language,
            level=step.level,
            rank=RANK_OF.get(step.who, ""),
            department=step.department if step.who == "department" else "",
            site=self.site if step.same_site else "",
            best=step.best,
        )

    @property
    def already_asked(self) -> set[str]:
        """Whom this ladder need not ask again."""
        return {one.expert for one in self.asked} | {member.person for member in self.members if member.left_at is None}

    def climb(self, ladder: Ladder, choice: Choice, now: float) -> None:
        """The step that is due has been worked out: these are asked."""
        step = ladder.steps[self.step]
        for one in self.asked:
            if one.passed_at is None:
                self._count(one)
        names = [one.expert for one in choice.chosen]
        self.asked += [Asked(name, self.step, now) for name in names]
        self.steps_done.append(
            {"step": self.step, "who": step.who, "due_at": self.next_at, "at": now, "asked": names, "choice": choice.to_dict()}
        )
        self._tell("expert_asked", step=self.step, who=step.who, experts=names, question=self.question, urgency=self.urgency)
        self.step += 1
        self.next_at = ladder.due_at(self.origin, self.step)
        if not self._awaited():
            self.next_at = now  # nobody was there to be asked: no use in waiting for them

    def end_ladder(self, now: float) -> None:
        """Nobody has taken it: the agent is told what to promise."""
        self.state, self.next_at = "unanswered", None
        self._tell("escalation_unanswered", promise=PROMISE, waited_seconds=round(now - self.opened_at, 3))

    def go_on(self, ladder: Ladder, now: float) -> None:
        """The next step at once, those after it with their distances."""
        self.state, self.claimed_by, self.claimed_at = "asking", None, None
        self.origin = now - (ladder.due_at(0.0, self.step) if self.step < len(ladder.steps) else ladder.steps[-1].after)
        self.next_at = ladder.due_at(self.origin, self.step)

    def _count(self, one: Asked) -> None:
        if not one.counted:
            one.counted = True
            self.credits.append(Credit(one.expert, asked=1))

    def _awaited(self) -> bool:
        return any(one.passed_at is None for one in self.asked)

    # Experts

    def claim(self, expert: str, ladder: Ladder, now: float) -> None:
        """The first one has it. Raises Conflict for every other, with who was quicker."""
        if self.state in ("claimed", "answered"):
            if self.claimed_by == expert:
                return
            self.lost_claims += 1
            raise Conflict(f"{self.claimed_by} has claimed it already.")
        if self.state not in ("asking", "unanswered"):
            raise Conflict(f"The question is {self.state}: it cannot be claimed any more.")
        if expert == self.agent:
            raise Conflict("Who asks cannot claim the question.")
        late = self.state == "unanswered"
        self.state, self.claimed_by, self.claimed_at = "claimed", expert, now
        self.claims += 1
        self.next_at = None if late else now + ladder.claim_seconds
        self._join(expert, "expert", now)
        self._member(expert).role = "expert"
        self._count(self._asked(expert))
        self._tell("escalation_claimed", expert=expert, seconds=round(now - self.opened_at, 3), step=self._step_of(expert), late=late)

    def release(self, expert: str, ladder: Ladder, now: float, reason: str = "released") -> None:
        """The one who has claimed it gives it back; the ladder goes on."""
        if self.claimed_by != expert or self.state not in ("claimed", "answered"):
            raise Conflict(f"{expert} has not claimed it.")
        self._leave(expert, now)
        self._tell("escalation_released", expert=expert, reason=reason)
        self.go_on(ladder, now)

    def pass_by(self, expert: str, now: float) -> None:
        """Somebody who was asked cannot help. When nobody is left who might, the next step is due at once."""
        one = next((one for one in self.asked if one.expert == expert), None)
        if one is None:
            raise NotFound(f"{expert} was not asked.")
        if one.passed_at is not None:
            return
        one.passed_at = now
        if self.state == "asking" and not self._awaited():
            self.next_at = now

    def join(self, expert: str, now: float) -> None:
        """Somebody joins the room. Raises Conflict where it is closed or full."""
        self._require_alive()
        if sum(member.left_at is None for member in self.members) >= MOST_MEMBERS:
            raise Conflict(f"The room has {MOST_MEMBERS} members already.")
        self._join(expert, "agent" if expert == self.agent else "expert", now)

    def hand_over(self, expert: str, to: str, ladder: Ladder, now: float) -> None:
        """The one who has claimed it gives it to another, who joins, and has as long to say something."""
        if self.claimed_by != expert or self.state not in ("claimed", "answered"):
            raise Conflict(f"{expert} has not claimed it.")
        if to in (self.agent, expert):
            raise Conflict("It can be handed over to another expert only.")
        self.claimed_by, self.claimed_at = to, now
        if self.next_at is not None:
            self.next_at = now + ladder.claim_seconds
        self._join(to, "expert", now)
        self._member(to).role = "expert"
        self._tell("escalation_handed_over", expert=expert, to=to)

    # The room

    def post(self, author: str, text: str, now: float, kind: Kind = "text", claim_seconds: float = 0.0) -> Message:
        """A message of a member. An expert's answer makes the question answered; whatever its claimant writes keeps the claim."""
        _text(text, "text", LONGEST_TEXT)
        member = self._member(author)
        self._require_alive()
        if kind == "answer":
            if member.role != "expert":
                raise Conflict("An expert answers; the agent accepts.")
            if self.state not in ("claimed", "answered"):
                raise Conflict(f"The question is {self.state}: claim it before you answer.")
        self.messages += 1
        message = Message(self.messages, author, member.role, kind, text, now)
        member.read_to = message.number
        self.written.append(message)
        if kind == "answer":
            if self.answered_at is None:
                self.answered_at, self.answered_by = now, author
                asked = self._asked(author)
                self.credits.append(Credit(author, answered=1, log_seconds=math.log(max(1.0, now - asked.at))))
                self.answer_step = self._step_of(author)
                self.in_contact = self.contact_ended_at is None
            self.state, self.answer, self.next_at = "answered", message.number, None
        elif self.state == "claimed" and author == self.claimed_by and self.next_at is not None:
            self.next_at = now + claim_seconds
        self._tell("message_posted", number=message.number, author=author, role=member.role, kind=kind, text=text)
        return message

    def read(self, person: str, number: int) -> None:
        """A member has read up to a message."""
        member = self._member(person)
        if not 0 <= number <= self.messages:
            raise Invalid(f"The room has messages 1 to {self.messages}.")
        member.read_to = max(member.read_to, number)

    def accept(self, agent: str, now: float, answer: str, hold_seconds: float | None = None, in_contact: bool | None = None) -> None:
        """The answer helped. `answer` is its text; `hold_seconds`: how long the customer was on hold for it; `in_contact`: whether it
        reached them in that contact."""
        self._require_agent(agent)
        if self.state != "answered":
            raise Conflict(f"The question is {self.state}: there is no answer to accept.")
        assert self.answered_at is not None
        self.state, self.next_at, self.closed_at, self.close_reason = "accepted", None, now, "accepted"
        self.hold_seconds = hold_seconds
        if in_contact is not None:
            self.in_contact = in_contact
        assert self.answered_by is not None
        self.credits.append(Credit(self.answered_by, accepted=1))
        self._tell(
            "question_answered",
            question=self.question,
            answer=answer,
            expert=self.answered_by,
            seconds=round(self.answered_at - self.opened_at, 3),
            hold_seconds=hold_seconds,
            in_contact=self.in_contact,
        )

    def did_not_help(self, agent: str, ladder: Ladder, now: float) -> None:
        """The answer was no help: the ladder goes on."""
        self._require_agent(agent)
        if self.state != "answered":
            raise Conflict(f"The question is {self.state}: there is no answer that could be refused.")
        self._tell("answer_refused", expert=self.claimed_by)
        self.answered_at, self.answered_by, self.answer, self.answer_step, self.in_contact = None, None, None, None, None
        self.go_on(ladder, now)

    def close(self, person: str, now: float, reason: str = "") -> None:
        """The question is over. Closed already: nothing happens."""
        if self.state in ("accepted", "closed"):
            return
        self._require_agent(person)
        self.state, self.next_at, self.closed_at, self.close_reason = "closed", None, now, reason or "closed"
        self._tell("escalation_closed", reason=self.close_reason)

    # What happens to the contact

    def follow(self, agent: str, queue: str, now: float) -> None:
        """The contact has gone to another agent: the room goes with it, and who asked stays to listen."""
        if agent == self.agent:
            return
        self.agent, self.queue = agent, queue
        for member in self.members:
            if member.person == agent:
                member.role, member.left_at = "agent", None
                break
        else:
            self.members.append(Member(agent, "agent", now))
        self._tell("room_followed", queue=queue)

    def outlive(self, now: float) -> None:
        """The contact is over; the room goes on as a follow-up."""
        if self.contact_ended_at is None:
            self.contact_ended_at = now
            self._tell("room_outlives_contact")

    def orphan(self, now: float) -> None:
        """The customer is to be forgotten: whatever is open about them is over."""
        if self.state not in ("accepted", "closed"):
            self.state, self.next_at, self.closed_at, self.close_reason = "closed", None, now, "erased"
            self._tell("escalation_closed", reason=self.close_reason)

    # Who may see it

    @property
    def people(self) -> list[str]:
        """Who is in the room or was asked."""
        present = [member.person for member in self.members if member.left_at is None]
        return sorted({*present, *(one.expert for one in self.asked if one.passed_at is None)})

    def concerns(self, person: str) -> bool:
        return person in self.people

    def _member(self, person: str) -> Member:
        member = next((member for member in self.members if member.person == person and member.left_at is None), None)
        if member is None:
            raise NotFound(f"{person} is not in this room: claim the question, or join.")
        return member

    def _require_agent(self, person: str) -> None:
        if all(member.person != person or member.role != "agent" for member in self.members):
            raise Conflict(f"Only the agent in the contact can do that, and {person} is not.")

    def _require_alive(self) -> None:
        if self.state in ("accepted", "closed") and self.closed_at is not None:
            raise Conflict(f"The room is closed: the question is {self.state}.")

    def _join(self, person: str, role: Role, now: float) -> None:
        for member in self.members:
            if member.person == person:
                if member.left_at is not None:
                    member.left_at = None
                    self._tell("member_joined", person=person, role=member.role)
                return
        self.members.append(Member(person, role, now))
        self._tell("member_joined", person=person, role=role)

    def _leave(self, person: str, now: float) -> None:
        for member in self.members:
            if member.person == person and person != self.agent:  # an expert to whom the contact has come stays
                member.left_at = now

    def _asked(self, expert: str) -> Asked:
        """What the ladder noted of this expert; who came by themselves was there from the beginning."""
        known = next((one for one in self.asked if one.expert == expert), None)
        return known or Asked(expert, -1, self.opened_at)

    def _step_of(self, expert: str) -> int | None:
        return next((one.step for one in self.asked if one.expert == expert), None)

    def _tell(self, name: str, **data: Any) -> None:
        self.events.append(Told(name, data))

    def take_events(self) -> Sequence[Told]:
        events, self.events = self.events, []
        return events


def _text(text: str, what: str, longest: int) -> None:
    if not text.strip():
        raise Invalid(f"The {what} is empty.")
    if len(text) > longest:
        raise Invalid(f"The {what} has {len(text)} characters; at most {longest} are taken.")
