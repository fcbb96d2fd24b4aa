"""The desk: who waits, who is free, who was offered what. In memory; one desk for each shard of pools.

    desk = Desk.load(queues, agents, contacts, offers, now=now)     # rows, once at the start

    desk.expire(now)                                       # first, what was due has happened
    desk.accept(offer_id, agent_id, now)                   # then any number of commands
    desk.assign_pending(now, new_id)                       # last, whoever can be served is offered
    changes = desk.take_changes()                          # rows and events for one transaction

A command checks everything before it changes anything: one that is refused (RoutingError) leaves the desk as it was.
If the transaction fails, throw the desk away and load it again.
Time and ids come from outside; `next_deadline` says when to come back if nothing happens before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, tzinfo
from itertools import islice
from typing import Any, Literal, NamedTuple

from . import matters
from .book import REPRICE_SECONDS, Changes, Event
from .engine import Decision
from .entities import Contact, Direction, Offer, Queue, Skills, require_no_number, require_seconds, require_skills, require_text
from .errors import Conflict, NotFound
from .hours import EMERGENCY, Opening
from .moves import Moves

__all__ = ["Changes", "Desk", "Event"]

BATCH = 64
"""Decisions in one turn: so many are made in a few milliseconds, and others want their turn."""
LEAVERS = 50
"""Contacts that are sent away in one turn, likewise."""


UNSERVED = ("waiting", "offered", "parked", "callback")


class Farewell(NamedTuple):
    """A contact is to leave the stay in a queue (`leg`) that it waits in."""

    leg: int
    how: Literal["turned_away", "released"]
    cause: str


class Desk(Moves):
    def __init__(self, zone: tzinfo = UTC) -> None:
        super().__init__(zone)
        self._to_leave: dict[str, Farewell] = {}  # contacts
        self._left = 0  # in this turn

    def next_deadline(self) -> float | None:
        return self.now if self._to_leave else super().next_deadline()

    # Contacts

    def arrive(
        self,
        contact_id: str,
        queue: str,
        now: float,
        *,
        channel: str | None = None,
        required_skills: Skills | None = None,
        wants: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
        customer: str = "",
        caller: str = "",
        direction: Direction = "inbound",
        thread: str = "",
        leg: int = 1,
        trace: str = "",
    ) -> Contact:
        """A contact joins a queue. Said again, it changes nothing; once it is over there, it may join the next (a higher `leg`)."""
        self.now = max(self.now, now)
        known = self.contacts.get(contact_id)
        comes_again = known is not None and known.is_finished and leg > known.told_leg
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
            place_at=now,
            leg=leg,
            told_leg=leg,
            required_skills=dict(required_skills or {}),
            wants=dict(wants or {}),
            facts=dict(facts or {}),
            customer=customer,
            caller=caller,
            direction=direction,
            thread=thread,
            trace=trace,
        )
        if known is not None:
            self._revive(known)
        self.contacts[contact.id] = contact
        opening = self._opening_for(target, now)
        if not opening.open:
            contact.state, contact.ended_by = "closed", opening.cause
            self._finish(contact, now)
            self._tell("contact_turned_away", contact, now, cause=opening.cause, opens_at=opening.opens_at)
            return contact
        self._merge_promised(contact, now)
        self._receive(contact, now)
        self._queue_up(contact, now)
        self._arrived.append(contact.id)
        return contact

    def _opening_for(self, queue: Queue, arrived_at: float) -> Opening:
        """Who came in time is let in, though heard of later; but nobody is while there is an emergency."""
        present = self.opening(queue, self.now)
        return present if present.cause == EMERGENCY else self.opening(queue, arrived_at)

    def turn_away(self, queues: set[str] | None, now: float, cause: str, since: float = math.inf) -> int:
        """Those who wait in these queues (None = in any), and came by `since`, are told to come back: an emergency. Returns how many."""
        self.now = now
        waiting = [
            contact
            for contact in self.contacts.values()
            if self._waits_live(contact) and contact.arrived_at <= since and (queues is None or contact.queue in queues)
        ]
        self._to_leave |= {contact.id: Farewell(contact.leg, "turned_away", cause) for contact in waiting}
        self._see_out(now)
        return len(waiting)

    def leave_to_the_pbx(self, now: float) -> None:
        """Whoever still waits in a queue that is observed by now is the PBX's again."""
        self.now = now
        observed = {queue.name for queue in self.queues.values() if queue.mode == "observed"}
        waiting = [contact for contact in self.contacts.values() if contact.queue in observed and contact.state in UNSERVED]
        self._to_leave |= {contact.id: Farewell(contact.leg, "released", "queue_observed") for contact in waiting}
        self._see_out(now)

    def _waits_live(self, contact: Contact) -> bool:
        return contact.state in ("waiting", "offered", "parked") and contact.kind != "callback"

    def _see_out(self, now: float) -> None:
        """So many leave in one turn that writing them down holds up nobody."""
        for contact_id in list(islice(self._to_leave, max(0, LEAVERS - self._left))):
            self._see_off(contact_id, now)

    def _see_off(self, contact_id: str, now: float) -> None:
        farewell, contact = self._to_leave.pop(contact_id), self.contacts.get(contact_id)
        if contact is None or contact.leg != farewell.leg:
            return
        self._left += 1
        if farewell.how == "released":
            self.release(contact_id, now, farewell.cause)
        elif self._waits_live(contact):
            if contact.offer is not None:
                self._withdraw(self.offers[contact.offer], farewell.cause, now)
            contact.state, contact.ended_by = "closed", farewell.cause
            self._finish(contact, now)
            opens_at = self.opening(self.queues[contact.queue], now).opens_at
            self._tell("contact_turned_away", contact, now, cause=farewell.cause, opens_at=opens_at)

    def park(self, contact_id: str, now: float, seconds: float) -> Contact:
        """Nobody listens for this contact any more, perhaps for a moment only: keep its place, offer it to nobody."""
        self.now = now
        contact = self._contact(contact_id)
        require_seconds("seconds", seconds)
        if contact.state not in ("waiting", "offered") or contact.kind == "callback":
            return contact
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], "caller_not_listening", now)
        contact.state = "parked"
        contact.parked_at, contact.parked_until = now, now + seconds
        self._save_contact(contact)
        return contact

    def park_polled(self, now: float, seconds: float) -> list[Contact]:
        """Whoever answered those who ask whom to dial has begun anew: until they ask again it is unknown who is still there, and who went
        on to the telephony system's own queue."""
        polled = [contact for contact in self.contacts.values() if contact.polled and contact.state in ("waiting", "offered")]
        for contact in polled:
            self.park(contact.id, now, seconds)
            if contact.state == "parked":
                self._tell("contact_parked", contact, now, reason="asked_no_more", until=contact.parked_until)
        return polled

    def note_poll(self, contact_id: str) -> None:
        """A telephony system asks whom to dial, and will go on asking for as long as the caller is there."""
        contact = self._contact(contact_id)
        contact.polled = True
        self._mark("contacts", contact_id, contact)

    def unpark(self, contact_id: str, now: float) -> Contact:
        """Somebody listens again: the contact is back in its old place."""
        self.now = now
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
        self.now = now
        contact = self._contact(contact_id)
        if contact.state == "abandoned" or contact.is_promised:
            return contact
        if contact.state in ("assigned", "pending"):
            raise Conflict(f"Contact {contact_id} is with agent {contact.agent}: it can be completed, not abandoned.")
        if contact.is_finished:
            raise Conflict(f"Contact {contact_id} is over: it {_fate(contact)}.")
        self._abandon(contact, now, reason)
        return contact

    def complete(self, contact_id: str, now: float, ended_by: str = "") -> Contact:
        """The conversation is over. The agent goes on to wrap-up, which has no limit, if the queue has one."""
        self.now = now
        contact = self._contact(contact_id)
        if contact.state == "ended":
            return contact
        owed = contact.owes_callback
        if contact.state == "pending":
            contact.ended_by = ended_by
            if not owed:
                contact.state = "ended"
                self._finish(contact, now)
            self._tell("contact_completed", contact, now, agent=contact.agent, ended_by=ended_by, wrap_up=False)
            if owed:
                self._follow_up(contact, now)
            return contact
        if contact.state != "assigned" or contact.agent is None:
            raise Conflict(f"Contact {contact_id} is {contact.state}: only one that is with an agent can be completed.")
        self._require_reached(contact)
        agent = self.agents[contact.agent]
        wrap_up = self.queues[contact.queue].wrap_up and agent.presence != "offline"  # who has signed out could not end it
        contact.ended_by = ended_by
        if owed:
            self._close_leg(contact, "completed", now)
        else:
            contact.state = "ended"
            self._finish(contact, now)
        answered_at = contact.answered_at or contact.arrived_at
        self._tell(
            "contact_completed",
            contact,
            now,
            agent=agent.id,
            waited_seconds=contact.waited(answered_at),
            talk_seconds=round(now - answered_at, 3),
            ended_by=ended_by,
            wrap_up=wrap_up,
        )
        self._let_go(agent, contact, now, wrap_up=wrap_up)
        if owed:
            self._follow_up(contact, now)
        return contact

    def hang_up(self, contact_id: str, now: float, ended_by: str = "caller") -> Contact:
        """The line is dead: completed if the contact was with an agent, abandoned if not. Said again, it changes nothing.
        A customer who was promised a callback may hang up."""
        contact = self._contact(contact_id)
        if contact.is_finished or contact.is_promised:
            return contact
        if contact.state in ("assigned", "pending"):
            return self.complete(contact_id, now, ended_by)
        return self.abandon(contact_id, now)

    def release(self, contact_id: str, now: float, reason: str) -> Contact:
        """Somebody else serves the contact, perhaps the PBX's own queue: it is ours no longer, and so is what becomes of it."""
        self.now = now
        contact = self._contact(contact_id)
        if contact.is_promised and contact.state != "assigned":
            return self.cancel_callback(contact_id, now)
        if contact.state in ("waiting", "offered", "parked"):
            if contact.offer is not None:
                self._withdraw(self.offers[contact.offer], reason, now)
            contact.state = "released"
            self._finish(contact, now)
            self._tell("contact_released", contact, now, reason=reason)
        return contact

    # Offers

    def assign_pending(self, now: float, new_id: Callable[[], str]) -> list[Offer]:
        """Offer whoever waits to whoever suits, the best decisions first; at most BATCH of them (`next_deadline` tells of more)."""
        self.now = max(self.now, now)
        made: list[Offer] = []
        for engine in self.engines.values():
            if engine.pending and len(made) < BATCH:
                for decision in engine.decide(now, BATCH - len(made), self.explains):
                    if decision.contact in self._to_leave:
                        self._see_off(decision.contact, now)
                        self._seat(self.agents[decision.agent])
                    else:
                        made.append(self._make_offer(decision, now, new_id()))
        arrived, self._arrived = self._arrived, []
        for contact_id in arrived:
            if contact_id in self._to_review:
                self._arrived.append(contact_id)
            elif contact := self.contacts.get(contact_id):
                self._foretell(contact)
                self._suggest_channel(contact, now)
        self._spent, self._left = 0.0, 0
        return made

    def accept(self, offer_id: str, agent_id: str, now: float) -> Offer:
        """The agent takes the contact. Said again, it changes nothing."""
        self.now = now
        offer = self._offer_to(agent_id, offer_id)
        if offer.state == "accepted":
            return offer
        self._require_open(offer, now)
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        self._close(offer, "accepted", "", now)
        contact.state, contact.agent = "assigned", agent.id
        if contact.kind != "callback":  # that begins when the number has answered
            contact.answered_at = now
        if contact.matter is not None:
            contact.matter = matters.taken(matters.Matter.from_dict(contact.matter), agent.id).to_dict()
        self._save_contact(contact)
        waited = contact.waited(now)
        self._learn_wait(contact, waited, abandoned=False)
        self._tell("contact_assigned", contact, now, agent=agent.id, address=agent.address, offer=offer.id, waited_seconds=waited)
        self._take_on(agent, contact, "talking", now)
        agent.missed_in_row = 0
        self._count_practice(agent.id, contact.channel)
        self._settle(agent, now, contact=contact.id)
        return offer

    def reject(self, offer_id: str, agent_id: str, now: float, reason: str = "", *, missed: bool = False) -> Offer:
        """The agent declines, or `missed` it: was rung and did not answer. Said again, it changes nothing."""
        self.now = now
        offer = self._offer_to(agent_id, offer_id)
        told = "expired" if missed else "declined"
        if offer.state == told:
            return offer
        require_no_number("A reason", reason)
        self._require_open(offer, now)
        self._pass_on(offer, "expired" if missed else "declined", reason, now)
        return offer

    def overlooked(self, now: float) -> list[str]:
        """Contacts that wait although an agent with room suits them and no rule explains it: there should be none."""
        due = self.next_deadline()
        if due is not None and due <= now:
            return []  # somebody is about to look
        return [contact for engine in self.engines.values() for contact in engine.overlooked(now)]

    # Time

    def expire(self, now: float) -> None:
        """What is due by now: offers nobody reacted to, contacts nobody listens for, steps of policies, ends of certificates."""
        self.now = max(self.now, now)
        again: dict[str, None] = {}
        for deadline in self._due(now):
            match deadline.kind:
                case "offer":
                    self._pass_on(self.offers[deadline.id], "expired", "no_reaction", now)
                case "parked":
                    self._abandon(self.contacts[deadline.id], now, "stopped_listening")
                case "callback" | "hours":
                    if self.contacts[deadline.id].is_promised:
                        self._take_turn(self.contacts[deadline.id])
                case "profile":
                    self._enrol(self.agents[deadline.id])
                case "moment":
                    self._take_step(self.contacts[deadline.id], deadline.at, now)
                    again[deadline.id] = None
                case _:
                    again[deadline.id] = None
        for contact_id in again:
            self._watch_contact(self.contacts[contact_id])
        self._see_out(now)
        self._review()
        if now >= self._repriced_at + REPRICE_SECONDS:
            self._repriced_at = now
            for engine in self.engines.values():
                engine.reprice(now)

    def _suggest_channel(self, contact: Contact, now: float) -> None:
        """Where the customer would be answered sooner on the channel that they prefer, say so (once)."""
        suggest, preferred = self.policy_of(contact).suggest_channels, str(contact.facts.get("preferred_channel") or "")
        target = suggest.to.get(preferred) if suggest else None
        if (
            suggest is None
            or target not in self.queues
            or preferred == contact.channel
            or contact.state != "waiting"
            or not contact.estimate
        ):
            return
        there = self.foresee_in(contact, target, preferred)
        if there is not None and there + suggest.min_gain_seconds <= contact.estimate:
            contact.suggested = preferred
            self._save_contact(contact)
            waits = {"wait_seconds": contact.estimate, "preferred_wait_seconds": there}
            self._tell("channel_suggested", contact, now, preferred=preferred, target=target, **waits)

    def _take_step(self, contact: Contact, moment: float, now: float) -> None:
        due = [to for at, to in self._overflows(contact) if at <= moment]
        if due and contact.kind != "callback" and contact.state != "parked":
            self.overflow(contact, due[-1], now)

    # Transitions, each used by several commands

    def _make_offer(self, decision: Decision, now: float, offer_id: str) -> Offer:
        contact, agent = self.contacts[decision.contact], self.agents[decision.agent]
        offer = Offer(offer_id, contact.id, agent.id, made_at=now, expires_at=now + self.queues[contact.queue].offer_seconds)
        self._watch_offer(offer)
        self._mark("offers", offer.id, offer)
        contact.state, contact.offer = "offered", offer.id
        self._save_contact(contact)
        record = decision.record
        if record:
            self._changes.decisions.append({"id": offer.id, "contact": contact.id, "agent": agent.id, "at": now, "record": record})
        self._tell(
            "offer_made",
            contact,
            now,
            offer=offer.id,
            agent=agent.id,
            address=agent.address,
            expires_at=offer.expires_at,
            waited_seconds=contact.waited(now),
            decision=_brief(record) if record else None,
        )
        if contact.id in agent.work:  # in wrap-up of an earlier leg, and the contact is back
            self._finish_wrap_up(agent, contact, None, now)
        self._take_on(agent, contact, "offered", now)
        self._settle(agent, now, contact=contact.id)
        return offer

    def _abandon(self, contact: Contact, now: float, reason: str) -> None:
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], reason, now)
        if owed := contact.owes_callback:
            self._close_leg(contact, "abandoned", now)
        else:
            contact.state = "abandoned"
            self._finish(contact, now)
        left_at = contact.parked_at if contact.parked_at is not None else now
        self._learn_wait(contact, contact.waited(left_at), abandoned=True)
        self._tell("contact_abandoned", contact, now, reason=reason, waited_seconds=contact.waited(left_at))
        if owed:
            self._follow_up(contact, now)

    def _count_practice(self, agent_id: str, channel: str) -> None:
        agent = self.agents[agent_id]
        if agent.is_certified(channel, self.now):
            return
        today, done = self.day_of(self.now), agent.practised.get(channel)
        taken = done["taken"] + 1 if done and done["day"] == today else 1
        agent.practised[channel] = {"day": today, "taken": taken}

    # Looking up and refusing

    def _offer_to(self, agent_id: str, offer_id: str) -> Offer:
        self.agent(agent_id)
        offer = self.offers.get(offer_id)
        if offer is None:
            raise NotFound(f"There is no offer {offer_id}.")
        if offer.agent != agent_id:
            raise Conflict(f"Offer {offer_id} was made to another agent than {agent_id}.")
        return offer

    def _require_open(self, offer: Offer, now: float) -> None:
        if offer.state == "open" and now < offer.expires_at:
            return
        if offer.state in ("open", "expired"):
            raise Conflict(f"Offer {offer.id} has expired: nobody reacted within {offer.expires_at - offer.made_at:g} s.")
        because = f" ({offer.reason})" if offer.reason else ""
        raise Conflict(f"Offer {offer.id} is no longer open: it was {offer.state}{because}.")


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """A decision in a few numbers; the record has the rest."""
    excluded: dict[str, int] = {}
    candidates = 0
    for group in record["pool"]:
        if group["reason"] == "candidate":
            candidates += group["agents"]
        else:
            excluded[group["reason"]] = excluded.get(group["reason"], 0) + group["agents"]
    told = {name: record[name] for name in ("rule", "policy", "version", "segment", "score")}
    return {**told, "chosen": record["agent"], "candidates": candidates, "excluded": dict(sorted(excluded.items()))}


def _fate(contact: Contact) -> str:
    fates = {"abandoned": "was abandoned", "released": "is served elsewhere", "closed": "came when the queue was closed"}
    return fates.get(contact.state, f"was completed by agent {contact.agent}")
