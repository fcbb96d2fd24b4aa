"""The broker: connections, and the declaration of exchanges and queues."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp.exceptions import AMQPError, ChannelError
from amqp.transport import TCPTransport
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from shared.bus.address import divided
from shared.contracts import topology

HEARTBEAT_SECONDS = 20
NOT_FOUND = "(404)"
READ_BYTES = 8192
WRITE_BYTES = 65536
PERSISTENT = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
# RabbitMQ 4 drops a message after 20 redeliveries unless told otherwise; what is never applied ends in our own dead letters instead.
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}

EVENTS = Exchange(topology.EXCHANGE, type="topic", durable=True, arguments={"alternate-exchange": topology.UNROUTED})
UNROUTED = Exchange(topology.UNROUTED, type="fanout", durable=True)
UNROUTED_QUEUE = Queue(topology.UNROUTED_QUEUE, UNROUTED, durable=True, queue_arguments={**QUORUM, "x-max-length": 10_000})


class Broker:
    """Opens connections to one broker and declares on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_memory = url.startswith("memory://")
        self._address, self._tls = divided(url)

    def connect(self) -> Connection:
        """An open connection. Raises one of `errors(connection)` when the broker cannot be reached."""
        if self.in_memory:
            connection = Connection(
                transport="shared.bus.memory:Transport", transport_options={"body_encoding": None, "polling_interval": None}
            )
        else:
            options = {"confirm_publish": False}
            connection = Connection(
                self._address, ssl=self._tls or False, transport_options=options, heartbeat=HEARTBEAT_SECONDS, connect_timeout=5
            )
        connection.connect()
        _read_ahead(connection)
        return connection


def _read_ahead(connection: Connection) -> None:
    """The library asks the system for seven bytes, then for the rest, of each of the three frames of a message; what comes beyond it keeps."""
    transport: Any = getattr(getattr(connection, "connection", None), "transport", None)
    if type(transport) is TCPTransport:
        receive = transport.sock.recv
        transport._quick_recv = lambda wanted: receive(max(wanted, READ_BYTES))


@contextmanager
def in_one_go(connection: Connection) -> Iterator[None]:
    """What is published within leaves in large pieces, not in one for each message; all of it has left at the end of the block."""
    transport: Any = getattr(getattr(connection, "connection", None), "transport", None)
    if type(transport) is not TCPTransport:
        yield
        return
    write, pieces, size = transport._write, [], 0

    def hold(piece: Any) -> None:
        nonlocal size
        pieces.append(bytes(piece))  # the library uses its buffer again
        size += len(piece)
        if size >= WRITE_BYTES:
            whole, size = b"".join(pieces), 0
            pieces.clear()
            write(whole)

    transport._write = hold
    try:
        yield
    finally:
        transport._write = write
    if pieces:
        transport.write(b"".join(pieces))


def errors(connection: Connection) -> tuple[type[BaseException], ...]:
    """Everything that means "connect again". kombu's own recoverable sets miss 404 and 406."""
    return (*connection.connection_errors, *connection.channel_errors, AMQPError, OperationalError, OSError)


def keep_alive(connection: Connection) -> None:
    """To be called every second or so. Raises when the broker has not been heard of for too long."""
    if connection.transport.driver_type != "memory":
        connection.heartbeat_check()


def inbox(receiver: str) -> Queue:
    """The queue in which a receiver finds its events: one active consumer at a time, so that order holds with replicas."""
    return Queue(topology.inbox_queue(receiver), durable=True, queue_arguments={**QUORUM, "x-single-active-consumer": True})


def told(receiver: str) -> Queue:
    """Exists, empty for ever, once the loss of an earlier inbox has been told: whoever made the present one may have died at once."""
    return Queue(f"{topology.inbox_queue(receiver)}.told", durable=True, queue_arguments=QUORUM)


def replay_requests(publisher: str) -> Queue:
    return Queue(topology.replay_queue(publisher), durable=True, queue_arguments=QUORUM)


def exists(connection: Connection, queue: Queue) -> bool:
    """Whether the broker has the queue: it has not after its data were wiped, nor, in memory, at each start."""
    with connection.channel() as channel:
        try:
            queue(channel).queue_declare(passive=True)
        except ChannelError as error:
            if NOT_FOUND not in str(error):
                raise
            return False
        return True


def declare_for(
    connection: Connection, receivers: Iterable[str], publishers: Iterable[str], still: Callable[[], None] = lambda: None
) -> list[str]:
    """Declare the exchanges, the receivers' inboxes with their bindings and the publishers' replay queues.

    Returns the receivers whose inbox had to be made anew: what was sent to the old one may be lost. They are returned again until
    `note_told`, which is to be called when a replay is sure. `still` is called after each step: a cluster takes its time over a hundred bindings.
    """
    created = []
    for name in receivers:
        if not (exists(connection, inbox(name)) and exists(connection, told(name))):
            created.append(name)
        still()
    with connection.channel() as channel:
        UNROUTED(channel).declare()
        EVENTS(channel).declare()
        UNROUTED_QUEUE(channel).declare()
        for name in publishers:
            replay_requests(name)(channel).declare()
        for name in receivers:
            bound = inbox(name)(channel)
            bound.declare()
            for event_type in topology.SUBSCRIPTIONS[name]:
                bound.bind_to(exchange=EVENTS, routing_key=event_type)
                still()
    with suppress(ChannelError), connection.channel() as channel:  # refused while the node that has it is away: another time then
        channel.queue_delete(topology.UNROUTED)  # of an Answerline before 0.2
    return created


def note_told(connection: Connection, receiver: str) -> None:
    with connection.channel() as channel:
        told(receiver)(channel).queue_declare()


def control(kind: str, **values: Any) -> dict[str, Any]:
    """A message between relay and inbox about the stream itself, told from events by its `control` key."""
    return {"control": kind, **values}
