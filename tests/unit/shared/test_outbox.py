"""A unit of work: state and announcements, both or neither."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from shared import contracts
from shared.bus.envelope import parse
from shared.bus.outbox import UnitOfWork
from shared.contracts import ContractBroken
from tests.unit.conftest import SetClock

from .events import MOMENT, TYPE, event


def announced(units: UnitOfWork) -> list[tuple[str, int]]:
    outbox = units.tables.outbox
    with units.database.reading() as connection:
        return [(row.subject, row.body["sequence"]) for row in connection.execute(select(outbox).order_by(outbox.c.seq))]


def test_what_is_announced_becomes_rows_in_its_order(units: UnitOfWork, at: SetClock) -> None:
    events = [event(subject, sequence) for sequence in range(1, 40) for subject in ("b", "a")]
    with units() as work:
        for one in events:
            work.announce(one)
    assert announced(units) == [(one.subject, one.sequence) for one in events]
    with units.database.reading() as connection:
        row = connection.execute(select(units.tables.outbox)).first()
    assert row is not None
    assert (row.id, row.type, row.written_at, row.published_at) == (events[0].id, TYPE, at(), None)
    received = parse(str(row.body).replace("'", '"'))
    assert contracts.load(received.type, received.data) == {"source": "pbx1", "at": MOMENT}


def test_the_relay_is_woken_after_the_commit_and_only_for_something(units: UnitOfWork) -> None:
    woken: list[int] = []
    units.on_announced = lambda: woken.append(len(announced(units)))
    with units():
        pass
    with units() as work:
        work.announce(event())
    assert woken == [1]


def test_a_rollback_leaves_nothing_and_wakes_nobody(units: UnitOfWork) -> None:
    ended: list[bool] = []
    units.on_announced = lambda: pytest.fail("nothing was announced")
    with pytest.raises(ZeroDivisionError), units() as work:
        work.afterwards(ended.append)
        work.announce(event())
        work.flush()
        raise ZeroDivisionError
    assert (announced(units), ended) == ([], [False])


def test_a_failed_commit_is_told_as_such(units: UnitOfWork, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    with pytest.raises(Exception, match=r"(?i)unique"), units() as work:
        work.afterwards(ended.append)
        same = event()
        work.announce(same)
        work.announce(same)
    assert (announced(units), ended) == ([], [False])


def test_hooks_run_after_the_commit_last_in_first(units: UnitOfWork) -> None:
    told: list[tuple[str, bool, int]] = []
    with units() as work:
        work.afterwards(lambda committed: told.append(("first in", committed, len(announced(units)))))
        work.afterwards(lambda committed: told.append(("last in", committed, len(announced(units)))))
        work.announce(event())
    assert told == [("last in", True, 1), ("first in", True, 1)]


@pytest.mark.parametrize("wrong", [{"at": None}, {"at": "now"}, {"source": 5}, {"unknown": 1}])
def test_a_publisher_cannot_break_its_contract(units: UnitOfWork, wrong: dict[str, object]) -> None:
    with pytest.raises(ContractBroken, match=r"gateway\.source_restarted\.v1"), units() as work:
        work.announce(event("fine"))
        work.announce(event("wrong", **wrong))
    assert announced(units) == []
