"""Who waits for news of what: long polls and live pages. A waiting request costs a greenlet and no worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import orjson
from eventlet import Timeout
from eventlet.event import Event

from services.gateway.metrics import WAITING_REQUESTS
from shared import clock
from shared.http.wsgi import Request
from shared.runtime.web import Watch

ASK_AGAIN_SECONDS = 5.0


class Switchboard:
    """Wakes those who wait for a subject (a contact's or an agent's id) when routing tells of it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[Event]] = defaultdict(set)
        self.changes = 0

    def hear(self, body: Any) -> None:
        """An event from routing, or None after a gap: then everybody looks again."""
        self.changes += 1
        if body is None:
            subjects = list(self._waiting)
        else:
            data = orjson.loads(body)["data"]
            subjects = [subject for subject in (data.get("contact"), data.get("agent")) if subject in self._waiting]
        for subject in subjects:
            for waiter in self._waiting.pop(subject, ()):
                waiter.send(True)

    def wait(self, subject: str, seconds: float) -> bool:
        """Whether there was news within that time."""
        waiter = Event()
        self._waiting[subject].add(waiter)
        try:
            with Timeout(seconds, False):
                return bool(waiter.wait())
            return False
        finally:
            waiting = self._waiting.get(subject)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiting[subject]

    def wake(self, subject: str) -> None:
        for waiter in self._waiting.pop(subject, ()):
            waiter.send(True)


def poll(
    board: Switchboard, request: Request, subject: str, ask: Callable[[], Any], is_news: Callable[[Any], bool], on_gone: Callable[[], None]
) -> Any:
    """Ask until there is news, the time is up, or the client has gone (then `on_gone` is called, and nobody reads the answer)."""
    deadline = clock.monotonic() + request.query["wait"]
    answer = ask()
    if is_news(answer) or clock.monotonic() >= deadline:
        return answer
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        board.wake(subject)

    with WAITING_REQUESTS.labels("poll").track_inprogress(), Watch(request, leave):
        while not gone and (left := deadline - clock.monotonic()) > 0:
            board.wait(subject, min(left, ASK_AGAIN_SECONDS))
            if not gone:
                answer = ask()
                if is_news(answer):
                    return answer
    if gone:
        on_gone()
    return answer
