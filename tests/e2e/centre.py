"""A small routed centre for one test: its queue, its agents, its callers who wait in long polls."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.system import System, eventually

LONG = 30.0
SKILL = "zh"


class Centre:
    """Everything is named after the test, so that tests do not meet."""

    def __init__(self, system: System, name: str, **queue: Any) -> None:
        self.system, self.name = system, name
        self.people = system.patient()
        self.pool = ThreadPoolExecutor(32)
        settings = {"mode": "routed", "required_skills": {SKILL: 2}, "offer_seconds": 60, "retry_seconds": 0.2}
        self.queue = self.people.put(f"/v1/queues/{name}", settings | queue).ok()["name"]

    def agent(self, who: str, state: str = "available", level: int = 3, **profile: Any) -> str:
        """An agent of this centre, and in this state; returns the id."""
        id = f"{self.name}_{who}"
        told = {
            "name": f"{who} {self.name}",
            "skills": {SKILL: level},
            "channels": ["voice"],
            "queues": [self.queue],
            "address": f"PJSIP/{id}",
        }
        self.people.put(f"/v1/agents/{id}", told | profile).ok()
        self.state(id, state)
        return id

    def state(self, agent: str, state: str, **more: Any) -> dict[str, Any]:
        return self.people.put(f"/v1/agents/{agent}/state", {"state": state, **more}).ok()

    def state_of(self, agent: str) -> str:
        return self.people.get(f"/v1/agents/{agent}").ok()["state"]

    def call(self, call: str = "", **contact: Any) -> str:
        """A contact arrives; returns its id once routing knows it."""
        told = {"queue": self.queue, "source": self.name, **({"call": call} if call else {}), **contact}
        id = self.people.post("/v1/contacts", told).ok()["contact"]
        eventually(lambda: self.contact(id))
        return id

    def contact(self, contact: str) -> dict[str, Any] | None:
        answer = self.people.get(f"/v1/contacts/{contact}")
        return answer.ok() if answer.status != 404 else None

    def leg(self, contact: str) -> dict[str, Any]:
        found = self.contact(contact)
        assert found, contact
        return found["legs"][-1]

    def wait_for_agent(self, contact: str, wait: float = LONG) -> Future[dict[str, Any]]:
        """The dialplan's long poll, in a thread."""
        return self.pool.submit(lambda: self.people.post(f"/v1/contacts/{contact}/assignment", wait=wait).ok())

    def assignment(self, contact: str) -> dict[str, Any]:
        return self.people.post(f"/v1/contacts/{contact}/assignment").ok()

    def offer(self, agent: str, contact: str | None = None, wait: float = 10.0) -> dict[str, Any]:
        """The offer on the agent's table, having waited for it."""
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            offers = self.people.get(f"/v1/agents/{agent}/offers", wait=1).ok()["offers"]
            if offers and contact in (None, offers[0]["contact"]):
                assert len(offers) == 1
                return offers[0]
        raise AssertionError(f"no offer of {contact or 'anything'} to {agent}; it is {self.state_of(agent)}")

    def offers(self, agent: str) -> list[dict[str, Any]]:
        return self.people.get(f"/v1/agents/{agent}/offers").ok()["offers"]

    def accept(self, agent: str, offer: dict[str, Any]) -> dict[str, Any]:
        return self.people.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent}).ok()

    def reject(self, agent: str, offer: dict[str, Any]) -> dict[str, Any]:
        return self.people.post(f"/v1/offers/{offer['id']}/reject", {"agent": agent, "reason": "busy with mail"}).ok()

    def end(self, contact: str, by: str = "caller") -> None:
        assert self.people.post(f"/v1/contacts/{contact}/end", {"ended_by": by}).status == 202

    def serve(self, agent: str, contact: str) -> None:
        """Offer, acceptance, talk: the contact is with the agent."""
        self.accept(agent, self.offer(agent, contact))

    def misses(self, agent: str) -> int:
        name = self.people.get(f"/v1/agents/{agent}").ok()["name"]
        rows = self.people.get("/v1/reports/agents", source=self.name).ok()["agents"]
        return sum(row["ring_no_answer"] for row in rows if row["agent"] == name)

    def figures(self) -> dict[str, Any]:
        rows = self.people.get("/v1/reports/queues", source=self.name).ok()["queues"]
        return next((row for row in rows if row["queue"] == self.queue), {})

    @contextmanager
    def hanging(self, contact: str, wait: float = LONG) -> Iterator[socket.socket]:
        """A long poll whose connection the test holds in its hand."""
        with socket.create_connection(self.system.address, timeout=LONG) as connection:
            connection.sendall(self._poll(contact, wait))
            yield connection

    def _poll(self, contact: str, wait: float) -> bytes:
        head = f"POST /v1/contacts/{contact}/assignment?wait={wait} HTTP/1.1\r\nHost: x\r\n"
        return f"{head}Authorization: Bearer {self.system.key}\r\nContent-Length: 0\r\n\r\n".encode()

    def come_back(self, contact: str, connection: socket.socket, wait: float = LONG) -> None:
        """Ask again on a hanging connection, should it have been answered 503."""
        if select.select([connection], [], [], 0)[0] and answer_on(connection)["status"] == 503:
            connection.sendall(self._poll(contact, wait))


def answer_on(connection: socket.socket) -> dict[str, Any]:
    """The JSON that arrives on a hanging connection."""
    read = b""
    while b"\r\n\r\n" not in read or not read.endswith(b"}"):
        more = connection.recv(65536)
        assert more, read
        read += more
    return dict(json.loads(read.partition(b"\r\n\r\n")[2]))
