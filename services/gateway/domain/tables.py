"""Tables as text: comma-separated values (RFC 4180), as spreadsheets write them, so that what is written is read back exactly.

A cell that begins with = + - @ (or a tab, or a line break) would be run as a formula by a spreadsheet: it is written with an apostrophe
before it, and such an apostrophe is taken away again in reading; cells of other kinds keep theirs. Several values in a cell stand
with | between them, and what they are called and worth with = between; a backslash makes either of them plain text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

DELIMITERS = ",;\t"
MARK = "\ufeff"
LONGEST_LINE, MOST_NAMES = 1024 * 1024, 100
OTHERS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")


class Unreadable(ValueError):
    """What came is no such table; the text says what to mend."""


@dataclass(frozen=True, slots=True)
class Row:
    """`line`: where it begins, from 1."""

    line: int
    cells: Mapping[str, str]


def decode(body: bytes) -> str:
    """The text of a file. Raises Unreadable for anything but UTF-8."""
    if wide := OTHERS.get(body[:2]):
        raise Unreadable(f"the file is {wide}: save it as CSV UTF-8")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"line {line} holds a byte that is not UTF-8 (byte {error.start} of the file): save it as CSV UTF-8") from error
    if "\0" in text:
        raise Unreadable("the file holds the character U+0000: it is no text")
    return text


def read(text: str, known: Sequence[str], needed: Iterable[str]) -> Iterator[Row | tuple[int, str]]:
    """The rows below the line of names, or (line, what is wrong with it). Columns may come in any order, and some be absent. Raises
    Unreadable where no row can be read."""
    delimiter = _delimiter(text, known)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader)]
    except StopIteration:
        raise Unreadable(f"the file is empty: its first line names the columns, of {', '.join(known)}") from None
    except csv.Error as error:
        raise Unreadable(f"the line of names cannot be read: {error}") from error
    _check_names(names, known, needed)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"from here on it cannot be read ({error}): a quote in a cell is written twice, and the cell within quotes"
            return
        if not any(cells):
            continue
        if len(cells) != len(names):
            yield line, f"it has {len(cells)} cells, and the line of names {len(names)}"
            continue
        yield Row(line, {name: unguarded(cell) for name, cell in zip(names, cells, strict=True)})


def _lines(text: str) -> Iterator[str]:
    """Raises Unreadable for a line of millions of cells, which would take all the memory before anybody counted them."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > LONGEST_LINE:
            raise Unreadable(f"line {number} has more than {LONGEST_LINE} characters: it is no row of such a table")
        yield line


def _delimiter(text: str, known: Sequence[str]) -> str:
    """The one by which most names of columns are known."""
    first = next(_lines(text), "")
    return max(DELIMITERS, key=lambda one: sum(cell.strip().strip('"').lower() in known for cell in first.rstrip("\r\n").split(one)))


def _check_names(names: Sequence[str], known: Sequence[str], needed: Iterable[str]) -> None:
    if len(names) > MOST_NAMES:
        raise Unreadable(f"the first line names {len(names)} columns; known are {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise Unreadable(f"the first line names a column that is not known: {unknown[0][:50]!r}; known are {', '.join(known)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise Unreadable(f"the column {twice[0]} stands there twice")
    if missing := [name for name in needed if name not in names]:
        raise Unreadable(f"the column {missing[0]} is missing")


def write(rows: Iterable[Sequence[str]], mark: bool = False) -> bytes:
    """Lines of cells. `mark`: begin with the mark by which spreadsheets know UTF-8."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([guarded(cell) for cell in row] for row in rows)
    return ((MARK if mark else "") + out.getvalue()).encode()


def guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    return cell[1:] if _GUARDED.match(cell) else cell


# ---- several values in a cell


def join(values: Iterable[str]) -> str:
    return "|".join(_escaped(value) for value in values)


def split(cell: str) -> list[str]:
    return [_plain(part) for part in _parts(cell, "|")] if cell else []


def join_pairs(values: Mapping[str, int]) -> str:
    return "|".join(f"{_escaped(name)}={value}" for name, value in sorted(values.items()))


def split_pairs(cell: str) -> dict[str, int]:
    """Raises ValueError."""
    pairs: dict[str, int] = {}
    for part in _parts(cell, "|") if cell else ():
        name, *value = _parts(part, "=")
        if len(value) != 1 or not re.fullmatch(r"\d{1,9}", value[0], re.ASCII):
            raise ValueError("write each as name=number, with | between them")
        if _plain(name) in pairs:
            raise ValueError("a name stands there twice")
        pairs[_plain(name)] = int(value[0])
    return pairs


def _escaped(value: str) -> str:
    return re.sub(r"[\\|=]", r"\\\g<0>", value)


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL)


def _parts(cell: str, between: str) -> list[str]:
    """Split, but not at one with a backslash before it; backslashes stay."""
    parts, start, at = [], 0, 0
    while at < len(cell):
        if cell[at] == "\\":
            at += 1
        elif cell[at] == between:
            parts.append(cell[start:at])
            start = at + 1
        at += 1
    return [*parts, cell[start:]]
