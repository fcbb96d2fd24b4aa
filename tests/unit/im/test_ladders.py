"""Ladders as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.im import ladders
from services.im.domain.ladder import Ladder, Step
from shared.errors import Invalid

DOCUMENT = """
steps:
  - {after: 0, who: experts, best: 3, level: 3}
  - {after: 20, who: seniors, same_site: true}
  - {after: 50, who: department, department: engineering}
ends_after: 90
open_per_agent: 2
"""


def test_a_document_becomes_a_ladder() -> None:
    assert ladders.compile(DOCUMENT, "router", 3) == Ladder(
        "router", 3,
        (Step(0, "experts", best=3, level=3), Step(20, "seniors", same_site=True), Step(50, "department", department="engineering")),
        ends_after=90, open_per_agent=2,
    )  # fmt: skip


def test_json_is_a_document_too() -> None:
    assert ladders.compile('{"steps": [{"after": 0, "who": "everyone"}]}', "x", 1).steps == (Step(0, "everyone"),)


@pytest.mark.parametrize(
    ("document", "path", "says"),
    [
        ("steps: [", "", "neither YAML nor JSON"),
        ("[]", "", "must be an object"),
        ("{}", "steps", "is missing"),
        ("steps: []", "steps", "1 to 20 steps"),
        ("steps: [{who: experts}]", "steps[0].after", "is missing"),
        ("steps: [{after: 0, who: nobody}]", "steps[0].who", "one of experts"),
        ("steps: [{after: 0, who: experts, speed: 3}]", "steps[0].speed", "unknown; there are after, who"),
        ("steps: [{after: -1, who: experts}]", "steps[0].after", "from 0 to"),
        ("steps: [{after: true, who: experts}]", "steps[0].after", "must be a number"),
        ("steps: [{after: .nan, who: experts}]", "steps[0].after", "must be a number"),
        ("steps: [{after: 5, who: experts}, {after: 5, who: seniors}]", "steps[1].after", "later than the one before"),
        ("steps: [{after: 0, who: department}]", "steps[0].department", "names it"),
        ("steps: [{after: 0, who: experts, department: x}]", "steps[0].department", "only such a step"),
        ("steps: [{after: 60, who: experts}]\nends_after: 60", "ends_after", "after its last step"),
    ],
)
def test_a_mistake_is_told_with_its_place(document: str, path: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        ladders.compile(document, "router", 1)
    assert says in caught.value.detail
    assert path in caught.value.detail


@pytest.mark.parametrize("value", ["2020-13-45", "9" * 5000, "0001-01-01T00:00:00+99:99", "!!int x", "!!bool x", "!!timestamp x"])
def test_a_value_that_yaml_itself_cannot_read_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        ladders.compile(f"steps: {value}", "router", 1)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        ladders.compile("steps: [{after: x, who: y}]\nends_after: z\nmore: 1", "router", 1)
    assert {one["path"] for one in caught.value.more["errors"]} == {"steps[0].after", "steps[0].who", "ends_after", "more"}


@given(st.text(max_size=200))
def test_whatever_comes_is_a_ladder_or_a_clear_refusal(text: str) -> None:
    try:
        assert ladders.compile(text, "x", 1).steps
    except Invalid as refused:
        assert refused.detail
