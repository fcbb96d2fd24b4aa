"""A question from asking to the end: the ladder, the claim, the room."""

from __future__ import annotations

from typing import Any

import pytest

from services.im.domain.errors import Conflict, Invalid, NotFound
from services.im.domain.escalation import LONGEST_TEXT, MOST_MEMBERS, Escalation
from services.im.domain.experts import Candidate, Choice
from services.im.domain.ladder import Ladder, Step

LADDER = Ladder("router", 1, (Step(0, "experts", best=2), Step(8, "seniors"), Step(20, "everyone")), ends_after=60, claim_seconds=30)
FACTS = {
    "id": "e1", "code": "K7Q2XM", "contact": "c1", "queue": "support", "channel": "voice", "customer": "k1", "agent": "anna", "topic": "router",
    "question": "Which firmware has IPv6?", "urgency": "normal", "language": "en", "site": "",
}  # fmt: skip


def choice(*names: str) -> Choice:
    return Choice(tuple(Candidate(name, 0.5, 0.5, 20, 1, 0) for name in names), (), {})


def asked(*names: str, **facts: Any) -> Escalation:
    one = Escalation.open(LADDER, 1000, **FACTS | facts)
    one.climb(LADDER, choice(*names), 1000)
    return one


def claimed(by: str = "bob") -> Escalation:
    one = asked(by, "eve")
    one.claim(by, LADDER, 1003)
    return one


def answered() -> Escalation:
    one = claimed()
    one.post("bob", "From 3.2 on.", 1012, "answer")
    return one


def names(one: Escalation) -> list[str]:
    return [event.name for event in one.events]


class TestTheLadder:
    def test_each_step_is_due_at_its_distance_from_the_question(self) -> None:
        one = Escalation.open(LADDER, 1000, **FACTS)
        due = [one.next_at]
        for names in (("bob",), ("sue",), ("max",)):
            one.climb(LADDER, choice(*names), one.next_at or 0)
            due.append(one.next_at)
        assert due == [1000, 1008, 1020, 1060]

    def test_a_step_done_late_does_not_delay_the_next(self) -> None:
        one = Escalation.open(LADDER, 1000, **FACTS)
        one.climb(LADDER, choice("bob"), 1005)
        assert one.next_at == 1008

    def test_each_step_is_recorded_with_its_reason(self) -> None:
        one = asked("bob")
        (done,) = one.steps_done
        assert (done["step"], done["who"], done["due_at"], done["at"], done["asked"]) == (0, "experts", 1000, 1000, ["bob"])
        assert done["choice"]["chosen"][0]["expert"] == "bob"

    def test_where_nobody_can_be_asked_the_next_step_is_due_at_once(self) -> None:
        assert asked().next_at == 1000

    def test_when_all_who_were_asked_pass_too(self) -> None:
        one = asked("bob", "eve")
        one.pass_by("bob", 1002)
        assert one.next_at == 1008
        one.pass_by("eve", 1003)
        assert one.next_at == 1003

    def test_at_its_end_the_agent_is_told_what_to_promise(self) -> None:
        one = asked("bob")
        one.end_ladder(1060)
        assert (one.state, one.next_at) == ("unanswered", None)
        assert one.events[-1] == ("escalation_unanswered", {"promise": "callback", "waited_seconds": 60})

    def test_who_lets_a_step_go_by_has_been_asked(self) -> None:
        one = asked("bob", "eve")
        one.pass_by("eve", 1001)
        one.climb(LADDER, choice("sue"), 1008)
        assert [credit.expert for credit in one.credits] == ["bob"]


class TestTheClaim:
    def test_the_first_one_has_it_and_all_others_learn_who(self) -> None:
        one = claimed("bob")
        with pytest.raises(Conflict, match="bob has claimed it already"):
            one.claim("eve", LADDER, 1003.001)
        assert (one.claimed_by, one.lost_claims, names(one).count("escalation_claimed")) == ("bob", 1, 1)

    def test_said_again_it_changes_nothing(self) -> None:
        one = claimed("bob")
        one.claim("bob", LADDER, 1004)
        assert (one.claims, one.claimed_at) == (1, 1003)

    def test_it_stops_the_ladder_until_its_time_is_up(self) -> None:
        assert claimed().next_at == 1033

    def test_whatever_the_claimant_writes_keeps_it(self) -> None:
        one = claimed()
        one.post("bob", "Let me look.", 1020, claim_seconds=30)
        assert one.next_at == 1050
        one.post("anna", "Thanks.", 1025, claim_seconds=30)
        assert one.next_at == 1050

    def test_given_back_the_ladder_goes_on_with_its_next_step_at_once_and_keeps_its_distances(self) -> None:
        one = claimed()
        one.release("bob", LADDER, 1030)
        assert (one.state, one.claimed_by, one.next_at) == ("asking", None, 1030)
        one.climb(LADDER, choice("sue"), 1030)
        assert one.next_at == 1042, "12 s after the step before it, as the ladder says"

    def test_the_asker_cannot_claim(self) -> None:
        with pytest.raises(Conflict, match="Who asks"):
            asked("bob").claim("anna", LADDER, 1001)

    def test_after_the_ladder_it_can_still_be_claimed(self) -> None:
        one = asked("bob")
        one.end_ladder(1060)
        one.claim("bob", LADDER, 1100)
        assert (one.state, one.events[-1].data["late"], one.next_at) == ("claimed", True, None)

    def test_handed_over_another_has_it(self) -> None:
        one = claimed()
        one.hand_over("bob", "sue", LADDER, 1010)
        assert (one.claimed_by, "sue" in one.people, one.next_at) == ("sue", True, 1040)
        with pytest.raises(Conflict, match="bob has not claimed it"):
            one.release("bob", LADDER, 1011)

    def test_whoever_had_the_contact_before_may_know_the_answer(self) -> None:
        one = asked("bob")
        one.follow("otto", "support", 1002)
        one.claim("anna", LADDER, 1003)
        assert one.post("anna", "It has been asked before: 3.2.", 1004, "answer").role == "expert"

    def test_an_expert_to_whom_the_contact_comes_stays_in_the_room_as_its_agent(self) -> None:
        one = claimed()
        one.follow("bob", "support", 1004)
        one.release("bob", LADDER, 1033, "silence")
        assert "bob" in one.people
        one.close("bob", 1034)


