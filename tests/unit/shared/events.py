"""Events to be sent and received: the smallest that the contracts know."""

from __future__ import annotations

from typing import Any

import orjson

from shared import contracts
from shared.bus.envelope import Event

TYPE = "gateway.source_restarted.v1"
MOMENT = 1_800_000_000.0


def event(subject: str = "a", sequence: int = 1, **data: Any) -> Event:
    return Event(TYPE, subject, {"source": "pbx1", "at": MOMENT, **data}, MOMENT, sequence)


def body(event: Event) -> bytes:
    return orjson.dumps(Event(**{**fields(event), "data": contracts.write(event.type, event.data)}).envelope())


def broken(event: Event) -> bytes:
    """The envelope is right, the data are not."""
    return orjson.dumps(Event(**{**fields(event), "data": {"source": 5}}).envelope())


def fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__}
