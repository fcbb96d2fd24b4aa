"""Events as the gateway would announce them, straight into routing's inbox: more than a gateway could make in a test's time."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from kombu import Connection

from shared import clock
from shared.bus.relay import Sender
from shared.contracts import topology
from shared.ids import new_id

SOURCE = "synthetic"
CALLS = 500


class Stream:
    """Calls of three events each; some events are sent twice, as a relay may."""

    def __init__(self, url: str, random: random.Random) -> None:
        self._url, self._random = url, random
        self.ids: set[str] = set()
        self.calls = self.sent = 0

    def send(self, calls: int = CALLS) -> None:
        events = [event for _ in range(calls) for event in self._call()]
        events += self._random.sample(events, len(events) // 20)
        self.ids |= {event["id"] for event in events}
        publish(self._url, map(orjson.dumps, events))
        self.sent += len(events)

    def send_shuffled(self, calls: int = CALLS, again: float = 0.2, over: int = 1000) -> None:
        """Each event up to `over` places away from its own, and that share of them twice."""
        events = [event for _ in range(calls) for event in self._call()]
        events += self._random.sample(events, int(len(events) * again))
        events = [event for _, event in sorted(enumerate(events), key=lambda pair: pair[0] + self._random.uniform(0, over))]
        self.ids |= {event["id"] for event in events}
        publish(self._url, map(orjson.dumps, events))
        self.sent += len(events)

    def _call(self) -> list[dict[str, Any]]:
        self.calls += 1
        contact = new_id()
        at = clock.now() - 86400 + self.calls
        leg = {"number": 1, "queue": "flood", "call": f"{self.calls}", "arrived_at": at, "missed": {}}
        answered = leg | {"agent": "A", "answered_at": at + 2, "hold_seconds": 2.0}
        ended = answered | {"ended_at": at + 5, "talk_seconds": 3.0, "ended_by": "agent"}
        steps = {"contact_arrived": leg | {"outcome": "waiting"}, "contact_answered": answered | {"outcome": "talking"}}
        steps["contact_ended"] = ended | {"outcome": "completed"}
        return [envelope(f"gateway.{what}.v1", contact, leg, number) for number, (what, leg) in enumerate(steps.items(), 1)]


def envelope(type: str, contact: str, leg: dict[str, Any], sequence: int = 1) -> dict[str, Any]:
    told = {name: clock.to_text(value) if name.endswith("_at") else value for name, value in leg.items()}
    return {
        "specversion": "1.0", "id": new_id(), "source": "/answerline/gateway", "type": type, "subject": contact,
        "time": told["arrived_at"], "datacontenttype": "application/json", "sequence": sequence,
        "data": {"contact": contact, "source": SOURCE, "channel": "voice", "required_skills": {}, "leg": told},
    }  # fmt: skip


def publish(url: str, bodies: Iterable[bytes], queue: str = topology.inbox_queue("routing")) -> None:
    """All of them, confirmed by the broker."""
    with Connection(url, transport_options={"confirm_publish": False}, connect_timeout=5) as connection:
        sender = Sender(connection, confirms=True)
        rows = [(number, str(uuid.uuid4()), body, "", queue) for number, body in enumerate(bodies)]
        assert len(sender.send(rows)) == len(rows)  # type: ignore[arg-type]


def backlog(connection: Connection, receiver: str = "routing") -> tuple[int, int]:
    """(messages that no consumer has, consumers) of a service's inbox."""
    with connection.channel() as channel:
        found = channel.queue_declare(topology.inbox_queue(receiver), passive=True)
        return found.message_count, found.consumer_count


Say = Callable[..., None]
