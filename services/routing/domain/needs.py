"""What contacts ask for and agents bring, how well the two fit, and what a pair of them is worth.

Worth is counted in seconds of an ordinary customer's waiting, so that its parts can be weighed against each other by a person.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from .entities import TOP_LEVEL

HALF_IDLE_SECONDS = 600.0
EVERYBODY: Mapping[str, float] = {}


class Need(NamedTuple):
    """What a contact asks of its agent, after policy and relaxation."""

    queue: str
    channel: str
    skills: tuple[tuple[str, int], ...] = ()  # hard minimum levels, sorted
    languages: tuple[tuple[str, int], ...] = ()  # hard
    prefers: tuple[
        tuple[str, str, float], ...
    ] = ()  # soft: (skill | language | region | site | employment | score, name, weight > 0), sorted


class Terms(NamedTuple):
    """How a contact is valued: one for each policy version and segment. Seconds are those of an ordinary customer."""

    policy: str = ""
    version: int = 0
    segment: str = ""
    weight: float = 1.0  # 1 = an ordinary customer
    head_start: float = 0.0
    target: float = 20.0  # service target: the cost of waiting grows with wait / target
    bound: float = math.inf  # nobody waits longer while others pass
    fit_seconds: float = 60.0
    scarcity_seconds: float = 60.0
    idle_seconds: float = 5.0
    load_seconds: float = 10.0


class Score(NamedTuple):
    """How well an agent may do by a scorecard: the upper end of the interval, 0 to 1, and until when that says something of them."""

    best: float
    until: float

    @property
    def step(self) -> float:
        """In twentieths: agents who differ by less differ in nothing that a few evaluations could know."""
        return round(self.best * 20) / 20


class Profile(NamedTuple):
    """What an agent can be asked. Agents of one profile differ in nothing but idleness and load."""

    queues: frozenset[str] = frozenset()  # none named = all
    channels: frozenset[str] = frozenset()
    skills: frozenset[tuple[str, int]] = frozenset()
    languages: frozenset[tuple[str, int]] = frozenset()
    regions: frozenset[str] = frozenset()
    site: str = ""
    employment: str = ""
    capacity: frozenset[tuple[str, int]] = frozenset()
    practice: frozenset[tuple[str, frozenset[str]]] = frozenset()  # channels served in these queues alone
    scores: frozenset[tuple[str, float]] = frozenset()  # by the scorecards that a policy prefers by

    def objection(self, need: Need) -> str | None:
        """The first reason why this profile does not meet the need, or None."""
        if self.queues and need.queue not in self.queues:
            return f"not in queue {need.queue}"
        if need.channel not in self.channels:
            return f"not certified for {need.channel}"
        if any(channel == need.channel and need.queue not in queues for channel, queues in self.practice):
            return f"practises on other queues than {need.queue}"
        for kind, wanted, has in (("skill", need.skills, self.skills), ("language", need.languages, self.languages)):
            if wanted:
                levels = dict(has)
                for name, minimum in wanted:
                    if levels.get(name, 0) < minimum:
                        return f"{kind} {name} below {minimum}"
        return None

    def fit(self, need: Need) -> float:
        """How well, 0 to 1: the share by weight of the preferences met, where a level counts for level / 5.

        Without preferences the mean level / 5 in what is required: better people are a better fit, and what keeps the best free is
        the price of scarcity. Where nothing is asked nothing is missing: 1.
        """
        if need.prefers:
            met = sum(weight * self._meets(kind, name) for kind, name, weight in need.prefers)
            return met / sum(weight for _, _, weight in need.prefers)
        skills, languages = dict(self.skills), dict(self.languages)
        levels = [skills.get(name, 0) for name, _ in need.skills] + [languages.get(name, 0) for name, _ in need.languages]
        return sum(levels) / (TOP_LEVEL * len(levels)) if levels else 1.0

    def _meets(self, kind: str, name: str) -> float:
        if kind == "skill":
            return dict(self.skills).get(name, 0) / TOP_LEVEL
        if kind == "language":
            return dict(self.languages).get(name, 0) / TOP_LEVEL
        if kind == "region":
            return float(name in self.regions)
        if kind == "score":
            return dict(self.scores).get(name, 1.0)  # of whom little is known, nothing is held against them
        return float(name == (self.site if kind == "site" else self.employment))


class Waiting(NamedTuple):
    """A contact in the engine's books."""

    id: str
    since: float  # its place in the line
    need: Need
    terms: Terms
    only: str | None = None  # nobody but this agent may be asked now
    passed: Mapping[str, float] = EVERYBODY  # agent -> may be asked again at

    @property
    def place(self) -> tuple[float, str]:
        return (self.since, self.id)

    def waited(self, now: float) -> float:
        return max(0.0, now - self.since)

    def overdue(self, now: float) -> float:
        """Seconds beyond the bound; below 0 where there is time left."""
        return self.waited(now) - self.terms.bound


