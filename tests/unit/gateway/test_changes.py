"""What is published when a contact's legs are folded anew."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.legs import OPEN, Leg, diff, fold
from services.gateway.domain.observation import Observation
from tests.unit.gateway.telephony_samples import by_ami, by_queue_log, group_by_contact

WAITING = Leg(number=1, queue="sales", outcome="waiting", arrived_at=100, missed={})
TALKING = replace(WAITING, outcome="talking", answered_at=106, agent="Ann", hold_seconds=6)
ENDED = replace(TALKING, outcome="completed", ended_at=131, talk_seconds=25, ended_by="agent")


def steps(before: list[Leg], after: list[Leg]) -> list[str]:
    return [change.what for change in diff(before, after)]


def test_steps_forward_are_told_one_by_one() -> None:
    assert steps([], [WAITING]) == ["arrived"]
    assert steps([WAITING], [replace(WAITING, missed={"Bob": 1})]) == ["missed"]
    assert steps([WAITING], [TALKING]) == ["answered"]
    assert steps([TALKING], [ENDED]) == ["ended"]
    assert steps([TALKING], [replace(ENDED, outcome="transferred")]) == ["transferred"]
    assert steps([WAITING], [replace(WAITING, outcome="timed_out", ended_at=109)]) == ["abandoned"]


def test_nothing_new_is_nothing_told() -> None:
    assert steps([ENDED], [ENDED]) == []
    assert steps([WAITING], [replace(WAITING, ringing=("Ann",), position=3)]) == []


def test_a_leg_first_seen_when_over_is_told_whole() -> None:
    assert steps([], [replace(ENDED, missed={"Bob": 2})]) == ["arrived", "missed", "answered", "ended"]
    assert steps([TALKING], [replace(ENDED, outcome="transferred"), replace(WAITING, number=2)]) == ["transferred", "arrived"]


def test_a_changed_or_retracted_fact_is_a_correction() -> None:
    assert steps([ENDED], [replace(ENDED, talk_seconds=24)]) == ["corrected"]
    assert steps([TALKING], [replace(TALKING, agent="Bob")]) == ["corrected"]
    assert steps([replace(WAITING, outcome="abandoned")], [replace(WAITING, outcome="timed_out")]) == ["corrected"]
    assert steps([replace(WAITING, outcome="abandoned")], [ENDED]) == ["corrected", "answered", "ended"]
    assert steps([replace(WAITING, missed={"Bob": 2})], [WAITING]) == ["corrected"]
    assert steps([replace(TALKING, agent=None)], [ENDED]) == ["corrected", "ended"]


def test_clocks_that_differ_by_a_second_correct_nothing() -> None:
    assert steps([TALKING], [replace(TALKING, answered_at=106.9)]) == []
    assert steps([TALKING], [replace(TALKING, answered_at=116)]) == ["corrected"]


def test_a_leg_that_never_was_is_void() -> None:
    (change,) = diff([ENDED, replace(WAITING, number=2)], [ENDED])
    assert (change.what, change.leg.number, change.leg.outcome) == ("corrected", 2, "void")
    assert diff([change.leg], []) == []


CONTACTS = [contact for contact in group_by_contact(by_queue_log()) if fold(contact)]


@given(st.sampled_from(CONTACTS))
def test_told_line_by_line_the_queue_log_needs_no_correction(contact: list[Observation]) -> None:
    told: list[str] = []
    before: list[Leg] = []
    for n in range(1, len(contact) + 1):
        after = fold(contact[:n])
        told += steps(before, after)
        before = after
    assert "corrected" not in told
    assert told.count("arrived") == len(before)
    assert len([step for step in told if step in ("ended", "transferred", "abandoned")]) == sum(leg.outcome not in OPEN for leg in before)


AMI_CONTACTS = [contact for contact in group_by_contact(by_ami()) if fold(contact)]


@given(st.sampled_from(AMI_CONTACTS))
def test_neither_does_amis_own_order(contact: list[Observation]) -> None:
    told = [steps(fold(contact[:n]), fold(contact[: n + 1])) for n in range(len(contact))]
    assert not any("corrected" in some for some in told)
