"""Receiving: every event ends in exactly one bucket, once.

    received = applied + duplicate + waiting + retrying + dead + dropped

A batch is one transaction: the inbox keys (a known key is a duplicate), the handler's changes, what it announces, and the tally.
A batch that fails is halved until the culprit stands alone; that one is set aside and tried again with growing pauses, at last it is a
dead letter with its cause. Later events of the same subject wait behind it; all others go on.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, bindparam, delete, exists, func, select, text, union_all, update

from shared import clock, contracts
from shared.bus.envelope import BadEnvelope, Event, parse
from shared.bus.outbox import UnitOfWork, Work
from shared.bus.tables import BusTables
from shared.db import bulk
from shared.db.engine import is_outage

log = structlog.get_logger()

PAUSES = (1.0, 5.0, 30.0, 120.0)
"""Seconds before the second, third, … try; after the last the event is dead."""

FOLLOWERS = 100
"""How many events that waited behind one are applied in one go."""

COUNTED = ("received", "applied", "duplicate", "dropped")
SET_ASIDE = ("waiting", "retrying", "dead")

REPLAYED = ":replayed"

Handler = Callable[[Work, list[Event]], None]

SET_ASIDE_OF = {
    "postgresql": "select id, subject from set_aside where id in (select json_array_elements_text(:items)) "
    "or (subject <> '' and subject in (select json_array_elements_text(:items)))",
    "sqlite": "select id, subject from set_aside where id in (select value from json_each(:items)) "
    "or (subject <> '' and subject in (select value from json_each(:items)))",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came: an event, or the reason why it is none."""

    id: str
    type: str
    subject: str
    raw: bytes
    event: Event | None = None
    fault: str = ""

    @property
    def body(self) -> str:
        """As a database can keep it."""
        return self.raw.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


