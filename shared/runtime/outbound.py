"""One HTTP/1.1 request to somebody else's server, with nothing that could be used against us: the address is looked up once and checked,
the connection goes to the very address that was checked, redirects are not followed, and all of it ends in time."""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import ip_address

import eventlet
from eventlet import Timeout, tpool
from eventlet.green import socket
from eventlet.green import ssl as green_ssl
from eventlet.patcher import original

from shared import clock, targets
from shared.targets import Address, Allowance, BadTarget, Target

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 15.0
LARGEST_ANSWER = 64 * 1024
MOST_ADDRESSES = 6

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


class Unreachable(Exception):
    """No answer came; the text says how far we got, and names nothing but host and address."""


@dataclass(frozen=True)
class Reply:
    """What came back; of the body at most LARGEST_ANSWER bytes, fewer where it broke off or took too long."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def resolve(host: str, port: int) -> list[str]:
    """The addresses that a name stands for, as this machine looks names up. In a thread: the library's own look-up blocks everybody.
    Raises OSError."""
    kind = socket.SOCK_STREAM
    return [str(found[4][0]) for found in tpool.execute(original("socket").getaddrinfo, host, port, type=kind)]


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """A connection to an address, never to a name. Raises OSError."""
    return socket.create_connection((str(ip_address(address)), port), timeout=seconds)


def send(
    method: str,
    target: Target,
    headers: Mapping[str, str],
    body: bytes,
    allowance: Allowance,
    *,
    resolve: Resolve = resolve,
    connect: Connect = connect,
    seconds: float = WHOLE_SECONDS,
) -> Reply:
    """Send the body and return the answer, whatever its status. Raises BadTarget where the name stands for an address that nothing is
    sent to, and Unreachable where no answer came, within `seconds` altogether."""
    late = Timeout(seconds)
    until = clock.monotonic() + seconds
    try:
        addresses = _look_up(target, allowance, resolve)
        with _connected(target, addresses, connect) as channel:
            channel.settimeout(max(until - clock.monotonic(), 0.001))
            return _exchange(channel, method, target, headers, body, late)
    except Timeout as timeout:
        if timeout is not late:
            raise
        raise Unreachable(f"no answer within {seconds:g} s") from None
    except TimeoutError:
        raise Unreachable(f"no answer within {seconds:g} s") from None
    except ssl.SSLError as error:
        raise Unreachable(f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or type(error).__name__}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, BadTarget):
            raise
        raise Unreachable(f"the connection failed: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    finally:
        late.cancel()


@dataclass(frozen=True)
class Flow:
    """What comes back piece by piece. Whoever has it reads `pieces` to their end or closes it: that ends the connection."""

    status: int
    headers: http.client.HTTPMessage
    pieces: Iterator[bytes]


def flow(
    target: Target,
    headers: Mapping[str, str],
    allowance: Allowance,
    *,
    resolve: Resolve = resolve,
    connect: Connect = connect,
    seconds: float = WHOLE_SECONDS,
) -> Flow:
    """GET whose answer may be of any size: it begins within `seconds`, and no piece of it is longer in coming. Raises as `send` does;
    an answer that breaks off raises Unreachable while it is read."""
    with _in_words(seconds):
        channel = _connected(target, _look_up(target, allowance, resolve), connect)
        try:
            channel.settimeout(seconds)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = channel
            connection.auto_open = 0
            connection.request("GET", target.path, headers={"Host": target.authority, "Connection": "close", **headers})
            response = connection.getresponse()
        except BaseException:
            channel.close()
            raise
    return Flow(response.status, response.headers, _pieces(channel, response, seconds))


def _pieces(channel: socket.socket, response: http.client.HTTPResponse, seconds: float) -> Iterator[bytes]:
    try:
        while True:
            with _in_words(seconds):
                piece = response.read1(LARGEST_ANSWER)
            if not piece:
                if response.length:  # of a known length, and not all of it came
                    raise Unreachable("the answer broke off")
                return
            yield piece
    finally:
        response.close()
        channel.close()


@contextmanager
def _in_words(seconds: float) -> Iterator[None]:
    """What goes wrong on the way, or takes longer, as Unreachable."""
    late = Timeout(seconds)
    try:
        yield
    except Timeout as timeout:
        if timeout is not late:
            raise
        raise Unreachable(f"no answer within {seconds:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, BadTarget):
            raise
        raise Unreachable(f"the connection failed: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    finally:
        late.cancel()


post, get = partial(send, "POST"), partial(send, "GET")


def _look_up(target: Target, allowance: Allowance, resolve: Resolve) -> list[Address]:
    try:
        found = [target.host] if _is_address(target.host) else resolve(target.host, target.port)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the name {target.host} cannot be looked up: {getattr(error, 'strerror', None) or error}") from error
    addresses = [ip_address(one) for one in dict.fromkeys(found)]
    if not addresses:
        raise Unreachable(f"the name {target.host} stands for no address")
    targets.check_all(target, addresses, allowance)
    return addresses[:MOST_ADDRESSES]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _connected(target: Target, addresses: Sequence[Address], connect: Connect) -> socket.socket:
    """The first of the addresses that lets us in, with TLS where the scheme asks for it. Raises Unreachable or OSError."""
    until = clock.monotonic() + CONNECT_SECONDS
    failure: OSError | None = None
    for number, address in enumerate(addresses):
        share = max(until - clock.monotonic(), 0.001) / (len(addresses) - number)
        try:
            channel = connect(str(address), target.port, share)
        except OSError as error:
            failure = error
            continue
        channel.settimeout(max(until - clock.monotonic(), 0.001))
        try:
            return _trust().wrap_socket(channel, server_hostname=target.host) if target.scheme == "https" else channel
        except BaseException:
            channel.close()
            raise
    late = isinstance(failure, TimeoutError)
    why = f"no connection within {CONNECT_SECONDS:g} s" if late else getattr(failure, "strerror", None) or type(failure).__name__
    raise Unreachable(f"cannot connect to {target.host}: {why}") from failure


@cache
def _trust() -> ssl.SSLContext:
    """The authorities that this machine trusts (SSL_CERT_FILE adds others), names checked."""
    context: ssl.SSLContext = green_ssl.create_default_context()
    return context


def _exchange(channel: socket.socket, method: str, target: Target, headers: Mapping[str, str], body: bytes, late: Timeout) -> Reply:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = channel
    connection.auto_open = 0  # it must never connect by itself: it would look the name up again
    connection.request(method, target.path, body or None, {"Host": target.authority, "Connection": "close", **headers})
    response = connection.getresponse()
    return Reply(response.status, response.headers, _start_of(response, late))


def _start_of(response: http.client.HTTPResponse, late: Timeout) -> bytes:
    """The status counts; of what follows as much as comes is good enough."""
    read = io.BytesIO()
    try:
        while (left := LARGEST_ANSWER - read.tell()) > 0 and (more := response.read1(left)):
            read.write(more)
    except (OSError, http.client.HTTPException, ValueError):
        pass
    except Timeout as timeout:
        if timeout is not late:
            raise
    return read.getvalue()


def aside(work: Callable[..., None], *arguments: object) -> None:
    """Run it beside us, for as long as it takes."""
    eventlet.spawn_n(work, *arguments)
