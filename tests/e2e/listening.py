"""A listener of the event stream, as a program would be: by HTTP, with the id of what it had last."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import orjson

from tests.system import Client, System

PACE = 0.02
"""Seconds between two contacts."""


class Told(NamedTuple):
    id: str
    """Of the last event so far."""
    name: str
    data: Any


class Ear:
    """Listens from the moment of its making."""

    def __init__(self, client: Client, topics: str, last: str = "", timeout: float = 20.0, **query: Any) -> None:
        self.connection = http.client.HTTPConnection(*client.address, timeout=timeout)
        headers = {"Authorization": f"Bearer {client.key}"} if client.key else {}
        self.connection.request(
            "GET", f"/v1/stream?{urlencode({'topics': topics, **query})}", headers=headers | ({"Last-Event-ID": last} if last else {})
        )
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.last = last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self.connection.close()

    def __iter__(self) -> Iterator[Told]:
        """Until the connection ends; raises TimeoutError when nothing comes."""
        name, data = "message", ""
        while line := self.answer.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            match field:
                case "id":
                    self.last = value
                case "event":
                    name = value
                case "data":
                    data += value
                case "" if data:
                    yield Told(self.last, name, orjson.loads(data))
                    name, data = "message", ""

    def until(self, wanted: Any) -> list[Told]:
        """All up to the first for which `wanted` holds."""
        heard = []
        for told in self:
            heard.append(told)
            if wanted(told):
                return heard
        raise ConnectionError(f"the stream ended after {heard[-3:]}")

    def opened(self) -> Self:
        """Having read what comes first: where it begins is settled now."""
        while not self.last:
            line = self.answer.readline().decode()
            if line.startswith("id: "):
                self.last = line[4:].strip()
        return self


# ---- something to listen to


@contextmanager
def busy(system: System, queue: str) -> Iterator[list[str]]:
    """Contacts come and go in the queue, until the block ends; yields their ids."""
    over, contacts = threading.Event(), []

    def work() -> None:
        while not over.is_set():
            contact = system.post("/v1/contacts", {"queue": queue, "source": queue}).ok()["contact"]
            system.post(f"/v1/contacts/{contact}/end", {}).ok()
            contacts.append(contact)
            over.wait(PACE)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield contacts
    finally:
        over.set()
        thread.join()


def ended(system: System, queue: str, contact: str = "") -> str:
    """A contact whose events are the last: it was told of, and ended, after all others."""
    contact = contact or system.post("/v1/contacts", {"queue": queue, "source": queue}).ok()["contact"]
    system.post(f"/v1/contacts/{contact}/end", {}).ok()
    return contact


def is_last(contact: str) -> Callable[[Told], bool]:
    return lambda told: told.name == "routing.contact_abandoned.v1" and told.data["subject"] == contact


def ids(heard: list[Told]) -> list[str]:
    return [told.data["id"] for told in heard]
