"""What happens for each event and command: the desk decides, its changes and announcements are written in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, tzinfo
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from services.routing import interval_reports, interval_store, numbers, rulebook, rules, shard_store, store
from services.routing.domain import errors as domain
from services.routing.domain import record
from services.routing.domain.desk import Desk
from services.routing.domain.disposition import Tree, amount_sold, choose
from services.routing.domain.entities import Agent, Contact, Offer, Queue
from services.routing.domain.foresight import Experience
from services.routing.domain.needs import Need, Profile
from services.routing.domain.policy import announcement
from services.routing.rules import Rules
from services.routing.shard_store import Mail
from services.routing.sharding import Shard, event_of
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db.engine import LeaseLostError
from shared.ids import new_id

log = structlog.get_logger()

FRESH_SECONDS = 30.0
"""An arrival older than this is history: it is reported, and offered to nobody."""
PARKED_SECONDS = 30.0
"""How long the place of a contact is kept whose dialplan no longer waits."""
REMEMBER_SECONDS = 3600.0
KEEP_DECISIONS = 30 * 86400.0
LANGUAGES: tuple[record.Language, ...] = ("en", "zh")
OUTCOMES = {"assigned": "talking", "ended": "completed", "abandoned": "abandoned", "closed": "closed", "released": "withdrawn"}

TAKEN_OVER = "another routing process has taken over"

Command = Callable[[Desk, float], Any]


class LiveDesk:
    """The one desk of its shard, in memory, with the database as its truth: what cannot be committed did not happen."""

    def __init__(self, units: UnitOfWork, zone: tzinfo = UTC, shard: Shard | None = None) -> None:
        self.units = units
        self.shard = shard or Shard(units)
        self.zone = zone
        # looked up when made: a lock bound before the process is made cooperative would stop all of it
        self.changed = threading.Event()
        self._lock = threading.Lock()
        self._desk: Desk | None = None
        self.rules = Rules()
        self._spans: dict[str, dict[str, Any]] = {}
        self._epoch = 0
        self._sequence = 0
        self._forget_at = 0.0
        self._superseded = False
        self._turn_of: Work | None = None
        self._turn_began = 0.0
        self._decided: list[str] = []
        self._foreign: list[Event] = []
        self.on_turn: Callable[[float, Sequence[str]], None] = lambda _seconds, _rules: None

    @contextmanager
    def turn(self, work: Work) -> Iterator[Desk]:
        """The desk for the rest of this transaction. When the block ends, whatever is due happens, everybody who can be served is
        offered, and all of it is written."""
        if self._turn_of is not work:
            self._begin_turn(work)
        assert self._desk is not None
        yield self._desk
        now = clock.now()
        if self.rules.next_start is not None and self.rules.next_start <= now:
            rulebook.start_due(work.connection)
            self.reload_rules(work.connection)
            self.shard.tell_all(work, "rules", {})
        self._desk.expire(now)
        departures = self.shard.let_go(work.connection, self._desk)
        self._desk.assign_pending(now, new_id)
        self.write(work)
        self.shard.see_off(work, departures, self.next_sequence())
        self._hand_back(work)
        if now > self._forget_at:
            self._forget_at = now + 60
            self._desk.forget(now - REMEMBER_SECONDS)
            store.save_experience(
                work.connection, {name: one.to_row() for name, one in self._desk.experience.items() if self._teaches(name)}
            )

    def _begin_turn(self, work: Work) -> None:
        self._lock.acquire()
        self._turn_of, self._turn_began, self._decided = work, clock.monotonic(), []
        work.afterwards(self._end_turn)
        if self._superseded:
            raise LeaseLostError(TAKEN_OVER)
        if self._desk is None:
            self._desk = self._open(work.connection, clock.now())
        elif not store.still_ours(work.connection, self.shard.number, self._epoch):
            self._superseded = True
            raise LeaseLostError(TAKEN_OVER)
        self._foreign = []
        self._desk.now = max(self._desk.now, clock.now())
        self.shard.take_mail(work, self._desk, partial(self._take, work, self._desk))

    def _take(self, work: Work, desk: Desk, mails: Sequence[Mail]) -> None:
        """What another shard has for us: several events, or one of anything else."""
        mail = mails[0]
        match mail.kind:
            case "event":
                events = [event_of(one.body) for one in mails]
                legs = {(event.data["contact"], event.data["leg"]["number"]): event.sequence for event in events}
                self.hear(work, desk, events, store.news_among(work.connection, legs))
            case "contact":
                self._sequence = max(self._sequence, mail.body["sequence"])
                for row in shard_store.contact_rows(work.connection, [mail.subject], self.shard.number):
                    desk.adopt_contact(row)
            case "agent":
                self._sequence = max(self._sequence, mail.body["sequence"])
                for row in shard_store.agent_rows(work.connection, [mail.subject], self.shard.number):
                    desk.adopt_agent(row)
                    self._spans |= interval_store.open_spans(work.connection, [mail.subject])
            case "queue":
                self.shard.shard_of_pool(work.connection, mail.body["pool"])
                desk.adopt_queue(mail.body)
            case "colleague":
                desk.note_colleague(mail.subject, mail.body["presence"])
            case "restart":
                _lose_sight(desk, mail.body["names"], clock.now())
            case "report":
                _see_again(desk, mail.body, clock.now())
            case "rules":
                self.reload_rules(work.connection)
            case "closing":
                self.reload_rules(work.connection)
                rulebook.turn_away(desk, mail.body)

    def hear(self, work: Work, desk: Desk, events: Sequence[Event], news: set[tuple[str, int]]) -> None:
        """Events about contacts of this desk, `news` being the legs of which nothing newer is known."""
        customers = {event.data["customer"] for event in events if event.data.get("customer")}
        known = store.last_agents(work.connection, customers) if customers else {}
        for event in events:
            if _leaves_another_queue(desk, event):
                desk.hang_up(event.data["contact"], clock.now(), "transfer")
                self.write(work)
            is_news = (event.data["contact"], event.data["leg"]["number"]) in news
            _to_desk(desk, event, is_news, known.get(event.data.get("customer") or ""))
        self._foreign += [event for event in events if not _is_ours(desk, event)]

    def _hand_back(self, work: Work) -> None:
        """What the desk does not decide, the telephony system tells."""
        foreign, self._foreign = self._foreign, []
        if foreign:
            work.write()  # a leg is handed back as it is written
        for event in foreign:
            store.hand_back(work.connection, event.data["contact"], event.data["leg"]["number"])
            store.save_legs(work.connection, [_leg_row(event)])
            _pass_on(work, event, self.next_sequence())

    def _teaches(self, queue: str) -> bool:
        """Whether what was learnt of the queue is this shard's to keep."""
        assert self._desk is not None
        return queue in self._desk.queues and self.shard.is_ours(self._desk.queues[queue].pool)

    def _open(self, connection: Connection, now: float) -> Desk:
        self._epoch = store.open_desk(connection, self.shard.number)
        self.rules = self._rules(connection, now)
        self._spans = interval_store.open_spans(connection)
        queues, agents, contacts, offers = store.desk_rows(connection, REMEMBER_SECONDS, now, self.shard.number)
        desk = Desk.load(queues, agents, contacts, offers, now=now, policies=self.rules.policies, zone=self.zone)
        desk.opening, desk.after_business = self.rules.opening, self.rules.after_business
        desk.experience |= {name: Experience.from_row(row) for name, row in store.load_experience(connection).items()}
        self.shard.open(connection, desk)
        return desk

    def _rules(self, connection: Connection, now: float) -> Rules:
        loaded = rules.load(connection, now)
        if self.shard.number:  # the first shard starts what is scheduled, and tells the others
            loaded.next_start = None
        return loaded

    def reload_rules(self, connection: Connection) -> None:
        """To be called in the turn that changed them."""
        assert self._desk is not None
        self.rules = self._rules(connection, clock.now())
        self._desk.opening, self._desk.after_business = self.rules.opening, self.rules.after_business
        for policy in self.rules.policies.values():
            if self._desk.policies.get(policy.name) != policy:
                self._desk.put_policy(policy)

    def has(self, *, agent: str = "", contact: str = "", queue: str = "", pool: str = "") -> bool:
        """Whether this desk is known to have what is named, in a pool that is known."""
        desk = self._desk
        if desk is None or (pool and pool not in self.shard.pools):
            return False
        here = queue in desk.queues and self.shard.is_ours(desk.queues[queue].pool)
        return here or agent in desk.agents or desk.holds(contact)

    @property
    def misses_somebody(self) -> bool:
        """Whether an agent was lost sight of when a telephony system began anew."""
        return self._desk is None or any(agent.presence == "unknown" for agent in self._desk.agents.values())

    def _end_turn(self, committed: bool) -> None:
        self.on_turn(clock.monotonic() - self._turn_began, self._decided if committed else ())
        if not committed:
            self._desk = None
        self._turn_of = None
        self._lock.release()
        self.changed.set()

    def write(self, work: Work) -> None:
        """Write what changed on the desk so far, and announce it."""
        assert self._desk is not None
        changes = self._desk.take_changes()
        self.shard.mark(work, changes.agents, changes.contacts, changes.queues)
        legs = [self._leg(row) for row in changes.legs]
        legs += [self._leg(row) for row in changes.contacts if _is_told_here(row)]
        interval_store.note_late(work.connection, legs, clock.now())
        self._decided += [row["record"]["rule"] for row in changes.decisions]
        states = [{**row, "seq": self.next_sequence()} for row in changes.states]
        work.save(
            *store.of_desk(changes),
            store.of_routed_legs(legs),
            interval_store.of_outcomes(changes.outcomes),
            interval_store.of_states(self._spans, states),
        )
        for event in changes.events:
            work.announce(Event(f"routing.{event.name}.v1", event.subject, event.data, event.data["at"], self.next_sequence()))

    def next_sequence(self) -> int:
        """Numbers that rise for every subject, over restarts too: microseconds, or one more than the last."""
        self._sequence = max(self._sequence + 1, int(clock.now() * 1e6))
        return self._sequence

    def _leg(self, row: dict[str, Any]) -> dict[str, Any]:
        """The contact's stay in its queue as the reports see it."""
        assert self._desk is not None
        end = row["ended_at"]
        answered = row["answered_at"]
        waited_until = answered or end
        agent = self._desk.agents.get(row["agent"] or "")
        ringing = self._desk.offers[row["offer"]].agent if row["offer"] else None
        return {
            **dict.fromkeys(store.LEG_COLUMNS),
            "contact": row["id"],
            "number": row["leg"],
            "source": "",
            "queue": row["queue"],
            "channel": row["channel"],
            "observed": False,
            "agent": agent and (agent.name or agent.id),
            "address": agent and agent.address,
            "arrived_at": row["arrived_at"],
            "answered_at": answered,
            "ended_at": end,
            "outcome": row.get("outcome") or OUTCOMES.get(row["state"], "waiting"),
            "ended_by": row["ended_by"] or None,
            "hold_seconds": None if waited_until is None else round(waited_until - row["arrived_at"], 3),
            "talk_seconds": None if answered is None or end is None else round(end - answered, 3),
            "missed": {self._name(id): passed["missed"] for id, passed in row["passed"].items() if passed["missed"]},
            "ringing": [self._name(ringing)] if ringing else [],
            "estimated": [],
            "kind": row["kind"],
            "estimate": row["estimate"],
            "sequence": self.next_sequence(),
        }

    def _name(self, agent_id: str) -> str:
        assert self._desk is not None
        agent = self._desk.agents.get(agent_id)
        return agent.name or agent.id if agent else agent_id

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one transaction; each result is what the command returned, or the error that refused it."""
        results: list[Any] = []
        with self.units() as work, self.turn(work) as desk:
            for command in commands:
                try:
                    results.append(command(desk, clock.now()))
                except domain.RoutingError as refused:
                    results.append(translated(refused))
        return results

    def change_rules(self, change: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Write a change of the rules, with the desk following in the same transaction. What refused it is returned."""
        with self.units() as work, self.turn(work) as desk:
            try:
                with work.connection.begin_nested():
                    result = change(work.connection, desk, *arguments)
            except domain.RoutingError as refused:
                return translated(refused)
            except errors.AnswerlineError as refused:
                return refused
            self.reload_rules(work.connection)
            if change is rulebook.put_closure:
                rulebook.turn_away(desk, arguments[0])
                self.shard.tell_all(work, "closing", arguments[0])
            else:
                self.shard.tell_all(work, "rules", {})
        return result

    def look(self, question: Command) -> Any:
        """Ask the desk something that changes nothing."""
        with self._lock:
            if self._desk is not None:
                try:
                    return question(self._desk, clock.now())
                except domain.RoutingError as refused:
                    return translated(refused)
        return self.execute([question])[0]

    def next_deadline(self) -> float | None:
        if self._desk is None or self.shard.has_news:
            return 0.0
        moments = (self._desk.next_deadline(), self.rules.next_start)
        return min((moment for moment in moments if moment is not None), default=None)


