"""The Python client against a server that breaks off, refuses for a while, and repeats itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any, NamedTuple

import pytest

import answerline
from answerline import Client, Conflict, Event, Invalid, NotFound, Problem, TooManyRequests, Unavailable, Unreachable
from answerline.problems import seconds_of


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Script(ThreadingHTTPServer):
    """Answers with what `answers` holds, one after the other: (status, headers, body), or None to hang up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.answers: list[Any] = []
        self.asked: list[Asked] = []

    def will(self, *answers: Any) -> None:
        self.answers.extend(answers)


class Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Script

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(Asked(self.command, self.path, dict(self.headers), body))
        told = self.server.answers.pop(0)
        if told is None:
            self.close_connection = True
            return
        status, headers, body = told
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if headers.get("Content-Type") == "text/event-stream":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        return


JSON = {"Content-Type": "application/json"}


def ok(value: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return 200, JSON | headers, json.dumps(value).encode()


def problem(status: int, detail: str = "no", headers: dict[str, str] | None = None, **more: Any) -> tuple[int, dict[str, str], bytes]:
    body = {"type": "x", "title": "A title", "status": status, "detail": detail, **more}
    return status, {"Content-Type": "application/problem+json"} | (headers or {}), json.dumps(body).encode()


def events(text: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "text/event-stream"}, text.encode()


@pytest.fixture
def server() -> Iterator[Script]:
    server = Script()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(server: Script, pauses: list[float]) -> Client:
    return Client(f"http://127.0.0.1:{server.server_address[1]}/base", "secret", timeout=5, tries=3, sleep=pauses.append)


def test_a_request_brings_its_key_and_json_and_reads_json(server: Script, client: Client) -> None:
    server.will(ok({"name": "sales"}))
    assert client.put("/v1/queues/sales", {"mode": "routed"}, dry_run=True, note=None) == {"name": "sales"}
    (asked,) = server.asked
    assert (asked.method, asked.path, json.loads(asked.body)) == ("PUT", "/base/v1/queues/sales?dry_run=true", {"mode": "routed"})
    assert asked.headers["Authorization"] == "Bearer secret"
    assert asked.headers["Content-Type"] == "application/json"
    assert "Idempotency-Key" not in asked.headers


def test_text_and_bytes_go_as_they_are_and_what_is_no_json_comes_as_bytes(server: Script, client: Client) -> None:
    server.will((200, {"Content-Type": "text/csv"}, b"a,b\n"), (204, {}, b""))
    assert client.request("POST", "/x", "1|2", content_type="text/plain") == b"a,b\n"
    assert server.asked[0].headers["Content-Type"] == "text/plain"
    assert client.delete("/y") is None


@pytest.mark.parametrize("passing", [None, problem(503), problem(429), (502, {}, b"<html>bad gateway</html>")])
def test_what_passes_is_tried_again_with_the_same_idempotency_key(
    server: Script, client: Client, pauses: list[float], passing: Any
) -> None:
    server.will(passing, ok({"contact": "1"}), ok({"contact": "2"}))
    assert client.post("/v1/contacts", {"queue": "sales"}) == {"contact": "1"}
    first, second = server.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body
    assert len(pauses) == 1
    client.post("/v1/contacts", {"queue": "sales"})
    assert server.asked[2].headers["Idempotency-Key"] != first.headers["Idempotency-Key"], "another request has another key"


def test_ones_own_idempotency_key_is_sent_and_an_empty_one_is_none(server: Script, client: Client) -> None:
    server.will(ok(), ok())
    client.request("POST", "/x", idempotency_key="order-17")
    client.request("POST", "/x", idempotency_key="")
    assert [asked.headers.get("Idempotency-Key") for asked in server.asked] == ["order-17", None]


def test_pauses_obey_retry_after_and_grow_without_it(server: Script, client: Client, pauses: list[float]) -> None:
    server.will(problem(429, headers={"Retry-After": "7"}), problem(503), ok())
    client.get("/x")
    assert 7 <= pauses[0] <= 7.25
    assert 0 <= pauses[1] <= 0.5


def test_a_request_whose_first_try_is_still_at_work_waits_for_it(server: Script, client: Client) -> None:
    server.will(None, problem(409, "in progress", {"Retry-After": "1"}), ok({"contact": "1"}))
    assert client.post("/v1/contacts", {}) == {"contact": "1"}


def test_a_conflict_is_no_reason_to_try_again(server: Script, client: Client) -> None:
    server.will(problem(409))
    with pytest.raises(Conflict):
        client.post("/x")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("last", "raised"), [(None, Unreachable), (problem(503), Unavailable), (problem(429), TooManyRequests)])
