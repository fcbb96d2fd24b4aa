"""The live desk: the desk decides, its changes and announcements are written in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, tzinfo
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from services.routing import hearing, interval_store, rulebook, rules, score_store, shard_store, store, training_store
from services.routing.domain import errors as domain
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Agent, Permit
from services.routing.domain.foresight import Experience
from services.routing.rules import Rules
from services.routing.shard_store import Mail
from services.routing.sharding import Shard, event_of
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db.engine import LeaseLostError
from shared.ids import new_id

log = structlog.get_logger()

HELD_SECONDS = 60.0
"""How long a contact that is over stays on the desk: commands about it are said again within seconds, if at all."""
KNOWN_SECONDS = 3600.0
"""How long the desk can say what became of it: whoever asks later than HELD_SECONDS has it read from the database. Also how long a matter
in writing stays: its thread's next message goes to whoever owns it."""
FORGET_SECONDS = 1.0
SAVE_SECONDS = 60.0
PARKED_SECONDS = 30.0
"""How long the place of a contact is kept whose dialplan no longer waits."""
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
        self._forget_at = self._save_at = 0.0
        self._superseded = False
        self._turn_of: Work | None = None
        self._turn_began = 0.0
        self._decided: list[str] = []
        self._foreign: list[Event] = []
        self.on_superseded: Callable[[], None] = lambda: None
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
            self._forget_at = now + FORGET_SECONDS
            self._desk.forget(now - HELD_SECONDS, now - KNOWN_SECONDS)
        if now > self._save_at:
            self._save_at = now + SAVE_SECONDS
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
            self.on_superseded()
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
                    self.heed_scores(work, desk, row["id"])
                    self._spans |= interval_store.open_spans(work.connection, [mail.subject])
            case "queue":
                self.shard.shard_of_pool(work.connection, mail.body["pool"])
                desk.adopt_queue(mail.body)
            case "colleague":
                desk.note_colleague(mail.subject, mail.body["presence"])
            case "restart":
                hearing.lose_sight(desk, mail.body["names"], clock.now())
            case "report":
                hearing.see_again(desk, mail.body, clock.now())
            case "people":
                hearing.note_people(desk, mail.body, clock.now())
            case "erased":
                desk.forget_customer(mail.body["customer"], mail.body["stand_in"], mail.body["contacts"], clock.now())
            case "rules":
                self.reload_rules(work.connection)
            case "training":
                self.heed_training(work, desk, mail.subject, mail.body["channels"])
            case "score":
                self.heed_scores(work, desk, mail.subject)
            case "ask_anew":
                desk.park_polled(clock.now(), PARKED_SECONDS)

    def hear(self, work: Work, desk: Desk, events: Sequence[Event], news: set[tuple[str, int]]) -> None:
        """Events about contacts of this desk, `news` being the legs of which nothing newer is known."""
        customers = {event.data["customer"] for event in events if event.data.get("customer")}
        known = store.last_agents(work.connection, customers) if customers else {}
        self._recall(work.connection, desk, {event.data["contact"] for event in events} - desk.contacts.keys())
        for event in events:
            if hearing.leaves_another_queue(desk, event):
                desk.hang_up(event.data["contact"], clock.now(), "transfer")
                self.write(work)
            if event.trace and (contact := desk.contacts.get(event.data["contact"])):
                contact.trace = event.trace
            is_news = (event.data["contact"], event.data["leg"]["number"]) in news
            hearing.to_desk(desk, event, is_news, known.get(event.data.get("customer") or ""))
        self._foreign += [event for event in events if not hearing.is_ours(desk, event)]

    def _recall(self, connection: Connection, desk: Desk, contacts: Collection[str]) -> None:
        """What is over and forgotten is known again for this turn."""
        for row, offers in store.over(connection, contacts, clock.now() - KNOWN_SECONDS, self.shard.number):
            desk.recall(row, offers)

    def recalling(self, command: Command, contact: str = "", offer: str = "") -> Command:
        """The command, where it is about a contact, or an offer of one, that may be over and forgotten."""

        def run(desk: Desk, now: float) -> Any:
            assert self._turn_of is not None
            if (contact and contact not in desk.contacts) or (offer and offer not in desk.offers):
                connection = self._turn_of.connection
                self._recall(connection, desk, {contact} if contact else store.contacts_offered(connection, offer))
            return command(desk, now)

        return run

    def heed_training(self, work: Work, desk: Desk, person: str, channels: Sequence[str]) -> None:
        """There is news of what somebody may serve: to be followed where their desk is. Who is no agent yet will be told when they become one."""
        if person in desk.agents:
            for word in training_store.words_on(work.connection, person, channels):
                desk.heed(person, word, clock.now())
            return
        shard = shard_store.shard_of_agent(work.connection, person)
        if shard is not None and shard != self.shard.number:
            self.shard.post(work, [(shard, "training", person, {"channels": channels})])

    def certify(self, desk: Desk, agent_id: str, channel: str, until: float | None, now: float) -> Agent:
        """By hand, in a turn. Raises Conflict where training speaks for the agent, and so decides."""
        desk.agent(agent_id)
        self._require_silence(agent_id)
        return desk.certify(agent_id, channel, until, now)

    def permit(self, desk: Desk, agent_id: str, channel: str, permit: Permit, now: float) -> Agent:
        """As `certify`."""
        desk.agent(agent_id)
        self._require_silence(agent_id)
        return desk.permit(agent_id, channel, permit, now)

    def lapse(self, desk: Desk, agent_id: str, channel: str, now: float) -> Agent:
        """By hand, in a turn: of what training gave, training alone takes away. Raises Conflict."""
        desk.agent(agent_id)
        assert self._turn_of is not None
        if any(word["kind"] != "lapsed" for word in training_store.words_on(self._turn_of.connection, agent_id, [channel])):
            raise domain.Conflict(
                f"training let {agent_id} serve {channel}: POST /v1/certifications/ID/revoke, or DELETE the permit of /v1/learners"
            )
        return desk.lapse(agent_id, channel, now)

    def _require_silence(self, agent_id: str) -> None:
        assert self._turn_of is not None
        if training_store.spoken_for(self._turn_of.connection, [agent_id]):
            raise domain.Conflict(f"training says what {agent_id} may serve: POST /v1/certifications or /v1/learners/{agent_id}/permits")

    def heed_scores(self, work: Work, desk: Desk, name: str) -> None:
        """There is news of how well somebody does: for the desk where they are."""
        if agent := desk.find_agent(name):
            desk.note_scores(agent.id, score_store.scores_of(work.connection, agent.known_as), clock.now())
            return
        shard = shard_store.shard_of_agent(work.connection, name)
        if shard is not None and shard != self.shard.number:
            self.shard.post(work, [(shard, "score", name, {})])

    def put_agent(self, desk: Desk, agent_id: str, profile: Mapping[str, Any]) -> Agent:
        """To be called in a turn."""
        assert self._turn_of is not None
        is_new = agent_id not in desk.agents
        agent = desk.put_agent(agent_id, **profile)
        for word in training_store.words_on(self._turn_of.connection, agent_id) if is_new else ():
            desk.heed(agent_id, word, clock.now())
        if is_new:
            self.heed_scores(self._turn_of, desk, agent_id)
        return agent

    def _hand_back(self, work: Work) -> None:
        """What the desk does not decide, the telephony system tells."""
        foreign, self._foreign = self._foreign, []
        if foreign:
            work.write()  # a leg is handed back as it is written
        for event in foreign:
            store.hand_back(work.connection, event.data["contact"], event.data["leg"]["number"])
            store.save_legs(work.connection, [hearing.leg_row(event)])
            hearing.pass_on(work, event, self.next_sequence())

    def _teaches(self, queue: str) -> bool:
        """Whether what was learnt of the queue is this shard's to keep."""
        assert self._desk is not None
        return queue in self._desk.queues and self.shard.is_ours(self._desk.queues[queue].pool)

    def _open(self, connection: Connection, now: float) -> Desk:
        began = not self._epoch
        self._epoch = store.open_desk(connection, self.shard.number)
        self.rules = self._rules(connection, now)
        self._spans = interval_store.open_spans(connection)
        queues, agents, contacts, offers = store.desk_rows(connection, now - HELD_SECONDS, now - KNOWN_SECONDS, self.shard.number)
        desk = Desk.load(queues, agents, contacts, offers, now=now, policies=self.rules.policies, zone=self.zone, stopwatch=clock.monotonic)
        desk.opening, desk.after_business = self.rules.opening, self.rules.after_business
        desk.experience |= {name: Experience.from_row(row) for name, row in store.load_experience(connection).items()}
        desk.departed |= store.departed(connection)
        for name, scores in score_store.all_scores(connection).items():
            if agent := desk.find_agent(name):
                desk.note_scores(agent.id, {**desk.scores.get(agent.id, {}), **scores}, now)
        self.shard.open(connection, desk)
        desk.leave_to_the_pbx(now)  # whom a change before had not reached yet
        rulebook.turn_away(desk, self.rules.closures, now)
        if began:
            desk.park_polled(now, PARKED_SECONDS)
        return desk

    def _rules(self, connection: Connection, now: float) -> Rules:
        loaded = rules.load(connection, now, self.rules)
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
        rulebook.turn_away(self._desk, self.rules.closures, clock.now())

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
            self._desk, self.rules = None, Rules()
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
            name, at, trace = f"routing.{event.name}.v1", event.data["at"], event.trace or None
            work.announce(Event(name, event.subject, event.data, at, self.next_sequence(), trace=trace))

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
        """Run commands in one transaction; each result is what the command returned, or the error that refused it.

        An error that nobody foresaw leaves a desk that is good for nothing. It is one command's, and the others run again without it; from
        the only one it is raised.
        """
        results: list[Any] = []
        try:
            with self.units() as work, self.turn(work) as desk:
                for command in commands:
                    try:
                        results.append(command(desk, clock.now()))
                    except domain.RoutingError as refused:
                        results.append(translated(refused))
                    except Exception as fault:
                        raise _Fault(fault) from fault
        except _Fault as culprit:
            if len(commands) == 1:
                raise culprit.error from None
            log.error("a command failed, the others run again", error=type(culprit.error).__name__, exc_info=culprit.error)
            at = len(results)
            others = self.execute([*commands[:at], *commands[at + 1 :]])
            return [*others[:at], culprit.error, *others[at:]]
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
            self.shard.tell_all(work, "rules", {})
        return result

    def ask_anew(self) -> None:
        """Whoever answered those who ask whom to dial has begun anew: on every desk their contacts wait apart until they ask again."""
        with self.units() as work, self.turn(work) as desk:
            desk.park_polled(clock.now(), PARKED_SECONDS)
            self.shard.tell_all(work, "ask_anew", {})

    def look(self, question: Command, contact: str = "") -> Any:
        """Ask the desk something that changes nothing; about a contact, if it names one, that may be over and forgotten."""
        if not (contact and self._is_forgotten(contact)):
            with self._lock:
                if self._desk is not None:
                    try:
                        return question(self._desk, clock.now())
                    except domain.RoutingError as refused:
                        return translated(refused)
        return self.execute([self.recalling(question, contact)])[0]

    def _is_forgotten(self, contact: str) -> bool:
        desk = self._desk
        if desk is None or contact in desk.contacts:
            return False
        with self.units.database.reading() as connection:
            return bool(store.over(connection, {contact}, clock.now() - KNOWN_SECONDS, self.shard.number))

    def next_deadline(self) -> float | None:
        if self._desk is None or self.shard.has_news:
            return 0.0
        moments = (self._desk.next_deadline(), self.rules.next_start)
        return min((moment for moment in moments if moment is not None), default=None)


class _Fault(Exception):
    """What a command raised although no rule of the desk refused it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


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
