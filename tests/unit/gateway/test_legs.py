"""How observations become legs. `Tale` writes down what reporters say, second by second."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.domain.legs import Leg, fold
from services.gateway.domain.observation import Observation
from tests.thorough import TIMES
from tests.unit.gateway.telephony_samples import by_ami, by_dialplan, by_queue_log, group_by_contact

CALL, LINKED, ANN, BOB = "5.1", "5.0", "Ann", "Bob"


class Tale(list[Observation]):
    """Observations of one call; each reporter's words have the shape that its reader gives them."""

    def log(self, at: float, kind: str, queue: str = "sales", **told: Any) -> Tale:
        return self._add("queue_log", at, kind, queue=queue, call=CALL, **told)

    def ami(self, at: float, kind: str, queue: str | None = "sales", **told: Any) -> Tale:
        return self._add("ami", at, kind, queue=queue, call=CALL, linked=LINKED, **told)

    def dialplan(self, at: float, kind: str, queue: str | None = "sales", **told: Any) -> Tale:
        call = None if kind == "answered" else CALL
        return self._add("dialplan", at, kind, queue=queue, call=call, linked=LINKED, **told)

    def _add(self, reporter: str, at: float, kind: str, **told: Any) -> Tale:
        self.append(Observation(reporter, kind, f"{reporter}|{kind}|{at}|{sorted(told.items(), key=str)}", at, **told))  # type: ignore[arg-type]
        return self

    @property
    def leg(self) -> Leg:
        (only,) = fold(self)
        return only


def logged_call() -> Tale:
    tale = Tale().log(100, "entered", caller="7", position=2).log(103, "missed", agent=BOB)
    return tale.log(106, "answered", agent=ANN, hold_seconds=6, member_call="5.9")


# ---- one reporter


def test_the_queue_log_tells_a_call_from_beginning_to_end() -> None:
    leg = logged_call().log(131, "completed", agent=ANN, hold_seconds=6, talk_seconds=25, reason="agent").leg
    assert (leg.number, leg.queue, leg.call, leg.caller, leg.position) == (1, "sales", CALL, "7", 2)
    assert (leg.arrived_at, leg.answered_at, leg.ended_at) == (100, 106, 131)
    assert (leg.outcome, leg.agent, leg.ended_by, leg.hold_seconds, leg.talk_seconds) == ("completed", ANN, "agent", 6, 25)
    assert (leg.missed, leg.estimated, leg.uncertain) == ({BOB: 1}, (), None)


def test_a_leg_is_live_until_its_end_is_told() -> None:
    assert Tale().log(100, "entered").leg.outcome == "waiting"
    assert logged_call().leg.outcome == "talking"


@pytest.mark.parametrize("outcome", ["abandoned", "timed_out", "left_by_key", "left_empty", "withdrawn"])
def test_exits_without_an_answer_keep_their_wait(outcome: str) -> None:
    leg = Tale().log(100, "entered").log(109, outcome, hold_seconds=9).leg
    assert (leg.outcome, leg.ended_at, leg.hold_seconds, leg.answered) == (outcome, 109, 9, False)


def test_a_leg_known_by_its_end_alone_is_counted_and_reckoned_back() -> None:
    leg = Tale().log(131, "completed", agent=ANN, hold_seconds=6, talk_seconds=25, reason="caller").leg
    assert (leg.arrived_at, leg.answered_at, leg.answered) == (100, 106, True)
    assert leg.estimated == ("arrived_at", "answered_at")


def test_the_member_that_rings_is_shown_until_it_stops() -> None:
    tale = Tale().ami(100, "entered").ami(101, "called", agent=ANN, member_call="5.2").ami(101, "called", agent=BOB, member_call="5.3")
    assert tale.leg.ringing == (ANN, BOB)
    assert tale.ami(103, "missed", agent=BOB, member_call="5.3").leg.ringing == (ANN,)


# ---- AMI's ways


def ami_waits() -> Tale:
    return Tale().ami(100.2, "entered", place="sales@q", position=1)


def test_amis_abandon_is_a_time_out_when_the_queue_says_so() -> None:
    tale = ami_waits().ami(109.4, "abandoned", hold_seconds=9).ami(109.5, "left", place="sales@q")
    assert tale.leg.outcome == "abandoned"
    assert tale.ami(109.6, "status", queue=None, reason="TIMEOUT").leg.outcome == "timed_out"


def test_leaving_the_queue_is_no_exit_while_an_answer_may_follow() -> None:
    tale = ami_waits().ami(105, "left", place="sales@q")
    assert tale.leg.outcome == "waiting"
    assert tale.ami(105.1, "answered", agent=ANN, hold_seconds=5).leg.outcome == "talking"


