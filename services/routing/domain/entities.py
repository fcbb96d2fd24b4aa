"""Queues, agents, contacts and offers: one class a table, one field a column, every value fit for JSON.

Times are epoch seconds (UTC). Who may change what, and when, is the desk's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Self, TypedDict

from .errors import Invalid

Skills = dict[str, int]
Row = dict[str, Any]

QueueMode = Literal["observed", "routed"]
Presence = Literal["offline", "available", "paused", "unknown"]
AgentState = Literal["offline", "available", "offered", "busy", "wrap_up", "paused", "unknown"]
ContactState = Literal["waiting", "offered", "assigned", "pending", "callback", "parked", "ended", "abandoned", "released", "closed"]
OfferState = Literal["open", "accepted", "declined", "expired", "withdrawn"]
Direction = Literal["inbound", "outbound"]
Phase = Literal["offered", "talking", "wrap_up"]

TOP_LEVEL = 5
"""Of skills and languages; the lowest is 1."""
FULL = 100
"""An agent's whole attention, in percent."""
OWN_LEGS = 1000
"""More than a telephony system will tell of a contact: ours after its leg 2 are 2001, 2002, …, so that no number comes twice."""


ABOUT_CUSTOMER = ("caller_ref", "last_agent")
"""Facts by which a customer could be known again."""

SEPARATORS = re.compile(r"[\s().,/+_-]+")
DIGITS = re.compile(r"\d{6}")


class Pass(TypedDict):
    """How often an agent let a contact go by, and when last."""

    at: float
    declined: int
    missed: int


class Work(TypedDict):
    """What one contact takes of an agent, from the offer to the end of its wrap-up."""

    phase: Phase
    queue: str
    leg: int
    channel: str
    load: int
    began: float  # the offer, or the conversation
    since: float  # in this phase


class Permit(TypedDict):
    """Leave to practise on a channel without its certificate, while the supervisor is signed in; `queues`: in these alone, which are easy."""

    supervisor: str
    per_day: int
    until: float
    queues: NotRequired[list[str]]


class Practice(TypedDict):
    """How many contacts a learner has taken on a channel on a day (see Book.day_of)."""

    day: int
    taken: int


