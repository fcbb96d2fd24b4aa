"""What the wire may carry at the door besides sensible requests, who may ask how often, and requests that come twice."""

from __future__ import annotations

import itertools
import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import orjson
import pytest

from shared.config import RATES
from tests.system import Answer, System, raw_request

LINE = "1795296258|{call}|{name}|NONE|ENTERQUEUE||1|1\n"
ADDRESSES = (f"127.0.{third}.{fourth}" for third, fourth in itertools.product(range(1, 250), range(1, 250)))


def ask(system: System, head: str, body: bytes = b"") -> bytes:
    """All that comes back for a request of these lines, `Connection: close` among them."""
    return raw_request(system.address, f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1") + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem(answer: bytes, status: int) -> dict[str, Any]:
    """The problem document of an answer after which the connection ended."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"application/problem+json" in head and b"nosniff" in head
    told: dict[str, Any] = orjson.loads(body)
    assert told["status"] == status and told["detail"]
    return told


def from_address(system: System, address: str, key: str | None, times: int = 1) -> list[Answer]:
    """The same question so many times from another address of this machine."""
    connection = HTTPConnection(*system.address, timeout=30, source_address=(address, 0))
    answers = []
    for _ in range(times):
        connection.request("GET", "/v1/queues?limit=1", headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        answers.append(Answer(response.status, response.headers, response.read()))
    connection.close()
    return answers


# ---- the wire


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /livez?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 20 + b"\r\n", 431),
        (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/x\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez with blanks HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n folded: b\r\n\r\n", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 30\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0;x /livez HTTP/1.1\r\n\r\n", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n0123456789", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /v1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(system: System, request_: bytes, status: int) -> None:
    problem(raw_request(system.address, request_), status)
    assert system.get("/livez").status == 200


def test_what_is_odd_and_allowed_is_answered(system: System) -> None:
    for head in ("GET /livez HTTP/1.1", "GET http://elsewhere.example/livez HTTP/1.1", "GET /livez? HTTP/1.1", "GET /livez HTTP/1.0",
                 "GET /livez HTTP/1.1\r\nX: \xe9\xff", "GET /livez HTTP/1.1\r\nX_Y: 1\r\nx-y: 2\r\nX-Y: 3", "HEAD /livez HTTP/1.1",
                 "GET /livez HTTP/1.1\r\nExpect: 100-continue", "GET /livez HTTP/1.1\r\nContent-Length: 0"):  # fmt: skip
        assert status(ask(system, head)) == 200, head
    key = f"Authorization: Bearer {system.key}"
    assert status(ask(system, f"GET /v1/queues HTTP/1.1\r\n{key}\r\n{key}")) == 401, "two keys are no key"
    assert status(ask(system, f"GET /v1/queues HTTP/1.0\r\n{key}")) == 200


def test_options_and_trace_have_an_answer_at_every_path(system: System) -> None:
    for method, path in itertools.product(("OPTIONS", "TRACE", "CONNECT"), ("/livez", "/v1/queues", "*", "/", "x:443", "//", "/%2f")):
        assert status(ask(system, f"{method} {path} HTTP/1.1")) in (204, 400, 404, 405), (method, path)


@pytest.mark.parametrize(
    ("chunks", "statuses"),
    [
        (b"%x;name=value\r\n%s\r\n0\r\n\r\n", {200}),
        (b'%x ; a="b;c"\r\n%s\r\n0;last\r\nX-Trailer: 1\r\n\r\n', {200}),
        (b"000000%x\r\n%s\r\n0\r\n\r\n", {200}),
        (b"0x%x\r\n%s\r\n0\r\n\r\n", {400}),
        (b"+%x\r\n%s\r\n0\r\n\r\n", {400}),
        (b"-%x\r\n%s\r\n0\r\n\r\n", {400}),
        (b"%x\n%s\r\n0\r\n\r\n", {400}),
        (b"%x\r\n%sx\r\n0\r\n\r\n", {400}),
        (b"\r\n%x\r\n%s\r\n0\r\n\r\n", {400}),
        (b"%x;" + b"a" * 5000 + b"\r\n%s\r\n0\r\n\r\n", {400}),
        (b"%x\r\n%s\r\n0\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n", {400}),
    ],
)
def test_chunks_are_as_the_standard_has_them(system: System, name: str, chunks: bytes, statuses: set[int]) -> None:
    line = LINE.format(call="1.1", name=name).encode()
    body = chunks % (len(line), line)
    head = (
        f"POST /v1/telephony/asterisk/queue-log?source={name} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {system.key}"
    )
    assert status(ask(system, head, body)) in statuses


def test_the_answer_to_a_body_that_is_not_read_arrives_all_the_same(system: System) -> None:
    """Two megabytes for a door that takes a quarter of one, by somebody who reads only when all is sent."""
    body = b"x" * 2_000_000
    for head in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
        sent = body if head.startswith("Content") else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        told = ask(
            system, f"POST /v1/contacts HTTP/1.1\r\nAuthorization: Bearer {system.key}\r\nContent-Type: application/json\r\n{head}", sent
        )
        assert status(told) == 413


def test_who_waits_for_leave_to_send_a_body_is_refused_without_it(system: System) -> None:
    head = "POST /v1/contacts HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10000000\r\n\r\n"
    with socket.create_connection(system.address, timeout=15) as connection:
        connection.sendall(head.encode())
        told = b"".join(iter(lambda: connection.recv(65536), b""))
    assert status(told) == 401 and b"100 Continue" not in told


def test_pages_and_answers_say_who_may_show_them(system: System) -> None:
    for path in ("/", "/docs", "/livez", "/v1/queues", "/nowhere"):
        headers = system.get(path).headers
        assert "frame-ancestors" in headers["Content-Security-Policy"], path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert headers["Strict-Transport-Security"] is None, "not by plain HTTP"


# ---- how often


def test_wrong_keys_from_one_address_are_slowed_down_and_the_right_one_is_let_in(system: System) -> None:
    address = next(ADDRESSES)
    right = system.client("supervisor").key
    answers = from_address(system, address, "wrong", int(RATES["wrong_key"].burst) + 60)
    assert [answer.status for answer in answers[:50]] == [401] * 50
    refused = next(answer for answer in answers if answer.status == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    refused.problem(429)
    assert [answer.status for answer in from_address(system, address, right, 20)] == [200] * 20
    assert from_address(system, next(ADDRESSES), "wrong")[0].status == 401


# ---- requests that come twice


def test_a_request_that_comes_again_is_answered_again(system: System, name: str) -> None:
    def post(path: str, body: Any, key: str = f"{name}-1") -> Answer:
        return system.post(path, body, headers={"Idempotency-Key": key})

    first = post("/v1/keys", {"name": name, "roles": ["agent"]})
    again = post("/v1/keys", {"name": name, "roles": ["agent"]})
    assert (again.status, again.body, again.headers["Content-Type"]) == (201, first.body, "application/json")
    assert (first.headers["Idempotency-Replayed"], again.headers["Idempotency-Replayed"]) == (None, "true")
    assert first.json["key"] not in str(system.sql("gateway", "select * from request_key"))
    post("/v1/keys", {"name": name, "roles": ["admin"]}).problem(422)
    assert post("/v1/keys", {"name": name, "roles": ["agent"]}, f"{name}-2").json["id"] != first.json["id"]
    assert "visible ASCII" in post("/v1/keys", {"name": name, "roles": ["agent"]}, "a b").problem(400)["detail"]
    wrong = {"name": name, "roles": ["king"]}
    assert post("/v1/keys", wrong, f"{name}-3").problem(422) == post("/v1/keys", wrong, f"{name}-3").problem(422)
    nobody = system.client().post("/v1/keys", {"name": name, "roles": ["agent"]}, headers={"Idempotency-Key": f"{name}-1"})
    nobody.problem(401)
    other = system.client("admin").post("/v1/keys", {"name": name, "roles": ["agent"]}, headers={"Idempotency-Key": f"{name}-1"})
    assert other.ok()["id"] != first.json["id"], "somebody else's key is another"


def test_of_many_that_come_at_once_one_is_carried_out(system: System, name: str) -> None:
    people = system.patient()

    def post(number: int) -> tuple[int, Any]:
        answer = people.post("/v1/contacts", {"queue": name, "source": name}, headers={"Idempotency-Key": f"{name}-{number % 5}"})
        assert answer.status == 201 or answer.headers["Retry-After"], answer
        return answer.status, answer.json.get("contact")

    with ThreadPoolExecutor(10) as pool:
        told = list(pool.map(post, range(50)))
    assert {status for status, _ in told} <= {201, 409}
    assert len({contact for status, contact in told if status == 201}) == 5
    assert system.sql("gateway", "select count(*) from contact where source = :source", source=name)[0][0] == 5
