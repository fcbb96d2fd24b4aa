"""kombu's in-memory transport, whose readers are woken by a message for them instead of looking for one every few milliseconds."""

from __future__ import annotations

from threading import Event
from time import monotonic
from typing import Any

from kombu.transport import memory

LOOK_SECONDS = 0.5
_waiting: dict[Transport, Event] = {}


class Channel(memory.Channel):
    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)  # type: ignore[no-untyped-call]
        for transport, arrived in list(_waiting.items()):
            if not arrived.is_set() and any(queue in channel._active_queues for channel in transport.channels):
                arrived.set()


class Transport(memory.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **_kwargs: Any) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            try:
                super().drain_events(connection, timeout=0)  # type: ignore[no-untyped-call]
                return
            except TimeoutError:
                left = LOOK_SECONDS if deadline is None else deadline - monotonic()
                if left <= 0:
                    raise
            arrived = _waiting[self] = Event()
            try:
                arrived.wait(min(left, LOOK_SECONDS))
            finally:
                del _waiting[self]
