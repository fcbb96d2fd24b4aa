"""Refusals as exceptions: the problem documents (RFC 9457) of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any


class Problem(Exception):
    """An answer other than success. `detail` says what to mend, `errors` has messages by field, `document` is the whole of it.
    `retry_after`: seconds after which it may be tried again, where the answer said so."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", ""))
        self.errors: dict[str, Any] = dict(document.get("errors") or {})
        self.document = dict(document)
        self.retry_after = retry_after
        super().__init__(f"{status} {self.title}: {self.detail}" + (f" {self.errors}" if self.errors else ""))


class Unauthenticated(Problem):
    """401: the key is not valid, or not valid any more."""


class Forbidden(Problem):
    """403: the key lacks the role, or what it asks for is outside its sites and teams."""


class NotFound(Problem):
    """404."""


class Conflict(Problem):
    """409: things are not as the request supposes."""


class Invalid(Problem):
    """422: `errors` names the fields."""


class TooManyRequests(Problem):
    """429, and all tries are used up."""


class Unavailable(Problem):
    """503, and all tries are used up."""


KINDS: dict[int, type[Problem]] = {
    401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict, 422: Invalid, 429: TooManyRequests, 503: Unavailable,
}  # fmt: skip


def problem_of(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    """The exception for an answer. What is no problem document, as from a proxy between, is quoted."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": "No problem document", "detail": body[:200].decode("utf-8", "replace")}
    return KINDS.get(status, Problem)(status, document, seconds_of(headers.get("Retry-After")))


def seconds_of(retry_after: str | None) -> float | None:
    """Retry-After: whole seconds, or a date."""
    if not retry_after:
        return None
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time(), 0.0)
    except ValueError:
        return None
