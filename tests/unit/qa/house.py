"""qa in one house: contacts as routing and the gateway tell of them, and people who evaluate them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from services.qa import handlers, intake, store
from services.qa.handlers import Viewer
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.ids import new_id
from tests.unit.conftest import SetClock

CARD = """
kind: internal
title: {en: Small}
sections:
  - id: all
    title: {en: All}
    criteria:
      - {id: solved, title: {en: Solved}, critical: customer, may_not_apply: false}
      - {id: clear, title: {en: Clear}, answering: scale, low: 1, high: 5}
"""
LEAD = Viewer("lea", "lea", "supervisor", leads=True)
EVE = Viewer("eve", "eve", "evaluator", leads=False)
OTTO = Viewer("otto", "otto", "evaluator", leads=False)
ANNA = Viewer("anna", "anna", "agent", leads=False, agent=True)
GOOD: dict[str, Any] = {"solved": "yes", "clear": 5}
BAD: dict[str, Any] = {"solved": "no", "clear": 1}


def marks(**answers: Any) -> list[dict[str, Any]]:
    return [{"criterion": name, "answer": answer, "second": 12.5} for name, answer in answers.items()]


class House:
    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        self.units, self.at = units, at
        handlers.put_scorecard(units, "small", CARD, "test")

    def hear(self, type: str, subject: str, data: dict[str, Any], sequence: int = 1) -> None:
        with self.units() as work:
            intake.receive(work, [Event(type, subject, data, self.at(), sequence)])

    def route(self, what: str, contact: str, sequence: int = 1, **data: Any) -> None:
        base = {
            "contact": contact,
            "leg": 1,
            "queue": "support",
            "channel": "voice",
            "customer": "k1",
            "direction": "inbound",
            "at": self.at(),
        }
        self.hear(f"routing.contact_{what}.v1", contact, base | data, sequence)

    def gate(self, what: str, contact: str, sequence: int = 1, leg: dict[str, Any] | None = None, **data: Any) -> None:
        whole = {"number": 1, "queue": "support", "outcome": "completed"} | (leg or {})
        self.hear(
            f"gateway.contact_{what}.v1", contact, {"contact": contact, "channel": "voice", "facts": {}} | data | {"leg": whole}, sequence
        )

    def call(self, agent: str = "anna", contact: str = "", **data: Any) -> str:
        """A contact that an agent had, and that is over."""
        contact = contact or new_id()
        self.route("completed", contact, 9, **{"agent": agent, "talk_seconds": 60.0, "waited_seconds": 5.0, "ended_by": "caller"} | data)
        return contact

    def person(self, person: str, *roles: str) -> None:
        told = {"person": person, "team": "", "site": "", "roles": list(roles), "active": True}
        self.hear("gateway.person_changed.v1", person, told)

    def answer(self, contact: str, **told: Any) -> None:
        self.hear("gateway.survey_answered.v1", contact, {"contact": contact, "answer": new_id(), "at": self.at()} | told)

    def evaluate(self, contact: str, viewer: Viewer = EVE, **more: Any) -> dict[str, Any]:
        told = {"contact": contact, "scorecard": "small", "evaluator": viewer.person} | more
        return handlers.open_evaluation(self.units, told, viewer)

    def submit(self, id: str, viewer: Viewer = EVE, answers: dict[str, Any] | None = None) -> dict[str, Any]:
        handlers.write_evaluation(self.units, id, {"marks": marks(**(GOOD if answers is None else answers))}, viewer.person, viewer)
        return handlers.submit_evaluation(self.units, id, viewer.person, 1, True, viewer)

    def done(self, contact: str = "", viewer: Viewer = EVE, **answers: Any) -> dict[str, Any]:
        return self.submit(self.evaluate(contact or self.call(), viewer)["id"], viewer, GOOD | answers)

    def see(self, id: str, viewer: Viewer = LEAD) -> dict[str, Any]:
        return handlers.get_evaluation(self.units, id, viewer)

    def contact(self, id: str) -> dict[str, Any]:
        with self.units.database.reading() as connection:
            return store.contacts(connection, [id])[id]

    def look(self, question: Any, *arguments: Any) -> Any:
        with self.units.database.reading() as connection:
            return question(connection, *arguments)

    def rows(self, table: Any) -> list[Any]:
        return self.look(lambda connection: list(connection.execute(select(table).order_by(*table.primary_key)).all()))  # type: ignore[no-any-return]

    def told(self, name: str) -> list[dict[str, Any]]:
        """What was announced under a name, in its order."""
        return [row.body["data"] for row in self.rows(self.units.tables.outbox) if row.type == f"qa.{name}.v1"]
