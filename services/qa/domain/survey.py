"""Whom to ask whether they are satisfied, and how often: a customer who is asked too often answers no more."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

DAY = 86400.0
FRESH_SECONDS = 6 * 3600.0
"""A contact of which is heard later than that after its end is surveyed no more."""


@dataclass(frozen=True)
class Rule:
    """`share` of the contacts are asked, `delay_seconds` after their end, nobody within `fatigue_days` after the last time that they were asked
    anything; an answer is waited for `answer_days`. `languages` and `questions` are the sender's affair: the webhook says which rule."""

    queue: str = "default"
    enabled: bool = False
    share: float = 1.0
    fatigue_days: float = 30.0
    delay_seconds: float = 300.0
    answer_days: float = 7.0
    channels: tuple[str, ...] = ()


def draw(contact: str) -> float:
    """A number from 0 to 1 that is always the same for a contact and independent of all that is known of it."""
    return int.from_bytes(hashlib.sha256(f"survey {contact}".encode()).digest()[:8], "big") / 2**64


def refusal(rule: Rule, contact: str, customer: str, channel: str, ended_at: float, asked_at: float | None, now: float) -> str:
    """Why this customer is not asked after this contact; "": they are. `asked_at`: the last time that they were."""
    if not rule.enabled:
        return "off"
    if not customer:
        return "unknown_customer"
    if rule.channels and channel not in rule.channels:
        return "channel"
    if now - ended_at > FRESH_SECONDS:
        return "late"
    if asked_at is not None and ended_at - asked_at < rule.fatigue_days * DAY:
        return "fatigue"
    return "" if draw(contact) < rule.share else "share"
