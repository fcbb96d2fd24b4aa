"""One stream to thousands of listeners: each costs a parked greenlet and a socket, and none can hold up another.

What a listener is to get is queued for it and written by one greenlet for all, in slices, as far as each socket takes it at once.
Frames are bytes that all listeners share. Who does not read is cut off.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import eventlet
from eventlet import Timeout, hubs
from eventlet.event import Event
from eventlet.greenio import GreenSocket

from shared import clock
from shared.http.wsgi import Request

SEND_BUFFER_BYTES = 16_384
"""The kernel doubles it. It is what a listener that does not read can cost there."""

MOST_WAITING = 2_000
"""Frames that a listener may be behind."""

STALLED_SECONDS = 10.0
"""How long a listener may take nothing at all."""

VANISHED_SECONDS = 30.0
"""After which a listener has gone whose network swallows what it is sent."""

SLICE_SECONDS = 0.005
TRY_AGAIN_SECONDS = 0.05
MOST_AT_ONCE_BYTES = 65_536
ABORT = struct.pack("ii", 1, 0)


class Listener:
    """One client. Until a Fanout has something for it, what the door yields goes to it in the usual way."""

    __slots__ = ("_chunked", "_deaf", "latest", "over", "rest", "sent_at", "socket", "took_at", "waiting")

    def __init__(self, request: Request) -> None:
        self.socket: GreenSocket = request.environ["eventlet.input"].get_socket()
        self.socket.settimeout(STALLED_SECONDS)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(VANISHED_SECONDS * 1000))
        self._chunked = request.environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self._deaf = False
        self.waiting: list[bytes] = []
        self.latest: bytes | None = None
        self.rest = b""
        self.over = False
        self.sent_at = self.took_at = clock.monotonic()

    def wait(self, seconds: float) -> bool:
        """Whether the client has gone, or was cut off, before the time is up."""
        if self._deaf:
            eventlet.sleep(seconds)
            return self.over
        try:
            hubs.trampoline(self.socket.fileno(), read=True, timeout=seconds)
        except Timeout:
            return self.over
        try:
            self._deaf = self.socket.fd.recv(1, socket.MSG_PEEK) != b""  # a request sent ahead: it is there, and is watched no more
        except OSError:
            return True
        return self.over or not self._deaf

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.rest or self.latest)

    def flush(self) -> bool:
        """Write what the socket takes now; whether that was all. Raises OSError when the client has gone."""
        while not self.idle:
            if not self.rest:
                self.rest = self._next()
            try:
                taken = self.socket.fd.send(self.rest)
            except BlockingIOError:
                return False
            self.sent_at = self.took_at = clock.monotonic()
            self.rest = self.rest[taken:]
        return True

    def _next(self) -> bytes:
        if self.latest is not None:
            self.waiting.append(self.latest)
            self.latest = None
        size, count = 0, 0
        while count < len(self.waiting) and size < MOST_AT_ONCE_BYTES:
            size += len(self.waiting[count])
            count += 1
        due, self.waiting = self.waiting[:count], self.waiting[count:]
        joined = b"".join(due)
        return b"%x\r\n%b\r\n" % (len(joined), joined) if self._chunked else joined

    def abort(self) -> None:
        """End the connection at once and free what the kernel holds for it."""
        self.over = True
        self.waiting, self.latest, self.rest = [], None, b""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
        except OSError:
            return


class Fanout:
    """Writes to all listeners of this process. `on_cut` is told of each that was too slow."""

    def __init__(self, on_cut: Callable[[], None] = lambda: None) -> None:
        self._on_cut = on_cut
        self._due: dict[Listener, None] = {}
        self._stuck: dict[Listener, None] = {}
        self._writing = False
        self._asleep: Event | None = None
        self._settled: Event | None = None

    def put(self, listener: Listener, frame: bytes) -> None:
        """Let the listener have a frame after all that it was given before."""
        if listener.over:
            return
        if len(listener.waiting) >= MOST_WAITING:
            self.cut(listener)
            return
        listener.waiting.append(frame)
        self._plan(listener)

    def put_latest(self, listener: Listener, frame: bytes) -> None:
        """Let the listener have this frame instead of the one before, unless that is on its way."""
        if not listener.over:
            listener.latest = frame
            self._plan(listener)

    def _plan(self, listener: Listener) -> None:
        if listener not in self._stuck and listener not in self._due:
            listener.took_at = clock.monotonic()
            self._due[listener] = None
        if not self._writing:
            self._writing = True
            eventlet.spawn_n(self._write)
        elif self._asleep:
            self._asleep.send(None)
            self._asleep = None

    def spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        """Let something be done while all goes on."""
        eventlet.spawn_n(work, *arguments)

    def settle(self) -> None:
        """Returns when all have what they were given, but for those whose sockets take no more."""
        if self._due:
            self._settled = self._settled or Event()
            self._settled.wait()

    def cut(self, listener: Listener) -> None:
        """It is too slow; it may come back for the rest."""
        listener.abort()
        self.forget(listener)
        self._on_cut()

    def forget(self, listener: Listener) -> None:
        self._due.pop(listener, None)
        self._stuck.pop(listener, None)

    def _write(self) -> None:
        """Until nobody waits for anything."""
        try:
            tried = clock.monotonic()
            while self._due or self._stuck:
                self._write_to(list(self._due))
                if not self._due:
                    self._tell_settled()
                if self._stuck and clock.monotonic() - tried >= TRY_AGAIN_SECONDS:
                    self._write_to(list(self._stuck))
                    tried = clock.monotonic()
                self._pause()
        finally:
            self._writing = False
            self._tell_settled()

    def _pause(self) -> None:
        """Let others have their turn; where all who wait are stuck, until they are tried again or there is something new."""
        if self._due or not self._stuck:
            eventlet.sleep(0)
            return
        self._asleep = Event()
        with Timeout(TRY_AGAIN_SECONDS, False):
            self._asleep.wait()
        self._asleep = None

    def _tell_settled(self) -> None:
        if self._settled:
            self._settled.send(None)
            self._settled = None

    def _write_to(self, listeners: list[Listener]) -> None:
        began = clock.monotonic()
        for listener in listeners:
            self._try(listener)
            if clock.monotonic() - began > SLICE_SECONDS:
                eventlet.sleep(0)
                began = clock.monotonic()

    def _try(self, listener: Listener) -> None:
        if listener.over:
            self.forget(listener)
            return
        try:
            done = listener.flush()
        except OSError:
            listener.abort()
            self.forget(listener)
            return
        if done:
            self.forget(listener)
        elif clock.monotonic() - listener.took_at > STALLED_SECONDS:
            self.cut(listener)
        else:
            self._due.pop(listener, None)
            self._stuck[listener] = None
