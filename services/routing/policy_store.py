"""Versions of policies: what was written, what holds, what will hold and what held before. Nothing is ever deleted.

The first step of a name's life is a draft; of its versions one at most is active. Every step leaves a row in `policy_audit`.
Functions write in the caller's transaction and take turns by name.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, Table, Text, func, insert, select, text, update

from services.routing import policies
from services.routing.domain.policy import Policy
from services.routing.store import metadata
from shared.db.types import Moment, Serial
from shared.errors import Conflict, Invalid, NotFound

Row = dict[str, Any]

policy_version = Table(
    "policy_version",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("starts_at", Moment),
    Column("state", Text, nullable=False),
)
"""state: draft, scheduled, active, superseded or rolled_back"""
_active = policy_version.c.state == "active"
Index("policy_active", policy_version.c.name, unique=True, postgresql_where=_active, sqlite_where=_active)

policy_audit = Table(
    "policy_audit",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("note", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""action: written, scheduled, unscheduled, activated or rolled_back (of the version gone back to)"""


def put(connection: Connection, name: str, document: str, who: str, now: float, note: str = "") -> tuple[Row, bool]:
    """A new draft, and whether it is new: the text of the active version, or of the newest, is that version and changes nothing.

    Raises Invalid with the document's mistakes.
    """
    if not name.strip() or len(name) > 100:
        raise Invalid("A policy's name must be a text of 1 to 100 characters.")
    policies.compile(document, name, 0)
    _take_turn(connection, name)
    newest = _first(connection, name)
    for known in (_first(connection, name, policy_version.c.state == "active"), newest):
        if known and known["document"] == document:
            return known, False
    version = newest["version"] + 1 if newest else 1
    row = {"name": name, "version": version, "document": document, "created_at": now, "created_by": who, "note": note}
    connection.execute(insert(policy_version).values(**row, starts_at=None, state="draft"))
    _note(connection, name, version, "written", who, now, note)
    return find(connection, name, version), True


def schedule(connection: Connection, name: str, version: int, starts_at: float, who: str, now: float, note: str = "") -> Row:
    """The version becomes active at `starts_at`, which must be in the future. Said again with another time, that one holds."""
    _take_turn(connection, name)
    row = find(connection, name, version)
    if starts_at <= now:
        raise Invalid("A policy can be scheduled for the future only; activate it to have it start now.")
    if row["state"] == "active":
        raise Conflict(f"Version {version} of policy {name} is active already.")
    if (row["state"], row["starts_at"]) == ("scheduled", starts_at):
        return row
    _set(connection, name, version, state="scheduled", starts_at=starts_at)
    _note(connection, name, version, "scheduled", who, now, note)
    return find(connection, name, version)


def unschedule(connection: Connection, name: str, version: int, who: str, now: float, note: str = "") -> Row:
    """The version is a draft again, and starts when somebody says so."""
    _take_turn(connection, name)
    if find(connection, name, version)["state"] != "scheduled":
        raise Conflict(f"Version {version} of policy {name} is not scheduled.")
    _set(connection, name, version, state="draft", starts_at=None)
    _note(connection, name, version, "unscheduled", who, now, note)
    return find(connection, name, version)


def activate(connection: Connection, name: str, version: int, who: str, now: float, note: str = "") -> Row:
    """From now on this version holds. Said of the active one, it changes nothing.

    Raises Invalid where the document, once accepted, is not any more: rules may have become stricter since.
    """
    _take_turn(connection, name)
    row = find(connection, name, version)
    if row["state"] != "active":
        policies.compile(row["document"], name, version)
        _replace_active(connection, name, version, "superseded")
        _note(connection, name, version, "activated", who, now, note)
    return find(connection, name, version)


def rollback(connection: Connection, name: str, who: str, now: float, note: str = "") -> Row:
    """One step back, to the version that was active before the one that is; again, one step further.

    Raises Conflict where there is none, Invalid as `activate` does.
    """
    _take_turn(connection, name)
    held = _held(connection, name)
    if len(held) < 2:
        raise Conflict(
            f"There is no version of policy {name} before the active one." if held else f"No version of policy {name} is active."
        )
    before = find(connection, name, held[-2])
    policies.compile(before["document"], name, before["version"])
    _replace_active(connection, name, before["version"], "rolled_back")
    _note(connection, name, before["version"], "rolled_back", who, now, note)
    return find(connection, name, before["version"])


