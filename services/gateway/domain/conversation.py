"""What a caller hears who waits for an agent at a telephony system that asks us for each next step: music, their place, a telephone that
rings, another queue, or goodbye. Pure; twiml.py and others of its kind put a step into words that the system understands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.gateway.domain import announcements
from services.gateway.domain.announcements import Language

FIRST_WORDS_SECONDS = 5.0
EVERY_SECONDS = 60.0
RING_SECONDS = 30
SHORTEST_RING_SECONDS = 5
"""A telephone that rings for less is answered by nobody."""
WAITING = frozenset({"waiting", "parked"})
OVER = frozenset({"ended", "abandoned"})


@dataclass(frozen=True)
class Hold:
    """Music, before it perhaps words, and after it the next question. `say_at` (epoch seconds): when there are words again."""

    text: str
    language: Language
    say_at: float


@dataclass(frozen=True)
class Ring:
    """An agent's telephone rings for so many seconds. `offer` is empty where the agent has taken the contact in a program already."""

    agent: str
    address: str
    offer: str
    seconds: int


@dataclass(frozen=True)
class Fallback:
    """Not ours to route, or out of reach: the telephony system's own queue takes the caller."""


@dataclass(frozen=True)
class Goodbye:
    text: str = ""
    language: Language = "en"


Step = Hold | Ring | Fallback | Goodbye


def next_step(found: Mapping[str, Any] | None, text: str, language: Language, say_at: float, now: float, expires_at: float | None) -> Step:
    """What comes next, by the assignment as routing has it (None: it does not answer). `text`: what there is to tell who waits; `say_at`:
    when it is due; `expires_at`: when the offer to the agent ends. All times are epoch seconds."""
    state = found["state"] if found else None
    if found is None or state not in (*WAITING, *OVER, "offered", "assigned", "closed", "callback"):
        return Fallback()
    if state == "offered" and (offer := found.get("offer")):
        left = RING_SECONDS if expires_at is None else math.floor(expires_at - now)
        return Ring(offer["agent"], offer.get("address") or "", offer["id"], max(SHORTEST_RING_SECONDS, left))
    if state == "assigned":
        return Ring(found.get("agent") or "", found.get("address") or "", "", RING_SECONDS)
    if state == "closed":
        return Goodbye(announcements.closed(language, found.get("message") or {}), language)
    if state == "callback":
        return Goodbye(announcements.promised(language), language)
    if state in OVER:
        return Goodbye()
    if now < say_at:
        return Hold("", language, say_at)
    return Hold(text, language, now + float(found.get("announce_every_seconds") or EVERY_SECONDS))
