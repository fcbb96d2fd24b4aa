"""Listeners on real sockets, whose other end a test reads when it likes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import eventlet
from eventlet.greenio import GreenSocket

from shared.runtime.fanout import Listener


def soon(check: Callable[[], Any]) -> Any:
    """The first truthy result, while greenlets have their turns."""
    with eventlet.Timeout(10):
        while not (found := check()):
            eventlet.sleep(0.001)
    return found


class Client:
    """The far end. Its own buffer and the near one's are small: who does not read is soon a bother."""

    def __init__(self, protocol: str = "HTTP/1.0") -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.socket = socket.socket()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.connect(listening.getsockname())
            self.near = GreenSocket(listening.accept()[0])
        self.socket.setblocking(False)
        self.request: Any = SimpleNamespace(
            environ={"eventlet.input": SimpleNamespace(get_socket=lambda: self.near), "SERVER_PROTOCOL": protocol}
        )
        self.heard = b""

    def listener(self) -> Listener:
        return Listener(self.request)

    def read(self) -> bytes:
        """All so far."""
        try:
            while more := self.socket.recv(65536):
                self.heard += more
        except BlockingIOError:
            pass
        return self.heard

    def hears(self, text: bytes) -> bytes:
        """All so far, as soon as this is in it."""
        return soon(lambda: self.heard if text in self.read() else b"")

    def is_cut_off(self) -> bool:
        try:
            return self.socket.recv(65536) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        """As clients do; whoever listens at the near end must notice."""
        self.socket.close()
