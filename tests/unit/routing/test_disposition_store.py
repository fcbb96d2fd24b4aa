"""Trees of dispositions in the database: every version stays, and nobody's change is lost."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, inspect

from services.routing import disposition_store, store
from services.routing.domain.errors import Conflict, Invalid, NotFound
from shared.bus.outbox import UnitOfWork
from shared.db.engine import Database
from tests.unit.conftest import MakeUnits, MakeUrl


@pytest.fixture
def db(make_units: MakeUnits) -> Database:
    units: UnitOfWork = make_units(store.metadata)
    return units.database


def document(*codes: str) -> dict[str, Any]:
    return {"nodes": [{"code": code, "label": {"en": code.title(), "zh": "订单"}, "resolved": "yes"} for code in codes]}


def put(connection: Connection, *codes: str, name: str = "sales", now: float = 1000.0) -> int:
    return disposition_store.put(connection, name, document(*codes), created_by="lee", now=now).version


def test_each_change_is_a_version_and_the_last_is_in_force(db: Database) -> None:
    with db.transaction() as connection:
        assert [put(connection, "order"), put(connection, "order", "gift"), put(connection, "order", name="billing")] == [1, 2, 1]
    with db.reading() as connection:
        assert disposition_store.latest(connection, "sales").version == 2
        assert list(disposition_store.latest(connection, "billing").nodes) == ["order"]


def test_older_versions_stay_readable(db: Database) -> None:
    with db.transaction() as connection:
        put(connection, "order", "gift")
        put(connection, "order")
        assert disposition_store.get(connection, "sales", 1).reason("gift", "zh") == "订单"
        assert "gift" not in disposition_store.get(connection, "sales", 2).nodes


def test_the_same_again_is_no_new_version_but_going_back_is(db: Database) -> None:
    with db.transaction() as connection:
        assert [put(connection, "order"), put(connection, "order"), put(connection, "gift"), put(connection, "order")] == [1, 1, 2, 3]


def test_the_document_as_it_was_put_when_and_by_whom(db: Database) -> None:
    with db.transaction() as connection:
        put(connection, "order", now=1000.0)
        put(connection, "gift", now=2000.0)
        assert disposition_store.document(connection, "sales", 1) == {
            "name": "sales",
            "version": 1,
            "document": document("order"),
            "created_at": 1000.0,
            "created_by": "lee",
        }
        assert disposition_store.document(connection, "sales")["version"] == 2


def test_one_that_needs_mending_is_not_stored(db: Database) -> None:
    with db.transaction() as connection:
        with pytest.raises(Invalid, match="order: the code order is used at order already"):
            put(connection, "order", "order")
        with pytest.raises(NotFound):
            disposition_store.latest(connection, "sales")


def test_what_is_not_there(db: Database) -> None:
    with db.transaction() as connection:
        put(connection, "order")
        with pytest.raises(NotFound, match="no dispositions 'billing'"):
            disposition_store.latest(connection, "billing")
        with pytest.raises(NotFound, match="no version 2 of dispositions 'sales'"):
            disposition_store.get(connection, "sales", 2)
        with pytest.raises(NotFound, match="'sales' of version 7"):
            disposition_store.document(connection, "sales", 7)


def test_who_is_overtaken_takes_the_next_number(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with db.transaction() as connection:
        put(connection, "order")
        put(connection, "gift")
        seen = disposition_store._newest
        stale = [disposition_store.disposition_tree.select().where(disposition_store.disposition_tree.c.version == 1)]
        monkeypatch.setattr(disposition_store, "_newest", lambda name: stale.pop() if stale else seen(name))
        assert put(connection, "silent") == 3
        monkeypatch.setattr(
            disposition_store,
            "_newest",
            lambda name: disposition_store.disposition_tree.select().where(disposition_store.disposition_tree.c.version == 1),
        )
        with pytest.raises(Conflict, match="try again"):
            put(connection, "refund")


def test_the_migration_makes_the_table_that_the_store_expects(make_url: MakeUrl) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from services.routing import definition

    script: dict[str, Any] = {}
    exec((definition.migrations / "0004_dispositions.py").read_text(), script)
    with closing(Database(make_url("migrated"))) as migrated, closing(Database(make_url("expected"))) as expected:
        with migrated.engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
            script["upgrade"]()
        disposition_store.disposition_tree.create(expected.engine)

        def columns(database: Database) -> list[tuple[Any, ...]]:
            look = inspect(database.engine)
            found = [(column["name"], str(column["type"]), column["nullable"]) for column in look.get_columns("disposition_tree")]
            return [*found, tuple(look.get_pk_constraint("disposition_tree")["constrained_columns"])]

        assert columns(migrated) == columns(expected)
    assert (script["revision"], script["down_revision"]) == ("routing_0004", "routing_0003")
