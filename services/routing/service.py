"""Every door of routing: the events it hears and the commands and questions it answers."""

from collections.abc import Callable, Sequence
from typing import Any

from services.routing import handlers, reports
from services.routing.domain.desk import Desk
from services.routing.domain.entities import AgentState
from services.routing.handlers import Command, LiveDesk
from services.routing.metrics import RoutingMetrics
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.errors import AnswerlineError, NotFound
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.group import GroupCommit
from shared.runtime.loops import RelayLoop, consumes, continuously
from shared.runtime.rpc import rpc

LONGEST_WAIT = 0.5


class RoutingCore:
    """What lives as long as the process: the desk, and the line of commands before it."""

    def __init__(self, context: Context) -> None:
        self.database = context.database
        self.desk = LiveDesk(context.units)
        self.commands: GroupCommit[Command, Any] = GroupCommit(self._execute)
        self.metrics = RoutingMetrics(context)

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        return self.desk.execute(commands)

    def command(self, command: Command) -> Any:
        """Run a command on the desk; returns when it is durable. Raises what refused it."""
        return _or_raise(self.commands.submit(command))

    def look(self, question: Command) -> Any:
        """Ask the desk something. Raises what refused the question."""
        return _or_raise(self.desk.look(question))

    def report(self, make: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.reading() as connection:
            return make(connection, *arguments)


class RoutingService:
    name = "routing"

    core = Bootstrap(RoutingCore)
    relay = RelayLoop()

    # Events

    @consumes
    def on_gateway_events(self, work: Work, events: list[Event]) -> None:
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

    # Queues and agents

    @rpc
    def put_queue(self, queue: dict[str, Any]) -> dict[str, Any]:
        return self.core.command(lambda desk, _now: handlers.put_queue(desk, queue))

    @rpc
    def get_queue(self, name: str) -> dict[str, Any]:
        return self.core.look(lambda desk, _now: _found(desk.queues.get(name), f"no queue is called {name}"))

    @rpc
    def put_agent(self, agent_id: str, profile: dict[str, Any]) -> dict[str, Any]:
        return self.core.command(lambda desk, _now: desk.put_agent(agent_id, **profile).to_row())

    @rpc
    def get_agent(self, agent_id: str) -> dict[str, Any]:
        return self.core.look(lambda desk, _now: _found(desk.agents.get(agent_id), f"no agent is called {agent_id}"))

    @rpc
    def set_agent_state(self, agent_id: str, state: AgentState, reason: str, disposition: str | None) -> dict[str, Any]:
        def change(desk: Desk, now: float) -> dict[str, Any]:
            agent = desk.agents.get(agent_id)
            if disposition is not None and agent is not None:
                return desk.end_wrap_up(agent_id, now, state=state, reason=reason, disposition=disposition).to_row()
            return desk.set_agent_state(agent_id, state, now, reason).to_row()

        return self.core.command(change)

    # Offers and assignments

    @rpc
    def agent_offers(self, agent_id: str) -> list[dict[str, Any]]:
        return self.core.look(lambda desk, _now: handlers.offers_to(desk, agent_id))

    @rpc
    def accept_offer(self, offer_id: str, agent_id: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: desk.accept(offer_id, agent_id, now).to_row())

    @rpc
    def reject_offer(self, offer_id: str, agent_id: str, reason: str) -> dict[str, Any]:
        return self.core.command(lambda desk, now: desk.reject(offer_id, agent_id, now, reason).to_row())

    @rpc
    def get_assignment(self, contact_id: str) -> dict[str, Any]:
        found = self.core.look(lambda desk, _now: handlers.assignment(desk, contact_id))
        if found["state"] == "parked":
            return self.core.command(lambda desk, now: handlers.listen(desk, contact_id, now))
        return found

    @rpc
    def stop_waiting(self, contact_id: str) -> None:
        self.core.command(lambda desk, now: handlers.stop_listening(desk, contact_id, now))

    # Reports

    @rpc
    def report_queues(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.queues, filters)

    @rpc
    def report_agents(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.report(reports.agents, filters)

    @rpc
    def report_live(self, since: float) -> dict[str, Any]:
        return self.core.report(reports.live, since)

    @rpc
    def get_contact(self, contact_id: str) -> dict[str, Any]:
        return self.core.report(reports.contact, contact_id)


def _nothing(_desk: Desk, _now: float) -> None:
    """Whatever is due happens at the end of every turn."""


def _or_raise(result: Any) -> Any:
    if isinstance(result, AnswerlineError):
        raise result
    return result


def _found(entity: Any, otherwise: str) -> dict[str, Any]:
    if entity is None:
        raise NotFound(otherwise)
    return entity.to_row()