def test_leaving_to_another_place_in_the_dialplan_is_leaving_by_key() -> None:
    leg = ami_waits().ami(105.9, "left", place="1@queue-exit").leg
    assert (leg.outcome, leg.hold_seconds, leg.estimated, leg.uncertain) == ("left_by_key", 5, ("hold_seconds",), None)


def test_leaving_and_hanging_up_without_a_word_is_uncertain() -> None:
    assert ami_waits().ami(105, "left", place="sales@q").ami(105, "hung_up", queue=None).leg.uncertain
    unplaced = Tale().ami(100, "entered").ami(105, "left").ami(106, "hung_up", queue=None).leg
    assert (unplaced.outcome, bool(unplaced.uncertain)) == ("left_by_key", True)


def test_a_hangup_ends_a_talk_whose_end_ami_did_not_count() -> None:
    leg = ami_waits().ami(105, "answered", agent=ANN, hold_seconds=5).ami(131.9, "hung_up", queue=None).leg
    assert (leg.outcome, leg.talk_seconds, leg.estimated) == ("completed", 26, ("talk_seconds",))
    assert leg.uncertain == "the end is known only from a hang-up"


def test_a_members_hangup_ends_nothing() -> None:
    tale = ami_waits().ami(105, "answered", agent=ANN, hold_seconds=5, member_call="5.9")
    tale.append(Observation("ami", "hung_up", "of the member", 107, call="5.9", linked=LINKED))
    assert tale.leg.outcome == "talking"


def test_a_transfers_target_is_told_apart_from_its_end() -> None:
    tale = ami_waits().ami(105, "answered", agent=ANN, hold_seconds=5, member_call="5.9")
    tale.ami(107, "redirected", queue=None, member_call="5.9", target="700")
    assert (tale.leg.outcome, tale.leg.transfer_target) == ("talking", "700")
    tale.ami(115, "hung_up", queue=None)
    assert (tale.leg.outcome, tale.leg.ended_at, bool(tale.leg.uncertain)) == ("transferred", 107, True)
    leg = tale.ami(107.1, "transferred", agent=ANN, hold_seconds=5, talk_seconds=2).leg
    assert (leg.talk_seconds, leg.transfer_target, leg.ended_by, leg.uncertain) == (2, "700", "transfer", None)


def test_a_snapshot_after_a_gap_makes_the_leg_known() -> None:
    leg = Tale().ami(130, "waiting", hold_seconds=12).leg
    assert (leg.outcome, leg.arrived_at, leg.hold_seconds, leg.estimated) == ("waiting", 118, None, ("arrived_at",))


# ---- the dialplan's ways


def test_the_dialplan_alone_estimates() -> None:
    tale = Tale().dialplan(100, "arrived", caller="7").dialplan(106, "answered", interface="Local/1@a/n").dialplan(131, "hung_up")
    leg = tale.leg
    assert (leg.outcome, leg.hold_seconds, leg.talk_seconds, leg.missed) == ("completed", 6, 25, None)
    assert (leg.call, leg.interface, leg.agent, leg.uncertain) == (CALL, "Local/1@a/n", None, None)
    assert leg.estimated == ("hold_seconds", "talk_seconds")


def test_a_post_that_got_lost_does_not_lose_the_call() -> None:
    assert Tale().dialplan(106, "answered").leg.outcome == "talking"
    assert Tale().dialplan(109, "hung_up").leg.outcome == "abandoned"
    assert Tale().dialplan(109, "hung_up", reason="TIMEOUT").leg.outcome == "timed_out"
    answered = Tale().dialplan(100, "arrived").dialplan(131, "hung_up", interface="Local/1@a/n").leg
    assert (answered.outcome, answered.answered, answered.uncertain) == ("completed", True, "the answer was not told")


def test_a_hangup_that_names_no_queue_is_no_leg() -> None:
    assert fold(Tale().dialplan(100, "hung_up", queue=None)) == []


def test_a_second_queue_ends_the_first() -> None:
    tale = Tale().dialplan(100, "arrived").dialplan(106, "answered", member_call="5.2").dialplan(120, "answered", "vip", member_call="5.3")
    sales, vip = fold(tale.dialplan(131, "hung_up", "vip"))
    assert (sales.queue, sales.outcome, sales.ended_at) == ("sales", "transferred", 120)
    assert (vip.number, vip.queue, vip.outcome, vip.talk_seconds) == (2, "vip", "completed", 11)


# ---- several reporters, several legs


