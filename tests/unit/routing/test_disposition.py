"""Dispositions: what a tree may look like, and what an agent may say with it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.routing.domain.disposition import MOST_NODES, Disposition, Tree, choose, free_code, read_tree
from services.routing.domain.errors import Invalid, NotFound


@pytest.mark.parametrize("code", ["sold", "Callback_2", "已售", "no-interest.later"])
def test_without_a_tree_a_code_is_a_word(code: str) -> None:
    assert free_code(code) == code


@pytest.mark.parametrize("code", ["", "4930123456", "+4930123456", "a4930123456", "sold to Ann", "n49-30-12-34", "x" * 65, "-", "a\n"])
def test_and_carries_no_number_and_no_sentence(code: str) -> None:
    with pytest.raises(Invalid, match="one word"):
        free_code(code)


SALES = """
nodes:
  - code: order
    label: {en: Order, zh: 订单}
    resolved: yes
    requires_amount: true
    children:
      - {code: new, label: {en: New, zh: 新订单}}
      - {code: gift, label: {en: Gift}, requires_amount: false}
      - code: changed
        label: {zh: 更改}
        resolved: null
  - code: complaint
    label: {en: Complaint}
    children:
      - {code: broken, label: {en: Broken on arrival}}
      - {code: rude, label: {en: "Somebody was rude"}, resolved: no}
  - {code: silent, label: {en: Nobody spoke}, resolved: no}
