"""Who suits whom, found without comparing every agent with every contact.

Contacts that need the same thing stand in one line; available agents who can do the same things form one group.
Lines and groups are compared, and a comparison is remembered until somebody's profile changes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .entities import Agent, Contact, Pass, Queue

Place = tuple[float, str]  # contacts: arrived at, id; agents: idle since, id

REMEMBERED_FITS = 4096


class Need(NamedTuple):
    """What a contact asks of its agent."""

    queue: str
    channel: str
    skills: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, contact: Contact, queue: Queue) -> Need:
        levels = dict(queue.required_skills)
        for skill, level in contact.required_skills.items():
            levels[skill] = max(level, levels.get(skill, 0))
        return cls(queue.name, contact.channel, tuple(sorted(levels.items())))


class Profile(NamedTuple):
    """What an agent can be asked."""

    queues: frozenset[str]
    channels: frozenset[str]
    skills: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, agent: Agent) -> Profile:
        return cls(frozenset(agent.queues), frozenset(agent.channels), frozenset(agent.skills.items()))

    def objection(self, need: Need) -> str | None:
        """The first reason why this profile does not meet the need, or None."""
        if self.queues and need.queue not in self.queues:
            return f"not in queue {need.queue}"
        if need.channel not in self.channels:
            return f"not certified for {need.channel}"
        levels = dict(self.skills)
        for skill, minimum in need.skills:
            if levels.get(skill, 0) < minimum:
                return f"skill {skill} below {minimum}"
        return None


@dataclass(eq=False)
class Group:
    """All agents of one profile; those with room, longest idle first."""

    profile: Profile
    idle: list[Place] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)


@dataclass
class Fit:
    """What a need finds among the agents: groups that meet it, and how many agents fail for which reason."""

    groups: set[Group]
    objections: Counter[str]


class Seat(NamedTuple):
    """Where the roster put an agent, so that it finds them again after they changed."""

    group: Group
    state: str
    idle: Place | None


@dataclass
class Choice:
    """An agent for a contact, and why."""

    agent: str
    explanation: dict[str, Any]


class Roster:
    """All agents by profile."""

    def __init__(self) -> None:
        self._groups: dict[Profile, Group] = {}
        self._seats: dict[str, Seat] = {}
        self._idle: set[Group] = set()  # groups in which anybody is idle
        self._fits: dict[Need, Fit] = {}

    def enrol(self, agent: Agent) -> None:
        """Take in an agent who is new or whose profile changed."""
        left = self._leave(agent.id)
        if left and not left.states.total():
            del self._groups[left.profile]
        profile = Profile.of(agent)
        self._sit(agent, self._groups.setdefault(profile, Group(profile)))
        self._fits.clear()

    def update(self, agent: Agent) -> None:
        """Take note of an agent's new state."""
        group = self._seats[agent.id].group
        self._leave(agent.id)
        self._sit(agent, group)

    def fit(self, need: Need) -> Fit:
        known = self._fits.get(need)
        if known is None:
            if len(self._fits) >= REMEMBERED_FITS:
                self._fits.clear()
            known = self._fits[need] = self._compare(need)
        return known

    def anyone_idle(self, fit: Fit | None = None) -> bool:
        """Among those who fit, or at all."""
        return bool(self._idle) if fit is None else not self._idle.isdisjoint(fit.groups)

    def choose(self, contact: Contact, fit: Fit, now: float, retry_seconds: float) -> Choice | None:
        """The longest idle who has not yet passed on this contact; failing that, the longest idle who may be asked again."""
        idle = self._idle & fit.groups
        passers = self._idle_among(contact.passed, idle)
        candidates = sum(len(group.idle) for group in idle) - len(passers)
        if candidates:
            idle_since, agent = min(_longest_idle(idle, contact.passed))
            why = f"longest idle of {candidates}"
        else:
            again = [place for place in passers if contact.passed[place[1]]["at"] + retry_seconds <= now]
            if not again:
                return None
            idle_since, agent = min(again)
            candidates = len(again)
            why = "passed on it before, and nobody else fits"
        explanation = {
            "rule": "longest_idle",
            "chosen": agent,
            "why": why,
            "idle_since": idle_since,
            "candidates": candidates,
            "excluded": self._excluded(fit, candidates),
        }
        return Choice(agent, explanation)

    def _sit(self, agent: Agent, group: Group) -> None:
        idle = (agent.idle_since, agent.id) if agent.has_room else None
        group.states[agent.state] += 1
        if idle:
            insort(group.idle, idle)
            self._idle.add(group)
        self._seats[agent.id] = Seat(group, agent.state, idle)

    def _leave(self, agent_id: str) -> Group | None:
        seat = self._seats.pop(agent_id, None)
        if seat is None:
            return None
        seat.group.states[seat.state] -= 1
        if seat.idle:
            _remove(seat.group.idle, seat.idle)
            if not seat.group.idle:
                self._idle.remove(seat.group)
        return seat.group

    def _compare(self, need: Need) -> Fit:
        fit = Fit(set(), Counter())
        for profile, group in self._groups.items():
            objection = profile.objection(need)
            if objection is None:
                fit.groups.add(group)
            else:
                fit.objections[objection] += group.states.total()
        return fit

    def _idle_among(self, agents: Iterable[str], groups: set[Group]) -> list[Place]:
        seats = (self._seats[agent] for agent in agents if agent in self._seats)
        return [seat.idle for seat in seats if seat.idle and seat.group in groups]

    def _excluded(self, fit: Fit, candidates: int) -> dict[str, int]:
        """Everybody who was no candidate, each counted once, by reason."""
        reasons = dict(fit.objections)
        for group in fit.groups:
            for state, count in group.states.items():
                reasons[state] = reasons.get(state, 0) + count
        reasons["passed on it before"] = reasons.pop("available") - candidates
        return {reason: reasons[reason] for reason in sorted(reasons) if reasons[reason]}


