"""Whom to ask: who may be asked, whose answer is worth most, and why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.im.domain.experts import HALF_LIFE_SECONDS, Choice, Expert, Record, Want, choose, words

BOB = Expert("bob", topics={"router": 4}, languages=("en", "de"), site="berlin", presence="available")
WANT = Want("router", language="en", level=3)
AVERAGE = Record(asked=100, accepted=60, answered=90, log_seconds=90 * math.log(20))


def ask(*experts: Expert, want: Want = WANT, records: dict[str, Record] | None = None, already: tuple[str, ...] = ()) -> Choice:
    return choose(experts, want, "anna", already, records or {}, AVERAGE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "anna"}, "asker"),
        ({"active": False}, "inactive"),
        ({"topics": {"router": 2}}, "level"),
        ({"topics": {}}, "level"),
        ({"languages": ("fr",)}, "language"),
        ({"presence": "away"}, "away"),
        ({"presence": "offline"}, "offline"),
        ({"rooms": 3}, "full"),
    ],
)
def test_who_cannot_be_asked_and_why(changes: dict[str, object], reason: str) -> None:
    choice = ask(replace(BOB, **changes))  # type: ignore[arg-type]
    assert (choice.chosen, list(choice.excluded)) == ((), [reason])


def test_a_step_may_want_a_rank_a_department_or_the_same_site() -> None:
    others = replace(BOB, id="eve", ranks=("senior",), department="engineering", site="paris")
    for want in (Want("router", rank="senior"), Want("router", department="engineering"), Want("router", site="paris")):
        assert [one.expert for one in ask(BOB, others, want=want).chosen] == ["eve"]


def test_nobody_is_asked_twice() -> None:
    assert dict(ask(BOB, already=("bob",)).excluded) == {"asked": ["bob"]}


def test_who_helped_before_goes_before_who_did_not() -> None:
    records = {"good": Record(50, 45, 50, 50 * math.log(20)), "bad": Record(50, 5, 50, 50 * math.log(20))}
    assert [one.expert for one in ask(replace(BOB, id="bad"), replace(BOB, id="good"), records=records).chosen] == ["good", "bad"]


def test_who_answers_fast_goes_before_who_answers_slowly() -> None:
    records = {"fast": Record(50, 30, 50, 50 * math.log(10)), "slow": Record(50, 30, 50, 50 * math.log(60))}
    assert [one.expert for one in ask(replace(BOB, id="slow"), replace(BOB, id="fast"), records=records).chosen] == ["fast", "slow"]


def test_who_is_busy_answers_later() -> None:
    choice = ask(BOB, replace(BOB, id="eve", rooms=2))
    busy = next(one for one in choice.chosen if one.expert == "eve")
    assert busy.seconds == pytest.approx(3 * choice.chosen[0].seconds)


def test_a_newcomer_gets_a_chance_before_those_of_whom_it_is_known_that_they_are_average() -> None:
    known = {"old": Record(200, 120, 200, 200 * math.log(20))}
    assert ask(replace(BOB, id="old"), replace(BOB, id="new"), records=known).chosen[0].expert == "new"


def test_half_of_the_worth_is_gone_after_the_half_life() -> None:
    now, later = (Record(10**6, 600_000, 10**6, 10**6 * math.log(seconds)) for seconds in (1, 1 + HALF_LIFE_SECONDS))
    first, second = ask(replace(BOB, id="a"), replace(BOB, id="b"), records={"a": now, "b": later}).chosen
    assert second.worth == pytest.approx(first.worth / 2, rel=1e-3)


def test_only_the_best_are_asked_and_the_others_are_told_as_such() -> None:
    choice = ask(*(replace(BOB, id=f"e{number}") for number in range(5)), want=replace(WANT, best=2))
    assert ([one.expert for one in choice.chosen], len(choice.others)) == (["e0", "e1"], 3)


def test_the_choice_is_told_in_words() -> None:
    record = ask(BOB, replace(BOB, id="eve", presence="away")).to_dict()
    assert words(record, "en") == [
        "bob was asked: an answer accepted in 76% of cases (thin data count with what is usual), after about 20 s, level 4.",
        "eve: is away",
    ]
    assert words(record, "zh")[1] == "eve: 暂时离开"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 6)), max_size=8))
def test_whatever_the_records_a_worth_is_between_nothing_and_one(rows: list[tuple[int, int, float]]) -> None:
    records = {f"e{i}": Record(asked + accepted, accepted, accepted, accepted * log) for i, (asked, accepted, log) in enumerate(rows)}
    choice = choose([replace(BOB, id=name) for name in records], WANT, "anna", (), records, Record())
    assert all(0 <= one.worth <= 1 and 0 <= one.chance <= 1 and one.seconds > 0 for one in choice.chosen)
    assert len(choice.chosen) == len(records)
