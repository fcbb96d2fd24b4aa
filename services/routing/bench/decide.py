"""How fast the engine decides, alone in one process: no bus, no database.

Busy: an agent becomes free, the best of all waiting contacts is theirs, the next contact arrives. Idle: a contact arrives, the
best of all idle agents is theirs, and they come back. Small and large centre take turns, so that the ratio holds on a noisy machine.
"""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import time
from typing import Any, NamedTuple

import click
import numpy as np
import orjson

from services.routing.domain.engine import Engine
from services.routing.domain.needs import Need, Profile, Seat, Terms, Waiting

CHANNELS = ("voice", "chat", "email")
SKILLS = tuple(f"skill{number}" for number in range(40))
START = 1_000_000.0


class Size(NamedTuple):
    name: str
    agents: int
    waiting: int
    profiles: int
    needs: int
    segments: int = 5


SMALL = Size("small", 100, 1000, 200, 200)
LARGE = Size("large", 10_000, 100_000, 200, 200)


class Centre:
    """An engine with its load; `cycle` is one decision with what leads to it and follows from it."""

    def __init__(self, size: Size, busy: bool, seed: int = 1) -> None:
        self.random = random.Random(seed)  # noqa: S311 no secret
        self.engine = Engine()
        self.now = START
        self.busy = busy
        self.arrived = 0
        self.terms = [
            Terms("bench", 1, f"segment{n}", weight=1.0 + n, head_start=10.0 * n, target=20.0 * (n + 1), bound=math.inf if n % 2 else 1e5)
            for n in range(size.segments)
        ]
        self.needs = [self._need() for _ in range(size.needs)]
        self.seats = [self._seat(f"a{n}", self._profile(n % size.profiles), n) for n in range(size.agents)]
        for seat in self.seats:
            self.engine.put_agent(seat._replace(state="busy", room=frozenset()) if busy else seat)
        for n in range(size.waiting if busy else 0):
            self.engine.put_contact(self._contact(START - self.random.random() * 3600.0, n))
        while self.engine.pending:
            self.engine.decide(self.now)
        self.by_id = {seat.id: seat for seat in self.seats}
        self.free = self.random.sample(self.seats, len(self.seats))

    def cycle(self, explain: bool) -> bool:
        """Whether a decision was made (in a small centre some agents suit nobody)."""
        self.now += 0.01
        if self.busy:
            seat = self.free[self.arrived % len(self.free)]
            self.engine.put_agent(seat._replace(idle_since=self.now))
        else:
            self.engine.put_contact(self._contact(self.now, self.arrived))
        self.arrived += 1
        decisions = self.engine.decide(self.now, explain=explain)
        for decision in decisions:
            if explain:
                orjson.dumps(decision.record)
        if self.busy:
            self.engine.put_agent(seat._replace(state="busy", room=frozenset()))
            for _ in decisions:
                self.engine.put_contact(self._contact(self.now, self.arrived))
        else:
            for decision in decisions:
                self.engine.put_agent(self.by_id[decision.agent]._replace(idle_since=self.now))
        return bool(decisions)

    def _contact(self, since: float, number: int) -> Waiting:
        return Waiting(f"c{self.arrived}-{number}", since, self.random.choice(self.needs), self.random.choice(self.terms))

    def _need(self) -> Need:
        skills = sorted((skill, self.random.randint(1, 3)) for skill in self.random.sample(SKILLS, self.random.randint(1, 2)))
        prefers = (("skill", self.random.choice(SKILLS), 1.0),) if self.random.random() < 0.3 else ()
        return Need(f"q{self.random.randint(0, 19)}", self.random.choice(CHANNELS), tuple(skills), (), prefers)

    def _profile(self, number: int) -> Profile:
        chance = random.Random(number)  # noqa: S311 no secret
        skills = frozenset((skill, chance.randint(1, 5)) for skill in chance.sample(SKILLS, 20))
        return Profile(
            frozenset(), frozenset(chance.sample(CHANNELS, 2)), skills, frozenset({("tr", 5)}), capacity=frozenset({("chat", 30)})
        )

    def _seat(self, agent: str, profile: Profile, number: int) -> Seat:
        return Seat(agent, profile, "available", profile.channels, 0, START - 1.0 - number % 977)


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Rounds of each size and regime, in turn; medians count.")
@click.option("--cycles", default=1500, show_default=True, help="Decisions a round.")
@click.option("--json", "as_json", is_flag=True)
def decide(rounds: int, cycles: int, as_json: bool) -> None:
    """The engine alone: 100 agents and 1,000 waiting contacts against 10,000 and 100,000."""
    figures: dict[str, Any] = {"rounds": rounds, "cycles": cycles}
    for size in (SMALL, LARGE):
        figures[size.name] = size._asdict()
    for regime, busy in (("busy", True), ("idle", False)):
        centres = [Centre(SMALL, busy), Centre(LARGE, busy)]
        for explain in (False, True):
            name = f"{regime}_with_record" if explain else regime
            figures[name] = _compare(centres, rounds, cycles, explain)
    regimes = {name: one for name, one in figures.items() if isinstance(one, dict) and "ratio" in one}
    for name, wanted in (
        ("decisions_per_second", ("busy", "idle")),
        ("decisions_per_second_with_record", ("busy_with_record", "idle_with_record")),
    ):
        figures[name] = min(regimes[one]["large"]["per_second"] for one in wanted)
        figures[f"{name}_of_cpu"] = min(regimes[one]["large"]["per_cpu_second"] for one in wanted)
    figures["p99_ms"] = max(one["large"]["p99_ms"] for one in regimes.values())
    figures["p99_cpu_ms"] = max(one["large"]["p99_cpu_ms"] for one in regimes.values())
    figures["ratio"] = max(one["ratio"] for one in regimes.values())
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


def _compare(centres: list[Centre], rounds: int, cycles: int, explain: bool) -> dict[str, Any]:
    times: list[list[np.ndarray]] = [[], []]
    for centre in centres:
        _round(centre, cycles, explain)  # what is compared for the first time is no steady state
    for _ in range(rounds):
        for taken, centre in zip(times, centres, strict=True):
            taken.append(_round(centre, cycles, explain))
    small, large = map(_figures, times)
    ratios = [other[1].mean() / one[1].mean() for one, other in zip(*times, strict=True)]
    return {"small": small, "large": large, "ratio": round(float(statistics.median(ratios)), 2)}


def _round(centre: Centre, cycles: int, explain: bool) -> np.ndarray:
    """Seconds of each cycle with a decision, by the clock on the wall and by that of the CPU. Shape (2, cycles)."""
    taken: list[tuple[float, float]] = []
    gc.collect()
    gc.freeze()  # what stands in the books is no garbage
    while len(taken) < cycles:
        wall, cpu = time.perf_counter(), time.thread_time()
        if centre.cycle(explain):
            taken.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return np.array(taken).T


def _figures(rounds: list[np.ndarray]) -> dict[str, float]:
    wall, cpu = (np.array([one[clock] for one in rounds]) for clock in (0, 1))
    return {
        "per_second": round(1.0 / float(np.median(wall.mean(axis=1)))),
        "per_cpu_second": round(1.0 / float(np.median(cpu.mean(axis=1)))),
        "p50_ms": _milliseconds(wall, 50),
        "p99_ms": _milliseconds(wall, 99),
        "p99_cpu_ms": _milliseconds(cpu, 99),
    }


def _milliseconds(times: np.ndarray, percentile: int) -> float:
    """Median over the rounds of each round's percentile."""
    return round(float(np.median(np.percentile(times, percentile, axis=1))) * 1e3, 4)
