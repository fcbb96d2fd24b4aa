"""Sending, over kombu's in-memory transport and, for what only a real broker does, over a channel of our own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from amqp.exceptions import NotFound
from amqp.transport import TCPTransport
from kombu import Connection
from kombu.transport import memory
from sqlalchemy import select

from shared.bus import broker as brokers
from shared.bus import relay as relays
from shared.bus.broker import Broker
from shared.bus.outbox import UnitOfWork
from shared.bus.relay import CHECKPOINT_SECONDS, Relay, Sender
from shared.contracts import topology
from shared.runtime import loops
from tests.unit.conftest import SetClock

from .events import event

INBOX = topology.inbox_queue("routing")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A broker in memory, without a past."""
    monkeypatch.setattr(relays, "IDLE_SECONDS", 0)
    monkeypatch.setattr(relays, "RETURNED_PAUSE", 0)
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()
    with Broker("memory://").connect() as connected:
        yield connected


def announce(units: UnitOfWork, *sequences: int) -> None:
    with units() as work:
        for sequence in sequences:
            work.announce(event("pbx1", sequence))


def times(n: int) -> Callable[[], bool]:
    """Proceed that often."""
    left = iter([True] * n)
    return lambda: next(left, False)


def received(connection: Connection, queue: str = INBOX) -> list[Any]:
    """What is in a queue: the sequence of events, control messages as they are."""
    with connection.channel() as channel:
        bodies = []
        while message := channel.basic_get(queue, no_ack=True):
            bodies.append(orjson.loads(channel.message_to_python(message).body if isinstance(message, dict) else message.body))
    return [body.get("sequence", body) for body in bodies]


def unpublished(units: UnitOfWork) -> list[int]:
    outbox = units.tables.outbox
    with units.database.reading() as reading:
        rows = reading.scalars(select(outbox.c.body).where(outbox.c.published_at.is_(None)).order_by(outbox.c.seq))
        return [body["sequence"] for body in rows]


def events_only(messages: list[Any]) -> list[int]:
    return [message for message in messages if isinstance(message, int)]


def test_it_publishes_in_order_and_marks(units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "BATCH", 7)
    announce(units, *range(20))
    Relay(Broker("memory://"), units, "gateway").run(connection, times(4))
    assert events_only(received(connection)) == list(range(20))
    assert unpublished(units) == []


def test_each_row_is_published_once(units: UnitOfWork, connection: Connection) -> None:
    relay = Relay(Broker("memory://"), units, "gateway")
    for n in range(3):
        announce(units, n)
        relay.run(connection, times(2))
    assert events_only(received(connection)) == [0, 1, 2]


def test_an_inbox_made_anew_is_told_so_first(units: UnitOfWork, connection: Connection) -> None:
    announce(units, 1)
    Relay(Broker("memory://"), units, "gateway").run(connection, times(1))
    assert received(connection)[:2] == [{"control": "queue_created"}, 1]
    Relay(Broker("memory://"), units, "gateway").run(connection, times(1))
    assert {"control": "queue_created"} not in received(connection)


def test_an_old_queue_whose_node_is_away_holds_nothing_up(
    units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_channel: Any, queue: str, **_: Any) -> None:
        raise NotFound(f"home node of durable queue {queue} is down")

    monkeypatch.setattr(memory.Channel, "queue_delete", refuse)
    announce(units, 1)
    Relay(Broker("memory://"), units, "gateway").run(connection, times(1))
    assert events_only(received(connection)) == [1]


def test_checkpoints_tell_up_to_where_all_is_published(units: UnitOfWork, connection: Connection, at: SetClock) -> None:
    relay = Relay(Broker("memory://"), units, "gateway")

    def run() -> list[int]:
        at.forward(CHECKPOINT_SECONDS)
        relay.run(connection, times(1))
        return [one["position"] for one in received(connection) if isinstance(one, dict) and one["control"] == "checkpoint"]

    announce(units, 1, 2)
    assert run() == [2]
    assert run() == []
    announce(units, 3)
    assert run() == [3]
    announce(units, 4, 5, 6)
    with units.database.transaction() as writing:
        writing.exec_driver_sql("update outbox set published_at = 1 where seq <> 5")
    relay._publish_pending = lambda _sender: 0  # type: ignore[method-assign]
    assert run() == [4]


