"""The interval reports on legs, spans and outcomes written by hand: they add up to the reports of the period, and say what may still change."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from services.gateway.domain.legs import Leg
from services.routing import interval_reports, interval_store, policy_store, reports, store
from services.routing.domain.entities import Agent, Queue
from services.routing.domain.intervals import ServiceLevel, Tally, Unit, micros
from services.routing.interval_reports import AGENT_COLUMNS, QUEUE_COLUMNS, to_csv
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway import telephony_samples as samples

T = datetime.fromisoformat("2026-06-01T10:00+08:00").timestamp()
HOUR = {"from": T, "to": T + 3600}
HONG_KONG = "Asia/Hong_Kong"
FACTS = {
    "number": 1, "source": "pbx1", "queue": "sales", "channel": "voice", "observed": True, "outcome": "waiting", "missed": {}, "ringing": [],
    "estimated": [], "kind": "inbound",
}  # fmt: skip
BLANK = dict.fromkeys(store.LEG_COLUMNS) | {name: value for name, value in FACTS.items() if name in store.LEG_COLUMNS}
Row = dict[str, Any]


class Centre:
    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        self.units = units
        self.at = at
        self.sequence = 0

    def leg(self, outcome: str = "completed", after: float = 0.0, **facts: Any) -> str:
        """One leg that arrived `after` seconds."""
        row = {**BLANK, "contact": new_id(), "outcome": outcome, "arrived_at": T + after, **facts}
        if outcome in ("completed", "transferred", "talking"):
            row = {**row, "agent": "Ann", "hold_seconds": 10.0, **facts}
            row["answered_at"] = row["arrived_at"] + (row["hold_seconds"] or 0)
            if outcome != "talking":
                row = {**row, "talk_seconds": 30.0, **facts}
        if outcome not in ("waiting", "talking"):
            row["ended_at"] = row["arrived_at"] + 40
        self.write([row])
        return str(row["contact"])

    def write(self, rows: list[Row]) -> None:
        """As the gateway's events are written."""
        for row in rows:
            self.sequence += 1
            row["sequence"] = self.sequence
        with self.units() as work:
            interval_store.note_late(work.connection, rows, self.at())
            store.save_legs(work.connection, rows)

    def change(self, contact: str, **facts: Any) -> None:
        with self.units.database.reading() as connection:
            row = connection.execute(select(store.leg).where(store.leg.c.contact == contact)).mappings().one()
        self.write([{**{name: row[name] for name in store.LEG_COLUMNS}, **facts}])

    def put(self, *entities: Queue | Agent) -> None:
        with self.units() as work:
            for entity in entities:
                table = store.queue if isinstance(entity, Queue) else store.agent
                work.connection.execute(insert(table).values(**entity.to_row()))

    def note_states(self, rows: list[dict[str, Any]]) -> None:
        def note(connection: Connection, rows: list[dict[str, Any]]) -> None:
            bulk.insert_all(connection, [interval_store.of_states(interval_store.open_spans(connection), rows)])

        self.do(note, rows)

    def states(self, agent: str, *changes: tuple[Any, ...]) -> None:
        """(seconds after T, state, reason)"""
        rows = [{"agent": agent, "at": T + after, "state": state, "reason": "".join(reason)} for after, state, *reason in changes]
        self.note_states(rows)

    def outcome(self, contact: str, code: str, agent: str = "Ann", at: float = 0.0, **facts: Any) -> None:
        row = {"contact": contact, "leg": 1, "agent": agent, "code": code, "resolved": True, "amount": None, "currency": None, "at": T + at}
        self.do(bulk.insert_all, [interval_store.of_outcomes([row | facts])])

    def do(self, make: Callable[..., Any], *arguments: Any) -> Any:
        with self.units() as work:
            return make(work.connection, *arguments)

    def report(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.units.database.reading() as connection:
            return make(connection, *arguments, **options)

    def queues(self, step: str = "15m", filters: Row = HOUR, zone: str = HONG_KONG, **options: Any) -> list[Row]:
        rows: list[Row] = self.report(interval_reports.queue_intervals, filters, step, zone, **options)["intervals"]
        return rows

    def totals(self, step: str = "15m", filters: Row = HOUR, zone: str = HONG_KONG, **options: Any) -> dict[str, Row]:
        return {row["queue"]: row for row in self.report(interval_reports.queue_intervals, filters, step, zone, **options)["totals"]}

    def agents(self, step: str = "15m", filters: Row = HOUR, zone: str = HONG_KONG) -> list[Row]:
        rows: list[Row] = self.report(interval_reports.agent_intervals, filters, step, zone)["intervals"]
        return rows

    def finalise(self) -> int:
        return int(self.do(interval_reports.finalise, self.at()))


@pytest.fixture
def centre(make_units: MakeUnits, at: SetClock) -> Centre:
    at.seconds = T + 2 * 86400
    return Centre(make_units(store.metadata), at)


def part(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# ---- queues


def test_every_column_of_an_interval(centre: Centre) -> None:
    centre.put(Queue("sales", service_level_seconds=20, short_abandon_seconds=5))
    bought = centre.leg("completed", 10, hold_seconds=20.0, talk_seconds=60.5)
    centre.outcome(bought, "sold", amount=99.95, currency="HKD")
    centre.leg("transferred", 20, hold_seconds=30.25)
    centre.leg("abandoned", 30, hold_seconds=4.9)
    centre.leg("abandoned", 40, hold_seconds=45.0)
    for outcome in ("timed_out", "left_by_key", "left_empty", "withdrawn", "lost"):
        centre.leg(outcome, 50, hold_seconds=1.0)
    centre.leg("void", 60)
    (row,) = centre.queues()
    assert row == {
        "queue": "sales",
        "label": "2026-06-01T10:00+08:00",
        "start": T,
        "end": T + 900,
        "whole": True,
        "provisional": False,
        "offered": 9,
        "answered": 2,
        "answered_in_time": 1,
        "abandoned": 2,
        "short_abandoned": 1,
        "timed_out": 1,
        "left_by_key": 1,
        "left_otherwise": 2,
        "lost": 1,
        "waiting": 0,
        "talking": 0,
        "hold_seconds": 50.25,
        "talk_seconds": 90.5,
        "wait_seconds": 105.15,
        "wait_max_seconds": 45.0,
        "service_level_of": 8,
        "service_level": 0.125,
        "target": None,
        "target_met": None,
        "outcomes": 1,
        "resolved": 1,
        "amount": {"HKD": 99.95},
        "amount_per_contact": {"HKD": 49.975},
        "restated_at": None,
        "restated_count": 0,
        "before": None,
    }
    assert set(row) == set(QUEUE_COLUMNS)


def test_a_leg_belongs_to_the_interval_of_its_arrival_with_all_that_follows(centre: Centre) -> None:
    centre.leg("completed", 899.9, hold_seconds=60.0, talk_seconds=2000.0)
    centre.leg("completed", 900.0)
    assert [part(row, "start", "offered", "talk_seconds") for row in centre.queues()] == [(T, 1, 2000.0), (T + 900, 1, 30.0)]


def test_intervals_are_those_of_the_sites_clock(centre: Centre) -> None:
    for minutes in (1, 16, 31, 46):
        centre.leg("completed", minutes * 60)
    assert [row["label"][11:] for row in centre.queues("30m", zone="Asia/Kathmandu")] == ["07:30+05:45", "08:00+05:45", "08:30+05:45"]
    assert [part(row, "label", "offered") for row in centre.queues("day", zone="Asia/Kathmandu")] == [("2026-06-01T00:00+05:45", 4)]


def test_the_day_on_which_the_clocks_go_back_has_25_hours(centre: Centre) -> None:
    start = datetime.fromisoformat("2026-10-25T00:00+02:00").timestamp()
    for hour in range(25):
        centre.leg("completed", start - T + hour * 3600 + 1)
    centre.at.seconds = start + 90000
    period = {"from": start, "to": start + 25 * 3600}
    (day,) = centre.queues("day", period, "Europe/Berlin")
    assert part(day, "label", "offered", "whole") == ("2026-10-25T00:00+02:00", 25, True)
    labels = [row["label"] for row in centre.queues("15m", period, "Europe/Berlin")]
    assert (len(labels), labels[2:4]) == (25, ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"])


def test_callbacks_are_reported_apart(centre: Centre) -> None:
    units: tuple[Unit, ...] = ("legs", "contacts")
    for unit in units:
        definitions = {unit: ServiceLevel(unit=unit)}
        contact = centre.leg("callback", queue=unit, hold_seconds=3.0)
        centre.leg("completed", 5, contact=contact, number=2, kind="callback", queue=unit)
        for kind, offered, answered in ((None, 1, 0), ("inbound", 1, 0), ("callback", 1, 1)):
            (row,) = centre.queues(filters=HOUR | {"kind": kind, "queue": unit}, definitions=definitions)
            assert part(row, "offered", "answered", "service_level_of") == (offered, answered, 1)


def test_filters_narrow_a_report(centre: Centre) -> None:
    centre.leg("completed", 1)
    centre.leg("completed", 2, queue="billing", source="pbx2")
    assert [row["queue"] for row in centre.queues()] == ["billing", "sales"]
    assert [row["queue"] for row in centre.queues(filters=HOUR | {"queue": "sales"})] == ["sales"]
    assert [row["queue"] for row in centre.queues(filters=HOUR | {"source": "pbx2"})] == ["billing"]
    assert centre.queues(filters={"from": T + 3600, "to": T + 7200}) == []


@pytest.mark.parametrize(
    ("filters", "step", "zone", "says"),
    [
        ({"from": T}, "15m", HONG_KONG, "period"),
        ({"to": T}, "15m", HONG_KONG, "period"),
        ({"from": T, "to": T}, "15m", HONG_KONG, "period"),
        (HOUR, "month", HONG_KONG, "month"),
        (HOUR, "15m", "Hongkong/Asia", "IANA"),
        ({"from": 0.0, "to": T}, "15m", HONG_KONG, "shorter period"),
    ],
)
def test_what_cannot_be_reported_is_refused(centre: Centre, filters: Row, step: str, zone: str, says: str) -> None:
    for make in (interval_reports.queue_intervals, interval_reports.agent_intervals):
        with pytest.raises(Invalid, match=says):
            centre.report(make, filters, step, zone)


# ---- the service level


def test_abandons_count_or_not_as_the_queue_says(centre: Centre) -> None:
    centre.put(
        Queue("sales", short_abandon_seconds=5, abandons_count=True), Queue("billing", short_abandon_seconds=5, abandons_count=False)
    )
    for queue in ("sales", "billing"):
        centre.leg("completed", queue=queue, hold_seconds=20.0)
        centre.leg("completed", queue=queue, hold_seconds=20.5)
        centre.leg("abandoned", queue=queue, hold_seconds=4.9)
        centre.leg("abandoned", queue=queue, hold_seconds=5.0)
        centre.leg("timed_out", queue=queue, hold_seconds=60.0)
    shown = {row["queue"]: part(row, "answered_in_time", "service_level_of", "service_level") for row in centre.queues()}
    assert shown == {"sales": (1, 4, 0.25), "billing": (1, 3, 0.3333)}


@pytest.mark.parametrize(("share", "met"), [(0.125, True), (0.13, False)])
def test_the_target_of_the_queues_policy_and_whether_it_was_reached(share: float, met: bool) -> None:
    tally = Tally(8, 1, 0, 0)
    assert ServiceLevel(target=share).is_met(tally) is met
    assert ServiceLevel().is_met(tally) is None
    assert ServiceLevel(target=share).is_met(Tally()) is None


def test_a_queue_has_the_target_of_the_policy_in_force(centre: Centre) -> None:
    document = "target: {share: 0.75, seconds: 20}"
    with centre.units() as work:
        row, _ = policy_store.put(work.connection, "fast", document, "test", 0.0)
        policy_store.activate(work.connection, "fast", row["version"], "test", 0.0)
    with centre.units.database.reading() as connection:
        assert policy_store.targets(connection) == {"fast": 0.75}


def test_a_service_level_of_legs_or_of_contacts(centre: Centre) -> None:
    """One contact times out after 15 s, comes back and is answered after another 10 s: as two stays one is in time, as one contact it is late."""
    contact = centre.leg("timed_out", 890, hold_seconds=15.0)
    centre.leg("completed", 905, contact=contact, number=3, hold_seconds=10.0)
    centre.leg("completed", 910, hold_seconds=5.0)
    legs = {"sales": ServiceLevel(unit="legs")}
    contacts = {"sales": ServiceLevel(unit="contacts")}
    columns = "offered", "answered_in_time", "service_level_of", "service_level"
    assert [part(row, *columns) for row in centre.queues(definitions=legs)] == [(1, 0, 1, 0.0), (2, 2, 2, 1.0)]
    assert [part(row, *columns) for row in centre.queues(definitions=contacts)] == [(1, 0, 1, 0.0), (2, 1, 1, 1.0)]
    assert part(centre.totals(definitions=contacts)["sales"], *columns) == (3, 1, 2, 0.5)
    later = {"from": T + 900, "to": T + 1800}
    assert [part(row, *columns) for row in centre.queues(filters=later, definitions=contacts)] == [(2, 1, 1, 1.0)]


def test_a_contact_that_waits_again_is_not_decided(centre: Centre) -> None:
    contact = centre.leg("timed_out", 0, hold_seconds=15.0)
    centre.leg("waiting", 20, contact=contact, number=2)
    (row,) = centre.queues(definitions={"sales": ServiceLevel(unit="contacts")})
    assert part(row, "service_level_of", "service_level") == (0, None)


# ---- the intervals are the report


def reconciles(centre: Centre, period: Row) -> None:
    """To the call, whatever the step and the zone: sums of intervals, totals, and the report of the period."""
    centre.do(lambda connection: connection.execute(update(store.queue).values(short_abandon_seconds=0.0)))
    expected = {row["queue"]: row for row in centre.report(reports.queues, period)["queues"]}
    counts = "offered", "answered", "abandoned", "timed_out", "left_by_key", "left_otherwise", "lost", "waiting", "talking"
    for step, zone in (("15m", HONG_KONG), ("30m", "Asia/Kathmandu"), ("60m", "Australia/Lord_Howe"), ("day", "Europe/Berlin")):
        never_short = {queue: ServiceLevel(short_abandon_seconds=0.0) for queue in expected}
        rows, totals = (make(step, period, zone, definitions=never_short) for make in (centre.queues, centre.totals))
        assert totals.keys() == expected.keys()
        for queue, row in expected.items():
            mine = [one for one in rows if one["queue"] == queue]
            assert {name: sum(one[name] for one in mine) for name in counts} == {name: row[name] for name in counts}
            assert part(totals[queue], *counts, "service_level") == part(row, *counts, "service_level")
            for name in ("hold_seconds", "talk_seconds"):
                assert sum(round(one[name] * 1e6) for one in mine) == round(totals[queue][name] * 1e6) == round(row[name] * 1e6)
    people = {row["agent"]: row for row in centre.report(reports.agents, period)["agents"]}
    rows = centre.agents("30m", period)
    for agent, row in people.items():
        mine = [one for one in rows if one["agent"] == agent]
        for name in ("answered", "talk_seconds", "ring_no_answer"):
            told = [one[name] for one in mine]
            assert (sum(told) if None not in told else None) == pytest.approx(row[name], abs=1e-6)
    assert {row["agent"] for row in rows} == people.keys()


OUTCOMES = (
    "completed",
    "transferred",
    "abandoned",
    "timed_out",
    "left_by_key",
    "left_empty",
    "withdrawn",
    "lost",
    "talking",
    "waiting",
    "void",
)


@pytest.mark.parametrize("seed", range(4))
def test_the_intervals_of_any_legs_add_up_to_the_report_of_the_period(centre: Centre, seed: int) -> None:
    """Half of them around the hours in which the clocks of Europe and of Lord Howe Island changed."""
    chance = random.Random(seed)
    start = datetime.fromisoformat("2026-10-03T00:00+00:00").timestamp()
    rows = []
    for _ in range(300):
        arrived = start + chance.choice(
            [chance.uniform(0, 30 * 86400), 13 * 3600 + chance.uniform(0, 9e3), 22.9 * 86400 + chance.uniform(0, 2e4)]
        )
        outcome = chance.choices(OUTCOMES, weights=[9, 3, 5, 1, 1, 1, 1, 1, 1, 1, 1])[0]
        answered = outcome in ("completed", "transferred", "talking")
        hold = None if outcome == "waiting" else round(chance.uniform(0, 60), chance.choice([0, 3, 6]))
        row = {
            **BLANK,
            "contact": new_id(),
            "queue": chance.choice(["sales", "billing"]),
            "outcome": outcome,
            "arrived_at": chance.choice([arrived, round(arrived), arrived // 900 * 900]),
            "agent": chance.choice(["Ann", "Bob"]) if answered else None,
            "hold_seconds": hold,
            "talk_seconds": round(chance.uniform(0, 900), 3) if answered and outcome != "talking" else None,
            "missed": chance.choice([{}, {}, {"Bob": 2}, {"Ann": 1, "Cyd": 1}]),
        }
        row["answered_at"] = row["arrived_at"] + hold if answered and hold is not None else None
        row["ended_at"] = row["arrived_at"] + 1000 if outcome not in ("waiting", "talking") else None
        rows.append(row)
    centre.at.seconds = start + 31 * 86400
    centre.write(rows)
    reconciles(centre, {"from": start, "to": start + 30 * 86400})
    reconciles(centre, {"from": start + 1234.5, "to": start + 24 * 86400 - 0.25})


def rows_of(legs: Iterable[Leg]) -> list[Row]:
    ours = [name for name in store.LEG_FACTS if name not in ("source", "channel", "observed", "sequence", "kind", "estimate")]
    names: dict[str, str] = {}
    rows = []
    for number, leg in enumerate(legs, 1):
        facts = {name: getattr(leg, name, None) for name in ours}
        rows.append({**BLANK, **facts, "estimated": [], "contact": names.setdefault(leg.call or "", new_id()), "number": number})
    return rows


def test_what_a_real_pbx_told_reconciles_to_the_call(centre: Centre) -> None:
    rows = rows_of(samples.legs_of(samples.by_queue_log()))
    moments = [row["arrived_at"] for row in rows if row["arrived_at"] is not None]
    centre.at.seconds = max(moments) + 60
    centre.write(rows)
    truth = samples.TRUTH["run1"]["queues"]
    period = {"from": min(moments), "to": max(moments) + 1}
    for step in ("15m", "30m", "day"):
        totals = centre.totals(step, period)
        for queue, true in truth.items():
            for name in ("offered", "answered", "abandoned", "timed_out", "hold_seconds", "talk_seconds"):
                assert totals[queue][name] == true[name], (queue, name)
    reconciles(centre, period)


# ---- provisional


def test_an_interval_is_provisional_until_late_data_can_be_in(centre: Centre) -> None:
    centre.leg("completed")
    centre.at.seconds = T + 900 + 899
    assert centre.queues()[0]["provisional"] is True
    assert centre.queues(grace=60)[0]["provisional"] is False
    centre.at.forward(1)
    assert centre.queues()[0]["provisional"] is False
    assert centre.totals()["sales"]["provisional"] is False


@pytest.mark.parametrize("outcome", ["waiting", "talking"])
def test_an_interval_is_provisional_while_somebody_in_it_still_waits_or_talks(centre: Centre, outcome: str) -> None:
    contact = centre.leg(outcome, queue="billing")
    centre.leg("completed", 1000, agent="Bob")
    assert [row["provisional"] for row in centre.queues()] == [True, False]
    centre.change(contact, outcome="abandoned", hold_seconds=5.0, ended_at=T + 5, answered_at=None, agent=None)
    assert [row["provisional"] for row in centre.queues()] == [False, False]


def test_nobody_talks_whose_agent_has_answered_another_call(centre: Centre) -> None:
    centre.leg("talking")
    centre.leg("completed", 1000)
    assert [part(row, "provisional", "talking", "answered") for row in centre.queues()] == [(False, 0, 1), (False, 0, 1)]


# ---- restated


def test_figures_that_change_after_they_were_final_are_restated_with_both(centre: Centre) -> None:
    centre.at.seconds = T + 2000
    contact = centre.leg("completed", talk_seconds=30.0)
    centre.leg("completed", 5, talk_seconds=10.0)
    assert centre.finalise() == 1
    assert part(centre.queues()[0], "restated_at", "restated_count", "before") == (None, 0, None)
    centre.at.forward(600)
    centre.change(contact, talk_seconds=31.0)
    assert centre.finalise() == 1
    (row,) = centre.queues()
    assert part(row, "talk_seconds", "restated_at", "restated_count", "provisional") == (41.0, T + 2600, 1, False)
    assert row["before"] == {
        "offered": 2, "answered": 2, "abandoned": 0, "timed_out": 0, "left_by_key": 0, "left_otherwise": 0, "lost": 0,
        "hold_seconds": 20.0, "talk_seconds": 40.0, "wait_seconds": 20.0,
    }  # fmt: skip
    assert centre.finalise() == 0, "what did not change is not looked at"


def test_late_data_that_change_no_figure_restate_nothing(centre: Centre) -> None:
    centre.at.seconds = T + 2000
    contact = centre.leg("completed")
    centre.finalise()
    centre.change(contact, target="200")
    assert centre.finalise() == 1
    assert centre.queues()[0]["restated_at"] is None


def test_what_changes_before_an_interval_is_final_is_no_restatement(centre: Centre) -> None:
    centre.at.seconds = T + 1000
    contact = centre.leg("completed")
    assert centre.finalise() == 0
    centre.change(contact, talk_seconds=31.0)
    centre.at.seconds = T + 2000
    centre.finalise()
    assert centre.queues()[0]["restated_at"] is None


def test_a_leg_that_comes_late_into_an_empty_interval_restates_it(centre: Centre) -> None:
    centre.at.seconds = T + 6000
    centre.leg("completed", 0)
    centre.finalise()
    centre.leg("completed", 1000)
    centre.finalise()
    first, second = centre.queues()
    assert (first["restated_at"], second["restated_at"], second["before"]["offered"]) == (None, T + 6000, 0)


def test_history_from_before_the_first_leg_is_no_restatement(centre: Centre) -> None:
    centre.leg("completed", 3000)
    centre.finalise()
    centre.leg("completed", 100)
    centre.finalise()
    assert [row["restated_at"] for row in centre.queues()] == [None, None]


def test_a_leg_that_moves_to_another_interval_restates_both(centre: Centre) -> None:
    centre.at.seconds = T + 6000
    contact = centre.leg("completed", 899)
    centre.leg("completed", 905)
    centre.finalise()
    centre.change(contact, arrived_at=T + 901)
    centre.finalise()
    assert [(row["offered"], row["before"]["offered"]) for row in centre.queues()] == [(0, 1), (2, 1)]


def test_a_leg_that_never_was_leaves_its_interval(centre: Centre) -> None:
    centre.at.seconds = T + 6000
    contact = centre.leg("completed")
    centre.finalise()
    centre.change(contact, outcome="void")
    centre.finalise()
    (row,) = centre.queues()
    assert (row["offered"], row["before"]["offered"], row["service_level"]) == (0, 1, None)


def test_longer_intervals_are_restated_if_they_were_final_themselves(centre: Centre) -> None:
    centre.at.seconds = T + 2000
    contact = centre.leg("completed", talk_seconds=30.0)
    centre.leg("completed", 1000, talk_seconds=5.0)
    centre.finalise()
    centre.change(contact, talk_seconds=31.0)
    centre.finalise()
    assert centre.queues("15m")[0]["restated_at"] == T + 2000
    assert centre.queues("60m")[0]["restated_at"] is None, "the hour was not over"
    centre.at.seconds = T + 6000
    centre.finalise()
    centre.change(contact, talk_seconds=32.0)
    centre.finalise()
    (hour,) = centre.queues("60m")
    assert part(hour, "talk_seconds", "restated_at", "restated_count") == (37.0, T + 6000, 1)
    assert hour["before"]["talk_seconds"] == 36.0


def test_an_interval_with_an_open_leg_becomes_final_when_the_leg_ends(centre: Centre) -> None:
    centre.at.seconds = T + 2000
    contact = centre.leg("talking")
    assert centre.finalise() == 0
    centre.change(contact, outcome="completed", talk_seconds=1900.0, ended_at=T + 1910)
    assert centre.finalise() == 1
    assert part(centre.queues()[0], "restated_at", "talk_seconds") == (None, 1900.0)


def test_much_history_is_worked_off_in_slices(centre: Centre) -> None:
    centre.write(
        [{**BLANK, "contact": new_id(), "outcome": "abandoned", "hold_seconds": 1.0, "arrived_at": T + n * 900 + 1} for n in range(150)]
    )
    centre.at.seconds = T + 5 * 86400
    slices = []
    while count := centre.do(interval_reports.finalise, centre.at(), 900.0, 40):
        slices.append(count)
    assert sum(slices) == 150
    assert max(slices) <= 40


def test_a_narrower_report_tells_of_no_restatement(centre: Centre) -> None:
    centre.at.seconds = T + 6000
    contact = centre.leg("completed")
    centre.finalise()
    centre.change(contact, talk_seconds=99.0)
    centre.finalise()
    assert centre.queues(filters=HOUR | {"queue": "sales"})[0]["restated_count"] == 1
    assert centre.queues(filters=HOUR | {"source": "pbx1"})[0]["restated_count"] == 0


# ---- agents


def test_every_column_of_an_agent(centre: Centre) -> None:
    centre.states(
        "Ann",
        (-600, "available"),
        (100, "offered"),
        (110, "busy"),
        (410, "wrap_up"),
        (500, "paused", "lunch"),
        (800, "available"),
        (1000, "offline"),
    )
    sold = centre.leg("completed", 100, talk_seconds=300.0, missed={"Ann": 1})
    asked = centre.leg("completed", 200, talk_seconds=60.0)
    centre.outcome(sold, "sold", resolved="yes", amount="500.00", currency="HKD")
    centre.outcome(asked, "question", resolved="no")
    first, second = centre.agents()
    assert first == {
        "agent": "Ann",
        "id": None,
        "label": "2026-06-01T10:00+08:00",
        "start": T,
        "end": T + 900,
        "whole": True,
        "provisional": False,
        "signed_in_seconds": 900.0,
        "states": {"available": 200.0, "busy": 300.0, "offered": 10.0, "paused": 300.0, "wrap_up": 90.0},
        "reasons": {"paused/lunch": 300.0},
        "wrap_up_seconds": 90.0,
        "occupancy": 0.65,
        "answered": 2,
        "talk_seconds": 360.0,
        "ring_no_answer": 1,
        "outcomes": 2,
        "resolved": 1,
        "dispositions": {"question": 1, "sold": 1},
        "amount": {"HKD": 500.0},
        "amount_per_contact": {"HKD": 250.0},
    }
    assert set(first) == set(AGENT_COLUMNS)
    assert part(second, "signed_in_seconds", "states") == (100.0, {"available": 100.0})


def test_a_state_that_goes_on_counts_until_now(centre: Centre) -> None:
    centre.at.seconds = T + 1000
    centre.states("Ann", (850, "available"))
    assert [part(row, "signed_in_seconds", "provisional") for row in centre.agents()] == [(50.0, True), (100.0, True)]


def test_all_names_of_an_agent_are_one(centre: Centre) -> None:
    centre.put(Agent("a17", name="Ann Wong", address="PJSIP/1001", aliases=["Ann"]))
    centre.states("a17", (0, "available"), (900, "offline"))
    contact = centre.leg("completed", agent="Ann")
    centre.leg("completed", agent="PJSIP/1001")
    centre.outcome(contact, "sold", agent="a17")
    centre.leg("completed", agent="Bob")
    for name in ("a17", "Ann", "Ann Wong"):
        (row, *_) = centre.agents(filters=HOUR | {"agent": name})
        assert part(row, "agent", "id", "answered", "signed_in_seconds", "outcomes") == ("Ann Wong", "a17", 2, 900.0, 1)
    assert [row["agent"] for row in centre.agents("60m")] == ["Ann Wong", "Bob"]


@pytest.mark.parametrize(("step", "zone"), [("15m", HONG_KONG), ("60m", "Australia/Lord_Howe"), ("day", "Europe/Berlin")])
def test_an_agents_time_adds_up_whatever_the_step(centre: Centre, step: str, zone: str) -> None:
    chance = random.Random(step)
    start = datetime.fromisoformat("2026-10-24T00:00+00:00").timestamp()
    moments = sorted(chance.uniform(-3600, 50 * 3600) for _ in range(400))
    states = [chance.choice(["available", "busy", "wrap_up", "paused", "offline"]) for _ in moments]
    centre.states("Ann", *((start - T + moment, state) for moment, state in zip(moments, states, strict=True)))
    centre.at.seconds = start + 3 * 86400
    period = {"from": start, "to": start + 48 * 3600.0}
    rows = centre.agents(step, period, zone)
    spent = sum(round(number * 1e6) for row in rows for number in row["states"].values())
    clipped = [micros(min(max(start - T + moment, start - T), start - T + 172800) + T) for moment in moments]
    off = sum(b - a for a, b, state in zip(clipped, [*clipped[1:], micros(start + 172800)], states, strict=True) if state == "offline")
    assert spent == 48 * 3600 * 10**6 - off, "every moment of the period is in exactly one state and interval"
    busy = sum(round(row["states"].get("busy", 0) * 1e6) for row in rows)
    (whole,) = centre.agents("day", period, "Etc/GMT+12")[:1]
    per_day = sum(round(row["states"].get("busy", 0) * 1e6) for row in centre.agents("day", period, "Etc/GMT+12"))
    assert (busy, whole["agent"]) == (per_day, "Ann")


def spans(centre: Centre) -> list[tuple[Any, ...]]:
    table = interval_store.agent_span
    with centre.units.database.reading() as connection:
        rows = connection.execute(select(table).order_by(table.c.agent, table.c.seq)).all()
    return [(row.agent, row.since - T, row.until and row.until - T, row.state, row.reason) for row in rows]


def test_a_report_of_agents_is_bounded(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_reports, "MAX_ROWS", 3)
    for agent in ("Ann", "Bob", "Cyd"):
        centre.states(agent, (0, "available"), (1700, "offline"))
    with pytest.raises(Invalid, match="one agent"):
        centre.agents()
    assert [row["agent"] for row in centre.agents(filters=HOUR | {"agent": "Bob"})] == ["Bob", "Bob"]


def test_the_same_changes_may_come_again(centre: Centre) -> None:
    changes = (0, "available"), (10, "busy"), (20, "paused", "lunch")
    for _ in range(2):
        centre.states("Ann", *changes)
        for change in changes:
            centre.states("Ann", change)
    assert spans(centre) == [("Ann", 0, 10, "available", ""), ("Ann", 10, 20, "busy", ""), ("Ann", 20, None, "paused", "lunch")]


def test_what_is_no_change_makes_no_span(centre: Centre) -> None:
    centre.states("Ann", (0, "busy"), (5, "busy"))
    centre.states("Ann", (8, "busy"), (9, "paused", "tea"), (10, "paused", "lunch"))
    assert [(since, until) for _, since, until, _, _ in spans(centre)] == [(0, 9), (9, 10), (10, None)]


def test_two_changes_at_once_are_kept_in_their_order(centre: Centre) -> None:
    rows = [{"agent": "Ann", "at": T, "state": state, "reason": "", "seq": seq} for seq, state in ((2, "busy"), (1, "offered"))]
    centre.note_states(rows)
    assert [row[1:4] for row in spans(centre)] == [(0, 0, "offered"), (0, None, "busy")]


def test_changes_of_one_moment_without_a_sequence_keep_the_order_in_which_they_are_told(centre: Centre) -> None:
    for _ in range(2):
        centre.states("Ann", (0, "available"), (0, "offered"), (0, "busy"))
    assert [row[1:4] for row in spans(centre)] == [(0, 0, "available"), (0, 0, "offered"), (0, None, "busy")]


def test_the_reason_of_a_pause_that_waits_for_the_end_of_a_talk_is_not_the_talks(centre: Centre) -> None:
    rows = [
        {"agent": "Ann", "at": T, "state": "busy", "presence": "available", "reason": ""},
        {"agent": "Ann", "at": T + 10, "state": "busy", "presence": "paused", "reason": "lunch"},
        {"agent": "Ann", "at": T + 20, "state": "paused", "presence": "paused", "reason": "lunch"},
    ]
    centre.note_states(rows)
    assert [row[1:] for row in spans(centre)] == [(0, 10, "busy", ""), (10, 20, "busy", ""), (20, None, "paused", "lunch")]


def test_a_clock_that_is_put_back_makes_no_negative_time(centre: Centre) -> None:
    for seq, at, state in ((1, 100.0, "available"), (2, 40.0, "busy"), (3, 130.0, "available")):
        centre.note_states([{"agent": "Ann", "at": T + at, "state": state, "reason": "", "seq": seq}])
    assert [row[1:4] for row in spans(centre)] == [(100, 100, "available"), (100, 130, "busy"), (130, None, "available")]


def test_the_last_disposition_of_a_contact_holds(centre: Centre) -> None:
    contact = centre.leg("completed")
    centre.outcome(contact, "sold", at=10, amount=5.0, currency="HKD")
    centre.outcome(contact, "question", at=5)
    assert centre.queues()[0]["amount"] == {"HKD": 5.0}
    centre.outcome(contact, "returned", at=20, amount=-2.5, currency="HKD")
    assert centre.agents()[0]["dispositions"] == {"returned": 1}
    assert centre.queues()[0]["amount_per_contact"] == {"HKD": -2.5}


def test_amounts_are_added_to_the_last_digit(centre: Centre) -> None:
    for _ in range(3):
        centre.outcome(centre.leg("completed"), "sold", amount="33333333333.3333", currency="HKD")
    centre.outcome(centre.leg("completed"), "slip", amount="9" * 15, currency="USD")
    centre.outcome(centre.leg("completed"), "slip", amount="9" * 15, currency="USD")
    assert centre.queues()[0]["amount"] == {"HKD": 99999999999.9999, "USD": 2e13}


def test_rings_are_unknown_where_nobody_would_tell_of_them(centre: Centre) -> None:
    centre.leg("completed", missed=None)
    assert centre.agents()[0]["ring_no_answer"] is None


# ---- as a file


def test_a_report_as_csv(centre: Centre) -> None:
    contact = centre.leg("completed", queue='a "b", c')
    centre.outcome(contact, "sold", amount=5.5, currency="HKD")
    text = to_csv(centre.queues())
    assert text.endswith("\r\n")
    header, row = csv.reader(io.StringIO(text, newline=""))
    assert tuple(header) == QUEUE_COLUMNS
    cells = dict(zip(header, row, strict=True))
    assert part(cells, "queue", "label", "start", "whole", "offered", "amount", "before", "restated_at") == (
        'a "b", c', "2026-06-01T10:00+08:00", "2026-06-01T02:00:00.000Z", "true", "1", "HKD=5.5", "", "",
    )  # fmt: skip
    assert to_csv([]) == ",".join(QUEUE_COLUMNS) + "\r\n"
    (first, *_) = csv.reader(io.StringIO(to_csv(centre.agents(), AGENT_COLUMNS), newline=""))
    assert tuple(first) == AGENT_COLUMNS


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(name: str) -> None:
    rows = [{"queue": name, "offered": -1, "amount": {name: 1}}]
    assert list(csv.reader(io.StringIO(to_csv(rows, ("queue", "offered", "amount")), newline="")))[1] == [f"'{name}", "-1", f"'{name}=1"]
