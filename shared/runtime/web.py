"""The HTTP server: one hardened subclass of nameko's with a plain WSGI application.

nameko's own `@http` occupies a worker for each request, so that long polls stop it at max_workers, and is three times slower.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

import eventlet
import structlog
from eventlet import hubs, wsgi
from eventlet.greenio import GreenSocket
from nameko.extensions import DependencyProvider

from shared import clock
from shared.config import SettingError
from shared.http.endpoint import Router
from shared.http.wsgi import Application, Request
from shared.runtime import bootstrap

log = structlog.get_logger()

IDLE_SECONDS = 75.0
BACKLOG = 1024
SPARE_DESCRIPTORS = 128
ACCEPT_PAUSE = 0.05
FINISH_SECONDS = 2.0
LONGEST_CHUNK_LINE = 4096


class AddressTaken(SettingError):
    """Another process listens there."""


class Protocol(wsgi.HttpProtocol):
    """One connection. A client that dawdles over its headers or vanishes costs a socket for a while and nothing else."""

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("http", message=format % args)

    def get_environ(self) -> dict[str, Any]:
        """A body of no named type is no text/plain, as eventlet has it."""
        environ: dict[str, Any] = super().get_environ()
        if self.headers.get("content-type") is None:
            environ["CONTENT_TYPE"] = ""
        environ["eventlet.input"].rfile = _BodyFile(self.rfile)
        lengths = self.headers.get_all("content-length", [])
        if len(set(lengths)) > 1:
            environ["CONTENT_LENGTH"] = ", ".join(lengths)  # refused where a body is read
        coding = environ.get("HTTP_TRANSFER_ENCODING", "chunked").lower()
        if coding != "chunked" or len(set(lengths)) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
            self.close_connection = True  # where the body ends is in doubt, so what follows is no request
        return environ

    def parse_request(self) -> bool:
        """A line among the headers that is none hides all that follow it, the body's length among them."""
        if not super().parse_request():
            return False
        if self.headers.defects:
            self.send_error(400, "Bad header")
            return False
        return True

    def handle_one_request(self) -> None:
        super().handle_one_request()
        eventlet.sleep(0)  # a connection that always has a next request ready must not starve the others


class _BodyFile:
    """What a body is read from. eventlet reads the lines between chunks whole, however long: anybody could fill the memory with one."""

    def __init__(self, file: Any) -> None:
        self.read = file.read
        self._file = file

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._file.readline(LONGEST_CHUNK_LINE if size < 0 else min(size, LONGEST_CHUNK_LINE))
        if len(line) == LONGEST_CHUNK_LINE and not line.endswith(b"\n"):
            raise wsgi.ChunkReadError("a line between chunks is too long")
        return line


def listen(address: tuple[str, int], setting: str = "ANSWERLINE_HTTP") -> GreenSocket:
    """A listening socket. Raises AddressTaken: without it a second process would share the port in silence."""
    try:
        return eventlet.listen(address, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        host, port = address
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(f"{host}:{port} is taken by another process; stop that one or set {setting} to another host:port") from error
        raise SettingError(f"{setting}: cannot listen on {host}:{port}: {error.strerror}") from error


class HttpServer:
    """Serves a WSGI application on a socket until closed."""

    def __init__(self, listening: GreenSocket, application: Any) -> None:
        self.socket = listening
        self.connections = 0
        self.limit = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS, 64)
        self.server = wsgi.Server(
            listening, listening.getsockname(), application, protocol=Protocol, log=_Silence(), log_output=False, keepalive=True,
            socket_timeout=IDLE_SECONDS, debug=False, minimum_chunk_size=1,
        )  # fmt: skip

    def serve(self) -> None:
        """Accept for as long as the socket is open: an error here (no descriptor left) would end nameko's container."""
        while True:
            try:
                connection, address = self.socket.accept()
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                log.warning("cannot accept", error=error.strerror)
                eventlet.sleep(ACCEPT_PAUSE)
                continue
            if self.connections >= self.limit:
                connection.close()
                continue
            connection.settimeout(IDLE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            eventlet.spawn_n(self._serve_one, connection, address)
            eventlet.sleep(0)  # while more are waiting, accept() does not yield by itself

    def _serve_one(self, connection: GreenSocket, address: Any) -> None:
        try:
            self.server.process_request([address, connection, wsgi.STATE_IDLE])
        except (OSError, ValueError) as error:
            log.debug("connection broke", error=type(error).__name__)
        finally:
            self.connections -= 1
            connection.close()


class WebServer(DependencyProvider):
    """Serves the doors of the service's class: `web = WebServer()`. The service says who asks (`authenticate`) and is told of each
    request (`observe`)."""

    def start(self) -> None:
        service = bootstrap.instance(self.container)
        self.application = Application(Router(service), service.authenticate, service.observe)
        self.server = HttpServer(listen(bootstrap.of(self.container).settings.http_address), self.application)
        self.accepting = self.container.spawn_managed_thread(self.server.serve)

    def stop(self) -> None:
        """Take no more connections, and give requests in progress a moment; those that wait for news are cut off with the process."""
        self.accepting.kill()
        self.server.socket.close()
        deadline = clock.monotonic() + FINISH_SECONDS
        while self.application.in_progress and clock.monotonic() < deadline:
            eventlet.sleep(0.02)

    def get_dependency(self, worker_ctx: Any) -> WebServer:  # noqa: ARG002 - nameko's signature
        return self


class _Silence:
    def write(self, _line: str) -> None:
        return


class Watch:
    """Notices within a moment that a waiting client has gone: `with Watch(request, on_gone): …`."""

    def __init__(self, request: Request, on_gone: Callable[[], None]) -> None:
        self.socket: GreenSocket = request.environ["eventlet.input"].get_socket()
        self.on_gone = on_gone

    def __enter__(self) -> Watch:
        self.greenlet = eventlet.spawn(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self.greenlet.kill()

    def _watch(self) -> None:
        """Readable and empty means closed. A request sent ahead is left alone: then the client is there, and is watched no more."""
        hubs.trampoline(self.socket.fileno(), read=True)
        try:
            if self.socket.fd.recv(1, socket.MSG_PEEK) == b"":
                self.on_gone()
        except OSError:
            self.on_gone()
