"""Documents as people write them: plain values, and a clear word for everything else."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, Table, select

from shared import yamldoc
from shared.db import migrate
from shared.db.engine import Database
from shared.errors import Invalid
from tests.unit.conftest import MakeUrl


def load(text: str, **more: Any) -> Any:
    return yamldoc.load(text, 10_000, **more)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{a: 1, b: [-2, 0.5, +3]}", {"a": 1, "b": [-2, 0.5, 3]}),
        ('{\n\t"a": "1",\n\t"b": null, "c": true}', {"a": "1", "b": None, "c": True}),
        ("a: 12:30\nb: 2026-12-24\nc: 0x1F\nd: 017\ne: 1_000\nf: .nan", {"a": "12:30", "b": "2026-12-24", "c": "0x1F", "d": "017", "e": "1_000", "f": ".nan"}),
        ("a: ٣\nb: 99999999999999999999", {"a": "٣", "b": "99999999999999999999"}),
        ('{"a": 1e-05, "b": 2E3, "c": -1.5e2, "d": .5}', {"a": 1e-05, "b": 2000.0, "c": -150.0, "d": 0.5}),
        ("b: e5\nc: .\nd: 1e", {"b": "e5", "c": ".", "d": "1e"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(written: str, meant: Any) -> None:
    assert load(written) == meant


def test_whether_yes_is_a_word_or_a_truth_value_is_the_callers_to_say() -> None:
    text = "a: yes\nb: No\nc: 'yes'\nd: true\ne: off"
    assert load(text) == {"a": "yes", "b": "No", "c": "yes", "d": True, "e": "off"}
    assert load(text, yes_no=True) == {"a": True, "b": False, "c": "yes", "d": True, "e": False}


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("a: 1\nb: &x 2", "line 2: b uses an anchor"),
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("a: {<<: *x}", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: a has a tag"),
        ("a: 1\n\na: 2", "line 3: a is there already, on line 1"),
        ("? [a]\n: b", "a key that is no text"),
        ("1: b", "a key that is no text"),
        ("a: [1", "line 2: the document is neither YAML nor JSON"),
        ("a: 1\n---\nb: 2", "is followed by another"),
        ("", "is empty"),
        ("a: \x07", "characters that no text has"),
        ("a: \ud800", "characters that no text has"),
        ("[" * 3000, "nested too deeply"),
        ("- " * 3000, "nested too deeply"),
        ("a: " + "x" * 10_000, "larger than 9 KB"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_mend(written: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        load(written)
    assert says in caught.value.detail
    assert caught.value.more["errors"][0]["line"] > 0


def test_who_reads_for_all_mistakes_hears_of_all_in_one_pass() -> None:
    heard: list[tuple[int, str, str]] = []
    parts = 0

    def count() -> None:
        nonlocal parts
        parts += 1

    root = yamldoc.read("a: &x 1\nb: !t 2\nc: {d: 1, d: 2}\n7: x", 1000, lambda *said: heard.append(said), on_part=count)
    assert root
    assert [(line, path) for line, path, _ in heard] == [(1, "a"), (2, "b"), (3, "c.d")]
    assert (root.key_lines, parts) == ({"a": 1, "b": 2, "c": 3, "7": 4}, 13)


def test_it_gives_up_on_a_document_of_mistakes() -> None:
    heard: list[str] = []
    assert yamldoc.read("- !x 1\n" * 1000, 10_000, lambda _line, _path, what: heard.append(what)) is None
    assert len(heard) < 60
    assert "too many mistakes" in heard[-1]


@given(st.text(max_size=200) | st.text("{}[]:,-&*!? \n'\"ayes01.", max_size=60))
def test_whatever_comes_is_plain_values_or_a_refusal(text: str) -> None:
    try:
        found = load(text)
    except Invalid as refused:
        assert refused.detail
    else:
        assert plain(found)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(one) for key, one in value.items())
    return all(map(plain, value)) if isinstance(value, list) else value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize(
    ("service", "table", "written", "meant"),
    [
        ("im", "ladder_version", "steps: &all [{after: 0, who: experts, same_site: no}]\nclaim_seconds: 0x1E", {"steps": [{"after": 0, "who": "experts", "same_site": False}], "claim_seconds": 30}),
        ("qa", "scorecard", "# ours\nkind: internal\nkind: customer\nweight: .5\nanswers: [yes, true]", {"kind": "customer", "weight": 0.5, "answers": ["yes", True]}),
        ("qa", "ruleset", "library: !!seq ['*']\n", {"library": ["*"]}),
    ],
)  # fmt: skip
def test_what_was_stored_before_means_the_same_after_the_upgrade(
    service: str, table: str, written: str, meant: Any, make_url: MakeUrl
) -> None:
    definition = import_module(f"services.{service}").definition
    row = {"name": "ours", "kind": "internal", "criteria": "[]", "note": "", "created_at": 1.0, "created_by": "lea"}
    fine = "# with a comment\na: [1, two]\n"
    with closing(Database(make_url("stored"))) as database:
        migrate.upgrade(database, definition.migrations, {"im": "im_0002", "qa": "qa_0004"}[service])
        with database.transaction() as connection:
            stored = Table(table, MetaData(), autoload_with=connection)
            for version, text in ((1, written), (2, fine)):
                values = {name: value for name, value in row.items() if name in stored.c}
                connection.execute(stored.insert().values(**values, version=version, document=text))
        migrate.upgrade(database, definition.migrations)
        with database.reading() as connection:
            first, second = connection.scalars(select(stored.c.document).order_by(stored.c.version))
    assert load(first, yes_no=service == "im") == meant
    assert second == fine, "what is read as it was stays as it was written"
