"""An answer of any size, piece by piece: from the address that was checked, and no longer in coming than it may be."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.runtime import outbound
from shared.runtime.outbound import Unreachable
from shared.targets import BadTarget, read_allowance, read_url
from tests.unit.shared.test_outbound import Serve, listening

LOCAL = read_allowance("127.0.0.0/8")
SOUND = bytes(range(256)) * 2000


@contextmanager
def asked(serve: Serve, seconds: float = 5.0) -> Iterator[outbound.Flow]:
    with listening(serve) as port:
        yield outbound.flow(read_url(f"http://127.0.0.1:{port}/a?b=c", LOCAL), {"Range": "bytes=0-"}, LOCAL, seconds=seconds)


def saying(answer: bytes, requests: list[bytes] | None = None) -> Serve:
    def serve(channel: socket.socket) -> None:
        read = b""
        while b"\r\n\r\n" not in read:
            read += channel.recv(65536)
        if requests is not None:
            requests.append(read)
        channel.sendall(answer)

    return serve


@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n\r\n" % len(SOUND), b"\r\n"])
def test_it_comes_whole_and_in_pieces(head: bytes) -> None:
    requests: list[bytes] = []
    with asked(saying(b"HTTP/1.1 206 Partial Content\r\n" + head + SOUND, requests)) as flow:
        pieces = list(flow.pieces)
    assert (flow.status, b"".join(pieces) == SOUND, max(map(len, pieces)) <= outbound.LARGEST_ANSWER) == (206, True, True)
    assert requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert b"Range: bytes=0-\r\n" in requests[0]


def test_one_that_breaks_off_is_told() -> None:
    with asked(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.")) as flow, pytest.raises(Unreachable):
        list(flow.pieces)


def test_one_that_stops_is_given_up() -> None:
    def serve(channel: socket.socket) -> None:
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.")(channel)
        channel.recv(1)  # until the other side hangs up

    with asked(serve, seconds=0.3) as flow, pytest.raises(Unreachable, match="within"):
        list(flow.pieces)


def test_a_reader_who_leaves_ends_the_connection() -> None:
    ended: list[bytes] = []

    def serve(channel: socket.socket) -> None:
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + SOUND)(channel)
        try:
            ended.append(channel.recv(1))
        except ConnectionError:
            ended.append(b"")

    with asked(serve) as flow:
        next(flow.pieces)
        flow.pieces.close()  # type: ignore[attr-defined]
    assert ended == [b""]


def test_no_address_of_our_own_network_is_asked() -> None:
    nobody = read_allowance("")
    with pytest.raises(BadTarget):
        outbound.flow(read_url("https://recordings.example.com/", nobody), {}, nobody, resolve=lambda *_: ["10.0.0.1"])


def test_nobody_there_is_told() -> None:
    with pytest.raises(Unreachable):
        outbound.flow(read_url("http://127.0.0.1:9/", LOCAL), {}, LOCAL)
