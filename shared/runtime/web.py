"""The HTTP server: one hardened subclass of nameko's with a plain WSGI application.

nameko's own `@http` occupies a worker for each request, so that long polls stop it at max_workers, and is three times slower.
"""

from __future__ import annotations

import errno
import re
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import eventlet
import structlog
from eventlet import hubs, wsgi
from eventlet.greenio import GreenSocket
from nameko.extensions import DependencyProvider

from shared import clock
from shared.config import SettingError
from shared.errors import AddressTooLong, AnswerlineError, HeaderTooLarge, Malformed, TooLarge, TooManyRequests, TooSlow, Unavailable
from shared.http.address import Proxies
from shared.http.endpoint import Router
from shared.http.rate import Limits
from shared.http.wsgi import LONGEST_LENGTH, Application, Request, problem, send
from shared.observability.metrics import connections
from shared.runtime import bootstrap

log = structlog.get_logger()

IDLE_SECONDS = 75.0
PATIENCE_SECONDS = 20.0
SLOWEST_BYTES = 32 * 1024
"""A second: what a slow line carries at least; a body or an answer has its time for that."""
BACKLOG = 1024
SPARE_DESCRIPTORS = 128
MOST_CONNECTIONS, MOST_OF_ONE = 10_000, 4_000
ACCEPT_PAUSE = 0.05
OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
FINISH_SECONDS = 2.0
LONGEST_LINE = 8192
LONGEST_CHUNK_LINE = 4096
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)?\r\n")
MOST_BETWEEN_CHUNKS = 64 * 1024
"""Bytes of extensions and trailers that a chunked body may have beyond sixteen for each byte of its own."""
MOST_DISCARDED = 4 * 1024 * 1024
LINGER_SECONDS = 2.0
AT_ONCE = struct.pack("ii", 1, 0)


class AddressTaken(SettingError):
    """Another process listens there."""


class Deadline:
    """Until when a client must have sent or taken what it is about: a fixed time, and beyond it what a slow line needs for the bytes that
    were moved. Between requests nothing is due: then it is until when one must have begun."""

    __slots__ = ("began", "idle", "moved", "patience", "quiet")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.await_request(patience)

    def await_request(self, quiet: float) -> None:
        self.idle, self.quiet = True, quiet
        self.began, self.moved = clock.monotonic(), 0

    def begin(self, patience: float | None = None) -> None:
        self.idle = False
        self.began, self.moved = clock.monotonic(), 0
        if patience is not None:
            self.patience = patience

    def left(self) -> float:
        """Seconds, asked whenever there is nothing to read or no room to write."""
        if self.idle and self.moved:
            self.begin()
        allowed = self.quiet if self.idle else self.patience + self.moved / SLOWEST_BYTES
        return max(self.began + allowed - clock.monotonic(), 0.0)


class Connection(GreenSocket):
    """A client's socket, which waits for it no longer than its deadline. A timeout that somebody sets counts too where it is sooner."""

    deadline: Deadline

    def gettimeout(self) -> float | None:
        left = self.deadline.left()
        return left if self._timeout is None else min(left, self._timeout)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        read: int = super().recv_into(buffer, nbytes, flags)
        self.deadline.moved += read
        return read

    def write(self, data: bytes) -> None:
        """All of it. Raises TimeoutError for a client that does not take it; then what it has not taken is thrown away at once."""
        self.deadline.begin()
        rest = memoryview(data)
        try:
            while rest:
                sent = self.send(rest)
                self.deadline.moved += sent
                rest = rest[sent:]
        except TimeoutError:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            raise


