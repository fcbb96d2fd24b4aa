"""Matters in writing, by example: an hour of business is an hour of the clock from 9 to 17, and then the night."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.routing.domain.errors import Conflict, Invalid
from services.routing.domain.matters import Hands, Matter, Rules, closed, hands, is_late, pended, received, replied, suggest_call, taken

HOUR = 3600.0


def add(start: float, seconds: float) -> float:
    """Open from 9 to 17 on every day, from the epoch on."""
    while True:
        day, time = divmod(start, 24 * HOUR)
        opens, closes = day * 24 * HOUR + 9 * HOUR, day * 24 * HOUR + 17 * HOUR
        left = closes - max(start, opens)
        if left >= seconds and time < 17 * HOUR:
            return max(start, opens) + seconds
        seconds -= max(0.0, left)
        start = (day + 1) * 24 * HOUR


def at(day: int, hour: float) -> float:
    return (day * 24 + hour) * HOUR


def away(agent: str) -> bool:
    return False


def present(agent: str) -> bool:
    return True


RULES = Rules(reply_seconds=4 * HOUR, owner_seconds=HOUR, call_after_replies=3)


def message(matter: Matter, now: float) -> Matter:
    return received(matter, now, RULES, add)


def answered(day: int = 1) -> Matter:
    """Anna has answered the first message and waits for the customer."""
    return pended(replied(taken(message(Matter("t1"), at(day, 10)), "anna"), "anna", at(day, 11)))


class TestALifeOfAMatter:
    def test_over_two_days(self) -> None:
        matter = message(Matter("t1"), at(1, 15))
        assert (matter.state, matter.owner) == ("waiting", None)
        assert matter.reply_due == at(2, 11), "two hours today, two tomorrow"
        assert hands(matter, at(1, 15), present, add, RULES) == Hands(None, None)
        matter = taken(matter, "anna")
        assert (matter.state, matter.owner) == ("assigned", "anna")
        matter = replied(matter, "anna", at(1, 16))
        assert (matter.reply_due, matter.replies) == (None, 1)
        matter = pended(matter)
        assert (matter.state, matter.owner, matter.thread) == ("pending", "anna", "t1")
        matter = message(matter, at(2, 10))
        assert (matter.state, matter.owner, matter.reply_due) == ("waiting", "anna", at(2, 14))
        matter = closed(taken(matter, "anna"))
        assert (matter.state, matter.owner, matter.reply_due) == ("closed", "anna", None)

    def test_as_a_document(self) -> None:
        matter = message(answered(), at(1, 12))
        assert Matter.from_dict(json.loads(json.dumps(matter.to_dict()))) == matter


class TestWhenAReplyIsDue:
    def test_nights_do_not_count(self) -> None:
        assert message(Matter("t1"), at(1, 20)).reply_due == at(2, 13)

    def test_writing_again_does_not_put_it_off(self) -> None:
        matter = message(message(Matter("t1"), at(1, 9)), at(1, 12))
        assert matter.reply_due == at(1, 13)
        assert not is_late(matter, at(1, 13))
        assert is_late(matter, at(1, 13) + 1)

    def test_pending_without_a_reply_does_not_stop_it(self) -> None:
        matter = pended(taken(message(Matter("t1"), at(1, 9)), "anna"))
        assert matter.reply_due == at(1, 13)

    def test_a_reply_that_crossed_a_message_does_not_answer_it(self) -> None:
        matter = message(taken(message(Matter("t1"), at(1, 9)), "anna"), at(1, 10))
        assert replied(matter, "anna", at(1, 9.9)).reply_due == at(1, 13)
        assert replied(matter, "anna", at(1, 10.1)).reply_due is None

    def test_a_centre_that_never_opens_again_promises_nothing(self) -> None:
        matter = received(Matter("t1"), at(1, 9), RULES, lambda start, seconds: None)
        assert matter.reply_due is None
        assert not is_late(matter, at(99, 9))


class TestWhoGetsTheNextMessage:
    def test_its_owner_while_signed_in_as_long_as_the_reply_can_be_in_time(self) -> None:
        matter = message(answered(), at(1, 12))
        assert hands(matter, at(1, 12), present, add, RULES) == Hands("anna", at(1, 16))
        assert hands(matter, at(1, 16), present, add, RULES) == Hands(None, None)

    def test_an_owner_who_is_away_has_an_hour_of_business_to_come_back(self) -> None:
        matter = message(answered(), at(1, 16.5))
        assert hands(matter, at(1, 16.5), away, add, RULES) == Hands("anna", at(2, 9.5))
        assert hands(matter, at(2, 9.25), present, add, RULES).owner == "anna", "who came back in time"
        assert hands(matter, at(2, 9.5), away, add, RULES) == Hands(None, None)

    def test_no_waiting_for_those_away_where_the_rule_is_nought(self) -> None:
        rules = Rules(owner_seconds=0)
        matter = message(answered(), at(1, 12))
        assert hands(matter, at(1, 12), away, add, rules) == Hands(None, None)
        assert hands(matter, at(1, 12), present, add, rules).owner == "anna"

    def test_whoever_takes_it_owns_it(self) -> None:
        matter = taken(message(answered(), at(1, 12)), "bob")
        assert matter.owner == "bob"

    def test_a_closed_matter_opens_again_with_its_owner(self) -> None:
        matter = message(closed(answered()), at(3, 10))
        assert hands(matter, at(3, 10), present, add, RULES).owner == "anna"

    def test_a_message_while_somebody_works_on_it_is_theirs(self) -> None:
        matter = message(taken(message(Matter("t1"), at(1, 9)), "anna"), at(1, 10))
        assert (matter.state, matter.owner) == ("assigned", "anna")
        with pytest.raises(Conflict, match="assigned: it waits for nobody"):
            hands(matter, at(1, 10), present, add, RULES)


class TestTooMuchWriting:
    def test_after_three_replies_a_call_is_suggested_once(self) -> None:
        matter = Matter("t1")
        for number in range(3):
            assert not suggest_call(matter, RULES)
            matter = replied(taken(message(matter, at(number, 10)), "anna"), "anna", at(number, 11))
        assert suggest_call(matter, RULES)
        assert not suggest_call(Matter(**matter.to_dict() | {"call_suggested": True}), RULES)
        assert not suggest_call(closed(matter), RULES)

    def test_never_where_the_rule_is_nought(self) -> None:
        assert not suggest_call(Matter("t1", replies=50), Rules(call_after_replies=0))


class TestRefusals:
    def test_of_steps_that_do_not_fit_the_state(self) -> None:
        waiting = message(Matter("t1"), at(1, 9))
        with pytest.raises(Conflict, match="waiting: only one that an agent works on"):
            pended(waiting)
        with pytest.raises(Conflict, match="not with agent bob"):
            replied(taken(waiting, "anna"), "bob", at(1, 10))
        with pytest.raises(Conflict, match="closed"):
            taken(closed(waiting), "anna")
        assert pended(answered()) == answered(), "said again, it changes nothing"

    @pytest.mark.parametrize(
        "rule", [{"reply_seconds": 0}, {"owner_seconds": -1}, {"call_after_replies": -1}, {"call_after_replies": True}]
    )
    def test_of_rules_that_make_no_sense(self, rule: dict[str, Any]) -> None:
        with pytest.raises(Invalid, match=next(iter(rule))):
            Rules(**rule)
