"""What schemathesis must know of us: how to write our media types, and what not to do to a running system."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import schemathesis

TEXT = ("application/x-ndjson", "text/event-plain", "application/x-www-form-plaintext", "application/x-www-form-base64-encoded", "text/csv")
LONGEST_WAIT = 0.02
"""Seconds: a long poll that finds nothing would take two minutes."""
LONGEST_QUERY = 6000
"""Beyond it an address is too long for any method, which `unsupported_method` cannot know."""


@schemathesis.serializer(*TEXT)
def as_text(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    query = case.query if isinstance(case.query, dict) else {}
    if LONGEST_WAIT < _number(query.get("wait")) <= 120:
        query["wait"] = LONGEST_WAIT
    for name, value in query.items():
        while isinstance(value, str) and len(quote(value)) > LONGEST_QUERY // len(query):
            value = query[name] = value[: len(value) // 2]
    if case.headers:
        case.headers.pop("Idempotency-Key", None)  # the same one with everything would have everything refused


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