class _Head:
    """The lines of a request's headers, read for the library that parses them. It takes a lone CR for an end of line, which proxies take
    for a part of the value, and hands on NUL: either may have them see another request than we do."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.is_plain = True

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._source.readline(size)
        if b"\r" in line.removesuffix(b"\r\n") or b"\0" in line:
            self.is_plain = False
        return line


class _Answer:
    """Where an answer is written to, at once and without another buffer."""

    closed = False

    def __init__(self, connection: Connection) -> None:
        self.write = connection.write

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def flush(self) -> None:
        return

    close = flush


class Protocol(wsgi.HttpProtocol):
    """One connection. A client that dawdles or vanishes costs a socket for a while and nothing else."""

    connection: Connection
    path: str
    body: _Body | None = None
    lingers = False

    def setup(self) -> None:
        self.connection = self.request
        self.rfile = self.connection.makefile("rb", self.rbufsize)
        self.wfile = _Answer(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("http", message=format % args)

    def handle_one_request(self) -> None:
        self.body = None
        super().handle_one_request()
        self.connection.deadline.await_request(IDLE_SECONDS)
        eventlet.sleep(0)  # a connection that always has a next request ready must not starve the others

    def _read_request_line(self) -> bytes:
        try:
            line: bytes = super()._read_request_line() or b""
        except TimeoutError:
            if not self.connection.deadline.idle:
                self._refuse(TooSlow("the request came too slowly"), lingers=False)
            return b""
        if len(line) >= LONGEST_LINE:
            self._refuse(AddressTooLong(f"an address has at most {LONGEST_LINE} bytes with its query: send what is long in the body"))
            return b""
        return line

    def parse_request(self) -> bool:
        self.rfile = head = _Head(self.rfile)  # eventlet puts its own back
        try:
            if not super().parse_request():
                return False
            self._check_head(head.is_plain)
        except (wsgi.HeaderLineTooLong, wsgi.HeadersTooLarge):
            self._refuse(HeaderTooLarge(f"a header has at most {wsgi.MAX_HEADER_LINE} bytes, all of them {wsgi.MAX_TOTAL_HEADER_SIZE}"))
        except TimeoutError:
            self._refuse(TooSlow("the request's headers came too slowly"), lingers=False)
        except (Malformed, TooLarge) as error:
            self._refuse(error)
        else:
            return True
        return False

    def _check_head(self, is_plain: bool) -> None:
        """Raises Malformed or TooLarge where it is in doubt what belongs to the request, and so what follows it. `is_plain`: no line of
        it holds a character that ends one to some."""
        if self.request_version == "HTTP/0.9":
            raise Malformed("a request's first line is METHOD ADDRESS HTTP/1.1")
        lengths, codings, whole = set(), [], is_plain and not self.headers.defects
        for name, value in self.headers.raw_items():
            whole = whole and "\n" not in value and "\r" not in value
            match name.lower():
                case "content-length":
                    lengths.add(value)
                case "transfer-encoding":
                    codings.append(value.strip(" \t").lower())  # of other blanks proxies think otherwise
        if not whole:  # what is no header hides all that follow it, the body's length among them
            raise Malformed("each header is one line, Name: value")
        if len(self.headers.get_all("Host", ())) > 1:
            raise Malformed("Host is said once")
        if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
            raise Malformed("Content-Length must be a whole number, said once")
        if any(len(length) > LONGEST_LENGTH for length in lengths):
            raise TooLarge("no body can be so large")
        if codings and (lengths or self.request_version != "HTTP/1.1" or codings != ["chunked"]):
            raise Malformed("Transfer-Encoding: send the body as it is with its Content-Length, or chunked without")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the library's signature
        if code == HeaderTooLarge.status:
            self._refuse(HeaderTooLarge("there are too many headers, or one is too long"))
        else:  # also of an HTTP version that we do not know
            self._refuse(Malformed("this is no HTTP/1.1 request" + (f": {message[:200]}" if message else "")))

    def _refuse(self, error: AnswerlineError, lingers: bool = True) -> None:
        """Answer what is no request, and end the connection."""
        self.close_connection, self.lingers = True, lingers
        self.connection.write(_raw(error))

    def get_environ(self) -> dict[str, Any]:
        """A body of no named type is no text/plain, as eventlet has it; an address may be a whole one, as proxies are sent it."""
        if not self.path.startswith("/") and (whole := re.fullmatch(r"https?://[^/?]*(.*)", self.path, re.IGNORECASE | re.DOTALL)):
            self.path = whole[1] if whole[1].startswith("/") else f"/{whole[1]}"
        environ: dict[str, Any] = super().get_environ()
        environ["SERVER_PROTOCOL"] = self.request_version  # eventlet calls all of them HTTP/1.0
        if self.headers.get("content-type") is None:
            environ["CONTENT_TYPE"] = ""
        self.body = environ["wsgi.input"] = environ["eventlet.input"] = _Body(self, environ["eventlet.input"])
        self.connection.deadline.begin()
        return environ

    def finish(self) -> None:
        if self.lingers or (self.body and self.body.is_left):
            self._linger()
        super().finish()

    def _linger(self) -> None:
        """A socket closed with something unread resets the connection, and the client may never see its answer."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.deadline.begin(LINGER_SECONDS)
            left = MOST_DISCARDED
            while left > 0 and (data := self.connection.recv(65536)):
                left -= len(data)
        except OSError:
            return


