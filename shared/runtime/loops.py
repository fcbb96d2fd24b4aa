"""What runs for as long as the service does: the inbox, the relay, and a service's own loops."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
import structlog
from eventlet import Timeout
from eventlet.event import Event as Interrupt
from kombu import Connection, Exchange, Queue
from nameko.extensions import DependencyProvider, Entrypoint, Extension

from shared import clock
from shared.bus import broker as brokers
from shared.bus.envelope import Event
from shared.bus.inbox import Inbox, replayed
from shared.bus.outbox import Work
from shared.bus.relay import Sender
from shared.contracts import topology
from shared.db.engine import is_outage
from shared.errors import Unavailable
from shared.ids import new_id
from shared.observability import metrics
from shared.runtime import bootstrap

log = structlog.get_logger()

FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
DRAIN_SECONDS = 20.0
STUCK_SECONDS = 20.0
FAREWELL_SECONDS = 0.5
BATCH = 200
FILL_SECONDS = 0.002
IDLE_SECONDS = 0.5
RETRY_EVERY = 1.0
LEASE_EVERY = 1.0
PRUNE_EVERY = 3600.0
PRUNE_PAUSE = 0.5
KEEP_OUTBOX = 7 * 86400.0
KEEP_INBOX = 14 * 86400.0
CONTROL = b'{"control"'


class Loop(Extension):
    """A managed thread that is started with the container, lives through every outage, and finishes its step before it stops.
    Where it `must_be_linked`, the service is not ready before its consumers are in place."""

    must_be_linked = False
    first_shard_only = False

    def setup(self) -> None:
        if self.must_be_linked and not self.idle:
            bootstrap.of(self.container).links[type(self).__name__] = False
        self.running = False
        self.thread: Any = None

    @property
    def idle(self) -> bool:
        """Whether the first shard does this for all."""
        return self.first_shard_only and bootstrap.of(self.container).shard > 0

    def start(self) -> None:
        if self.idle:
            return
        self.running = True
        self.thread = self.container.spawn_managed_thread(self._live, identifier=type(self).__name__)

    def stop(self) -> None:
        self.running = False
        self.interrupt()
        with Timeout(DRAIN_SECONDS, False):
            if self.thread is not None:
                self.thread.wait()

    def kill(self) -> None:
        self.running = False

    def interrupt(self) -> None:
        """Cut a wait short so that the loop sees that it must stop."""

    def _live(self) -> None:
        pause = FIRST_PAUSE
        while self.running:
            began = clock.monotonic()
            try:
                self.run()
            except Exception as error:
                if not self.running:
                    return
                outage = is_outage(error) or isinstance(error, OSError | Unavailable)
                log.warning(
                    "loop begins anew",
                    loop=type(self).__name__,
                    service=self.container.service_name,
                    error=type(error).__name__,
                    detail=str(error).splitlines()[0][:200] if str(error) else "",
                    exc_info=None if outage else error,
                )
                pause = FIRST_PAUSE if clock.monotonic() - began > 10 * LAST_PAUSE else min(pause * 2, LAST_PAUSE)
                time.sleep(pause)

    def drain(self, connection: Connection, each_second: Callable[[], None] = lambda: None) -> None:
        """Let the connection's consumers work until the loop must stop."""
        beat_at = clock.monotonic()
        while self.running:
            self.beat()
            with suppress(TimeoutError):
                connection.drain_events(timeout=IDLE_SECONDS)
            if clock.monotonic() > beat_at:
                beat_at = clock.monotonic() + 1
                brokers.keep_alive(connection)
                each_second()

    def run(self) -> None:
        raise NotImplementedError

    def with_connection(self, work: Callable[[Connection], None]) -> None:
        """Run `work` over a broker connection; whatever the broker throws becomes OSError: connect again."""
        ours = bootstrap.of(self.container)
        link = type(self).__name__
        ours.links[link] = False
        connection = ours.broker.connect()
        self.watchdog, self.beat_at = Timeout(STUCK_SECONDS), clock.monotonic()
        try:
            work(connection)
        except brokers.errors(connection) as error:
            raise ConnectionError(f"broker: {type(error).__name__}: {error}") from error
        except Timeout as stuck:
            if stuck is not self.watchdog:
                raise
            raise ConnectionError(f"broker: no answer for {STUCK_SECONDS:g} s") from None
        finally:
            self.watchdog.cancel()
            ours.links[link] = False
            connection.collect(FAREWELL_SECONDS)

    def beat(self) -> None:
        """To be called by the loop itself, again and again: it is not stuck. A broker that is recovering may leave a question
        (the declaration of a queue, say) unanswered for ever, and the library would wait as long."""
        bootstrap.of(self.container).links[type(self).__name__] = True  # not before: what it consumes from is declared now
        self.still()

    def still(self) -> None:
        """As `beat`, by a loop that is not in place yet, but goes on."""
        if clock.monotonic() - self.beat_at > 1.0:
            self.watchdog.cancel()
            self.watchdog, self.beat_at = Timeout(STUCK_SECONDS), clock.monotonic()


