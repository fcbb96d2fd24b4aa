"""Calendars and closures at rest. Nothing is overwritten: a calendar's newest version holds, a closure is ended and stays on record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, Integer, Table, Text, and_, desc, func, insert, or_, select, update

from services.routing.domain.errors import Conflict, NotFound
from services.routing.domain.hours import Closure
from services.routing.store import metadata
from shared.db import bulk
from shared.db.types import Document, Id, Moment
from shared.ids import is_id

calendar = Table(
    "calendar",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Document, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Text, nullable=False),
)

closure = Table(
    "closure",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("queues", Document, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("message", Document, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False, quote=True),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    Column("ended_at", Moment),
    Column("ended_by", Text),
)
Index("closure_since", closure.c.since)
Index("closure_open", closure.c.id, postgresql_where=closure.c.ended_at.is_(None), sqlite_where=closure.c.ended_at.is_(None))

Row = dict[str, Any]


def put_calendar(connection: Connection, name: str, document: Mapping[str, Any], *, by: str, now: float) -> Row:
    """The calendar as it now is; a document equal to the newest makes no new version.

    `document` is one that `calendars.check` has passed. Raises Conflict where somebody else changed it at the same moment.
    """
    newest = _newest(connection, name)
    if newest and newest["document"] == document:
        return newest
    row = {
        "name": name,
        "version": (newest["version"] if newest else 0) + 1,
        "document": dict(document),
        "changed_at": now,
        "changed_by": by,
    }
    written = bulk.insert(connection, calendar, [row], key=("name", "version"), returning=("version",))
    if not written:
        raise Conflict(f"somebody else changed the calendar {name} at the same moment: read it and send yours again")
    return row


def get_calendar(connection: Connection, name: str) -> Row:
    """The newest version. Raises NotFound."""
    row = _newest(connection, name)
    if row is None:
        raise NotFound(f"there is no calendar {name}")
    return row


def _newest(connection: Connection, name: str) -> Row | None:
    return next(iter(calendar_versions(connection, name, 1)), None)


def newest_versions(connection: Connection) -> dict[str, int]:
    """name -> the version that holds"""
    query = select(calendar.c.name, func.max(calendar.c.version).label("version")).group_by(calendar.c.name).order_by(calendar.c.name)
    return {row.name: row.version for row in connection.execute(query)}


def calendar_versions(connection: Connection, name: str, limit: int = 100) -> list[Row]:
    """The newest first."""
    query = select(calendar).where(calendar.c.name == name).order_by(desc(calendar.c.version)).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def add_closure(connection: Connection, new: Closure) -> None:
    connection.execute(insert(closure).values(**_row(new)))


def end_closure(connection: Connection, id: str, *, by: str, now: float) -> Closure:
    """The closure as it now is. One that is over, ended or expired, stays as it was. Raises NotFound."""
    if not is_id(id):
        raise NotFound(f"there is no closure {id}")
    unended = and_(closure.c.id == id, closure.c.ended_at.is_(None), or_(closure.c.until.is_(None), closure.c.until > now))
    connection.execute(update(closure).where(unended).values(ended_at=now, ended_by=by))
    return get_closure(connection, id)


def get_closure(connection: Connection, id: str) -> Closure:
    """Raises NotFound."""
    row = connection.execute(select(closure).where(closure.c.id == id)).mappings().first() if is_id(id) else None
    if row is None:
        raise NotFound(f"there is no closure {id}")
    return _closure(row)


def closures_in_force(connection: Connection, now: float) -> list[Closure]:
    """Those neither ended nor expired, the newest first."""
    open_ended = and_(closure.c.ended_at.is_(None), or_(closure.c.until.is_(None), closure.c.until > now))
    query = select(closure).where(open_ended).order_by(desc(closure.c.since), desc(closure.c.id))
    return [_closure(row) for row in connection.execute(query).mappings()]


def closures_since(connection: Connection, since: float, limit: int = 1000) -> list[Closure]:
    """The record: every closure made from `since` on, or not yet over then; the newest first."""
    over_before = or_(closure.c.ended_at < since, closure.c.until < since)
    touched = or_(closure.c.since >= since, func.coalesce(over_before, False).is_(False))
    query = select(closure).where(touched).order_by(desc(closure.c.since), desc(closure.c.id)).limit(limit)
    return [_closure(row) for row in connection.execute(query).mappings()]


def _row(of: Closure) -> Row:
    row = {name: getattr(of, name) for name in bulk.columns_of(closure)}
    return row | {"queues": list(of.queues), "message": dict(of.message)}


def _closure(row: Mapping[Any, Any]) -> Closure:
    return Closure(**{**row, "queues": tuple(row["queues"])})
