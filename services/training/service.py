"""Every door of training: the events it hears, the commands and questions it answers, and the clock of its certificates."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from services.training import classes, documents, handlers, metrics, planning, reports, store
from services.training.metrics import TrainingMetrics
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.loops import RelayLoop, consumes, continuously
from shared.runtime.rpc import rpc

log = structlog.get_logger()

LONGEST_PAUSE = 0.5
PLAN_EVERY = 0.5

Scope = dict[str, Any] | None


class TrainingCore:
    """What lives as long as the process. Any number of processes may work at once: whatever is due, one of them does."""

    def __init__(self, context: Context) -> None:
        self.units = context.units
        self.database = context.database
        self.metrics = TrainingMetrics(context.database)

    def close(self) -> None:
        self.metrics.close()

    def look(self, question: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.reading() as connection:
            return question(connection, *arguments)


class TrainingService:
    name = "training"

    core = Bootstrap(TrainingCore)
    relay = RelayLoop()

    @consumes
    def on_events(self, work: Work, events: list[Event]) -> None:
        handlers.receive(work, events)

    @continuously
    def lapse(self) -> None:
        """Certificates end, and people are reminded, when it is time; sleeps until then, or until there may be a new one."""
        due = self.core.look(store.next_due)
        pause = LONGEST_PAUSE if due is None else min(due - clock.now(), LONGEST_PAUSE)
        if pause > 0:
            time.sleep(pause)
            return
        late = handlers.do_due(self.core.units)
        for seconds in late:
            metrics.LAPSE_ERROR.observe(seconds)

    @continuously(every=PLAN_EVERY)
    def plan(self) -> None:
        """Plans that were asked for are made, one after the other, in a process of their own."""
        outcome, seconds = planning.work_off(self.core.units, planning.in_a_process)
        if outcome:
            metrics.PLANS.labels(outcome).inc()
            metrics.PLANNED.observe(seconds)

    # What is written down

    @rpc
    def put_definition(self, kind: str, name: str, document: str, by: str) -> dict[str, Any]:
        return handlers.put_definition(self.core.units, kind, name, documents.parse(document), by)

    @rpc
    def get_definition(self, kind: str, name: str, version: int | None = None) -> dict[str, Any]:
        return self.core.look(handlers.get_definition, kind, name, version)

    @rpc
    def list_definitions(self, kind: str, after: str = "", limit: int = 100) -> dict[str, Any]:
        return self.core.look(handlers.list_definitions, kind, after, limit)

    # Learners

    @rpc
    def get_learner(self, person: str, scope: Scope = None) -> dict[str, Any]:
        return self.core.look(handlers.learner, person, scope)

    @rpc
    def open_learning(self, person: str, target: str, by: str, approver: str = "", reason: str = "", scope: Scope = None) -> dict[str, Any]:
        return handlers.open_learning(self.core.units, person, target, by, approver, reason, scope)

    @rpc
    def give_up_learning(self, person: str, target: str, scope: Scope = None) -> None:
        handlers.give_up(self.core.units, person, target, scope)

    @rpc
    def give_permit(self, person: str, told: dict[str, Any], by: str, scope: Scope = None) -> dict[str, Any]:
        return handlers.give_permit(self.core.units, person, told, by, scope)

    @rpc
    def withdraw_permit(self, person: str, channel: str, scope: Scope = None) -> None:
        handlers.withdraw_permit(self.core.units, person, channel, scope)

    @rpc
    def note_self_study(self, person: str, day: str, minutes: int, by: str, course: str = "", scope: Scope = None) -> dict[str, Any]:
        return handlers.note_self_study(self.core.units, person, day, minutes, course, by, scope)

    # Certificates

    @rpc
    def certify(self, person: str, target: str, by: str, scope: Scope = None) -> dict[str, Any]:
        return handlers.certify(self.core.units, person, target, by, scope)

    @rpc
    def list_certificates(
        self, person: str = "", target: str = "", state: str = "", after: str = "", limit: int = 100, scope: Scope = None
    ) -> dict[str, Any]:
        return self.core.look(handlers.list_certificates, person, target, state, after, limit, scope)

    @rpc
    def renew_certificate(self, id: str, by: str, scope: Scope = None) -> dict[str, Any]:
        return handlers.renew(self.core.units, id, by, scope)

    @rpc
    def revoke_certificate(self, id: str, reason: str, by: str, scope: Scope = None) -> dict[str, Any]:
        return handlers.revoke(self.core.units, id, reason, by, scope)

    @rpc
    def import_certificates(self, rows: Sequence[Mapping[str, Any]], by: str) -> list[str | None]:
        """For each row what refused it."""
        return [None if error is None else error.detail for error in handlers.import_certificates(self.core.units, rows, by)]

    @rpc
    def held_certificates(self, people: Sequence[str] | None = None, after: str = "", limit: int = 1000) -> dict[str, Any]:
        return self.core.look(handlers.held, people, after, limit)

    # Exams

    @rpc
    def begin_attempt(self, exam: str, person: str, scope: Scope = None) -> dict[str, Any]:
        return handlers.begin_attempt(self.core.units, exam, person, scope)

    @rpc
    def answer_attempt(self, id: str, answers: dict[str, list[int]], scope: Scope = None) -> dict[str, Any]:
        return handlers.answer_attempt(self.core.units, id, answers, scope)

    @rpc
    def list_attempts(self, exam: str, person: str, scope: Scope = None) -> dict[str, Any]:
        return self.core.look(handlers.list_attempts, exam, person, scope)

    # Sessions and programmes

    @rpc
    def create_session(self, told: dict[str, Any], id: str = "") -> dict[str, Any]:
        return classes.create(self.core.units, told, id)

    @rpc
    def get_session(self, id: str, scope: Scope = None) -> dict[str, Any]:
        return self.core.look(classes.get, id, scope)

    @rpc
    def list_sessions(self, asked: dict[str, Any], scope: Scope = None) -> dict[str, Any]:
        return self.core.look(classes.listing, asked, scope)

    @rpc
    def move_session(self, id: str, told: dict[str, Any], scope: Scope = None) -> dict[str, Any]:
        return classes.move(self.core.units, id, told, scope)

    @rpc
    def cancel_session(self, id: str, reason: str = "", scope: Scope = None) -> dict[str, Any]:
        return classes.cancel(self.core.units, id, reason, scope)

    @rpc
    def enrol(self, id: str, people: Sequence[str], wait: bool = False, scope: Scope = None) -> dict[str, Any]:
        return classes.enrol(self.core.units, id, people, wait, scope)

    @rpc
    def withdraw(self, id: str, person: str, scope: Scope = None) -> dict[str, Any]:
        return classes.withdraw(self.core.units, id, person, scope)

    @rpc
    def attend(self, id: str, told: Sequence[Mapping[str, Any]], by: str, scope: Scope = None) -> dict[str, Any]:
        return classes.attend(self.core.units, id, told, by, scope)

    @rpc
    def create_programme(self, id: str, told: dict[str, Any], by: str) -> dict[str, Any]:
        return classes.create_programme(self.core.units, id, told, by)

    @rpc
    def move_programme(self, id: str, start: str, weekday: str = "") -> dict[str, Any]:
        return classes.move_programme(self.core.units, id, start, weekday)

    @rpc
    def get_programme(self, id: str) -> dict[str, Any]:
        return self.core.look(classes.get_programme, id)

    # Plans

    @rpc
    def ask_plan(self, told: dict[str, Any], by: str, id: str = "") -> dict[str, Any]:
        return planning.ask(self.core.units, told, by, id)

    @rpc
    def get_plan(self, id: str, scope: Scope = None) -> dict[str, Any]:
        return self.core.look(planning.get, id, scope)

    @rpc
    def apply_plan(self, id: str) -> dict[str, Any]:
        return planning.apply(self.core.units, id)

    # Reports

    @rpc
    def report(self, name: str, filters: dict[str, Any], scope: Scope = None) -> dict[str, Any]:
        return self.core.look(reports.REPORTS[name], filters, scope)