def due(connection: Connection, now: float) -> list[tuple[str, int]]:
    """The scheduled versions (name, version) to activate by now, the earliest first."""
    columns = (policy_version.c.name, policy_version.c.version)
    scheduled = policy_version.c.state == "scheduled", policy_version.c.starts_at <= now
    query = select(*columns).where(*scheduled).order_by(policy_version.c.starts_at, *columns)
    return [(row.name, row.version) for row in connection.execute(query)]


def next_start(connection: Connection) -> float | None:
    """When the next scheduled version starts."""
    starts_at: float | None = connection.scalar(select(func.min(policy_version.c.starts_at)).where(policy_version.c.state == "scheduled"))
    return starts_at


def active(connection: Connection, name: str) -> Row | None:
    return _first(connection, name, policy_version.c.state == "active")


def active_versions(connection: Connection) -> dict[str, int]:
    """name -> the version that holds now"""
    query = select(policy_version.c.name, policy_version.c.version).where(policy_version.c.state == "active")
    return {row.name: row.version for row in connection.execute(query.order_by(policy_version.c.name))}


def all_active(connection: Connection) -> list[Row]:
    """What holds now, by name."""
    query = select(policy_version).where(policy_version.c.state == "active").order_by(policy_version.c.name)
    return [dict(row) for row in connection.execute(query).mappings()]


def targets(connection: Connection) -> dict[str, float]:
    """The share of contacts that each policy in force wants answered in time, 0 to 1, by name."""
    found = {}
    for row in all_active(connection):
        with suppress(Invalid):  # stricter now than when it was accepted: its queues go by the built-in policy
            found[row["name"]] = compiled(row).target.share
    return found


def compiled(row: Row) -> Policy:
    return policies.compile(row["document"], row["name"], row["version"])


def find(connection: Connection, name: str, version: int) -> Row:
    row = _first(connection, name, policy_version.c.version == version)
    if row is None:
        raise NotFound(f"Policy {name} has no version {version}.")
    return row


def versions(connection: Connection, name: str) -> list[Row]:
    """All versions, the newest first."""
    query = select(policy_version).where(policy_version.c.name == name).order_by(policy_version.c.version.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def history(connection: Connection, name: str) -> list[Row]:
    """Who did what and when, the latest first: {version, action, who, at, note}."""
    columns = [policy_audit.c[key] for key in ("version", "action", "who", "at", "note")]
    query = select(*columns).where(policy_audit.c.name == name).order_by(policy_audit.c.id.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def _take_turn(connection: Connection, name: str) -> None:
    """Until the transaction ends nobody else changes this name. (SQLite has one writer at a time anyway.)"""
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(hashtextextended('answerline policy ' || :name, 0))"), {"name": name})


def _held(connection: Connection, name: str) -> list[int]:
    """The versions that were active one after another, without those rolled back: the last is active, the last but one was before."""
    held: list[int] = []
    for entry in reversed(history(connection, name)):
        if entry["action"] == "activated":
            held.append(entry["version"])
        elif entry["action"] == "rolled_back":
            held.pop()
    return held


def _replace_active(connection: Connection, name: str, version: int, becomes: str) -> None:
    old = policy_version.c.name == name, policy_version.c.state == "active"
    connection.execute(update(policy_version).where(*old).values(state=becomes))
    _set(connection, name, version, state="active")


def _set(connection: Connection, name: str, version: int, **values: Any) -> None:
    this = policy_version.c.name == name, policy_version.c.version == version
    connection.execute(update(policy_version).where(*this).values(**values))


def _note(connection: Connection, name: str, version: int, action: str, who: str, now: float, note: str) -> None:
    connection.execute(insert(policy_audit).values(name=name, version=version, action=action, who=who, at=now, note=note))


def _first(connection: Connection, name: str, *where: Any) -> Row | None:
    query = select(policy_version).where(policy_version.c.name == name, *where).order_by(policy_version.c.version.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None