class Seat(NamedTuple):
    """An agent in the engine's books."""

    id: str
    profile: Profile
    state: str
    room: frozenset[str]  # channels with room now
    load: int  # percent of their attention in use
    idle_since: float

    @property
    def place(self) -> tuple[float, str]:
        return (self.idle_since, self.id)


def urgency(terms: Any, waited: Any) -> Any:
    """weight × (head start + t + t²/(2·target)): the cost so far of waiting, which grows by 1 + t/target a second.

    A convex cost of delay; to serve by its slope times the speed of service is asymptotically optimal (Van Mieghem 1995, the
    generalised cµ rule). Terms are a contact's, or vectors over many, as the waiting times are.
    """
    return terms.weight * (terms.head_start + waited + waited * waited / (2.0 * terms.target))


def idleness(idle: Any) -> Any:
    """0 to below 1, a half after ten minutes: it orders agents however long they are idle, and stays a small bonus."""
    return idle / (idle + HALF_IDLE_SECONDS)


def suitability(terms: Any, fit: Any, price: Any, load: Any) -> Any:
    """fit − scarcity − load: the part of a pair's worth that time does not change."""
    return terms.fit_seconds * fit - terms.scarcity_seconds * price - terms.load_seconds * (load / 100.0)


def total(terms: Any, waited: Any, suitable: Any, idle: Any) -> Any:
    """The worth of a pair: urgency + suitability + idleness. Numbers or vectors; the sum is the same to the last bit."""
    return urgency(terms, waited) + suitable + terms.idle_seconds * idleness(idle)


class Pair(NamedTuple):
    """A contact and an agent who suits it, with all that their worth depends on."""

    contact: str
    since: float
    terms: Terms
    agent: str
    profile: str
    fit: float
    price: float
    load: int
    idle_since: float
    scores: frozenset[tuple[str, float]] = frozenset()

    def total(self, now: float) -> float:
        waited, idle = max(0.0, now - self.since), max(0.0, now - self.idle_since)
        return float(total(self.terms, waited, suitability(self.terms, self.fit, self.price, self.load), idle))

    def rank(self, now: float) -> tuple[float, float, tuple[float, str], tuple[float, str]]:
        """The smallest goes first: most overdue, then highest worth, then longest waiting, then longest idle."""
        overdue = max(0.0, now - self.since) - self.terms.bound
        return (-overdue if overdue >= 0 else 1.0, -self.total(now), (self.since, self.contact), (self.idle_since, self.agent))


def assign(worth: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column) with the highest sum; -inf = no pair.

    Worth counts from the lowest there is, if that is below 0: nobody is left without a contact because a pair is worth little.
    Method: Crouse 2016 (shortest augmenting paths), scipy's.
    """
    possible = worth > -math.inf
    if not possible.any():
        return []
    floor = min(0.0, float(worth[possible].min()))
    rows, columns = linear_sum_assignment(np.where(possible, worth - floor, 0.0), maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]