"""


def tree(text: str = SALES, version: int = 3) -> Tree:
    return read_tree("sales", version, yaml.safe_load(text))


def problems(document: Any) -> list[str]:
    with pytest.raises(Invalid) as refused:
        read_tree("sales", 1, document)
    return str(refused.value).splitlines()


def node(code: str = "a", **more: Any) -> dict[str, Any]:
    return {"code": code, "label": {"en": code}} | more


class TestAChoice:
    def test_whole(self) -> None:
        made = choose(tree(), "order/new", amount="19.90", currency="EUR", note_length=42)
        assert made.to_dict() == {
            "tree": "sales",
            "version": 3,
            "code": "new",
            "path": ["order", "new"],
            "resolved": "yes",
            "reason": "Order > New",
            "amount": "19.90",
            "currency": "EUR",
            "note_length": 42,
        }
        assert Disposition.from_dict(json.loads(json.dumps(made.to_dict()))) == made

    def test_a_leaf_may_be_named_alone_or_by_its_path(self) -> None:
        assert choose(tree(), "gift", amount=None) == choose(tree(), "order/gift") == choose(tree(), ["order", "gift"])

    def test_resolved_as_the_tree_says(self) -> None:
        assert choose(tree(), "silent").resolved == "no"
        assert choose(tree(), "silent", resolved="no").resolved == "no"
        with pytest.raises(Invalid, match="'silent' always means resolved: no"):
            choose(tree(), "silent", resolved="yes")

    @pytest.mark.parametrize("code", ["broken", "changed"])
    def test_or_as_the_agent_says(self, code: str) -> None:
        assert choose(tree(), code, resolved=True, amount=0, currency="EUR").resolved == "yes"
        assert choose(tree(), code, resolved="no", amount=0, currency="EUR").resolved == "no"
        with pytest.raises(Invalid, match="say 'yes' or 'no'"):
            choose(tree(), code, amount=0, currency="EUR")
        with pytest.raises(Invalid, match="resolved must be 'yes' or 'no'"):
            choose(tree(), code, resolved="perhaps", amount=0, currency="EUR")

    @pytest.mark.parametrize(
        ("code", "sentence"),
        [
            ("order", "'order' is only a heading: choose one of new, gift, changed."),
            ("complaint/new", "'new' is found under order/new, not there."),
            ("refund", "Version 3 of dispositions sales has no code 'refund'."),
            ("", "Version 3 of dispositions sales has no code ''."),
            ([], "Version 3 of dispositions sales has no code ''."),
            (["order", 7], "Version 3 of dispositions sales has no code 7."),
            ("x" * 10_000, "Version 3 of dispositions sales has no code such a text."),
        ],
    )
    def test_only_what_the_tree_offers(self, code: Any, sentence: str) -> None:
        with pytest.raises(Invalid) as refused:
            choose(tree(), code)
        assert str(refused.value) == sentence


class TestTheAmount:
    def test_needed_where_the_tree_says(self) -> None:
        with pytest.raises(Invalid, match="'new' needs the amount"):
            choose(tree(), "new")
        assert choose(tree(), "gift").amount is None

    def test_welcome_everywhere(self) -> None:
        assert choose(tree(), "broken", resolved="yes", amount=5, currency="CNY").amount == "5"

    @pytest.mark.parametrize(
        ("amount", "kept"),
        [
            (0, "0"),
            (19, "19"),
            (19.9, "19.9"),
            ("19.90", "19.90"),
            (Decimal("0.0001"), "0.0001"),
            ("1e3", "1000"),
            ("-0", "0"),
            (-0.0, "0.0"),
        ],
    )
    def test_kept_as_decimal_digits(self, amount: Any, kept: str) -> None:
        assert choose(tree(), "new", amount=amount, currency="EUR").amount == kept

    @pytest.mark.parametrize(
        "amount",
        [-1, "-0.01", "NaN", "Infinity", float("inf"), "ten", "", True, [], "1e999999999", "0e999999999", "1e-9", 10**15, "0.00001"],
    )
    def test_nothing_else(self, amount: Any) -> None:
        with pytest.raises(Invalid, match="An amount"):
            choose(tree(), "new", amount=amount, currency="EUR")

    def test_with_its_currency(self) -> None:
        with pytest.raises(Invalid, match="needs its currency"):
            choose(tree(), "new", amount=5)
        with pytest.raises(Invalid, match="without an amount"):
            choose(tree(), "gift", currency="EUR")
        for currency in ("euro", "eur", "", "€", 978):
            with pytest.raises(Invalid, match="three capital letters"):
                choose(tree(), "new", amount=5, currency=currency)  # type: ignore[arg-type]

    @given(st.decimals(0, 999_999_999_999_999, places=4))
    def test_to_the_last_digit(self, amount: Decimal) -> None:
        kept = choose(tree(), "new", amount=amount, currency="EUR").amount
        assert kept is not None
        assert Decimal(kept) == amount

    @pytest.mark.parametrize("length", [-1, 1.5, True, "7", 10**9])
    def test_the_length_of_a_note_is_a_number(self, length: Any) -> None:
        with pytest.raises(Invalid, match="note_length"):
            choose(tree(), "gift", note_length=length)


class TestVersions:
    def test_a_code_that_was_dropped_stays_readable_where_it_was_chosen(self) -> None:
        old, new = tree(version=3), tree("nodes: [{code: silent, label: {en: Nobody spoke}, resolved: no}]", version=4)
        made = choose(old, "rude")
        assert (made.version, old.reason(made.code)) == (3, "Complaint > Somebody was rude")
        assert made.reason == "Complaint > Somebody was rude", "and without any tree"
        with pytest.raises(NotFound, match="Version 4 of dispositions sales has no code 'rude'"):
            new.reason("rude")

    def test_a_wrap_up_begun_under_the_old_version_may_be_finished_with_it(self) -> None:
        assert choose(tree(version=3), "rude").version == 3

    def test_labels_by_language_and_what_there_is_where_one_is_missing(self) -> None:
        assert tree().reason("new", "zh") == "订单 > 新订单"
        assert tree().reason("gift", "zh") == "订单 > Gift"
        assert tree().reason("changed", "en") == "Order > 更改"

    def test_what_can_be_chosen_in_the_order_of_the_document(self) -> None:
        assert [leaf.code for leaf in tree().leaves] == ["new", "gift", "changed", "broken", "rude", "silent"]


class TestATreeThatNeedsMending:
    @pytest.mark.parametrize(
        ("document", "problem"),
        [
            (None, "A tree of dispositions is a document with a list of `nodes`, one at least."),
            ({"nodes": []}, "A tree of dispositions is a document with a list of `nodes`, one at least."),
            ({"nodes": [node()], "version": 3}, "'version' is not known here: only nodes."),
            ({"nodes": ["a"]}, "[0]: a node is a mapping with a code and a label."),
            ({"nodes": [node(children=[node("b", children=[node("a")])])]}, "a/b/a: the code a is used at a already."),
            (
                {"nodes": [node(children=[node("b", colour=1)])]},
                "a/b: 'colour' is not known here: only code, label, resolved, requires_amount, children.",
            ),
            ({"nodes": [node(children=[node("B")])]}, "a/[0]: code must be small letters, digits, '_', '-' and '.', at most 64, not 'B'."),
            ({"nodes": [node("a/b")]}, "[0]: code must be small letters, digits, '_', '-' and '.', at most 64, not 'a/b'."),
            ({"nodes": [node(label={})]}, "a: label must give a text for each language, as in {en: Order}."),
            ({"nodes": [node(label="A")]}, "a: label must give a text for each language, as in {en: Order}."),
            ({"nodes": [node(label={"English": "A"})]}, "a: 'English' is no language such as en or zh."),
            ({"nodes": [node(label={"en": " "})]}, "a: the en label must be one line of 1 to 200 characters."),
            ({"nodes": [node(label={"en": "a\x00"})]}, "a: the en label must be one line of 1 to 200 characters."),
            ({"nodes": [node(resolved="maybe")]}, "a: resolved must be yes, no or null, not 'maybe'."),
            ({"nodes": [node(resolved=[])]}, "a: resolved must be yes, no or null, not such a list."),
            ({"nodes": [node(requires_amount="yes")]}, "a: requires_amount must be true or false, not 'yes'."),
            ({"nodes": [node(children={})]}, "a: children must be a list."),
        ],
    )
    def test_says_where_and_what(self, document: Any, problem: str) -> None:
        assert problems(document) == [problem]

    def test_all_problems_at_once_as_far_as_anybody_reads(self) -> None:
        found = problems({"nodes": [node(f"n{i}", resolved="?") for i in range(400)]})
        assert len(found) == 21
        assert (found[0][:3], found[-1]) == ("n0:", "… and more.")

    def test_five_levels_and_no_more(self) -> None:
        def nest(depth: int) -> dict[str, Any]:
            document = node(f"n{depth}")
            for level in range(depth - 1, 0, -1):
                document = node(f"n{level}", children=[document])
            return {"nodes": [document]}

        assert read_tree("sales", 1, nest(5)).leaves[0].path == ("n1", "n2", "n3", "n4", "n5")
        assert problems(nest(6)) == ["n1/n2/n3/n4/n5: children of the 5th level are one level too deep."]
        assert problems(nest(300)) == problems(nest(6))

    def test_five_hundred_nodes_and_no_more(self) -> None:
        read_tree("sales", 1, {"nodes": [node(f"n{i}") for i in range(MOST_NODES)]})
        assert problems({"nodes": [node(f"n{i}") for i in range(100_000)]}) == ["There are more than 500 nodes."]

    @pytest.mark.parametrize("name", ["", "  ", "a\x00b", "x" * 201, None])
    def test_a_name_that_is_none(self, name: Any) -> None:
        with pytest.raises(Invalid, match="name"):
            read_tree(name, 1, yaml.safe_load(SALES))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["nodes", "code", "label", "resolved", "requires_amount", "children", "en"]) | st.text(), inner
                )
            ),
            max_leaves=30,
        )
    )
    def test_whatever_it_is_the_answer_is_a_sentence(self, document: Any) -> None:
        for whole in (document, {"nodes": [document]}, {"nodes": [node(children=[document])]}, {"nodes": document}):
            try:
                read_tree("sales", 1, whole)
            except Invalid as refused:
                assert str(refused)
