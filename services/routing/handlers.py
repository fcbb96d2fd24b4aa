"""What happens for each event and command: the desk decides, its changes and announcements are written in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from services.routing import store
from services.routing.domain import errors as domain
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Queue
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db.engine import LeaseLostError
from shared.ids import new_id

log = structlog.get_logger()

POOL = "default"
FRESH_SECONDS = 30.0
"""An arrival older than this is history: it is reported, and offered to nobody."""
PARKED_SECONDS = 30.0
"""How long the place of a contact is kept whose dialplan no longer waits."""
REMEMBER_SECONDS = 3600.0
ANSWERED = ("talking", "completed", "transferred")

TAKEN_OVER = "another routing process has taken over"

Command = Callable[[Desk, float], Any]


class LiveDesk:
    """The one desk of a pool, in memory, with the database as its truth: what cannot be committed did not happen."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        # looked up when made: a lock bound before the process is made cooperative would stop all of it
        self.changed = threading.Event()
        self._lock = threading.Lock()
        self._desk: Desk | None = None
        self._epoch = 0
        self._sequence = 0
        self._forget_at = 0.0
        self._superseded = False

    @contextmanager
    def turn(self, work: Work) -> Iterator[Desk]:
        """The desk for the rest of this transaction. When the block ends, whatever is due happens, everybody who can be served is
        offered, and all of it is written."""
        self._lock.acquire()
        work.afterwards(self._end_turn)
        now = clock.now()
        if self._superseded:
            raise LeaseLostError(TAKEN_OVER)
        if self._desk is None:
            self._desk, self._epoch = store.open_desk(work.connection, POOL, REMEMBER_SECONDS, now)
        elif not store.still_ours(work.connection, POOL, self._epoch):
            self._superseded = True
            raise LeaseLostError(TAKEN_OVER)
        yield self._desk
        now = clock.now()
        self._desk.expire(now)
        self._desk.assign_pending(now, new_id)
        self.write(work)
        if now > self._forget_at:
            self._forget_at = now + 60
            self._desk.forget(now - REMEMBER_SECONDS)

    def _end_turn(self, committed: bool) -> None:
        if not committed:
            self._desk = None
        self._lock.release()
        self.changed.set()

    def write(self, work: Work) -> None:
        """Write what changed on the desk so far, and announce it."""
        assert self._desk is not None
        changes = self._desk.take_changes()
        store.save_desk(work.connection, changes)
        store.save_routed_legs(work.connection, [self._leg(row) for row in changes.contacts if row["state"] != "released"])
        for event in changes.events:
            work.announce(Event(f"routing.{event.name}.v1", event.subject, event.data, event.data["at"], self.next_sequence()))

    def next_sequence(self) -> int:
        """Numbers that rise for every subject, over restarts too: microseconds, or one more than the last."""
        self._sequence = max(self._sequence + 1, int(clock.now() * 1e6))
        return self._sequence

    def _leg(self, row: dict[str, Any]) -> dict[str, Any]:
        """The contact as the reports see it."""
        assert self._desk is not None
        end = row["ended_at"]
        answered = row["answered_at"]
        outcome = {"assigned": "talking", "ended": "completed", "abandoned": "abandoned"}.get(row["state"], "waiting")
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
            "outcome": outcome,
            "ended_by": row["ended_by"] or None,
            "hold_seconds": None if waited_until is None else round(waited_until - row["arrived_at"], 3),
            "talk_seconds": None if answered is None or end is None else round(end - answered, 3),
            "missed": {self._name(id): passed["missed"] for id, passed in row["passed"].items() if passed["missed"]},
            "ringing": [self._name(ringing)] if ringing else [],
            "estimated": [],
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
                    results.append(_translated(refused))
        return results

    def look(self, question: Command) -> Any:
        """Ask the desk something that changes nothing."""
        with self._lock:
            if self._desk is not None:
                try:
                    return question(self._desk, clock.now())
                except domain.RoutingError as refused:
                    return _translated(refused)
        return self.execute([question])[0]

    def next_deadline(self) -> float | None:
        return self._desk.next_deadline() if self._desk else 0.0


def _translated(error: domain.RoutingError) -> errors.AnswerlineError:
    kinds: dict[type[domain.RoutingError], type[errors.AnswerlineError]] = {
        domain.NotFound: errors.NotFound,
        domain.Conflict: errors.Conflict,
        domain.Invalid: errors.Invalid,
    }
    return kinds[type(error)](str(error))


# ---- events