class Record:
    """What the four entities share: the way to a table row and back."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(**{name: _own(value) for name, value in row.items()})

    def to_row(self) -> Row:
        return {name: _own(value) for name, value in vars(self).items()}


@dataclass
class Queue(Record):
    name: str
    mode: QueueMode = "routed"
    channel: str = "voice"
    pool: str = "default"  # agents and queues that work together
    required_skills: Skills = field(default_factory=dict)
    offer_seconds: float = 20
    retry_seconds: float = 5
    miss_limit: int = 3  # offers missed in a row, after which an agent is paused
    wrap_up: bool = True
    service_level_seconds: float = 20
    short_abandon_seconds: float = 0  # who leaves sooner does not count in the service level
    abandons_count: bool = True  # in the service level
    service_level_unit: Literal["legs", "contacts"] = "legs"
    policy: str = ""  # none named: the built-in one
    calendar: str = ""  # none named: always open
    dispositions: str = ""  # the tree that a wrap-up chooses from; none named: any text
    zone: str = ""  # of its site; none named: the centre's
    reply_seconds: float = 14400  # in writing: the target for a reply, of opening time
    owner_seconds: float = 3600  # in writing: so long the owner of a matter may come back to it, of opening time
    call_after_replies: int = 3  # in writing: so much to and fro, then a call is suggested; 0 = never
    site: str = ""  # whose it is, for those who see their own alone; none named: everybody's
    team: str = ""

    def validate(self) -> None:
        require_text("A queue's name", self.name)
        require_text("A queue's channel", self.channel)
        require_text("A queue's pool", self.pool)
        require_skills(self.required_skills)
        if self.mode not in ("observed", "routed"):
            raise Invalid(f"A queue's mode is 'observed' or 'routed', not {self.mode!r}.")
        for name in ("offer_seconds", "service_level_seconds", "retry_seconds", "reply_seconds", "owner_seconds"):
            require_seconds(name, getattr(self, name))
        if self.service_level_unit not in ("legs", "contacts"):
            raise Invalid(f"service_level_unit is 'legs' or 'contacts', not {self.service_level_unit!r}.")
        if self.miss_limit < 1:
            raise Invalid(f"miss_limit must be at least 1, not {self.miss_limit}.")


@dataclass
class Agent(Record):
    id: str
    name: str = ""
    skills: Skills = field(default_factory=dict)
    languages: Skills = field(default_factory=dict)
    regions: list[str] = field(default_factory=list)  # speaks as people there do
    site: str = ""
    team: str = ""
    employment: str = ""
    pool: str = "default"
    channels: list[str] = field(default_factory=list)  # certified for these, says the directory; none = gets no contact
    certificates: dict[str, float | None] | None = None  # channel -> expires at; once training has spoken, it alone counts
    permits: dict[str, Permit] = field(default_factory=dict)  # by channel
    practised: dict[str, Practice] = field(default_factory=dict)  # by channel
    capacity: dict[str, int] = field(default_factory=dict)  # channel -> percent of attention one contact takes; not named = all
    queues: list[str] = field(default_factory=list)  # serves these; none named = serves all of the pool
    address: str = ""  # what the dialplan dials
    aliases: list[str] = field(default_factory=list)  # what a PBX calls this agent
    presence: Presence = "offline"  # what the agent chose
    state: AgentState = "offline"  # what the agent does
    reason: str = ""
    since: float = 0.0  # in this state
    idle_since: float = 0.0  # place among the available: the longest idle is first
    work: dict[str, Work] = field(default_factory=dict)  # by contact
    missed_in_row: int = 0
    session: str = ""  # the newest sign-in

    @property
    def known_as(self) -> set[str]:
        return {self.id, self.address, *self.aliases} - {""}

    @property
    def load(self) -> int:
        return sum(work["load"] for work in self.work.values())

    @property
    def present(self) -> bool:
        return self.presence in ("available", "paused")

    def takes(self, channel: str) -> int:
        """Percent of attention one contact of the channel takes."""
        return self.capacity.get(channel, FULL)

    def has_room(self, channel: str) -> bool:
        return self.presence == "available" and self.load + self.takes(channel) <= FULL

    def doing(self) -> AgentState:
        phases = {work["phase"] for work in self.work.values()}
        if "talking" in phases:
            return "busy"
        if "wrap_up" in phases:
            return "wrap_up"
        return "offered" if "offered" in phases else self.presence

    def may_practise(self, channel: str, now: float, day: int, supervisor_present: bool) -> bool:
        permit = self.permits.get(channel)
        if permit is None or not supervisor_present or now >= permit["until"]:
            return False
        done = self.practised.get(channel)
        taken = done["taken"] if done and done["day"] == day else 0
        asked = sum(work["phase"] == "offered" and work["channel"] == channel for work in self.work.values())
        return taken + asked < permit["per_day"]

    def is_certified(self, channel: str, now: float) -> bool:
        if self.certificates is None:
            return channel in self.channels
        until = self.certificates.get(channel, 0.0)
        return until is None or now < until


@dataclass
class Contact(Record):
    id: str
    queue: str
    channel: str
    arrived_at: float  # in this queue
    place_at: float = 0.0  # its place in line: kept over transfers and callbacks
    leg: int = 1  # which of the contact's stays in a queue this is
    told_leg: int = 1  # the last that a telephony system told of; those that begin here follow from told_leg * OWN_LEGS
    kind: Literal["inbound", "callback", "transfer"] = "inbound"
    required_skills: Skills = field(default_factory=dict)  # its own; the queue's are added when it is routed
    wants: dict[str, Any] = field(default_factory=dict)  # preferred_skills, language, region, site: see policies
    facts: dict[str, Any] = field(default_factory=dict)  # value, buying_power, tier, preferred_channel, …: see policies
    customer: str = ""
    caller: str = ""
    direction: Direction = "inbound"
    thread: str = ""  # of a matter in writing
    matter: dict[str, Any] | None = None  # see domain.matters
    state: ContactState = "waiting"
    agent: str | None = None
    reserved_for: str | None = None  # asked for by name (a transfer, the owner of a matter): nobody else until `reserved_until`
    reserved_until: float = 0.0
    offer: str | None = None
    passed: dict[str, Pass] = field(default_factory=dict)  # by agent
    parked_at: float | None = None
    parked_until: float | None = None
    polled: bool = False  # a telephony system keeps asking whom to dial: once it asks no more, nobody is there
    pended_at: float | None = None  # since then its owner waits for something
    callback: dict[str, Any] | None = None  # see domain.callback
    estimate: float | None = None  # seconds of wait foretold on arrival
    answered_at: float | None = None
    ended_at: float | None = None
    ended_by: str = ""
    disposition: dict[str, Any] | None = None
    conference: list[dict[str, Any]] = field(default_factory=list)
    suggested: str = ""  # the channel that was suggested
    trace: str = ""  # of what was told of it last: what its offers and all that follows belong to

    @property
    def is_finished(self) -> bool:
        return self.state in ("ended", "abandoned", "released", "closed")

    @property
    def is_promised(self) -> bool:
        """Whether the customer is still to be called back, or just being dialled."""
        return self.kind == "callback" and self.answered_at is None and not self.is_finished

    @property
    def owes_callback(self) -> bool:
        """Whether the customer was promised to be called back once this conversation is over."""
        return (self.callback or {}).get("next_at") is not None and not self.is_promised and not self.is_finished

    def forget_customer(self, stand_in: str) -> None:
        self.customer, self.caller = self.customer and stand_in, ""
        self.facts = {name: value for name, value in self.facts.items() if name not in ABOUT_CUSTOMER}

    @property
    def goes_by(self) -> set[str]:
        """By what a customer who rings again is recognised."""
        return {self.customer, self.caller, str(self.facts.get("caller_ref") or "")} - {""}

    def waited(self, until: float) -> float:
        return max(0.0, round(until - self.arrived_at, 3))


@dataclass
class Offer(Record):
    id: str
    contact: str
    agent: str
    made_at: float
    expires_at: float
    state: OfferState = "open"
    reason: str = ""
    closed_at: float | None = None


def require_text(what: str, value: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{what} must be a text that is not empty.")


def require_no_number(what: str, value: str) -> None:
    """It travels in events, which telephone numbers do not."""
    if DIGITS.search(SEPARATORS.sub("", value)):
        raise Invalid(f"{what} must hold no telephone number: it travels to other services.")


def require_seconds(what: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise Invalid(f"{what} must be a number of seconds above 0, not {value!r}.")


def require_skills(skills: Mapping[str, int]) -> None:
    for skill, level in skills.items():
        require_text("A skill's name", skill)
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= TOP_LEVEL:
            raise Invalid(f"The level of skill {skill!r} must be a whole number from 1 to {TOP_LEVEL}, not {level!r}.")


def _own(value: Any) -> Any:
    """A container of our own, so that a row stays what it was when the entity goes on changing."""
    return value.copy() if isinstance(value, (list, dict)) else value
