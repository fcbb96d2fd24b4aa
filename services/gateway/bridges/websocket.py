"""The client's half of a websocket (RFC 6455) as far as a reader of events needs it: text in, pings both ways, an orderly end."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping

from shared import clock

LARGEST_MESSAGE = 4 * 1024 * 1024
LONGEST_HEAD = 65536
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The server did not open a websocket; `status` is that of its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Closed(Exception):
    """There is no more to come."""


class WebSocket:
    """Over a connection whose time-out says how long `receive` waits. Raises Refused, Closed and OSError."""

    def __init__(self, connection: socket.socket, host: str, target: str, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in {**fields, **headers}.items())]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        status, told = self._head()
        accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()
        if status != 101 or told.get("sec-websocket-accept") != accept:
            raise Refused(status)

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > LONGEST_HEAD:
                raise Refused(0)
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return status, {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _fill(self) -> None:
        some = self._connection.recv(65536)
        if not some:
            raise Closed
        self._buffer += some

    def receive(self) -> str | None:
        """The next text message. None: none came within the connection's time-out, or what came was a pong."""
        while True:
            frame = self._frame()
            if frame is None:
                try:
                    self._fill()
                except TimeoutError:
                    return None
                continue
            last, kind, payload = frame
            if kind == CLOSE:
                self._send(CLOSE, payload[:2])
                raise Closed
            if kind == PING:
                self._send(PONG, payload)
            elif kind == PONG:
                return None
            elif kind in (TEXT, BINARY, CONTINUATION):
                self._parts.append(payload)
                if sum(map(len, self._parts)) > LARGEST_MESSAGE:
                    raise Closed
                if last:
                    whole, self._parts = b"".join(self._parts), []
                    return whole.decode("utf-8", "replace")

    def messages(self, stopped: threading.Event, quiet_seconds: float, look: Callable[[], object]) -> Iterator[str | None]:
        """Text messages as they come, until `stopped`; None now and then, where none come. Where a ping brings none either, `look` is
        called: it raises where nobody is there any more."""
        heard_at, pinged = clock.monotonic(), False
        while not stopped.is_set():
            text = self.receive()
            now = clock.monotonic()
            if text is not None:
                heard_at, pinged = now, False
            elif now - heard_at > 2 * quiet_seconds:
                look()
                heard_at, pinged = now, False
            elif now - heard_at > quiet_seconds and not pinged:
                self.ping()
                pinged = True
            yield text

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """The next whole frame of the buffer: (whether it ends its message, opcode, payload)."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            (length,) = struct.unpack(">H" if start == 4 else ">Q", buffer[2:start])
        if length > LARGEST_MESSAGE or buffer[1] & 0x80:  # a server masks nothing
            raise Closed
        if len(buffer) < start + length:
            return None
        payload = bytes(buffer[start : start + length])
        first = buffer[0]
        del buffer[: start + length]
        return bool(first & 0x80), first & 0x0F, payload

    def ping(self) -> None:
        self._send(PING, b"")

    def _send(self, kind: int, payload: bytes) -> None:
        """A control frame: at most 125 bytes."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload[:125]))
        self._connection.sendall(bytes([0x80 | kind, 0x80 | len(masked)]) + mask + masked)

    def close(self) -> None:
        try:
            self._send(CLOSE, struct.pack(">H", 1000))
        except OSError:
            pass
        finally:
            self._connection.close()
