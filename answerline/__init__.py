"""Answerline's API from Python: `from answerline import Client`. Standard library only; docs/client.md."""

from answerline.client import Client, Event, Unreachable
from answerline.problems import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from answerline.webhooks import BadWebhook, verify_webhook

__all__ = [
    "BadWebhook",
    "Client",
    "Conflict",
    "Event",
    "Forbidden",
    "Invalid",
    "NotFound",
    "Problem",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "verify_webhook",
]
