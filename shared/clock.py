"""Time at the edges: epoch seconds in UTC inside, RFC 3339 text outside."""

import time
from datetime import UTC, datetime

now = time.time
monotonic = time.monotonic


def to_text(seconds: float) -> str:
    """Epoch seconds as RFC 3339 text in UTC, to the millisecond: `2026-11-21T21:24:18.585Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def from_text(text: str) -> float:
    """RFC 3339 text with a zone as epoch seconds. Raises ValueError where the text or its zone is missing or wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        plus = " (the + of a zone is %2B in an address)" if " " in text else ""
        raise ValueError(f"this is not a time: write 2026-11-21T21:24:18Z or 2026-11-21T21:24:18+08:00{plus}") from error
    if moment.tzinfo is None:
        raise ValueError("the time has no zone: write 2026-11-21T21:24:18Z or 2026-11-21T21:24:18+08:00")
    return moment.timestamp()