def test_tries_are_used_up(server: Script, client: Client, last: Any, raised: type[Exception]) -> None:
    server.will(problem(503), None, last)
    with pytest.raises(raised):
        client.get("/x")
    assert len(server.asked) == 3


def test_nobody_listens_there(client: Client) -> None:
    with pytest.raises(Unreachable, match=r"GET /x: \w+ after 3 tries"):
        Client("http://127.0.0.1:9", "secret", tries=3, sleep=lambda _: None).get("/x")


def test_a_delete_that_was_heard_though_its_answer_was_lost_is_done(server: Script, client: Client) -> None:
    server.will(None, problem(404))
    assert client.delete("/v1/keys/1") is None
    server.will(problem(404))
    with pytest.raises(NotFound):
        client.delete("/v1/keys/1")


def test_a_refusal_is_an_exception_that_says_what_to_mend(server: Script, client: Client) -> None:
    server.will(problem(422, "the body is not as it must be", errors={"queue": ["Missing data for required field."]}), (418, {}, b"tea"))
    with pytest.raises(Invalid) as told:
        client.post("/v1/contacts", {})
    assert (told.value.status, told.value.errors) == (422, {"queue": ["Missing data for required field."]})
    assert "the body is not as it must be" in str(told.value)
    assert "secret" not in repr(told.value) + repr(client)
    with pytest.raises(Problem, match=r"418.*tea"):
        client.get("/x")


def test_a_list_is_read_page_by_page_as_it_is_needed(server: Script, client: Client) -> None:
    server.will(ok({"items": [{"n": 1}, {"n": 2}], "next": "b/2"}), ok({"items": [{"n": 3}], "next": None}))
    items = client.items("/v1/agents", limit=2)
    assert [next(items)["n"], next(items)["n"]] == [1, 2]
    assert len(server.asked) == 1
    assert [one["n"] for one in items] == [3]
    assert server.asked[1].path == "/base/v1/agents?limit=2&cursor=b%2F2"


def test_an_assignment_is_waited_for_without_an_idempotency_key(server: Script, client: Client) -> None:
    server.will(ok({"state": "waiting"}), None, ok({"state": "assigned", "address": "PJSIP/1001"}))
    assert client.assignment("pbx1:17.5", within=60)["address"] == "PJSIP/1001"
    assert {asked.path for asked in server.asked} == {"/base/v1/contacts/pbx1:17.5/assignment?wait=20.0"}
    assert not any("Idempotency-Key" in asked.headers for asked in server.asked), "an answer of a minute ago is no answer"


def test_waiting_ends(server: Script, client: Client) -> None:
    server.will(ok({"state": "waiting"}), ok({"offers": []}))
    assert client.assignment("c", within=0)["state"] == "waiting"
    assert client.offers("ann", within=0, session="desk 1") == []
    assert server.asked[1].path == "/base/v1/agents/ann/offers?wait=0.0&session=desk+1"


STREAM = (
    'retry: 1000\n\n: still here\n\nid: 4\nevent: routing.offer_made.v1\ndata: {"a":\ndata:  1}\n\nid: 5\ndata: plain\n\nid: 6\ndata: {"cut'
)


def test_a_stream_is_read_and_goes_on_after_the_last_whole_event(server: Script, client: Client) -> None:
    server.will(events(STREAM), problem(503, headers={"Retry-After": "1"}), None, events('id: 6\ndata: {"b": 2}\n\n'))
    told = list(islice(client.stream("routing.*", "queue:sales", after="3"), 3))
    assert told == [Event("4", "routing.offer_made.v1", {"a": 1}), Event("5", "message", "plain"), Event("6", "message", {"b": 2})]
    assert [asked.headers.get("Last-Event-ID") for asked in server.asked] == ["3", "5", "5", "5"]
    assert server.asked[0].path == "/base/v1/stream?topics=routing.%2A%2Cqueue%3Asales"


def test_a_stream_that_is_refused_for_good_says_so(server: Script, client: Client) -> None:
    server.will(problem(403))
    with pytest.raises(answerline.Forbidden):
        next(client.stream("live"))


@pytest.mark.parametrize("address", ["calls.example.com", "ftp://x", "http://", "http://x?y", ""])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Client(address)


@pytest.mark.parametrize(
    ("header", "holds"), [("3", lambda s: s == 3), (None, lambda s: s is None), ("soon", lambda s: s is None), ("-1", lambda s: s == 0),
                          ("Sat, 21 Nov 2076 12:00:00 GMT", lambda s: s > 1e9)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str | None, holds: Callable[[Any], bool]) -> None:
    assert holds(seconds_of(header))
