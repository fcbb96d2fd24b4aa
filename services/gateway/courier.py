"""Delivers what webhooks are owed, at least once, in the one gateway process that holds the lease.

- What a webhook wants of the log is written down as owed to it, in the transaction that moves its place in the log: a process may die at
  any moment, and nothing is lost. What was sent but not yet noted is sent again, under the same id.
- Each subject's events go one after another, in order; those of different subjects may overtake one another. One that failed holds later
  ones of its subject back until its second attempt, for HOLD_SECONDS at most.
- A receiver that fails is left in peace for a moment, and until it succeeds again gets one request at a time; it holds up nobody else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, delete, or_, select, update

from services.gateway import audit, metrics, stream_log
from services.gateway.domain import chat
from services.gateway.domain import webhooks as rules
from services.gateway.domain.webhooks import DELIVERED, PENDING, SLACK
from services.gateway.sealing import Sealer
from services.gateway.webhooks import FAILING, GONE, unknown, webhook, webhook_delivery, webhook_secret
from shared import clock, contracts, targets
from shared.bus.envelope import CONTENT_TYPE, Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.db.engine import is_outage
from shared.errors import AnswerlineError
from shared.http.documents import VERSION
from shared.ids import is_id, lowest_id, new_id
from shared.runtime.group import GroupCommit
from shared.runtime.outbound import Reply, Unreachable
from shared.targets import Allowance, BadTarget, Target

log = structlog.get_logger()

LANES = 8
"""Requests to one receiver at once, each about another subject."""

MOST_AT_ONCE = 64
"""Requests to all receivers; beyond it each receiver still has one."""

READ_AT_ONCE = 200
LOOKED_AT = 100
HOLD_SECONDS = 120.0
FAREWELL_SECONDS = 5.0
MEASURE_EVERY = 5.0
PRUNE_EVERY = 600.0
PRUNED_AT_ONCE = 2000
KEEP_DELIVERED = 86400.0
KEEP = 30 * 86400.0
"""What was given up, or waits for a webhook that nobody enables."""

TEST_TYPE = "gateway.webhook_tested.v1"

Send = Callable[[Target, Mapping[str, str], bytes, Allowance], Reply]
"""Raises BadTarget or Unreachable."""


@dataclass(frozen=True)
class Receiver:
    """A webhook as it stood when it was looked at; `secrets` are sealed."""

    id: str
    url: str
    position: int
    failures: int
    paused_until: float
    changed_at: float
    format: str
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Parcel:
    """One event for one receiver."""

    id: str
    event: str
    subject: str
    body: str
    attempts: int


@dataclass(frozen=True)
class Attempt:
    """What came of sending: no `status` means that no answer came, and `error` says why."""

    receiver: Receiver
    parcel: Parcel
    at: float
    status: int | None
    error: str = ""
    excerpt: str = ""
    retry_after: float | None = None


class Courier:
    """`send` posts over the network; `spawn` runs something beside us; `draw` is random, from 0 to 1."""

    def __init__(
        self,
        units: UnitOfWork,
        sealer: Sealer,
        allowance: Allowance,
        send: Send,
        spawn: Callable[..., Any],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.units = units
        self._sealer = sealer
        self._allowance = allowance
        self._send = send
        self._spawn = spawn
        self._draw = draw
        self._results: GroupCommit[Attempt, str] = GroupCommit(self._note, most=100)
        self._under_way: dict[str, dict[str, str]] = {}
        self._back = threading.Event()
        self._measure_at = self._prune_at = 0.0

    # ---- the loop

    def step(self) -> bool:
        """Write down what is newly owed and send what is due; whether there was anything to do. Only the process that holds the lease
        may call it."""
        self._back.clear()
        with self.units.database.reading() as connection:
            receivers = _receivers(connection)
            newest = stream_log.newest(connection) if receivers else 0
        worked = any([self._owe(receiver) for receiver in receivers if receiver.position < newest])  # noqa: C419 - each of them
        for receiver in receivers:
            for parcel in self._due(receiver):
                self._under_way.setdefault(receiver.id, {})[parcel.id] = parcel.subject
                self._spawn(self._deliver, receiver, parcel)
                worked = True
        self._look_after(receivers)
        return worked

    def wait(self, seconds: float) -> None:
        """Until a request has ended, or the time is up."""
        self._back.wait(seconds)

    def rest(self) -> None:
        """Another process delivers."""
        metrics.WEBHOOK_OLDEST.set(0)

    def close(self) -> None:
        """What is under way may end, so that it is not sent again."""
        until = clock.monotonic() + FAREWELL_SECONDS
        while any(self._under_way.values()) and clock.monotonic() < until:
            time.sleep(0.02)

    def _owe(self, receiver: Receiver) -> bool:
        """Read on in the log for one webhook; whether there was anything for it."""
        with self.units() as work:
            row = work.connection.execute(select(webhook).where(webhook.c.id == receiver.id).with_for_update()).first()
            if row is None or not row.enabled:
                return False
            end = stream_log.newest(work.connection)
            wanted, queues = rules.chosen(row.settings["types"], _tellable(row.settings["format"])), row.settings["queues"]
            entries = stream_log.after(work.connection, row.position, wanted, READ_AT_ONCE)
            position = entries[-1].position if len(entries) == READ_AT_ONCE else max(end, row.position)
            entries = [entry for entry in entries if not queues or entry.queue in queues]
            moment = clock.now()
            rows = [
                {
                    "id": new_id(), "webhook": receiver.id, "position": entry.position, "event": str(entry.id), "type": entry.type,
                    "subject": entry.subject, "body": entry.body, "state": PENDING, "attempts": 0, "queued_at": moment, "next_at": moment,
                    "error": "", "excerpt": "",
                }
                for entry in entries
            ]  # fmt: skip
            again = ("body", "state", "attempts", "queued_at", "next_at")
            bulk.insert(work.connection, webhook_delivery, rows, key=("webhook", "position"), update=again)
            work.connection.execute(update(webhook).where(webhook.c.id == receiver.id).values(position=position))
        return bool(entries)

    def _due(self, receiver: Receiver) -> list[Parcel]:
        """What may go to a receiver now, one event of each subject, the oldest first."""
        moment, busy = clock.now(), self._under_way.get(receiver.id, {})
        room = (1 if receiver.failures else LANES) - len(busy)
        if sum(map(len, self._under_way.values())) >= MOST_AT_ONCE:
            room = min(room, 1 - len(busy))
        if room <= 0 or receiver.paused_until > moment:
            return []
        table = webhook_delivery
        holding = (table.c.attempts == 1) & (table.c.tried_at > moment - HOLD_SECONDS)
        query = (
            select(table.c.id, table.c.event, table.c.subject, table.c.body, table.c.attempts, table.c.next_at)
            .where(table.c.webhook == receiver.id, table.c.state == PENDING, or_(table.c.next_at <= moment, holding))
            .order_by(table.c.position)
            .limit(LOOKED_AT)
        )
        held = set(busy.values())  # as it is now: what ends while we read may still be read as due
        with self.units.database.reading() as connection:
            rows = connection.execute(query).all()
        taken: list[Parcel] = []
        for row in rows:
            if row.subject in held:
                continue
            held.add(row.subject)
            if row.next_at <= moment:
                taken.append(Parcel(row.id, row.event, row.subject, row.body, row.attempts))
                if len(taken) == room:
                    break
        return taken

    # ---- one delivery

    def _deliver(self, receiver: Receiver, parcel: Parcel) -> None:
        began = clock.monotonic()
        try:
            attempt = self._attempt(receiver, parcel)
            outcome = self._results.submit(attempt)
            metrics.WEBHOOK_DELIVERIES.labels(outcome).inc()
            metrics.WEBHOOK_SECONDS.observe(clock.monotonic() - began)
        except Exception as error:  # whatever it is, the delivery is still owed and the others go on
            log.warning(
                "what came of a delivery could not be noted: it is sent again",
                webhook=receiver.id,
                error=type(error).__name__,
                exc_info=None if is_outage(error) else error,
            )
        finally:
            self._under_way[receiver.id].pop(parcel.id, None)
            if not self._under_way[receiver.id]:
                del self._under_way[receiver.id]
            self._back.set()

    def _attempt(self, receiver: Receiver, parcel: Parcel) -> Attempt:
        """Sign and send. Whatever hinders it is an answer too: it is shown, and tried again."""
        moment = clock.now()
        body, kind = parcel.body.encode(), CONTENT_TYPE
        try:
            if receiver.format == SLACK:
                event = orjson.loads(parcel.body)
                body, kind = orjson.dumps({"text": chat.spoken(event["type"], event["data"])}), "application/json"
            secrets = [self._sealer.unseal(sealed) for sealed in receiver.secrets]
            headers = {
                "Content-Type": kind,
                "User-Agent": f"Answerline/{VERSION}",
                **rules.signed_headers(secrets, parcel.event, int(moment), body),
            }
            target = targets.read_url(receiver.url, self._allowance)
            reply = self._send(target, headers, body, self._allowance)
        except (BadTarget, Unreachable, AnswerlineError) as error:
            return Attempt(receiver, parcel, moment, None, str(error)[:500])
        except Exception as error:
            log.exception("a webhook's delivery failed here", webhook=receiver.id, error=type(error).__name__)
            return Attempt(receiver, parcel, moment, None, "it failed at our end; the log says how")
        refusal = "a redirect is not followed: give the address that it leads to" if 300 <= reply.status < 400 else ""
        asked = rules.retry_after(reply.headers.get("Retry-After", ""), moment)
        return Attempt(receiver, parcel, moment, reply.status, refusal, rules.excerpt(reply.body), asked)

    def _note(self, attempts: Sequence[Attempt]) -> list[str]:
        """Write down what came of these, all in one transaction: for each the outcome as the metrics call it."""
        outcomes: dict[int, str] = {}
        with self.units() as work:
            for number, attempt in sorted(enumerate(attempts), key=lambda pair: (pair[1].receiver.id, pair[0])):
                outcomes[number] = self._note_one(work, attempt)
        return [outcomes[number] for number in range(len(attempts))]

    def _note_one(self, work: Work, attempt: Attempt) -> str:
        receiver, parcel, moment = attempt.receiver, attempt.parcel, clock.now()
        row = work.connection.execute(select(webhook).where(webhook.c.id == receiver.id).with_for_update()).first()
        if row is None:
            return "deleted"
        same = row.changed_at == attempt.receiver.changed_at
        failures = max(row.failures, receiver.failures + 1) if same else 1  # several that failed at one moment are one failure
        tries = parcel.attempts + 1
        then = rules.follow(attempt.status, tries, failures, attempt.retry_after, self._draw())
        changes: dict[str, Any] = {
            "state": then.state, "attempts": tries, "tried_at": attempt.at, "status": attempt.status, "error": attempt.error,
            "excerpt": attempt.excerpt, "next_at": None if then.wait is None else moment + then.wait,
        }  # fmt: skip
        if then.state == DELIVERED:
            changes["body"] = None
        work.connection.execute(update(webhook_delivery).where(webhook_delivery.c.id == parcel.id).values(**changes))
        if same:
            self._note_receiver(work, row, attempt, failures, then, moment)
        return "retrying" if then.state == PENDING else then.state

    def _note_receiver(self, work: Work, row: Any, attempt: Attempt, failures: int, then: rules.Next, moment: float) -> None:
        if then.state == DELIVERED:
            if row.failures or row.failing_since is not None or row.paused_until:
                well = {"failures": 0, "failing_since": None, "paused_until": 0.0}
                work.connection.execute(update(webhook).where(webhook.c.id == row.id).values(**well))
            return
        since = attempt.at if row.failing_since is None else row.failing_since
        changes = {"failures": failures, "failing_since": since, "paused_until": max(row.paused_until, moment + then.pause)}
        work.connection.execute(update(webhook).where(webhook.c.id == row.id).values(**changes))
        if attempt.status == rules.GONE:
            _disable(work, row, GONE, moment)
        elif rules.is_hopeless(since, moment):
            _disable(work, row, FAILING, moment)

    # ---- a test

    def test(self, id: str) -> dict[str, Any]:
        """Send a webhook an event of no meaning, enabled or not, and say what came back. Raises NotFound."""
        with self.units.database.reading() as connection:
            found = _receivers(connection, id) if is_id(id) else []
        if not found:
            raise unknown(id)
        (receiver,) = found
        event = Event(TEST_TYPE, id, {"webhook": id}, clock.now(), 1)
        began = clock.monotonic()
        attempt = self._attempt(receiver, Parcel("", event.id, id, orjson.dumps(event.envelope()).decode(), 0))
        return {
            "event": event.id,
            "accepted": attempt.status is not None and 200 <= attempt.status < 300,
            "status": attempt.status,
            "error": attempt.error,
            "answer": attempt.excerpt,
            "seconds": round(clock.monotonic() - began, 3),
        }

    # ---- keeping house

    def _look_after(self, receivers: Iterable[Receiver]) -> None:
        moment = clock.monotonic()
        if moment >= self._measure_at:
            self._measure_at = moment + MEASURE_EVERY
            metrics.WEBHOOK_OLDEST.set(self._oldest(receivers))
        if moment >= self._prune_at:
            full = prune(self.units, clock.now())
            self._prune_at = clock.monotonic() + (MEASURE_EVERY if full else PRUNE_EVERY)

    def _oldest(self, receivers: Iterable[Receiver]) -> float:
        """Seconds for which the oldest event is owed to anybody."""
        table, owed = webhook_delivery, []
        with self.units.database.reading() as connection:
            for receiver in receivers:
                query = select(table.c.queued_at).where(table.c.webhook == receiver.id, table.c.state == PENDING)
                owed.append(connection.scalar(query.order_by(table.c.position).limit(1)))
        return max(0.0, clock.now() - min((moment for moment in owed if moment is not None), default=clock.now()))


def _tellable(format: str) -> Collection[str]:
    """The types of event of which there is anything to say."""
    return chat.SPOKEN if format == SLACK else contracts.SCHEMAS


def _receivers(connection: Connection, id: str | None = None) -> list[Receiver]:
    """The webhooks that are enabled, or the one with that id whatever it is."""
    rows = connection.execute(select(webhook).where(webhook.c.enabled if id is None else webhook.c.id == id)).all()
    if not rows:
        return []
    kept: dict[str, list[str]] = {}
    of_them = webhook_secret.c.webhook.in_([row.id for row in rows])
    still = or_(webhook_secret.c.until.is_(None), webhook_secret.c.until > clock.now())
    for secret in connection.execute(select(webhook_secret).where(of_them, still).order_by(webhook_secret.c.number.desc())):
        kept.setdefault(secret.webhook, []).append(secret.sealed)
    return [
        Receiver(
            row.id,
            row.settings["url"],
            row.position,
            row.failures,
            row.paused_until,
            row.changed_at,
            row.settings["format"],
            tuple(kept.get(row.id, ())),
        )
        for row in rows
    ]


def _disable(work: Work, row: Any, reason: str, moment: float) -> None:
    sequence = row.sequence + 1
    changes = {"enabled": False, "disabled": reason, "sequence": sequence, "changed_at": moment}
    work.connection.execute(update(webhook).where(webhook.c.id == row.id).values(**changes))
    work.announce(Event("gateway.webhook_disabled.v1", row.id, {"webhook": row.id, "reason": reason}, moment, sequence))
    audit.note(work.connection, "", "answerline", "disable a webhook", row.id, None, reason)
    log.warning("a webhook is disabled", webhook=row.id, reason=reason)


def prune(units: UnitOfWork, now: float) -> bool:
    """Forget a slice of what was delivered or given up long since; whether there may be more."""
    table = webhook_delivery
    old = or_(
        (table.c.id < lowest_id(now - KEEP_DELIVERED)) & (table.c.state == DELIVERED),
        (table.c.id < lowest_id(now - KEEP)) & (table.c.queued_at < now - KEEP),
    )
    with units() as work:
        chosen = select(table.c.id).where(old).limit(PRUNED_AT_ONCE)
        return work.connection.execute(delete(table).where(table.c.id.in_(chosen))).rowcount == PRUNED_AT_ONCE
