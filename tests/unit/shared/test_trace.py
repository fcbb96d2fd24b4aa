"""A trace begins at the door, or with whoever asked, and goes with what came of the request."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from shared.bus.envelope import Event, parse
from shared.bus.inbox import Inbox
from shared.bus.outbox import UnitOfWork, Work
from shared.observability import trace
from shared.observability.logging import with_trace

from .events import body, event

OURS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "told", ["", "nonsense", OURS[:-1], "ff" + OURS[2:], OURS.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), OURS.upper()]
)
def test_whatever_is_no_trace_is_replaced_by_a_new_one(told: str) -> None:
    begun = []
    for _ in range(2):
        trace.begin(told)
        begun.append(trace.current())
    assert len({*begun, told}) == 3
    trace.begin(begun[0])
    assert trace.current() == begun[0], "ours are valid"


def test_a_trace_is_taken_over_and_named_in_the_log() -> None:
    trace.begin(OURS)
    assert trace.current() == OURS
    assert with_trace(None, "info", {"event": "x"}) == {"event": "x", "trace": "0af7651916cd43dd8448eb211c80319c"}
    trace.adopt(None)
    assert with_trace(None, "info", {"event": "x"}) == {"event": "x"}


def announced(units: UnitOfWork) -> list[str | None]:
    outbox = units.tables.outbox
    with units.database.reading() as connection:
        return [row.get("traceparent") for row in connection.scalars(select(outbox.c.body).order_by(outbox.c.seq))]


def test_an_announcement_belongs_to_the_request_it_is_made_in(units: UnitOfWork) -> None:
    trace.begin(OURS)
    with units() as work:
        work.announce(event("a", 1))
    trace.adopt(None)
    with units() as work:
        work.announce(event("a", 2))
    assert announced(units) == [OURS, None]


def test_what_comes_of_an_event_belongs_to_its_trace(units: UnitOfWork) -> None:
    trace.adopt(None)
    heard = Event(**{name: getattr(event("a"), name) for name in Event.__slots__ if name != "trace"}, trace=OURS)

    def handle(work: Work, events: list[Event]) -> None:
        for one in events:
            work.announce(Event(one.type, "another", one.data, one.time, 1, cause=one.id))
            work.announce(Event(one.type, one.subject, one.data, one.time, 2))
            work.announce(Event(one.type, "own", one.data, one.time, 3, trace=OTHER))

    Inbox(units, handle).process([body(heard)])
    assert parse(body(heard)).trace == OURS
    assert announced(units) == [OURS, OURS, OTHER]
