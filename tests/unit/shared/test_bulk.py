"""Many rows in one statement."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text, select

from shared.db import bulk
from shared.db.engine import Database
from shared.db.types import Document, Id, Moment, Serial
from shared.ids import new_id
from tests.unit.conftest import MakeUnits

metadata = MetaData()
note = Table(
    "note",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text),
    Column("document", Document),
    Column("at", Moment),
    Column("is_open", Boolean),
    Column("sequence", Serial),
)
entry = Table("entry", metadata, Column("seq", Serial, primary_key=True, autoincrement=True), Column("id", Id), Column("text", Text))
KEY = ("queue", "number")
# PostgreSQL keeps no NUL: the doors refuse it
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def db(make_units: MakeUnits) -> Database:
    return make_units(metadata).database


def row(number: int, text: str | None = "", **more: Any) -> dict[str, Any]:
    return {"queue": "sales", "number": number, "text": text, "document": None, "at": 1.5, "is_open": True, "sequence": 0} | more


def put(db: Database, rows: list[dict[str, Any]], **how: Any) -> list[Any]:
    with db.transaction() as connection:
        return bulk.insert(connection, note, rows, **how)


def stored(db: Database) -> list[dict[str, Any]]:
    with db.reading() as connection:
        return [dict(row) for row in connection.execute(select(note).order_by(*note.primary_key)).mappings()]


def texts(db: Database) -> dict[int, str]:
    return {row["number"]: row["text"] for row in stored(db)}


def test_every_type_comes_back_as_it_went(db: Database) -> None:
    full = row(1, 'it\'s "quoted" \\ ; -- $1 :rows ☎ \\u0000 null', document={"a": [1, None, "null", {"ü": True}]}, at=1795296258.585)
    empty = dict.fromkeys(full) | {"queue": "", "number": -1}
    texts = [row(n, document=document) for n, document in enumerate(["null", [], {}, 0, False, "", "[]"], 2)]
    rows = [full, empty, *texts, row(99, is_open=False, sequence=2**40)]
    put(db, rows)
    assert sorted(stored(db), key=str) == sorted(rows, key=str)


def test_no_document_is_null_for_the_database_too(db: Database) -> None:
    put(db, [row(1, document=None), row(2, document="null"), row(3, document=[])])
    with db.reading() as connection:
        assert list(connection.scalars(select(note.c.number).where(note.c.document.is_(None)))) == [1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.none() | TEXT, document=DOCUMENTS, at=st.none() | st.floats(-1e12, 1e12))
def test_whatever_text_and_document(db: Database, text: str | None, document: Any, at: float | None) -> None:
    written = row(1, text, document=document, at=at)
    put(db, [written], key=KEY, update=["text", "document", "at"])
    assert stored(db) == [written]


def test_nothing_to_write_is_no_statement(db: Database) -> None:
    assert put(db, [], returning=["number"]) == []


def test_a_known_key_is_left_alone(db: Database) -> None:
    put(db, [row(1, "old")])
    written = put(db, [row(1, "new"), row(2, "new")], key=KEY, returning=["number", "text"])
    assert [tuple(one) for one in written] == [(2, "new")]
    assert texts(db) == {1: "old", 2: "new"}


def test_a_known_key_is_added_to_in_the_columns_named(db: Database) -> None:
    for number in (1, 2):
        put(db, [row(1, "old", at=1.5), row(1 + number, "new", at=4.0)], key=KEY, add=["at"])
    assert {one["number"]: (one["text"], one["at"]) for one in stored(db)} == {1: ("old", 3.0), 2: ("new", 4.0), 3: ("new", 4.0)}


def test_a_known_key_is_overwritten_in_the_columns_named(db: Database) -> None:
    put(db, [row(1, "old", at=1.0)])
    put(db, [row(1, "new", at=2.0)], key=KEY, update=["text"])
    assert [(one["text"], one["at"]) for one in stored(db)] == [("new", 1.0)]


def test_the_newer_row_wins_in_whatever_order_they_come(db: Database) -> None:
    put(db, [row(1, "second", sequence=2)])
    for text, sequence, kept in [("first", 1, "second"), ("also second", 2, "second"), ("third", 3, "third")]:
        written = put(db, [row(1, text, sequence=sequence)], key=KEY, update=["text", "sequence"], newer="sequence", returning=["number"])
        assert texts(db) == {1: kept}
        assert len(written) == (kept == text)


def test_without_a_key_a_known_one_is_an_error(db: Database) -> None:
    put(db, [row(1)])
    with pytest.raises(Exception, match=r"(?i)unique"):
        put(db, [row(1)])


def test_rows_with_a_key_are_written_in_its_order_and_others_in_their_own(db: Database) -> None:
    ids = [new_id() for _ in range(50)]
    with db.transaction() as connection:
        given = [{"id": id, "text": "as given"} for id in reversed(ids)]
        bulk.insert(connection, entry, given, columns=("id", "text"))
        as_given = list(connection.scalars(select(entry.c.id).where(entry.c.text == "as given").order_by(entry.c.seq)))
    assert as_given == ids[::-1]
    order = put(db, [row(n) for n in (3, 1, 2)], key=KEY, returning=["number"])
    assert [one.number for one in order] == [1, 2, 3]


def test_ten_thousand_rows_go_in_one_statement(db: Database) -> None:
    rows = [row(n, f"text {n}", document={"n": n}) for n in range(10_000)]
    assert len(put(db, rows, key=KEY, returning=["number"])) == 10_000
    assert len(put(db, rows, key=KEY, returning=["number"])) == 0


def test_a_list_can_be_asked_for_in_one_parameter(db: Database) -> None:
    put(db, [row(n) for n in range(5)])
    among = {
        "postgresql": "select number from note where number in (select value::int from json_array_elements_text(:items)) order by number",
        "sqlite": "select number from note where number in (select value from json_each(:items)) order by number",
    }
    with db.reading() as connection:
        assert [one.number for one in bulk.values(connection, among, [4, 2, 99])] == [2, 4]


def test_the_oldest_are_forgotten_slice_by_slice_and_nothing_that_is_not_settled(make_units: MakeUnits) -> None:
    units = make_units(metadata)
    with units() as work:
        for at in ("1", None, "2", "9", "3"):
            work.connection.execute(entry.insert().values(id=new_id(), text=at))

    def forget() -> bool:
        with units() as work:
            return bulk.forget_oldest(work.connection, entry.c.seq, lambda row: row.text.is_not(None), lambda row: row.text < "5", most=2)

    def left() -> list[str | None]:
        with units.database.reading() as connection:
            return list(connection.scalars(select(entry.c.text).order_by(entry.c.seq)))

    assert (forget(), left()) == (True, [None, "9", "3"])
    assert (forget(), left()) == (False, [None, "9"]), "one of the slice is young: there is no need to go on"
