"""Every door of im: the events it hears, the commands and questions it answers, and the ladders' clock."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from services.im import handlers, metrics, reports
from services.im.domain.escalation import Escalation
from services.im.domain.ladder import Ladder
from services.im.metrics import RoomMetrics
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.errors import AnswerlineError
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.group import GroupCommit
from shared.runtime.loops import RelayLoop, consumes, continuously
from shared.runtime.rpc import rpc

LONGEST_PAUSE = 0.25
LOCKED_PAUSE = 0.05
FORGET_EVERY = 3600.0

Change = Callable[[Escalation, Ladder, float], Any]


class ImCore:
    """What lives as long as the process. Any number of processes may work at once: whatever is due, one of them does."""

    def __init__(self, context: Context) -> None:
        self.units = context.units
        self.database = context.database
        self.posts: GroupCommit[Mapping[str, Any], Any] = GroupCommit(partial(handlers.post_messages, context.units), most=100)
        self.metrics = RoomMetrics(context.database)

    def close(self) -> None:
        self.metrics.close()

    def look(self, question: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.reading() as connection:
            return question(connection, *arguments)

    def change(self, id: str, do: Change) -> dict[str, Any]:
        return handlers.change(self.units, id, do)


class ImService:
    name = "im"

    core = Bootstrap(ImCore)
    relay = RelayLoop()

    @consumes
    def on_events(self, work: Work, events: list[Event]) -> None:
        handlers.receive(work, events)

    @continuously
    def climb(self) -> None:
        """Ladders go on when it is time; sleeps until shortly before, or until another process may have begun one."""
        armed = self.core.look(handlers.arm)
        pause = LONGEST_PAUSE if armed.first_at is None else armed.first_at - clock.now()
        if not armed.ids:
            time.sleep(min(max(pause - handlers.ARMED_AHEAD, 0.0), LONGEST_PAUSE))
            return
        time.sleep(max(pause, 0.0))
        late = handlers.climb_due(self.core.units, armed)
        for seconds in late:
            metrics.TIMER_ERROR.observe(seconds)
        if not late:  # another has it locked
            time.sleep(LOCKED_PAUSE)

    @continuously(every=FORGET_EVERY)
    def forget(self) -> None:
        """Texts go when their time is up."""
        handlers.forget(self.core.units)

    # Questions

    @rpc
    def open_escalation(self, asked: dict[str, Any], id: str) -> dict[str, Any]:
        return handlers.open_escalation(self.core.units, asked, id)

    @rpc
    def get_escalation(self, id: str, person: str = "") -> dict[str, Any]:
        return self.core.look(handlers.get, id, person)

    @rpc
    def get_room(self, id: str) -> dict[str, Any]:
        return self.core.look(handlers.room, id)

    @rpc
    def list_escalations(
        self, contact: str = "", person: str = "", state: str = "", after: str = "", limit: int = 100, queues: Sequence[str] | None = None
    ) -> dict[str, Any]:
        return self.core.look(handlers.listing, contact, person, state, after, limit, queues)

    @rpc
    def claim(self, id: str, expert: str) -> dict[str, Any]:
        return handlers.claim(self.core.units, id, expert)

    @rpc
    def release(self, id: str, expert: str) -> dict[str, Any]:
        return self.core.change(id, lambda one, ladder, now: one.release(expert, ladder, now))

    @rpc
    def pass_by(self, id: str, expert: str) -> dict[str, Any]:
        return self.core.change(id, lambda one, _ladder, now: one.pass_by(expert, now))

    @rpc
    def join(self, id: str, expert: str) -> dict[str, Any]:
        return self.core.change(id, lambda one, _ladder, now: one.join(expert, now))

    @rpc
    def hand_over(self, id: str, expert: str, to: str) -> dict[str, Any]:
        return self.core.change(id, lambda one, ladder, now: one.hand_over(expert, to, ladder, now))

    @rpc
    def accept(self, id: str, agent: str, hold_seconds: float | None = None, in_contact: bool | None = None) -> dict[str, Any]:
        return handlers.accept(self.core.units, id, agent, hold_seconds, in_contact)

    @rpc
    def did_not_help(self, id: str, agent: str) -> dict[str, Any]:
        return self.core.change(id, lambda one, ladder, now: one.did_not_help(agent, ladder, now))

    @rpc
    def close(self, id: str, agent: str, reason: str = "") -> dict[str, Any]:
        return self.core.change(id, lambda one, _ladder, now: one.close(agent, now, reason))

    @rpc
    def obey(self, code: str, person: str, what: str, text: str = "") -> dict[str, Any]:
        """What somebody orders from a chat, by the question's code: claim, pass or answer. Who answers claims it."""
        id = self.core.look(handlers.id_of_code, code)
        if what == "pass":
            return self.pass_by(id, person)
        told = self.claim(id, person)
        if what == "answer":
            self.post_message(id, person, text, "answer")
        return told

    # Rooms

    @rpc
    def post_message(self, id: str, author: str, text: str, kind: str = "text") -> dict[str, Any]:
        posted = self.core.posts.submit({"escalation": id, "author": author, "text": text, "kind": kind})
        if isinstance(posted, AnswerlineError):
            raise posted
        return posted

    @rpc
    def list_messages(self, id: str, person: str = "", after: int = 0, limit: int = 100) -> dict[str, Any]:
        return self.core.look(handlers.messages, id, person, after, limit)

    @rpc
    def read(self, id: str, person: str, number: int) -> dict[str, Any]:
        return self.core.change(id, lambda one, _ladder, _now: one.read(person, number))

    # Experts and ladders

    @rpc
    def put_expert(self, id: str, profile: dict[str, Any]) -> dict[str, Any]:
        return handlers.put_expert(self.core.units, id, profile)

    @rpc
    def get_expert(self, id: str) -> dict[str, Any]:
        return self.core.look(handlers.get_expert, id)

    @rpc
    def list_experts(self, after: str = "", limit: int = 100) -> dict[str, Any]:
        return self.core.look(handlers.list_experts, after, limit)

    @rpc
    def set_presence(self, person: str, state: str) -> dict[str, Any]:
        return handlers.set_presence(self.core.units, person, state)

    @rpc
    def heartbeat(self, people: Sequence[str]) -> None:
        handlers.heartbeat(self.core.units, people)

    @rpc
    def put_ladder(self, name: str, document: str, by: str) -> dict[str, Any]:
        return handlers.put_ladder(self.core.units, name, document, by)

    @rpc
    def get_ladder(self, name: str) -> dict[str, Any]:
        return self.core.look(handlers.get_ladder, name)

    # Reports

    @rpc
    def report_questions(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.look(reports.questions, filters)

    @rpc
    def report_experts(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.look(reports.experts, filters)

    @rpc
    def report_effect(self, filters: dict[str, Any]) -> dict[str, Any]:
        return self.core.look(reports.effects, filters)
