"""Webhooks: who wants to be told of which events, and what was and will be delivered to them. services.gateway.courier delivers.

A secret is shown once, when it is made, and kept sealed. After a rotation the former one signs beside it for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_bytes
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, Integer, Table, Text, UniqueConstraint, delete, func, insert, select, update

from services.gateway import stream_log
from services.gateway.domain.chat import SPOKEN
from services.gateway.domain.webhooks import DEAD, DELIVERED, KEY_BYTES, PENDING, SLACK, chosen, secret_of
from services.gateway.sealing import Sealer
from services.gateway.store import metadata
from shared import clock, targets
from shared.bus.outbox import UnitOfWork
from shared.db.types import Document, Id, Moment, Serial
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import is_id, new_id
from shared.targets import Allowance, BadTarget

MOST = 100
STATES = (PENDING, DELIVERED, DEAD)
ASKED, GONE, FAILING = "asked", "gone", "failing"

webhook = Table(
    "webhook",
    metadata,
    Column("id", Id, primary_key=True),
    Column("settings", Document, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled", Text, nullable=False),
    Column("position", Serial, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Moment),
    Column("paused_until", Moment, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
)
"""`position`: up to where the log of events was read for it. `disabled`: why it is not enabled. `failures`: failed attempts in a row, the
first of them at `failing_since`."""

webhook_secret = Table(
    "webhook_secret",
    metadata,
    Column("webhook", Id, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sealed", Text, nullable=False),
    Column("until", Moment),
)
"""The newest has the highest number and no end."""

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", Id, primary_key=True),
    Column("webhook", Id, nullable=False),
    Column("position", Serial, nullable=False),
    Column("event", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", Moment, nullable=False),
    Column("next_at", Moment),
    Column("tried_at", Moment),
    Column("status", Integer),
    Column("error", Text, nullable=False),
    Column("excerpt", Text, nullable=False),
    UniqueConstraint("webhook", "position"),
)
"""What is owed to a receiver, and for a while what was delivered, without its body."""

_waiting = webhook_delivery.c.state == PENDING
Index(
    "webhook_delivery_pending",
    webhook_delivery.c.webhook,
    webhook_delivery.c.position,
    postgresql_where=_waiting,
    sqlite_where=_waiting,
)
Index("webhook_delivery_shown", webhook_delivery.c.webhook, webhook_delivery.c.id)


def check_url(url: str, allowance: Allowance) -> None:
    """Raises Invalid where nothing may be sent there, as far as the URL itself tells."""
    try:
        targets.read_url(url, allowance)
    except BadTarget as error:
        raise Invalid("the body is not as it must be", errors={"url": [str(error)]}) from error


def check_format(told: Mapping[str, Any]) -> None:
    """Raises Invalid where a chat would never be told anything."""
    if told["format"] == SLACK and not chosen(told["types"], SPOKEN):
        raise Invalid("the body is not as it must be", errors={"types": [f"A chat is told of these alone: {', '.join(sorted(SPOKEN))}."]})


def create(units: UnitOfWork, sealer: Sealer, allowance: Allowance, told: Mapping[str, Any]) -> dict[str, Any]:
    """Make a webhook for what happens from now on; the answer is the only one with its secret. Raises Invalid or Conflict."""
    check_url(told["url"], allowance)
    check_format(told)
    id, moment, secret = new_id(), clock.now(), secret_of(token_bytes(KEY_BYTES))
    with units() as work:
        if (work.connection.scalar(select(func.count()).select_from(webhook)) or 0) >= MOST:
            raise Conflict(f"there are {MOST} webhooks already: delete one that is not needed any more")
        row = {
            "id": id, "settings": _settings(told), "enabled": told["enabled"], "disabled": "" if told["enabled"] else ASKED,
            "position": stream_log.newest(work.connection), "failures": 0, "failing_since": None, "paused_until": 0.0,
            "sequence": 0, "created_at": moment, "changed_at": moment,
        }  # fmt: skip
        work.connection.execute(insert(webhook).values(**row))
        work.connection.execute(insert(webhook_secret).values(webhook=id, number=1, sealed=sealer.seal(secret), until=None))
    return {**get(units, id), "secret": secret}


def _settings(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("url", "types", "queues", "description", "format")}


def put(units: UnitOfWork, allowance: Allowance, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Change a webhook. One that is enabled again goes on with what is still owed to it and with what happens from now on. Raises
    Invalid or NotFound."""
    check_url(told["url"], allowance)
    check_format(told)
    with units() as work:
        row = locked(work.connection, id)
        changes: dict[str, Any] = {"settings": _settings(told), "enabled": told["enabled"], "changed_at": clock.now()}
        if told["enabled"] and not row.enabled:
            changes["position"] = stream_log.newest(work.connection)
        if row.enabled != told["enabled"]:
            changes["disabled"] = "" if told["enabled"] else ASKED
        if told["enabled"] and (not row.enabled or row.settings["url"] != told["url"]):
            changes |= {"failures": 0, "failing_since": None, "paused_until": 0.0}
        work.connection.execute(update(webhook).where(webhook.c.id == id).values(**changes))
    return get(units, id)


