"""The desk: who waits, who is free, who was offered what. One desk holds one pool, in memory.

    desk = Desk.load(queues, agents, contacts, offers)     # rows, once at the start

    desk.expire(now)                                       # first, what was due has happened
    desk.accept(offer_id, agent_id, now)                   # then any number of commands
    desk.assign_pending(now, new_id)                       # last, whoever can be served is offered
    changes = desk.take_changes()                          # rows and events for one transaction

A command checks everything before it changes anything: one that is refused (RoutingError) leaves the desk as it was.
If the transaction fails, throw the desk away and load it again.
Time and ids come from outside; `next_deadline` says when to come back if nothing happens before.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from .entities import (
    Agent,
    AgentState,
    Contact,
    Direction,
    Offer,
    OfferState,
    Pass,
    Queue,
    Row,
    Skills,
    require_seconds,
    require_skills,
    require_text,
)
from .errors import Conflict, Invalid, NotFound
from .matching import Choice, Need, Roster, WaitingRoom

SIGN_IN_STATES = ("available", "paused", "offline")


class Event(NamedTuple):
    """Something that happened. The subject is the contact or the agent whose order of events must be kept."""

    name: str
    subject: str
    data: dict[str, Any]


@dataclass
class Changes:
    """What to write since last asked: whole rows, each once, and the events in their order."""

    queues: list[Row] = field(default_factory=list)
    agents: list[Row] = field(default_factory=list)
    contacts: list[Row] = field(default_factory=list)
    offers: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Deadline(NamedTuple):
    at: float
    kind: Literal["offer", "parked", "retry"]
    id: str


class Desk:
    def __init__(self) -> None:
        # To be read by anyone, changed by commands alone.
        self.queues: dict[str, Queue] = {}
        self.agents: dict[str, Agent] = {}
        self.contacts: dict[str, Contact] = {}
        self.offers: dict[str, Offer] = {}
        # All that follows is derived from these four.
        self._roster = Roster()
        self._waiting = WaitingRoom()
        self._known_as: dict[str, str] = {}  # agent by id, address and alias
        self._offers_of: dict[str, list[str]] = {}  # by contact
        self._deadlines: list[Deadline] = []  # a heap; entries that lost their meaning are dropped when they surface
        self._finished: deque[str] = deque()  # contacts, first finished first
        self._changed: dict[tuple[str, str], Queue | Agent | Contact | Offer] = {}
        self._events: list[Event] = []

    # Loading and saving

    @classmethod
    def load(
        cls,
        queues: Iterable[Mapping[str, Any]],
        agents: Iterable[Mapping[str, Any]],
        contacts: Iterable[Mapping[str, Any]],
        offers: Iterable[Mapping[str, Any]],
    ) -> Self:
        """From rows: all queues and agents, contacts not yet finished or still in wrap-up, and their offers.

        Loading lately finished contacts as well lets the desk answer repeated commands about them.
        """
        desk = cls()
        desk.queues = {queue.name: queue for queue in map(Queue.from_row, queues)}
        for agent in map(Agent.from_row, agents):
            desk._enrol(agent)
        for contact in sorted(map(Contact.from_row, contacts), key=lambda contact: (contact.ended_at or 0, contact.id)):
            desk.contacts[contact.id] = contact
            desk._watch_contact(contact)
            desk._remind_of_retries(contact)
            if contact.is_finished:
                desk._finished.append(contact.id)
        for offer in sorted(map(Offer.from_row, offers), key=lambda offer: (offer.made_at, offer.id)):
            desk._watch_offer(offer)
        return desk

    def take_changes(self) -> Changes:
        """What changed since the last call. From here on the caller is responsible for it."""
        changes = Changes(events=self._events)
        for (table, _), entity in self._changed.items():
            getattr(changes, table).append(entity.to_row())
        self._changed, self._events = {}, []
        return changes

    def forget(self, before: float) -> None:
        """Drop contacts that finished before then, with their offers; the database keeps them."""
        in_wrap_up = []
        while self._finished and (self.contacts[self._finished[0]].ended_at or 0) < before:
            contact = self.contacts[self._finished.popleft()]
            if contact.agent and self.agents[contact.agent].wrapping_up == contact.id:
                in_wrap_up.append(contact.id)
                continue
            for offer_id in self._offers_of.pop(contact.id, []):
                del self.offers[offer_id]
            del self.contacts[contact.id]
        self._finished.extendleft(reversed(in_wrap_up))

    # Queues and agents

    def put_queue(self, queue: Queue) -> Queue:
        """Create or replace a queue. Whoever waits in it is routed by the new settings at once."""
        queue.validate()
        queue = Queue.from_row(queue.to_row())
        self.queues[queue.name] = queue
        self._mark("queues", queue.name, queue)
        for contact in self.contacts.values():
            if contact.queue == queue.name and not contact.is_finished:
                self._watch_contact(contact)
                self._remind_of_retries(contact)
        return queue

    def put_agent(
        self,
        agent_id: str,
        *,
        name: str = "",
        skills: Skills | None = None,
        channels: Iterable[str] = (),
        queues: Iterable[str] = (),
        address: str = "",
        aliases: Iterable[str] = (),
    ) -> Agent:
        """Create an agent, offline, or replace the profile of one, whose state and contact stay."""
        require_text("An agent's id", agent_id)
        require_skills(skills or {})
        aliases = list(aliases)
        self._require_unclaimed(agent_id, [agent_id, address, *aliases])
        agent = self.agents.get(agent_id) or Agent(agent_id)
        for alias in agent.known_as:
            self._known_as.pop(alias, None)
        agent.name, agent.address, agent.aliases = name, address, aliases
        agent.skills, agent.channels, agent.queues = dict(skills or {}), list(channels), list(queues)
        self._enrol(agent)
        self._save_agent(agent)
        return agent

    def find_agent(self, alias: str) -> Agent | None:
        """By id, address or any alias."""
        agent_id = self._known_as.get(alias)
        return self.agents[agent_id] if agent_id else None

    def set_agent_state(self, agent_id: str, state: AgentState, now: float, reason: str = "") -> Agent:
        """What an agent may choose: available, paused or offline.

        With an offer on the table, leaving declines it. During a contact the wish is kept until the contact is over:
        nobody is cut off, and no sign-out is lost. In wrap-up, any choice ends the wrap-up.
        """
        agent = self._agent(agent_id)
        self._require_sign_in_state(state)
        if agent.state == "wrap_up":
            return self.end_wrap_up(agent_id, now, state=state, reason=reason)
        if agent.state == "busy":
            self._plan_state(agent, state, reason)
        elif agent.state == "offered":
            if state != "available":
                self._pass_on(self._offer_held_by(agent), "declined", state, now)
                self._enter(agent, state, now, reason)
        elif (agent.state, agent.reason) != (state, reason):
            self._enter(agent, state, now, reason)
        return agent

    def end_wrap_up(
        self, agent_id: str, now: float, *, state: AgentState | None = None, reason: str = "", disposition: str | None = None
    ) -> Agent:
        """The agent has finished with the contact: on to `state`, or to what they asked for during the contact, or available."""
        agent = self._agent(agent_id)
        if state is not None:
            self._require_sign_in_state(state)
        if agent.state != "wrap_up" or agent.wrapping_up is None:
            raise Conflict(f"Agent {agent_id} is {agent.state}, not in wrap-up.")
        contact = self._contact(agent.wrapping_up)
        if disposition is not None:
            contact.disposition = disposition
            self._save_contact(contact)
        wrapped_up_in = round(now - agent.since, 3)
        self._tell("contact_wrapped_up", contact, now, agent=agent.id, disposition=contact.disposition, wrap_up_seconds=wrapped_up_in)
        agent.wrapping_up = None
        if state is not None:
            self._plan_state(agent, state, reason)
        self._move_on(agent, now)
        return agent

    # Contacts

    def arrive(
        self,
        contact_id: str,
        queue: str,
        now: float,
        *,
        channel: str | None = None,
        required_skills: Skills | None = None,
        customer: str = "",
        caller: str = "",
        direction: Direction = "inbound",
        leg: int = 1,
    ) -> Contact:
        """A contact joins a queue. Said again, it changes nothing; once it is over there, it may join the next (a higher `leg`)."""
        known = self.contacts.get(contact_id)
        comes_again = known is not None and known.is_finished and leg > known.leg
        if known is not None and not comes_again:
            if known.queue != queue:
                raise Conflict(f"Contact {contact_id} has already arrived in queue {known.queue}.")
            return known
        require_text("A contact's id", contact_id)
        require_skills(required_skills or {})
        target = self._queue(queue)
        if target.mode == "observed":
            raise Conflict(f"Queue {queue} is observed: the PBX distributes its contacts, so none can be assigned here.")
        contact = Contact(
            contact_id,
            queue,
            channel or target.channel,
            arrived_at=now,
            leg=leg,
            required_skills=dict(required_skills or {}),
            customer=customer,
            caller=caller,
            direction=direction,
        )
        if comes_again:
            self._finished.remove(contact_id)
        self.contacts[contact.id] = contact
        self._save_contact(contact)
        skills = dict(Need.of(contact, target).skills)
        self._tell("contact_queued", contact, now, required_skills=skills, direction=direction)
        return contact

    def park(self, contact_id: str, now: float, seconds: float) -> Contact:
        """Nobody listens for this contact any more, perhaps for a moment only: keep its place, offer it to nobody."""
        contact = self._contact(contact_id)
        require_seconds("seconds", seconds)
        if contact.state not in ("waiting", "offered"):
            return contact
        self._withdraw_offer(contact, "caller_not_listening", now)
        contact.state = "parked"
        contact.parked_at, contact.parked_until = now, now + seconds
        self._save_contact(contact)
        return contact

    def unpark(self, contact_id: str, now: float) -> Contact:
        """Somebody listens again: the contact is back in its old place."""
        contact = self._contact(contact_id)
        if contact.is_finished:
            raise Conflict(f"Contact {contact_id} is over: it {_fate(contact)}.")
        if contact.state != "parked":
            return contact
        if contact.parked_until is not None and contact.parked_until <= now:
            raise Conflict(f"Contact {contact_id} is over: nobody listened for it for too long.")
        contact.state = "waiting"
        contact.parked_at = contact.parked_until = None
        self._save_contact(contact)
        return contact

    def abandon(self, contact_id: str, now: float, reason: str = "hung_up") -> Contact:
        """The caller left before anybody took the contact. Whoever was just being asked missed nothing."""
        contact = self._contact(contact_id)
        if contact.state == "abandoned":
            return contact
        if contact.state == "assigned":
            raise Conflict(f"Contact {contact_id} is with agent {contact.agent}: it can be completed, not abandoned.")
        if contact.state == "ended":
            raise Conflict(f"Contact {contact_id} is over: it {_fate(contact)}.")
        self._abandon(contact, now, reason)
        return contact

    def complete(self, contact_id: str, now: float, ended_by: str = "") -> Contact:
        """The conversation is over. The agent goes on to wrap-up, which has no limit, if the queue has one."""
        contact = self._contact(contact_id)
        if contact.state == "ended":
            return contact
        if contact.state != "assigned" or contact.agent is None:
            raise Conflict(f"Contact {contact_id} is {contact.state}: only one that is with an agent can be completed.")
        agent = self.agents[contact.agent]
        wrap_up = self.queues[contact.queue].wrap_up and agent.next_state != "offline"  # who has signed out could not end it
        contact.state, contact.ended_by = "ended", ended_by
        self._finish(contact, now)
        answered_at = contact.answered_at or contact.arrived_at
        self._tell(
            "contact_completed",
            contact,
            now,
            agent=agent.id,
            direction=contact.direction,
            waited_seconds=contact.waited(answered_at),
            talk_seconds=round(now - answered_at, 3),
            ended_by=ended_by,
            wrap_up=wrap_up,
        )
        agent.contacts.remove(contact.id)
        if wrap_up:
            agent.wrapping_up = contact.id
            self._enter(agent, "wrap_up", now, contact=contact.id)
        else:
            self._move_on(agent, now)
        return contact

    def hang_up(self, contact_id: str, now: float, ended_by: str = "caller") -> Contact:
        """The line is dead: completed if the contact was with an agent, abandoned if not. Said again, it changes nothing."""
        contact = self._contact(contact_id)
        if contact.is_finished:
            return contact
        if contact.state == "assigned":
            return self.complete(contact_id, now, ended_by)
        return self.abandon(contact_id, now)

    def release(self, contact_id: str, now: float, reason: str) -> Contact:
        """Somebody else serves the contact, perhaps the PBX's own queue: it is ours no longer, and so is what becomes of it."""
        contact = self._contact(contact_id)
        if contact.state in ("waiting", "offered", "parked"):
            self._withdraw_offer(contact, reason, now)
            contact.state = "released"
            self._finish(contact, now)
        return contact

    # Offers

    def assign_pending(self, now: float, new_id: Callable[[], str]) -> list[Offer]:
        """Offer every waiting contact, oldest first, to the longest idle agent who suits it, as long as there is one."""
        made = []
        for contact_id, fit in self._waiting.with_somebody_idle(self._roster):
            contact = self.contacts[contact_id]
            choice = self._roster.choose(contact, fit, now, self.queues[contact.queue].retry_seconds)
            if choice is not None:
                made.append(self._make_offer(contact, choice, now, new_id()))
        return made

    def accept(self, offer_id: str, agent_id: str, now: float) -> Offer:
        """The agent takes the contact. Said again, it changes nothing."""
        offer = self._offer_to(agent_id, offer_id)
        if offer.state == "accepted":
            return offer
        self._require_open(offer, now)
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        self._close(offer, "accepted", "", now)
        contact.state, contact.agent, contact.answered_at = "assigned", agent.id, now
        self._save_contact(contact)
        waited = contact.waited(now)
        self._tell("contact_assigned", contact, now, agent=agent.id, address=agent.address, offer=offer.id, waited_seconds=waited)
        agent.contacts.append(contact.id)
        self._enter(agent, "busy", now, contact=contact.id)
        return offer

    def reject(self, offer_id: str, agent_id: str, now: float, reason: str = "") -> Offer:
        """The agent declines. Said again, it changes nothing."""
        offer = self._offer_to(agent_id, offer_id)
        if offer.state == "declined":
            return offer
        self._require_open(offer, now)
        self._pass_on(offer, "declined", reason, now)
        self._enter(self.agents[agent_id], "available", now)
        return offer

    # Time

    def next_deadline(self) -> float | None:
        """When to call `expire` and `assign_pending` next, if nothing happens before."""
        while self._deadlines and not self._still_means_something(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0].at if self._deadlines else None

    def expire(self, now: float) -> None:
        """What is due by now: offers nobody reacted to, contacts nobody listens for, agents who may be asked again."""
        while (due := self.next_deadline()) is not None and due <= now:
            deadline = heapq.heappop(self._deadlines)
            if deadline.kind == "offer":
                offer = self.offers[deadline.id]
                self._pass_on(offer, "expired", "no_reaction", now)
                self._enter(self.agents[offer.agent], "available", now)
            elif deadline.kind == "parked":
                self._abandon(self.contacts[deadline.id], now, "stopped_listening")
            # A retry needs no more than the call of assign_pending that follows.

    # Transitions, each used by several commands

    def _make_offer(self, contact: Contact, choice: Choice, now: float, offer_id: str) -> Offer:
        agent = self.agents[choice.agent]
        offer = Offer(offer_id, contact.id, agent.id, made_at=now, expires_at=now + self.queues[contact.queue].offer_seconds)
        self._watch_offer(offer)
        self._mark("offers", offer.id, offer)
        contact.state, contact.offer = "offered", offer.id
        self._save_contact(contact)
        self._tell(
            "offer_made",
            contact,
            now,
            offer=offer.id,
            agent=agent.id,
            address=agent.address,
            expires_at=offer.expires_at,
            waited_seconds=contact.waited(now),
            decision=choice.explanation,
        )
        agent.offer = offer.id
        self._enter(agent, "offered", now, contact=contact.id)
        return offer

    def _close(self, offer: Offer, state: OfferState, reason: str, now: float, **more: Any) -> None:
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        offer.state, offer.reason, offer.closed_at = state, reason, now
        contact.offer = agent.offer = None
        self._mark("offers", offer.id, offer)
        open_for = round(now - offer.made_at, 3)
        self._tell(f"offer_{state}", contact, now, offer=offer.id, agent=agent.id, reason=reason, open_seconds=open_for, **more)

    def _pass_on(self, offer: Offer, state: Literal["declined", "expired"], reason: str, now: float) -> None:
        """The agent let the contact go by: it waits again, in its old place."""
        contact = self.contacts[offer.contact]
        before = contact.passed.get(offer.agent, Pass(at=now, declined=0, missed=0))
        declined = before["declined"] + (state == "declined")
        missed = before["missed"] + (state == "expired")
        contact.passed[offer.agent] = Pass(at=now, declined=declined, missed=missed)
        contact.state = "waiting"
        self._close(offer, state, reason, now, declined=declined, missed=missed)
        self._save_contact(contact)
        self._remind(now + self.queues[contact.queue].retry_seconds, "retry", contact.id)

    def _withdraw_offer(self, contact: Contact, reason: str, now: float) -> None:
        """Not the agent's doing: they keep their place among the idle."""
        if contact.offer is None:
            return
        offer = self.offers[contact.offer]
        agent = self.agents[offer.agent]
        idle_since = agent.idle_since
        self._close(offer, "withdrawn", reason, now)
        self._enter(agent, "available", now, idle_since=idle_since)

    def _abandon(self, contact: Contact, now: float, reason: str) -> None:
        self._withdraw_offer(contact, reason, now)
        contact.state = "abandoned"
        self._finish(contact, now)
        left_at = contact.parked_at if contact.parked_at is not None else now
        self._tell("contact_abandoned", contact, now, reason=reason, waited_seconds=contact.waited(left_at))

    def _finish(self, contact: Contact, now: float) -> None:
        contact.ended_at = now
        self._save_contact(contact)
        self._finished.append(contact.id)

    def _plan_state(self, agent: Agent, state: AgentState, reason: str) -> None:
        agent.next_state, agent.next_reason = state, reason
        self._save_agent(agent)

    def _move_on(self, agent: Agent, now: float) -> None:
        """After a contact: to the state the agent asked for meanwhile, else available."""
        state, reason = agent.next_state or "available", agent.next_reason
        agent.next_state, agent.next_reason = None, ""
        self._enter(agent, state, now, reason)

    def _enter(
        self,
        agent: Agent,
        state: AgentState,
        now: float,
        reason: str = "",
        *,
        contact: str | None = None,
        idle_since: float | None = None,
    ) -> None:
        """Whoever becomes available is last among the idle, unless they are given back their place."""
        previous = agent.state
        agent.state, agent.reason, agent.since = state, reason, now
        if state == "available":
            agent.idle_since = now if idle_since is None else idle_since
        self._save_agent(agent)
        data = {"agent": agent.id, "state": state, "previous": previous, "reason": reason, "contact": contact, "at": now}
        self._events.append(Event("agent_state_changed", agent.id, data))

    # Bookkeeping

    def _save_agent(self, agent: Agent) -> None:
        self._mark("agents", agent.id, agent)
        self._roster.update(agent)

    def _save_contact(self, contact: Contact) -> None:
        self._mark("contacts", contact.id, contact)
        self._watch_contact(contact)

    def _mark(self, table: str, key: str, entity: Queue | Agent | Contact | Offer) -> None:
        self._changed[table, key] = entity

    def _tell(self, name: str, contact: Contact, now: float, **more: Any) -> None:
        data = {"contact": contact.id, "queue": contact.queue, "channel": contact.channel, "customer": contact.customer, "at": now}
        self._events.append(Event(name, contact.id, data | more))

    def _enrol(self, agent: Agent) -> None:
        self.agents[agent.id] = agent
        self._roster.enrol(agent)
        self._known_as |= dict.fromkeys(agent.known_as, agent.id)

    def _watch_contact(self, contact: Contact) -> None:
        """Put the contact where its state says: in its line, or nowhere."""
        self._waiting.remove(contact.id)
        if contact.state == "waiting":
            queue = self.queues[contact.queue]
            if queue.mode == "routed":
                self._waiting.put(contact, Need.of(contact, queue))
        elif contact.state == "parked" and contact.parked_until is not None:
            self._remind(contact.parked_until, "parked", contact.id)

    def _remind_of_retries(self, contact: Contact) -> None:
        for passed in contact.passed.values():
            self._remind(passed["at"] + self.queues[contact.queue].retry_seconds, "retry", contact.id)

    def _watch_offer(self, offer: Offer) -> None:
        self.offers[offer.id] = offer
        self._offers_of.setdefault(offer.contact, []).append(offer.id)
        if offer.state == "open":
            self._remind(offer.expires_at, "offer", offer.id)

    def _remind(self, at: float, kind: Literal["offer", "parked", "retry"], subject: str) -> None:
        heapq.heappush(self._deadlines, Deadline(at, kind, subject))

    def _still_means_something(self, deadline: Deadline) -> bool:
        if deadline.kind == "offer":
            offer = self.offers.get(deadline.id)
            return offer is not None and offer.state == "open"
        contact = self.contacts.get(deadline.id)
        if contact is None:
            return False
        if deadline.kind == "parked":
            return contact.state == "parked" and contact.parked_until == deadline.at
        return not contact.is_finished

    # Looking up and refusing

    def _queue(self, name: str) -> Queue:
        if name not in self.queues:
            raise NotFound(f"There is no queue {name}.")
        return self.queues[name]

    def _agent(self, agent_id: str) -> Agent:
        if agent_id not in self.agents:
            raise NotFound(f"There is no agent {agent_id}.")
        return self.agents[agent_id]

    def _contact(self, contact_id: str) -> Contact:
        if contact_id not in self.contacts:
            raise NotFound(f"There is no contact {contact_id}.")
        return self.contacts[contact_id]

    def _offer_to(self, agent_id: str, offer_id: str) -> Offer:
        self._agent(agent_id)
        offer = self.offers.get(offer_id)
        if offer is None:
            raise NotFound(f"There is no offer {offer_id}.")
        if offer.agent != agent_id:
            raise Conflict(f"Offer {offer_id} was made to another agent than {agent_id}.")
        return offer

    def _offer_held_by(self, agent: Agent) -> Offer:
        assert agent.offer is not None, "an agent who is offered something has an offer"
        return self.offers[agent.offer]

    def _require_open(self, offer: Offer, now: float) -> None:
        if offer.state == "open" and now < offer.expires_at:
            return
        if offer.state in ("open", "expired"):
            raise Conflict(f"Offer {offer.id} has expired: nobody reacted within {offer.expires_at - offer.made_at:g} s.")
        because = f" ({offer.reason})" if offer.reason else ""
        raise Conflict(f"Offer {offer.id} is no longer open: it was {offer.state}{because}.")

    def _require_sign_in_state(self, state: str) -> None:
        if state not in SIGN_IN_STATES:
            raise Invalid(f"An agent can choose {', '.join(SIGN_IN_STATES)}, not {state!r}.")

    def _require_unclaimed(self, agent_id: str, aliases: Iterable[str]) -> None:
        for alias in filter(None, aliases):
            owner = self._known_as.get(alias, agent_id)
            if owner != agent_id:
                raise Conflict(f"{alias} already stands for agent {owner}, so it cannot stand for {agent_id}.")


def _fate(contact: Contact) -> str:
    fates = {"abandoned": "was abandoned", "released": "is served elsewhere"}
    return fates.get(contact.state, f"was completed by agent {contact.agent}")