class Inbox:
    """The receiving end of one service."""

    def __init__(self, units: UnitOfWork, handler: Handler) -> None:
        self.units = units
        self.handler = handler
        aside = units.tables.set_aside
        other = aside.alias()
        is_behind = exists().where(other.c.subject == aside.c.subject, other.c.subject != "", other.c.position < aside.c.position)
        due = select(aside).where(aside.c.state == "retrying", aside.c.next_try_at <= bindparam("now"), ~is_behind)
        self._due = due.order_by(aside.c.position).limit(100)  # built once: it is asked every second

    def process(self, bodies: Sequence[bytes | str]) -> None:
        """Put each message into its bucket. Returns when all are durable, so that they can be acknowledged.
        Raises only when the database is out of reach: then nothing was changed."""
        self._settle([_read(body) for body in bodies])

    def _settle(self, deliveries: list[Delivery]) -> None:
        fault = self._attempt(deliveries)
        if fault and len(deliveries) > 1:
            middle = len(deliveries) // 2
            self._settle(deliveries[:middle])
            self._settle(deliveries[middle:])
        elif fault:
            self._set_aside_culprit(deliveries[0], fault)

    def _attempt(self, deliveries: list[Delivery]) -> Exception | None:
        """All of them in one transaction; returns what prevented it."""
        try:
            with self.units() as work:
                self._apply(work, deliveries)
        except Exception as error:
            if is_outage(error):
                raise
            return error
        return None

    def _apply(self, work: Work, deliveries: list[Delivery]) -> None:
        tally = Counter(received=len(deliveries))
        distinct = {delivery.id: delivery for delivery in deliveries}
        known = bulk.values(work.connection, SET_ASIDE_OF, [*distinct, *{d.subject for d in distinct.values()}])
        aside, blocked = {row.id for row in known}, {row.subject for row in known if row.subject}
        events: list[Event] = []
        held: list[Delivery] = []
        for delivery in distinct.values():
            if delivery.id in aside:
                continue
            if delivery.event and delivery.subject not in blocked:
                events.append(delivery.event)
            elif not (delivery.type and self._is_settled(work.connection, delivery.id)):
                held.append(delivery)
                if delivery.subject:
                    blocked.add(delivery.subject)
        new = self._take_keys(work.connection, [event.id for event in events])
        events = [event for event in events if event.id in new]
        if events:
            _follow(work, events)
            self.handler(work, events)
        self._put_aside(work.connection, held)
        tally["applied"] = len(events)
        tally["duplicate"] = len(deliveries) - len(events) - len(held)
        count(work.connection, tally)

    def _take_keys(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        moment = clock.now()
        rows = [{"id": id, "at": moment} for id in ids]
        return {row.id for row in bulk.insert(connection, self.units.tables.inbox, rows, key=("id",), returning=("id",))}

    def _is_settled(self, connection: Connection, id: str) -> bool:
        inbox = self.units.tables.inbox
        return connection.scalar(select(inbox.c.id).where(inbox.c.id == id)) is not None

    def _put_aside(self, connection: Connection, deliveries: Iterable[Delivery], culprit: str = "") -> None:
        """A culprit (the text is its cause) is tried again; what is no good event is dead; all else waits behind another."""
        moment = clock.now()
        rows = [
            {
                "id": delivery.id,
                "type": delivery.type,
                "subject": delivery.subject,
                "body": delivery.body,
                "state": "retrying" if culprit else "waiting" if delivery.event else "dead",
                "attempts": 1 if culprit else 0,
                "next_try_at": moment + PAUSES[0] if culprit else 0.0,
                "cause": culprit or delivery.fault or "waits behind an earlier event of the same subject",
                "at": moment,
            }
            for delivery in deliveries
        ]
        bulk.insert(connection, self.units.tables.set_aside, rows)

    def _set_aside_culprit(self, delivery: Delivery, error: Exception) -> None:
        log.warning("event set aside", event_id=delivery.id, type=delivery.type, cause=_cause(error), exc_info=error)
        with self.units() as work:
            self._put_aside(work.connection, [delivery], culprit=_cause(error))
            count(work.connection, Counter(received=1))

    def retry_due(self) -> None:
        """Try again what is due and first of its subject, and what waits behind it. Raises only when the database is out of reach."""
        with self.units.database.reading() as connection:
            rows = connection.execute(self._due, {"now": clock.now()}).all()
        for row in rows:
            if self._retry(row):
                self._let_go_on(row.subject)

    def _let_go_on(self, subject: str) -> None:
        aside = self.units.tables.set_aside
        followers = select(aside).where(aside.c.subject == subject).order_by(aside.c.position)
        if not subject:
            return
        for _ in range(FOLLOWERS):
            with self.units.database.reading() as connection:
                row = connection.execute(followers.limit(1)).first()
            if row is None or row.state != "waiting" or not self._retry(row):
                return
        with self.units() as work:  # the rest after others have had their turn
            first = select(aside.c.position).where(aside.c.subject == subject).order_by(aside.c.position).limit(1).scalar_subquery()
            next_one = update(aside).where(aside.c.subject == subject, aside.c.position == first, aside.c.state == "waiting")
            work.connection.execute(next_one.values(state="retrying", next_try_at=clock.now()))

    def _retry(self, row: Any) -> bool:
        """Try one event again; whether it was applied (or is gone). A failure moves it to its next try or its grave."""
        aside = self.units.tables.set_aside
        delivery = _read(row.body)
        try:
            with self.units() as work:
                if work.connection.execute(delete(aside).where(aside.c.position == row.position)).rowcount == 0:
                    return True
                if delivery.event is None:
                    raise contracts.ContractBroken(delivery.fault)
                if self._take_keys(work.connection, [delivery.id]):
                    _follow(work, [delivery.event])
                    self.handler(work, [delivery.event])
                count(work.connection, Counter(applied=1))
                return True
        except Exception as error:
            if is_outage(error):
                raise
            attempts = row.attempts + 1
            dead = delivery.event is None or attempts > len(PAUSES)
            log.warning("event failed again", event_id=row.id, type=row.type, attempts=attempts, dead=dead, error=type(error).__name__)
            change = {
                "state": "dead" if dead else "retrying",
                "attempts": attempts,
                "next_try_at": clock.now() + PAUSES[min(attempts, len(PAUSES)) - 1],
                "cause": _cause(error),
            }
            with self.units() as work:
                work.connection.execute(update(aside).where(aside.c.position == row.position).values(**change))
            return False

    def prune(self, keep_seconds: float) -> bool:
        """Forget a slice of the keys so old that their events can no longer come again; whether there may be more."""
        table = self.units.tables.inbox
        old = select(table.c.id).where(table.c.at < clock.now() - keep_seconds).order_by(table.c.at).limit(bulk.SLICE)
        with self.units() as work:
            return work.connection.execute(delete(table).where(table.c.id.in_(old))).rowcount == bulk.SLICE

    def note_checkpoint(self, publisher: str, position: int) -> None:
        """Remember that all of the publisher's events up to `position` have passed through our queue before this one."""
        with self.units() as work:
            work.connection.execute(
                text(
                    "insert into checkpoint (publisher, position, previous) values (:publisher, :position, 0) on conflict (publisher) "
                    "do update set previous = checkpoint.position, position = excluded.position where excluded.position > checkpoint.position"
                ),
                {"publisher": publisher, "position": position},
            )

    def replay_from(self, publisher: str) -> int:
        """The position after which the publisher must send again when our queue was lost: two checkpoints back, since a row may
        become visible after one with a higher number; or from where an earlier loss began, until what it cost has come again."""
        checkpoint = self.units.tables.checkpoint
        with self.units.database.reading() as connection:
            known = select(checkpoint.c.publisher, checkpoint.c.position, checkpoint.c.previous).where(
                checkpoint.c.publisher.in_([publisher, replayed(publisher)])
            )
            positions = {row.publisher: row.previous if row.publisher == publisher else row.position for row in connection.execute(known)}
        return min(positions.get(publisher, 0), positions.get(replayed(publisher), positions.get(publisher, 0)))

    def note_loss(self, afters: Mapping[str, int]) -> None:
        """Remember what is about to be asked for again, publisher -> position: checkpoints that come before it do not mean that we have it."""
        lower = "do update set position = excluded.position where excluded.position < checkpoint.position"
        note = text(f"insert into checkpoint (publisher, position, previous) values (:name, :after, 0) on conflict (publisher) {lower}")
        with self.units() as work:
            work.connection.execute(note, [{"name": replayed(name), "after": after} for name, after in sorted(afters.items())])

    def note_replayed(self, publisher: str, after: int) -> None:
        """All that the publisher had after this position has come again."""
        with self.units() as work:
            work.connection.execute(
                text("delete from checkpoint where publisher = :name and position >= :after"), {"name": replayed(publisher), "after": after}
            )


def _follow(work: Work, events: Iterable[Event]) -> None:
    """What is announced because of these events, or about their subjects, belongs to their traces."""
    for event in events:
        if event.trace:
            work.traces[event.id] = work.traces[event.subject] = event.trace


def replayed(publisher: str) -> str:
    """Where the table of checkpoints keeps what a publisher still has to send again; and the name under which it says that it has."""
    return publisher + REPLAYED


def take_back(work: Work, tables: BusTables, event: Event, cause: str) -> None:
    """An event counted as applied was refused by whom it was handed to: it is a dead letter, and its key is forgotten, so that it may be
    tried again."""
    published = replace(event, data=contracts.write(event.type, event.data))
    body = orjson.dumps(published.envelope()).decode()
    row = {"id": event.id, "type": event.type, "subject": event.subject, "body": body, "state": "dead", "attempts": 1}
    work.connection.execute(delete(tables.inbox).where(tables.inbox.c.id == event.id))
    bulk.insert(work.connection, tables.set_aside, [{**row, "next_try_at": 0.0, "cause": cause, "at": clock.now()}])
    count(work.connection, Counter(applied=-1))


def count(connection: Connection, tally: Counter[str]) -> None:
    """Add to the tally of buckets."""
    rows = orjson.dumps([{"bucket": name, "events": number} for name, number in sorted(tally.items()) if number]).decode()
    source = {
        "postgresql": "select bucket, events from json_to_recordset(:rows) as incoming(bucket text, events bigint)",
        "sqlite": "select value ->> '$.bucket', value ->> '$.events' from json_each(:rows) where true",
    }[connection.dialect.name]
    connection.execute(
        text(f"insert into tally (bucket, events) {source} on conflict (bucket) do update set events = tally.events + excluded.events"),
        {"rows": rows},
    )


def sums(connection: Connection, units: UnitOfWork) -> dict[str, int]:
    """How many events are in each bucket. `received` equals the sum of all others."""
    tally, aside = units.tables.tally, units.tables.set_aside
    states = select(aside.c.state, func.count()).group_by(aside.c.state)
    in_one_moment = union_all(select(tally.c.bucket, tally.c.events), states)  # between two queries an event may change its bucket
    return dict.fromkeys((*COUNTED, *SET_ASIDE), 0) | dict(connection.execute(in_one_moment).all())


def _read(body: bytes | str) -> Delivery:
    raw = body.encode() if isinstance(body, str) else bytes(body)
    try:
        event = parse(raw, contracts.load)
    except BadEnvelope as fault:
        return Delivery(f"malformed-{hashlib.sha256(raw).hexdigest()[:32]}", "", "", raw, fault=str(fault))
    except contracts.ContractBroken as fault:
        broken = parse(raw)
        return Delivery(broken.id, broken.type, broken.subject, raw, fault=str(fault))
    return Delivery(event.id, event.type, event.subject, raw, event)


def _cause(error: Exception) -> str:
    """Enough to find the fault, without the data: a database error would print the parameters."""
    described = getattr(error, "orig", None) or error
    return f"{type(error).__name__}: {str(described).splitlines()[0] if str(described) else ''}"[:500]
