"""Versions of a policy over its life, on both kinds of database."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from services.routing import policy_store as store
from services.routing.store import metadata
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict, Invalid, NotFound
from tests.unit.conftest import MakeUnits

ONE, TWO, THREE = (f"bound_seconds: {seconds}\n" for seconds in (100, 200, 300))


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    return make_units(metadata)


@pytest.fixture
def db(units: UnitOfWork) -> Iterator[Connection]:
    with units.database.transaction() as connection:
        yield connection


def active(db: Connection, name: str = "sales") -> int | None:
    row = store.active(db, name)
    return row["version"] if row else None


def put_all(db: Connection, *documents: str) -> None:
    for now, document in enumerate(documents, 1):
        store.put(db, "sales", document, "eva", float(now))


def states(db: Connection) -> dict[int, str]:
    return {row["version"]: row["state"] for row in store.versions(db, "sales")}


class TestWriting:
    def test_a_policy_begins_as_a_draft(self, db: Connection) -> None:
        row, new = store.put(db, "sales", ONE, "eva", 10.0, note="for spring")
        assert new
        assert row == {
            "name": "sales", "version": 1, "document": ONE, "created_at": 10, "created_by": "eva", "note": "for spring",
            "starts_at": None, "state": "draft",
        }  # fmt: skip
        assert active(db) is None
        assert store.compiled(row).bound_seconds == 100
        assert store.history(db, "sales") == [{"version": 1, "action": "written", "who": "eva", "at": 10, "note": "for spring"}]

    def test_the_text_that_is_active_changes_nothing(self, db: Connection) -> None:
        put_all(db, ONE, TWO)
        store.activate(db, "sales", 1, "eva", 5.0)
        row, new = store.put(db, "sales", ONE, "max", 20.0)
        assert (row["version"], new, len(store.history(db, "sales"))) == (1, False, 3)

    def test_the_newest_said_again_is_no_other_version(self, db: Connection) -> None:
        put_all(db, ONE, TWO, TWO)
        assert list(states(db)) == [2, 1]

    def test_an_old_text_said_again_is_a_new_version(self, db: Connection) -> None:
        put_all(db, ONE, TWO)
        store.activate(db, "sales", 2, "eva", 5.0)
        assert store.put(db, "sales", ONE, "eva", 6.0)[0]["version"] == 3

    def test_a_document_with_mistakes_is_not_kept(self, db: Connection) -> None:
        with pytest.raises(Invalid, match="line 1: bound_seconds must be above 0"):
            store.put(db, "sales", "bound_seconds: 0", "eva", 1.0)
        assert store.versions(db, "sales") == []

    @pytest.mark.parametrize("name", ["", "  ", "x" * 101])
    def test_a_policy_has_a_name(self, db: Connection, name: str) -> None:
        with pytest.raises(Invalid):
            store.put(db, name, ONE, "eva", 1.0)


class TestActivating:
    def test_one_at_a_time_is_active(self, db: Connection) -> None:
        put_all(db, ONE, TWO)
        store.put(db, "service", ONE, "eva", 3.0)
        store.activate(db, "service", 1, "eva", 4.0)
        store.activate(db, "sales", 1, "eva", 5.0)
        store.activate(db, "sales", 2, "eva", 6.0)
        assert states(db) == {1: "superseded", 2: "active"}
        assert [(row["name"], row["version"]) for row in store.all_active(db)] == [("sales", 2), ("service", 1)]

    def test_said_again_it_changes_nothing(self, db: Connection) -> None:
        put_all(db, ONE)
        store.activate(db, "sales", 1, "eva", 5.0)
        store.activate(db, "sales", 1, "eva", 6.0)
        assert [entry["action"] for entry in store.history(db, "sales")] == ["activated", "written"]

    def test_what_does_not_exist(self, db: Connection) -> None:
        with pytest.raises(NotFound, match="Policy sales has no version 7"):
            store.activate(db, "sales", 7, "eva", 5.0)


class TestScheduling:
    def test_a_version_starts_when_its_time_has_come(self, db: Connection) -> None:
        put_all(db, ONE, TWO)
        store.schedule(db, "sales", 2, 100.0, "eva", 10.0)
        store.schedule(db, "sales", 1, 90.0, "eva", 10.0)
        assert (store.next_start(db), store.due(db, 89.9)) == (90, [])
        assert store.due(db, 100.0) == [("sales", 1), ("sales", 2)]
        for name, version in store.due(db, 100.0):
            store.activate(db, name, version, "schedule", 100.0)
        assert (active(db), store.due(db, 200.0), store.next_start(db)) == (2, [], None)
        assert states(db) == {1: "superseded", 2: "active"}

    def test_another_time_replaces_the_first(self, db: Connection) -> None:
        put_all(db, ONE)
        for starts_at in (50.0, 60.0, 60.0):
            row = store.schedule(db, "sales", 1, starts_at, "eva", 10.0)
        assert (row["state"], row["starts_at"], store.due(db, 55.0)) == ("scheduled", 60, [])
        assert [entry["action"] for entry in store.history(db, "sales")] == ["scheduled", "scheduled", "written"]

    def test_it_can_be_called_off(self, db: Connection) -> None:
        put_all(db, ONE)
        store.schedule(db, "sales", 1, 50.0, "eva", 10.0)
        row = store.unschedule(db, "sales", 1, "max", 20.0)
        assert (row["state"], row["starts_at"], store.due(db, 60.0)) == ("draft", None, [])
        with pytest.raises(Conflict):
            store.unschedule(db, "sales", 1, "max", 20.0)

    def test_neither_for_the_past_nor_for_what_is_active(self, db: Connection) -> None:
        put_all(db, ONE)
        with pytest.raises(Invalid, match="future"):
            store.schedule(db, "sales", 1, 10.0, "eva", 10.0)
        store.activate(db, "sales", 1, "eva", 11.0)
        with pytest.raises(Conflict, match="active already"):
            store.schedule(db, "sales", 1, 50.0, "eva", 12.0)


class TestRollingBack:
    def test_step_by_step_through_what_was_active(self, db: Connection) -> None:
        put_all(db, ONE, TWO, THREE)
        for version in (1, 3, 2):
            store.activate(db, "sales", version, "eva", 10.0 + version)
        assert store.rollback(db, "sales", "max", 20.0, note="too slow")["version"] == 3
        assert states(db) == {1: "superseded", 2: "rolled_back", 3: "active"}
        assert store.history(db, "sales")[0] == {"version": 3, "action": "rolled_back", "who": "max", "at": 20, "note": "too slow"}
        assert store.rollback(db, "sales", "max", 21.0)["version"] == 1
        with pytest.raises(Conflict, match="no version of policy sales before"):
            store.rollback(db, "sales", "max", 22.0)
        assert (active(db), len(store.versions(db, "sales"))) == (1, 3)

    def test_what_was_rolled_back_may_be_tried_again(self, db: Connection) -> None:
        put_all(db, ONE, TWO)
        for version in (1, 2):
            store.activate(db, "sales", version, "eva", 10.0)
        store.rollback(db, "sales", "max", 20.0)
        store.activate(db, "sales", 2, "eva", 30.0)
        assert store.rollback(db, "sales", "max", 40.0)["version"] == 1

    def test_nothing_is_active(self, db: Connection) -> None:
        with pytest.raises(Conflict, match="No version of policy sales is active"):
            store.rollback(db, "sales", "max", 20.0)


def test_two_who_write_at_once_take_turns(units: UnitOfWork) -> None:
    together = threading.Barrier(2)

    def write(seconds: int) -> None:
        together.wait()
        with units.database.transaction() as connection:
            for more in range(5):
                store.put(connection, "sales", f"bound_seconds: {seconds + more}", "eva", 1.0)

    writers = [threading.Thread(target=write, args=(seconds,)) for seconds in (100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with units.database.reading() as connection:
        assert [row["version"] for row in store.versions(connection, "sales")] == list(range(10, 0, -1))
