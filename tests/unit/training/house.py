"""A training service with a small centre: two sites, an agent who learns, a supervisor, a trainer, courses, an exam, a ladder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from services.training import classes, handlers, store
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from tests.unit.conftest import SetClock

DAY = 86400.0
BANK = [
    {"id": f"q{number}", "text": f"Question {number}?", "choices": ["right", "wrong", "worse"], "correct": [0]} for number in range(1, 6)
]
DEFINITIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("policy", "default", {"zone": "Europe/Berlin", "sites": {"hk": "Asia/Hong_Kong"}, "lesson_evaluations": 3}),
    ("courses", "empathy", {"title": "Empathy", "topic": "empathy", "hours": 4, "criteria": ["service/listens"]}),
    ("courses", "mail", {"title": "E-mail", "topic": "email_protocol", "hours": 4, "about": "tool", "level": 2, "after": ["empathy"]}),
    ("courses", "alone", {"title": "Reading", "topic": "language", "hours": 1, "self_study": True}),
    ("exams", "mail", {"bank": BANK, "questions": 3, "pass_mark": 0.6, "attempts": 2}),
    ("curricula", "voice", {"courses": ["empathy"], "practice": {"contacts": 1, "mark": 0.7}}),
    ("curricula", "email", {"courses": ["empathy", "mail"], "exam": "mail", "practice": {"contacts": 2, "mark": 0.8}, "renewal_courses": ["alone"]}),
    ("curricula", "chat", {"courses": ["empathy"], "practice": {"contacts": 1, "mark": 0.8}}),
    ("ladders", "agent", {"channels": [
        {"channel": "voice"}, {"channel": "email", "practice_days": 2, "quality": 0.7, "evaluations": 2}, {"channel": "chat"}]}),
    ("resources", "r1", {"kind": "room", "site": "berlin", "capacity": 2}),
    ("resources", "tom", {"kind": "trainer", "capacity": 30}),
]  # fmt: skip


class House:
    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        """Written in one go: it stands before each test."""
        self.units, self.at, self.number = units, at, 0
        written = [
            {"kind": kind, "name": name, "version": 1, "document": document, "created_at": at(), "created_by": "test"}
            for kind, name, document in DEFINITIONS
        ]
        people = {"ann": "agent", "bea": "agent", "cem": "agent", "lee": "supervisor", "tom": "trainer"}
        with units() as work:
            store.add(work.connection, store.definition, *written)
            handlers.receive(work, [self.changed(id, role) for id, role in people.items()])

    def event(self, type: str, subject: str, /, **data: Any) -> Event:
        self.number += 1
        return Event(type, subject, data, self.at(), self.number)

    def hear(self, type: str, subject: str, /, **data: Any) -> None:
        event = self.event(type, subject, **data)
        with self.units() as work:
            handlers.receive(work, [event])

    def changed(self, id: str, *roles: str, active: bool = True, site: str = "berlin", team: str = "t1") -> Event:
        told = {"name": id.title(), "site": site, "team": team, "roles": list(roles), "language": "", "active": active}
        return self.event("gateway.person_changed.v1", id, person=id, **told)

    def person(self, id: str, *roles: str, **more: Any) -> None:
        with self.units() as work:
            handlers.receive(work, [self.changed(id, *roles, **more)])

    def evaluate(
        self, who: str, channel: str = "voice", score: float = 0.9, practice: bool = False, marks: Mapping[str, float] = {}, **more: Any
    ) -> str:
        event = self.evaluated(who, channel, score, practice, marks, **more)
        with self.units() as work:
            handlers.receive(work, [event])
        return event.subject

    def evaluated(
        self, who: str, channel: str = "voice", score: float = 0.9, practice: bool = False, marks: Mapping[str, float] = {}, **more: Any
    ) -> Event:
        id = f"e{self.number}"
        told = {
            "evaluation": id, "stage": "submitted", "contact": f"c{self.number}", "agent": who, "queue": "sales", "channel": channel, "contact_at": self.at(),
            "practice": practice, "counts": True, "scorecard": "service", "scorecard_kind": "internal", "kind": "human", "evaluator": "lee", "score": score,
            "marks": [{"criterion": name, "value": value} for name, value in marks.items()],
        }  # fmt: skip
        return self.event("qa.evaluation_submitted.v1", id, **(told | more))

    def serve(self, who: str, channel: str = "voice") -> None:
        self.hear("routing.contact_completed.v1", f"c{self.number}", agent=who, channel=channel, at=self.at())

    def look(self, question: Any, *arguments: Any) -> Any:
        with self.units.database.reading() as connection:
            return question(connection, *arguments)

    def session(self, course: str = "empathy", day: str = "2027-01-18", half: str = "am", **more: Any) -> dict[str, Any]:
        told = {
            "course": course,
            "day": day,
            "half": half,
            "site": "berlin",
            "place": "on_site",
            "room": "r1",
            "trainers": ["tom"],
            "equipment": [],
            "capacity": None,
        }
        return classes.create(self.units, told | more)

    def take(self, course: str, *people: str, day: str = "2027-01-18", half: str = "am") -> None:
        """The people attend a session of the course; the clock goes on to its end."""
        one = self.session(course, day, half)
        classes.enrol(self.units, one["id"], people, False)
        with self.units.database.reading() as connection:
            self.at.seconds = max(
                self.at(), connection.execute(select(store.session.c.ends_at).where(store.session.c.id == one["id"])).scalar_one()
            )
        classes.attend(self.units, one["id"], [{"person": who, "present": True, "hours": None} for who in people], "tom")

    def give(self, who: str, channel: str, days: float | None = None) -> dict[str, Any]:
        """A certificate from before."""
        until = None if days is None else self.at() + days * DAY
        row = {"person": who, "channel": channel, "certified_at": None, "expires_at": until}
        assert handlers.import_certificates(self.units, [row], "test") == [None]
        found: list[dict[str, Any]] = self.look(handlers.list_certificates, who, channel, "holds", "", 10)["items"]
        return found[0]

    def rows(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def told(self, *names: str) -> list[dict[str, Any]]:
        """The data of what was announced under these names, in order, each with its name."""
        rows = [(row.type.split(".")[1], row.body["data"]) for row in self.rows(self.units.tables.outbox)]
        return [{"event": name, **data} for name, data in rows if not names or name in names]