def _is_told_here(row: Mapping[str, Any]) -> bool:
    """Whether the contact's present leg is the desk's to tell: not that of a pending matter, which is closed, nor that of a released call,
    which the telephony system tells. A callback that was cancelled or merged is known to nobody else."""
    return row["pended_at"] is None and (row["state"] != "released" or row["kind"] == "callback")


def translated(error: domain.RoutingError) -> errors.AnswerlineError:
    kinds: dict[type[domain.RoutingError], type[errors.AnswerlineError]] = {
        domain.NotFound: errors.NotFound,
        domain.Conflict: errors.Conflict,
        domain.Invalid: errors.Invalid,
    }
    return kinds[type(error)](str(error))


def close_the_books(units: UnitOfWork) -> None:
    """Quarter hours that are over become final; decisions that nobody will ask about any more are forgotten."""
    with units() as work:
        interval_reports.finalise(work.connection, clock.now())
        store.prune_decisions(work.connection, clock.now() - KEEP_DECISIONS)


# ---- events


def receive(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """A batch from the gateway: contacts of routed queues go to the desk, all others are kept as they were observed. What is on the
    desk stays its own when its queue is observed from now on: else its agent would be busy for ever."""
    events = sorted(events, key=lambda event: event.sequence)  # what a lost broker had held comes again behind what is newer
    of_contacts = [event for event in events if "leg" in event.data]
    modes = store.known_queues(work.connection, {event.data["leg"]["queue"] for event in of_contacts}) if of_contacts else {}
    on_desk = store.on_desk(work.connection, {event.data["contact"] for event in of_contacts})
    routed = [event for event in of_contacts if _is_routed(event, modes) or event.data["contact"] in on_desk]
    watched = [event for event in of_contacts if not _is_routed(event, modes) and event.data["contact"] not in on_desk]
    for event in watched:
        _pass_on(work, event, event.sequence)
    ours, theirs = live.shard.divide(work.connection, routed)
    live.shard.forward(work, theirs)
    _note_agents(live, work, events)
    rows = [_leg_row(event) for event in of_contacts]
    interval_store.note_late(work.connection, rows, clock.now())
    if ours:
        # the desk before the legs, as in every command: in the other order two would wait for each other for ever
        with live.turn(work) as desk:
            live.hear(work, desk, ours, store.save_legs(work.connection, rows))
    else:
        store.save_legs(work.connection, rows)


def _is_routed(event: Event, modes: Mapping[str, str]) -> bool:
    """Whether its queue is ours to distribute. A source that distributes by itself says so in each event."""
    return modes.get(event.data["leg"]["queue"]) == "routed" and not event.data.get("observed")


def _leg_row(event: Event) -> dict[str, Any]:
    leg = event.data["leg"]
    row = {name: leg.get(name) for name in store.LEG_FACTS}
    row |= {
        "contact": event.data["contact"],
        "number": leg["number"],
        "source": event.data["source"],
        "channel": event.data["channel"],
        "observed": True,
        "kind": "inbound",
        "sequence": event.sequence,
    }
    return row


def _to_desk(desk: Desk, event: Event, is_news: bool, last_agent: str | None) -> None:
    """A routed contact arrives, hangs up, or is served by somebody else. An arrival that is late, or comes behind newer events, changes
    nothing here: it is in the leg already."""
    leg, contact, now = event.data["leg"], event.data["contact"], clock.now()
    known = desk.contacts.get(contact)
    match event.type:
        case "gateway.contact_arrived.v1":
            arrived_at = leg.get("arrived_at") or event.time
            is_fresh = is_news and now - arrived_at <= FRESH_SECONDS
            is_routed = leg["queue"] in desk.queues and desk.queues[leg["queue"]].mode == "routed"
            if leg["outcome"] == "waiting" and is_routed and is_fresh and (known is None or leg["number"] > known.told_leg):
                facts = {"source": event.data["source"]} | (event.data.get("facts") or {})
                desk.arrive(
                    contact,
                    leg["queue"],
                    min(arrived_at, now),
                    channel=event.data["channel"],
                    required_skills=event.data["required_skills"],
                    wants=event.data.get("wants"),
                    facts={"last_agent": last_agent} | facts if last_agent else facts,
                    customer=event.data.get("customer") or "",
                    thread=event.data.get("thread") or "",
                    leg=leg["number"],
                )
        case "gateway.contact_answered.v1":
            if known is not None and known.told_leg == leg["number"]:
                desk.release(contact, now, "answered_elsewhere")
        case (
            "gateway.contact_abandoned.v1" | "gateway.contact_ended.v1" | "gateway.contact_transferred.v1" | "gateway.contact_corrected.v1"
        ):
            merged = event.data.get("merged_into") is not None
            is_over = merged if leg["outcome"] == "void" else leg["outcome"] not in ("waiting", "talking")
            if is_over and known is not None and known.told_leg == leg["number"]:
                desk.hang_up(contact, now, leg.get("ended_by") or "caller")


def _leaves_another_queue(desk: Desk, event: Event) -> bool:
    """Whether a contact that arrives is still on the desk for the queue that it was in before."""
    known = desk.contacts.get(event.data["contact"])
    return (
        event.type == "gateway.contact_arrived.v1"
        and known is not None
        and not known.is_finished
        and event.data["leg"]["number"] > known.told_leg
    )


def _is_ours(desk: Desk, event: Event) -> bool:
    """Whether the desk says what becomes of this leg; if not (it came too late, or is served elsewhere), the telephony system does."""
    known = desk.contacts.get(event.data["contact"])
    return known is not None and known.told_leg >= event.data["leg"]["number"] and known.state != "released"


def _pass_on(work: Work, event: Event, sequence: int) -> None:
    """What we only watch is announced too: an agent may ask an expert about any call, and every call may be evaluated."""
    leg = event.data["leg"]
    data: dict[str, Any] = {
        "contact": event.data["contact"],
        "leg": leg["number"],
        "source": event.data["source"],
        "queue": leg["queue"],
        "channel": event.data["channel"],
        "observed": True,
        "at": event.time,
    }
    match event.type:
        case "gateway.contact_arrived.v1":
            name = "contact_queued"
        case "gateway.contact_answered.v1":
            name = "contact_assigned"
            data |= {"agent": leg.get("agent"), "address": leg.get("address"), "waited_seconds": leg.get("hold_seconds")}
        case "gateway.contact_abandoned.v1":
            name = "contact_abandoned"
            data |= {"reason": leg["outcome"], "waited_seconds": leg.get("hold_seconds")}
        case "gateway.contact_transferred.v1":
            name = "contact_transferred"
            data |= {"agent": leg.get("agent"), "target": leg.get("target"), "talk_seconds": leg.get("talk_seconds")}
        case "gateway.contact_ended.v1":
            name = "contact_completed"
            data |= {
                "agent": leg.get("agent"),
                "ended_by": leg.get("ended_by"),
                "waited_seconds": leg.get("hold_seconds"),
                "talk_seconds": leg.get("talk_seconds"),
            }
        case _:
            return
    work.announce(Event(f"routing.{name}.v1", data["contact"], data, event.time, sequence, correlation=event.correlation, cause=event.id))


def _note_agents(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """After a restart of the telephony system nobody knows who is there, until they are seen again."""
    restarts = [event for event in events if event.type == "gateway.source_restarted.v1"]
    reported = [event for event in events if event.type == "gateway.agent_state_reported.v1"]
    fresh = {event.data["source"] for event in restarts if clock.now() - event.data["at"] <= FRESH_SECONDS}
    lost = {source: store.agents_of(work.connection, source) for source in fresh}
    live.shard.pass_reports(work, lost, reported)
    if restarts or (reported and live.misses_somebody):
        with live.turn(work) as desk:
            now = clock.now()
            for event in restarts:
                _lose_sight(desk, lost.get(event.data["source"], ()), now)
            for event in reported:
                _see_again(desk, event.data, now)
    store.save_observed_agents(work.connection, [_agent_row(event) for event in reported])
    for event in restarts:
        store.forget_agents_of(work.connection, event.data["source"], event.data["at"])


def _lose_sight(desk: Desk, names: Iterable[str], now: float) -> None:
    for name in names:
        if agent := desk.find_agent(name):
            desk.lose_sight(agent.id, now)


def _see_again(desk: Desk, told: Mapping[str, Any], now: float) -> None:
    agent = desk.find_agent(told["agent"]) or desk.find_agent(told.get("address") or "")
    if agent and told["state"] in ("available", "paused", "offline"):
        desk.see_again(agent.id, told["state"], now)


def _agent_row(event: Event) -> dict[str, Any]:
    names = ("source", "agent", "address", "state", "reason", "since")
    return {**{name: event.data.get(name) for name in names}, "queue": event.data.get("queue") or "", "sequence": event.sequence}


# ---- commands


def put_queue(desk: Desk, queue: dict[str, Any]) -> dict[str, Any]:
    """Whoever waits in a queue that is observed from now on is the PBX's again."""
    row = desk.put_queue(Queue(**queue)).to_row()
    if row["mode"] == "observed":
        for contact in [contact for contact in desk.contacts.values() if contact.queue == row["name"]]:
            desk.release(contact.id, clock.now(), "queue_observed")
    return row


def listen(desk: Desk, contact_id: str, now: float) -> dict[str, Any]:
    """Somebody waits again for a parked contact: it is back in its place, unless it was away for too long."""
    if (desk.contacts[contact_id].parked_until or 0) > now:
        desk.unpark(contact_id, now)
    return assignment(desk, contact_id, now)


def stop_listening(desk: Desk, contact_id: str, now: float) -> None:
    """The waiting request broke off: the caller has most likely hung up, so nobody is asked in vain meanwhile."""
    if contact_id in desk.contacts:
        desk.park(contact_id, now, PARKED_SECONDS)


def assignment(desk: Desk, contact_id: str, now: float) -> dict[str, Any]:
    """Where a routed contact stands, and with whom; while it waits, what to tell the customer."""
    contact = desk.contacts.get(contact_id)
    if contact is None:
        raise domain.NotFound(f"Contact {contact_id} is not being routed.")
    agent = desk.agents.get(contact.agent or "")
    answer: dict[str, Any] = {
        "contact": contact.id,
        "state": contact.state,
        "queue": contact.queue,
        "agent": agent.id if agent else None,
        "name": agent.name if agent else None,
        "address": agent.address if agent else None,
    }
    if contact.state == "closed":
        opening = desk.opening(desk.queues[contact.queue], now)
        return answer | {
            "message": dict(opening.message),
            "opens_at": None if opening.opens_at is None else clock.to_text(opening.opens_at),
        }
    if _is_to_be_dialled(contact):
        return answer | {"dial": contact.caller}
    if contact.state in ("waiting", "offered"):
        policy, foreseen = desk.policy_of(contact), desk.foresee(contact)
        if foreseen is not None:
            answer |= {"position": foreseen.position, "estimated_wait_seconds": foreseen.seconds}
        if announce := announcement(policy, str(contact.wants.get("language", ""))):
            answer |= {"announce": announce, "announce_every_seconds": policy.announce and policy.announce.every_seconds}
        if policy.callback and now - contact.place_at >= policy.callback.offer_after_seconds:
            answer["callback_offered"] = True
        if contact.suggested:
            answer["suggested_channel"] = contact.suggested
    return answer


def _is_to_be_dialled(contact: Contact) -> bool:
    """An agent is reserved for a callback, and its number has not answered yet: the one moment in which it is told."""
    return contact.kind == "callback" and contact.state == "assigned" and contact.answered_at is None


def accept(desk: Desk, offer_id: str, agent_id: str, session: str, now: float) -> dict[str, Any]:
    desk.require_session(agent_id, session)
    offer = desk.accept(offer_id, agent_id, now)
    contact = desk.contacts[offer.contact]
    return {**offer.to_row(), **({"dial": contact.caller} if _is_to_be_dialled(contact) else {})}


def wrap_up(desk: Desk, in_force: Rules, agent_id: str, contact_id: str | None, disposition: Any, now: float) -> Agent:
    """The agent has finished with a contact; `disposition` is chosen from its queue's tree, or any code where the queue has none."""
    agent = desk.agents.get(agent_id)
    wrapping = [id for id, work in agent.work.items() if work["phase"] == "wrap_up" and contact_id in (None, id)] if agent else []
    chosen = None
    if disposition is not None and wrapping:
        told = {"code": disposition} if isinstance(disposition, str) else disposition
        chosen = _chosen(in_force.trees.get(desk.queues[desk.contacts[wrapping[0]].queue].dispositions), told)
    return desk.end_wrap_up(agent_id, now, contact_id=contact_id, disposition=chosen)


def _chosen(tree: Tree | None, told: dict[str, Any]) -> dict[str, Any]:
    if tree is None:
        sold = amount_sold(told.get("amount"), told.get("currency"))
        return {"code": told["code"], "resolved": told.get("resolved"), "amount": sold, "currency": told.get("currency")}
    made = choose(tree, told["code"], resolved=told.get("resolved"), amount=told.get("amount"), currency=told.get("currency"))
    return {**made.to_dict(), "resolved": made.resolved == "yes"}


def promise_callback(desk: Desk, contact_id: str, number: str, country: str, zone: str, now: float) -> dict[str, Any]:
    """`zone`: the customer's, where it is known better than by the number."""
    called = numbers.to_call_back(number, country)
    if called is None:
        raise domain.Invalid("A callback needs a number that is not withheld.")
    zones = (zone,) if zone else numbers.zones(called) or (str(desk.zone),)
    known = desk.contacts.get(contact_id)
    in_conversation = known is not None and known.state == "assigned" and not known.is_promised
    promise = desk.owe_callback if in_conversation else desk.promise_callback
    return shown(promise(contact_id, now, called, zones))


def shown(contact: Contact) -> dict[str, Any]:
    """A contact on the desk as the API tells of it: without the number."""
    names = ("id", "queue", "channel", "leg", "kind", "state", "agent", "customer")
    row = {name: getattr(contact, name) for name in names}
    matter = contact.matter or {}
    moments = {"callback_at": (contact.callback or {}).get("next_at"), "reply_due_at": matter.get("reply_due")}
    told = {name: None if moment is None else clock.to_text(moment) for name, moment in moments.items()}
    return {
        **row,
        "contact": contact.id,
        **told,
        "replies": matter.get("replies", 0),
        "call_suggested": matter.get("call_suggested", False),
    }


def offers_to(desk: Desk, agent_id: str, session: str = "") -> list[dict[str, Any]]:
    """What an agent is asked to take, the oldest first."""
    agent = desk.agents.get(agent_id)
    if agent is None:
        raise domain.NotFound(f"No agent is called {agent_id}.")
    desk.require_session(agent_id, session)
    held = [desk.contacts[id] for id, work in agent.work.items() if work["phase"] == "offered"]
    offers = [(desk.offers[contact.offer], contact) for contact in held if contact.offer]
    return [_offered(offer, contact) for offer, contact in sorted(offers, key=lambda pair: (pair[0].made_at, pair[0].id))]


def _offered(offer: Offer, contact: Contact) -> dict[str, Any]:
    more = {"queue": contact.queue, "channel": contact.channel, "kind": contact.kind, "customer": contact.customer or None}
    return {**offer.to_row(), **more, "waited_seconds": contact.waited(clock.now())}


def decisions(connection: Connection, contact_id: str, agent: str | None = None, profile: Profile | None = None) -> dict[str, Any]:
    """Why each offer of a contact went where it went: the record, and the same in words. `agent`, whose profile today is `profile`: why
    that one was not chosen."""
    found = []
    for row in store.decisions_on(connection, contact_id):
        told = {
            "offer": row["id"],
            "at": clock.to_text(row["at"]),
            "agent": row["agent"],
            "state": row["state"],
            "words": {language: record.words(row["record"], language) for language in LANGUAGES},
            "rerun_agrees": record.rerun(row["record"]) == (row["contact"], row["agent"]),
            "record": row["record"],
        }
        if agent is not None and profile is not None:
            told["asked_about"] = _asked_about(connection, row["record"], agent, profile)
        found.append(told)
    if not found:
        raise errors.NotFound(f"nothing has been decided about contact {contact_id}")
    return {"contact": contact_id, "decisions": found}


def _asked_about(connection: Connection, decision: dict[str, Any], agent: str, profile: Profile) -> dict[str, Any]:
    """What kept this agent from getting the contact."""
    candidates = [
        one for one in (decision["chosen"], *decision["runners_up"]) if one["agent"] == agent and one["contact"] == decision["contact"]
    ]
    need = decision["need"]
    asked = Need(need["queue"], need["channel"], tuple(need["skills"].items()), tuple(need["languages"].items()))
    state = interval_store.state_at(connection, agent, decision["at"])
    if agent == decision["agent"]:
        reason = "chosen"
    elif candidates:
        reason = "candidate"
    else:
        reason = profile.objection(asked) or (state if state and state != "available" else "candidate")
    score = candidates[0]["score"] if candidates else None
    return {"agent": agent, "reason": reason, "words": {one: record.reason_in(reason, one) for one in LANGUAGES}, "score": score}