def ask(connection: Connection, receiver: str, after: int) -> None:
    with connection.channel() as channel:
        request = channel.prepare_message(
            orjson.dumps(brokers.control("replay", receiver=receiver, after=after)),
            content_type="application/json",
            content_encoding="utf-8",
        )
        channel.basic_publish(request, exchange="", routing_key=topology.replay_queue("gateway"))


def test_a_replay_sends_again_what_was_published_after_a_position(
    units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH", 3)
    relay = Relay(Broker("memory://"), units, "gateway")
    announce(units, *range(1, 11))
    relay.run(connection, times(4))
    received(connection)
    ask(connection, "routing", 4)
    relay.run(connection, times(4))
    sent = received(connection)
    assert events_only(sent) == [5, 6, 7, 8, 9, 10]
    assert {"control": "checkpoint", "publisher": "gateway:replayed", "position": 4} in sent, "said behind the last"
    relay.run(connection, times(1))
    assert events_only(received(connection)) == []


def test_a_replay_that_is_broken_off_is_begun_again_by_whoever_relays_then(
    units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long one does not keep a process that must stop, nor go on where another has the lease."""
    monkeypatch.setattr(memory.Channel, "do_restore", True)  # as a broker does with what was not acknowledged
    monkeypatch.setattr(relays, "BATCH", 3)
    relay = Relay(Broker("memory://"), units, "gateway")
    announce(units, *range(1, 11))
    relay.run(connection, times(4))
    received(connection)
    ask(connection, "routing", 0)
    relay.run(connection, times(3))
    sent = received(connection)
    assert (events_only(sent), len(sent)) == ([1, 2, 3, 4, 5, 6], 6), "nothing says that it is done"
    relay.run(connection, times(6))
    assert events_only(received(connection)) == list(range(1, 11))


def test_a_request_that_makes_no_sense_is_passed_over(units: UnitOfWork, connection: Connection) -> None:
    relay = Relay(Broker("memory://"), units, "gateway")
    announce(units, 1)
    relay.run(connection, times(1))
    received(connection)
    ask(connection, "nobody", 0)
    ask(connection, "routing", 0)
    relay.run(connection, times(3))
    assert events_only(received(connection)) == [1]


def test_pruning_keeps_what_is_young_or_unpublished(units: UnitOfWork, connection: Connection, at: SetClock) -> None:
    relay = Relay(Broker("memory://"), units, "gateway")
    announce(units, 1)
    relay.run(connection, times(1))
    at.forward(100)
    announce(units, 2)
    relay.run(connection, times(1))
    announce(units, 3)
    assert not relay.prune(50), "there is no more to forget"
    with units.database.reading() as reading:
        assert [body["sequence"] for body in reading.scalars(select(units.tables.outbox.c.body))] == [2, 3]


class Confirming:
    """A broker that answers each message as the script says: ack, nack or return; at the end, and out of order."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.sent: list[str] = []
        self.events: dict[str, set[Callable[..., None]]] = {"basic_ack": set(), "basic_nack": set(), "basic_return": set()}

    def channel(self) -> Confirming:
        return self

    def confirm_select(self) -> None:
        self.sent.clear()

    def prepare_message(self, body: str, properties: dict[str, Any], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(body=body, properties=properties)

    def basic_publish(self, message: SimpleNamespace, mandatory: bool, **_: Any) -> None:
        assert mandatory and message.properties["delivery_mode"] == 2
        self.sent.append(message.properties["message_id"])
        if self.answers.get(self.sent[-1]) == "return":
            self._tell("basic_return", "NO_ROUTE", "exchange", "key", message)

    def drain_events(self, timeout: float) -> None:
        acked = [tag for tag, id in enumerate(self.sent, 1) if self.answers.get(id) != "nack"]
        for tag, id in enumerate(self.sent, 1):
            if self.answers.get(id) == "nack":
                self._tell("basic_nack", tag, False)
        for tag in reversed(acked[-2:]):
            self._tell("basic_ack", tag, False)
        self._tell("basic_ack", len(self.sent), True)

    def _tell(self, what: str, *told: Any) -> None:
        for hear in self.events[what]:
            hear(*told)


def line() -> tuple[SimpleNamespace, Any, socket.socket]:
    """A connection over TCP as far as bytes are concerned, and its other end."""
    ours, theirs = socket.socketpair()
    transport = TCPTransport("nowhere:1")
    transport.sock = ours
    transport._setup_transport()
    return SimpleNamespace(connection=SimpleNamespace(transport=transport)), transport, theirs


def test_what_is_published_in_one_go_leaves_in_order_and_in_few_pieces() -> None:
    connection, transport, theirs = line()
    buffer = bytearray(b"one")
    with brokers.in_one_go(connection):  # type: ignore[arg-type]
        transport.write(memoryview(buffer))
        buffer[:] = b"two"
        transport.write(memoryview(buffer))
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        transport.write(b"3" * brokers.WRITE_BYTES)
        assert theirs.recv(6) == b"onetwo", "a large piece does not wait for the end"
    transport.write(b"end")
    theirs.setblocking(True)
    left = b""
    while not left.endswith(b"end"):
        left += theirs.recv(2**20)
    assert left == b"3" * brokers.WRITE_BYTES + b"end"


def test_reading_ahead_loses_nothing() -> None:
    connection, transport, theirs = line()
    brokers._read_ahead(connection)  # type: ignore[arg-type]
    told = bytes(range(256)) * 100
    theirs.sendall(told)
    assert b"".join(transport._read(size) for size in (1, 7, 8191, 8193, len(told) - 16392)) == told


def send(broker: Confirming, *ids: str, sender: Sender | None = None) -> list[int]:
    sender = sender or Sender(broker, confirms=True)  # type: ignore[arg-type]
    return sender.send([(int(id), id, "{}", "exchange", "key") for id in ids])


def test_only_what_the_broker_has_safely_counts_as_sent() -> None:
    assert send(Confirming(), "10", "11", "12") == [10, 11, 12]
    assert send(Confirming(**{"11": "nack"}), "10", "11", "12") == [10, 12]
    assert send(Confirming(**{"10": "return", "12": "return"}), "10", "11", "12") == [11]


def test_what_was_refused_once_may_be_taken_the_next_time() -> None:
    broker = Confirming(**{"10": "return", "11": "nack"})
    sender = Sender(broker, confirms=True)  # type: ignore[arg-type]
    assert send(broker, "10", "11", "12", sender=sender) == [12]
    broker.answers.clear()
    assert send(broker, "10", "11", sender=sender) == [10, 11]


def test_an_unroutable_event_is_tried_again_and_never_dropped(
    units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [1, 1]

    def send(sender: Sender, messages: list[Any]) -> list[int]:
        return [seq for seq, *_ in messages if not (seq == 2 and refused and refused.pop())]

    monkeypatch.setattr(Sender, "send", send)
    announce(units, 1, 2, 3)
    relay = Relay(Broker("memory://"), units, "gateway")
    relay.run(connection, times(2))
    assert unpublished(units) == [2]
    relay.run(connection, times(1))
    assert unpublished(units) == []


def test_a_replay_counts_as_done_only_when_all_of_it_is_confirmed(
    units: UnitOfWork, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(Broker("memory://"), units, "gateway")
    announce(units, 1, 2)
    relay.run(connection, times(1))
    acknowledged: list[bool] = []
    body = orjson.dumps(brokers.control("replay", receiver="routing", after=0))
    request = SimpleNamespace(body=body, ack=lambda: acknowledged.append(True))
    sender = SimpleNamespace(send=lambda messages: [seq for seq, *_ in messages[1:]])
    with pytest.raises(ConnectionError, match="not confirm"):
        relay._replay(sender, request, lambda: True)  # type: ignore[arg-type]
    assert not acknowledged


def test_whoever_was_active_once_and_stands_by_now_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RETRY_EVERY", 0)
    loop = loops.RelayLoop()
    loop.context = SimpleNamespace(lease=SimpleNamespace(acquire=lambda: False), links={"RelayLoop": False, "Consume": True})
    loop.run()
    assert loop.context.links == {"Consume": True}