class _Body(wsgi.Input):
    """What a request's body is read from. eventlet takes chunks whose size is no number of the standard's, and lines between them of any
    length: anybody could fill the memory with one, or have a proxy before us see another request than we do."""

    def __init__(self, protocol: Protocol, plain: wsgi.Input) -> None:
        super().__init__(plain.rfile, plain.content_length, plain.get_socket(), plain.wfile, plain.wfile_line, plain.chunked_input)
        self._protocol = protocol
        self._chunk = 0
        self._read = self._between = 0
        self._ended = self._broken = False

    @property
    def is_left(self) -> bool:
        """Whether the client may still be sending it."""
        if self._broken:
            return False
        return not self._ended if self.chunked_input else self.position < self.content_length

    def read(self, length: int | None = None) -> bytes:
        """Raises TimeoutError, OSError where the connection ended, ChunkReadError; after each the connection is good for nothing more."""
        try:
            return super().read(length)
        except (OSError, wsgi.ChunkReadError) as error:
            self._protocol.close_connection = True
            self._broken = isinstance(error, OSError)
            raise

    def _chunked_read(self, rfile: Any, length: int | None = None, use_readline: bool = False) -> bytes:  # noqa: ARG002 - eventlet's signature
        if self.should_send_hundred_continue:
            self.send_hundred_continue_response()
            self.is_hundred_continue_response_sent = True
        parts: list[bytes] = []
        while not self._ended and (length is None or length > 0):
            if not self._chunk:
                self._next_chunk(rfile)
                continue
            part = rfile.read(self._chunk if length is None else min(self._chunk, length))
            if not part:
                raise ConnectionError("the connection ended within a chunk")
            parts.append(part)
            self._chunk -= len(part)
            self._read += len(part)
            length = None if length is None else length - len(part)
            if not self._chunk and self._line(rfile) != b"\r\n":
                raise wsgi.ChunkReadError("a chunk is longer than it says")
        return b"".join(parts)

    def _next_chunk(self, rfile: Any) -> None:
        size = CHUNK_SIZE.fullmatch(self._line(rfile))
        if not size:
            raise wsgi.ChunkReadError("a chunk does not begin with its length")
        self._chunk = int(size[1], 16)
        if not self._chunk:
            while self._line(rfile) != b"\r\n":
                pass
            self._ended = True

    def _line(self, rfile: Any) -> bytes:
        line: bytes = rfile.readline(LONGEST_CHUNK_LINE)
        self._between += len(line)
        if not line:
            raise ConnectionError("the connection ended between chunks")
        if not line.endswith(b"\n") or self._between > MOST_BETWEEN_CHUNKS + 16 * self._read:
            raise wsgi.ChunkReadError("there is too much between chunks")
        return line

    def discard(self, buffer_size: int = 65536) -> None:
        """What the door did not read, so that the next request can be. Where it is much the connection ends instead (OSError)."""
        self._protocol.connection.deadline.begin()
        left = MOST_DISCARDED
        while left > 0 and (data := self.read(min(buffer_size, left))):
            left -= len(data)
        if self.is_left:
            raise OSError("more is left of the body than is worth reading")


