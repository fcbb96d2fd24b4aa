"""The busy centre of `answerline bench burst`, in virtual time on a desk: what it measures must be there, and what it finds must be so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.routing.bench.burst import Plan, play
from services.routing.bench.day import HEARD, Day
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Queue
from services.routing.domain.errors import RoutingError

STEP = 0.05
PLAN = Plan(40, talk=20.0, rate=1.7, seconds=60.0, burst=17.0, burst_seconds=10.0, after=200.0, patience=20.0, announce=5.0, seed=5)
"""Busy to 85 %."""


class OnADesk:
    """Everything that is told takes effect one step later."""

    def __init__(self, agents: int, hears: Callable[[str], int] = lambda _what: 1) -> None:
        """`hears`: how often what is announced is heard."""
        self.hears, self.now = hears, 1000.0
        self.desk = Desk()
        self.desk.explains = False
        self.desk.put_queue(Queue("flow", required_skills={"flow": 1}, offer_seconds=60.0))
        for number in range(agents):
            self.desk.put_agent(f"a{number}", skills={"flow": 3}, channels=["voice"])
            self.desk.set_agent_state(f"a{number}", "available", self.now)
        self.day: Day
        self.ids = itertools.count()
        self.told: list[tuple[str, Callable[[], Any]]] = []

    def spent(self) -> dict[str, float]:
        return {"desk": self.now / 2}

    def arrive(self, call: str) -> None:
        self.told.append(("arrive", lambda: self.desk.arrive(call, "flow", self.now)))

    def hang_up(self, call: str, answered: bool) -> None:
        self.told.append(("hang_up", lambda: self.desk.hang_up(call, self.now)))

    def ask_position(self, call: str) -> None:
        self.told.append(("position", lambda: self.desk.foresee(self.desk.contacts[call])))

    def accept(self, offer: str, agent: str) -> None:
        self.told.append(("accept", lambda: self.desk.accept(offer, agent, self.now)))

    def make_available(self, agent: str) -> None:
        self.told.append(("available", lambda: self.desk.set_agent_state(agent, "available", self.now)))

    def listen(self, seconds: float) -> None:
        self.now += max(seconds, STEP)
        told, self.told = self.told, []
        for name, do in told:
            refused = ""
            try:
                do()
            except RoutingError as error:
                refused = type(error).__name__
            self.day.answered(name, STEP, refused)
        self.desk.assign_pending(self.now, lambda: f"o{next(self.ids)}")
        for event in self.desk.take_changes().events:
            if event.name in HEARD:
                for _ in range(self.hears(event.name)):
                    self.day.hear(event.name, event.data["contact"], event.data, self.now)


def played(plan: Plan, hears: Callable[[str], int] = lambda _what: 1) -> dict[str, Any]:
    centre = OnADesk(plan.agents, hears)
    return play(centre, plan, lambda: centre.now)


def test_agents_are_busy_from_the_first_second_and_most_callers_of_the_burst_wait() -> None:
    told = played(PLAN)
    usual, burst, after = (told["stretches"][name] for name in ("usual", "burst", "after"))
    assert usual["occupancy"] == pytest.approx(0.85, abs=0.08)
    assert usual["arrived"] == pytest.approx(PLAN.rate * PLAN.seconds, rel=0.3)
    assert burst["arrived"] == pytest.approx(PLAN.burst * PLAN.burst_seconds, rel=0.2)
    assert burst["occupancy"] > 0.95
    assert burst["longest_queue"] > burst["arrived"] / 2
    assert burst["position_p50_ms"] is not None
    assert burst["offer_p99_ms"] <= 1000 * 3 * STEP, "from when the agent is free, however long the caller has waited"
    assert burst["cores"] == {"desk": pytest.approx(0.5, abs=0.01)}
    assert after["waited_p50_ms"] > 5000
    assert after["hung_up"] > 0
    assert 0 < told["worked_off_after_seconds"] < PLAN.after
    assert told["left"]["waiting"] == 0
    assert (told["lost"], told["twice"], told["idle_while_waiting"], told["missed"]) == (0, 0, 0, 0)


def test_who_still_waits_at_the_end_is_told_and_is_not_lost() -> None:
    told = played(replace(PLAN, patience=0.0, announce=0.0, after=5.0))
    assert told["worked_off_after_seconds"] is None
    assert told["left"]["waiting"] == told["stretches"]["after"]["waiting_at_end"] > 50
    assert told["left"]["talking"] == PLAN.agents
    assert (told["lost"], told["idle_while_waiting"]) == (0, 0)


def test_what_is_announced_once_too_often_or_not_at_all_is_found() -> None:

    def at_the_60th(wanted: str, often: int) -> Callable[[str], int]:
        number = itertools.count(1)
        return lambda what: often if what == wanted and next(number) == 60 else 1

    assert played(PLAN, at_the_60th("contact_assigned", 2))["twice"] == 1
    assert played(PLAN, at_the_60th("contact_wrapped_up", 0))["lost"] == 1
