"""What becomes of a contact that one queue or one conversation does not settle: transfers, callbacks, matters that last days."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from . import callback, matters
from .agents import Agents
from .entities import OWN_LEGS, Contact, require_no_number, require_text
from .errors import Conflict, Invalid
from .policy import highest

ONLY_SECONDS = 30.0
"""How long a transfer to a named agent waits for that agent alone."""
SPOKEN = ("voice", "video")
MOST_PARTICIPANTS = 50
FOR_EVER = 366 * 86400.0


class Journeys(Agents):
    def transfer(self, contact_id: str, now: float, *, queue: str = "", agent: str = "", reason: str = "") -> Contact:
        """The agent passes the contact on, to another queue or to an agent by name. What the customer has waited so far counts on."""
        if not queue and not agent:
            raise Invalid("A transfer needs a queue or an agent.")
        return self._pass_to(contact_id, now, queue, agent, reason, wrap_up=True)

    def _pass_to(self, contact_id: str, now: float, queue: str, agent: str, reason: str, *, wrap_up: bool) -> Contact:
        self.now = now
        contact = self._assigned(contact_id)
        require_no_number("A reason", reason)
        target = self._queue(queue or contact.queue)
        if target.mode == "observed":
            raise Conflict(f"Queue {target.name} is observed: nothing can be assigned there.")
        if agent:
            self._require_colleague(agent)
        giver = self.agents[contact.agent or ""]
        spoke = contact.answered_at is not None  # if not, a callback not yet reached: still to be called
        waited = max(0.0, round((contact.answered_at if contact.answered_at is not None else now) - contact.place_at, 3))
        self._tell(
            "contact_transferred",
            contact,
            now,
            agent=giver.id,
            target=agent or target.name,
            reason=reason,
            talk_seconds=_talked(contact, now),
        )
        self._close_leg(contact, "transferred", now)
        wrap_up = wrap_up and spoke and self.queues[contact.queue].wrap_up and giver.presence != "offline"
        self._let_go(giver, contact, now, wrap_up=wrap_up)
        self._next_leg(contact, target.name, now, waited=waited)
        if spoke:
            contact.kind = "transfer"
        if agent:
            contact.reserved_for, contact.reserved_until = agent, now + ONLY_SECONDS
        self._queue_up(contact, now)
        if not spoke:
            self._take_turn(contact)
        return contact

    def requeue(self, contact_id: str, now: float, reason: str = "") -> Contact:
        """The agent cannot serve the contact after all: it waits again in its place, for somebody else."""
        giver = self._assigned(contact_id).agent or ""
        contact = self._pass_to(contact_id, now, self.contacts[contact_id].queue, "", reason or "requeued", wrap_up=False)
        contact.passed = {giver: {"at": now, "declined": 1, "missed": 0}}
        self._save_contact(contact)
        return contact

    def overflow(self, contact: Contact, queue: str, now: float) -> None:
        """Too long in this queue: on to the next, in the place that it has."""
        if queue not in self.queues or queue == contact.queue or self.queues[queue].mode == "observed":
            return
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], "overflowed", now)
        self._tell("contact_overflowed", contact, now, target=queue, waited_seconds=contact.waited(now))
        self._close_leg(contact, "overflowed", now)
        place = contact.place_at
        self._next_leg(contact, queue, now, waited=0.0)
        contact.place_at = place
        self._queue_up(contact, now)

    def confer(self, contact_id: str, now: float, *, agent: str = "", participant: str = "") -> Contact:
        """Somebody joins the conversation: another agent, or a person outside (named, without a number)."""
        self.now = now
        contact = self._assigned(contact_id)
        if agent:
            self._require_colleague(agent)
        require_text("A participant", agent or participant)
        require_no_number("A participant's name", participant)
        if len(contact.conference) >= MOST_PARTICIPANTS:
            raise Conflict(f"{MOST_PARTICIPANTS} have joined contact {contact_id} already: that is the most.")
        contact.conference.append({"agent": agent or None, "participant": participant or None, "at": now})
        self._save_contact(contact)
        self._tell("contact_conferenced", contact, now, agent=agent or None, participant=participant or None)
        return contact

    # Callbacks

    def promise_callback(self, contact_id: str, now: float, number: str, zones: Iterable[str], caller_ref: str = "") -> Contact:
        """The customer need not hold the line: the contact keeps its place, and when its turn comes an agent is reserved and the number
        (E.164) dialled, within the hours of its zones. A call with this `caller_ref` is the same customer's; none: no call is by its number."""
        self.now = now
        contact = self._contact(contact_id)
        if contact.is_promised and contact.state != "assigned":  # its turn may have come already
            return contact
        if contact.state not in ("waiting", "offered", "parked"):
            raise Conflict(f"Contact {contact_id} is {contact.state}: a callback can be promised while it waits.")
        plan = callback.first(number, zones, now, self.callback_rules(contact))
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], "callback_promised", now)
        self._close_leg(contact, "callback", now)
        rules = self.policy_of(contact).callback
        place = contact.place_at if rules is None or rules.keep_place else now
        self._next_leg(contact, contact.queue, now, waited=0.0)
        contact.place_at, contact.kind, contact.caller = place, "callback", number
        contact.facts = {**contact.facts, "caller_ref": caller_ref}
        self._await_turn(contact, plan)
        left = self.callback_rules(contact).attempts - plan.attempts
        self._tell("callback_promised", contact, now, due_at=plan.next_at, attempts_left=left)
        return contact

    def owe_callback(self, contact_id: str, now: float, number: str, zones: Iterable[str], caller_ref: str = "") -> Contact:
        """The agent could not answer, and has promised that somebody will call back: once the conversation is over the contact waits for
        that in the place that it had."""
        self.now = now
        contact = self._assigned(contact_id)
        self._require_reached(contact)
        if contact.owes_callback:
            return contact
        plan = callback.first(number, zones, now, self.callback_rules(contact))
        contact.caller, contact.callback = number, _without_number(plan)
        contact.facts = {**contact.facts, "caller_ref": caller_ref}
        self._save_contact(contact)
        self._tell("callback_promised", contact, now, due_at=plan.next_at, attempts_left=self.callback_rules(contact).attempts)
        return contact

    def _follow_up(self, contact: Contact, now: float) -> None:
        """What was owed begins."""
        plan, place = self.plan_of(contact), contact.place_at
        self._next_leg(contact, contact.queue, now, waited=0.0)
        contact.place_at, contact.kind, contact.ended_by = place, "callback", ""
        self._await_turn(contact, plan)

    def callback_dialled(self, contact_id: str, now: float, outcome: str) -> Contact:
        """What came of dialling: `connected` begins the conversation; after anything else the agent is free, and the rules say when next."""
        self.now = now
        contact = self._assigned(contact_id)
        if not contact.is_promised:
            raise Conflict(f"Contact {contact_id} is not a callback that is being dialled.")
        plan = callback.after(self.plan_of(contact), outcome, now, self.callback_rules(contact))
        agent = self.agents[contact.agent or ""]
        self._tell("callback_dialled", contact, now, agent=agent.id, outcome=outcome)
        contact.callback = _without_number(plan)
        if outcome == "connected":
            contact.answered_at = now
            self._save_contact(contact)
            return contact
        self._let_go(agent, contact, now, wrap_up=False)
        contact.agent = None
        if plan.is_open:
            self._await_turn(contact, plan)
        else:
            contact.state = "abandoned"
            self._end_promise(contact, plan, now)
        return contact

    def cancel_callback(self, contact_id: str, now: float, outcome: str = "cancelled") -> Contact:
        """Nobody is called any more; `merged`: the customer rang meanwhile."""
        self.now = now
        contact = self._contact(contact_id)
        if not contact.is_promised or contact.state == "assigned":
            raise Conflict(f"Contact {contact_id} awaits no callback.")
        plan = callback.closed(self.plan_of(contact), outcome, now)
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], outcome, now)
        contact.state = "released"
        self._end_promise(contact, plan, now)
        return contact

    def forget_customer(self, customer: str, stand_in: str, contacts: Collection[str], now: float) -> None:
        """Nothing tells who they were any more; whoever was promised a callback gets none, for the number is forgotten too. A call that is
        being dialled goes on: it is forgotten when that is said again."""
        self.now, theirs = now, frozenset(contacts)
        for contact in [one for one in self.contacts.values() if one.customer == customer or one.id in theirs]:
            if contact.is_promised and contact.state == "assigned":
                continue
            if contact.is_promised:
                self.cancel_callback(contact.id, now)
            elif contact.owes_callback:
                contact.callback = _without_number(callback.closed(self.plan_of(contact), "cancelled", now))
            contact.forget_customer(stand_in)
            if not contact.is_finished:  # the leg of one that is, is told already
                self._save_contact(contact)

    def callback_rules(self, contact: Contact) -> callback.Rules:
        asked = self.policy_of(contact).callback
        if asked is None:
            return callback.Rules()
        retry = {name: getattr(asked.retry_seconds, name) for name in callback.UNREACHED}
        return callback.Rules(asked.attempts, retry, asked.from_hour, asked.to_hour)

    def plan_of(self, contact: Contact) -> callback.Plan:
        return callback.Plan.from_row({**(contact.callback or {}), "number": contact.caller})

    def _merge_promised(self, contact: Contact, now: float) -> None:
        """The customer rings meanwhile: the call takes the place that the callback kept. Two customers who are known stay two, whatever
        telephone they share."""
        if contact.channel not in SPOKEN or contact.direction != "inbound":
            return
        promised = {id for name in contact.goes_by for id in self._promised.get(name, ())}
        for contact_id in sorted(promised):
            other = self.contacts[contact_id]
            if contact.customer and other.customer and contact.customer != other.customer:
                continue
            contact.place_at = min(contact.place_at, other.place_at)
            self.cancel_callback(contact_id, now, "merged")

    def _await_turn(self, contact: Contact, plan: callback.Plan) -> None:
        """Until its moment it waits apart; from then on in its line, as long as the customer's clock allows."""
        contact.callback = _without_number(plan)
        contact.state = "callback"
        self._take_turn(contact)

    def _take_turn(self, contact: Contact) -> None:
        plan = self.plan_of(contact)
        due = callback.first_due(plan, max(self.now, plan.next_at or 0.0), self.callback_rules(contact))
        if due is not None and due <= self.now:
            if contact.state == "callback":
                contact.state = "waiting"
            self._save_contact(contact)
            return
        if contact.offer is not None:
            self._withdraw(self.offers[contact.offer], "outside_hours", self.now)
        if due is not None:
            contact.state = "callback"
            contact.callback = {**(contact.callback or {}), "next_at": due}
        else:  # the rules leave no hour in which to call
            contact.state = "abandoned"
            self._end_promise(contact, callback.closed(plan, "given_up", self.now), self.now)
            return
        self._save_contact(contact)

    def _end_promise(self, contact: Contact, plan: callback.Plan, now: float) -> None:
        contact.callback = _without_number(plan)
        contact.ended_by = plan.outcome or ""
        self._finish(contact, now)
        self._tell("callback_closed", contact, now, outcome=plan.outcome)

    # Matters in writing

    def reply(self, contact_id: str, agent_id: str, now: float) -> Contact:
        """The agent wrote to the customer. After so much to and fro a call is suggested, once."""
        self.now = now
        contact = self._assigned(contact_id)
        matter = matters.replied(self._matter(contact), agent_id, now)
        suggest = matters.suggest_call(matter, self._matter_rules(contact))
        contact.matter = replace(matter, call_suggested=matter.call_suggested or suggest).to_dict()
        self._save_contact(contact)
        self._tell("contact_replied", contact, now, agent=agent_id, replies=matter.replies, call_suggested=suggest)
        return contact

    def pend(self, contact_id: str, now: float) -> Contact:
        """The agent waits for something, perhaps for days: the capacity is theirs again, the matter stays theirs too."""
        self.now = now
        contact = self._contact(contact_id)
        if contact.state == "pending":
            return contact
        contact = self._assigned(contact_id)
        self._require_reached(contact)
        contact.matter = matters.pended(self._matter(contact)).to_dict()
        agent = self.agents[contact.agent or ""]
        self._close_leg(contact, "completed", now)
        self._tell("contact_pending", contact, now, agent=agent.id, talk_seconds=_talked(contact, now))
        contact.state, contact.pended_at = "pending", now
        self._let_go(agent, contact, now, wrap_up=False)
        self._save_contact(contact)
        return contact

    def resume(self, contact_id: str, now: float) -> Contact:
        """There is news of a pending matter: its owner is asked first, for some of the queue's opening time; then it is anybody's."""
        self.now = now
        contact = self._contact(contact_id)
        if contact.state in ("waiting", "offered", "assigned"):
            return contact
        if contact.state != "pending":
            raise Conflict(f"Contact {contact_id} is {contact.state}, not pending.")
        self._next_leg(contact, contact.queue, now, waited=0.0)
        if contact.kind == "callback":  # that is done: the customer was reached before the matter was pending
            contact.kind = "inbound"
        self._receive(contact, now)
        self._queue_up(contact, now)
        return contact

    def _receive(self, contact: Contact, now: float) -> None:
        """A message of the customer: the reply target runs, and the matter's owner is asked first."""
        if contact.channel in SPOKEN:
            return
        contact.thread = contact.thread or contact.id
        held = self.contacts.get(self._threads.get(contact.thread, ""))
        known = matters.Matter.from_dict(held.matter) if held is not None and held.matter else matters.Matter(contact.thread)
        rules, queue = self._matter_rules(contact), self.queues[contact.queue]

        def add(start: float, seconds: float) -> float | None:
            return self.after_business(queue, start, seconds)

        matter = matters.received(replace(known, state="waiting"), now, rules, add)
        contact.matter = matter.to_dict()
        asked = matters.hands(matter, now, self._is_signed_in, add, rules)
        if asked.owner is not None and asked.owner in self.agents:
            contact.reserved_for, contact.reserved_until = asked.owner, now + FOR_EVER if asked.until is None else asked.until

    def _is_signed_in(self, agent_id: str) -> bool:
        return agent_id in self.agents and self.agents[agent_id].present

    def _matter(self, contact: Contact) -> matters.Matter:
        if contact.matter is None:
            raise Conflict(f"Contact {contact.id} is on {contact.channel}: this is for matters in writing.")
        return matters.Matter.from_dict(contact.matter)

    def _matter_rules(self, contact: Contact) -> matters.Rules:
        queue = self.queues[contact.queue]
        return matters.Rules(queue.reply_seconds, queue.owner_seconds, queue.call_after_replies)

    # Used by several

    def _next_leg(self, contact: Contact, queue: str, now: float, *, waited: float) -> None:
        contact.queue, contact.leg, contact.arrived_at = queue, max(contact.leg, contact.told_leg * OWN_LEGS) + 1, now
        contact.place_at = now - waited
        contact.state, contact.agent, contact.offer = "waiting", None, None
        self._begin_anew(contact)
        contact.reserved_for, contact.reserved_until, contact.passed = None, 0.0, {}
        contact.parked_at = contact.parked_until = contact.answered_at = contact.pended_at = None
        contact.estimate = None

    def _queue_up(self, contact: Contact, now: float) -> None:
        self._save_contact(contact)
        skills = highest(self.queues[contact.queue].required_skills, contact.required_skills)
        self._tell("contact_queued", contact, now, required_skills=skills, kind=contact.kind)

    def _finish(self, contact: Contact, now: float) -> None:
        contact.ended_at = now
        if contact.matter is not None:
            contact.matter = matters.closed(matters.Matter.from_dict(contact.matter)).to_dict()
        self._save_contact(contact)
        self._finished.append(contact.id)

    def _assigned(self, contact_id: str) -> Contact:
        contact = self._contact(contact_id)
        if contact.state != "assigned" or contact.agent is None:
            raise Conflict(f"Contact {contact_id} is {contact.state}, not with an agent.")
        return contact

    def _require_reached(self, contact: Contact) -> None:
        if contact.is_promised:
            raise Conflict(f"Contact {contact.id} is being called back: say what came of that.")


def _talked(contact: Contact, now: float) -> float:
    return round(now - (contact.answered_at if contact.answered_at is not None else now), 3)


def _without_number(plan: callback.Plan) -> dict[str, Any]:
    """The number stands in the contact's own column alone."""
    row = plan.to_row()
    del row["number"]
    return row
