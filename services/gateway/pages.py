"""Pages for people: the live wallboard with the stream behind it, and the API for reading."""

from __future__ import annotations

import hashlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import structlog

from services.gateway.metrics import WAITING_REQUESTS
from shared import clock
from shared.errors import AnswerlineError, NotFound
from shared.http.endpoint import Response
from shared.http.wsgi import Request
from shared.runtime.web import Watch

log = structlog.get_logger()

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CONTENT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'"
PAGE_HEADERS = [("Content-Security-Policy", CONTENT_POLICY), ("Referrer-Policy", "no-referrer")]

ASK_PAUSE_SECONDS = 0.25
ASK_ANYWAY_SECONDS = 2.0
HEARTBEAT_SECONDS = 15.0
SEND_BUFFER_BYTES = 65_536
RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": still here\n\n"

Figures = Callable[[], dict[str, Any]]


# ---- files


class File(NamedTuple):
    body: bytes
    content_type: str
    tag: str


def _read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, TYPES[path.suffix], f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"')


FILES = {path.name: _read(path) for path in STATIC.iterdir() if path.suffix in TYPES}
WALLBOARD = (STATIC / "wallboard.html").read_bytes()
DOCS = (STATIC / "docs.html").read_bytes()


def wallboard() -> Response:
    return _page(WALLBOARD)


def docs() -> Response:
    return _page(DOCS)


def _page(body: bytes) -> Response:
    return Response(body, content_type="text/html; charset=utf-8", headers=list(PAGE_HEADERS))


def static(name: str) -> Response:
    """Style, script or icon of the pages. Raises NotFound."""
    file = FILES.get(name)
    if file is None:
        raise NotFound(f"no file is called {name}")
    return Response(file.body, content_type=file.content_type, headers=[("ETag", file.tag), ("Cache-Control", "no-cache")])


# ---- the stream


class Board(Protocol):
    """Counts the news from routing."""

    changes: int


def stream(board: Board, figures: Figures, request: Request) -> Response:
    """The wallboard's figures as server-sent events, for as long as the client listens."""
    headers = [("X-Accel-Buffering", "no")]
    if request.environ.get("REQUEST_METHOD") == "HEAD":
        return Response(b"", content_type="text/event-stream", headers=headers)
    return Response(_listen(board, figures, request), content_type="text/event-stream; charset=utf-8", headers=headers)


def _listen(board: Board, figures: Figures, request: Request) -> Iterator[bytes]:
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        broadcast.wake()

    _limit_buffer(request)
    with WAITING_REQUESTS.labels("stream").track_inprogress(), _join(board, figures) as broadcast, Watch(request, leave):
        yield RETRY
        heard = 0
        while not gone:
            number, event = broadcast.after(heard, lambda: gone)
            if number > heard:
                heard = number
                yield event
            elif not gone:
                yield HEARTBEAT


def _limit_buffer(request: Request) -> None:
    """A listener that does not read must be noticed before megabytes are waiting for it in the kernel."""
    source = request.environ.get("eventlet.input")
    if source is not None:
        source.get_socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


_broadcasts: dict[Board, Broadcast] = {}
_joining = threading.Lock()


@contextmanager
def _join(board: Board, figures: Figures) -> Iterator[Broadcast]:
    """The one broadcast of this process: it begins with the first listener and ends with the last."""
    with _joining:
        if board not in _broadcasts:
            _broadcasts[board] = Broadcast(board, figures)
            _broadcasts[board].start()
        broadcast = _broadcasts[board]
        broadcast.listeners += 1
    try:
        yield broadcast
    finally:
        with _joining:
            broadcast.listeners -= 1
            if not broadcast.listeners:
                del _broadcasts[board]
                broadcast.running = False


class Broadcast:
    """Asks routing when there was news, once for all listeners, and keeps the newest event for them.

    A listener that was busy writing simply misses what was in between: every event holds all the figures.
    """

    def __init__(self, board: Board, figures: Figures) -> None:
        self.board = board
        self.figures = figures
        self.listeners = 0
        self.running = True
        self.number = 0
        self.event = b""
        self.told: tuple[str, bytes] | None = None
        self.changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._run, name="broadcast", daemon=True).start()

    def after(self, heard: int, is_gone: Callable[[], bool]) -> tuple[int, bytes]:
        """The newest event and its number, as soon as it is newer than `heard`; the old one when nothing came until a heartbeat is due."""
        with self.changed:
            self.changed.wait_for(lambda: self.number > heard or is_gone(), HEARTBEAT_SECONDS)
            return self.number, self.event

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _run(self) -> None:
        asked_at, seen = -math.inf, None
        while self.running:
            news = self.board.changes != seen and not self.failing
            if news or clock.monotonic() - asked_at >= ASK_ANYWAY_SECONDS:
                seen, asked_at = self.board.changes, clock.monotonic()
                self._tell(*self._ask())
            time.sleep(ASK_PAUSE_SECONDS)

    @property
    def failing(self) -> bool:
        return self.told is not None and self.told[0] == "unavailable"

    def _ask(self) -> tuple[str, dict[str, Any]]:
        try:
            return "figures", self.figures()
        except AnswerlineError as error:
            return "unavailable", {"detail": error.detail}
        except Exception as error:
            log.exception("the live figures failed", error=type(error).__name__)
            return "unavailable", {"detail": "the figures failed here; the log says how"}

    def _tell(self, kind: str, what: dict[str, Any]) -> None:
        told = kind, orjson.dumps(what)
        if told == self.told:
            return
        self.told, now = told, clock.now()
        data = orjson.dumps({"now": now, **what})
        with self.changed:
            self.number += 1
            self.event = b"id: %d\nevent: %s\ndata: %s\n\n" % (now * 1000, kind.encode(), data)
            self.changed.notify_all()
