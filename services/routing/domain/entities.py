"""Queues, agents, contacts and offers: one class a table, one field a column, every value fit for JSON.

Times are epoch seconds (UTC). Who may change what, and when, is the desk's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypedDict

from .errors import Invalid

Skills = dict[str, int]
Row = dict[str, Any]

QueueMode = Literal["observed", "routed"]
AgentState = Literal["offline", "available", "offered", "busy", "wrap_up", "paused"]
ContactState = Literal["waiting", "offered", "assigned", "ended", "abandoned", "parked", "released"]
OfferState = Literal["open", "accepted", "declined", "expired", "withdrawn"]
Direction = Literal["inbound", "outbound"]


class Pass(TypedDict):
    """How often an agent let a contact go by, and when last."""

    at: float
    declined: int
    missed: int


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
    required_skills: Skills = field(default_factory=dict)
    offer_seconds: float = 20
    wrap_up: bool = True
    service_level_seconds: float = 20
    retry_seconds: float = 5

    def validate(self) -> None:
        require_text("A queue's name", self.name)
        require_text("A queue's channel", self.channel)
        require_skills(self.required_skills)
        if self.mode not in ("observed", "routed"):
            raise Invalid(f"A queue's mode is 'observed' or 'routed', not {self.mode!r}.")
        for name in ("offer_seconds", "service_level_seconds", "retry_seconds"):
            require_seconds(name, getattr(self, name))


@dataclass
class Agent(Record):
    id: str
    name: str = ""
    skills: Skills = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)  # certified for these; none = gets no contact
    queues: list[str] = field(default_factory=list)  # serves these; none named = serves all
    address: str = ""  # what the dialplan dials
    aliases: list[str] = field(default_factory=list)  # what a PBX calls this agent
    state: AgentState = "offline"
    reason: str = ""
    since: float = 0.0  # in this state
    idle_since: float = 0.0  # place among the available: the longest idle is first
    offer: str | None = None
    contacts: list[str] = field(default_factory=list)
    wrapping_up: str | None = None  # the contact whose wrap-up this is
    next_state: AgentState | None = None  # asked for during a contact, done after it
    next_reason: str = ""

    @property
    def known_as(self) -> set[str]:
        return {self.id, self.address, *self.aliases} - {""}

    @property
    def has_room(self) -> bool:
        """One contact at a time. A weighted capacity per channel replaces this rule and nothing else."""
        return self.state == "available" and not self.contacts and self.offer is None


@dataclass
class Contact(Record):
    id: str
    queue: str
    channel: str
    arrived_at: float
    leg: int = 1  # which of the contact's queues this is
    required_skills: Skills = field(default_factory=dict)  # its own; the queue's are added when it is routed
    customer: str = ""
    caller: str = ""
    direction: Direction = "inbound"
    state: ContactState = "waiting"
    agent: str | None = None
    offer: str | None = None
    passed: dict[str, Pass] = field(default_factory=dict)  # by agent
    parked_at: float | None = None
    parked_until: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    ended_by: str = ""
    disposition: str | None = None

    @property
    def place(self) -> tuple[float, str]:
        """Order in the line: the smallest goes first. A priority becomes its first element."""
        return (self.arrived_at, self.id)

    @property
    def is_finished(self) -> bool:
        return self.state in ("ended", "abandoned", "released")

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


def require_seconds(what: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise Invalid(f"{what} must be a number of seconds above 0, not {value!r}.")


def require_skills(skills: Mapping[str, int]) -> None:
    for skill, level in skills.items():
        require_text("A skill's name", skill)
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= 5:
            raise Invalid(f"The level of skill {skill!r} must be a whole number from 1 to 5, not {level!r}.")


def _own(value: Any) -> Any:
    """A container of our own, so that a row stays what it was when the entity goes on changing."""
    return value.copy() if isinstance(value, (list, dict)) else value