def remove(units: UnitOfWork, id: str) -> None:
    """Delete a webhook with all that is owed to it. Raises NotFound."""
    with units() as work:
        locked(work.connection, id)
        work.connection.execute(delete(webhook).where(webhook.c.id == id))
        for table in (webhook_secret, webhook_delivery):
            work.connection.execute(delete(table).where(table.c.webhook == id))


def get(units: UnitOfWork, id: str) -> dict[str, Any]:
    """A webhook as it is shown. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(webhook).where(webhook.c.id == id)).first() if is_id(id) else None
        if row is None:
            raise unknown(id)
        return _shown(connection, [row])[0]


def listing(units: UnitOfWork, after: str, limit: int) -> dict[str, Any]:
    """A page of webhooks, oldest first, from behind `after`; `next` is what to ask for more with. Raises Invalid."""
    query = select(webhook).order_by(webhook.c.id).limit(limit + 1)
    if after:
        query = query.where(webhook.c.id > _cursor(after))
    with units.database.reading() as connection:
        rows = connection.execute(query).all()
        page = rows[:limit]
        return {"items": _shown(connection, page), "next": page[-1].id if len(rows) > limit else None}


def _shown(connection: Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
    query = select(webhook_secret.c.webhook, webhook_secret.c.until).where(
        webhook_secret.c.webhook.in_([row.id for row in rows]), webhook_secret.c.until > clock.now()
    )
    ending = {row.webhook: row.until for row in connection.execute(query)}
    return [
        {
            "id": row.id,
            **row.settings,
            "enabled": bool(row.enabled),
            "disabled": row.disabled,
            "failing_since": _text(row.failing_since),
            "old_secret_until": _text(ending.get(row.id)),
            "created_at": _text(row.created_at),
            "changed_at": _text(row.changed_at),
        }
        for row in rows
    ]


def rotate(units: UnitOfWork, sealer: Sealer, id: str, keep_seconds: float) -> dict[str, Any]:
    """Make a new secret; the former one signs too for `keep_seconds`. The answer is the only one with it. Raises NotFound."""
    secret, moment = secret_of(token_bytes(KEY_BYTES)), clock.now()
    with units() as work:
        locked(work.connection, id)
        of_it = webhook_secret.c.webhook == id
        number = work.connection.scalar(select(func.max(webhook_secret.c.number)).where(of_it)) or 0
        work.connection.execute(delete(webhook_secret).where(of_it, webhook_secret.c.number < number))
        if keep_seconds > 0:
            work.connection.execute(update(webhook_secret).where(of_it).values(until=moment + keep_seconds))
        else:
            work.connection.execute(delete(webhook_secret).where(of_it))
        work.connection.execute(insert(webhook_secret).values(webhook=id, number=number + 1, sealed=sealer.seal(secret), until=None))
    return {**get(units, id), "secret": secret}


def deliveries(units: UnitOfWork, id: str, state: str | None, before: str, limit: int) -> dict[str, Any]:
    """A page of a webhook's deliveries, newest first; `next` is what to ask for older ones with. Raises NotFound or Invalid."""
    get(units, id)
    table = webhook_delivery
    query = select(*(column for column in table.c if column.name != "body")).where(table.c.webhook == id)
    if state:
        query = query.where(table.c.state == state)
    if before:
        query = query.where(table.c.id < _cursor(before))
    with units.database.reading() as connection:
        rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).all()
    page = rows[:limit]
    return {"items": [_shown_delivery(row) for row in page], "next": page[-1].id if len(rows) > limit else None}


