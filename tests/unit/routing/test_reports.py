"""Every figure of the reports, on legs written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from sqlalchemy import insert

from services.routing import reports, store
from services.routing.domain.entities import Agent, Queue
from services.routing.domain.evidence import LegFacts, suspicions
from services.routing.metrics import RoutingMetrics
from shared.bus.outbox import UnitOfWork
from shared.errors import NotFound
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

T = 1_800_000_000.0
DAY = 86400.0
BLANK = dict.fromkeys(store.LEG_COLUMNS) | {
    "number": 1, "source": "pbx1", "queue": "sales", "channel": "voice", "observed": True, "kind": "inbound", "outcome": "waiting", "missed": {}, "ringing": [], "estimated": [],
}  # fmt: skip


class Centre:
    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        self.sequence = 0

    def leg(self, outcome: str = "waiting", **facts: Any) -> str:
        """One leg; a routine end is filled in."""
        self.sequence += 1
        row = {**BLANK, "contact": new_id(), "arrived_at": T, "outcome": outcome, "sequence": self.sequence, **facts}
        if outcome not in ("waiting", "talking") and "ended_at" not in facts:
            row["ended_at"] = row["arrived_at"] + 40
        with self.units() as work:
            store.save_legs(work.connection, [row])
        return str(row["contact"])

    def put(self, *entities: Queue | Agent) -> None:
        with self.units() as work:
            for entity in entities:
                table = store.queue if isinstance(entity, Queue) else store.agent
                work.connection.execute(insert(table).values(**entity.to_row()))

    def watch(self, agent: str, state: str, queue: str = "", since: float = T, reason: str | None = None) -> None:
        row = {
            "source": "pbx1",
            "agent": agent,
            "queue": queue,
            "address": None,
            "state": state,
            "reason": reason,
            "since": since,
            "sequence": 1,
        }
        with self.units() as work:
            store.save_observed_agents(work.connection, [row])

    def report(self, make: Callable[..., Any], *arguments: Any) -> Any:
        with self.units.database.reading() as connection:
            return make(connection, *arguments)

    def queues(self, **filters: Any) -> dict[str, dict[str, Any]]:
        return {row["queue"]: row for row in self.report(reports.queues, filters)["queues"]}

    def agents(self, **filters: Any) -> dict[str, dict[str, Any]]:
        return {row["agent"]: row for row in self.report(reports.agents, filters)["agents"]}

    def live(self) -> dict[str, Any]:
        report = self.report(reports.live, T - 100)
        return {row["queue"]: row for row in report["queues"]} | {row["agent"]: (row["state"], row["reason"]) for row in report["agents"]}


@pytest.fixture
def centre(make_units: MakeUnits, at: SetClock) -> Centre:
    at.seconds = T + 60
    return Centre(make_units(store.metadata))


def test_nothing_happened_is_no_row(centre: Centre) -> None:
    assert (centre.queues(), centre.agents()) == ({}, {})


def test_every_column_of_a_queue(centre: Centre) -> None:
    centre.leg("completed", agent="Ann", answered_at=T + 10, hold_seconds=10.0, talk_seconds=30.0, missed={"Bob": 2})
    centre.leg("transferred", agent="Ann", answered_at=T + 5, hold_seconds=5.5, talk_seconds=20.0)
    centre.leg("talking", agent="Bob", answered_at=T + 30, hold_seconds=30.0, missed={"Ann": 1})
    centre.leg("abandoned", hold_seconds=9.0)
    centre.leg("abandoned", hold_seconds=1.0)
    for outcome in ("timed_out", "left_by_key", "left_empty", "withdrawn", "lost", "void", "waiting"):
        centre.leg(outcome)
    centre.leg("abandoned", queue="other")
    assert centre.queues()["sales"] == {
        "queue": "sales",
        "offered": 11,
        "answered": 3,
        "abandoned": 2,
        "timed_out": 1,
        "left_by_key": 1,
        "left_otherwise": 2,
        "lost": 1,
        "waiting": 1,
        "talking": 1,
        "hold_seconds": 45.5,
        "talk_seconds": 50.0,
        "ring_no_answer": 3,
        "service_level": 0.2,
        "estimated": [],
        "uncertain": [],
    }
    assert list(centre.queues()) == ["other", "sales"]


def test_each_stay_in_a_queue_counts(centre: Centre) -> None:
    contact = centre.leg("timed_out")
    centre.leg("completed", contact=contact, number=2, queue="overflow", agent="Ann", answered_at=T + 5, talk_seconds=1.0)
    assert {name: (row["offered"], row["answered"]) for name, row in centre.queues().items()} == {"sales": (1, 0), "overflow": (1, 1)}


def test_rings_are_unknown_where_nobody_would_tell_of_them(centre: Centre) -> None:
    centre.leg("abandoned", missed=None)
    assert centre.queues()["sales"]["ring_no_answer"] is None
    centre.leg("abandoned", missed={})
    assert centre.queues()["sales"]["ring_no_answer"] == 0


@pytest.mark.parametrize(("threshold", "share"), [(None, 0.5), (5.0, 0.25), (60.0, 0.75)])
def test_service_level_is_answered_in_time_of_all_that_no_longer_wait(centre: Centre, threshold: float | None, share: float) -> None:
    if threshold:
        centre.put(Queue("sales", service_level_seconds=threshold))
    for hold in (5.0, 20.0, 20.1):
        centre.leg("completed", agent="Ann", answered_at=T + hold, hold_seconds=hold, talk_seconds=1.0)
    centre.leg("abandoned")
    centre.leg("waiting")
    assert centre.queues()["sales"]["service_level"] == share


def test_service_level_of_nobody_is_unknown(centre: Centre) -> None:
    centre.leg("waiting")
    assert centre.queues()["sales"]["service_level"] is None


def test_figures_taken_from_clocks_are_named(centre: Centre) -> None:
    centre.leg("completed", agent="Ann", answered_at=T, talk_seconds=1.0, estimated=["answered_at", "talk_seconds"])
    centre.leg("abandoned", estimated=["hold_seconds"])
    assert centre.queues()["sales"]["estimated"] == ["talk_seconds"]


def test_a_leg_whose_end_is_in_doubt_is_listed(centre: Centre) -> None:
    doubtful = centre.leg(
        "completed", agent="Ann", call="5.1", answered_at=T, talk_seconds=1.0, uncertain="the end is known only from a hang-up"
    )
    (doubt,) = centre.queues()["sales"]["uncertain"]
    assert {name: doubt[name] for name in ("contact", "leg", "call", "agent", "state", "why")} == {
        "contact": doubtful, "leg": 1, "call": "5.1", "agent": "Ann", "state": "completed", "why": "the end is known only from a hang-up",
    }  # fmt: skip
    assert centre.queues()["sales"]["answered"] == 1


def test_an_open_leg_that_others_contradict_is_neither_waiting_nor_talking(centre: Centre) -> None:
    talking = centre.leg("talking", agent="Ann", answered_at=T, hold_seconds=0.0)
    waiting = centre.leg("waiting", position=1)
    centre.leg("completed", agent="Ann", arrived_at=T + 10, answered_at=T + 20, hold_seconds=10.0, talk_seconds=5.0, position=1)
    row = centre.queues()["sales"]
    assert {doubt["contact"] for doubt in row["uncertain"]} == {talking, waiting}
    assert (row["offered"], row["answered"], row["talking"], row["waiting"]) == (3, 2, 0, 0)


def test_the_newest_answer_of_an_agent_contradicts_whichever_queue_it_came_from(centre: Centre) -> None:
    talking = centre.leg("talking", agent="Ann", answered_at=T + 5)
    centre.leg("completed", queue="vip", agent="Ann", arrived_at=T - 3600, answered_at=T + 20)
    centre.leg("talking", queue="vip", agent="Bob", answered_at=T + 30)
    assert [doubt["contact"] for doubt in centre.queues()["sales"]["uncertain"]] == [talking]
    assert centre.queues()["vip"]["uncertain"] == []


def test_open_for_more_than_a_day_is_measured_by_what_its_source_told_last(centre: Centre) -> None:
    centre.leg("waiting", arrived_at=T - 30 * DAY)
    doubt = centre.queues()["sales"]["uncertain"][0]
    assert (doubt["why"], doubt["over"]) == ("its source has told nothing since", False)
    centre.leg("completed", queue="vip", arrived_at=T - 29 * DAY, ended_at=T - 29 * DAY + 60)
    doubt = centre.queues()["sales"]["uncertain"][0]
    assert (doubt["why"], doubt["over"]) == ("it has been open for more than a day", True)


def test_a_queue_whose_callers_were_overtaken_hours_ago_has_priorities_still(centre: Centre) -> None:
    centre.leg("waiting", arrived_at=T, position=1)
    centre.leg("completed", arrived_at=T + 30, position=1, answered_at=T + 40, agent="Ann")
    assert centre.queues()["sales"]["uncertain"]
    for number in range(2):
        centre.leg("completed", arrived_at=T - 5 * 3600 + number * 10, position=1, answered_at=T - 5 * 3600 + 60 - number * 10)
    assert not centre.queues()["sales"]["uncertain"]


def test_a_queue_with_priorities_has_them_however_many_wait(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LATEST_OF_A_QUEUE", 3)
    centre.leg("completed", arrived_at=T - 60, position=1, answered_at=T - 10)
    centre.leg("completed", arrived_at=T - 50, position=1, answered_at=T - 30)
    for number in range(10):
        centre.leg("waiting", arrived_at=T + number, position=number + 1)
    centre.leg("waiting", arrived_at=T + 30, position=1)
    assert not centre.queues()["sales"]["uncertain"]


def test_doubts_about_a_leg_need_no_more_than_the_latest_of_its_queue(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def spy(legs: Iterable[LegFacts], *told: Any) -> reports.Suspicions:
        known = list(legs)
        read.append(len(known))
        return suspicions(known, *told)

    monkeypatch.setattr(reports, "suspicions", spy)
    monkeypatch.setattr(reports, "LATEST_OF_A_QUEUE", 5)
    phantom = centre.leg("waiting", position=1, arrived_at=T)
    for number in range(20):
        centre.leg("completed", position=1, arrived_at=T + 10 + number, answered_at=T + 10 + number, agent=f"agent {number}")
    assert [doubt["contact"] for doubt in centre.queues()["sales"]["uncertain"]] == [phantom]
    assert read == [6]


def test_other_sources_contradict_nothing(centre: Centre) -> None:
    centre.leg("talking", agent="Ann", answered_at=T)
    centre.leg("completed", source="pbx2", agent="Ann", arrived_at=T + 10, answered_at=T + 20, talk_seconds=5.0)
    assert (centre.queues()["sales"]["talking"], centre.queues()["sales"]["uncertain"]) == (1, [])


FILTERS = [
    ({}, 4),
    ({"from": T}, 3),
    ({"to": T}, 1),
    ({"from": T, "to": T + 10}, 1),
    ({"source": "pbx2"}, 1),
    ({"source": "pbx3"}, 0),
    ({"from": T + 10, "source": "pbx1"}, 1),
    ({"queue": "sales"}, 4),
    ({"queue": "other"}, 0),
]


@pytest.mark.parametrize(("filters", "offered"), FILTERS)
def test_filters(centre: Centre, filters: dict[str, Any], offered: int) -> None:
    """`from` and `to` look at the arrival; the end does not count."""
    for arrived, source in ((T - 1, "pbx1"), (T, "pbx1"), (T + 10, "pbx1"), (T + 20, "pbx2")):
        centre.leg(
            "completed",
            arrived_at=arrived,
            source=source,
            agent="Ann",
            answered_at=arrived,
            hold_seconds=1.0,
            talk_seconds=2.0,
            missed={"Bob": 1},
        )
    assert sum(row["offered"] for row in centre.queues(**filters).values()) == offered
    assert sum(row["ring_no_answer"] for row in centre.queues(**filters).values()) == offered
    agents = centre.agents(**filters)
    assert (
        (agents["Ann"]["answered"], agents["Ann"]["talk_seconds"], agents["Bob"]["ring_no_answer"]) == (offered, 2.0 * offered, offered)
        if offered
        else not agents
    )


@pytest.mark.parametrize(("kind", "offered"), [(None, 3), ("inbound", 2), ("transfer", 1), ("callback", 4)])
def test_callbacks_are_no_calls(centre: Centre, kind: str | None, offered: int) -> None:
    for of, legs in (("inbound", 2), ("transfer", 1), ("callback", 4)):
        for _ in range(legs):
            centre.leg("completed", kind=of)
    assert centre.queues(kind=kind)["sales"]["offered"] == offered


def test_every_column_of_an_agent(centre: Centre) -> None:
    centre.leg("completed", agent="Ann", answered_at=T, talk_seconds=30.0, missed={"Bob": 2, "Ann": 1})
    centre.leg("transferred", agent="Ann", queue="other", answered_at=T, talk_seconds=12.5)
    centre.leg("talking", agent="Ann", answered_at=T)
    centre.leg("lost", agent="Ann", answered_at=T)
    centre.leg("completed", address="PJSIP/9", answered_at=T, talk_seconds=1.0)
    assert centre.agents() == {
        "Ann": {"agent": "Ann", "id": None, "answered": 3, "talk_seconds": 42.5, "ring_no_answer": 1},
        "Bob": {"agent": "Bob", "id": None, "answered": 0, "talk_seconds": 0.0, "ring_no_answer": 2},
        "PJSIP/9": {"agent": "PJSIP/9", "id": None, "answered": 1, "talk_seconds": 1.0, "ring_no_answer": 0},
    }


def test_all_names_of_an_agent_of_the_directory_are_one(centre: Centre) -> None:
    centre.put(Agent("a17", name="Ann Wong", address="PJSIP/1001", aliases=["Ann", "Local/1001@agents"]), Agent("a18", aliases=["Bob"]))
    for name in ("Ann", "a17", "Ann Wong", "PJSIP/1001"):
        centre.leg("completed", agent=name, answered_at=T, talk_seconds=1.0, missed={"Local/1001@agents": 1, "Bob": 1})
    assert centre.agents() == {
        "Ann Wong": {"agent": "Ann Wong", "id": "a17", "answered": 4, "talk_seconds": 4.0, "ring_no_answer": 4},
        "a18": {"agent": "a18", "id": "a18", "answered": 0, "talk_seconds": 0.0, "ring_no_answer": 4},
    }


def test_a_contact_leg_by_leg(centre: Centre) -> None:
    contact = centre.leg("timed_out")
    centre.leg("void", contact=contact, number=2)
    centre.leg("completed", contact=contact, number=3, queue="overflow", agent="Ann", answered_at=T, talk_seconds=1.0)
    told = centre.report(reports.contact, contact)
    assert (told["contact"], told["source"], told["channel"], told["observed"]) == (contact, "pbx1", "voice", True)
    assert [(leg["number"], leg["queue"], leg["outcome"]) for leg in told["legs"]] == [
        (1, "sales", "timed_out"),
        (3, "overflow", "completed"),
    ]
    with pytest.raises(NotFound):
        centre.report(reports.contact, new_id())


# ---- the wallboard


def test_the_wallboard_shows_queues_and_how_they_stand(centre: Centre) -> None:
    centre.put(Queue("sales"), Queue("idle"))
    centre.leg("waiting", arrived_at=T + 20)
    centre.leg("waiting", arrived_at=T + 5)
    centre.leg("abandoned", arrived_at=T - 200)
    live = centre.live()
    assert (live["sales"]["offered"], live["sales"]["waiting"], live["sales"]["longest_wait_since"], live["sales"]["mode"]) == (
        2,
        2,
        T + 5,
        "routed",
    )
    assert (live["idle"]["offered"], live["idle"]["longest_wait_since"], live["idle"]["service_level"]) == (0, None, None)


def test_the_wallboard_shows_what_agents_do(centre: Centre) -> None:
    for agent in ("Ann", "Bob", "Dee"):
        centre.watch(agent, "available")
    centre.leg("talking", agent="Ann", answered_at=T + 5)
    centre.leg("waiting", ringing=["Bob"])
    live = centre.live()
    assert {name: live[name] for name in ("Ann", "Bob", "Dee")} == {
        "Ann": ("busy", None),
        "Bob": ("offered", None),
        "Dee": ("available", None),
    }


@pytest.mark.parametrize("known", [False, True])
def test_who_paused_everywhere_is_paused_though_a_queue_says_available(centre: Centre, known: bool) -> None:
    if known:
        centre.put(Agent("a17", name="Ann Wong", aliases=["Ann"]))
    centre.watch("Ann", "paused", reason="lunch")
    centre.watch("Ann", "available", queue="sales", since=T + 1)
    assert centre.live()["Ann Wong" if known else "Ann"] == ("paused", "lunch")


@pytest.mark.parametrize("name", ["Ann Wong", ""])
def test_who_is_not_signed_in_here_is_shown_as_the_telephony_system_sees_them(centre: Centre, name: str) -> None:
    centre.put(Agent("a17", name=name, aliases=["Ann"]))
    assert centre.live()[name or "a17"] == ("offline", None)
    centre.watch("Ann", "available")
    assert centre.live()[name or "a17"] == ("available", None)


# ---- to be measured


def test_service_level_and_waits_of_the_last_half_hour_are_measured_as_each_queue_counts(centre: Centre, at: SetClock) -> None:
    centre.put(Queue("sales", service_level_seconds=30, short_abandon_seconds=5))
    now = at()
    for hold in (10.0, 20.0, 90.0):
        centre.leg("completed", arrived_at=now - 600, hold_seconds=hold, talk_seconds=60.0)
    centre.leg("abandoned", arrived_at=now - 600, hold_seconds=50.0)
    centre.leg("abandoned", arrived_at=now - 600, hold_seconds=3.0)
    centre.leg("waiting", arrived_at=now - 45)
    centre.leg("waiting", arrived_at=now - 15)
    centre.leg("completed", arrived_at=now - 7200, hold_seconds=500.0, talk_seconds=60.0)
    gauges = RoutingMetrics(centre.units.database)
    try:
        told = {
            (family.name.removeprefix("answerline_routing_"), *sample.labels.values()): sample.value
            for family in gauges.collect()
            for sample in family.samples
        }
    finally:
        gauges.close()
    assert (told["service_level", "sales"], told["service_level_of", "sales"]) == (0.5, 4)
    assert told["longest_wait_seconds", "sales"] == 45
    assert told["answer_wait_seconds", "sales"] == 40
    assert told["in_time_seconds", "sales"] == 30
    assert ("service_level_target", "sales") not in told
    recent = {outcome: value for (name, *labels), value in told.items() if name == "recent_contacts" for outcome in labels[1:]}
    assert (recent["offered"], recent["answered"], recent["abandoned"], recent["waiting"]) == (7, 3, 2, 2)
    assert sum(value for outcome, value in recent.items() if outcome != "offered") == recent["offered"]