def test_three_reporters_tell_of_one_leg() -> None:
    tale = logged_call().log(131, "completed", agent=ANN, hold_seconds=6, talk_seconds=25, reason="agent")
    tale.ami(100.4, "entered", place="sales@q").ami(103.5, "missed", agent=BOB).ami(106.6, "left", place="sales@q")
    tale.ami(106.6, "answered", agent=ANN, interface="Local/1@a/n", hold_seconds=6, member_call="5.9")
    tale.ami(131.5, "completed", agent=ANN, hold_seconds=6, talk_seconds=24, reason="agent").ami(131.6, "hung_up", queue=None)
    tale.dialplan(99, "arrived").dialplan(106, "answered", member_call="5.9").dialplan(131, "hung_up")
    leg = tale.leg
    assert (leg.arrived_at, leg.talk_seconds, leg.missed, leg.estimated, leg.uncertain) == (100, 25, {BOB: 1}, (), None)
    assert (leg.agent, leg.interface) == (ANN, "Local/1@a/n")


def test_a_call_back_in_its_first_queue_within_the_second_is_two_legs() -> None:
    tale = Tale().log(100, "entered", position=1).log(100, "answered", agent=ANN, hold_seconds=0, member_call="5.2")
    tale.log(101, "transferred", agent=ANN, hold_seconds=0, talk_seconds=1, target="701")
    tale.log(101, "entered", position=3).log(101, "answered", agent=BOB, hold_seconds=0, member_call="5.4")
    tale.dialplan(101, "answered", member_call="5.4")
    first, second = fold(tale.log(109, "completed", agent=BOB, hold_seconds=0, talk_seconds=8, reason="caller"))
    assert (first.outcome, first.agent, first.talk_seconds, first.position) == ("transferred", ANN, 1, 1)
    assert (second.outcome, second.agent, second.talk_seconds, second.position) == ("completed", BOB, 8, 3)


def test_the_same_queue_again_without_timestamps_is_kept_apart_from_a_doubled_delivery() -> None:
    def joined(at: float) -> Observation:
        return Observation("ami", "entered", f"ami|QueueCallerJoin|5.1|sales|1|1|≈{int(at)}", at, call=CALL, queue="sales")

    assert len(fold([joined(100), joined(102)])) == 1
    assert len(fold([joined(100), joined(102), joined(140)])) == 2


def test_a_rejected_answer_is_not_believed_against_the_queue_log() -> None:
    leg = Tale().log(100, "entered").dialplan(106, "answered", member_call="5.9").log(106, "abandoned", hold_seconds=6).leg
    assert (leg.outcome, leg.answered, leg.agent) == ("abandoned", False, None)


def test_a_restart_of_the_pbx_loses_what_was_open() -> None:
    (lost,) = fold(logged_call(), restarts=[90, 200])
    assert (lost.outcome, lost.ended_at, lost.agent, lost.talk_seconds) == ("lost", 200, ANN, None)
    assert fold(logged_call(), restarts=[90])[0].outcome == "talking"


def test_contacts_are_joined_by_any_channel_they_share() -> None:
    nameless = Tale().dialplan(106, "answered", member_call="5.9")
    assert len(group_by_contact([*Tale().log(100, "entered"), *nameless])) == 2
    assert len(group_by_contact([*Tale().log(100, "entered"), *nameless, *logged_call()])) == 1


# ---- whatever the order

CONTACTS = [contact for contact in group_by_contact(by_queue_log() + by_ami() + by_dialplan()) if len(fold(contact)) > 0]


@settings(max_examples=60 * TIMES)
@given(st.sampled_from(CONTACTS), st.data())
def test_any_part_of_a_story_folds_the_same_in_any_order_and_told_twice(contact: list[Observation], data: st.DataObject) -> None:
    part = data.draw(st.lists(st.sampled_from(contact), unique_by=lambda o: o.key, max_size=len(contact)))
    shuffled = data.draw(st.permutations(part + part[: data.draw(st.integers(0, len(part)))]))
    assert fold(shuffled) == fold(sorted(part, key=lambda o: o.key))


@settings(max_examples=60 * TIMES)
@given(st.sampled_from(CONTACTS), st.sets(st.sampled_from(["ami", "dialplan"])))
def test_more_reporters_change_no_figure_of_the_queue_log(contact: list[Observation], others: set[str]) -> None:
    def figures(reporters: set[str]) -> list[tuple[object, ...]]:
        legs = fold(o for o in contact if o.reporter in reporters)
        return [(leg.queue, leg.outcome, leg.agent, leg.hold_seconds, leg.talk_seconds, leg.missed, leg.position) for leg in legs]

    assert figures({"queue_log"} | others) == figures({"queue_log"})


@given(st.sampled_from(CONTACTS))
def test_observations_survive_being_stored(contact: list[Observation]) -> None:
    assert fold(Observation.from_dict(o.to_dict()) for o in contact) == fold(contact)


def test_every_order_of_a_small_story_is_one() -> None:
    story = ami_waits().ami(109, "abandoned", hold_seconds=9).ami(109, "left", place="sales@q").ami(109, "status", None, reason="TIMEOUT")
    assert {leg.outcome for order in itertools.permutations(story) for leg in fold(order)} == {"timed_out"}
