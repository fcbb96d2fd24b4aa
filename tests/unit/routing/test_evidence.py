from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.routing.domain.evidence import LegFacts, contradictions

TALKING = LegFacts("a", 1, "sales", "Ann", 1, arrived_at=100, answered_at=105)
WAITING = LegFacts("a", 1, "sales", None, 1, arrived_at=100)


def later(contact: str, position: int | None, arrived_at: float, answered_at: float | None = None, agent: str = "Bob") -> LegFacts:
    return LegFacts(contact, 1, "sales", agent if answered_at else None, position, arrived_at, answered_at)


def test_an_agent_with_a_later_call_talks_no_longer() -> None:
    assert contradictions([TALKING, later("b", 1, 110, 120, agent="Ann")]) == {("a", 1): "its agent has answered another call since"}
    assert contradictions([TALKING, later("b", 1, 110, 120, agent="Bob")]) == {}
    assert contradictions([TALKING, replace(later("b", 1, 100, 104, agent="Ann"), ended_at=105)]) == {}
    assert contradictions([replace(TALKING, ended_at=119), later("b", 1, 110, 120, agent="Ann")]) == {}


def test_a_caller_who_enters_first_in_line_proves_the_queue_empty() -> None:
    assert ("a", 1) in contradictions([WAITING, later("b", 1, 110)])
    assert contradictions([WAITING, later("b", 2, 110)]) == {}
    assert contradictions([WAITING, replace(later("b", 1, 110), queue="vip")]) == {}


def test_so_does_one_who_enters_behind_callers_known_to_wait() -> None:
    known = later("b", 2, 105, answered_at=130)
    assert contradictions([WAITING, known, later("c", 3, 110)]) == {}
    assert ("a", 1) in contradictions([WAITING, known, later("c", 2, 110)])


def test_instants_within_a_second_prove_nothing() -> None:
    assert contradictions([WAITING, later("b", 1, 101)]) == {}


def test_a_queue_in_which_callers_overtake_is_left_alone() -> None:
    overtaken = later("b", 2, 105, answered_at=130)
    assert contradictions([WAITING, overtaken, later("c", 1, 110, answered_at=120, agent="Cid"), later("d", 1, 150)]) == {}


def test_without_positions_a_much_later_caller_who_was_served_is_proof() -> None:
    unplaced = replace(WAITING, position=None)
    assert contradictions([unplaced, later("b", None, 690, answered_at=695)]) == {}
    assert ("a", 1) in contradictions([unplaced, later("b", None, 710, answered_at=715)])


callers = st.lists(st.tuples(st.integers(1, 30), st.integers(2, 60), st.booleans()), min_size=1, max_size=12)


@given(callers)
def test_a_queue_that_tells_the_truth_is_never_contradicted(calls: list[tuple[int, int, bool]]) -> None:
    """First come, first served, by one agent for each call; those still open at the end are truly open."""
    legs: list[LegFacts] = []
    arrived, left, end = 0, 0, 120
    for n, (gap, wait, served) in enumerate(calls):
        arrived += gap
        left = max(left, arrived + wait)
        standing = sum(1 for leg in legs if (leg.answered_at or leg.ended_at or 1e9) > arrived)
        over = left <= end
        legs.append(
            LegFacts(
                str(n),
                1,
                "sales",
                str(n) if over and served else None,
                standing + 1,
                arrived,
                left if over and served else None,
                left if over and not served else None,
            )
        )
    assert contradictions(legs) == {}
