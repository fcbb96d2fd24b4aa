"""Whether a webhook comes from your Answerline: signatures as Standard Webhooks say (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

PREFIX, VERSION = "whsec_", "v1,"
TOLERANCE_SECONDS = 300.0


class BadWebhook(Exception):
    """It is not, or not any more, what your Answerline signed: answer 401, and do nothing of what it says."""


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """The event in `body` (the bytes as they came), having checked that a secret of yours (whsec_…; two while one replaces the other) signed it
    at most `tolerance` seconds before or after `now` (epoch seconds; by default the present).

    A post may come twice: pass over a `webhook-id` that you have had. Raises BadWebhook, and ValueError for a secret that is none."""
    given = {name.lower(): value for name, value in headers.items()}
    id, sent, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id and sent and signatures):
        raise BadWebhook("webhook-id, webhook-timestamp or webhook-signature is missing")
    if not (sent.isascii() and sent.isdigit()) or abs((time.time() if now is None else now) - int(sent)) > tolerance:
        raise BadWebhook(f"webhook-timestamp is not within {tolerance:g} s of this machine's clock")
    signed = f"{id}.{sent}.".encode() + body
    offered = [one.removeprefix(VERSION).encode() for one in signatures.split() if one.startswith(VERSION)]
    fits = False
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        right = base64.b64encode(hmac.digest(_key(secret), signed, "sha256"))
        for one in offered:
            fits |= hmac.compare_digest(right, one)
    if not fits:
        raise BadWebhook("no signature fits: is it the secret of this webhook, and the body as it came, byte for byte?")
    event: dict[str, Any] = json.loads(body)
    return event


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"a webhook's secret is {PREFIX} and base64") from None