def _raw(error: AnswerlineError) -> bytes:
    """An answer outside the application, after which the connection ends."""
    told: list[Any] = []
    body = b"".join(send(problem(error), "GET", lambda *head: told.extend(head)))
    status, headers = told
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


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
    """Serves a WSGI application on a socket until closed. At most `most` connections at one time, `most_of_one` from one address unless it
    is `trusted`; `patience`: see Deadline, in seconds."""

    def __init__(
        self,
        listening: GreenSocket,
        application: Any,
        most: int = MOST_CONNECTIONS,
        most_of_one: int = MOST_OF_ONE,
        patience: float = PATIENCE_SECONDS,
        trusted: Callable[[str], bool] = lambda _address: False,
    ) -> None:
        self.socket = listening
        self.connections: Counter[str] = Counter()
        self.open = 0
        self.limit = min(most, _room(most))
        self.limit_of_one = most_of_one
        self.patience = patience
        self.trusted = trusted
        self.server = wsgi.Server(
            listening, listening.getsockname(), application, protocol=Protocol, log=_Silence(), log_output=False, keepalive=True,
            url_length_limit=LONGEST_LINE, debug=False, minimum_chunk_size=1,
        )  # fmt: skip

    def serve(self) -> None:
        """Accept for as long as the socket is open: an error here (no descriptor left) would end nameko's container."""
        while True:
            try:
                connection, address = self._accept()
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                if error.errno in OUT_OF_ROOM:
                    log.warning("cannot accept", error=error.strerror)
                    eventlet.sleep(ACCEPT_PAUSE)
                continue
            self.open += 1
            self.connections[address[0]] += 1
            eventlet.spawn_n(self._serve_one, connection, address)
            eventlet.sleep(0)  # while more are waiting, accept() does not yield by itself

    def _accept(self) -> tuple[Connection, Any]:
        listening = self.socket.fd
        while True:
            try:
                client, address = listening.accept()
                break
            except BlockingIOError:
                hubs.trampoline(listening, read=True)
        hubs.notify_opened(client.fileno())
        connection = Connection(client)
        connection.deadline = Deadline(self.patience)
        return connection, address

    def _serve_one(self, connection: Connection, address: Any) -> None:
        try:
            if refusal := self._refusal(address[0]):
                connection.fd.send(_raw(refusal))
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.server.process_request([address, connection, wsgi.STATE_IDLE])
        except (OSError, ValueError, EOFError) as error:
            log.debug("connection broke", error=type(error).__name__)
        except Exception as error:
            log.exception("a connection failed", error=type(error).__name__)
        finally:
            self.open -= 1
            self.connections[address[0]] -= 1
            if not self.connections[address[0]]:
                del self.connections[address[0]]
            connection.close()

    def _refusal(self, address: str) -> AnswerlineError | None:
        if self.open > self.limit:
            return Unavailable("there are too many connections")
        if self.connections[address] > self.limit_of_one and not self.trusted(address):
            return TooManyRequests(f"at most {self.limit_of_one} connections are taken from one address")
        return None


def _room(wanted: int) -> int:
    """How many connections there are descriptors for, having asked for as many as we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + SPARE_DESCRIPTORS and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = wanted + SPARE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(wanted + SPARE_DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - SPARE_DESCRIPTORS, 64)


class WebServer(DependencyProvider):
    """Serves the doors of the service's class: `web = WebServer()`. The service says who asks (`authenticate`) and what they may do
    (`permit`), and is told of each request (`observe`, `witness`)."""

    def start(self) -> None:
        service = bootstrap.instance(self.container)
        settings = bootstrap.of(self.container).settings
        proxies = Proxies(settings.proxies)
        limits = Limits(settings.rates, proxies)
        self.application = Application(
            Router(service), service.authenticate, service.observe, service.permit, service.witness, limits, service.memory
        )
        self.server = HttpServer(
            listen(settings.http_address), self.application, *settings.most_connections, patience=settings.patience, trusted=proxies.trusts
        )
        for what, number in (("open", lambda: self.server.open), ("most", lambda: self.server.limit)):
            connections(self.container.service_name).labels(what).set_function(number)
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
