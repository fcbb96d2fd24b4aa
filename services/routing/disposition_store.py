"""Trees of dispositions: every version ever in force, so that old records stay readable."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Integer, Table, Text, func, select

from services.routing.domain.disposition import Tree, read_tree
from services.routing.domain.errors import Conflict, NotFound
from services.routing.store import metadata
from shared.db import bulk
from shared.db.types import Document, Moment

disposition_tree = Table(
    "disposition_tree",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

TRIES = 10
KEY = ("name", "version")


def put(connection: Connection, name: str, document: Any, *, created_by: str, now: float) -> Tree:
    """The next version of a tree, from 1. The same document again is the version that it is.

    Invalid where the document needs mending; Conflict where others keep putting versions of this tree at the same time.
    """
    read_tree(name, 0, document)
    for _ in range(TRIES):
        last = connection.execute(_newest(name)).one_or_none()
        if last is not None and last.document == document:
            return read_tree(name, last.version, last.document)
        version = 1 if last is None else last.version + 1
        row = {"name": name, "version": version, "document": document, "created_at": now, "created_by": created_by}
        if bulk.insert(connection, disposition_tree, [row], key=KEY, returning=("version",)):
            return read_tree(name, version, document)
    raise Conflict(f"Others are changing dispositions {name} at this moment: try again.")


def latest(connection: Connection, name: str) -> Tree:
    """The version in force. NotFound where there is none."""
    row = connection.execute(_newest(name)).one_or_none()
    if row is None:
        raise NotFound(f"There are no dispositions {name!r}.")
    return read_tree(name, row.version, row.document)


def newest_versions(connection: Connection) -> dict[str, int]:
    """name -> the version in force"""
    newest = func.max(disposition_tree.c.version).label("version")
    query = select(disposition_tree.c.name, newest).group_by(disposition_tree.c.name).order_by(disposition_tree.c.name)
    return {row.name: row.version for row in connection.execute(query)}


def get(connection: Connection, name: str, version: int) -> Tree:
    """A version that is or was in force. NotFound where there is none."""
    row = connection.execute(select(disposition_tree).filter_by(name=name, version=version)).one_or_none()
    if row is None:
        raise NotFound(f"There is no version {version} of dispositions {name!r}.")
    return read_tree(name, version, row.document)


def document(connection: Connection, name: str, version: int | None = None) -> dict[str, Any]:
    """A whole row: the document as it was put, when and by whom. The version in force where none is named."""
    of_version = _newest(name) if version is None else select(disposition_tree).filter_by(name=name, version=version)
    row = connection.execute(of_version).mappings().one_or_none()
    if row is None:
        raise NotFound(f"There are no dispositions {name!r}" + (f" of version {version}." if version is not None else "."))
    return dict(row)


def _newest(name: str) -> Any:
    return select(disposition_tree).filter_by(name=name).order_by(disposition_tree.c.version.desc()).limit(1)
