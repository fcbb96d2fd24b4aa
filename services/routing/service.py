"""Every door of routing: the events it hears and the commands and questions it answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from services.routing import handlers, interval_reports, reports, rulebook, shadow_store, shard_store, sharding, store, training_store
from services.routing import scope as scopes
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Permit, Presence
from services.routing.domain.errors import RoutingError
from services.routing.live import Command, LiveDesk, translated
from services.routing.metrics import DECISIONS, IDLE_WHILE_WAITING, TURN_SECONDS, RoutingMetrics
from services.routing.shadows import Shadows
from services.routing.shard_store import DEFAULT_POOL
from services.routing.sharding import Shard
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.errors import Conflict, Elsewhere, NotFound
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context, tell_news
from shared.runtime.group import GroupCommit
from shared.runtime.heavy import off_the_hub
from shared.runtime.loops import RelayLoop, consumes, continuously
from shared.runtime.rpc import rpc
from shared.runtime.shards import leave

log = structlog.get_logger()

LONGEST_WAIT = 0.5
BOOKS_SECONDS = 30.0
WATCH_SECONDS = 1.0
SHADOW_SECONDS = 1.0


class RoutingCore:
    """What lives as long as this process holds the shard: the desk, and the line of commands before it."""

    def __init__(self, context: Context) -> None:
        self.database = context.database
        self.zone = str(context.settings.zone)
        sharding.check(context.database, context.shards)
        self.shard = Shard(context.units, context.shard, context.shards, partial(tell_news, context))
        self.desk = LiveDesk(context.units, context.settings.zone, self.shard)
        self.desk.on_superseded = partial(leave, context.name)  # the lease may be ours again: the desk is not
        self.relay = context.relay
        context.on_news = self._look_now
        self.commands: GroupCommit[Command, Any] = GroupCommit(self.desk.execute)
        self.metrics = None if context.shard else RoutingMetrics(context.database)  # they tell of all shards
        self.desk.on_turn = self._measure
        self.shadows = Shadows(context.units, context.settings.database_of(context.name), self.zone)

    def _measure(self, seconds: float, rules: Sequence[str]) -> None:
        TURN_SECONDS.observe(seconds)
        for rule in rules:
            DECISIONS.labels(rule).inc()

    def close(self) -> None:
        self.shadows.close()
        if self.metrics:
            self.metrics.close()

    def _look_now(self, mail: bool) -> None:
        if mail:
            self.shard.has_news = True
            self.desk.changed.set()
        else:
            self.relay.wake()

    def _require_ours(self, **named: str) -> None:
        """Raises Elsewhere when what is named (agent, contact, queue, or else pool) belongs to another shard."""
        if not self.shard.others or not named or self.desk.has(**named):
            return
        with self.database.transaction() as connection:
            shard = self.shard.of(connection, **named)
        if shard == self.shard.number:
            self.commands.submit(_nothing)  # it may have come to us a moment ago
        elif shard is not None:
            raise Elsewhere(shard)

    def command(self, command: Command, **named: str) -> Any:
        """Run a command on the desk; returns when it is durable. Raises what refused it, or Elsewhere: see `_require_ours`. A contact or
        offer that is named may be over and forgotten by the desk."""
        offer = named.pop("offer", "")
        self._require_ours(**named)
        return _or_raise(self.commands.submit(self.desk.recalling(command, named.get("contact", ""), offer)))

    def require_unclaimed(self, agent_id: str, names: Sequence[str]) -> None:
        """Raises Conflict when an agent of another shard is known by one of these names; those of ours the desk knows."""
        if self.shard.others:
            with self.database.reading() as connection:
                if other := shard_store.claimed_elsewhere(connection, self.shard.number, agent_id, [name for name in names if name]):
                    raise Conflict(f"One of the names of {agent_id} already stands for agent {other}.")

    def look(self, question: Command, **named: str) -> Any:
        """Ask the desk something. Raises what refused the question, or Elsewhere: see `_require_ours`."""
        self._require_ours(**named)
        return _or_raise(self.desk.look(question, named.get("contact", "")))

    def rule(self, change: Callable[..., Any], *arguments: Any) -> Any:
        """Change a rule, with the desk following it in the same transaction."""
        return _or_raise(self.desk.change_rules(change, arguments))

    def report(self, make: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.reading() as connection:
            try:
                if self.database.sqlite:  # there a query holds up the whole process
                    return off_the_hub(make, connection, *arguments)
                return make(connection, *arguments)
            except RoutingError as refused:
                raise translated(refused) from refused


class RoutingService:
    name = "routing"

    core = Bootstrap(RoutingCore)
    relay = RelayLoop()

    # Events

    @consumes
    def on_events(self, work: Work, events: list[Event]) -> None:
        handlers.receive(self.core.desk, work, events)

    @continuously
    def keep_deadlines(self) -> None:
        """Offers expire and parked contacts give up on time."""
        desk = self.core.desk
        deadline = desk.next_deadline()
        if deadline is not None and deadline <= clock.now():
            self.core.command(_nothing)
            return
        desk.changed.clear()
        pause = LONGEST_WAIT if deadline is None else min(max(deadline - clock.now(), 0.0), LONGEST_WAIT)
        desk.changed.wait(pause)
        self.core.shard.look()

    @continuously(every=WATCH_SECONDS)
    def watch_over(self) -> None:
        """Whoever waits although somebody is free for them is a fault of ours: it is measured, and is to be 0."""
        if overlooked := self.core.look(lambda desk, now: desk.overlooked(now)):
            IDLE_WHILE_WAITING.inc(len(overlooked) * WATCH_SECONDS)
            log.error("contacts wait although agents are free", contacts=overlooked[:5], count=len(overlooked))

    @continuously(every=BOOKS_SECONDS, first_shard_only=True)
    def close_the_books(self) -> None:
        """Intervals become final, and old decision records go."""
        handlers.close_the_books(self.core.desk.units)

    @continuously(every=SHADOW_SECONDS, first_shard_only=True)
    def follow_shadows(self) -> None:
        """Each policy with a shadow is compared with it again and again, by a process of its own."""
        self.core.shadows.step()

    # Queues and rules

    @rpc
    def put_queue(self, queue: dict[str, Any]) -> dict[str, Any]:
        return self.core.command(
            lambda desk, _now: handlers.put_queue(desk, queue), queue=queue["name"], pool=queue.get("pool", DEFAULT_POOL)
        )

    @rpc
    def get_queue(self, name: str) -> dict[str, Any]:
        return self.core.look(lambda desk, _now: _found(desk.queues.get(name), f"no queue is called {name}"), queue=name)

    @rpc
    def list_queues(self, after: str = "", limit: int = 100, scope: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.core.report(store.page, store.queue, after, limit, scopes.in_sight(store.queue, scope))

    @rpc
    def put_policy(self, name: str, document: str, by: str, note: str = "", starts_at: float | None = None) -> dict[str, Any]:
        rulebook.prepare_policy(document)
        return self.core.rule(rulebook.put_policy, name, document, by, note, starts_at)

    @rpc
    def rollback_policy(self, name: str, by: str) -> dict[str, Any]:
        return self.core.rule(rulebook.rollback_policy, name, by)

    @rpc
    def unschedule_policy(self, name: str, by: str) -> dict[str, Any]:
        return self.core.rule(rulebook.unschedule_policy, name, by)

    @rpc
    def get_policy(self, name: str) -> dict[str, Any]:
        return self.core.report(rulebook.get_policy, name)

    @rpc
    def list_policies(self) -> dict[str, Any]:
        return self.core.report(rulebook.list_policies)

    @rpc
    def policy_history(self, name: str) -> dict[str, Any]:
        return self.core.report(rulebook.policy_history, name)

    @rpc
    def diff_policy(self, name: str, document: str | None = None, version: int | None = None) -> dict[str, Any]:
        return self.core.report(rulebook.diff_policy, name, document, version)

    @rpc
    def dry_run_policy(self, name: str, document: str) -> dict[str, Any]:
        elsewhere = self.core.report(shard_store.waiting_elsewhere, self.core.shard.number, name) if self.core.shard.others else ()
        running, waiting = self.core.look(lambda desk, _now: rulebook.waiting_under(desk, name, elsewhere))
        try:
            return rulebook.dry_run_policy(name, document, running, waiting)
        except RoutingError as refused:
            raise translated(refused) from refused

    @rpc
    def put_shadow(self, name: str, document: str, by: str) -> dict[str, Any]:
        rulebook.prepare_policy(document)
        return self.core.rule(rulebook.put_shadow, name, document, by)

    @rpc
    def get_shadow(self, name: str) -> dict[str, Any]:
        return self.core.report(shadow_store.get, name)

    @rpc
    def end_shadow(self, name: str) -> dict[str, Any]:
        return self.core.rule(rulebook.end_shadow, name)

    @rpc
    def put_calendar(self, name: str, document: dict[str, Any], by: str) -> dict[str, Any]:
        rulebook.prepare_calendar({**document, "name": name})
        return self.core.rule(rulebook.put_calendar, name, document, by)

    @rpc
    def get_calendar(self, name: str) -> dict[str, Any]:
        return self.core.report(rulebook.get_calendar, name)

    @rpc
    def put_closure(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        return self.core.rule(rulebook.put_closure, request, by)

    @rpc
    def end_closure(self, closure_id: str, by: str) -> dict[str, Any]:
        return self.core.rule(rulebook.end_closure, closure_id, by)

    @rpc
    def list_closures(self) -> dict[str, Any]:
        return self.core.report(rulebook.list_closures)

    @rpc
    def put_dispositions(self, name: str, document: dict[str, Any], by: str) -> dict[str, Any]:
        return self.core.rule(rulebook.put_dispositions, name, document, by)

    @rpc
    def get_dispositions(self, name: str) -> dict[str, Any]:
        return self.core.report(rulebook.get_dispositions, name)

    # Agents

    @rpc
    def put_agent(self, agent_id: str, profile: dict[str, Any]) -> dict[str, Any]:
        self.core.require_unclaimed(agent_id, [agent_id, profile.get("address", ""), *profile.get("aliases", ())])
        return self.core.command(
            lambda desk, _now: self.core.desk.put_agent(desk, agent_id, profile).to_row(),
            agent=agent_id,
            pool=profile.get("pool", DEFAULT_POOL),
        )

    @rpc
    def get_agent(self, agent_id: str) -> dict[str, Any]:
        return self.core.look(lambda desk, _now: _found(desk.agents.get(agent_id), f"no agent is called {agent_id}"), agent=agent_id)

    @rpc
    def list_agents(self, after: str = "", limit: int = 100, scope: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.core.report(store.page, store.agent, after, limit, scopes.in_sight(store.agent, scope))

    @rpc
    def belongings(self) -> dict[str, Any]:
        """Where queues and agents belong: see scope.belonging."""
        return self.core.report(scopes.belonging)

    @rpc
    def set_agent_state(
        self, agent_id: str, state: Presence, reason: str = "", disposition: Any = None, session: str = ""
    ) -> dict[str, Any]:
        def change(desk: Desk, now: float) -> dict[str, Any]:
            if disposition is not None and agent_id in desk.agents:
                handlers.wrap_up(desk, self.core.desk.rules, agent_id, None, disposition, now)
            return desk.set_agent_state(agent_id, state, now, reason, session).to_row()

        return self.core.command(change, agent=agent_id)

    @rpc
    def certify(self, agent_id: str, channel: str, until: float | None) -> dict[str, Any]:
        return self.core.command(lambda desk, now: self.core.desk.certify(desk, agent_id, channel, until, now).to_row(), agent=agent_id)

    @rpc
    def lapse(self, agent_id: str, channel: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: self.core.desk.lapse(desk, agent_id, channel, now).to_row(), agent=agent_id)

    @rpc
    def permit(self, agent_id: str, channel: str, supervisor: str, per_day: int, until: float) -> dict[str, Any]:
        permit: Permit = {"supervisor": supervisor, "per_day": per_day, "until": until}
        return self.core.command(lambda desk, now: self.core.desk.permit(desk, agent_id, channel, permit, now).to_row(), agent=agent_id)

    @rpc
    def spoken_for(self, agents: Sequence[str]) -> list[str]:
        """Those of these agents whose certificates are training's to give."""
        return self.core.report(training_store.spoken_for, agents)

    # Offers and assignments

    @rpc
    def agent_offers(self, agent_id: str, session: str = "") -> list[dict[str, Any]]:
        return self.core.look(lambda desk, _now: handlers.offers_to(desk, agent_id, session), agent=agent_id)

    @rpc
    def accept_offer(self, offer_id: str, agent_id: str, session: str = "") -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.accept(desk, offer_id, agent_id, session, now), agent=agent_id, offer=offer_id)

    @rpc
    def reject_offer(self, offer_id: str, agent_id: str, reason: str = "", session: str = "", missed: bool = False) -> dict[str, Any]:
        def reject(desk: Desk, now: float) -> dict[str, Any]:
            desk.require_session(agent_id, session)
            return desk.reject(offer_id, agent_id, now, reason, missed=missed).to_row()

        return self.core.command(reject, agent=agent_id, offer=offer_id)

    @rpc
    def get_assignment(self, contact_id: str, language: str = "", polls: bool = False) -> dict[str, Any]:
        """`polls`: whoever asks goes on asking, so that silence means that nobody is there."""

        def look(desk: Desk, now: float) -> tuple[dict[str, Any], bool]:
            return handlers.assignment(desk, contact_id, now, language), polls and handlers.is_news_to(desk, contact_id)

        found, is_first = self.core.look(look, contact=contact_id)
        if is_first or found["state"] == "parked":
            return self.core.command(lambda desk, now: handlers.listen(desk, contact_id, now, language, polls), contact=contact_id)
        return found

    @rpc
    def ask_anew(self) -> None:
        """Whoever answered those who ask whom to dial has begun anew. See `Desk.park_polled`."""
        self.core.desk.ask_anew()

    @rpc
    def stop_waiting(self, contact_id: str) -> None:
        self.core.command(lambda desk, now: handlers.stop_listening(desk, contact_id, now), contact=contact_id)

    @rpc
    def get_decisions(self, contact_id: str, agent: str | None = None) -> dict[str, Any]:
        def profile(desk: Desk, _now: float) -> Any:
            return desk.profile_of(desk.agent(agent)) if agent else None

        return self.core.report(handlers.decisions, contact_id, agent, self.core.look(profile, agent=agent or ""))

    # What becomes of a contact

    @rpc
    def end_contact(self, contact_id: str, ended_by: str = "agent") -> dict[str, Any]:
        """The conversation is over, where no telephony system tells so: a callback, a matter in writing."""
        return self.core.command(lambda desk, now: handlers.shown(desk.hang_up(contact_id, now, ended_by)), contact=contact_id)

    @rpc
    def transfer_contact(self, contact_id: str, queue: str = "", agent: str = "") -> dict[str, Any]:
        return self.core.command(
            lambda desk, now: handlers.shown(desk.transfer(contact_id, now, queue=queue, agent=agent)), contact=contact_id
        )

    @rpc
    def requeue_contact(self, contact_id: str, reason: str = "") -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.requeue(contact_id, now, reason)), contact=contact_id)

    @rpc
    def confer_contact(self, contact_id: str, agent: str = "", participant: str = "") -> dict[str, Any]:
        return self.core.command(
            lambda desk, now: handlers.shown(desk.confer(contact_id, now, agent=agent, participant=participant)), contact=contact_id
        )

    @rpc
    def pend_contact(self, contact_id: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.pend(contact_id, now)), contact=contact_id)

    @rpc
    def resume_contact(self, contact_id: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.resume(contact_id, now)), contact=contact_id)

    @rpc
    def reply_contact(self, contact_id: str, agent_id: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.reply(contact_id, agent_id, now)), contact=contact_id)

    @rpc
    def wrap_up_contact(self, contact_id: str, agent_id: str, disposition: Any = None) -> dict[str, Any]:
        return self.core.command(
            lambda desk, now: handlers.wrap_up(desk, self.core.desk.rules, agent_id, contact_id, disposition, now).to_row(),
            agent=agent_id,
        )

    @rpc
    def promise_callback(self, contact_id: str, number: str, country: str = "", zone: str = "", caller_ref: str = "") -> dict[str, Any]:
        return self.core.command(
            lambda desk, now: handlers.promise_callback(desk, contact_id, number, country, zone, now, caller_ref), contact=contact_id
        )

    @rpc
    def callback_dialled(self, contact_id: str, outcome: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.callback_dialled(contact_id, now, outcome)), contact=contact_id)

    @rpc
    def cancel_callback(self, contact_id: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: handlers.shown(desk.cancel_callback(contact_id, now)), contact=contact_id)

    # Reports

    @rpc
    def report_queues(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.queues, filters)

    @rpc
    def report_agents(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.agents, filters)

    @rpc
    def report_queue_intervals(self, filters: dict[str, Any], step: str, zone: str = "", format: str = "json") -> dict[str, Any]:
        report = self.core.report(interval_reports.queue_intervals, filters, step, zone or self.core.zone)
        return {"csv": interval_reports.to_csv(report["intervals"])} if format == "csv" else report

    @rpc
    def report_agent_intervals(self, filters: dict[str, Any], step: str, zone: str = "", format: str = "json") -> dict[str, Any]:
        report = self.core.report(interval_reports.agent_intervals, filters, step, zone or self.core.zone)
        columns = interval_reports.AGENT_COLUMNS
        return {"csv": interval_reports.to_csv(report["intervals"], columns)} if format == "csv" else report

    @rpc
    def report_live(self, since: float) -> dict[str, Any]:
        return self.core.report(reports.live, since)

    @rpc
    def report_callbacks(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.callbacks, filters)

    @rpc
    def report_matters(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.open_matters, filters)

    @rpc
    def report_estimates(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.estimates, filters)

    @rpc
    def get_contact(self, contact_id: str) -> dict[str, Any]:
        return self.core.report(reports.contact, contact_id)


def _nothing(_desk: Desk, _now: float) -> None:
    """Whatever is due happens at the end of every turn."""


def _or_raise(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def _found(entity: Any, otherwise: str) -> dict[str, Any]:
    if entity is None:
        raise NotFound(otherwise)
    return entity.to_row()