def receive(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """A batch from the gateway: contacts of routed queues go to the desk, all others are kept as they were observed. What is on the
    desk stays its own when its queue is observed from now on: else its agent would be busy for ever."""
    events = sorted(events, key=lambda event: event.sequence)  # what a lost broker had held comes again behind what is newer
    of_contacts = [event for event in events if "leg" in event.data]
    modes = store.known_queues(work.connection, {event.data["leg"]["queue"] for event in of_contacts}) if of_contacts else {}
    on_desk = store.on_desk(work.connection, {event.data["contact"] for event in of_contacts})
    routed = [event for event in of_contacts if modes.get(event.data["leg"]["queue"]) == "routed" or event.data["contact"] in on_desk]
    watched = [event for event in of_contacts if modes.get(event.data["leg"]["queue"]) != "routed" and event.data["contact"] not in on_desk]
    for event in watched:
        _pass_on(work, event, event.sequence)
    _note_agents(work, events)
    rows = [_leg_row(event) for event in of_contacts]
    if routed:
        # the desk before the legs, as in every command: in the other order two would wait for each other for ever
        with live.turn(work) as desk:
            news = store.save_legs(work.connection, rows)
            for event in routed:
                if _leaves_another_queue(desk, event):
                    desk.hang_up(event.data["contact"], clock.now(), "transfer")
                    live.write(work)
                _to_desk(desk, event, is_news=(event.data["contact"], event.data["leg"]["number"]) in news)
            foreign = [event for event in routed if not _is_ours(desk, event)]
        for event in foreign:
            store.hand_back(work.connection, event.data["contact"], event.data["leg"]["number"])
            store.save_legs(work.connection, [_leg_row(event)])
            _pass_on(work, event, live.next_sequence())
    else:
        store.save_legs(work.connection, rows)


def _leg_row(event: Event) -> dict[str, Any]:
    leg = event.data["leg"]
    row = {name: leg.get(name) for name in store.LEG_FACTS}
    row |= {
        "contact": event.data["contact"],
        "number": leg["number"],
        "source": event.data["source"],
        "channel": event.data["channel"],
        "observed": True,
        "sequence": event.sequence,
    }
    return row


def _to_desk(desk: Desk, event: Event, is_news: bool) -> None:
    """A routed contact arrives, hangs up, or is served by somebody else. An arrival that is late, or comes behind newer events, changes
    nothing here: it is in the leg already."""
    leg, contact, now = event.data["leg"], event.data["contact"], clock.now()
    known = desk.contacts.get(contact)
    match event.type:
        case "gateway.contact_arrived.v1":
            arrived_at = leg.get("arrived_at") or event.time
            is_fresh = is_news and now - arrived_at <= FRESH_SECONDS
            is_routed = leg["queue"] in desk.queues and desk.queues[leg["queue"]].mode == "routed"
            if leg["outcome"] == "waiting" and is_routed and is_fresh and (known is None or leg["number"] > known.leg):
                required, channel = event.data["required_skills"], event.data["channel"]
                desk.arrive(contact, leg["queue"], min(arrived_at, now), channel=channel, required_skills=required, leg=leg["number"])
        case "gateway.contact_answered.v1":
            if known is not None and known.leg == leg["number"]:
                desk.release(contact, now, "answered_elsewhere")
        case (
            "gateway.contact_abandoned.v1" | "gateway.contact_ended.v1" | "gateway.contact_transferred.v1" | "gateway.contact_corrected.v1"
        ):
            merged = event.data.get("merged_into") is not None
            is_over = merged if leg["outcome"] == "void" else leg["outcome"] not in ("waiting", "talking")
            if is_over and known is not None and known.leg == leg["number"]:
                desk.hang_up(contact, now, leg.get("ended_by") or "caller")


def _leaves_another_queue(desk: Desk, event: Event) -> bool:
    """Whether a contact that arrives is still on the desk for the queue that it was in before."""
    known = desk.contacts.get(event.data["contact"])
    return (
        event.type == "gateway.contact_arrived.v1"
        and known is not None
        and not known.is_finished
        and event.data["leg"]["number"] > known.leg
    )


def _is_ours(desk: Desk, event: Event) -> bool:
    """Whether the desk says what becomes of this leg; if not (it came too late, or is served elsewhere), the telephony system does."""
    known = desk.contacts.get(event.data["contact"])
    return known is not None and known.leg >= event.data["leg"]["number"] and known.state != "released"


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


def _note_agents(work: Work, events: Sequence[Event]) -> None:
    reported = [event for event in events if event.type == "gateway.agent_state_reported.v1"]
    store.save_observed_agents(work.connection, [_agent_row(event) for event in reported])
    for event in events:
        if event.type == "gateway.source_restarted.v1":
            store.forget_agents_of(work.connection, event.data["source"], event.data["at"])


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
    return assignment(desk, contact_id)


def stop_listening(desk: Desk, contact_id: str, now: float) -> None:
    """The waiting request broke off: the caller has most likely hung up, so nobody is asked in vain meanwhile."""
    if contact_id in desk.contacts:
        desk.park(contact_id, now, PARKED_SECONDS)


def assignment(desk: Desk, contact_id: str) -> dict[str, Any]:
    """Where a routed contact stands, and with whom."""
    contact = desk.contacts.get(contact_id)
    if contact is None:
        raise domain.NotFound(f"Contact {contact_id} is not being routed.")
    agent = desk.agents.get(contact.agent or "")
    return {
        "contact": contact.id,
        "state": contact.state,
        "queue": contact.queue,
        "agent": agent.id if agent else None,
        "name": agent.name if agent else None,
        "address": agent.address if agent else None,
    }


def offers_to(desk: Desk, agent_id: str) -> list[dict[str, Any]]:
    agent = desk.agents.get(agent_id)
    if agent is None:
        raise domain.NotFound(f"No agent is called {agent_id}.")
    if agent.offer is None:
        return []
    offer = desk.offers[agent.offer]
    contact = desk.contacts[offer.contact]
    return [{**offer.to_row(), "queue": contact.queue, "channel": contact.channel, "waited_seconds": contact.waited(clock.now())}]
