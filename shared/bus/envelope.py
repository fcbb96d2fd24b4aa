"""The envelope of every event: CloudEvents 1.0 in structured JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared import clock
from shared.ids import new_id

CONTENT_TYPE = "application/cloudevents+json"
LONGEST_NAME = 650


class BadEnvelope(ValueError):
    """A message that is no event; the text says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `type` is `<publisher>.<what_happened>.v<N>`, `subject` the aggregate's id, `time` epoch seconds,
    `sequence` counts the events of one aggregate from 1."""

    type: str
    subject: str
    data: dict[str, Any]
    time: float
    sequence: int
    id: str = field(default_factory=new_id)
    correlation: str | None = None
    cause: str | None = None
    trace: str | None = None

    @property
    def publisher(self) -> str:
        return self.type.partition(".")[0]

    def envelope(self, data: dict[str, Any] | None = None, trace: str | None = None) -> dict[str, Any]:
        """The event as CloudEvents structured JSON, with `data` in its published form (None: ours is already)."""
        publisher = self.publisher
        told = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/answerline/{publisher}",
            "type": self.type,
            "subject": self.subject,
            "time": clock.to_text(self.time),
            "datacontenttype": "application/json",
            "sequence": self.sequence,
        }
        if self.correlation:
            told["correlationid"] = self.correlation
        if self.cause:
            told["causationid"] = self.cause
        if trace := trace or self.trace:
            told["traceparent"] = trace
        told["data"] = self.data if data is None else data
        return told


Load = Callable[[str, dict[str, Any]], dict[str, Any]]


def parse(body: bytes | str, load: Load | None = None) -> Event:
    """Read an envelope; `data` is checked and changed by `load(type, data)`, and without it left as it came. Raises BadEnvelope, and
    what `load` raises."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadEnvelope(f"not JSON: {error}") from error
    try:
        type_, subject, data, sequence, id = message["type"], message["subject"], message["data"], message["sequence"], message["id"]
        time = clock.from_text(message["time"])
        optional = message.get("correlationid"), message.get("causationid"), message.get("traceparent")
    except KeyError as error:
        raise BadEnvelope(f"the envelope lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise BadEnvelope(f"the envelope cannot be read: {error}") from error
    if not (type(type_) is type(subject) is type(id) is str and type(data) is dict and type(sequence) is int):
        raise BadEnvelope("the envelope's type, subject and id are text, its data an object, its sequence a whole number")
    if any("\0" in name or len(name) > LONGEST_NAME for name in (type_, subject, id)):
        raise BadEnvelope(f"the envelope's type, subject and id hold no NUL and at most {LONGEST_NAME} characters: databases index them")
    return Event(type_, subject, load(type_, data) if load else data, time, sequence, id, *optional)
