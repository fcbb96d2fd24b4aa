"""Calendars and closures in both databases: nothing that was once in force is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from services.routing import calendar_store, calendars, store
from services.routing.domain.errors import Conflict, NotFound
from services.routing.domain.hours import Closure, decide
from shared.bus.outbox import UnitOfWork
from shared.ids import new_id
from tests.unit.conftest import MakeUnits

T = 1_800_000_000.0
OFFICE = calendars.check({"zone": "Asia/Shanghai", "weekly": {"mon-fri": "09:00-18:00"}, "closed_on": {"2026-12-31": "盘点"}})
"""The store takes what `check` has passed."""


class Records:
    """Each command in a transaction of its own."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units

    def __getattr__(self, name: str) -> Any:
        def run(*arguments: Any, **more: Any) -> Any:
            with self.units() as work:
                return getattr(calendar_store, name)(work.connection, *arguments, **more)

        return run


@pytest.fixture
def records(make_units: MakeUnits) -> Records:
    return Records(make_units(store.metadata))


def closure(**facts: Any) -> Closure:
    return Closure(**{"id": new_id(), "kind": "night", "since": T, "by": "anna"} | facts)


class TestCalendars:
    def test_what_is_put_is_got(self, records: Records) -> None:
        records.put_calendar("office", OFFICE, by="anna", now=T)
        row = records.get_calendar("office")
        assert row == {"name": "office", "version": 1, "document": OFFICE, "changed_at": T, "changed_by": "anna"}
        assert calendars.compile(row["document"], [2026]) == calendars.compile(OFFICE, [2026])

    def test_the_newest_version_holds_and_the_others_stay(self, records: Records) -> None:
        later = OFFICE | {"zone": "Europe/Berlin"}
        records.put_calendar("office", OFFICE, by="anna", now=T)
        assert records.put_calendar("office", later, by="bert", now=T + 60)["version"] == 2
        records.put_calendar("lab", OFFICE, by="anna", now=T)
        assert records.newest_versions() == {"lab": 1, "office": 2}
        assert records.get_calendar("office")["document"] == later
        assert [(row["version"], row["changed_by"]) for row in records.calendar_versions("office")] == [(2, "bert"), (1, "anna")]

    def test_the_same_again_is_no_new_version(self, records: Records) -> None:
        records.put_calendar("office", OFFICE, by="anna", now=T)
        assert records.put_calendar("office", dict(OFFICE), by="bert", now=T + 60)["changed_by"] == "anna"
        assert len(records.calendar_versions("office")) == 1

    def test_of_two_writers_at_once_one_is_told(self, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
        records.put_calendar("office", OFFICE, by="anna", now=T)
        monkeypatch.setattr(calendar_store, "_newest", lambda *_: None)  # as read before the other wrote
        with pytest.raises(Conflict, match="same moment"):
            records.put_calendar("office", OFFICE, by="bert", now=T)

    def test_an_unknown_one_is_not_found(self, records: Records) -> None:
        with pytest.raises(NotFound, match="office"):
            records.get_calendar("office")
        assert records.newest_versions() == {}


class TestClosures:
    def test_what_is_added_is_in_force(self, records: Records) -> None:
        drill = closure(kind="emergency", queues=("sales",), message={"en": "Fire drill", "zh": "消防演习"}, reason="drill", until=T + 7200)
        records.add_closure(drill)
        assert records.closures_in_force(T + 1) == [drill]
        assert records.get_closure(drill.id) == drill
        assert decide(calendars.ALWAYS_OPEN, records.closures_in_force(T + 1), "sales", T + 1).cause == "emergency"
        assert records.closures_in_force(T + 7200) == []

    def test_ended_it_stays_on_record(self, records: Records) -> None:
        switch = closure(closed=False)
        records.add_closure(switch)
        ended = records.end_closure(switch.id, by="bert", now=T + 60)
        assert (ended.ended_at, ended.ended_by, ended.closed) == (T + 60, "bert", False)
        assert records.closures_in_force(T + 60) == []
        assert records.closures_since(T) == [ended]

    def test_one_that_is_over_is_not_ended_again(self, records: Records) -> None:
        switch, expired = closure(), closure(until=T + 10)
        records.add_closure(switch)
        records.add_closure(expired)
        first = records.end_closure(switch.id, by="bert", now=T + 60)
        assert records.end_closure(switch.id, by="carl", now=T + 90) == first
        assert records.end_closure(expired.id, by="carl", now=T + 90) == expired

    @pytest.mark.parametrize("unknown", ["01a20148-7800-7c90-911b-04b375caca93", "n1"])
    def test_an_unknown_one_is_not_found(self, records: Records, unknown: str) -> None:
        with pytest.raises(NotFound, match=unknown):
            records.end_closure(unknown, by="bert", now=T)
        with pytest.raises(NotFound, match=unknown):
            records.get_closure(unknown)

    def test_the_record_of_a_time(self, records: Records) -> None:
        long_over = closure(since=T - 500, until=T - 400)
        ended = closure(since=T - 500, ended_at=T - 300, ended_by="bert")
        still_on = closure(since=T - 450)
        over_since = closure(since=T - 440, until=T + 1)
        new = closure(since=T + 5)
        for one in (long_over, ended, still_on, over_since, new):
            records.add_closure(one)
        assert records.closures_since(T) == [new, over_since, still_on]
        assert records.closures_since(T, limit=1) == [new]
        assert records.closures_in_force(T + 10) == [new, still_on]
