"""Calls and shifts played through a desk: the one that routes live, under a clock of our own.

    run = play(case, desk)          # a desk from `new_desk`, with the policies and the engine to be tried
    run.waited, run.agent, …        # one entry for each call

Nothing here draws a number: what is not known of a call (how long its caller would stay, how long the talk would last) was drawn before,
so that every policy meets the same calls.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from services.routing.domain.desk import Desk
from services.routing.domain.engine import Engine
from services.routing.domain.entities import Queue
from services.routing.domain.needs import Score
from services.routing.domain.policy import Policy

NOBODY = -1
REMEMBERED_SECONDS = 60.0
FORGET_SECONDS = 3600.0


class Call(NamedTuple):
    """A contact and what would become of it: `patience` seconds in line, then it leaves; `service` seconds of talk."""

    id: str
    at: float
    queue: str
    patience: float
    service: float
    wrap_up: float = 0.0  # seconds the agent needs before the next
    value: float = 1.0  # what a second of its waiting counts in the figures
    customer: str = ""
    facts: Mapping[str, Any] = {}
    wants: Mapping[str, Any] = {}
    skills: Mapping[str, int] = {}


class Worker(NamedTuple):
    """An agent; `skills` also say how well they fit a queue of that name."""

    id: str
    skills: Mapping[str, int]
    profile: Mapping[str, Any] = {}  # further arguments of Desk.put_agent
    scores: Mapping[str, Score] = {}  # by scorecard, for policies that prefer by it


class Shift(NamedTuple):
    agent: str
    since: float
    until: float


@dataclass(frozen=True)
class Case:
    """What is played: calls in the order of their arrival, agents, when they are there (in the order of their beginning), and the queues."""

    calls: Sequence[Call]
    agents: Sequence[Worker]
    shifts: Sequence[Shift]
    queues: Sequence[Queue]
    zone: tzinfo = UTC


@dataclass
class Run:
    """What became of each call. Vectors by call: seconds waited (until answered or given up), index of the agent (or NOBODY), and whether
    it was answered; by agent: seconds at work and seconds signed in."""

    waited: np.ndarray
    agent: np.ndarray
    answered: np.ndarray
    busy: np.ndarray
    present: np.ndarray
    idle_while_waiting: float = 0.0  # seconds in which somebody waited though an agent who has the skill was free
    decisions: int = 0


def new_desk(case: Case, policies: Mapping[str, Policy], engine: Callable[[], Any] = Engine) -> Desk:
    """A desk with the case's queues and agents, who are all away; `engine` makes what decides."""
    desk = Desk(case.zone)
    desk.now = min([call.at for call in case.calls[:1]] + [shift.since for shift in case.shifts[:1]], default=0.0)
    desk.explains = False
    desk.engines = defaultdict(engine)
    desk.policies = dict(policies)
    for queue in case.queues:
        desk.put_queue(queue)
    channels = sorted({queue.channel for queue in case.queues})
    for worker in case.agents:
        desk.put_agent(worker.id, **{"skills": dict(worker.skills), "channels": channels, **worker.profile})
        if worker.scores:
            desk.note_scores(worker.id, worker.scores, desk.now)
    return desk


ARRIVES, LEAVES, ENDS, COMES, GOES = "arrives", "leaves", "ends", "comes", "goes"
ORDER = {ENDS: 0, COMES: 1, GOES: 2, ARRIVES: 3, LEAVES: 4}
"""Of one moment: who becomes free is free for whoever arrives then."""


