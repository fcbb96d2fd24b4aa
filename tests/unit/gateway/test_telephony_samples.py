"""The figures of a real PBX's evening, told by one, two or three reporters, in any order, twice, and with gaps."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.gateway.domain.observation import Observation
from services.routing.domain.evidence import LegFacts, contradictions
from tests.unit.gateway.telephony_samples import TRUTH, by_agent, by_ami, by_dialplan, by_queue, by_queue_log, legs_of

QUEUE_LOG, AMI, DIALPLAN = by_queue_log(), by_ami(), by_dialplan()
WITH_QUEUE_LOG = {
    "queue_log": QUEUE_LOG,
    "queue_log and AMI": QUEUE_LOG + AMI,
    "queue_log and dialplan": QUEUE_LOG + DIALPLAN,
    "all three": QUEUE_LOG + AMI + DIALPLAN,
}


@pytest.mark.parametrize("told", WITH_QUEUE_LOG.values(), ids=WITH_QUEUE_LOG)
def test_with_the_queue_log_every_figure_is_exact(told: tuple[Observation, ...]) -> None:
    legs = legs_of(told)
    assert by_queue(legs) == TRUTH["run1"]["queues"]
    assert by_agent(legs) == TRUTH["run1"]["agents"]
    assert not any(leg.uncertain for leg in legs)


@pytest.mark.parametrize("told", [AMI, AMI + DIALPLAN], ids=["AMI", "AMI and dialplan"])
def test_ami_knows_all_but_the_ring_that_came_after_its_capture(told: tuple[Observation, ...]) -> None:
    truth = {queue: dict(figures) for queue, figures in TRUTH["run1"]["queues"].items()}
    truth["support-phone"]["missed"] -= 1
    assert by_queue(legs_of(told)) == truth


def test_ami_without_timestamps_is_exact_too() -> None:
    legs = legs_of(by_ami("ami_without_timestamps"))
    assert by_queue(legs) == TRUTH["run2"]["queues"]
    assert by_agent(legs) == TRUTH["run2"]["agents"]


def test_the_dialplan_alone_counts_offers_answers_and_abandons() -> None:
    figures = by_queue(legs_of(DIALPLAN))
    for queue, truth in TRUTH["run1"]["queues"].items():
        assert {name: figures[queue][name] for name in ("offered", "answered", "abandoned")} == {
            name: truth[name] for name in ("offered", "answered", "abandoned")
        }


@pytest.mark.parametrize("seed", range(3))
def test_order_and_doubled_delivery_change_nothing(seed: int) -> None:
    told = [*QUEUE_LOG, *AMI, *DIALPLAN] * 2
    random.Random(seed).shuffle(told)
    assert by_queue(legs_of(told)) == TRUTH["run1"]["queues"]


@pytest.mark.parametrize("seed", range(3))
def test_two_late_sessions_without_timestamps_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    told = [replace(o, at=(o.at or 0) + chance.uniform(0, 2)) for o in by_ami("ami_without_timestamps") * 2]
    chance.shuffle(told)
    assert by_queue(legs_of(told)) == TRUTH["run2"]["queues"]


@pytest.mark.parametrize("told", [QUEUE_LOG, AMI, QUEUE_LOG + AMI + DIALPLAN], ids=["queue_log", "AMI", "all three"])
def test_a_leg_whose_end_was_never_told_is_open_and_found_out_by_later_calls(told: tuple[Observation, ...]) -> None:
    ends = {"completed", "transferred", "abandoned", "left", "hung_up", "redirected"}
    calls = sorted({o.call for o in QUEUE_LOG if o.kind == "entered" and o.call})[:90:10]
    gap = [o for o in told if not (o.call in calls and o.kind in ends)]
    legs = [leg for leg in legs_of(gap) if leg.outcome in ("waiting", "talking")]
    assert {leg.call for leg in legs} >= set(calls)
    found = contradictions([facts(leg) for leg in legs_of(gap)])
    assert {contact for contact, _ in found} == set(calls)


def test_complete_data_contradict_nothing() -> None:
    assert contradictions([facts(leg) for leg in legs_of(QUEUE_LOG + AMI)]) == {}
    assert contradictions([facts(leg) for leg in legs_of(by_ami("ami_without_timestamps"))]) == {}


def facts(leg: object) -> LegFacts:
    names = ("queue", "agent", "position", "arrived_at", "answered_at", "ended_at")
    return LegFacts(str(leg.call), leg.number, **{name: getattr(leg, name) for name in names})  # type: ignore[attr-defined]