def _shown_delivery(row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "event": row.event, "type": row.type, "subject": row.subject, "state": row.state, "attempts": row.attempts,
        "queued_at": _text(row.queued_at), "last_attempt_at": _text(row.tried_at), "next_attempt_at": _text(row.next_at),
        "last_status": row.status, "last_error": row.error, "last_answer": row.excerpt,
    }  # fmt: skip


def redeliver(units: UnitOfWork, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Send one delivery again, or all that happened from a time on, as far as the log of events reaches. Raises Invalid, NotFound or
    Conflict."""
    if ("delivery" in told) == ("since" in told):
        raise Invalid("say either which `delivery` to send again, or `since` when")
    with units() as work:
        row = locked(work.connection, id)
        if not row.enabled:
            raise Conflict("this webhook is disabled: enable it first")
        if "delivery" in told:
            count = _redeliver_one(work.connection, id, told["delivery"])
        else:
            count = _read_again(work.connection, row, told["since"])
        work.connection.execute(update(webhook).where(webhook.c.id == id).values(paused_until=0.0))
    return {"events": count}


def _redeliver_one(connection: Connection, id: str, delivery: str) -> int:
    table = webhook_delivery
    row = connection.execute(select(table).where(table.c.webhook == id, table.c.id == delivery)).first() if is_id(delivery) else None
    if row is None:
        raise NotFound(f"this webhook has no delivery {delivery}; delivered ones are kept for a day, dead ones for a month")
    body = row.body
    if body is None:
        found = stream_log.after(connection, row.position - 1, None, 1)
        if not found or found[0].position != row.position:
            raise Conflict("the event is too old: it is not kept any more")
        body = found[0].body
    moment = clock.now()
    changes = {"state": PENDING, "attempts": 0, "body": body, "queued_at": moment, "next_at": moment}
    connection.execute(update(table).where(table.c.id == delivery).values(**changes))
    return 1


def _read_again(connection: Connection, row: Any, since: float) -> int:
    """The log is read again from there, and what it says is owed anew: the number of its events."""
    event = stream_log.stream_event
    before = connection.scalar(select(event.c.position).where(event.c.at < since).order_by(event.c.position.desc()).limit(1))
    position = min(row.position, stream_log.extent(connection).start if before is None else before)
    again = connection.scalar(select(func.count()).select_from(event).where(event.c.position > position)) or 0
    connection.execute(update(webhook).where(webhook.c.id == row.id).values(position=position))
    return again


def locked(connection: Connection, id: str) -> Any:
    """A webhook's row, which nobody else changes until the transaction ends. Raises NotFound."""
    row = connection.execute(select(webhook).where(webhook.c.id == id).with_for_update()).first() if is_id(id) else None
    if row is None:
        raise unknown(id)
    return row


def unknown(id: str) -> NotFound:
    return NotFound(f"no webhook has the id {id}")


def _cursor(text: str) -> str:
    if not is_id(text):
        raise Invalid("`cursor` is not what a page said in `next`")
    return text


def _text(moment: float | None) -> str | None:
    return None if moment is None else clock.to_text(moment)
