"""A bad line: a TCP proxy that delays what goes through it and resets connections when told to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque

from tests.stack.process import LOCAL, port

CHUNK = 65536
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


class Proxy:
    """Listens on a port of its own for `target`. `delay`: seconds that each chunk takes, in both directions."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.port, self.delay = target, port(), 0.0
        self._lines: set[socket.socket] = set()
        self._door = socket.create_server((LOCAL, self.port), backlog=128)
        threading.Thread(target=self._listen, daemon=True).start()

    def reset(self) -> int:
        """Cut all that is connected, with a reset and without a farewell; how many lines that were."""
        cut = list(self._lines)
        for line in cut:
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            _close(line)
        return len(cut) // 2

    def close(self) -> None:
        _close(self._door)
        self.reset()

    def _listen(self) -> None:
        while True:
            try:
                ours, _ = self._door.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(self.target, timeout=5)
            except OSError:
                _close(ours)
                continue
            theirs.settimeout(None)
            for line in (ours, theirs):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines |= {ours, theirs}
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        """Chunks are under way for `delay` each, several at once: a long line, not a narrow one."""
        under_way: deque[tuple[float, bytes]] = deque()
        some, over = threading.Condition(), threading.Event()

        def deliver() -> None:
            while True:
                with some:
                    some.wait_for(lambda: under_way or over.is_set())
                    if not under_way:
                        break
                    due, chunk = under_way.popleft()
                time.sleep(max(due - time.monotonic(), 0.0))
                try:
                    sink.sendall(chunk)
                except OSError:
                    break
            for line in (source, sink):
                _close(line)
                self._lines.discard(line)

        threading.Thread(target=deliver, daemon=True).start()
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                with some:
                    under_way.append((time.monotonic() + self.delay, chunk))
                    some.notify()
        with some:
            over.set()
            some.notify()


def _close(line: socket.socket) -> None:
    """Closing alone wakes nobody who reads from it, and so would tell the other end nothing."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        line.close()