class TestTheRoom:
    def test_messages_are_numbered_without_a_gap(self) -> None:
        one = claimed()
        assert [one.post(author, "x", 1004).number for author in ("bob", "anna", "bob")] == [1, 2, 3]
        assert [event.data["number"] for event in one.events if event.name == "message_posted"] == [1, 2, 3]

    def test_only_who_is_in_it_writes(self) -> None:
        with pytest.raises(NotFound, match="eve is not in this room"):
            claimed("bob").post("eve", "x", 1004)

    @pytest.mark.parametrize(("text", "match"), [("  ", "empty"), ("x" * (LONGEST_TEXT + 1), "at most 8000")])
    def test_a_text_has_something_in_it_and_not_too_much(self, text: str, match: str) -> None:
        with pytest.raises(Invalid, match=match):
            claimed().post("bob", text, 1004)

    def test_a_second_expert_may_join_and_the_room_may_be_full(self) -> None:
        one = claimed()
        for number in range(MOST_MEMBERS - 2):
            one.join(f"x{number}", 1005)
        with pytest.raises(Conflict, match="20 members"):
            one.join("late", 1006)

    def test_what_was_read_never_gets_less(self) -> None:
        one = claimed()
        one.post("bob", "a", 1004)
        one.post("bob", "b", 1005)
        one.read("anna", 2)
        one.read("anna", 1)
        assert next(member for member in one.members if member.person == "anna").read_to == 2
        with pytest.raises(Invalid, match="messages 1 to 2"):
            one.read("anna", 3)

    def test_it_goes_with_the_contact_to_another_agent(self) -> None:
        one = claimed()
        one.follow("otto", "second", 1010)
        one.post("otto", "I have them now.", 1011)
        assert (one.agent, one.queue) == ("otto", "second")

    def test_it_outlives_the_contact(self) -> None:
        one = claimed()
        one.outlive(1010)
        one.post("bob", "For later: 3.2.", 1020, "answer")
        assert (one.state, one.in_contact) == ("answered", False)


class TestTheOutcome:
    def test_accepted_it_is_a_question_with_its_answer(self) -> None:
        one = answered()
        one.accept("anna", 1020, "From 3.2 on.", hold_seconds=15)
        told = one.events[-1]
        assert told.name == "question_answered"
        expected = {"question": "Which firmware has IPv6?", "answer": "From 3.2 on.", "expert": "bob", "seconds": 12, "hold_seconds": 15}
        assert expected.items() <= told.data.items()
        assert (one.state, one.in_contact) == ("accepted", True)
        assert [(credit.asked, credit.answered, credit.accepted) for credit in one.credits] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]

    def test_it_did_not_help_so_the_ladder_goes_on(self) -> None:
        one = answered()
        one.did_not_help("anna", LADDER, 1030)
        assert (one.state, one.next_at, one.answered_at) == ("asking", 1030, None)
        assert one.events[-1].name == "answer_refused"

    def test_an_answer_needs_a_claim_and_an_expert(self) -> None:
        one = asked("bob")
        with pytest.raises(Conflict, match="An expert answers"):
            one.post("anna", "x", 1004, "answer")
        one.join("bob", 1004)
        with pytest.raises(Conflict, match="claim it before"):
            one.post("bob", "x", 1004, "answer")

    @pytest.mark.parametrize("command", ["accept", "did_not_help"])
    def test_only_the_agent_says_whether_it_helped(self, command: str) -> None:
        one = answered()
        more: tuple[Any, ...] = (1020, "From 3.2 on.") if command == "accept" else (LADDER, 1020)
        with pytest.raises(Conflict, match="Only the agent"):
            getattr(one, command)("bob", *more)

    def test_closed_nothing_more_happens(self) -> None:
        one = claimed()
        one.close("anna", 1010, "found it")
        one.close("anna", 1011)
        assert (one.state, one.close_reason, one.next_at) == ("closed", "found it", None)
        for attempt in (lambda: one.post("bob", "x", 1012), lambda: one.claim("eve", LADDER, 1012), lambda: one.join("eve", 1012)):
            with pytest.raises(Conflict):
                attempt()

    def test_an_urgency_is_normal_or_high(self) -> None:
        with pytest.raises(Invalid, match="normal or high"):
            Escalation.open(LADDER, 1000, **FACTS | {"urgency": "very"})
