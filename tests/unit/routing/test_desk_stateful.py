"""Any commands in any order: the desk against a model too simple to be wrong, and against its own saved rows."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.routing.domain.desk import Desk, Event
from services.routing.domain.entities import Agent, Contact, Queue
from services.routing.domain.errors import RoutingError

Tables = dict[str, dict[str, dict[str, Any]]]

AGENTS = st.sampled_from(["anna", "bob", "carl", "nobody"])
CONTACTS = st.sampled_from([f"c{number}" for number in range(8)])
OFFERS = st.integers(1, 40).map("o{}".format)
QUEUES = st.sampled_from(["sales", "support", "watched"])
SKILLS = st.dictionaries(st.sampled_from(["german", "modem"]), st.integers(1, 5), max_size=2)
CHOICES = st.sampled_from(["available", "available", "paused", "offline", "busy"])


def tables_of(desk: Desk) -> Tables:
    names = ("queues", "agents", "contacts", "offers")
    return {name: {key: entity.to_row() for key, entity in getattr(desk, name).items()} for name in names}


def suits(agent: Agent, contact: Contact, queue: Queue) -> bool:
    return (
        contact.channel in agent.channels
        and (not agent.queues or queue.name in agent.queues)
        and all(agent.skills.get(skill, 0) >= level for skill, level in queue.required_skills.items())
        and all(agent.skills.get(skill, 0) >= level for skill, level in contact.required_skills.items())
    )


@dataclass
class ModelOffer:
    contact: str
    agent: str
    expires_at: float
    state: str = "open"


class Model:
    """What should be true, kept by following the events of the domain one by one, without any index."""

    def __init__(self) -> None:
        self.contacts: dict[str, str] = {}
        self.offers: dict[str, ModelOffer] = {}
        self.missed: Counter[tuple[str, str]] = Counter()
        self.taken_by: dict[str, str] = {}

    def open_offer(self, contact: str) -> ModelOffer | None:
        return next((offer for offer in self.offers.values() if offer.contact == contact and offer.state == "open"), None)

    def withdraw(self, contact: str) -> None:
        offer = self.open_offer(contact)
        if offer:
            offer.state = "withdrawn"

    def expire(self, now: float) -> None:
        for offer in self.offers.values():
            if offer.state == "open" and offer.expires_at <= now:
                offer.state = "expired"
                self.missed[offer.contact, offer.agent] += 1
                self.contacts[offer.contact] = "waiting"


class DeskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.model = Model()
        self.now = 1000.0
        self.ids = map("o{}".format, itertools.count(1))
        self.saved: Tables = {"queues": {}, "agents": {}, "contacts": {}, "offers": {}}

    @initialize(sales_skills=SKILLS, wrap_up=st.booleans())
    def open_the_centre(self, sales_skills: dict[str, int], wrap_up: bool) -> None:
        self.desk.put_queue(Queue("sales", required_skills=sales_skills, offer_seconds=10, retry_seconds=5, wrap_up=wrap_up))
        self.desk.put_queue(Queue("support", offer_seconds=20, retry_seconds=30))
        self.desk.put_queue(Queue("watched", mode="observed"))
        for agent in ("anna", "bob", "carl"):
            self.desk.put_agent(agent, channels=["voice"], skills={"german": 3, "modem": 3})
            self.desk.set_agent_state(agent, "available", self.now)
        self.settle()

    # Commands, sensible or not. `attempt` proves that a refused one changed nothing.

    @rule(contact=CONTACTS, queue=QUEUES, skills=SKILLS)
    def arrive(self, contact: str, queue: str, skills: dict[str, int]) -> None:
        known = self.desk.contacts.get(contact)
        done = self.attempt("arrive", contact, queue, required_skills=skills)
        assert done == (known.queue == queue if known else self.desk.queues[queue].mode == "routed")
        if done:
            self.model.contacts.setdefault(contact, "waiting")
        self.settle()

    @rule(contact=CONTACTS)
    def hang_up(self, contact: str) -> None:
        state = self.model.contacts.get(contact)
        assert self.attempt("hang_up", contact) == (state is not None)
        self.model.withdraw(contact)
        if state in ("waiting", "offered", "parked"):
            self.model.contacts[contact] = "abandoned"
        elif state == "assigned":
            self.model.contacts[contact] = "ended"
        self.settle()

    @rule(contact=CONTACTS)
    def abandon(self, contact: str) -> None:
        done = self.attempt("abandon", contact)
        assert done == (self.model.contacts.get(contact) in ("waiting", "offered", "parked", "abandoned"))
        if done:
            self.model.withdraw(contact)
            self.model.contacts[contact] = "abandoned"
        self.settle()

    @rule(contact=CONTACTS)
    def complete(self, contact: str) -> None:
        done = self.attempt("complete", contact)
        assert done == (self.model.contacts.get(contact) in ("assigned", "ended"))
        if done:
            self.model.contacts[contact] = "ended"
        self.settle()

    @rule(contact=CONTACTS, seconds=st.sampled_from([3, 15]))
    def park(self, contact: str, seconds: float) -> None:
        if self.attempt("park", contact, seconds=seconds) and self.model.contacts[contact] in ("waiting", "offered"):
            self.model.withdraw(contact)
            self.model.contacts[contact] = "parked"
        self.settle()

    @rule(contact=CONTACTS)
    def unpark(self, contact: str) -> None:
        if self.attempt("unpark", contact) and self.model.contacts[contact] == "parked":
            self.model.contacts[contact] = "waiting"
        self.settle()

    @rule(offer=OFFERS, agent=AGENTS, data=st.data())
    def accept(self, offer: str, agent: str, data: st.DataObject) -> None:
        offer, agent = self.perhaps_an_open_offer(offer, agent, data)
        known = self.model.offers.get(offer)
        done = self.attempt("accept", offer, agent)
        assert done == (known is not None and known.agent == agent and known.state in ("open", "accepted"))
        if known and done and known.state == "open":
            assert known.contact not in self.model.taken_by, "assigned twice"
            known.state = "accepted"
            self.model.taken_by[known.contact] = agent
            self.model.contacts[known.contact] = "assigned"
        self.settle()

    @rule(offer=OFFERS, agent=AGENTS, data=st.data())
    def reject(self, offer: str, agent: str, data: st.DataObject) -> None:
        offer, agent = self.perhaps_an_open_offer(offer, agent, data)
        known = self.model.offers.get(offer)
        done = self.attempt("reject", offer, agent)
        assert done == (known is not None and known.agent == agent and known.state in ("open", "declined"))
        if known and done and known.state == "open":
            known.state = "declined"
            self.model.contacts[known.contact] = "waiting"
        self.settle()

    @rule(agent=AGENTS, state=CHOICES)
    def choose_state(self, agent: str, state: Any) -> None:
        done = self.attempt("set_agent_state", agent, state)
        assert done == (agent != "nobody" and state != "busy")
        if done and state != "available":
            for offer in self.model.offers.values():
                if offer.agent == agent and offer.state == "open":
                    offer.state = "declined"
                    self.model.contacts[offer.contact] = "waiting"
        self.settle()

    @rule(agent=AGENTS, disposition=st.sampled_from([None, "sold"]))
    def end_wrap_up(self, agent: str, disposition: str | None) -> None:
        in_wrap_up = agent in self.desk.agents and self.desk.agents[agent].state == "wrap_up"
        assert self.attempt("end_wrap_up", agent, disposition=disposition) == in_wrap_up
        self.settle()

    @rule(agent=st.sampled_from(["anna", "bob", "carl"]), skills=SKILLS, queues=st.sampled_from([[], ["sales"], ["support"]]))
    def train(self, agent: str, skills: dict[str, int], queues: list[str]) -> None:
        self.desk.put_agent(agent, channels=["voice"], skills=skills, queues=queues)
        self.settle()

    @rule(skills=SKILLS, mode=st.sampled_from(["routed", "routed", "observed"]))
    def reshape_support(self, skills: dict[str, int], mode: Any) -> None:
        self.desk.put_queue(Queue("support", mode=mode, required_skills=skills, offer_seconds=20, retry_seconds=30))
        self.desk.expire(self.now)  # the retries are noted anew, those in the past as well
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 3, 5, 10, 40]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        self.model.expire(self.now)
        for contact in self.desk.contacts.values():
            if contact.state == "parked" and (contact.parked_until or 0) <= self.now:
                self.model.contacts[contact.id] = "abandoned"
        self.desk.expire(self.now)
        self.settle()

    @rule()
    def wait_for_the_next_deadline(self) -> None:
        deadline = self.desk.next_deadline()
        if deadline is not None:
            self.let_time_pass(max(0, deadline - self.now))

    @rule()
    def restart(self) -> None:
        """What was saved is all there is to know."""
        rows = json.loads(json.dumps(self.saved))
        desk = Desk.load(*(rows[table].values() for table in ("queues", "agents", "contacts", "offers")))
        desk.expire(self.now)
        assert tables_of(desk) == tables_of(self.desk)
        assert desk.next_deadline() == self.desk.next_deadline()
        assert desk.assign_pending(self.now, self.ids.__next__) == []
        assert desk.take_changes().events == []
        self.desk = desk

    @rule(age=st.sampled_from([0, 20]))
    def forget(self, age: float) -> None:
        before = self.now - age
        wrapping = {agent.wrapping_up for agent in self.desk.agents.values()}
        gone = {c.id for c in self.desk.contacts.values() if c.is_finished and (c.ended_at or 0) < before and c.id not in wrapping}
        self.desk.forget(before)
        for contact in gone:
            del self.saved["contacts"][contact], self.model.contacts[contact]
            self.model.taken_by.pop(contact, None)
            self.model.missed = Counter({key: count for key, count in self.model.missed.items() if key[0] != contact})
        self.saved["offers"] = {key: row for key, row in self.saved["offers"].items() if row["contact"] not in gone}
        self.model.offers = {key: offer for key, offer in self.model.offers.items() if offer.contact not in gone}

    # What must hold whenever the desk has settled

    @invariant()
    def the_desk_agrees_with_the_model(self) -> None:
        assert {contact.id: contact.state for contact in self.desk.contacts.values()} == self.model.contacts
        assert {key: offer.state for key, offer in self.desk.offers.items()} == {key: o.state for key, o in self.model.offers.items()}

    @invariant()
    def only_expired_offers_count_as_missed(self) -> None:
        contacts = self.desk.contacts.values()
        missed = {(c.id, agent): passed["missed"] for c in contacts for agent, passed in c.passed.items() if passed["missed"]}
        assert missed == self.model.missed

    @invariant()
    def nobody_holds_more_than_one(self) -> None:
        open_offers = [offer for offer in self.desk.offers.values() if offer.state == "open"]
        assert max(Counter(offer.contact for offer in open_offers).values(), default=0) <= 1
        on_offer = {contact.offer for contact in self.desk.contacts.values() if contact.offer}
        assert on_offer == {offer.id for offer in open_offers}
        for agent in self.desk.agents.values():
            offered = [offer.id for offer in open_offers if offer.agent == agent.id]
            assigned = [c.id for c in self.desk.contacts.values() if c.state == "assigned" and c.agent == agent.id]
            assert offered == ([agent.offer] if agent.offer else [])
            assert assigned == agent.contacts
            assert len(offered) + len(assigned) <= 1
            assert (agent.state == "offered", agent.state == "busy") == (bool(offered), bool(assigned))
            assert (agent.state == "wrap_up") == (agent.wrapping_up is not None)

    @invariant()
    def nobody_waits_while_somebody_who_suits_is_idle(self) -> None:
        deadline = self.desk.next_deadline()
        for contact in self.desk.contacts.values():
            queue = self.desk.queues[contact.queue]
            if contact.state != "waiting" or queue.mode == "observed":
                continue
            for agent in self.desk.agents.values():
                if agent.state == "available" and suits(agent, contact, queue):
                    assert agent.id in contact.passed, f"{contact.id} waits while {agent.id} is idle"
                    retry_at = contact.passed[agent.id]["at"] + queue.retry_seconds
                    assert retry_at > self.now, f"{contact.id} waits while {agent.id} could be asked again"
                    assert deadline is not None and deadline <= retry_at, "the retry would come late"

    @invariant()
    def the_timer_misses_nothing(self) -> None:
        deadline = self.desk.next_deadline()
        due = [offer.expires_at for offer in self.desk.offers.values() if offer.state == "open"]
        due += [contact.parked_until or 0 for contact in self.desk.contacts.values() if contact.state == "parked"]
        if due:
            assert deadline is not None and self.now < deadline <= min(due)

    # The handler's part

    def attempt(self, command: str, *args: Any, **more: Any) -> bool:
        before = tables_of(self.desk)
        try:
            getattr(self.desk, command)(*args, now=self.now, **more)
        except RoutingError as refusal:
            assert str(refusal).endswith(".")
            assert tables_of(self.desk) == before
            assert not any(vars(self.desk.take_changes()).values())
            return False
        return True

    def perhaps_an_open_offer(self, offer: str, agent: str, data: st.DataObject) -> tuple[str, str]:
        """Mostly the right agent for a real offer, or else most answers would be refused."""
        open_offers = [key for key, known in self.model.offers.items() if known.state == "open"]
        if open_offers and data.draw(st.integers(0, 3)):
            offer = data.draw(st.sampled_from(open_offers))
            agent = self.model.offers[offer].agent
        return offer, agent

    def settle(self) -> None:
        expected = self.expected_offers()
        made = self.desk.assign_pending(self.now, self.ids.__next__)
        assert [(offer.contact, offer.agent) for offer in made] == expected
        for offer in made:
            self.model.offers[offer.id] = ModelOffer(offer.contact, offer.agent, offer.expires_at)
            self.model.contacts[offer.contact] = "offered"
        changes = self.desk.take_changes()
        for table, key in {"queues": "name", "agents": "id", "contacts": "id", "offers": "id"}.items():
            self.saved[table].update({row[key]: row for row in getattr(changes, table)})
        assert self.saved == tables_of(self.desk), "a change was not reported"
        self.check_decisions(changes.events)

    def expected_offers(self) -> list[tuple[str, str]]:
        """The rule, spelled out over everybody: oldest contact first, longest idle agent, those who passed on it last."""
        idle = {agent.id: agent for agent in self.desk.agents.values() if agent.state == "available"}
        pairs = []
        for contact in sorted(self.desk.contacts.values(), key=lambda contact: (contact.arrived_at, contact.id)):
            queue = self.desk.queues[contact.queue]
            if contact.state != "waiting" or queue.mode == "observed":
                continue
            ranked = [
                (agent.id in contact.passed, agent.idle_since, agent.id)
                for agent in idle.values()
                if suits(agent, contact, queue)
                and (agent.id not in contact.passed or contact.passed[agent.id]["at"] + queue.retry_seconds <= self.now)
            ]
            if ranked:
                *_, agent_id = min(ranked)
                del idle[agent_id]
                pairs.append((contact.id, agent_id))
        return pairs

    def check_decisions(self, events: list[Event]) -> None:
        for event in events:
            if event.name == "offer_made":
                decision = event.data["decision"]
                assert decision["candidates"] + sum(decision["excluded"].values()) == len(self.desk.agents)
                assert min([decision["candidates"], *decision["excluded"].values()]) > 0


TestDesk = DeskMachine.TestCase
TestDesk.settings = settings(max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
