"""Who waits for news of what: long polls and live pages. A waiting request costs a greenlet and no worker."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import eventlet
import orjson
from eventlet import Timeout
from eventlet.event import Event

from shared import clock
from shared.http.wsgi import Request
from shared.runtime.web import Watch

ASK_AGAIN_SECONDS = 10.0, 20.0
"""Between these, drawn for each wait: news reach us by event, and a thousand who wait must not ask in step."""


COMES_BACK_SECONDS = 3.0
"""Whoever still wants news asks again within this time after its own was up."""


class Line:
    """One who listens for news of a subject; what came while nobody waited is not missed."""

    def __init__(self) -> None:
        self._news = False
        self._waiting: Event | None = None

    def ring(self) -> None:
        self._news = True
        if self._waiting is not None:
            self._waiting.send(None)
            self._waiting = None

    def wait(self, seconds: float) -> None:
        """Returns on news since the last wait, or when the time is up."""
        if not self._news:
            self._waiting = Event()
            with Timeout(seconds, False):
                self._waiting.wait()
            self._waiting = None
        self._news = False


class Switchboard:
    """Rings those who listen for a subject (a contact's or an agent's id) when routing tells of it."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, set[Line]] = defaultdict(set)
        self.changes = 0

    def hear(self, body: Any) -> None:
        """An event from routing, or None after a gap: then everybody looks again."""
        self.changes += 1
        data = orjson.loads(body)["data"] if body is not None else None
        subjects = list(self._lines) if data is None else [data.get("contact"), data.get("agent")]
        for subject in subjects:
            for line in tuple(self._lines.get(subject, ())):
                line.ring()

    def is_listened_to(self, subject: str) -> bool:
        return subject in self._lines

    @contextmanager
    def listening(self, subject: str) -> Iterator[Line]:
        line = Line()
        self._lines[subject].add(line)
        try:
            yield line
        finally:
            self._lines[subject].discard(line)
            if not self._lines[subject]:
                del self._lines[subject]


def poll(
    board: Switchboard, request: Request, subject: str, ask: Callable[[], Any], is_news: Callable[[Any], bool], on_gone: Callable[[], None]
) -> Any:
    """Ask until there is news, the time is up, or the client has gone (then `on_gone` is called, and nobody reads the answer)."""
    deadline = clock.monotonic() + request.query["wait"]
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        line.ring()

    with board.listening(subject) as line:
        answer = ask()
        if is_news(answer) or clock.monotonic() >= deadline:
            return answer
        with Watch(request, leave):
            while not gone and (left := deadline - clock.monotonic()) > 0:
                line.wait(min(left, random.uniform(*ASK_AGAIN_SECONDS)))  # noqa: S311 - spreads load, guards nothing
                if not gone and is_news(answer := ask()):
                    return answer
    if gone:
        _unless_back(board, subject, on_gone)
    else:
        eventlet.spawn_after(COMES_BACK_SECONDS, _unless_back, board, subject, on_gone)
    return answer


def _unless_back(board: Switchboard, subject: str, on_gone: Callable[[], None]) -> None:
    if not board.is_listened_to(subject):
        on_gone()