class RelayLoop(DependencyProvider, Loop):
    """Publishes the outbox, in the one process of the service that holds the lease."""

    first_shard_only = True

    def setup(self) -> None:
        Loop.setup(self)
        self.context = bootstrap.of(self.container)
        self.context.relay.beat, self.context.relay.still = self.beat, self.still
        self.asked_at = clock.monotonic()
        self.prune_at = self.asked_at + PRUNE_EVERY

    def run(self) -> None:
        self.asked_at = clock.monotonic()
        if not self.context.lease.acquire():
            self.context.links.pop(type(self).__name__, None)  # whoever stands by is ready, though it was active once
            time.sleep(RETRY_EVERY)
            return
        self.with_connection(lambda connection: self.context.relay.run(connection, self._proceed))

    def interrupt(self) -> None:
        self.context.relay.wake()

    def _proceed(self) -> bool:
        """False when told to stop, or when the lease has become another's: two would publish out of order."""
        if clock.monotonic() - self.asked_at > LEASE_EVERY:
            self.asked_at = clock.monotonic()
            if not self.context.lease.acquire():
                return False
        if clock.monotonic() > self.prune_at:
            more = self.context.relay.prune(KEEP_OUTBOX)
            self.prune_at = clock.monotonic() + (PRUNE_PAUSE if more else PRUNE_EVERY)
        return self.running


class Consume(Entrypoint, Loop):
    """The inbox: the decorated method gets `(work, events)`, a batch in one transaction."""

    must_be_linked = True
    first_shard_only = True

    def setup(self) -> None:
        Loop.setup(self)
        self.context = bootstrap.of(self.container)
        self.inbox = Inbox(self.context.units, self._handle)
        self.buffer: list[Any] = []
        self.seconds = metrics.batches(self.container.service_name)
        self.retry_at = 0.0
        self.prune_at = clock.monotonic() + PRUNE_EVERY

    def _handle(self, work: Work, events: list[Event]) -> None:
        getattr(self.service, self.method_name)(work, events)

    def run(self) -> None:
        self.service = bootstrap.instance(self.container)
        self.with_connection(self._consume)

    def _consume(self, connection: Connection) -> None:
        name = self.container.service_name
        self.buffer.clear()
        lost = brokers.declare_for(connection, [name], topology.publishers_of(name), self.still)
        if lost or self.context.broker.in_memory:  # what a broken connection had not acknowledged is gone from memory
            self._ask_for_replay(connection)
        with connection.channel() as channel:
            consumer = connection.Consumer(
                [brokers.inbox(name)],
                channel=channel,
                on_message=self.buffer.append,
                on_decode_error=lambda message, _fault: self.buffer.append(message),  # what cannot be unpacked is malformed, no more
                accept=["json"],
            )
            consumer.qos(prefetch_count=2 * BATCH)
            with consumer:
                while self.running:
                    self.beat()
                    self._fill(connection)
                    if self.buffer:
                        batch, self.buffer[:] = self.buffer[:BATCH], self.buffer[BATCH:]
                        self._settle(connection, batch)
                    self._look_after(connection)

    def _fill(self, connection: Connection) -> None:
        """Wait a little for a first message, then take what follows at once."""
        timeout = FILL_SECONDS if self.buffer else IDLE_SECONDS
        while len(self.buffer) < BATCH:
            try:
                connection.drain_events(timeout=timeout)
            except TimeoutError:
                return
            timeout = FILL_SECONDS

    def _settle(self, connection: Connection, batch: list[Any]) -> None:
        controls = [(message.body, _control_of(message.body)) for message in batch]
        events = [body for body, control in controls if control is None]
        began = clock.monotonic()
        self._through_outages(connection, lambda: self.inbox.process(events) if events else None)
        if events:
            self.seconds.observe(clock.monotonic() - began)
        for _, control in controls:
            if control is not None:
                self._through_outages(connection, partial(self._control, connection, control))
        if self.context.broker.in_memory:
            for message in batch:
                message.ack()
        else:
            batch[-1].channel.basic_ack(batch[-1].delivery_tag, multiple=True)

    def _through_outages(self, connection: Connection, step: Callable[[], None]) -> None:
        """The database may be away for a while: the messages stay ours and the broker is told that we live."""
        pause = FIRST_PAUSE
        while True:
            try:
                step()
                return
            except Exception as error:
                if not is_outage(error) or not self.running:
                    raise
                self.beat()
                log.warning("database out of reach", error=type(error).__name__)
                time.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
                brokers.keep_alive(connection)

    def _control(self, connection: Connection, message: dict[str, Any]) -> None:
        if message["control"] == "queue_created":
            self._ask_for_replay(connection)
            return
        for publisher in topology.publishers_of(self.container.service_name):
            if message["publisher"] == publisher:
                self.inbox.note_checkpoint(publisher, message["position"])
            elif message["publisher"] == replayed(publisher):
                self.inbox.note_replayed(publisher, message["position"])

    def _ask_for_replay(self, connection: Connection) -> None:
        receiver = self.container.service_name
        sender = Sender(connection, confirms=not self.context.broker.in_memory)
        afters = {publisher: self.inbox.replay_from(publisher) for publisher in topology.publishers_of(receiver)}
        self.inbox.note_loss(afters)
        for publisher, after in afters.items():
            request = brokers.control("replay", receiver=receiver, after=after)
            sender.send_surely(request, topology.replay_queue(publisher))
        sender.channel.close()
        brokers.note_told(connection, receiver)

    def _look_after(self, connection: Connection) -> None:
        if clock.monotonic() < self.retry_at:
            return
        self.retry_at = clock.monotonic() + RETRY_EVERY
        brokers.keep_alive(connection)
        self._through_outages(connection, self.inbox.retry_due)
        if clock.monotonic() > self.prune_at:
            self.prune_at = clock.monotonic() + PRUNE_EVERY
            self._through_outages(connection, self._forget_keys)

    def _forget_keys(self) -> None:
        if self.inbox.prune(KEEP_INBOX):
            self.prune_at = clock.monotonic() + PRUNE_PAUSE


