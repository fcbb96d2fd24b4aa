"""Sending: the outbox's rows go to the broker, in order, confirmed, and only then count as published."""

import time
from collections.abc import Callable
from threading import Event as Flag
from typing import Any

import orjson
import structlog
from kombu import Connection
from sqlalchemy import String, cast, func, select, text

from shared import clock
from shared.bus import broker as brokers
from shared.bus.broker import PERSISTENT, Broker
from shared.bus.inbox import replayed
from shared.bus.outbox import UnitOfWork
from shared.contracts import topology
from shared.db import bulk

log = structlog.get_logger()

BATCH = 500
IDLE_SECONDS = 0.5
CHECKPOINT_SECONDS = 10.0
CONFIRM_SECONDS = 15.0
RETURNED_PAUSE = 0.5

MARK = {
    "postgresql": "update outbox set published_at = :at where seq in (select value::bigint from json_array_elements_text(:items))",
    "sqlite": "update outbox set published_at = :at where seq in (select value from json_each(:items))",
}


class Relay:
    """The one active relay of a service."""

    def __init__(self, broker: Broker, units: UnitOfWork, publisher: str) -> None:
        self.broker = broker
        self.units = units
        self.publisher = publisher
        self.receivers = topology.receivers_of(publisher)
        self.beat: Callable[[], None] = lambda: None
        self.published = 0
        self.still: Callable[[], None] = lambda: None
        self._work = Flag()
        self._position = -1
        self._checkpoint_at = 0.0
        outbox = units.tables.outbox
        self._pending = (  # built once: it is asked twice a second by every service that has nothing to do
            select(outbox.c.seq, outbox.c.type, outbox.c.id, cast(outbox.c.body, String).label("body"))
            .where(outbox.c.published_at.is_(None))
            .order_by(outbox.c.seq)
            .limit(BATCH)
        )

    def wake(self) -> None:
        self._work.set()

    def run(self, connection: Connection, proceed: Callable[[], bool]) -> None:
        """Relay over this connection while `proceed()`. Raises when the broker or the database goes away."""
        sender = Sender(connection, confirms=not self.broker.in_memory)
        for receiver in brokers.declare_for(connection, self.receivers, [self.publisher], self.still):
            log.info("inbox made anew", receiver=receiver)
            sender.send_surely(brokers.control("queue_created"), topology.inbox_queue(receiver))
            brokers.note_told(connection, receiver)
        requests: list[Any] = []
        with (
            connection.channel() as channel,
            connection.Consumer(
                [brokers.replay_requests(self.publisher)],
                channel=channel,
                on_message=requests.append,
                on_decode_error=lambda message, _: requests.append(message),
                accept=["json"],
            ),
        ):
            while proceed():
                self._work.clear()
                published = self._publish_pending(sender)
                self._drain(connection)
                while requests:
                    if not self._replay(sender, requests.pop(0), proceed):
                        return  # and what was not acknowledged comes again, to whoever relays then
                self._send_checkpoints(connection)
                if not published:
                    self._work.wait(IDLE_SECONDS)

    def _publish_pending(self, sender: "Sender") -> int:
        self.beat()
        with self.units.database.reading() as connection:
            rows = connection.execute(self._pending).all()
        if not rows:
            return 0
        confirmed = sender.send([(row.seq, row.id, row.body, topology.EXCHANGE, row.type) for row in rows])
        if confirmed:
            with self.units.database.transaction() as connection:
                connection.execute(text(MARK[connection.dialect.name]), {"items": orjson.dumps(confirmed).decode(), "at": clock.now()})
            self.published += len(confirmed)
        if len(confirmed) < len(rows):
            log.warning("events came back unroutable", events=len(rows) - len(confirmed))
            time.sleep(RETURNED_PAUSE)
        return len(confirmed)

    def _replay(self, sender: "Sender", request: Any, proceed: Callable[[], bool]) -> bool:
        """Send again to one receiver whose queue was lost; its inbox skips what it has. False where it was broken off and is still to do."""
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            asked = None
        match asked:
            case {"receiver": str(receiver), "after": int(after)} if receiver in self.receivers and 0 <= after < 2**63:
                pass
            case _:
                log.warning("malformed request for a replay passed over")
                request.ack()
                return True
        outbox, begin = self.units.tables.outbox, after
        log.info("replaying", receiver=receiver, after=after)
        while proceed():
            page = (
                select(outbox.c.seq, outbox.c.id, cast(outbox.c.body, String).label("body"))
                .where(
                    outbox.c.seq > after, outbox.c.published_at.is_not(None), outbox.c.type.in_(topology.SUBSCRIPTIONS.get(receiver, ()))
                )
                .order_by(outbox.c.seq)
                .limit(BATCH)
            )
            with self.units.database.reading() as connection:
                rows = connection.execute(page).all()
            if not rows:
                break
            if len(sender.send([(row.seq, row.id, row.body, "", topology.inbox_queue(receiver)) for row in rows])) < len(rows):
                raise ConnectionError("the broker did not confirm a replay")  # not acknowledged, so the request comes again
            after = rows[-1].seq
            self._publish_pending(sender)  # a long replay does not hold up what is live
        else:
            return False
        done = brokers.control("checkpoint", publisher=replayed(self.publisher), position=begin)  # a name that older receivers pass over
        sender.send_surely(done, topology.inbox_queue(receiver))
        request.ack()
        return True

    def _send_checkpoints(self, connection: Connection) -> None:
        if clock.monotonic() < self._checkpoint_at:
            return
        self._checkpoint_at = clock.monotonic() + CHECKPOINT_SECONDS
        outbox = self.units.tables.outbox
        with self.units.database.reading() as reading:
            first_pending = reading.scalar(select(func.min(outbox.c.seq)).where(outbox.c.published_at.is_(None)))
            last = reading.scalar(select(func.max(outbox.c.seq))) or 0
        position = first_pending - 1 if first_pending else last
        if position == self._position:
            return
        for receiver in self.receivers:
            self._send_control(connection, receiver, brokers.control("checkpoint", publisher=self.publisher, position=position))
        self._position = position

    def _send_control(self, connection: Connection, receiver: str, message: dict[str, Any]) -> None:
        with connection.channel() as channel:
            prepared = channel.prepare_message(orjson.dumps(message), content_type="application/json", content_encoding="utf-8")
            channel.basic_publish(prepared, exchange="", routing_key=topology.inbox_queue(receiver))

    def _drain(self, connection: Connection) -> None:
        brokers.keep_alive(connection)
        try:
            connection.drain_events(timeout=0.001)
        except TimeoutError:
            return

    def prune(self, keep_seconds: float) -> bool:
        """Delete a slice of the rows published longer ago than that, which can no longer be replayed; whether there may be more."""
        before = clock.now() - keep_seconds
        with self.units.database.transaction() as connection:
            return bulk.forget_oldest(
                connection, self.units.tables.outbox.c.seq, lambda row: row.published_at.is_not(None), lambda row: row.published_at < before
            )


