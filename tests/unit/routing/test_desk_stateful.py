"""Any commands in any order: the desk against a model too simple to be wrong, and against a second desk made from its saved rows.

The model keeps no index and no timer. It knows what may happen, not whom the engine prefers: each offer that the desk makes must be one
that the model allows, and when the desk has settled none must be left that it allows.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.routing.domain.desk import Desk, Event
from services.routing.domain.entities import Offer, Queue, QueueMode
from services.routing.domain.errors import RoutingError
from services.routing.domain.foresight import Experience
from services.routing.domain.hours import Opening
from services.routing.domain.policy import Callback, Levels, Overflow, Policy, Relax, Retry, Segment
from shared.contracts.routing import EVENTS
from tests.thorough import TIMES

Tables = dict[str, dict[str, dict[str, Any]]]

DAY = 86400.0
OPENS, CLOSES = 9 * 3600.0, 20 * 3600.0  # the customers' day, in UTC
NOON, EVENING = 20_000 * DAY + 43_200, 20_000 * DAY + CLOSES - 300  # five minutes before nobody may be called any more
AFFINITY, ONLY, OWNER, BUSY, ATTEMPTS = 15.0, 30.0, 25.0, 40.0, 2
SCHEMAS = {name: schema() for name, schema in EVENTS.items()}

PEOPLE = ["anna", "bob", "carl", "dora"]  # dora is learning: she has certificates for writing alone
AGENTS = [*PEOPLE, "nobody"]
CONTACTS = [f"c{number}" for number in range(9)]
OFFERS = [f"o{number}" for number in range(1, 60)]
ROUTED = {"sales": "voice", "support": "voice", "chat": "chat", "mail": "e-mail"}
QUEUES = [*ROUTED, "sales", "chat", "chat", "watched"]
CHANNELS = ["voice", "voice", "chat", "e-mail"]
SKILLS = [{}, {}, {}, {}, {"german": 2}, {"german": 4}, {"modem": 3}, {"german": 1, "modem": 5}]
LEVELS = [{"german": 3, "modem": 3}, {"german": 5, "modem": 5}, {"german": 1}, {}]
CHOICES = ["available"] * 6 + ["paused", "paused", "offline", "busy"]
CAPACITY = [{"chat": 33, "e-mail": 34}, {"chat": 33, "e-mail": 34}, {"chat": 50}, {}]


def stepped(version: int, overflow_after: float) -> Policy:
    return Policy(
        "stepped",
        version,
        segments=(Segment("vip", weight=5, matches=lambda facts: facts.get("tier") == "vip"),),
        floor=Levels(skills={"german": 1}),
        relax=(Relax(20.125, skills={"german": 2}),),
        overflow=(Overflow(overflow_after, "support"),),
        affinity_seconds=AFFINITY,
        callback=Callback(0, attempts=ATTEMPTS, retry_seconds=Retry(busy=BUSY)),
        scarcity_seconds=0,  # prices follow from what the desk has seen, and rows do not tell that
    )


def tables_of(desk: Desk) -> Tables:
    names = ("queues", "agents", "contacts", "offers")
    return {name: {key: entity.to_row() for key, entity in getattr(desk, name).items()} for name in names}


def within_hours(moment: float) -> bool:
    return OPENS <= moment % DAY < CLOSES


def next_opening(moment: float) -> float:
    return moment if within_hours(moment) else (moment // DAY + (moment % DAY >= OPENS)) * DAY + OPENS


@dataclass
class ModelAgent:
    presence: str = "offline"
    pool: str = "default"
    skills: dict[str, int] = field(default_factory=dict)
    queues: list[str] = field(default_factory=list)
    capacity: dict[str, int] = field(default_factory=dict)
    ends: dict[str, float | None] = field(default_factory=dict)  # certificates: when each ends
    permits: dict[str, tuple[str, int, float]] = field(default_factory=dict)  # supervisor, per day, until
    practised: dict[tuple[str, float], int] = field(default_factory=dict)  # by channel and day
    work: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # contact -> phase, channel, load
    missed_in_row: int = 0

    @property
    def load(self) -> int:
        return sum(load for _, _, load in self.work.values())

    @property
    def state(self) -> str:
        phases = [phase for phase, _, _ in self.work.values()]
        shown = [state for phase, state in (("talking", "busy"), ("wrap_up", "wrap_up"), ("offered", "offered")) if phase in phases]
        return shown[0] if shown else self.presence


@dataclass
class ModelContact:
    id: str
    queue: str
    channel: str
    arrived: float
    place: float
    customer: str = ""
    skills: dict[str, int] = field(default_factory=dict)
    last_agent: str | None = None
    state: str = "waiting"
    kind: str = "inbound"
    leg: int = 1
    told_leg: int = 1
    agent: str | None = None
    answered: float | None = None
    ended: float | None = None
    number: str = ""
    attempts: int = 0
    due: float = 0.0  # the next attempt
    parked_until: float = 0.0
    kept_for: tuple[str, float] | None = None  # agent, until
    passed: dict[str, float] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return self.state in ("ended", "abandoned", "released", "closed")

    @property
    def is_promised(self) -> bool:
        return self.kind == "callback" and self.answered is None and not self.is_finished

    @property
    def promise(self) -> str:
        return ("dialled" if self.state == "assigned" else "promised") if self.is_promised else ""

    def move_on(self, queue: str, now: float, place: float) -> None:
        self.queue, self.leg, self.arrived, self.place = queue, max(self.leg, 1000 * self.told_leg) + 1, now, place
        self.state, self.agent, self.answered, self.kept_for = "waiting", None, None, None
        self.passed, self.missed = {}, {}


@dataclass
class ModelOffer:
    contact: str
    agent: str
    expires_at: float
    state: str = "open"


class Model:
    """What is true, by going through everybody each time."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.agents: dict[str, ModelAgent] = {}
        self.contacts: dict[str, ModelContact] = {}
        self.offers: dict[str, ModelOffer] = {}
        self.overflow_after = 61.25

    # Whom may be asked

    def may_take(self, name: str, channel: str, now: float) -> bool:
        agent = self.agents[name]
        if channel in agent.ends:
            until = agent.ends[channel]
            if until is None or now < until:
                return True
        if channel not in agent.permits:
            return False
        supervisor, per_day, until = agent.permits[channel]
        present = supervisor in self.agents and self.agents[supervisor].presence in ("available", "paused")
        asked = [work for work in agent.work.values() if work[:2] == ("offered", channel)]
        return present and now < until and agent.practised.get((channel, now // DAY), 0) + len(asked) < per_day

    def suits(self, name: str, contact: ModelContact, now: float) -> bool:
        agent, queue = self.agents[name], self.queues[contact.queue]
        return (
            agent.presence == "available"
            and agent.pool == queue.pool
            and (not agent.queues or queue.name in agent.queues)
            and self.may_take(name, contact.channel, now)
            and all(agent.skills.get(skill, 0) >= level for skill, level in self.asked(contact, now).items())
        )

    def asked(self, contact: ModelContact, now: float) -> dict[str, int]:
        queue = self.queues[contact.queue]
        both = {*queue.required_skills, *contact.skills}
        asked = {name: max(queue.required_skills.get(name, 0), contact.skills.get(name, 0)) for name in both}
        if queue.policy == "stepped":
            if now >= contact.place + 20.125 and "german" in asked:
                asked["german"] = min(asked["german"], 2)
            asked["german"] = max(asked.get("german", 0), 1)
        return asked

    def has_room(self, name: str, channel: str) -> bool:
        return self.agents[name].load + self.agents[name].capacity.get(channel, 100) <= 100

    def reserved_for(self, contact: ModelContact, now: float) -> str | None:
        affinity = AFFINITY if self.queues[contact.queue].policy == "stepped" else 0
        for name, until in (contact.kept_for or ("", 0), (contact.last_agent or "", contact.place + affinity)):
            if name and now < until and name not in contact.passed and self.suits(name, contact, now):
                return name
        return None

    def candidates(self, contact: ModelContact, now: float) -> list[str]:
        """With room, and not passed over because they passed."""
        if contact.state != "waiting" or self.queues[contact.queue].mode == "observed":
            return []
        only, retry = self.reserved_for(contact, now), self.queues[contact.queue].retry_seconds
        return [
            name
            for name in self.agents
            if self.suits(name, contact, now)
            and self.has_room(name, contact.channel)
            and only in (None, name)
            and now >= contact.passed.get(name, -DAY) + retry
        ]

    # What happens to several

    def offer_of(self, contact: str) -> ModelOffer | None:
        return next((offer for offer in self.offers.values() if offer.contact == contact and offer.state == "open"), None)

    def held_by(self, agent: str) -> list[ModelOffer]:
        return [offer for offer in self.offers.values() if offer.agent == agent and offer.state == "open"]

    def close(self, offer: ModelOffer, state: str) -> None:
        offer.state = state
        del self.agents[offer.agent].work[offer.contact]
        self.contacts[offer.contact].state = "waiting"

    def withdraw(self, contact: str) -> None:
        if offer := self.offer_of(contact):
            self.close(offer, "withdrawn")

    def decline(self, offer: ModelOffer, now: float) -> None:
        self.close(offer, "declined")
        self.contacts[offer.contact].passed[offer.agent] = now
        self.agents[offer.agent].missed_in_row = 0

    def miss(self, offer: ModelOffer, now: float) -> None:
        self.close(offer, "expired")
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        contact.passed[offer.agent] = now
        contact.missed[offer.agent] = contact.missed.get(offer.agent, 0) + 1
        agent.missed_in_row += 1
        if agent.missed_in_row >= self.queues[contact.queue].miss_limit and agent.presence == "available":
            agent.presence = "paused"
            for held in self.held_by(offer.agent):
                self.close(held, "withdrawn")

    def choose(self, name: str, state: str, now: float) -> None:
        agent = self.agents[name]
        if state != "available":
            for offer in self.held_by(name):
                self.decline(offer, now)
        elif agent.presence != "available":
            agent.missed_in_row = 0
        agent.presence = state
        if state not in ("available", "paused"):
            self.leave_learners(name, now)

    def leave_learners(self, supervisor: str, now: float) -> None:
        for learner, agent in self.agents.items():
            for offer in self.held_by(learner):
                channel = self.contacts[offer.contact].channel
                end = agent.ends.get(channel, 0.0)
                certified = end is None or now < end
                if channel in agent.permits and agent.permits[channel][0] == supervisor and not certified:
                    self.close(offer, "withdrawn")

    def finish(self, contact: ModelContact, state: str, now: float) -> None:
        self.withdraw(contact.id)
        contact.state, contact.ended = state, now

    def let_go(self, contact: ModelContact, wrap_up: bool) -> None:
        agent = self.agents[contact.agent or ""]
        _, channel, load = agent.work.pop(contact.id)
        if wrap_up and self.queues[contact.queue].wrap_up and agent.presence != "offline":
            agent.work[contact.id] = ("wrap_up", channel, load)

    def await_turn(self, contact: ModelContact, now: float) -> None:
        self.withdraw(contact.id)
        contact.due = next_opening(max(now, contact.due))
        contact.state = "waiting" if contact.due <= now else "callback"

    # Time

    def due(self, now: float) -> Iterator[tuple[float, str, str]]:
        """What time alone will do: when, what, and to whom."""
        for contact in self.contacts.values():
            on_its_way = contact.state in ("waiting", "offered")
            if contact.state == "callback":
                yield contact.due, "callback", contact.id
            if contact.kind == "callback" and on_its_way:
                yield now // DAY * DAY + CLOSES, "hours", contact.id
            overflows_at = contact.place + self.overflow_after
            may_overflow = contact.kind != "callback" and contact.queue == "sales" and self.queues["support"].mode == "routed"
            if may_overflow and on_its_way and overflows_at > contact.arrived:
                yield overflows_at, "overflow", contact.id
            if contact.state == "parked":
                yield contact.parked_until, "parked", contact.id
        for key, offer in self.offers.items():
            if offer.state == "open":
                yield offer.expires_at, "offer", key

    def changes_at(self, now: float) -> Iterator[float]:
        """When somebody who waits may be asked of others than now."""
        for contact in self.contacts.values():
            if contact.state == "waiting" and self.queues[contact.queue].mode == "routed":
                yield from (at + self.queues[contact.queue].retry_seconds for at in contact.passed.values())
                if self.queues[contact.queue].policy == "stepped":
                    yield contact.place + 20.125
                    if contact.last_agent and self.reserved_for(contact, now) == contact.last_agent:
                        yield contact.place + AFFINITY
                if contact.kept_for and self.reserved_for(contact, now) == contact.kept_for[0]:
                    yield contact.kept_for[1]
        for agent in self.agents.values():
            yield from (until for until in agent.ends.values() if until is not None)
            yield from (until for _, _, until in agent.permits.values())

    def expire(self, now: float) -> None:
        while due := sorted(one for one in self.due(now) if one[0] <= now):
            _, kind, key = due[0]
            if kind == "offer":
                self.miss(self.offers[key], now)
                continue
            contact = self.contacts[key]
            if kind in ("callback", "hours"):
                self.await_turn(contact, now)
            elif kind == "overflow":
                self.withdraw(key)
                contact.move_on("support", now, contact.place)
            else:
                self.finish(contact, "abandoned", now)


SEEDS = st.binary(min_size=6, max_size=6)  # Hypothesis varies and shortens the sequence, not what happens in one turn of it
TURNS = {
    "arrive": 5,
    "something_happens_to_a_contact": 8,
    "an_offer_is_answered": 8,
    "something_happens_to_an_agent": 5,
    "training_speaks": 2,
    "the_rules_change": 1,
    "come_late": 2,
    "let_time_pass": 2,
    "the_desk_is_saved": 2,
}
SENSIBLE = {
    "hang_up": (1, "waiting offered parked assigned promised"),
    "abandon": (1, "waiting offered parked"),
    "complete": (2, "assigned pending"),
    "release": (1, "waiting offered parked promised"),
    "park": (2, "waiting offered"),
    "unpark": (2, "parked"),
    "transfer": (3, "assigned"),
    "requeue": (2, "assigned"),
    "confer": (1, "assigned"),
    "promise_callback": (4, "waiting offered parked"),
    "callback_dialled": (20, "dialled"),
    "cancel_callback": (1, "promised"),
    "reply": (1, "assigned"),
    "pend": (2, "assigned"),
    "resume": (4, "pending"),
}
"""Commands, how often, and in which states of a contact they make sense; `promised` is to be called back, `dialled` is being called back."""


class DeskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.closed: set[str] = set()
        self.model = Model()
        self.desk = self.new_desk(Desk())
        self.twin: Desk | None = None
        self.made = 0
        self.saved: Tables = {"queues": {}, "agents": {}, "contacts": {}, "offers": {}}

    def new_desk(self, desk: Desk) -> Desk:
        desk.opening = lambda queue, now: Opening(queue.name not in self.closed, "emergency" if queue.name in self.closed else "hours")
        return desk

    @initialize(seed=SEEDS)
    def open_the_centre(self, seed: bytes) -> None:
        random = Random(seed)
        self.now = random.choice([NOON, EVENING])
        skills, wrap_up, capacity = random.choice(SKILLS), random.random() < 0.5, random.choice(CAPACITY)
        self.put_policy(stepped(1, self.model.overflow_after))
        self.put_policy(Policy("plain", scarcity_seconds=0))
        times: dict[str, Any] = {"offer_seconds": 10, "retry_seconds": 5, "wrap_up": wrap_up}
        written: dict[str, Any] = {"reply_seconds": OWNER, "owner_seconds": OWNER}
        self.put_queue(Queue("sales", policy="stepped", required_skills=skills, **times))
        self.put_queue(Queue("support", policy="plain", offer_seconds=20, retry_seconds=30, miss_limit=2))
        self.put_queue(Queue("chat", channel="chat", policy="plain", **times, **written))
        self.put_queue(Queue("mail", channel="e-mail", policy="plain", wrap_up=False, **written))
        self.put_queue(Queue("watched", policy="plain", mode="observed"))
        for name in PEOPLE:
            channels = ["chat", "e-mail"] if name == "dora" else ["voice", "chat", "e-mail"]
            self.put_agent(name, channels, skills={"german": 3, "modem": 3}, capacity=capacity)
            self.attempt("set_agent_state", name, "available")
            self.model.choose(name, "available", self.now)
        self.settle()

    @rule(seed=SEEDS)
    def something_happens(self, seed: bytes) -> None:
        random = Random(seed)
        (what,) = random.choices([*TURNS], [*TURNS.values()])
        getattr(self, what)(random)

    # What happens to contacts: commands, mostly sensible. `attempt` proves that a refused one changes nothing.

    def something_happens_to_a_contact(self, random: Random) -> None:
        contact = random.choice(CONTACTS)
        known = self.model.contacts.get(contact)
        states = {known.state, known.promise} if known else set()
        weights = {command: weight for command, (weight, among) in SENSIBLE.items() if states & {*among.split()}}
        if not weights or random.random() < 0.1:
            weights = dict.fromkeys(SENSIBLE, 1)
        (command,) = random.choices([*weights], [*weights.values()])
        getattr(self, command)(random, contact)
        self.settle()

    def arrive(self, random: Random) -> None:
        contact, queue, skills = random.choice(CONTACTS), random.choice(QUEUES), random.choice(SKILLS)
        customer, last_agent = random.choice(["", "k1", "k2"]), random.choice([None, *PEOPLE])
        tier, comes_again = random.choice(["", "vip"]), random.random() < 0.8
        known = self.model.contacts.get(contact)
        leg = known.told_leg + comes_again if known else 1
        facts = {"tier": tier} | ({"last_agent": last_agent} if last_agent else {})
        done = self.attempt("arrive", contact, queue, required_skills=skills, customer=customer, facts=facts, leg=leg)
        is_new = known is None or (known.is_finished and comes_again)
        if known is None or is_new:
            assert done == (self.model.queues[queue].mode == "routed")
        else:
            assert done == (known.queue == queue)
        if done and is_new:
            channel = self.model.queues[queue].channel
            new = ModelContact(contact, queue, channel, self.now, self.now, customer, skills, last_agent, leg=leg, told_leg=leg)
            self.model.contacts[contact] = new
            if queue in self.closed:
                self.model.finish(new, "closed", self.now)
            elif channel == "voice":
                self.merge_promised(new)
        self.settle()

    def merge_promised(self, new: ModelContact) -> None:
        for other in self.model.contacts.values():
            if other.is_promised and other.state != "assigned" and new.customer and other.customer == new.customer:
                new.place = min(new.place, other.place)
                self.model.finish(other, "released", self.now)

    def hang_up(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        assert self.attempt("hang_up", contact) == (known is not None)
        if known and not known.is_finished and not known.is_promised:
            self.complete_or_abandon(known)

    def abandon(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("abandon", contact)
        left_unserved = known is not None and known.state in ("waiting", "offered", "parked", "abandoned")
        assert done == bool(known and (known.is_promised or left_unserved))
        if known and done and not known.is_finished and not known.is_promised:
            self.complete_or_abandon(known)

    def complete(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("complete", contact)
        assert done == bool(known and known.state in ("assigned", "pending", "ended") and not known.is_promised)
        if known and done and known.state != "ended":
            self.complete_or_abandon(known)

    def complete_or_abandon(self, contact: ModelContact) -> None:
        if contact.state == "assigned":
            self.model.let_go(contact, wrap_up=True)
        self.model.finish(contact, "ended" if contact.state in ("assigned", "pending") else "abandoned", self.now)

    def release(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        assert self.attempt("release", contact, reason="answered_elsewhere") == (known is not None)
        if known and known.state in ("waiting", "offered", "parked", "callback"):
            self.model.finish(known, "released", self.now)

    def park(self, random: Random, contact: str) -> None:
        seconds = random.choice([3, 15, 70])
        done = self.attempt("park", contact, seconds=seconds)
        known = self.model.contacts.get(contact)
        assert done == (known is not None)
        if known and known.state in ("waiting", "offered") and known.kind != "callback":
            self.model.withdraw(contact)
            known.state, known.parked_until = "parked", self.now + seconds

    def unpark(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        assert self.attempt("unpark", contact) == bool(known and not known.is_finished)
        if known and known.state == "parked":
            known.state = "waiting"

    def transfer(self, random: Random, contact: str) -> None:
        queue = random.choice(["", *ROUTED, "watched"])
        agent = random.choice(["", "", *PEOPLE, "nobody"])
        known = self.model.contacts.get(contact)
        done = self.attempt("transfer", contact, queue=queue, agent=agent)
        target = self.model.queues[queue or (known.queue if known else "sales")]
        assert done == bool((queue or agent) and agent != "nobody" and target.mode == "routed" and known and known.state == "assigned")
        if known and done:
            self.pass_to(known, target.name, wrap_up=True)
            known.kept_for = (agent, self.now + ONLY) if agent else None

    def requeue(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("requeue", contact)
        assert done == bool(known and known.state == "assigned" and self.model.queues[known.queue].mode == "routed")
        if known and known.agent and done:
            giver = known.agent
            self.pass_to(known, known.queue, wrap_up=False)
            known.passed = {giver: self.now}

    def pass_to(self, contact: ModelContact, queue: str, wrap_up: bool) -> None:
        spoke = contact.answered is not None
        waited = (contact.answered if contact.answered is not None else self.now) - contact.place
        self.model.let_go(contact, wrap_up and spoke)
        contact.move_on(queue, self.now, self.now - waited)
        if spoke:
            contact.kind = "transfer"
        else:
            self.model.await_turn(contact, self.now)

    def confer(self, random: Random, contact: str) -> None:
        agent = random.choice(AGENTS)
        known = self.model.contacts.get(contact)
        assert self.attempt("confer", contact, agent=agent) == bool(known and known.state == "assigned" and agent != "nobody")

    # Callbacks

    def promise_callback(self, random: Random, contact: str) -> None:
        zones = random.choice([["UTC"], ["UTC"], []])
        known = self.model.contacts.get(contact)
        done = self.attempt("promise_callback", contact, number="+4930123456", zones=zones)
        promised = known is not None and known.is_promised and known.state != "assigned"
        can_wait = known is not None and known.state in ("waiting", "offered", "parked")
        assert done == bool(promised or (can_wait and zones))
        if known and done and not promised:
            self.model.withdraw(contact)
            known.move_on(known.queue, self.now, known.place)
            known.kind, known.attempts, known.due = "callback", 0, self.now
            self.model.await_turn(known, self.now)

    def callback_dialled(self, random: Random, contact: str) -> None:
        outcome = random.choice(["connected", "busy", "busy", "wrong_number", "engaged"])
        known = self.model.contacts.get(contact)
        done = self.attempt("callback_dialled", contact, outcome=outcome)
        assert done == bool(known and known.state == "assigned" and known.is_promised and outcome != "engaged")
        if known and done:
            known.attempts += 1
            if outcome == "connected":
                known.answered = self.now
            else:
                self.model.let_go(known, wrap_up=False)
                known.agent = None
                if outcome == "busy" and known.attempts < ATTEMPTS + (known.queue != "sales"):
                    known.state, known.due = "callback", self.now + (BUSY if known.queue == "sales" else 300)
                    self.model.await_turn(known, self.now)
                else:
                    self.model.finish(known, "abandoned", self.now)

    def cancel_callback(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("cancel_callback", contact)
        assert done == bool(known and known.is_promised and known.state != "assigned")
        if known and done:
            self.model.finish(known, "released", self.now)

    # Matters in writing

    def reply(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        agent = known.agent if known and known.agent and random.random() < 0.8 else random.choice(AGENTS)
        done = self.attempt("reply", contact, agent)
        assert done == bool(known and known.state == "assigned" and known.channel != "voice" and agent == known.agent)

    def pend(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("pend", contact)
        assert done == bool(
            known and (known.state == "pending" or (known.state == "assigned" and known.channel != "voice" and not known.is_promised))
        )
        if known and known.state == "assigned" and done:
            self.model.let_go(known, wrap_up=False)
            known.state = "pending"

    def resume(self, random: Random, contact: str) -> None:
        known = self.model.contacts.get(contact)
        done = self.attempt("resume", contact)
        assert done == bool(known and known.state in ("pending", "waiting", "offered", "assigned"))
        if known and known.state == "pending" and known.agent:
            owner = known.agent
            known.move_on(known.queue, self.now, self.now)
            known.kept_for = (owner, self.now + OWNER)
            known.kind = "inbound" if known.kind == "callback" else known.kind

    # Offers

    def an_offer_is_answered(self, random: Random) -> None:
        answer = random.choice(["accept", "accept", "accept", "accept all", "reject"])
        open_offers = [(key, known.agent) for key, known in self.model.offers.items() if known.state == "open"]
        offer, agent = random.choice(OFFERS), random.choice(AGENTS)
        if random.random() < 0.95:
            if not open_offers:
                return self.arrive(random)
            offer, agent = random.choice(open_offers)
        if answer == "accept all":
            for one in open_offers:
                self.accept(*one)
        else:
            getattr(self, answer)(offer, agent)
        return self.settle()

    def accept(self, offer: str, agent: str) -> None:
        known = self.model.offers.get(offer)
        done = self.attempt("accept", offer, agent)
        assert done == (known is not None and known.agent == agent and known.state in ("open", "accepted"))
        if known and done and known.state == "open":
            contact, taker = self.model.contacts[known.contact], self.model.agents[agent]
            assert contact.agent is None, "assigned twice"
            known.state, contact.state, contact.agent = "accepted", "assigned", agent
            contact.answered = None if contact.kind == "callback" else self.now
            _, channel, load = taker.work[contact.id]
            taker.work[contact.id] = ("talking", channel, load)
            taker.missed_in_row = 0
            until = taker.ends.get(channel, 0.0)
            if until is not None and self.now >= until:
                today = (channel, self.now // DAY)
                taker.practised[today] = taker.practised.get(today, 0) + 1

    def reject(self, offer: str, agent: str) -> None:
        known = self.model.offers.get(offer)
        done = self.attempt("reject", offer, agent)
        assert done == (known is not None and known.agent == agent and known.state in ("open", "declined"))
        if known and done and known.state == "open":
            self.model.decline(known, self.now)

    # Agents

    def something_happens_to_an_agent(self, random: Random) -> None:
        what = random.choice(["choose"] * 4 + ["end_wrap_up"] * 3 + ["everybody_is_back"] * 2 + ["the_telephone_system_begins_anew"])
        getattr(self, what)(random, random.choice(AGENTS))
        self.settle()

    def choose(self, random: Random, agent: str) -> None:
        self.choose_state(agent, random.choice(CHOICES))

    def choose_state(self, agent: str, state: str) -> None:
        done = self.attempt("set_agent_state", agent, state)
        assert done == (agent != "nobody" and state != "busy")
        if done:
            self.end_wrap_ups(agent)
            self.model.choose(agent, state, self.now)

    def everybody_is_back(self, _random: Random, _agent: str) -> None:
        for agent in PEOPLE:
            if self.model.agents[agent].presence != "available":
                self.choose_state(agent, "available")

    def end_wrap_up(self, random: Random, agent: str) -> None:
        if random.random() < 0.8:
            agent = next((name for name, one in self.model.agents.items() if one.state == "wrap_up"), agent)
        held = [*self.model.agents[agent].work] if agent in self.model.agents else []
        contact, state = random.choice([None, *CONTACTS[:1], *held]), random.choice([None, None, random.choice(CHOICES)])
        code = random.choice([None, "sold"])
        known = self.model.agents.get(agent)
        wrapping = [id for id, work in known.work.items() if work[0] == "wrap_up" and contact in (None, id)] if known else []
        disposition = {"code": code} if code else None
        done = self.attempt("end_wrap_up", agent, contact_id=contact, state=state, disposition=disposition)
        assert done == (bool(wrapping) and state != "busy")
        if done:
            self.end_wrap_ups(agent, contact)
            if state is not None:
                self.model.choose(agent, state, self.now)

    def end_wrap_ups(self, name: str, contact: str | None = None) -> None:
        agent = self.model.agents[name]
        agent.work = {id: work for id, work in agent.work.items() if work[0] != "wrap_up" or contact not in (None, id)}

    def the_telephone_system_begins_anew(self, random: Random, agent: str) -> None:
        assert self.attempt("lose_sight", agent) == (agent != "nobody")
        known = self.model.agents.get(agent)
        if known and known.presence in ("available", "paused"):
            for offer in self.model.held_by(agent):
                self.model.close(offer, "withdrawn")
            known.presence = "unknown"
            self.model.leave_learners(agent, self.now)
        self.settle()
        seen = random.choice([None, "available", "available", "paused", "offline"])
        if seen and known:
            assert self.attempt("see_again", agent, seen)
            if known.presence == "unknown":
                self.model.choose(agent, seen, self.now)

    def training_speaks(self, random: Random) -> None:
        news = random.choice(["certify", "lapse", "permit", "permit", "profile"])
        getattr(self, news)(random, random.choice(AGENTS), random.choice(CHANNELS))
        self.settle()

    def profile(self, random: Random, agent: str, channel: str) -> None:
        profile: dict[str, Any] = {"skills": random.choice(LEVELS), "capacity": random.choice(CAPACITY)}
        profile["queues"] = random.choice([[], [], ["sales", "chat"], ["support", "mail"]])
        profile["pool"] = random.choice(["default", "default", "default", "night"])
        if agent != "nobody":
            self.put_agent(agent, self.desk.agents[agent].channels, **profile)

    def certify(self, random: Random, agent: str, channel: str) -> None:
        seconds = random.choice([None, None, -1, 12.25, 50, DAY])
        until = None if seconds is None else self.now + seconds
        assert self.attempt("certify", agent, channel, until) == (agent != "nobody")
        if agent != "nobody":
            self.model.agents[agent].ends[channel] = until

    def lapse(self, random: Random, agent: str, channel: str) -> None:
        assert self.attempt("lapse", agent, channel) == (agent != "nobody")
        if known := self.model.agents.get(agent):
            known.ends.pop(channel, None)
            known.permits.pop(channel, None)
            for offer in self.model.held_by(agent):
                if self.model.contacts[offer.contact].channel == channel:
                    self.model.close(offer, "withdrawn")

    def permit(self, random: Random, agent: str, channel: str) -> None:
        supervisor, per_day = random.choice(["anna", "bob", "nobody"]), random.choice([1, 2, 0])
        until = self.now + random.choice([33.25, 2 * DAY])
        done = self.attempt("permit", agent, channel, {"supervisor": supervisor, "per_day": per_day, "until": until})
        assert done == ("nobody" not in (agent, supervisor) and per_day > 0 and supervisor != agent)
        if done:
            self.model.agents[agent].permits[channel] = (supervisor, per_day, until)

    # Rules

    def the_rules_change(self, random: Random) -> None:
        getattr(self, random.choice(["reshape_support", "change_the_policy", "close_by_hand"]))(random)
        self.settle()

    def reshape_support(self, random: Random) -> None:
        mode: QueueMode = random.choice(["routed", "routed", "observed"])
        pool, skills = random.choice(["default", "default", "night"]), random.choice(SKILLS)
        self.put_queue(replace(self.model.queues["support"], mode=mode, pool=pool, required_skills=skills))

    def change_the_policy(self, random: Random) -> None:
        self.model.overflow_after = random.choice([30.25, 61.25, 100.25])
        self.put_policy(stepped(self.desk.policies["stepped"].version + 1, self.model.overflow_after))

    def close_by_hand(self, random: Random) -> None:
        self.closed = random.choice([set(), set(), {"sales"}, {"chat", "mail"}])
        if random.random() < 0.5:
            assert self.attempt("turn_away", self.closed, cause="emergency")
            for contact in self.model.contacts.values():
                if contact.state in ("waiting", "offered", "parked") and contact.kind != "callback" and contact.queue in self.closed:
                    self.model.finish(contact, "closed", self.now)

    # Time

    def come_late(self, random: Random) -> None:
        """The timer was not served meanwhile: all that was due happens now."""
        self.now += random.choice([0.5, 1, 3, 5, 10, 40])
        self.settle()

    def let_time_pass(self, random: Random) -> None:
        until = self.now + random.choice([5, 10, 10, 20, 20, 30, 60, 300, DAY / 2])
        for _ in range(40):
            deadline = self.desk.next_deadline()
            if deadline is None or deadline > until:
                break
            self.now = deadline
            self.settle()
        else:
            return
        self.now = until
        self.settle()

    # Saving

    def the_desk_is_saved(self, random: Random) -> None:
        random.choice([self.a_second_desk_takes_part, self.a_second_desk_takes_part, self.restart, self.forget])()

    def a_second_desk_takes_part(self) -> None:
        """What was saved is all there is to know."""
        self.twin = self.loaded()
        assert tables_of(self.twin) == tables_of(self.desk)
        assert list(self.offers_of(self.twin, itertools.count(1))) == []
        changes = self.twin.take_changes()
        assert (changes.events, changes.states) == ([], [])

    def restart(self) -> None:
        self.desk, self.twin = self.loaded(), None
        self.settle()

    def loaded(self) -> Desk:
        rows = json.loads(json.dumps(self.saved))
        tables = (rows[table].values() for table in ("queues", "agents", "contacts", "offers"))
        desk = self.new_desk(Desk.load(*tables, now=self.now, policies=self.desk.policies))
        desk.experience |= {name: Experience.from_row(one.to_row()) for name, one in self.desk.experience.items()}
        desk.expire(self.now)
        return desk

    def forget(self) -> None:
        before = self.now - 20
        for desk in self.desks:
            desk.forget(before)
        at_work = {contact for agent in self.model.agents.values() for contact in agent.work}
        contacts = self.model.contacts.values()
        gone = {one.id for one in contacts if one.ended is not None and one.ended < before and one.id not in at_work}
        for contact in gone:
            del self.saved["contacts"][contact], self.model.contacts[contact]
        self.saved["offers"] = {key: row for key, row in self.saved["offers"].items() if row["contact"] not in gone}
        self.model.offers = {key: offer for key, offer in self.model.offers.items() if offer.contact not in gone}

    # What must hold whenever the desk has settled

    @invariant()
    def the_desk_agrees_with_the_model(self) -> None:
        said = {
            one.id: (one.queue, one.leg, one.kind, one.state, one.agent, one.answered_at, one.ended_at, round(one.place_at, 2))
            for one in self.desk.contacts.values()
        }
        true = {
            one.id: (one.queue, one.leg, one.kind, one.state, one.agent, one.answered, one.ended, round(one.place, 2))
            for one in self.model.contacts.values()
        }
        assert said == true
        assert {key: offer.state for key, offer in self.desk.offers.items()} == {key: o.state for key, o in self.model.offers.items()}

    @invariant()
    def agents_are_shown_as_what_they_do(self) -> None:
        for name, agent in self.desk.agents.items():
            true = self.model.agents[name]
            work = {contact: (work["phase"], work["channel"], work["load"]) for contact, work in agent.work.items()}
            assert (agent.presence, work) == (true.presence, true.work)
            assert (agent.state, agent.missed_in_row) == (true.state, true.missed_in_row)

    @invariant()
    def only_expired_offers_count_as_missed(self) -> None:
        for contact in self.desk.contacts.values():
            missed = {agent: passed["missed"] for agent, passed in contact.passed.items() if passed["missed"]}
            assert missed == self.model.contacts[contact.id].missed
            assert {agent: passed["at"] for agent, passed in contact.passed.items()} == self.model.contacts[contact.id].passed

    @invariant()
    def nobody_holds_more_than_they_can(self) -> None:
        for agent in self.desk.agents.values():
            assert 0 <= agent.load <= 100
        open_offers = [offer for offer in self.desk.offers.values() if offer.state == "open"]
        assert {offer.contact: offer.id for offer in open_offers} == {c.id: c.offer for c in self.desk.contacts.values() if c.offer}
        for phase, state in (("offered", "offered"), ("talking", "assigned")):
            held = [contact for agent in self.desk.agents.values() for contact, work in agent.work.items() if work["phase"] == phase]
            assert sorted(held) == sorted(contact.id for contact in self.desk.contacts.values() if contact.state == state)

    @invariant()
    def nobody_waits_while_somebody_who_may_be_asked_has_room(self) -> None:
        for contact in self.model.contacts.values():
            assert self.model.candidates(contact, self.now) == [], f"{contact.id} waits"

    @invariant()
    def nobody_is_called_outside_their_hours(self) -> None:
        for contact in self.desk.contacts.values():
            if contact.kind == "callback" and contact.state in ("waiting", "offered"):
                assert within_hours(self.now)

    @invariant()
    def the_timer_misses_nothing(self) -> None:
        due = [at for at, _, _ in self.model.due(self.now)] + [at for at in self.model.changes_at(self.now) if at > self.now]
        deadline = self.desk.next_deadline()
        assert deadline is None or deadline > self.now
        assert not due or (deadline is not None and deadline <= min(due))

    # The handler's part

    @property
    def desks(self) -> list[Desk]:
        return [self.desk, self.twin] if self.twin else [self.desk]

    def put_queue(self, queue: Queue) -> None:
        for desk in self.desks:
            desk.put_queue(queue)
        self.model.queues[queue.name] = queue

    def put_policy(self, policy: Policy) -> None:
        for desk in self.desks:
            desk.put_policy(policy)

    def put_agent(self, name: str, channels: list[str], **profile: Any) -> None:
        for desk in self.desks:
            desk.put_agent(name, channels=channels, **profile)
        known = self.model.agents.setdefault(name, ModelAgent(ends=dict.fromkeys(channels)))
        for what, value in profile.items():
            setattr(known, what, value)

    def attempt(self, command: str, *args: Any, **more: Any) -> bool:
        """Whether the command was done. Refused, it changes nothing; the second desk does what the first does."""
        note(f"{self.now - NOON:g} {command} {args} {more}")
        answers = {self.attempt_on(desk, command, *args, **more) for desk in self.desks}
        assert len(answers) == 1, answers
        return answers == {None}

    def attempt_on(self, desk: Desk, command: str, *args: Any, **more: Any) -> str | None:
        before = tables_of(desk)
        try:
            getattr(desk, command)(*args, now=self.now, **more)
        except RoutingError as refusal:
            assert str(refusal).endswith(".")
            assert tables_of(desk) == before
            assert not any(vars(desk.take_changes()).values())
            return str(refusal)
        return None

    def settle(self) -> None:
        self.model.expire(self.now)
        for desk in self.desks:
            desk.expire(self.now)
        first = self.made + 1
        made = list(self.offers_of(self.desk, itertools.count(first)))
        for batch in made:
            self.follow(batch)
        changes = self.desk.take_changes()
        for table, key in {"queues": "name", "agents": "id", "contacts": "id", "offers": "id"}.items():
            self.saved[table].update({row[key]: row for row in getattr(changes, table)})
        assert self.saved == tables_of(self.desk), "a change was not reported"
        self.check_events(changes.events)
        if self.twin:
            assert list(self.offers_of(self.twin, itertools.count(first))) == made
            alike = self.twin.take_changes()
            assert by_subject(alike.events) == by_subject(changes.events)
            assert without_estimates(tables_of(self.twin)) == without_estimates(tables_of(self.desk))

    def offers_of(self, desk: Desk, numbers: Iterator[int]) -> Iterator[list[Offer]]:
        while made := desk.assign_pending(self.now, lambda: f"o{next(numbers)}"):
            yield made

    def follow(self, batch: list[Offer]) -> None:
        """Each offer must be one that may be made, and to somebody who let the contact go by only if nobody else is left."""
        given: set[str] = set()
        for offer in batch:
            contact, agent = self.model.contacts[offer.contact], self.model.agents[offer.agent]
            candidates = self.model.candidates(contact, self.now)
            assert offer.agent in candidates, f"{offer.agent} cannot be asked to take {contact.id}"
            if offer.agent in contact.passed:
                assert {*candidates} - {*contact.passed} <= given, "somebody else could be asked"
            given.add(offer.agent)
            load = agent.capacity.get(contact.channel, 100)
            agent.work[contact.id] = ("offered", contact.channel, load)
            contact.state = "offered"
            self.model.offers[offer.id] = ModelOffer(offer.contact, offer.agent, offer.expires_at)
            self.made += 1

    def check_events(self, events: list[Event]) -> None:
        for event in events:
            assert SCHEMAS[f"routing.{event.name}.v1"].validate({**event.data, "at": "2026-01-01T00:00:00Z"} | times(event)) == {}
            if event.name == "offer_made":
                decision = event.data["decision"]
                in_pool = [agent for agent in self.desk.agents.values() if agent.pool == self.desk.queues[event.data["queue"]].pool]
                assert decision["candidates"] + sum(decision["excluded"].values()) == len(in_pool)
                assert min([decision["candidates"], *decision["excluded"].values()]) > 0


def by_subject(events: list[Event]) -> list[Event]:
    """The order of events counts for each subject alone."""
    return sorted(events, key=lambda event: event.subject)


def times(event: Event) -> dict[str, Any]:
    """The handler writes moments as text."""
    return {name: "2026-01-01T00:00:00Z" for name in ("expires_at", "due_at", "opens_at") if event.data.get(name) is not None}


def without_estimates(tables: Tables) -> Tables:
    """What the estimate of a contact that waits was before its correction is not in the rows; what is learned from it differs by that."""
    return {**tables, "contacts": {key: {**row, "estimate": None} for key, row in tables["contacts"].items()}}


TestDesk = pytest.mark.timeout(600)(DeskMachine.TestCase)  # a sequence that fails takes minutes to shorten
TestDesk.settings = settings(max_examples=80 * TIMES, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
