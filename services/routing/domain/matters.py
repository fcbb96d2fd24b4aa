"""A matter in writing, which may last days: whose it is, who gets the thread's next message, by when a reply is due, when to call instead.

    matter = received(Matter("t1"), now, rules, add)       # a message of the customer: the reply target runs
    hands(matter, now, signed_in, add, rules)              # its owner alone, until when; or the queue
    matter = replied(matter, "anna", now)                  # anna owns it
    matter = pended(matter)                                # nothing to do for now: anna's capacity is free, the matter stays hers

Moments are epoch seconds UTC; `add(start, seconds)` gives the moment so many business seconds later, None where they never open again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, Self

from .entities import require_seconds
from .errors import Conflict, Invalid

AddBusinessSeconds = Callable[[float, float], float | None]
State = Literal["waiting", "assigned", "pending", "closed"]


@dataclass(frozen=True)
class Rules:
    """Seconds are business seconds."""

    reply_seconds: float = 4 * 3600  # the target, from the customer's first message not yet answered
    owner_seconds: float = 3600  # so long an owner who is away may come back to it; 0: not at all
    call_after_replies: int = 3  # R9: so much writing to and fro, then a call is suggested; 0: never

    def __post_init__(self) -> None:
        require_seconds("reply_seconds", self.reply_seconds)
        if self.owner_seconds != 0:
            require_seconds("owner_seconds", self.owner_seconds)
        if isinstance(self.call_after_replies, bool) or not isinstance(self.call_after_replies, int) or self.call_after_replies < 0:
            raise Invalid(f"call_after_replies must be a whole number from 0 up, not {self.call_after_replies!r}.")


@dataclass(frozen=True)
class Matter:
    thread: str
    owner: str | None = None
    state: State = "waiting"
    replies: int = 0  # ours
    unanswered_since: float | None = None  # the customer's first message without a reply
    message_at: float | None = None  # the customer's last
    reply_due: float | None = None  # None: nothing to answer, or no target
    call_suggested: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**stored)


class Hands(NamedTuple):
    """Who is asked: `owner` alone until `until`, then (and where owner is None) anybody of the queue. None as until: without end."""

    owner: str | None
    until: float | None


def received(matter: Matter, now: float, rules: Rules, add: AddBusinessSeconds) -> Matter:
    """A message of the customer. The reply target runs from the first that is unanswered: writing again does not put it off.

    A matter closed is open again, with its owner. One that somebody works on stays theirs.
    """
    state: State = "assigned" if matter.state == "assigned" else "waiting"
    if matter.unanswered_since is not None:
        return replace(matter, state=state, message_at=now)
    return replace(matter, state=state, message_at=now, unanswered_since=now, reply_due=add(now, rules.reply_seconds))


def hands(matter: Matter, now: float, signed_in: Callable[[str], bool], add: AddBusinessSeconds, rules: Rules) -> Hands:
    """Who gets a matter that waits.

    Its owner while signed in, as long as they can reply in time; an owner who is away has `owner_seconds` from the customer's last
    message to sign in. Then anybody: a thread does not wait for one person.
    """
    if matter.state != "waiting":
        raise Conflict(f"The matter is {matter.state}: it waits for nobody.")
    if matter.owner is None or matter.message_at is None:
        return Hands(None, None)
    back = add(matter.message_at, rules.owner_seconds) if rules.owner_seconds else matter.message_at
    until = back
    if signed_in(matter.owner):
        # a reply target that has passed, or was shorter than the owner's time, takes nothing of that time away
        until = None if back is None or matter.reply_due is None else max(back, matter.reply_due)
    if until is not None and until <= now:
        return Hands(None, None)
    return Hands(matter.owner, until)


def taken(matter: Matter, agent: str) -> Matter:
    """An agent works on it and owns it from now on."""
    if matter.state == "closed":
        raise Conflict("The matter is closed.")
    return replace(matter, state="assigned", owner=agent)


def replied(matter: Matter, agent: str, now: float) -> Matter:
    """An agent wrote to the customer: whatever was unanswered is answered. now: when; a reply older than the last message answers nothing."""
    if matter.state != "assigned" or matter.owner != agent:
        raise Conflict(f"The matter is not with agent {agent}.")
    if matter.message_at is not None and now < matter.message_at:
        return replace(matter, replies=matter.replies + 1)
    return replace(matter, replies=matter.replies + 1, unanswered_since=None, reply_due=None)


def pended(matter: Matter) -> Matter:
    """The owner waits for the customer or for somebody else: capacity is given back; owner, thread and reply target stay."""
    if matter.state == "pending":
        return matter
    if matter.state != "assigned":
        raise Conflict(f"The matter is {matter.state}: only one that an agent works on can be pending.")
    return replace(matter, state="pending")


def closed(matter: Matter) -> Matter:
    """Settled. The owner is remembered: the thread's next message goes to them first."""
    return replace(matter, state="closed", unanswered_since=None, reply_due=None)


def suggest_call(matter: Matter, rules: Rules) -> bool:
    """Whether it is time to suggest a call (R9): after so many replies, once a thread. The caller then notes `call_suggested`."""
    return 0 < rules.call_after_replies <= matter.replies and not matter.call_suggested and matter.state != "closed"


def is_late(matter: Matter, now: float) -> bool:
    return matter.reply_due is not None and matter.reply_due < now
