"""Callbacks that agents promise because nobody inside had an answer (R10): owed from the moment the question counts as unanswered, and booked
with routing as soon as that is in reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Column, Connection, Integer, Table, Text, delete, select, update

from services.gateway import store
from services.gateway.handlers import ARRIVALS
from services.gateway.store import metadata
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.db.types import Moment
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.ids import is_id

log = structlog.get_logger()

UNANSWERED = "im.escalation_unanswered.v1"
REFUSED = "gateway.callback_refused.v1"
WITHHELD, OVER = "withheld", "over"
AT_ONCE = 50
LONGEST_PAUSE = 60.0

promised_callback = Table(
    "promised_callback",
    metadata,
    Column("contact", Text, primary_key=True),
    Column("escalation", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Moment, nullable=False),
)
"""What is not booked yet."""

Book = Callable[[str, str], object]
"""(contact, number) -> whatever. Books a callback, once however often it is asked. Raises Invalid for a number that nobody can be called at,
Conflict or NotFound for a contact that is over, Unavailable."""


def note(work: Work, events: Sequence[Event]) -> None:
    """Write down what is promised by these."""
    now = clock.now()
    rows = [
        {**{name: event.data[name] for name in ("contact", "escalation", "queue", "agent")}, "tries": 0, "next_at": now}
        for event in events
        if event.type == UNANSWERED and event.data["promise"] == "callback"
    ]
    if rows:
        bulk.insert(work.connection, promised_callback, rows, key=("contact",))


def keep(units: UnitOfWork, book: Book) -> int:
    """Book what is due; whatever cannot be booked at all is announced. Returns how many were settled. Asks nobody within a transaction."""
    table, settled = promised_callback, 0
    with units.database.reading() as connection:
        due = select(table).where(table.c.next_at <= clock.now()).order_by(table.c.next_at).limit(AT_ONCE)
        owed = [(row, _caller_of(connection, row.contact)) for row in connection.execute(due)]
    for row, number in owed:
        this = table.c.contact == row.contact
        try:
            if number:
                book(row.contact, number)
            refused = "" if number else WITHHELD
        except Invalid:
            refused = WITHHELD
        except (Conflict, NotFound):
            refused = OVER
        except Unavailable:
            pause = min(2.0**row.tries, LONGEST_PAUSE)
            with units() as work:
                work.connection.execute(update(table).where(this).values(tries=row.tries + 1, next_at=clock.now() + pause))
            continue
        with units() as work:
            if work.connection.execute(delete(table).where(this)).rowcount and refused:
                told = {name: getattr(row, name) for name in ("contact", "escalation", "queue", "agent")}
                moment = clock.now()
                work.announce(Event(REFUSED, row.escalation, {**told, "reason": refused, "at": moment}, moment, 1))
        settled += 1
    return settled


def _caller_of(connection: Connection, contact: str) -> str:
    """The number by which a contact came; "" where none is known."""
    row = store.load_contacts(connection, [contact]).get(contact) if is_id(contact) else None
    while row and row.merged_into:
        row = store.load_contacts(connection, [row.merged_into]).get(row.merged_into)
    callers = (told.get("caller") for told in (row.observations if row else ()) if told["kind"] in ARRIVALS)
    return next((caller for caller in callers if caller), "")
