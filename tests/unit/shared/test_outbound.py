"""One request to somebody else's server: to the address that was checked and no other, over TLS that is checked, and ended in time."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import eventlet
import pytest
from eventlet.green import socket as green

from shared.runtime import outbound
from shared.runtime.outbound import LARGEST_ANSWER, Reply, Unreachable, post
from shared.targets import Allowance, BadTarget, Target, read_allowance, read_url
from tests.stack.certificate import certificate

LOCAL = read_allowance("127.0.0.0/8")
PUBLIC, OTHER = "93.184.215.14", "93.184.215.15"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Serve = Callable[[socket.socket], None]


@contextmanager
def listening(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server in a thread of its own, for one connection after another; its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.settimeout(10)
                try:
                    with context.wrap_socket(connection, server_side=True) if context else connection as channel:
                        serve(channel)
                except OSError:
                    pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def heard(channel: socket.socket) -> bytes:
    """A whole request."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += channel.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")))
    while len(body) < length:
        body += channel.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(answer: bytes, requests: list[bytes] | None = None) -> Serve:
    def serve(channel: socket.socket) -> None:
        request = heard(channel)
        if requests is not None:
            requests.append(request)
        channel.sendall(answer)

    return serve


def silent_until(gone: threading.Event) -> Serve:
    def serve(channel: socket.socket) -> None:
        heard(channel)
        gone.wait(10)

    return serve


def ask(port: int, host: str = "127.0.0.1", scheme: str = "http", seconds: float = 10.0, **how: object) -> Reply:
    return post(Target(scheme, host, port, "/in?a=b"), {"X-One": "1"}, b'{"a": 1}', LOCAL, seconds=seconds, **how)  # type: ignore[arg-type]


def names(*addresses: str) -> outbound.Resolve:
    return lambda _host, _port: list(addresses)


def test_a_request_is_one_post_with_its_headers_and_its_body() -> None:
    requests: list[bytes] = []
    with listening(answering(b"HTTP/1.1 202 Accepted\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nok", requests)) as port:
        reply = ask(port)
    assert (reply.status, reply.headers["Retry-After"], reply.body) == (202, "3", b"ok")
    (request,) = requests
    head, body = request.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /in?a=b HTTP/1.1"
    assert {f"Host: 127.0.0.1:{port}".encode(), b"X-One: 1", b"Content-Length: 8", b"Connection: close"} <= set(lines)
    assert body == b'{"a": 1}'


def test_a_redirect_is_not_followed() -> None:
    requests: list[bytes] = []
    with listening(answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", requests)) as port:
        assert ask(port).status == 302
    assert len(requests) == 1


# ---- the address


class Wire:
    """Notes where a connection would go, and ends it there."""

    def __init__(self, *lets_in: str) -> None:
        self.asked: list[str] = []
        self.lets_in = lets_in

    def __call__(self, address: str, port: int, seconds: float) -> green.socket:
        self.asked.append(address)
        if address not in self.lets_in:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = green.socketpair()
        theirs.sendall(OK)
        self.theirs = theirs
        return ours  # type: ignore[no-any-return]


TLS_TARGET = read_url("https://crm.example.com/", Allowance())
PLAIN = read_allowance("crm.example.com")
PLAIN_TARGET = read_url("http://crm.example.com/", PLAIN)


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to() -> None:
    """DNS rebinding: a name that stands for something public when it is checked, and for something inside a moment later."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    wire = Wire(PUBLIC)
    assert post(PLAIN_TARGET, {}, b"", PLAIN, resolve=lambda _host, _port: next(answers), connect=wire).status == 204
    assert wire.asked == [PUBLIC]
    with pytest.raises(BadTarget, match=r"127\.0\.0\.1 is not on the public internet"):
        post(TLS_TARGET, {}, b"", Allowance(), resolve=lambda _host, _port: next(answers), connect=wire)
    assert wire.asked == [PUBLIC], "nothing was connected to"


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1", "64:ff9b::a00:1"])
def test_an_inner_address_among_others_and_nothing_is_connected_to(inner: str) -> None:
    wire = Wire(PUBLIC, inner)
    for addresses in ([inner], [PUBLIC, inner], [inner, PUBLIC]):
        with pytest.raises(BadTarget):
            post(TLS_TARGET, {}, b"", Allowance(), resolve=names(*addresses), connect=wire)
    assert not wire.asked


def test_the_next_address_is_tried_where_one_lets_nobody_in() -> None:
    wire = Wire(OTHER)
    assert post(PLAIN_TARGET, {}, b"", PLAIN, resolve=names(PUBLIC, OTHER, PUBLIC), connect=wire).status == 204
    assert wire.asked == [PUBLIC, OTHER]


def test_where_nothing_lets_us_in_that_is_said() -> None:
    wire = Wire()
    with pytest.raises(Unreachable, match=r"cannot connect to crm\.example\.com: Connection refused"):
        post(TLS_TARGET, {}, b"", Allowance(), resolve=names(*(f"93.184.215.{number}" for number in range(20))), connect=wire)
    assert len(wire.asked) == outbound.MOST_ADDRESSES


def test_a_name_that_nobody_knows_is_told() -> None:
    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for resolve, why in ((unknown, "cannot be looked up: Name or service not known"), (names(), "stands for no address")):
        with pytest.raises(Unreachable, match=why):
            post(TLS_TARGET, {}, b"", Allowance(), resolve=resolve, connect=Wire())


def test_looking_up_a_name_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own look-up blocks its thread; ours must go on."""
    asked, may_answer = threading.Event(), threading.Event()

    def slow(*_args: object, **_kwargs: object) -> list[object]:
        asked.set()
        assert may_answer.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(eventlet.patcher.original("socket"), "getaddrinfo", slow)
    looking = eventlet.spawn(outbound.resolve, "localhost", 80)
    with eventlet.Timeout(10):
        while not asked.is_set():
            eventlet.sleep(0.001)
        may_answer.set()  # we got here: the look-up is under way and we are not held up by it
        assert looking.wait() == ["127.0.0.1"]


def test_localhost_is_looked_up_by_this_machine() -> None:
    assert set(outbound.resolve("localhost", 80)) <= {"127.0.0.1", "::1"}


def test_only_an_address_is_ever_connected_to() -> None:
    with pytest.raises(ValueError, match="localhost"):
        outbound.connect("localhost", 80, 1.0)


# ---- what is slow, large or broken


def test_an_answer_that_does_not_come_ends_in_time() -> None:
    gone = threading.Event()
    with listening(silent_until(gone)) as port:
        with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
            ask(port, seconds=0.2)
        gone.set()


def test_a_head_that_drips_in_ends_in_time() -> None:
    """Each byte comes soon after the one before, so that a time-out for each read would never end it."""
    gone = threading.Event()

    def drip(channel: socket.socket) -> None:
        heard(channel)
        channel.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not gone.wait(0.01):
            channel.sendall(b"x")

    with listening(drip) as port:
        with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
            ask(port, seconds=0.3)
        gone.set()


@pytest.mark.parametrize("rest", [b"", b"half of it"])
def test_the_status_counts_even_if_the_rest_never_comes(rest: bytes) -> None:
    gone = threading.Event()

    def stall(channel: socket.socket) -> None:
        heard(channel)
        channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + rest)
        gone.wait(10)

    with listening(stall) as port:
        reply = ask(port, seconds=0.3)
        gone.set()
    assert (reply.status, reply.body) == (200, rest)


