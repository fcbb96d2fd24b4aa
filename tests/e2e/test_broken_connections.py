"""Ten thousand connections that are reset and five hundred that dawdle, all at once: others are answered all the while, each that is slow
is told so and cut off, and not one descriptor stays behind."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system import System, eventually, raw_request, running

RESETS, SLOW = 10_000, 500
PATIENCE = 3.0
AT_ONCE = struct.pack("ii", 1, 0)
EVERY = 0.5
"""Seconds between two bytes of one who trickles."""


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with running("embedded", request, ANSWERLINE_CLIENT_SECONDS=f"{PATIENCE:g}", ANSWERLINE_CONNECTIONS_PER_ADDRESS="1500") as own:
        yield own


def descriptors(system: System) -> Counter[str]:
    """What the process has open, by kind."""
    kinds = []
    for descriptor in Path(f"/proc/{system.pid('gateway')}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds.append(str(descriptor.readlink()).split(":")[0])
    return Counter(kinds)


def event(system: System, number: object) -> bytes:
    body = b'{"event":"call.hangup","queue":"q","callid":"%s.1","at":1795296258}' % str(number).encode()
    head = f"POST /v1/telephony/asterisk/dialplan?source=broken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {system.key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def reset(system: System, sent: bytes) -> None:
    with socket.create_connection(system.address, timeout=30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)


class Trickle:
    """A client that sends its request byte by byte, for ever; `answer`: what it was told in the end."""

    def __init__(self, system: System, at_once: bytes, then: bytes) -> None:
        self.connection = socket.create_connection(system.address, timeout=30)
        self.then, self.answer, self.ended = then, b"", False
        self.connection.sendall(at_once)

    def step(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.connection.send(self.then)

    def read(self) -> None:
        try:
            told = self.connection.recv(65536)
        except ConnectionError:
            told = b""
        self.answer += told
        if not told:
            self.ended = True
            self.connection.close()


def trickle(clients: list[Trickle], within: float) -> None:
    """Every client sends a byte now and then until the door has hung up on all."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.connection, selectors.EVENT_READ, client)
        deadline, step_at = time.monotonic() + within, 0.0
        while selector.get_map() and time.monotonic() < deadline:
            if time.monotonic() > step_at:
                step_at = time.monotonic() + EVERY
                for key in list(selector.get_map().values()):
                    key.data.step()
            for key, _ in selector.select(EVERY):
                connection = key.data.connection
                key.data.read()
                if key.data.ended:
                    selector.unregister(connection)


def test_10000_resets_and_500_slow_clients_leave_nothing_behind(system: System) -> None:
    whole = event(system, "whole")
    head, _, _ = whole.partition(b"\r\n\r\n")
    kinds: list[tuple[bytes, bytes]] = [(b"G", b"E"), (head + b"\r\nX: ", b"y"), (head.replace(b": 6", b": 99", 1) + b"\r\n\r\n{", b" ")]
    torn = [b"", b"POST /v1/", head, whole[:-10], whole, whole + whole, b"\x16\x03\x01", b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"]
    system.get("/readyz").ok()
    before = descriptors(system)
    done = threading.Event()

    def others() -> int:
        """Somebody in order, who must be answered each time."""
        answered = 0
        while not done.is_set():
            assert system.get("/livez").status == 200
            assert b'"accepted":1' in raw_request(system.address, event(system, f"{threading.get_ident()}{answered}"), timeout=30)
            answered += 1
            done.wait(0.02)
        return answered

    with ThreadPoolExecutor(8) as pool:
        served = [pool.submit(others) for _ in range(2)]
        slow = [Trickle(system, *kinds[number % len(kinds)]) for number in range(SLOW)]
        watching = pool.submit(trickle, slow, 60.0)
        list(pool.map(lambda number: reset(system, torn[number % len(torn)]), range(RESETS)))
        watching.result()
        done.set()
        assert min(future.result() for future in served) > 0

    assert all(client.ended for client in slow)
    statuses = Counter(client.answer.split(b"\r\n")[0] for client in slow)
    assert set(statuses) == {b"HTTP/1.1 408 Request Timeout"}, statuses
    assert all(b"Connection: close" in client.answer and b'"status":408' in client.answer for client in slow)

    def back_to_before() -> bool:
        now = descriptors(system)
        assert now["socket"] <= before["socket"] and sum(now.values()) <= sum(before.values()) + 2, (before, now)
        return True

    eventually(back_to_before, within=30)
    assert system.get("/readyz").status == 200
    system.settle()


def test_who_does_not_read_the_answer_is_cut_off(system: System) -> None:
    system.get("/readyz").ok()
    before = descriptors(system)["socket"]
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(system.address)
        connection.settimeout(30)
        connection.sendall(ask * 100)  # far more than the kernel keeps for somebody who does not read
        eventually(lambda: descriptors(system)["socket"] > before)
        eventually(lambda: descriptors(system)["socket"] <= before, within=30)
        with pytest.raises(ConnectionError):
            while connection.recv(65536):
                pass


def test_one_address_cannot_have_all_connections(system: System) -> None:
    def here(address: str) -> socket.socket:
        connection = socket.create_connection(system.address, timeout=30, source_address=(address, 0))
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection

    def status(connection: socket.socket) -> bytes:
        return connection.recv(65536).partition(b"\r\n")[0]

    many: list[socket.socket] = []
    try:
        for _ in range(1500):
            many.append(here("127.0.0.9"))
        assert all(status(connection) == b"HTTP/1.1 200 OK" for connection in many)
        refused = raw_request_from(system, "127.0.0.9")
        assert refused.startswith(b"HTTP/1.1 429 Too Many Requests"), refused
        assert b"Retry-After: " in refused
        assert raw_request_from(system, "127.0.0.10").startswith(b"HTTP/1.1 200 OK")
        many.pop().close()
        eventually(lambda: raw_request_from(system, "127.0.0.9").startswith(b"HTTP/1.1 200 OK"))
    finally:
        for connection in many:
            connection.close()


def raw_request_from(system: System, address: str) -> bytes:
    """A request's answer, with nothing sent before the door has had the chance to refuse the connection."""
    with socket.create_connection(system.address, timeout=30, source_address=(address, 0)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return until_closed(connection.recv)


def until_closed(recv: Callable[[int], bytes]) -> bytes:
    read = b""
    with contextlib.suppress(ConnectionError):
        while more := recv(65536):
            read += more
    return read
