"""Policies that run in the shadow of the one in force, and what they would have made of the last day."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Table, Text, delete, insert, select, update

from services.routing import policies
from services.routing.store import fetch, metadata
from shared import clock
from shared.db.types import Document, Moment
from shared.errors import NotFound

Row = dict[str, Any]

EVERY_SECONDS = 300.0
WINDOW_SECONDS = 86_400.0

shadow = Table(
    "shadow",
    metadata,
    Column("name", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("compared_at", Moment),
    Column("compared", Document),
)
"""By the policy it stands behind. `compared`: contacts, and of each figure live, shadow, gap and half its interval."""


def put(connection: Connection, name: str, document: str, who: str, now: float) -> Row:
    """From now on this document is the policy's shadow; the same document again changes nothing. Raises Invalid with its mistakes."""
    policies.compile(document, name, 0)
    known = _first(connection, name)
    if known is None or known["document"] != document:
        connection.execute(delete(shadow).where(shadow.c.name == name))
        row = {"name": name, "document": document, "since": now, "created_by": who, "compared_at": None, "compared": None}
        connection.execute(insert(shadow).values(**row))
    return get(connection, name)


def get(connection: Connection, name: str) -> Row:
    row = _first(connection, name)
    if row is None:
        raise NotFound(f"policy {name} has no shadow")
    moments = {key: None if row[key] is None else clock.to_text(row[key]) for key in ("since", "compared_at")}
    compared = row["compared"] or {}
    return {
        "name": name, "document": row["document"], "created_by": row["created_by"], **moments, "contacts": compared.get("contacts", 0),
        "figures": compared.get("figures", {}), "problem": compared.get("problem"),
    }  # fmt: skip


def end(connection: Connection, name: str) -> Row:
    """No longer tried. Returns what it came to."""
    last = get(connection, name)
    connection.execute(delete(shadow).where(shadow.c.name == name))
    return last


def due(connection: Connection, now: float) -> Row | None:
    """The shadow that was compared longest ago, if that is long enough ago."""
    rows = fetch(connection, select(shadow))
    late = [row for row in rows if row["compared_at"] is None or row["compared_at"] <= now - EVERY_SECONDS]
    return min(late, key=lambda row: (row["compared_at"] or 0.0, row["name"]), default=None)


def note(connection: Connection, row: Row, compared: Row, now: float) -> None:
    """What a comparison came to, unless the shadow is another one by now."""
    same = shadow.c.name == row["name"], shadow.c.since == row["since"]
    connection.execute(update(shadow).where(*same).values(compared=compared, compared_at=now))


def gaps(connection: Connection) -> dict[str, tuple[int, dict[str, float]]]:
    """By policy how many contacts were compared, and what each figure would be more (or less) under its shadow."""
    found = fetch(connection, select(shadow.c.name, shadow.c.compared).where(shadow.c.compared_at.is_not(None)))
    compared = {row["name"]: row["compared"] or {} for row in found}
    return {
        name: (one.get("contacts", 0), {figure: told["gap"] for figure, told in one.get("figures", {}).items()})
        for name, one in compared.items()
    }


def _first(connection: Connection, name: str) -> Row | None:
    return next(iter(fetch(connection, select(shadow).where(shadow.c.name == name))), None)
