"""Webhooks from a call to a receiver of one's own: signed, in order, again where it failed, and nothing lost when the gateway dies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from answerline import verify_webhook
from tests.system import System, eventually

Answer = Callable[[int], int]
"""The status for the receiver's nth request, from 1."""


class Receiver:
    """A server on this machine that notes what is posted to each of its paths."""

    def __init__(self) -> None:
        self.posts: dict[str, list[tuple[dict[str, str], bytes]]] = {}
        self.answers: dict[str, Answer] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts = receiver.posts.setdefault(self.path, [])
                posts.append((dict(self.headers), body))
                self.send_response(receiver.answers.get(self.path, lambda _: 204)(len(posts)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def events(self, path: str, secret: str) -> list[dict[str, Any]]:
        """What came, each checked against the secret."""
        return [verify_webhook(headers, body, secret) for headers, body in list(self.posts.get(path, ()))]


@contextmanager
def listening() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as one:
        yield one


def subscribe(system: System, receiver: Receiver, path: str, queue: str, *types: str) -> Any:
    told = {"url": receiver.url(path), "types": types or ["gateway.contact_arrived.*"], "queues": [queue]}
    return system.post("/v1/webhooks", told).ok()


def call(system: System, source: str, queue: str, *calls: str) -> None:
    now = int(time.time())
    lines = "".join(f"{now}|{one}|{queue}|NONE|ENTERQUEUE||1|1\n" for one in calls)
    system.post("/v1/telephony/asterisk/queue-log", lines, source=source).ok()


def delivery(system: System, webhook: Any) -> Any:
    items = system.get(f"/v1/webhooks/{webhook['id']}/deliveries").ok()["items"]
    return items[0] if items else None


def test_what_happens_to_a_call_is_posted_signed_and_in_order(system: System, receiver: Receiver, name: str) -> None:
    webhook = subscribe(system, receiver, "/crm", name, "gateway.contact_*")
    now = int(time.time())
    lines = (
        f"{now}|{name}.1|{name}|NONE|ENTERQUEUE||+85267786396|1\n"
        f"{now}|{name}.1|{name}|Ann|CONNECT|2|{name}.2|1\n"
        f"{now}|{name}.1|{name}|Ann|COMPLETECALLER|2|5|1\n"
    )
    for line in lines.splitlines(keepends=True):
        system.post("/v1/telephony/asterisk/queue-log", line, source=name).ok()
        system.settle()
    eventually(lambda: len(receiver.posts.get("/crm", ())) >= 3)
    events = receiver.events("/crm", webhook["secret"])
    assert [event["type"] for event in events] == [f"gateway.contact_{what}.v1" for what in ("arrived", "answered", "ended")]
    assert [event["sequence"] for event in events] == [1, 2, 3]
    assert len({event["subject"] for event in events}) == 1
    assert "67786396" not in str(receiver.posts)
    assert eventually(lambda: delivery(system, webhook)["state"] == "delivered")
    assert system.metrics("gateway")['answerline_gateway_webhook_deliveries_total{outcome="delivered"}'] >= 3
    system.delete(f"/v1/webhooks/{webhook['id']}")


def test_each_answer_has_its_consequence_and_a_slow_receiver_holds_up_nobody(system: System, receiver: Receiver, name: str) -> None:
    may_end = threading.Event()
    receiver.answers = {
        "/flaky": lambda number: 500 if number == 1 else 200,
        "/gone": lambda _: 410,
        "/moved": lambda _: 302,
        "/slow": lambda _: 204 if may_end.wait(10) else 500,
    }
    webhooks = {path: subscribe(system, receiver, path, name) for path in ("/flaky", "/gone", "/moved", "/slow", "/quick")}
    calls = [f"{name}.{number}" for number in range(20)]
    call(system, name, name, calls[0])
    eventually(lambda: all(receiver.posts.get(path) for path in webhooks))
    call(system, name, name, *calls[1:])
    eventually(lambda: len(receiver.posts["/quick"]) == len(calls))
    assert 1 <= len(receiver.posts["/slow"]) < len(calls), "still busy with the first ones"
    may_end.set()
    eventually(lambda: len(receiver.posts["/slow"]) == len(calls))

    assert eventually(lambda: not system.get(f"/v1/webhooks/{webhooks['/gone']['id']}").ok()["enabled"])
    assert system.get(f"/v1/webhooks/{webhooks['/gone']['id']}").ok()["disabled"] == "gone"
    moved = system.get(f"/v1/webhooks/{webhooks['/moved']['id']}/deliveries", state="pending").ok()["items"]
    assert any(one["last_status"] == 302 and "redirect is not followed" in one["last_error"] for one in moved)
    assert "/elsewhere" not in receiver.posts

    def served() -> bool:
        events = receiver.events("/flaky", webhooks["/flaky"]["secret"])
        return {event["data"]["leg"]["call"] for event in events} == set(calls)

    assert eventually(served, within=30)
    twice = [headers["webhook-id"] for headers, _ in receiver.posts["/flaky"]]
    assert twice.count(twice[0]) == 2, "the one that failed came again under its id"
    for webhook in webhooks.values():
        system.delete(f"/v1/webhooks/{webhook['id']}")


def test_after_a_rotation_a_receiver_may_know_either_secret(system: System, receiver: Receiver, name: str) -> None:
    webhook = subscribe(system, receiver, "/crm", name)
    rotated = system.post(f"/v1/webhooks/{webhook['id']}/rotate", {}).ok()
    call(system, name, name, f"{name}.1")
    eventually(lambda: receiver.posts.get("/crm"))
    for secret in (webhook["secret"], rotated["secret"]):
        assert receiver.events("/crm", secret)
    system.delete(f"/v1/webhooks/{webhook['id']}")


def test_a_test_tells_what_came_back(system: System, receiver: Receiver, name: str) -> None:
    webhook = subscribe(system, receiver, "/crm", name)
    told = system.post(f"/v1/webhooks/{webhook['id']}/test").ok()
    assert (told["accepted"], told["status"]) == (True, 204)
    (event,) = receiver.events("/crm", webhook["secret"])
    assert (event["id"], event["type"]) == (told["event"], "gateway.webhook_tested.v1")
    with listening() as closed:
        url = closed.url("/")
    system.put(f"/v1/webhooks/{webhook['id']}", {"url": url, "types": ["*"], "queues": [name]}).ok()
    told = system.post(f"/v1/webhooks/{webhook['id']}/test").ok()
    assert (told["accepted"], told["status"]) == (False, None)
    assert "cannot connect to 127.0.0.1" in told["error"]
    system.delete(f"/v1/webhooks/{webhook['id']}")


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/", "http://[::1]:8000/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/", "http://1.1.1.1/"]
)
def test_nothing_is_sent_inside_unless_the_operator_allows_it(system: System, url: str) -> None:
    assert "url" in system.post("/v1/webhooks", {"url": url, "types": ["*"]}).problem(422)["errors"]


def test_the_gateway_is_killed_amid_deliveries_and_nothing_is_lost(own_system: System, receiver: Receiver, name: str) -> None:
    system, killed = own_system, threading.Event()
    receiver.answers["/crm"] = lambda _: 204 if killed.is_set() or killed.wait(30) else 500
    webhook = subscribe(system, receiver, "/crm", name)
    calls = [f"{name}.{number}" for number in range(40)]
    call(system, name, name, *calls)
    eventually(lambda: receiver.posts.get("/crm"))
    under_way = receiver.posts["/crm"][0][0]["webhook-id"]
    system.kill("gateway")
    killed.set()
    system.start("gateway")

    def arrived() -> bool:
        events = receiver.events("/crm", webhook["secret"])
        return {event["data"]["leg"]["call"] for event in events} == set(calls)

    assert eventually(arrived, within=40)
    ids = eventually(lambda: [json.loads(body)["id"] for _, body in receiver.posts["/crm"]])
    assert len(set(ids)) == len(calls), "whatever came twice came under the same id"
    assert eventually(lambda: [headers["webhook-id"] for headers, _ in receiver.posts["/crm"]].count(under_way) == 2)
    state = f"/v1/webhooks/{webhook['id']}/deliveries"
    assert eventually(lambda: len(system.get(state, state="delivered").ok()["items"]) == len(calls))
