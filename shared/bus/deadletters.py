"""What an operator does with events that could not be applied."""

from collections import Counter
from typing import Any

from sqlalchemy import delete, select, update

from shared import clock
from shared.bus.inbox import count
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import NotFound
from shared.ids import is_id

SUMMARY = ("id", "type", "subject", "state", "attempts", "cause", "at")


def listing(units: UnitOfWork, state: str | None = None) -> list[dict[str, Any]]:
    """The events set aside, oldest first, without their data."""
    aside = units.tables.set_aside
    query = select(*(aside.c[name] for name in SUMMARY)).order_by(aside.c.position)
    if state:
        query = query.where(aside.c.state == state)
    with units.database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def show(units: UnitOfWork, id: str) -> dict[str, Any]:
    """One event set aside, whole. Raises NotFound."""
    aside = units.tables.set_aside
    with units.database.reading() as connection:
        row = connection.execute(select(aside).where(aside.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"no event {id} is set aside; `answerline dlq list` shows those that are")
    return dict(row)


def retry(units: UnitOfWork, id: str | None = None) -> int:
    """Let dead letters (one, or all) be tried again, from the first try on. Returns how many."""
    aside = units.tables.set_aside
    change = update(aside).where(aside.c.state == "dead").values(state="retrying", attempts=0, next_try_at=clock.now())
    with units() as work:
        changed = work.connection.execute(change.where(aside.c.id == id) if id else change).rowcount
    if id and not changed:
        raise NotFound(f"no dead letter {id}; `answerline dlq list` shows those that are")
    return changed


def drop(units: UnitOfWork, id: str) -> None:
    """Give an event up for good, even if it comes again; what waits behind it goes on. Raises NotFound."""
    subject = show(units, id)["subject"]
    aside = units.tables.set_aside
    with units() as work:
        if not work.connection.execute(delete(aside).where(aside.c.id == id)).rowcount:
            raise NotFound(f"event {id} is not set aside any more: it has just been applied")
        if is_id(id):
            bulk.insert(work.connection, units.tables.inbox, [{"id": id, "at": clock.now()}], key=("id",))
        count(work.connection, Counter(dropped=1))
        first = select(aside.c.position).where(aside.c.subject == subject).order_by(aside.c.position).limit(1).scalar_subquery()
        if subject:
            work.connection.execute(
                update(aside).where(aside.c.position == first, aside.c.state == "waiting").values(state="retrying", next_try_at=clock.now())
            )
