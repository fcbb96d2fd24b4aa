"""The in-memory transport: a message wakes those who read its queue, and nobody else."""

from __future__ import annotations

from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Queue

from shared.bus import memory
from shared.bus.broker import Broker


def publish(queue: str) -> None:
    with Broker("memory://").connect() as connection, connection.channel() as channel:
        Queue(queue)(channel).declare()
        channel.basic_publish(channel.prepare_message("{}", content_type="application/json"), exchange="", routing_key=queue)


def test_whoever_reads_another_queue_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: dict[Any, Event] = {}
    woken = {name: Event() for name in ("one", "other")}
    for name, event in woken.items():
        readers[type(name, (), {"channels": [SimpleNamespace(_active_queues=[f"memory.{name}"])]})] = event
    monkeypatch.setattr(memory, "_waiting", readers)
    publish("memory.one")
    assert {name: event.is_set() for name, event in woken.items()} == {"one": True, "other": False}


def test_who_waits_gets_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOOK_SECONDS", 60.0)
    taken: list[Any] = []

    def read() -> None:
        with (
            Broker("memory://").connect() as connection,
            connection.channel() as channel,
            connection.Consumer([Queue("memory.read")], channel=channel, on_message=taken.append, no_ack=True, accept=["json"]),
        ):
            connection.drain_events(timeout=60.0)

    thread = Thread(target=read)
    thread.start()
    while not memory._waiting and thread.is_alive():
        thread.join(0.001)
    publish("memory.read")
    thread.join(30)
    assert len(taken) == 1