def test_of_an_endless_answer_the_beginning_is_read() -> None:
    def pour(channel: socket.socket) -> None:
        heard(channel)
        channel.sendall(b"HTTP/1.1 500 Oh\r\n\r\n")
        while True:
            channel.sendall(b"x" * 65536)

    with listening(pour) as port:
        reply = ask(port)
    assert (reply.status, reply.body) == (500, b"x" * LARGEST_ANSWER)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", b"\x16\x03\x01"],
)  # fmt: skip
def test_what_is_no_answer_is_told(answer: bytes) -> None:
    with listening(answering(answer)) as port, pytest.raises(Unreachable, match="the connection failed"):
        ask(port)


def test_a_port_where_nobody_listens_is_told() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=r"cannot connect to 127\.0\.0\.1: "):
        ask(port)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_a_deadline_of_others_is_not_taken_for_ours(begun: bytes) -> None:
    gone = threading.Event()

    def stall(channel: socket.socket) -> None:
        heard(channel)
        channel.sendall(begun)
        gone.wait(10)

    with listening(stall) as port:
        with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.2):
            ask(port)
        gone.set()


# ---- TLS


def tls(folder: Path, name: str, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for a host, signed by itself."""
    path = certificate(folder, name, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    def say(path: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        outbound._trust.cache_clear()

    yield say
    outbound._trust.cache_clear()


@pytest.mark.parametrize("host", ["crm.internal", "127.0.0.1"])
def test_a_certificate_that_is_trusted_and_names_the_host_is_good(tmp_path: Path, trust: Callable[[Path], None], host: str) -> None:
    context, path = tls(tmp_path, "good", host)
    trust(path)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with listening(answering(OK), context) as port:
        assert ask(port, host, "https", resolve=names("127.0.0.1")).status == 204
    assert asked == [None if host == "127.0.0.1" else host]


def test_a_certificate_of_another_name_or_of_nobody_known_is_refused(tmp_path: Path, trust: Callable[[Path], None]) -> None:
    other, path = tls(tmp_path, "other", "other.internal")
    unknown, _ = tls(tmp_path, "unknown", "crm.internal")
    trust(path)
    for context, why in ((other, "Hostname mismatch"), (unknown, "self-signed certificate")):
        with listening(answering(OK), context) as port, pytest.raises(Unreachable, match=f"TLS failed: {why}"):
            ask(port, "crm.internal", "https", resolve=names("127.0.0.1"))


def test_a_server_without_tls_is_refused_where_tls_was_meant() -> None:
    with listening(lambda channel: channel.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as port, pytest.raises(Unreachable, match="TLS failed"):
        ask(port, scheme="https")
