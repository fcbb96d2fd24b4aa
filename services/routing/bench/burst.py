"""A centre whose agents are as busy as in real life, then many times the callers: is it quick for those who are served while thousands wait?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from random import Random
from typing import Any, Protocol

import click

from services.routing.bench.day import HEARD, Centre, Day, Figures
from services.routing.bench.pipeline import cpu_seconds
from services.routing.bench.route import FLOW, Driver
from services.routing.bench.service import real_servers, running
from shared.bus.broker import Broker

SETTLE_SECONDS = 60.0
FILL_SECONDS = 300.0
TOLD_SECONDS = 10.0
MOST_PAUSE = 0.01


@dataclass(frozen=True)
class Plan:
    """Rates in contacts a second, all else in seconds."""

    agents: int
    talk: float
    rate: float
    seconds: float
    burst: float
    burst_seconds: float
    after: float
    patience: float
    announce: float
    seed: int


class Stage(Centre, Protocol):
    """A centre that can be listened to: what is heard meanwhile goes to the day."""

    day: Day

    def listen(self, seconds: float) -> None: ...
    def spent(self) -> dict[str, float]:
        """Seconds of a core that each process of ours has used so far."""
        ...


OPTIONS = (
    click.option("--agents", default=2000, show_default=True, help="Agents signed in."),
    click.option("--talk", default=300.0, show_default=True, help="Mean seconds of a conversation; they are exponential."),
    click.option("--rate", default=5.7, show_default=True, help="Contacts a second; agents begin as busy as it makes them."),
    click.option("--seconds", default=120.0, show_default=True, help="How long, before the burst."),
    click.option("--burst", default=57.0, show_default=True, help="Contacts a second of the burst."),
    click.option("--burst-seconds", default=60.0, show_default=True, help="How long the burst lasts."),
    click.option("--after", default=300.0, show_default=True, help="Seconds at the usual rate afterwards, at most; it is over when nobody waits."),
    click.option("--patience", default=240.0, show_default=True, help="Mean seconds until who waits hangs up; they are exponential. 0: never."),
    click.option("--announce", default=30.0, show_default=True, help="Each who waits asks for their position every so many seconds. 0: never."),
    click.option("--seed", default=1, show_default=True, help="Of all that is drawn."),
    click.option("--json", "as_json", is_flag=True),
)  # fmt: skip


def options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@options
def burst(as_json: bool, **plan: Any) -> None:
    """A busy centre and a burst, in which most callers wait, over RabbitMQ and PostgreSQL: routing alone."""
    wanted = Plan(**plan)
    settings = real_servers()
    with running(settings) as (process, broker, _database), OverTheBus(broker, process.pid) as centre:
        centre.open_the_centre(wanted.agents, 0)
        figures = play(centre, wanted)
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


def play(centre: Stage, plan: Plan, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """Fill the centre, then the usual rate, the burst, and what comes after; the figures. Progress goes to stderr."""
    day = centre.day = Day(centre, plan.agents, plan.talk, plan.patience or inf, plan.announce or inf, Random(plan.seed))  # noqa: S311 - a bench
    talking = min(round(plan.rate * plan.talk), plan.agents)
    deadline = clock() + FILL_SECONDS
    while not day.fill(talking):
        if clock() > deadline:
            raise click.ClickException(f"after {FILL_SECONDS:g} s only {len(day.busy)} of {talking} agents talk")
        centre.listen(MOST_PAUSE)
        day.step(clock())
    stretches: dict[str, Figures] = {}
    day.begin(clock(), plan.rate)
    spent = [centre.spent()]
    _go_on(centre, day, plan.seconds, clock)
    stretches["usual"] = day.begin(clock(), plan.burst)
    spent.append(centre.spent())
    _go_on(centre, day, plan.burst_seconds, clock)
    over = clock()
    stretches["burst"] = day.begin(over, plan.rate)
    spent.append(centre.spent())
    _go_on(centre, day, plan.after, clock, until=lambda: not day.in_line)
    worked_off = None if day.in_line else round(clock() - over, 1)
    stretches["after"] = day.stop(clock())
    spent.append(centre.spent())
    deadline = clock() + SETTLE_SECONDS
    while day.under_way and clock() < deadline:
        centre.listen(MOST_PAUSE)
    told = {name: stretch.told(plan.agents) for name, stretch in stretches.items()}
    for stretch, (before, after) in zip(told.values(), pairwise(spent), strict=True):
        stretch["cores"] = {
            name: round((after[name] - before[name]) / stretch["seconds"], 3) if stretch["seconds"] else None for name in after
        }
    return {**vars(plan), "stretches": told, "worked_off_after_seconds": worked_off, **day.outcome()}


def _go_on(centre: Stage, day: Day, seconds: float, clock: Callable[[], float], until: Callable[[], bool] = lambda: False) -> None:
    end, tell_at = clock() + seconds, clock()
    while (now := clock()) < end and not until():
        if now >= tell_at:
            tell_at += TOLD_SECONDS
            click.echo(
                f"{end - now:4.0f} s to go at {day.figures.rate:g} a second: {len(day.busy)} agents busy, {len(day.in_line)} callers wait, "
                f"load {os.getloadavg()[0]:.1f}",
                err=True,
            )
        due = day.step(now)
        centre.listen(max(min(due, end) - clock(), 0.0) if due < now + MOST_PAUSE else MOST_PAUSE)


class OverTheBus(Driver):
    """Events as the gateway publishes them, commands as it passes them on."""

    heard = HEARD

    def __init__(self, broker: Broker, pid: int) -> None:
        super().__init__(broker)
        self.pid = pid
        self.day: Day
        self.calls: dict[str, str] = {}
        self.contacts: dict[str, str] = {}
        self.asked: dict[str, tuple[str, float]] = {}

    def listen(self, seconds: float) -> None:
        self._listen(seconds)

    def spent(self) -> dict[str, float]:
        return {"routing": cpu_seconds(self.pid)}

    def arrive(self, call: str) -> None:
        contact = self._arrive(FLOW)
        self.calls[contact], self.contacts[call] = call, contact

    def hang_up(self, call: str, answered: bool) -> None:
        what, outcome = ("ended", "completed") if answered else ("abandoned", "abandoned")
        self._tell(what, self.contacts[call], FLOW, 2, outcome=outcome, ended_by="caller")

    def ask_position(self, call: str) -> None:
        self._timed("position", "get_assignment", {"contact_id": self.contacts[call]})

    def accept(self, offer: str, agent: str) -> None:
        self._timed("accept", "accept_offer", {"offer_id": offer, "agent_id": agent})

    def make_available(self, agent: str) -> None:
        self._timed("available", "set_agent_state", {"agent_id": agent, "state": "available", "disposition": "done"})

    def _timed(self, name: str, method: str, arguments: dict[str, Any]) -> None:
        self.asked[self._command(method, arguments)] = name, time.monotonic()

    def _take(self, answer: dict[str, Any]) -> None:
        if answer["id"] not in self.asked:
            super()._take(answer)
            return
        name, began = self.asked.pop(answer["id"])
        self.day.answered(name, time.monotonic() - began, self._why(answer) if "error" in answer else "")

    def _note(self, event: dict[str, Any]) -> None:
        data = event["data"]
        if call := self.calls.get(data["contact"]):
            self.day.hear(event["type"].split(".")[1], call, data, time.monotonic())
