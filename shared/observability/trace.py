"""Which request all this comes from: a W3C trace context, begun at the door or by whoever asked, and carried through events, questions and logs.

No spans are made here: every event, question and log line of one trace bears the `traceparent` of the request that began it.
"""

import os
import re
from contextvars import ContextVar

KEY = "traceparent"
HEADER = "HTTP_TRACEPARENT"
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str] = ContextVar("traceparent", default="")


def begin(told: str = "") -> None:
    """From now on, in this thread of work: the trace that the sender told of, or a new one."""
    if not (told and _VALID.fullmatch(told)):
        drawn = os.urandom(24).hex()
        told = f"00-{drawn[:32]}-{drawn[32:]}-01"
    _current.set(told)


def adopt(traceparent: str | None) -> None:
    """From now on, in this thread of work: a trace that came from inside; none where it is empty."""
    _current.set(traceparent or "")


def current() -> str:
    """The `traceparent` that we work under, or an empty text."""
    return _current.get()


def id_of(traceparent: str) -> str:
    """The trace's id alone, as tracing systems and logs name it."""
    return traceparent[3:35]
