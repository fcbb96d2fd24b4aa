"""Callbacks that agents promise because nobody inside had an answer: booked once, whatever is out of reach meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from services.gateway import promises, store
from services.gateway.store import ContactRow
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.errors import AnswerlineError, Conflict, Invalid, NotFound, Unavailable
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

NUMBER = "+49301234567"


class Routing:
    def __init__(self) -> None:
        self.booked: list[tuple[str, str]] = []
        self.refuses: AnswerlineError | None = None

    def book(self, contact: str, number: str) -> None:
        if self.refuses:
            raise self.refuses
        self.booked.append((contact, number))


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    return make_units(store.metadata)


@pytest.fixture
def routing() -> Routing:
    return Routing()


def arrived(units: UnitOfWork, caller: str | None, merged_into: str | None = None) -> str:
    told = [] if merged_into else [{"kind": "called", "caller": "200"}, {"kind": "entered", "caller": caller}]
    row = ContactRow(new_id(), "pbx", observations=told, merged_into=merged_into)
    with units() as work:
        store.save_contacts(work.connection, [row])
    return row.id


def unanswered(units: UnitOfWork, contact: str) -> Event:
    data = {"escalation": new_id(), "contact": contact, "queue": "support", "agent": "anna", "promise": "callback"}
    event = Event(promises.UNANSWERED, data["escalation"], data, 1.0, 3)
    hear(units, event)
    return event


def hear(units: UnitOfWork, *events: Event) -> None:
    with units() as work:
        promises.note(work, events)


def told(units: UnitOfWork) -> list[Any]:
    outbox = units.tables.outbox
    with units.database.reading() as connection:
        return [row.body["data"] for row in connection.execute(select(outbox).order_by(outbox.c.seq))]


def test_the_callers_number_is_booked_once(units: UnitOfWork, routing: Routing) -> None:
    contact = arrived(units, NUMBER)
    event = unanswered(units, contact)
    hear(units, event)
    assert [promises.keep(units, routing.book) for _ in range(2)] == [1, 0]
    assert routing.booked == [(contact, NUMBER)]
    assert not told(units)


def test_of_a_contact_that_turned_out_to_be_another_the_others_number_counts(units: UnitOfWork, routing: Routing) -> None:
    contact = arrived(units, None, merged_into=arrived(units, NUMBER))
    unanswered(units, contact)
    promises.keep(units, routing.book)
    assert routing.booked == [(contact, NUMBER)]


@pytest.mark.parametrize(
    ("caller", "refuses", "reason"),
    [
        (None, None, "withheld"),
        ("anonymous", Invalid("A callback needs a number that is not withheld."), "withheld"),
        (NUMBER, Conflict("it is ended"), "over"),
        (NUMBER, NotFound("it is not being routed"), "over"),
    ],
)
def test_what_cannot_be_booked_is_told_to_the_agent_without_the_number(
    units: UnitOfWork, routing: Routing, caller: str | None, refuses: AnswerlineError | None, reason: str
) -> None:
    routing.refuses = refuses
    event = unanswered(units, arrived(units, caller))
    assert [promises.keep(units, routing.book) for _ in range(2)] == [1, 0]
    (data,) = told(units)
    assert {name: data[name] for name in ("contact", "escalation", "agent", "reason")} == {
        "contact": event.data["contact"], "escalation": event.subject, "agent": "anna", "reason": reason,
    }  # fmt: skip
    assert "1234567" not in str(data)


def test_while_routing_is_out_of_reach_it_stays_owed(units: UnitOfWork, routing: Routing, at: SetClock) -> None:
    routing.refuses = Unavailable("routing is not in reach")
    contact = arrived(units, NUMBER)
    unanswered(units, contact)
    assert promises.keep(units, routing.book) == 0
    routing.refuses = None
    assert promises.keep(units, routing.book) == 0, "it is not asked again at once"
    at.forward(1)
    assert promises.keep(units, routing.book) == 1
    assert routing.booked == [(contact, NUMBER)]


def test_what_nobody_promised_is_not_owed(units: UnitOfWork, routing: Routing) -> None:
    hear(units, Event("im.escalation_closed.v1", "e", {"contact": "c"}, 1.0, 1))
    assert promises.keep(units, routing.book) == 0
