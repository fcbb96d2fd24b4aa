"""From shard to shard: contacts that go on to a queue of another shard's pool, agents who now work in one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from .entities import Agent, Contact, Queue
from .journeys import Journeys

MOVABLE = frozenset({"waiting", "parked", "callback", "pending"})
"""States of a contact in which no agent of this desk has it."""


class Departure(NamedTuple):
    """An agent or a contact that has left this desk: their row is among its changes, for the last time."""

    table: Literal["agents", "contacts"]
    id: str
    pool: str


class Moves(Journeys):
    def holds(self, contact_id: str) -> bool:
        return contact_id in self.contacts and contact_id not in self.shadows

    def let_go(self) -> list[Departure]:
        """Those who belong to another shard's pool and are free to go. An agent at work stays until that is done, and gets nothing new."""
        astray, self._astray = self._astray, {}
        gone = []
        for table, id in astray:
            if table == "agents" and (agent := self.agents.get(id)) and not agent.work and not self.is_ours(agent.pool):
                self._mark("agents", id, agent)
                self._dismiss(agent)
                gone.append(Departure("agents", id, agent.pool))
            elif table == "contacts" and self.holds(id) and self.contacts[id].state in MOVABLE:
                contact = self.contacts[id]
                if not self.is_ours(pool := self.queues[contact.queue].pool):
                    self._mark("contacts", id, contact)
                    self._take_off(contact)
                    gone.append(Departure("contacts", id, pool))
        return gone

    def adopt_contact(self, row: Mapping[str, Any]) -> None:
        contact = Contact.from_row(row)
        if self.holds(contact.id) and not self.contacts[contact.id].is_finished:
            return
        self.shadows.discard(contact.id)
        if known := self.contacts.get(contact.id):
            self._revive(known)
        self.contacts[contact.id] = contact
        self._watch_contact(contact)
        if contact.state == "waiting" and contact.estimate is None:
            self._arrived.append(contact.id)

    def adopt_agent(self, row: Mapping[str, Any]) -> None:
        agent = Agent.from_row(row)
        self.colleagues.pop(agent.id, None)
        if agent.id not in self.agents:
            self._enrol(agent)
            self._noted[agent.id] = (agent.state, agent.presence, agent.reason)

    def adopt_queue(self, row: Mapping[str, Any]) -> None:
        """All desks know all queues; one of them changed it."""
        queue = self.queues[row["name"]] = Queue.from_row(row)
        self._look_again(lambda contact: contact.queue == queue.name)

    def keep_shadow(self, row: Mapping[str, Any]) -> None:
        """Of a contact that has gone on to another shard while one of our agents wraps up: known here, and never written."""
        contact = replace(Contact.from_row(row), state="released")
        self.contacts[contact.id] = contact
        self.shadows.add(contact.id)

    def note_colleague(self, agent_id: str, presence: str) -> None:
        """An agent of another shard came, went, or was lost sight of."""
        self.colleagues[agent_id] = presence
        self._look_after_learners(agent_id, self.now)

    def look_for_strays(self) -> None:
        for agent in self.agents.values():
            if not self.is_ours(agent.pool):
                self._seat(agent)
        self._look_again(lambda contact: not self.is_ours(self.queues[contact.queue].pool))

    def forget(self, before: float, matters_before: float = math.inf) -> None:
        super().forget(before, matters_before)
        if self.shadows:
            at_work = {contact for agent in self.agents.values() for contact in agent.work}
            for contact in self.shadows - at_work:
                self.shadows.remove(contact)
                del self.contacts[contact]

    def _dismiss(self, agent: Agent) -> None:
        del self.agents[agent.id]
        self.colleagues[agent.id] = agent.presence
        for alias in agent.known_as:
            if self._known_as.get(alias) == agent.id:
                del self._known_as[alias]
        for permit in agent.permits.values():
            self._learners_of[permit["supervisor"]].discard(agent.id)
        self._noted.pop(agent.id, None)

    def _take_off(self, contact: Contact) -> None:
        for offer in self._offers_of.pop(contact.id, []):
            self.offers.pop(offer, None)
        self._begin_anew(contact)
        self._to_review.pop(contact.id, None)
        for name in contact.goes_by:
            if awaiting := self._promised.get(name):
                awaiting.pop(contact.id, None)
        if contact.id in self._arrived:
            self._arrived.remove(contact.id)
        del self.contacts[contact.id]
        if any(contact.id in agent.work for agent in self.agents.values()):
            self.keep_shadow(contact.to_row())