@dataclass
class _Play:
    case: Case
    desk: Desk
    run: Run
    tell: Callable[[int], None]
    events: list[tuple[float, int, int, str, int]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: count(1))
    """(moment, order, number, kind, index of the call or shift)"""

    def __post_init__(self) -> None:
        case = self.case
        self.numbers = count()
        self.call_of = {call.id: index for index, call in enumerate(case.calls)}
        self.agent_of = {agent.id: index for index, agent in enumerate(case.agents)}
        self.began = np.full(len(case.agents), math.nan)
        self.came = np.full(len(case.agents), math.nan)
        self.there = [0] * len(case.agents)  # shifts of one agent may touch
        self.idle = 0  # agents, a bit each
        self.kinds: dict[tuple[str, tuple[tuple[str, int], ...]], int] = {}
        self.able: list[int] = []  # by kind of call: the agents who have the skill, a bit each
        self.waits: list[int] = []
        required = {queue.name: queue.required_skills for queue in case.queues}
        serves = [set(agent.profile.get("queues", ())) for agent in case.agents]
        self.kind: list[int] = []
        for call in case.calls:
            key = (call.queue, tuple(sorted({**required[call.queue], **call.skills}.items())))
            if key not in self.kinds:
                self.kinds[key] = len(self.able)
                self.able.append(
                    sum(
                        1 << number
                        for number, agent in enumerate(case.agents)
                        if (not serves[number] or call.queue in serves[number])
                        and all(agent.skills.get(name, 0) >= level for name, level in key[1])
                    )
                )
                self.waits.append(0)
            self.kind.append(self.kinds[key])

    def push(self, at: float, kind: str, index: int) -> None:
        heapq.heappush(self.events, (at, ORDER[kind], next(self.numbers), kind, index))

    def go(self) -> None:
        case, desk = self.case, self.desk
        for index, call in enumerate(case.calls):
            self.push(call.at, ARRIVES, index)
        for index, shift in enumerate(case.shifts):
            if shift.until > shift.since:
                self.push(shift.since, COMES, index)
                self.push(shift.until, GOES, index)
        now, wasted, forget_at = desk.now, False, 0.0
        told = 0
        while self.events:
            due, at = desk.next_deadline(), self.events[0][0]
            moment = max(now, min(at, due) if due is not None else at)
            if wasted:
                self.run.idle_while_waiting += moment - now
            now = moment
            if due is None or at <= due:
                _, _, _, kind, index = heapq.heappop(self.events)
                getattr(self, f"_{kind}")(index, now)
            desk.expire(now)
            for offer in desk.assign_pending(now, self._new_id):
                self._answer(offer.id, offer.contact, offer.agent, now)
            desk.forget_changes()
            wasted = any(waiting and able & self.idle for waiting, able in zip(self.waits, self.able, strict=True))
            if now >= forget_at:
                forget_at = now + FORGET_SECONDS
                desk.forget(now - REMEMBERED_SECONDS)
                self.tell(self.seen - told)
                told = self.seen
        self.tell(len(case.calls) - told)

    seen = 0

    def _new_id(self) -> str:
        return str(next(self.ids))

    def _arrives(self, index: int, now: float) -> None:
        call = self.case.calls[index]
        self.seen += 1
        self.desk.arrive(
            call.id,
            call.queue,
            now,
            required_skills=dict(call.skills),
            wants=dict(call.wants),
            facts=dict(call.facts),
            customer=call.customer,
        )
        self.waits[self.kind[index]] += 1
        if math.isfinite(call.patience):
            self.push(now + call.patience, LEAVES, index)

    def _leaves(self, index: int, now: float) -> None:
        if self.run.answered[index]:
            return
        call = self.case.calls[index]
        self.run.waited[index] = now - call.at
        self.waits[self.kind[index]] -= 1
        self.desk.hang_up(call.id, now)

    def _answer(self, offer: str, contact: str, agent: str, now: float) -> None:
        index, number = self.call_of[contact], self.agent_of[agent]
        call, run = self.case.calls[index], self.run
        self.desk.accept(offer, agent, now)
        run.decisions += 1
        run.waited[index], run.agent[index], run.answered[index] = now - call.at, number, True
        self.waits[self.kind[index]] -= 1
        self.idle &= ~(1 << number)
        self.began[number] = now
        self.push(now + call.service + call.wrap_up, ENDS, index)

    def _ends(self, index: int, now: float) -> None:
        number = int(self.run.agent[index])
        self.run.busy[number] += now - self.began[number]
        self.desk.complete(self.case.calls[index].id, now)
        if self.there[number]:
            self.idle |= 1 << number
        else:
            self.run.present[number] += now - self.came[number]

    def _comes(self, index: int, now: float) -> None:
        agent = self.case.shifts[index].agent
        number = self.agent_of[agent]
        self.there[number] += 1
        if self.there[number] > 1:
            return
        if self.desk.agents[agent].work:
            self.desk.set_agent_state(agent, "available", now)
            return
        self.came[number] = now
        self.idle |= 1 << number
        self.desk.set_agent_state(agent, "available", now)

    def _goes(self, index: int, now: float) -> None:
        agent = self.case.shifts[index].agent
        number = self.agent_of[agent]
        self.there[number] -= 1
        if self.there[number]:
            return
        self.idle &= ~(1 << number)
        if not self.desk.agents[agent].work:
            self.run.present[number] += now - self.came[number]
        self.desk.set_agent_state(agent, "offline", now)


def play(case: Case, desk: Desk, tell: Callable[[int], None] = lambda _calls: None) -> Run:
    """Everything that happens in the case, in its order. `tell` is told now and then how many more calls have come."""
    calls, agents = len(case.calls), len(case.agents)
    run = Run(np.zeros(calls), np.full(calls, NOBODY), np.zeros(calls, dtype=bool), np.zeros(agents), np.zeros(agents))
    _Play(case, desk, run, tell).go()
    return run
