"""Tables as text: what is written is read back exactly, and what cannot be read is told by line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import tables
from services.gateway.domain.tables import Row, Unreadable

KNOWN = ("id", "name", "note")
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
TRICKY = st.one_of(TEXT, st.text("'=+-@\t\r\n\\|,;\"a ", max_size=8))


def rows(body: bytes) -> list[tuple[int, dict[str, str]]]:
    found = list(tables.read(tables.decode(body), KNOWN, ("id",)))
    assert all(isinstance(row, Row) for row in found), found
    return [(row.line, dict(row.cells)) for row in found]  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["id" + ",id" * 200_000, "," * 3_000_000, "id\n" + "," * 3_000_000, "id," * 101 + "\n"])
def test_a_line_of_very_many_cells_is_refused_before_they_are_counted(text: str) -> None:
    with pytest.raises(Unreadable):
        list(tables.read(text, KNOWN, ("id",)))


@given(st.lists(st.tuples(TRICKY.map(lambda text: "x" + text), TRICKY, TRICKY), max_size=5))
def test_what_is_written_is_read_back_exactly(cells: list[tuple[str, str, str]]) -> None:
    body = tables.write([KNOWN], mark=True) + tables.write(cells)
    assert [tuple(row[name] for name in KNOWN) for _, row in rows(body)] == cells


@given(TRICKY)
def test_no_cell_that_is_written_is_a_formula(cell: str) -> None:
    (line,) = csv.reader(io.StringIO(tables.write([["x", cell]]).decode(), newline=""))
    assert not line[1].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("'=1+1", "=1+1"),
        ("=1+1", "=1+1"),
        ("+49301234567", "+49301234567"),
        ("'+49", "+49"),
        ("''=x", "'=x"),
        ("'twas", "'twas"),
        ("'", "'"),
    ],
)
def test_the_apostrophe_is_taken_away_where_it_guards(cell: str, meant: str) -> None:
    assert tables.unguarded(cell) == meant
    assert tables.unguarded(tables.guarded(meant)) == meant


@given(st.lists(TRICKY.filter(bool)))
def test_several_values_in_a_cell(values: list[str]) -> None:
    assert tables.split(tables.join(values)) == values


@given(st.dictionaries(TRICKY, st.integers(0, 100)))
def test_named_numbers_in_a_cell(values: dict[str, int]) -> None:
    assert tables.split_pairs(tables.join_pairs(values)) == values


@pytest.mark.parametrize("cell", ["zh", "zh=", "zh=a", "zh=1=2", "zh=1|zh=2", "zh=-1", "|"])
def test_what_is_no_named_number(cell: str) -> None:
    with pytest.raises(ValueError, match="name"):
        tables.split_pairs(cell)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_spreadsheets_file(delimiter: str, mark: str, end: str) -> None:
    lines = [delimiter.join(cells) for cells in ((" ID", '"Name"'), ("a", '"x,y;z"'), ("", ""), ("b", "é"))]
    assert rows((mark + end.join(lines) + end).encode()) == [(2, {"id": "a", "name": "x,y;z"}), (4, {"id": "b", "name": "é"})]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the file is empty"),
        ("id,name\na,é\n".encode("latin-1"), "line 2 holds a byte that is not UTF-8 .byte 10"),
        ("id\n".encode("utf-16"), "the file is UTF-16: save it as CSV UTF-8"),
        (b"id\na\0\n", "U[+]0000"),
        (b"id,nme\n", "'nme'; known are id, name, note"),
        (b"name\n", "the column id is missing"),
        (b"id,id\n", "the column id stands there twice"),
        (b'"id\n', "the line of names cannot be read"),
        (b"PK\x03\x04\xff\xfe", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_says_what_to_mend(body: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        list(tables.read(tables.decode(body), KNOWN, ("id",)))


def test_a_wrong_row_is_told_by_its_line_and_the_rest_is_read() -> None:
    found = list(tables.read('id,name\na,"two\nlines"\nb\nc,d,e\nf,g\n', KNOWN, ("id",)))
    assert [one if isinstance(one, tuple) else (one.line, one.cells["id"]) for one in found] == [
        (2, "a"), (4, "it has 1 cells, and the line of names 2"), (5, "it has 3 cells, and the line of names 2"), (6, "f"),
    ]  # fmt: skip
    line, reason = list(tables.read('id,name\na,"b" c\n', KNOWN, ("id",)))[-1]  # type: ignore[misc]
    assert (line, "a quote in a cell is written twice" in reason) == (2, True)
