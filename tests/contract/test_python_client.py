"""The Python client against the real system; and every example of docs/client.md."""

from __future__ import annotations

import doctest
import re
import select
import socket
import threading
from itertools import islice
from pathlib import Path

import pytest

from answerline import Client, Forbidden, NotFound, Unauthenticated
from tests.contract.telephony import queue_report
from tests.system import System

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def client(system: System) -> Client:
    return Client(f"http://127.0.0.1:{system.ports['http']}", system.key or "", sleep=lambda _: None)


def test_every_example_of_the_documentation_is_true(system: System, client: Client, name: str) -> None:
    text = re.sub(r"\b(sales|ann|1001)\b", rf"\1_{name}", (DOCS / "client.md").read_text())
    test = doctest.DocTestParser().get_doctest(text, {"ADDRESS": client.address, "KEY": system.key}, "client.md", None, 0)
    assert len(test.examples) > 15
    told: list[str] = []
    done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert not done.failed, "".join(told)


def test_a_key_of_the_wrong_role_or_none_is_an_exception(system: System, client: Client) -> None:
    with pytest.raises(Unauthenticated):
        Client(client.address).get("/v1/queues")
    telephony = Client(client.address, system.client("telephony").key or "")
    with pytest.raises(Forbidden, match="role"):
        telephony.get("/v1/agents")


def test_a_list_of_several_pages_is_read_whole(client: Client, name: str) -> None:
    for number in range(5):
        client.put(f"/v1/queues/{name}_{number}", {"mode": "observed"})
    assert {f"{name}_{number}" for number in range(5)} <= {queue["name"] for queue in client.items("/v1/queues", limit=2)}


def test_lines_and_a_report_as_csv(system: System, client: Client, name: str) -> None:
    lines = f"1795296259|{name}.5|{name}|NONE|ENTERQUEUE||1|1\n1795296266|{name}.5|{name}|NONE|ABANDON|1|1|7\n"
    for accepted in (2, 0):
        told = client.request("POST", "/v1/telephony/asterisk/queue-log", lines, query={"source": name}, content_type="text/plain")
        assert (told["accepted"], told["duplicate"]) == (accepted, 2 - accepted)
    system.settle()
    assert queue_report(system, name)[name]["abandoned"] == 1
    period = {"from": "2026-11-21T00:00:00Z", "to": "2026-11-23T00:00:00Z", "source": name}
    table = client.get("/v1/reports/queues/intervals", **period, format="csv")
    assert isinstance(table, bytes) and table.startswith(b"queue,label")


def test_a_request_whose_answer_is_lost_happens_once(system: System, name: str) -> None:
    """A line that is cut when the first answer comes back: the client asks again, and it is the same contact."""
    with _Cutting(system.address) as between:
        client = Client(f"http://127.0.0.1:{between.port}", system.key or "", sleep=lambda _: None)
        made = client.post("/v1/keys", {"name": name, "roles": ["agent"]})
    assert between.cut == 1
    kept = [key for key in client_of(system).items("/v1/keys") if key["name"] == name]
    assert [key["id"] for key in kept] == [made["id"]]


def test_a_stream_goes_on_where_it_was_when_its_line_broke(system: System, client: Client, name: str) -> None:
    client.put(f"/v1/queues/{name}", {})
    contacts = [client.post("/v1/contacts", {"queue": name})["contact"] for _ in range(3)]
    whole = [event.id for event in islice(client.stream(f"queue:{name}", after="0"), 6)]
    assert len(set(whole)) == 6
    assert sorted(map(int, whole)) == [int(id) for id in whole]
    first = list(islice(client.stream(f"queue:{name}", after="0"), 2))
    rest = list(islice(client.stream(f"queue:{name}", after=first[-1].id), 4))
    assert [event.id for event in first + rest] == whole
    assert {event.data["subject"] for event in first + rest} == set(contacts)


def test_what_is_not_there_is_said_so(client: Client) -> None:
    with pytest.raises(NotFound):
        client.assignment("nowhere:1", within=0)


def test_the_documentation_names_every_exception() -> None:
    import answerline

    text = (DOCS / "client.md").read_text()
    assert all(re.search(rf"\b{name}\b", text) for name in answerline.__all__ if name != "Event")


def client_of(system: System) -> Client:
    return Client(f"http://127.0.0.1:{system.ports['http']}", system.key or "")


class _Cutting:
    """A line to the system that swallows the first answer and hangs up."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address, self.cut = address, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> _Cutting:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listening.close()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self.listening.accept()
            except OSError:
                return
            with ours, socket.create_connection(self.address) as theirs:
                self._pass_on(ours, theirs)

    def _pass_on(self, ours: socket.socket, theirs: socket.socket) -> None:
        while True:
            for speaking in select.select([ours, theirs], [], [])[0]:
                part = speaking.recv(65536)
                if not part:
                    return
                if speaking is theirs and not self.cut:
                    self.cut = 1
                    return
                (theirs if speaking is ours else ours).sendall(part)
