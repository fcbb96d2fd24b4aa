"""What the desk knows, and what follows from it: who stands in which line, what is due when, what has changed since it was last asked.

A pool is a group of agents and queues that work together; each has an engine of its own.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from .callback import QUARTER
from .engine import Engine
from .entities import Agent, Contact, Offer, Queue, Row, Work
from .errors import Conflict, NotFound
from .estimate import Estimate
from .foresight import Experience, Foreseen
from .hours import Opening
from .needs import Need, Profile, Score, Seat, Terms, Waiting
from .policy import DEFAULT, Policy, Segment, affinity_seconds, highest, moments, requirement, scorecards_of, segment_of, terms

Kind = Literal["offer", "parked", "retry", "moment", "callback", "hours", "reserved", "profile"]
Outcome = Literal["completed", "abandoned", "transferred", "overflowed", "callback", "closed"]

REPRICE_SECONDS = 10.0
LEAST_DEADLINES = 10_000
SLICE_SECONDS = 0.01
"""How long in one turn contacts are looked at anew; the others keep their segment and line until then."""


class Event(NamedTuple):
    """Something that happened. The subject is the contact or the agent whose order of events must be kept."""

    name: str
    subject: str
    data: dict[str, Any]
    trace: str = ""


@dataclass
class Changes:
    """What to write since last asked: whole rows, each once, and the events in their order.

    `legs` are stays in a queue that ended although their contact goes on: its row as it was, and `outcome`.
    """

    queues: list[Row] = field(default_factory=list)
    agents: list[Row] = field(default_factory=list)
    contacts: list[Row] = field(default_factory=list)
    offers: list[Row] = field(default_factory=list)
    legs: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)
    states: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Deadline(NamedTuple):
    at: float
    kind: Kind
    id: str


class Shown(NamedTuple):
    """What decides whether a contact that asks for an agent by name waits for them."""

    pool: str
    available: bool
    profile: Profile


def always_open(_queue: Queue, _now: float) -> Opening:
    return Opening(True, "hours")


def every_pool(_pool: str) -> bool:
    return True


class Book:
    def __init__(self, zone: tzinfo = UTC) -> None:
        # To be read by anyone, changed by commands alone.
        self.queues: dict[str, Queue] = {}
        self.agents: dict[str, Agent] = {}
        self.contacts: dict[str, Contact] = {}
        self.offers: dict[str, Offer] = {}
        self.policies: dict[str, Policy] = {}
        self.opening: Callable[[Queue, float], Opening] = always_open
        self.after_business: Callable[[Queue, float, float], float | None] = lambda _queue, start, seconds: start + seconds
        self.experience: defaultdict[str, Experience] = defaultdict(Experience)  # by queue
        self.zone = zone
        self.now = 0.0
        self.stopwatch: Callable[[], float] = lambda: 0.0  # seconds, from any moment on; standing still, a slice has no end
        self.scores: dict[str, Mapping[str, Score]] = {}  # agent -> scorecard -> how well they may do by it, as qa says
        self.departed: set[str] = set()  # people who have left, whether agents of ours or not
        self.explains = True  # whether decisions are recorded; who decides is the same
        # Where there are other shards:
        self.is_ours: Callable[[str], bool] = every_pool
        self.colleagues: dict[str, str] = {}  # agents of other shards -> presence
        self.shadows: set[str] = set()  # contacts that went on to another shard while an agent of ours wraps up
        # All that follows is derived from these.
        self.engines: defaultdict[str, Engine] = defaultdict(Engine)  # by pool
        self._shown: dict[str, Shown] = {}  # agent -> what their pool's engine was told
        self._named: defaultdict[str, dict[str, None]] = defaultdict(dict)  # agent -> contacts that ask for them by name
        self._lined_up: dict[str, str] = {}  # contact -> the pool whose engine holds it
        self._known_as: dict[str, str] = {}  # agent by id, address and alias
        self._learners_of: defaultdict[str, set[str]] = defaultdict(set)  # by supervisor
        self._offers_of: defaultdict[str, list[str]] = defaultdict(list)  # by contact
        self._arrived: list[str] = []  # contacts of which nothing has been foretold yet
        self._segments: dict[str, tuple[Policy, Segment]] = {}  # contact -> its segment under a policy
        self._threads: dict[str, str] = {}  # thread -> the contact that holds its matter
        self._needs: dict[str, Need] = {}  # contact -> what it asked for last
        self._foretold: dict[str, Estimate] = {}
        self._noted: dict[str, tuple[str, str, str]] = {}  # agent -> what was last told of them
        self._promised: defaultdict[str, dict[str, None]] = defaultdict(dict)  # customer or number -> contacts that await a callback
        self._deadlines: list[Deadline] = []  # a heap; entries that lost their meaning are dropped when they surface
        self._finished: deque[str] = deque()  # contacts, first finished first
        self._settled: deque[str] = deque()  # of those the matters in writing, once all others would be forgotten
        self._changed: dict[tuple[str, str], Queue | Agent | Contact | Offer] = {}
        self._changes = Changes()
        self._astray: dict[tuple[str, str], None] = {}  # (table, id) of what may belong to another shard
        self._repriced_at = 0.0
        self._to_review: dict[str, None] = {}  # contacts whose policy or queue has changed since they were looked at
        self._spent = 0.0  # seconds of this turn's slice
        self._cards: frozenset[str] | None = None  # scorecards by which a policy prefers; None: to be looked up

    # Loading and saving

    @classmethod
    def load(
        cls,
        queues: Iterable[Mapping[str, Any]],
        agents: Iterable[Mapping[str, Any]],
        contacts: Iterable[Mapping[str, Any]],
        offers: Iterable[Mapping[str, Any]],
        *,
        now: float = 0.0,
        policies: Mapping[str, Policy] | None = None,
        zone: tzinfo = UTC,
        stopwatch: Callable[[], float] = lambda: 0.0,
    ) -> Self:
        """From rows: all queues and agents, contacts not yet finished or still in wrap-up, and their offers.

        Loading lately finished contacts as well lets the desk answer repeated commands about them.
        """
        desk = cls(zone)
        desk.now, desk.stopwatch = now, stopwatch
        desk.policies = dict(policies or {})
        desk.queues = {queue.name: queue for queue in map(Queue.from_row, queues)}
        loaded = [Agent.from_row(row) for row in agents]
        desk.agents = {agent.id: agent for agent in loaded}
        for agent in loaded:
            desk._enrol(agent)
            desk._noted[agent.id] = (agent.state, agent.presence, agent.reason)
        for contact in sorted(map(Contact.from_row, contacts), key=lambda contact: (contact.ended_at or 0, contact.id)):
            desk.contacts[contact.id] = contact
            desk._watch_contact(contact)
            if contact.is_finished:
                desk._finished.append(contact.id)
            elif contact.kind == "callback":
                desk._remind(now, "hours", contact.id)
        for offer in sorted(map(Offer.from_row, offers), key=lambda offer: (offer.made_at, offer.id)):
            desk._watch_offer(offer)
        return desk

    def take_changes(self) -> Changes:
        """What changed since the last call. From here on the caller is responsible for it."""
        changes, self._changes = self._changes, Changes()
        for (table, _), entity in self._changed.items():
            getattr(changes, table).append(entity.to_row())
        self._changed = {}
        return changes

    def forget_changes(self) -> None:
        """Nobody writes them down: a simulation."""
        self._changes, self._changed = Changes(), {}

    def forget(self, before: float, matters_before: float = math.inf) -> None:
        """Drop contacts that finished before then (matters in writing: before `matters_before` too), with all that is known of them; the
        database keeps them, see `recall`."""
        kept = []
        wrapping_up: set[str] | None = None
        for contact in self._finished_before(self._finished, before):
            if wrapping_up is None:
                wrapping_up = {contact_id for agent in self.agents.values() for contact_id in agent.work}
            if contact.id in wrapping_up:
                kept.append(contact.id)
            elif contact.matter is not None:
                self._settled.append(contact.id)
            else:
                self._drop(contact)
        self._finished.extendleft(reversed(kept))
        for contact in self._finished_before(self._settled, min(before, matters_before)):
            self._drop(contact)
        self._clear_deadlines()

    def _finished_before(self, among: deque[str], before: float) -> Iterable[Contact]:
        while among and (self.contacts[among[0]].ended_at or 0) < before:
            yield self.contacts[among.popleft()]

    def _revive(self, contact: Contact) -> None:
        """One that was over goes on."""
        for over in (self._finished, self._settled):
            if contact.id in over:
                over.remove(contact.id)
        self._begin_anew(contact)

    def recall(self, contact: Mapping[str, Any], offers: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a contact that is over and was forgotten: somebody asks about it again."""
        known = Contact.from_row(contact)
        if known.id not in self.contacts:
            self.contacts[known.id] = known
            self._finished.appendleft(known.id)
            for row in offers:
                self._watch_offer(Offer.from_row(row))

    def _drop(self, contact: Contact) -> None:
        for offer_id in self._offers_of.pop(contact.id, []):
            del self.offers[offer_id]
        del self.contacts[contact.id]
        self._begin_anew(contact)
        if self._threads.get(contact.thread) == contact.id:
            del self._threads[contact.thread]

    def _clear_deadlines(self) -> None:
        """Those that lost their meaning long before they are due would never surface."""
        if len(self._deadlines) > LEAST_DEADLINES + 2 * (len(self.contacts) + len(self.agents)):
            self._deadlines = [one for one in set(self._deadlines) if self._still_means_something(one)]
            heapq.heapify(self._deadlines)

    # Time

    def next_deadline(self) -> float | None:
        """When to call `expire` and `assign_pending` next, if nothing happens before."""
        if self._to_review or any(engine.pending for engine in self.engines.values()):
            return self.now
        while self._deadlines and not self._still_means_something(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0].at if self._deadlines else None

    def _due(self, now: float) -> Iterable[Deadline]:
        while self._deadlines and self._deadlines[0].at <= now:
            deadline = heapq.heappop(self._deadlines)
            while self._deadlines and self._deadlines[0] == deadline:
                heapq.heappop(self._deadlines)
            if self._still_means_something(deadline):
                yield deadline

    def _remind(self, at: float, kind: Kind, subject: str) -> None:
        heapq.heappush(self._deadlines, Deadline(at, kind, subject))

    def _still_means_something(self, deadline: Deadline) -> bool:
        if deadline.kind == "profile":
            return deadline.id in self.agents
        if deadline.kind == "offer":
            offer = self.offers.get(deadline.id)
            return offer is not None and offer.state == "open"
        contact = self.contacts.get(deadline.id)
        if contact is None:
            return False
        match deadline.kind:
            case "parked":
                return contact.state == "parked" and contact.parked_until == deadline.at
            case "callback":
                return contact.state == "callback" and (contact.callback or {}).get("next_at") == deadline.at
            case _:
                return contact.state in ("waiting", "offered", "parked")

    # Slices

    @property
    def has_time(self) -> bool:
        return self._spent < SLICE_SECONDS

    def _review(self) -> None:
        """Look at contacts anew, as many as the slice has time for. The next turn goes on with the others."""
        while self._to_review and self.has_time:
            contact_id = next(iter(self._to_review))
            del self._to_review[contact_id]
            contact = self.contacts.get(contact_id)
            if contact is not None and not contact.is_finished:
                before, began = self._spent, self.stopwatch()
                self._watch_contact(contact)
                self._spent = before + self.stopwatch() - began

    # Rules

    def policy_of(self, contact: Contact) -> Policy:
        return self.policies.get(self.queues[contact.queue].policy, DEFAULT)

    def facts_of(self, contact: Contact) -> dict[str, Any]:
        """What the rules of a policy may ask about."""
        zone = self.queues[contact.queue].zone
        local = datetime.fromtimestamp(contact.arrived_at, ZoneInfo(zone) if zone else self.zone)
        told = {"customer": contact.customer, "channel": contact.channel, "queue": contact.queue, "direction": contact.direction}
        when = {"hour": local.hour, "weekday": local.isoweekday()}
        return {**contact.facts, **contact.wants, **told, **when}

    def day_of(self, now: float) -> int:
        """Which day it is at the centre, counted from year 1."""
        return datetime.fromtimestamp(now, self.zone).toordinal()

    # Foresight

    def foresee(self, contact: Contact) -> Foreseen | None:
        """Position and estimated wait of a contact that waits in a line; None for others."""
        pool = self._lined_up.get(contact.id)
        if pool is None:
            return None
        standing = self.engines[pool].standing(contact.id, self.now)
        estimate = self.experience[contact.queue].estimate(standing.ahead, standing.servers)
        return Foreseen(standing.position, None if estimate is None else round(estimate.seconds, 1))

    def foresee_in(self, contact: Contact, queue: str, channel: str) -> float | None:
        """How long the contact would wait in another queue; None where nobody could take it there."""
        policy = self.policies.get(self.queues[queue].policy, DEFAULT)
        there = replace(contact, queue=queue, channel=channel, place_at=self.now, arrived_at=self.now)
        facts = self.facts_of(there)
        segment = segment_of(policy, facts)
        need, _ = self.need_of(there, policy, segment, facts)
        engine = self.engines[self.queues[queue].pool]
        engine.put_contact(Waiting(f"?{contact.id}", self.now, need, Terms(**terms(policy, segment)), None, {}))
        standing = engine.standing(f"?{contact.id}", self.now)
        engine.remove_contact(f"?{contact.id}")
        estimate = self.experience[queue].estimate(standing.ahead, standing.servers)
        return None if estimate is None else round(estimate.seconds, 1)

    def _foretell(self, contact: Contact) -> None:
        """Note what is expected of a contact that has just arrived and found nobody free, to be compared with what happens."""
        if need := self._needs.get(contact.id):
            self.engines[self.queues[contact.queue].pool].observe_arrival(need, self.now)
        if contact.state == "offered":
            contact.estimate = 0.0
        elif pool := self._lined_up.get(contact.id):
            standing = self.engines[pool].standing(contact.id, self.now)
            estimate = self.experience[contact.queue].estimate(standing.ahead, standing.servers)
            if estimate is not None:
                contact.estimate, self._foretold[contact.id] = estimate.seconds, estimate
        self._mark("contacts", contact.id, contact)

    def _begin_anew(self, contact: Contact) -> None:
        """Nothing that followed from the leg that is over holds for the next."""
        for known in (self._needs, self._segments, self._foretold):
            known.pop(contact.id, None)
        for agent in (contact.reserved_for or "", str(contact.facts.get("last_agent") or "")):
            if agent in self._named:
                self._named[agent].pop(contact.id, None)
                if not self._named[agent]:
                    del self._named[agent]

    def _learn_wait(self, contact: Contact, waited: float, *, abandoned: bool) -> None:
        if contact.kind == "callback":
            return  # who holds no line shows no patience
        experience = self.experience[contact.queue]
        experience.patience.waited(waited, abandoned)
        if contact.estimate is None:
            return
        estimate = self._foretold.pop(contact.id, None) or Estimate(contact.estimate, contact.estimate)
        if abandoned:
            experience.calibration.abandoned(estimate, waited)
        else:
            experience.calibration.answered(estimate, waited)

    def _learn_service(self, contact: Contact, work: Work, seconds: float) -> None:
        queue, need = self.queues.get(work["queue"]), self._needs.get(contact.id)
        if seconds <= 0 or queue is None:
            return
        self.experience[queue.name].service.served(seconds)
        if need and need.queue == queue.name:
            self.engines[queue.pool].observe_service(need, seconds)

    # Writing down

    def _save_agent(self, agent: Agent) -> None:
        self._mark("agents", agent.id, agent)
        self._seat(agent)

    def _save_contact(self, contact: Contact) -> None:
        self._mark("contacts", contact.id, contact)
        self._watch_contact(contact)

    def _mark(self, table: str, key: str, entity: Queue | Agent | Contact | Offer) -> None:
        if table != "contacts" or key not in self.shadows:
            self._changed[table, key] = entity

    def _tell(self, name: str, contact: Contact, now: float, **more: Any) -> None:
        data = {
            "contact": contact.id,
            "leg": contact.leg,
            "queue": contact.queue,
            "channel": contact.channel,
            "customer": contact.customer,
            "direction": contact.direction,
            "at": now,
        }
        self._changes.events.append(Event(name, contact.id, data | more, contact.trace))

    def _tell_agent(self, name: str, agent: Agent, now: float, **more: Any) -> None:
        self._changes.events.append(Event(name, agent.id, {"agent": agent.id, "at": now, **more}))

    def _close_leg(self, contact: Contact, outcome: Outcome, now: float) -> None:
        """The contact's stay in this queue is over, the contact is not."""
        self._changes.legs.append({**contact.to_row(), "ended_at": now, "outcome": outcome})

    # Where everybody stands

    def _enrol(self, agent: Agent) -> None:
        """Take in an agent who is new or whose profile changed."""
        self.agents[agent.id] = agent
        self._known_as |= dict.fromkeys(agent.known_as, agent.id)
        for permit in agent.permits.values():
            self._learners_of[permit["supervisor"]].add(agent.id)
        self._seat(agent)
        ends = [until for until in (agent.certificates or {}).values() if until is not None]
        ends += [permit["until"] for permit in agent.permits.values()]
        for end in ends:
            if end > self.now:
                self._remind(end, "profile", agent.id)
        if agent.permits:
            self._remind(self._midnight_after(self.now), "profile", agent.id)

    def _seat(self, agent: Agent) -> None:
        """Show the engine what the agent can do now."""
        profile = self.profile_of(agent)
        before, after = self._shown.get(agent.id), Shown(agent.pool, agent.presence == "available", profile)
        if before and before.pool != agent.pool:
            self.engines[before.pool].remove_agent(agent.id)
        if not self.is_ours(agent.pool):
            self._shown.pop(agent.id, None)
            self._astray["agents", agent.id] = None
            return
        room = frozenset(channel for channel in profile.channels if agent.has_room(channel))
        self.engines[agent.pool].put_agent(Seat(agent.id, profile, agent.state, room, agent.load, agent.idle_since))
        self._shown[agent.id] = after
        if before != after:
            for contact_id in self._named.pop(agent.id, ()):
                if contact := self.contacts.get(contact_id):
                    self._watch_contact(contact)

    def profile_of(self, agent: Agent) -> Profile:
        """What the agent can be asked now."""
        named = {*agent.channels, *(agent.certificates or ()), *agent.permits}
        channels = frozenset(channel for channel in named if self.may_take(agent, channel))
        practice = frozenset(
            (channel, frozenset(permit["queues"]))
            for channel, permit in agent.permits.items()
            if permit.get("queues") and not agent.is_certified(channel, self.now)
        )
        return Profile(
            frozenset(agent.queues), channels, frozenset(agent.skills.items()), frozenset(agent.languages.items()),
            frozenset(agent.regions), agent.site, agent.employment, frozenset(agent.capacity.items()), practice,
            self._scores_of(agent.id),
        )  # fmt: skip

    def _scores_of(self, agent_id: str) -> frozenset[tuple[str, float]]:
        """What any policy asks about alone: else each agent would be of a profile of their own, for nothing."""
        known = self.scores.get(agent_id)
        if not known:
            return frozenset()
        return frozenset((name, score.step) for name, score in known.items() if name in self.scorecards() and score.until > self.now)

    def scorecards(self) -> frozenset[str]:
        """By which of qa's scorecards any policy prefers."""
        if self._cards is None:
            self._cards = frozenset(name for policy in self.policies.values() for name in scorecards_of(policy))
        return self._cards

    def may_take(self, agent: Agent, channel: str) -> bool:
        """Certified, or practising on this channel with leave."""
        if agent.is_certified(channel, self.now):
            return True
        permit = agent.permits.get(channel)
        return agent.may_practise(channel, self.now, self.day_of(self.now), permit is not None and self.is_present(permit["supervisor"]))

    def is_present(self, agent_id: str) -> bool:
        """Signed in, on this desk or another."""
        presence = self.agents[agent_id].presence if agent_id in self.agents else self.colleagues.get(agent_id)
        return presence in ("available", "paused")

    def _watch_contact(self, contact: Contact) -> None:
        """Put the contact where its state says: in its line, or nowhere."""
        if pool := self._lined_up.pop(contact.id, None):
            self.engines[pool].remove_contact(contact.id)
        if contact.matter is not None:
            self._threads[contact.thread] = contact.id
        if contact.kind == "callback":
            self._watch_promise(contact)
        elif contact.state in ("waiting", "offered"):
            self._watch_overflow(contact)
        queue = self.queues[contact.queue]
        if not self.is_ours(queue.pool):
            self._astray["contacts", contact.id] = None
        elif contact.state == "waiting" and queue.mode == "routed":
            self._line_up(contact)
        elif contact.state == "parked" and contact.parked_until is not None:
            self._remind(contact.parked_until, "parked", contact.id)
        elif contact.state == "callback":
            self._remind((contact.callback or {})["next_at"], "callback", contact.id)

    def _watch_promise(self, contact: Contact) -> None:
        awaited = contact.state in ("callback", "waiting", "offered")
        for name in contact.goes_by:
            awaiting = self._promised[name]
            if awaited:
                awaiting[contact.id] = None
            else:
                awaiting.pop(contact.id, None)
            if not awaiting:
                del self._promised[name]
        if contact.state in ("waiting", "offered"):  # the customer's hours begin and end at full quarters
            self._remind((self.now // QUARTER + 1) * QUARTER, "hours", contact.id)

    def _watch_overflow(self, contact: Contact) -> None:
        for at, _ in self._overflows(contact):
            self._remind(max(at, self.now), "moment", contact.id)

    def _overflows(self, contact: Contact) -> list[tuple[float, str]]:
        """When the contact moves on, and where to. What its wait had passed before it came to this queue does not move it."""
        steps = [(contact.place_at + step.after_seconds, step.to) for step in self.policy_of(contact).overflow]
        routed = {to for _, to in steps if to != contact.queue and to in self.queues and self.queues[to].mode == "routed"}
        return [(at, to) for at, to in steps if at > contact.arrived_at and to in routed]

    def _line_up(self, contact: Contact) -> None:
        queue, policy = self.queues[contact.queue], self.policy_of(contact)
        facts = self.facts_of(contact)
        segment = self._segment_of(contact, policy, facts)
        if segment is None:
            self._to_review[contact.id] = None
            return
        need, after = self.need_of(contact, policy, segment, facts)
        self._needs[contact.id] = need
        only = self._reserved_for(contact, affinity_seconds(policy, segment), need)
        retry = queue.retry_seconds
        passed = {agent: passing["at"] + retry for agent, passing in contact.passed.items()}
        self.engines[queue.pool].put_contact(
            Waiting(contact.id, contact.place_at, need, self._terms_of(contact, policy, segment), only, passed)
        )
        self._lined_up[contact.id] = queue.pool
        for again in passed.values():
            if again > self.now:
                self._remind(again, "retry", contact.id)
        if after is not None:
            self._remind(after, "moment", contact.id)

    def _terms_of(self, contact: Contact, policy: Policy, segment: Segment) -> Terms:
        """Those of its segment; a deadline of its own may bound its wait more closely."""
        told = Terms(**terms(policy, segment))
        deadline = contact.wants.get("deadline")
        return told if deadline is None else told._replace(bound=min(told.bound, max(0.0, deadline - contact.place_at)))

    def _segment_of(self, contact: Contact, policy: Policy, facts: Mapping[str, Any]) -> Segment | None:
        """Chosen once for each policy that the contact comes under. None: the rules take long, and the slice has no time left for them."""
        known = self._segments.get(contact.id)
        if known is None or known[0] is not policy:
            if policy.segments and not self.has_time:
                return None
            began = self.stopwatch()
            known = self._segments[contact.id] = (policy, segment_of(policy, facts))
            self._spent += self.stopwatch() - began
        return known[1]

    def need_of(self, contact: Contact, policy: Policy, segment: Segment, facts: Mapping[str, Any]) -> tuple[Need, float | None]:
        """What the contact asks now, and when that (or anything else that its policy says) changes next."""
        queue = self.queues[contact.queue]
        waited = max(0.0, self.now - contact.place_at)
        skills = highest(queue.required_skills, contact.required_skills)
        asked = requirement(policy, segment, facts, waited, skills=skills, preferred=contact.wants.get("preferred_skills", ()))
        need = Need(contact.queue, contact.channel, *asked)
        later = [contact.place_at + moment.after for moment in moments(policy, segment)]
        return need, min((moment for moment in later if moment > self.now), default=None)

    def _reserved_for(self, contact: Contact, affinity: float, need: Need) -> str | None:
        """The one agent to wait for at present: the one asked for by name, or for some seconds the one who knows the customer.
        Who has passed on the contact is waited for no longer."""
        asked_for = (contact.reserved_for, contact.reserved_until)
        knows_the_customer = (contact.facts.get("last_agent"), contact.place_at + affinity)
        for agent, until in (asked_for, knows_the_customer):
            if agent and self.now < until and agent not in contact.passed:
                self._named[agent][contact.id] = None
                if self._could_take(agent, need):
                    self._remind(until, "reserved", contact.id)
                    return str(agent)
        return None

    def _could_take(self, agent_id: str, need: Need) -> bool:
        agent = self.agents.get(agent_id)
        if agent is None or agent.presence != "available" or agent.pool != self.queues[need.queue].pool:
            return False
        return self.profile_of(agent).objection(need) is None

    def _watch_offer(self, offer: Offer) -> None:
        self.offers[offer.id] = offer
        self._offers_of[offer.contact].append(offer.id)
        if offer.state == "open":
            self._remind(offer.expires_at, "offer", offer.id)

    def _midnight_after(self, moment: float) -> float:
        tomorrow = datetime.fromordinal(self.day_of(moment) + 1).replace(tzinfo=self.zone)
        return tomorrow.timestamp()

    # Looking up and refusing

    def find_agent(self, alias: str) -> Agent | None:
        """By id, address or any alias."""
        agent_id = self._known_as.get(alias)
        return self.agents[agent_id] if agent_id else None

    def _queue(self, name: str) -> Queue:
        if name not in self.queues:
            raise NotFound(f"There is no queue {name}.")
        return self.queues[name]

    def agent(self, agent_id: str) -> Agent:
        if agent_id not in self.agents:
            raise NotFound(f"There is no agent {agent_id}.")
        return self.agents[agent_id]

    def _require_colleague(self, agent_id: str) -> None:
        """Raises NotFound for somebody who is unknown in every shard."""
        if agent_id not in self.colleagues:
            self.agent(agent_id)

    def _contact(self, contact_id: str) -> Contact:
        if contact_id not in self.contacts:
            raise NotFound(f"There is no contact {contact_id}.")
        return self.contacts[contact_id]

    def _require_unclaimed(self, agent_id: str, aliases: Iterable[str]) -> None:
        for alias in filter(None, aliases):
            owner = self._known_as.get(alias, agent_id)
            if owner != agent_id:
                raise Conflict(f"{alias} already stands for agent {owner}, so it cannot stand for {agent_id}.")
