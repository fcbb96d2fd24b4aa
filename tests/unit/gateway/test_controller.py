"""One call's way, whatever is heard in which order: nobody rung twice, nobody rung in vain, and every end told once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.gateway.bridges.controller import (
    LEG,
    Accept,
    Action,
    Announce,
    Call,
    Connect,
    End,
    HangUp,
    Leave,
    Reject,
    Requeue,
    Ring,
)

WAITING = {"state": "waiting", "position": 1}


def offered(offer: str = "o1", agent: str = "ann", address: str | None = "PJSIP/1001") -> dict[str, Any]:
    return {"state": "offered", "offer": {"id": offer, "agent": agent, "address": address}}


def assigned(agent: str = "ann") -> dict[str, Any]:
    return {"state": "assigned", "contact": "c1", "agent": agent, "address": "PJSIP/1001"}


LEG1 = f"{LEG}o1"


def call(*heard: Callable[[Call], list[Action]]) -> tuple[Call, list[Action]]:
    """A call that heard all this; what the last of it made it do."""
    one, actions = Call("1.1", "sales", say_at=100.0), []
    for what in heard:
        actions = what(one)
    return one, actions


def told(found: dict[str, Any] | None, now: float = 0.0) -> Callable[[Call], list[Action]]:
    return lambda one: one.told(found, now)


def answered(leg: str = LEG1) -> Callable[[Call], list[Action]]:
    return lambda one: one.answered(leg)


def failed(why: Any = "no_answer", leg: str = LEG1) -> Callable[[Call], list[Action]]:
    return lambda one: one.failed(leg, why)


def took(it: bool | None, offer: str = "o1") -> Callable[[Call], list[Action]]:
    return lambda one: one.accept_answered(offer, it)


gone = Call.caller_gone


def test_the_offered_agent_is_rung_accepts_by_picking_up_and_is_connected() -> None:
    assert call(told(offered()))[1] == [Ring(LEG1, "PJSIP/1001")]
    assert call(told(offered()), told(offered()))[1] == [], "told again, nobody is rung again"
    assert call(told(offered()), answered())[1] == [Accept("o1", "ann")]
    assert call(told(offered()), answered(), answered())[1] == [], "two answers are one"
    one, actions = call(told(offered()), answered(), took(True))
    assert (one.state, actions) == ("talking", [Connect(LEG1)])


def test_whose_agent_hangs_up_is_ended_by_the_agent() -> None:
    one, actions = call(told(offered()), answered(), took(True), failed("unavailable"))
    assert (one.state, actions) == ("over", [End("agent"), Leave("answered")])


def test_who_hangs_up_in_the_talk_has_ended_it() -> None:
    assert call(told(offered()), answered(), took(True), gone)[1] == [HangUp(LEG1), End("caller")]


@pytest.mark.parametrize(("why", "missed"), [("no_answer", True), ("busy", False), ("unavailable", False)])
def test_who_does_not_pick_up_is_followed_by_the_next_and_only_a_ring_in_vain_is_a_miss(why: Any, missed: bool) -> None:
    one, actions = call(told(offered()), failed(why))
    assert (one.state, actions) == ("waiting", [Reject("o1", "ann", why, missed)])
    assert one.told(offered(), 0) == [], "Answerline does not know yet"
    assert one.failed(LEG1, "unavailable") == [], "of the end of a channel two messages tell"
    assert one.told(offered("o2", "bob", "PJSIP/1002"), 0) == [Ring(f"{LEG}o2", "PJSIP/1002")]


def test_an_agent_without_a_telephone_is_passed_over() -> None:
    assert call(told(offered(address=None)))[1] == [Reject("o1", "ann", "unavailable", False)]


def test_a_caller_who_leaves_while_it_rings_stops_the_ringing_and_nobody_missed_anything() -> None:
    one, actions = call(told(offered()), gone)
    assert actions == [HangUp(LEG1), End("caller")]
    assert one.answered(LEG1) == [HangUp(LEG1)], "picked up a moment too late"
    assert one.failed(LEG1, "no_answer") == []
    assert gone(one) == []


@pytest.mark.parametrize("found", [WAITING, offered("o2", "bob", "PJSIP/1002"), {"state": "closed"}, None])
def test_an_offer_that_is_withdrawn_stops_the_ringing(found: dict[str, Any] | None) -> None:
    assert call(told(offered()), told(found))[1][0] == HangUp(LEG1)


def test_who_accepts_in_a_program_is_connected_when_they_pick_up() -> None:
    one, actions = call(told(offered()), told(assigned()))
    assert actions == []
    assert one.answered(LEG1) == [Connect(LEG1)]


def test_who_accepted_in_a_program_before_it_rang_is_rung_once() -> None:
    one, actions = call(told(assigned()))
    (ring,) = actions
    assert isinstance(ring, Ring)
    assert one.told(assigned(), 0) == []
    assert one.answered(ring.leg) == [Connect(ring.leg)]


def test_who_accepted_and_then_does_not_pick_up_gives_the_contact_back() -> None:
    one, _ = call(told(assigned()))
    assert one.failed(one.leg, "no_answer") == [Requeue("no_answer")]
    assert one.told(assigned(), 0) == [], "Answerline does not know yet"
    assert one.told(WAITING, 0) == []
    assert one.told(offered("o2", "bob"), 0) == [Ring(f"{LEG}o2", "PJSIP/1001")]


def test_an_acceptance_that_comes_too_late_lets_the_agent_go() -> None:
    one, actions = call(told(offered()), answered(), took(False))
    assert (one.state, actions) == ("waiting", [HangUp(LEG1)])


def test_without_an_answer_of_answerline_the_two_are_connected_all_the_same() -> None:
    assert call(told(offered()), answered(), took(None))[1] == [Connect(LEG1)]


def test_an_agent_who_hangs_up_while_the_acceptance_is_under_way_gives_the_contact_back() -> None:
    assert call(told(offered()), answered(), failed("unavailable"), took(True))[1] == [Requeue("unavailable")]
    assert call(told(offered()), answered(), failed("unavailable"), took(False))[1] == []


def test_an_agent_whose_channel_is_gone_when_they_are_connected_gives_the_contact_back() -> None:
    one, actions = call(told(offered()), answered(), took(True), Call.not_connected)
    assert (one.state, actions) == ("waiting", [Requeue("unavailable")])


@pytest.mark.parametrize("state", ["observed", "released", "ended", "abandoned", "unheard of", ""])
def test_what_answerline_does_not_route_is_the_pbxs(state: str) -> None:
    assert call(told({"state": state}))[1] == [Leave("fallback")]
    assert call(told(None))[1] == [Leave("fallback")]


@pytest.mark.parametrize("state", ["closed", "callback"])
def test_who_is_not_let_in_goes_on_in_the_dialplan(state: str) -> None:
    assert call(told({"state": state}))[1] == [Leave(state)]


def test_whom_the_pbx_takes_back_rings_nobody() -> None:
    assert call(told(offered()), Call.taken_back)[1] == [HangUp(LEG1)]
    assert call(told(offered()), answered(), Call.taken_back)[1] == [HangUp(LEG1)]
    assert call(Call.taken_back, told(offered()))[1] == []


def test_whom_the_pbx_takes_out_of_a_talk_has_done_with_the_agent() -> None:
    assert call(told(offered()), answered(), took(True), Call.taken_back)[1] == [HangUp(LEG1), End("agent")]


def test_a_transfer_ends_the_agents_part_and_leaves_the_customer_where_they_are() -> None:
    one, actions = call(told(offered()), answered(), took(True), Call.transferred)
    assert (one.state, actions) == ("over", [End("agent")])
    assert call(told(offered()), Call.transferred)[1] == []


def test_a_connection_that_a_break_swallowed_is_asked_for_again() -> None:
    assert call(told(offered()), answered(), took(True), Call.still_held)[1] == [Connect(LEG1)]
    assert call(told(offered()), Call.still_held)[1] == []


def test_who_waits_is_told_so_again_and_again_but_not_while_somebody_is_asked() -> None:
    every = WAITING | {"announce_every_seconds": 30}
    one, actions = call(told(every, 99.0))
    assert actions == []
    assert one.told(every, 100.0) == [Announce(every)]
    assert one.told(every, 129.0) == []
    assert one.told(every, 130.0) == [Announce(every)]
    assert one.told(offered(), 200.0) == [Ring(LEG1, "PJSIP/1001")]


def test_hang_ups_of_both_at_the_same_moment_are_one_end() -> None:
    for order in permutations([gone, failed("unavailable")]):
        one, _ = call(told(offered()), answered(), took(True))
        ends = [action for what in order for action in what(one) if isinstance(action, End)]
        assert len(ends) == 1


EVERYTHING: list[Callable[[Call], list[Action]]] = [
    told(WAITING), told(offered()), told(offered("o2", "bob")), told(assigned()), told(assigned("bob")), told(None), told({"state": "closed"}),
    answered(), answered(f"{LEG}o2"), failed(), failed("busy"), failed("unavailable", f"{LEG}o2"), took(True), took(False), took(None), took(True, "o2"),
    gone, Call.taken_back, Call.not_connected, Call.still_held, Call.transferred,
]  # fmt: skip


@given(some.lists(some.sampled_from(EVERYTHING), max_size=14))
def test_whatever_is_heard_in_which_order(heard: list[Callable[[Call], list[Action]]]) -> None:
    one = Call("1.1", "sales")
    done: list[Action] = []
    for what in heard:
        actions = what(one)
        if one.state == "over" and actions and any(isinstance(action, Ring | Connect | Accept) for action in actions):
            raise AssertionError(actions)
        done += actions
    rung = [action.leg for action in done if isinstance(action, Ring)]
    assert len(rung) == len(set(rung)), "nobody is dialled twice for one offer"
    assert sum(isinstance(action, End | Leave) for action in done if action != Leave("answered")) <= 1
    for leg in rung:
        connected = Connect(leg) in done
        let_go = HangUp(leg) in done or one.leg != leg or one.leg_gone
        assert connected or let_go or one.state in ("ringing", "accepting")
    accepted = [action.offer for action in done if isinstance(action, Accept)]
    assert len(accepted) == len(set(accepted))