class Feed(Entrypoint, Loop):
    """A passing view of events for what is live only (waiting requests, streams): every process gets all, nothing is kept.
    Whoever listens must ask for the present state after `missed`, which is called whenever the view may have had a gap."""

    must_be_linked = True

    def __init__(self, *patterns: str, **kwargs: Any) -> None:
        self.patterns = patterns
        super().__init__(**kwargs)

    def run(self) -> None:
        self.with_connection(self._listen)

    def _listen(self, connection: Connection) -> None:
        service = bootstrap.instance(self.container)
        receive = getattr(service, self.method_name)
        queue = Queue(f"answerline.feed.{new_id()}", durable=False, exclusive=True, auto_delete=True)
        exchange = Exchange(topology.EXCHANGE, type="topic", durable=True)
        with connection.channel() as channel:
            brokers.declare_for(connection, [], [])
            bound = queue(channel)
            bound.declare()
            for pattern in self.patterns:
                bound.bind_to(exchange=exchange, routing_key=pattern)
            with connection.Consumer(
                [bound], channel=channel, on_message=lambda message: receive(message.body), no_ack=True, accept=["json"]
            ):
                receive(None)
                self.drain(connection)


class Continuous(Entrypoint, Loop):
    """Calls the decorated method again and again, `every` so many seconds after it is done. A method that does its own waiting waits for
    half a second at most: a service that stops waits for it."""

    def __init__(self, every: float = 0.0, first_shard_only: bool = False, **kwargs: Any) -> None:
        self.every = every
        self.first_shard_only = first_shard_only
        super().__init__(**kwargs)

    def setup(self) -> None:
        Loop.setup(self)
        self.interrupted = Interrupt()

    def run(self) -> None:
        step = getattr(bootstrap.instance(self.container), self.method_name)
        while self.running:
            step()
            if self.every:
                with Timeout(self.every, False):
                    self.interrupted.wait()

    def interrupt(self) -> None:
        if not self.interrupted.ready():
            self.interrupted.send()


consumes = Consume.decorator
hears = Feed.decorator
continuously = Continuous.decorator


def _control_of(body: Any) -> dict[str, Any] | None:
    """The control message that a body is, or None: an event, or malformed."""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    if not raw.startswith(CONTROL):
        return None
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    match message:
        case {"control": "queue_created"}:
            return dict(message)
        case {"control": "checkpoint", "publisher": str(), "position": int(position)} if 0 <= position < 2**63:
            return dict(message)
    return None