class WaitingRoom:
    """All waiting contacts, in one line for each need."""

    def __init__(self) -> None:
        self._lines: dict[Need, list[Place]] = {}
        self._where: dict[str, tuple[Need, Place]] = {}

    def put(self, contact: Contact, need: Need) -> None:
        self.remove(contact.id)
        self._where[contact.id] = (need, contact.place)
        insort(self._lines.setdefault(need, []), contact.place)

    def remove(self, contact_id: str) -> None:
        where = self._where.pop(contact_id, None)
        if where is None:
            return
        need, place = where
        _remove(self._lines[need], place)
        if not self._lines[need]:
            del self._lines[need]

    def with_somebody_idle(self, roster: Roster) -> Iterator[tuple[str, Fit]]:
        """Each contact with its fit, first come first, as long as anybody who suits it is idle.

        The receiver may give the contact away (it leaves its line) or leave it (it is stepped over).
        """
        if not roster.anyone_idle():
            return
        heads = [(line[0], 0, need) for need, line in self._lines.items() if roster.anyone_idle(roster.fit(need))]
        heapq.heapify(heads)
        while heads:
            place, stepped_over, need = heapq.heappop(heads)
            fit = roster.fit(need)
            if not roster.anyone_idle(fit):
                continue
            yield place[1], fit
            if place[1] in self._where:
                stepped_over += 1
            line = self._lines.get(need, [])
            if stepped_over < len(line):
                heapq.heappush(heads, (line[stepped_over], stepped_over, need))


def _longest_idle(groups: Iterable[Group], passed: Mapping[str, Pass]) -> Iterator[Place]:
    """The first of each group, those who passed left aside."""
    for group in groups:
        for place in group.idle:
            if place[1] not in passed:
                yield place
                break


def _remove(ordered: list[Place], place: Place) -> None:
    del ordered[bisect_left(ordered, place)]
