"""What webhooks go by: which events a subscription wants, how a post is signed, when a delivery is tried again, and what a receiver's
answer means. Signatures and schedule are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

PREFIX = "whsec_"
KEY_BYTES = 32

STEPS = (5.0, 60.0, 300.0, 1800.0, 2 * 3600.0, 5 * 3600.0, 10 * 3600.0, 14 * 3600.0, 20 * 3600.0, 24 * 3600.0)
"""About how long to wait after each failed attempt, in seconds; some three days together. After the one that follows the last step a
delivery is given up."""

LONGEST_WAIT = 24 * 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
LONGEST_ASKED_PAUSE = 3600.0
PATIENCE = 5 * 86400.0
"""A receiver of which nothing but failures came for so long is not written to any more."""

CLOUDEVENTS, SLACK = FORMATS = ("cloudevents", "slack")
EXCERPT = 200
GONE = 410

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"


def chosen(patterns: Iterable[str], types: Iterable[str]) -> frozenset[str]:
    """The types of event that patterns mean; `*` stands for any characters."""
    parts = [pattern.split("*") for pattern in patterns]
    return frozenset(type for type in types if any(_fits(type, *one) for one in parts))


def _fits(type: str, first: str, *others: str) -> bool:
    """Whether a type is made of these parts with any characters between. From part to part, each at the first place where it stands: a
    regular expression with many `.*` tries all places together, for years."""
    if not others:
        return type == first
    *inner, last = others
    at, end = len(first), len(type) - len(last)
    for part in inner:
        found = type.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return type.startswith(first) and type.endswith(last) and at <= end


def secret_of(key: bytes) -> str:
    """A secret as it is shown: 24 to 64 random bytes in base64, marked as what they are."""
    return PREFIX + base64.b64encode(key).decode()


def signed_headers(secrets: Iterable[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a post: a signature (HMAC-SHA256 over `id.timestamp.body`) for each secret, so that whoever knows one can check it."""
    signed = f"{id}.{timestamp}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix(PREFIX)) for secret in secrets]
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys]
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}


@dataclass(frozen=True)
class Next:
    """What follows from an attempt. `wait`: seconds until this delivery's next attempt (None: there is none). `pause`: seconds in which
    the receiver gets nothing at all."""

    state: str
    wait: float | None = None
    pause: float = 0.0


def follow(status: int | None, attempts: int, failures: int, retry_after: float | None, draw: float) -> Next:
    """What follows from the answer `status` (None: none came) to a delivery's attempt number `attempts`, from 1, where the receiver's last
    `failures` attempts failed, this one included. `retry_after`: seconds that the receiver asked for. `draw`: random, from 0 to 1.

    Exponential backoff with full jitter: the wait is anything up to twice its step, so that it is the step on average.
    """
    if status is not None and 200 <= status < 300:
        return Next(DELIVERED)
    if status == GONE:
        return Next(DEAD)
    asked = retry_after or 0.0
    pause = max(draw * min(FIRST_PAUSE * 2.0 ** min(failures, 10), 2 * LONGEST_PAUSE), min(asked, LONGEST_ASKED_PAUSE))
    if attempts > len(STEPS):
        return Next(DEAD, pause=pause)
    wait = max(draw * 2 * STEPS[attempts - 1], min(asked, LONGEST_WAIT))
    return Next(PENDING, wait, pause)


def retry_after(text: str, now: float) -> float | None:
    """The seconds that a Retry-After asks for, given as seconds or as a date (RFC 9110); None where it says nothing sensible."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def is_hopeless(failing_since: float | None, now: float) -> bool:
    return failing_since is not None and now - failing_since >= PATIENCE


HIDDEN = re.compile(
    r"""(?ix) whsec_\S+ | \bal_\S+ | (?:bearer|basic)\s+\S+         # keys, as they are usually written
      | (?:password|passwd|token|secret|api_?key)["']?\s*[=:]\s*\S+
      | [^\s"'<>,;:=@]+ @ [^\s"'<>,;]+                            # mail addresses
      | [a-z0-9+/_=-]{24,}                                       # anything long and random
      | \+?\d[\d\s()./-]{4,}\d                                   # telephone numbers, cards"""
)


def excerpt(body: bytes) -> str:
    """The beginning of an answer, for an administrator who wonders what is wrong: one line, without what looks like a number, a mail
    address or a key."""
    words = body[: 4 * EXCERPT].decode("utf-8", "replace").split()
    if len(body) > 4 * EXCERPT:
        words = words[:-1]  # it was cut, and half a key is not known for one
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(words))
    shown = HIDDEN.sub("…", text)
    return shown if len(shown) <= EXCERPT else shown[: EXCERPT - 1] + "…"