class Sender:
    """Publishes with many confirms in flight."""

    def __init__(self, connection: Connection, confirms: bool) -> None:
        self.connection = connection
        self.confirms = confirms
        self.channel = connection.channel()
        self.sent = 0
        self.unconfirmed: set[int] = set()
        self.nacked: set[int] = set()
        self.refused: set[str] = set()
        if confirms:
            self.channel.confirm_select()
            self.channel.events["basic_ack"].add(self._confirmed)
            self.channel.events["basic_nack"].add(self._failed)
            self.channel.events["basic_return"].add(self._returned)

    def send(self, messages: list[tuple[int, str, str, str, str]]) -> list[int]:
        """Publish (seq, id, body, exchange, routing key) rows and return the seqs that the broker has safely."""
        channel = self.channel
        first = self.sent + 1
        self.refused.clear()
        self.nacked.clear()
        properties = {"delivery_mode": PERSISTENT["delivery_mode"]}
        with brokers.in_one_go(self.connection):
            for _seq, id, body, exchange, key in messages:
                prepared = channel.prepare_message(
                    body, content_type="application/json", content_encoding="utf-8", properties={**properties, "message_id": id}
                )
                self.sent += 1
                if self.confirms:
                    self.unconfirmed.add(self.sent)
                    channel.basic_publish(prepared, exchange=exchange, routing_key=key, mandatory=True)
                else:
                    channel.basic_publish(prepared, exchange=exchange, routing_key=key)
        deadline = clock.monotonic() + CONFIRM_SECONDS
        while self.unconfirmed:
            self.connection.drain_events(timeout=max(deadline - clock.monotonic(), 0.001))
        return [seq for tag, (seq, id, *_) in enumerate(messages, first) if id not in self.refused and tag not in self.nacked]

    def send_surely(self, message: dict[str, Any], queue: str) -> None:
        """One message to one queue. Raises ConnectionError unless the broker has it safely."""
        if not self.send([(0, message["control"], orjson.dumps(message).decode(), "", queue)]):
            raise ConnectionError(f"the broker did not take a message for {queue}")

    def _confirmed(self, tag: int, multiple: bool) -> None:
        """Confirms come out of order and for several at once."""
        if multiple:
            self.unconfirmed -= {one for one in self.unconfirmed if one <= tag}
        else:
            self.unconfirmed.discard(tag)

    def _failed(self, tag: int, multiple: bool, *_: Any) -> None:
        nacked = {one for one in self.unconfirmed if one == tag or (multiple and one < tag)}
        self.nacked |= nacked
        self.unconfirmed -= nacked

    def _returned(self, _reason: Any, _exchange: str, _key: str, message: Any) -> None:
        """A return carries no tag and precedes its confirm: the message is known by its id."""
        self.refused.add(message.properties["message_id"])
