"""How often and how long the agent put the customer on hold: from what telephony tells to the figures of a leg."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.domain import ami, ari
from services.gateway.domain.legs import Change, Leg, diff, fold
from services.gateway.domain.observation import Ignored, Malformed, Observation
from tests.thorough import TIMES
from tests.unit.gateway.telephony_samples import ami_lines, by_ami, by_queue_log, group_by_contact, legs_of
from tests.unit.gateway.test_ari import by_ari

CALL, LINKED, MEMBER, DEVICE = "5.1", "5.0", "5.9", "5.10"


# ---- a real PBX's evening: attended transfers put the customer on hold, some customers put the agent on hold


@cache
def holds_by_ari() -> tuple[Observation, ...]:
    read = [ari.interpret(message) for _, message in ari.messages(b"\n".join(ami_lines("ari_holds")))]
    return tuple(told for told in read if isinstance(told, Observation))


HOLDS_BY_AMI = by_ami("ami_holds")


def truth() -> dict[str, tuple[int, float]]:
    """By the member's channel: how often, and for how long, as the PBX's own events have it, one talk after the other."""
    events = [json.loads(line)["ami"] for name in ("ami_with_timestamps", "ami_holds") for line in ami_lines(name)]
    events.sort(key=lambda event: float(event.get("Timestamp", 0)))
    talking, on_hold = dict[str, str](), dict[str, float]()  # the caller's channel -> the member's; the member's -> since when
    figures: defaultdict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for event in events:
        at, channel = float(event.get("Timestamp", 0)), event.get("Uniqueid", "")
        match event["Event"]:
            case "AgentConnect":
                talking[channel] = event["DestUniqueid"]
                figures[event["DestUniqueid"]] = (0, 0.0)
            case "Hold" if channel in talking.values() and channel not in on_hold:
                on_hold[channel] = at
            case "Unhold" | "Hangup" | "AgentComplete":
                line = talking.pop(channel) if event["Event"] == "AgentComplete" else channel
                if line in on_hold:
                    count, seconds = figures[line]
                    figures[line] = count + 1, round(seconds + at - on_hold.pop(line), 3)
    return dict(figures)


def figures_of(told: tuple[Observation, ...]) -> dict[str, tuple[int | None, float | None]]:
    found: dict[str, tuple[int | None, float | None]] = {}
    for contact in group_by_contact(told):
        members = {fact.at: fact.member_call for fact in contact if fact.kind == "answered" and fact.reporter == "ami"}
        found |= {member: (leg.holds, leg.on_hold_seconds) for leg in fold(contact) if (member := members.get(leg.answered_at))}
    return found


def test_amis_holds_are_those_of_the_pbx() -> None:
    known = truth()
    assert figures_of(by_ami() + HOLDS_BY_AMI) == known
    assert sum(count for count, _ in known.values()) == 6, "six attended transfers; seven customers put the agent on hold"


def test_ari_tells_the_same_holds_as_ami() -> None:
    def held(told: tuple[Observation, ...]) -> dict[str | None, tuple[int | None, float]]:
        return {leg.call: (leg.holds, leg.on_hold_seconds or 0.0) for leg in legs_of(told) if leg.holds}

    by_one, by_other = held(by_ami() + HOLDS_BY_AMI), held(by_ari() + holds_by_ari())
    assert {call: count for call, (count, _) in by_one.items()} == {call: count for call, (count, _) in by_other.items()}
    assert all(abs(by_one[call][1] - by_other[call][1]) < 0.1 for call in by_one)
    everybody = held(by_queue_log() + by_ami() + by_ari() + HOLDS_BY_AMI + holds_by_ari())
    assert {call: count for call, (count, _) in everybody.items()} == {call: count for call, (count, _) in by_one.items()}, "nothing twice"


def test_the_queue_log_alone_knows_of_no_hold_and_does_not_say_none() -> None:
    assert {(leg.holds, leg.on_hold_seconds) for leg in legs_of(by_queue_log())} == {(None, None)}
    assert {leg.holds for leg in legs_of(by_ami()) if not leg.answered} == {None}
    assert {leg.holds for leg in legs_of(by_ami()) if leg.answered} == {0}


CONTACTS = [
    contact
    for contact in group_by_contact(by_queue_log() + by_ami() + HOLDS_BY_AMI + by_ari() + holds_by_ari())
    if any(fact.kind == "held" for fact in contact)
]


@settings(max_examples=40 * TIMES)
@given(st.sampled_from(CONTACTS), st.data())
def test_any_part_of_a_story_with_holds_folds_the_same_in_any_order_and_told_twice(contact: list[Observation], data: st.DataObject) -> None:
    part = data.draw(st.lists(st.sampled_from(contact), unique_by=lambda fact: fact.key, max_size=len(contact)))
    shuffled = data.draw(st.permutations(part + part[: data.draw(st.integers(0, len(part)))]))
    assert fold(shuffled) == fold(sorted(part, key=lambda fact: fact.key))


# ---- one talk, from 106 to 131


def fact(kind: str, at: float, reporter: str = "ami", **told: Any) -> Observation:
    return Observation(reporter, kind, f"{reporter}|{kind}|{at}|{sorted(told.items())}", at, **told)  # type: ignore[arg-type]


def talk(*more: Observation, reporter: str = "ami", end: str = "completed") -> list[Observation]:
    of: dict[str, Any] = {"queue": "sales", "call": CALL, "linked": LINKED}
    told = [fact("entered", 100, reporter, **of), fact("answered", 106, reporter, member_call=MEMBER, agent="Ann", **of)]
    return [*told, fact(end, 131, reporter, member_call=MEMBER, talk_seconds=25.0, hold_seconds=6.0, **of), *more]


def line(kind: str, at: float, channel: str = MEMBER) -> Observation:
    return fact(kind, at, member_call=channel, linked=LINKED)


def on_hold(*more: Observation, **told: Any) -> tuple[int | None, float | None]:
    (leg,) = fold(talk(*more, **told))
    return leg.holds, leg.on_hold_seconds


def test_each_hold_counts_from_its_beginning_to_its_end() -> None:
    assert on_hold(line("held", 110), line("resumed", 115), line("held", 120), line("resumed", 121.5)) == (2, 6.5)


def test_asking_again_and_letting_go_of_nothing_are_no_hold() -> None:
    assert on_hold(line("held", 110), line("held", 112), line("resumed", 115)) == (1, 5.0)
    assert on_hold(line("resumed", 115)) == (0, 0.0)
    assert on_hold(line("held", 110), line("resumed", 110)) == (0, 0.0)
    assert on_hold(line("held", 110), line("resumed", 112), line("held", 112), line("resumed", 115)) == (1, 5.0), "whole seconds"


def test_a_hold_lasts_until_its_channel_or_the_talk_is_over() -> None:
    assert on_hold(line("held", 110)) == (1, 21.0)
    assert on_hold(line("held", 110), fact("hung_up", 120, call=MEMBER, linked=LINKED)) == (1, 10.0)


def test_only_what_lies_within_the_talk_counts() -> None:
    assert on_hold(line("held", 104), line("resumed", 105), line("held", 131), line("held", 140), line("resumed", 150)) == (0, 0.0)
    assert on_hold(line("held", 125), line("resumed", 150)) == (1, 6.0)
    half_told = talk()[:2]
    assert [(leg.holds, leg.on_hold_seconds) for leg in fold([*half_told, line("held", 110)])] == [(1, 0.0)], "it still lasts"


def test_a_local_channel_and_the_device_behind_it_are_one_hold() -> None:
    told = line("held", 110.002), line("resumed", 115.002), line("held", 110, DEVICE), line("resumed", 115, DEVICE)
    assert on_hold(*told) == (1, 5.002)
    assert on_hold(*told, line("held", 113, "5.11"), line("resumed", 118, "5.11"), line("held", 120)) == (2, 19.0)


@pytest.mark.parametrize("own", [CALL, LINKED])
def test_a_customer_who_puts_us_on_hold_is_not_on_hold(own: str) -> None:
    assert on_hold(line("held", 110, own), line("resumed", 115, own)) == (0, 0.0)


def test_a_hold_belongs_to_the_talk_in_which_it_began() -> None:
    of: dict[str, Any] = {"call": CALL, "linked": LINKED, "queue": "vip"}
    second = fact("entered", 131, **of), fact("answered", 140, member_call="5.20", **of), fact("completed", 160, talk_seconds=20.0, **of)
    told = talk(*second, line("held", 120), line("held", 150, "5.20"), line("resumed", 152, "5.20"), end="transferred")
    assert [(leg.holds, leg.on_hold_seconds) for leg in fold(told)] == [(1, 11.0), (1, 2.0)]


def test_beside_a_queue_log_in_whole_seconds_the_last_instant_of_the_talk_counts() -> None:
    of: dict[str, Any] = {"queue": "sales", "call": CALL}
    log = fact("entered", 100, "queue_log", **of), fact("completed", 130, "queue_log", talk_seconds=25.0, hold_seconds=6.0, **of)
    assert on_hold(line("held", 130.4), *log) == (1, 0.6)


def test_where_only_others_know_of_the_answer_a_hold_is_the_legs_all_the_same() -> None:
    routed = [fact("arrived", 100, "api", queue="sales", call=CALL), fact("hung_up", 131, "api", call=CALL)]
    assert [(leg.holds, leg.outcome) for leg in fold(routed)] == [(None, "abandoned")]
    own = fact("held", 108, member_call=CALL), fact("resumed", 109, member_call=CALL)
    told = fold([*routed, *own, fact("held", 110, member_call=MEMBER, linked=CALL), fact("resumed", 115, member_call=MEMBER, linked=CALL)])
    assert [(leg.holds, leg.on_hold_seconds) for leg in told] == [(1, 5.0)]


def test_who_names_the_customer_says_who_is_on_hold() -> None:
    def by(call: str) -> tuple[int | None, float | None]:
        return on_hold(fact("held", 110, "events", call=call), fact("resumed", 115, "events", call=call), reporter="events")

    assert by(CALL) == (1, 5.0)
    assert by("the agent's own") == (0, 0.0)
    assert on_hold(reporter="events") == (None, None), "who never told of a hold may not know of any"


# ---- what is announced


def ended(holds: int | None, seconds: float | None) -> Leg:
    return Leg(number=1, queue="sales", outcome="completed", answered_at=106.0, ended_at=131.0, holds=holds, on_hold_seconds=seconds)


def test_a_hold_is_told_with_the_end_and_corrects_only_what_was_told() -> None:
    waiting, talking = (fold(talk()[:count]) for count in (1, 2))
    assert [change.what for change in diff(waiting, talking)] == ["answered"]
    held = fold([*talk()[:2], line("held", 110)])
    assert diff(talking, held) == []
    over = fold(talk(line("held", 110)))
    assert diff(held, over) == [Change("ended", over[0])]
    assert (over[0].holds, over[0].on_hold_seconds) == (1, 21.0)
    corrected = fold(talk(line("held", 110), line("resumed", 115)))
    assert diff(over, corrected) == [Change("corrected", corrected[0])]


def test_two_clocks_apart_are_no_news() -> None:
    assert diff([ended(1, 5.0)], [ended(1, 5.002)]) == []
    assert [change.what for change in diff([ended(1, 5.0)], [ended(2, 5.002)])] == ["corrected"]
    assert [change.what for change in diff([ended(None, None)], [ended(0, 0.0)])] == ["corrected"]


# ---- how each reporter says it


def read(event: str, **headers: str) -> Observation | Ignored:
    return ami.interpret({"Event": event, "Uniqueid": MEMBER, "Linkedid": LINKED, **headers}, 110.0)


def test_ami_names_the_channel_that_asked() -> None:
    told = read("Hold", MusicClass="default", Timestamp="110.000000")
    assert isinstance(told, Observation)
    assert (told.kind, told.call, told.member_call, told.linked, told.at) == ("held", None, MEMBER, LINKED, 110.0)
    assert isinstance(again := read("Unhold", Timestamp="110.000000"), Observation)
    assert again.kind == "resumed" and again.key != told.key
    assert {"Hold", "Unhold"} <= ami.READ, "what the bridge passes on"


def test_ari_names_the_channel_that_asked() -> None:
    event = {"type": "ChannelHold", "timestamp": "2026-11-21T21:24:18.357+0000", "channel": {"id": MEMBER}, "musicclass": "default"}
    told = ari.interpret(event)
    assert isinstance(told, Observation) and (told.kind, told.call, told.member_call) == ("held", None, MEMBER)
    with pytest.raises(Malformed, match="has no channel"):
        ari.interpret({"type": "ChannelUnhold"})
