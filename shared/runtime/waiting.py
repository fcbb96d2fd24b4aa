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
"""Whoever still wants news asks again within this time after its own was up, unless it says how long it will be away."""


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
        self._last: dict[str, int] = {}
        self._asked = 0
        self.changes = 0

    def hear(self, body: Any) -> None:
        """An event from routing, or None after a gap: then everybody looks again."""
        self.changes += 1
        data = orjson.loads(body)["data"] if body is not None else None
        subjects = list(self._lines) if data is None else [data.get("contact"), data.get("agent")]
        for subject in subjects:
            self.ring(subject)

    def ring(self, subject: str) -> None:
        """There are news of ours about this."""
        for line in tuple(self._lines.get(subject, ())):
            line.ring()

    def asks(self, subject: str) -> int:
        """Somebody asks and will be back. Returns a number by which it is known whether anybody has asked since."""
        self._asked += 1
        self._last[subject] = self._asked
        return self._asked

    def is_deserted(self, subject: str, since: int) -> bool:
        """Whether nobody listens, and nobody has asked since; then nothing more is kept of the subject."""
        if subject in self._lines or self._last.get(subject, since) != since:
            return False
        self._last.pop(subject, None)
        return True

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
    board: Switchboard,
    request: Request,
    subject: str,
    ask: Callable[[], Any],
    is_news: Callable[[Any], bool],
    on_gone: Callable[[], None],
    is_over: Callable[[Any], bool] | None = None,
    back: float = 0.0,
    ask_again: tuple[float, float] = ASK_AGAIN_SECONDS,
) -> Any:
    """Ask until there is news, the time is up, or the client has gone (then `on_gone` is called, and nobody reads the answer). `on_gone`
    is called too when the matter is not over and nobody asks again within `back` seconds. A look alone (no wait, and `back` 0) promises
    nothing."""
    wait = request.query["wait"]
    deadline = clock.monotonic() + wait
    mine = board.asks(subject) if wait or back else 0
    over = gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        line.ring()

    try:
        with board.listening(subject) as line:
            answer = ask()
            if not is_news(answer) and clock.monotonic() < deadline:
                with Watch(request, leave):
                    while not gone and (left := deadline - clock.monotonic()) > 0:
                        line.wait(min(left, random.uniform(*ask_again)))  # noqa: S311 - spreads load, guards nothing
                        if not gone and is_news(answer := ask()):
                            break
        over = (is_over or is_news)(answer)
        return answer
    finally:
        if over:
            board.is_deserted(subject, mine)
        elif gone:
            _unless_back(board, subject, mine, on_gone)
        elif mine:
            eventlet.spawn_after(back or COMES_BACK_SECONDS, _unless_back, board, subject, mine, on_gone)


def expect(board: Switchboard, subject: str, seconds: float, on_gone: Callable[[], None]) -> None:
    """Whoever announced the subject said that it will ask; if nobody does within so many seconds, `on_gone` is called."""
    eventlet.spawn_after(seconds, _unless_back, board, subject, board.asks(subject), on_gone)


def _unless_back(board: Switchboard, subject: str, since: int, on_gone: Callable[[], None]) -> None:
    if board.is_deserted(subject, since):
        on_gone()
