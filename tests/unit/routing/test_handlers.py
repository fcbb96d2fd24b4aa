"""The live desk: what cannot be committed did not happen, and what is history changes nothing that lives."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from services.routing import handlers, interval_store, reports, store
from services.routing.domain.desk import Desk
from services.routing.handlers import FRESH_SECONDS, PARKED_SECONDS, LiveDesk
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.db.engine import LeaseLostError
from shared.errors import AnswerlineError, Conflict, Invalid, NotFound
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

LEG = {
    "number": 1, "queue": "sales", "call": "5.1", "agent": None, "address": None, "position": 1, "arrived_at": None, "answered_at": None, "ended_at": None,
    "outcome": "waiting", "ended_by": None, "target": None, "hold_seconds": None, "talk_seconds": None, "missed": {}, "ringing": [], "estimated": [], "uncertain": None,
}  # fmt: skip


class House:
    """Routing with one agent, Ann, who is available, a routed queue `sales` and an observed one `phone`."""

    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        self.units, self.at, self.desk = units, at, LiveDesk(units)
        self.do(lambda desk, _now: handlers.put_queue(desk, {"name": "sales", "offer_seconds": 20, "wrap_up": False}))
        self.do(lambda desk, _now: handlers.put_queue(desk, {"name": "phone", "mode": "observed"}))
        self.do(lambda desk, _now: desk.put_agent("ann", name="Ann", channels=["voice"], address="PJSIP/1"))
        self.do(lambda desk, now: desk.set_agent_state("ann", "available", now))

    def do(self, command: handlers.Command) -> Any:
        (result,) = self.desk.execute([command])
        return result

    def hear(self, *events: Event) -> None:
        with self.units() as work:
            handlers.receive(self.desk, work, events)

    def event(self, what: str, contact: str, sequence: int = 1, more: dict[str, Any] | None = None, **leg: Any) -> Event:
        data = {"contact": contact, "source": "pbx1", "channel": "voice", "required_skills": {}, **(more or {})}
        data["leg"] = {**LEG, "arrived_at": self.at(), **leg}
        return Event(f"gateway.{what}.v1", contact, data, self.at(), sequence)

    def arrive(self, **leg: Any) -> str:
        contact = new_id()
        self.hear(self.event("contact_arrived", contact, **leg))
        return contact

    def state(self, contact: str) -> str:
        return str(self.do(lambda desk, _now: desk.contacts[contact].state if contact in desk.contacts else "unknown"))

    def offer(self) -> dict[str, Any] | None:
        offers = self.do(lambda desk, _now: handlers.offers_to(desk, "ann"))
        return offers[0] if offers else None

    def rows(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def announced(self) -> list[Any]:
        return [row for row in self.rows(self.units.tables.outbox) if row.type != "routing.agent_state_changed.v1"]

    def told(self) -> list[str]:
        return [row.type.split(".")[1] for row in self.announced()]


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)


# ---- one turn


def test_an_arrival_is_offered_in_the_same_transaction(house: House) -> None:
    contact = house.arrive()
    assert house.told() == ["contact_queued", "offer_made"]
    assert house.state(contact) == "offered"
    assert [(row.contact, row.agent, row.state) for row in house.rows(store.offer)] == [(contact, "ann", "open")]
    (leg,) = house.rows(store.leg)
    assert (leg.contact, leg.outcome, leg.ringing, bool(leg.observed)) == (contact, "waiting", ["Ann"], False)


def test_commands_of_one_group_are_one_transaction_and_each_has_its_answer(house: House) -> None:
    def fail(_desk: Desk, _now: float) -> None:
        handlers.offers_to(_desk, "nobody")

    fine, refused, also = house.desk.execute([lambda desk, _now: desk.queues["sales"].name, fail, lambda desk, _now: len(desk.queues)])
    assert (fine, also) == ("sales", 2)
    assert isinstance(refused, NotFound) and "nobody" in refused.detail


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (lambda desk, now: desk.set_agent_state("nobody", "available", now), NotFound),
        (lambda desk, now: desk.set_agent_state("ann", "asleep", now), Invalid),
        (lambda desk, _now: handlers.put_queue(desk, {"name": "x", "mode": "maybe"}), Invalid),
        (lambda desk, now: desk.end_wrap_up("ann", now), Conflict),
        (lambda desk, now: handlers.assignment(desk, "nobody", now), NotFound),
    ],
)
def test_a_refused_command_is_an_answer_and_changes_nothing(house: House, command: handlers.Command, kind: type[AnswerlineError]) -> None:
    before = house.announced(), house.rows(store.agent), house.rows(store.queue)
    assert type(house.do(command)) is kind
    assert (house.announced(), house.rows(store.agent), house.rows(store.queue)) == before


@pytest.mark.parametrize("amount", ["abc", "", "NaN", "Infinity", "1e999999999", "-5"])
def test_an_amount_is_a_number_without_a_tree_of_dispositions_too(house: House, amount: str) -> None:
    house.do(lambda desk, _now: handlers.put_queue(desk, {"name": "sales"}))
    contact = house.arrive()
    offer = house.offer()
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.do(lambda desk, now: desk.hang_up(contact, now))
    sold = {"code": "sold", "amount": amount, "currency": "EUR"}
    assert isinstance(house.do(lambda desk, now: handlers.wrap_up(desk, house.desk.rules, "ann", contact, sold, now)), Invalid)
    sold["amount"] = "12.50"
    assert house.do(lambda desk, now: handlers.wrap_up(desk, house.desk.rules, "ann", contact, sold, now)).state == "available"
    assert [row.amount for row in house.rows(interval_store.contact_outcome)] == [125000]


def test_a_failed_commit_discards_the_desk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(store, "of_routed_legs", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
        house.arrive()
    assert (house.rows(store.contact), house.offer()) == ([], None)
    contact = house.arrive()
    assert house.state(contact) == "offered"


def test_so_does_an_error_after_the_turn_in_the_same_transaction(house: House) -> None:
    contact = new_id()
    with pytest.raises(ZeroDivisionError), house.units() as work:
        handlers.receive(house.desk, work, [house.event("contact_arrived", contact)])
        raise ZeroDivisionError
    assert (house.state(contact), house.offer(), house.told()) == ("unknown", None, [])


def test_an_unexpected_error_in_a_command_discards_the_desk_and_frees_it(house: House) -> None:
    def break_it(desk: Desk, _now: float) -> None:
        desk.agents.clear()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        house.do(break_it)
    assert house.do(lambda desk, _now: list(desk.agents)) == ["ann"]


def test_whoever_waits_for_news_is_woken_after_each_turn(house: House) -> None:
    house.desk.changed.clear()
    house.arrive()
    assert house.desk.changed.is_set()


def test_a_new_process_finds_everything_as_it_was(house: House) -> None:
    contact = house.arrive()
    offer = house.offer()
    house.desk = LiveDesk(house.units)
    assert (house.state(contact), house.offer()) == ("offered", offer)
    assert offer and house.do(lambda desk, now: desk.accept(offer["id"], "ann", now).state) == "accepted"


def test_whose_desk_was_taken_over_must_not_write_any_more(house: House) -> None:
    old, house.desk = house.desk, LiveDesk(house.units)
    contact = house.arrive()
    old_house_state = house.rows(store.contact), house.announced()
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            old.execute([lambda desk, now: desk.hang_up(contact, now)])
    assert (house.rows(store.contact), house.announced()) == old_house_state
    assert house.state(contact) == "offered"


def test_sequence_rises_for_every_subject_over_restarts(house: House, at: SetClock) -> None:
    contact = house.arrive()
    for _ in range(3):
        house.desk = LiveDesk(house.units)
        at.forward(0.001)
        house.do(lambda desk, now: handlers.stop_listening(desk, contact, now))
        house.do(lambda desk, now: handlers.listen(desk, contact, now))
    sequences = [row.body["sequence"] for row in house.rows(house.units.tables.outbox)]
    assert sequences == sorted(set(sequences)) and len(sequences) > 10


def test_sequence_rises_even_when_the_clock_stands_or_goes_back(house: House, at: SetClock) -> None:
    house.arrive()
    at.forward(-5)
    house.arrive()
    sequences = [row.body["sequence"] for row in house.rows(house.units.tables.outbox)]
    assert sequences == sorted(set(sequences))


def test_what_is_due_happens_at_the_end_of_any_turn(house: House, at: SetClock) -> None:
    contact = house.arrive()
    assert house.desk.next_deadline() == at() + 20
    at.forward(20)
    house.do(lambda _desk, _now: None)
    assert house.told()[-1] == "offer_expired"
    assert house.state(contact) == "waiting"
    assert [row.missed for row in house.rows(store.leg)] == [{"Ann": 1}]


# ---- events


@pytest.mark.parametrize(
    ("age", "state"), [(0, "offered"), (FRESH_SECONDS, "offered"), (FRESH_SECONDS + 0.1, "unknown"), (86400, "unknown"), (-5, "offered")]
)
def test_late_news_are_history_and_offered_to_nobody(house: House, at: SetClock, age: float, state: str) -> None:
    contact = house.arrive(arrived_at=at() - age)
    assert house.state(contact) == state
    assert [row.contact for row in house.rows(store.leg)] == [contact]


def test_an_observed_or_unknown_queue_never_offers(house: House) -> None:
    for queue in ("phone", "never heard of"):
        assert house.state(house.arrive(queue=queue)) == "unknown"
    assert (house.offer(), house.told()) == (None, ["contact_queued", "contact_queued"])
    assert all(row.body["data"]["observed"] for row in house.announced())


def test_a_leg_first_heard_of_when_over_is_never_offered(house: House) -> None:
    assert house.state(house.arrive(outcome="abandoned", ended_at=1.0)) == "unknown"


def test_an_arrival_told_twice_changes_nothing(house: House) -> None:
    contact = house.arrive()
    house.hear(house.event("contact_arrived", contact, 2))
    assert house.told() == ["contact_queued", "offer_made"]


ENDS = [
    ("contact_abandoned", "abandoned", {}),
    ("contact_ended", "completed", {}),
    ("contact_transferred", "transferred", {}),
    ("contact_corrected", "completed", {}),
    ("contact_corrected", "void", {"merged_into": new_id()}),
]


@pytest.mark.parametrize(("what", "outcome", "more"), ENDS)
def test_a_caller_who_hangs_up_is_offered_no_longer_and_nobody_missed_him(
    house: House, what: str, outcome: str, more: dict[str, Any]
) -> None:
    contact = house.arrive()
    house.hear(house.event(what, contact, 2, more, outcome=outcome))
    assert house.told()[-2:] == ["offer_withdrawn", "contact_abandoned"]
    assert (house.state(contact), house.offer()) == ("abandoned", None)


@pytest.mark.parametrize(("outcome", "more"), [("waiting", {}), ("talking", {}), ("void", {})])
def test_a_correction_that_ends_nothing_ends_nothing(house: House, outcome: str, more: dict[str, Any]) -> None:
    contact = house.arrive()
    house.hear(house.event("contact_corrected", contact, 2, more, outcome=outcome))
    assert house.state(contact) == "offered"


def test_arrival_and_hang_up_in_one_batch_offer_nothing(house: House) -> None:
    contact = new_id()
    house.hear(house.event("contact_arrived", contact), house.event("contact_abandoned", contact, 2, outcome="abandoned"))
    assert house.told() == ["contact_queued", "contact_abandoned"]


def test_an_assigned_contact_that_hangs_up_is_completed(house: House, at: SetClock) -> None:
    contact = house.arrive()
    offer = house.offer()
    at.forward(2)
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    assert house.do(lambda desk, now: handlers.assignment(desk, contact, now)) == {
        "contact": contact, "state": "assigned", "queue": "sales", "agent": "ann", "name": "Ann", "address": "PJSIP/1",
    }  # fmt: skip
    at.forward(30)
    house.hear(house.event("contact_ended", contact, 2, outcome="completed", ended_by="agent"))
    (leg,) = house.rows(store.leg)
    assert (leg.outcome, leg.agent, leg.hold_seconds, leg.talk_seconds, leg.ended_by) == ("completed", "Ann", 2, 30, "agent")
    assert house.told()[-1] == "contact_completed"


def test_a_stale_leg_never_overwrites_a_newer_one(house: House) -> None:
    contact = new_id()
    told = [
        house.event("contact_ended", contact, 3, queue="phone", outcome="completed"),
        house.event("contact_arrived", contact, 1, queue="phone"),
    ]
    house.hear(*told[:1])
    house.hear(*told[1:])
    assert [(row.outcome, row.sequence) for row in house.rows(store.leg)] == [("completed", 3)]
    house.hear(house.event("contact_corrected", contact, 4, queue="phone", outcome="abandoned"))
    assert [(row.outcome, row.sequence) for row in house.rows(store.leg)] == [("abandoned", 4)]


def test_within_a_batch_the_last_word_on_a_leg_counts(house: House) -> None:
    contact = new_id()
    events = [house.event("contact_arrived", contact, n, queue="phone", position=n) for n in range(1, 6)]
    house.hear(*events)
    assert [(row.position, row.sequence) for row in house.rows(store.leg)] == [(5, 5)]


def test_what_is_watched_is_announced_too_with_its_cause(house: House) -> None:
    contact = new_id()
    steps = [
        "contact_arrived",
        "contact_answered",
        "contact_transferred",
        "contact_ended",
        "contact_abandoned",
        "offer_missed",
        "contact_corrected",
    ]
    events = [
        house.event(what, contact, n, queue="phone", agent="Ann", hold_seconds=6.0, talk_seconds=25.0) for n, what in enumerate(steps, 1)
    ]
    house.hear(*events)
    assert house.told() == ["contact_queued", "contact_assigned", "contact_transferred", "contact_completed", "contact_abandoned"]
    assert [row.body["causationid"] for row in house.announced()] == [event.id for event in events[:5]]
    assert [row.body["sequence"] for row in house.announced()] == [1, 2, 3, 4, 5]


def reported(house: House, sequence: int, state: str, queue: str | None = None, agent: str = "Ann") -> Event:
    data = {"source": "pbx1", "agent": agent, "address": "PJSIP/1", "queue": queue, "state": state, "reason": None, "since": house.at()}
    return Event("gateway.agent_state_reported.v1", f"pbx1/{agent}/{queue or '*'}", data, house.at(), sequence)


def observed(house: House) -> list[tuple[str, str, str]]:
    return [(row.agent, row.queue, row.state) for row in house.rows(store.observed_agent)]


def test_the_latest_word_on_an_observed_agent_counts(house: House) -> None:
    house.hear(reported(house, 2, "paused"), reported(house, 1, "available", "phone"))
    house.hear(reported(house, 1, "available"))
    assert observed(house) == [("Ann", "", "paused"), ("Ann", "phone", "available")]


def test_after_a_restart_nothing_is_known_of_its_agents(house: House, at: SetClock) -> None:
    house.hear(reported(house, 1, "paused"))
    at.forward(10)
    house.hear(Event("gateway.source_restarted.v1", "pbx1", {"source": "pbx1", "at": at()}, at(), 1))
    assert observed(house) == [("Ann", "", "unknown")]
    house.hear(Event("gateway.source_restarted.v1", "pbx2", {"source": "pbx2", "at": at()}, at(), 1), reported(house, 2, "available"))
    assert observed(house) == [("Ann", "", "available")]


# ---- those who wait for an answer


def test_a_caller_nobody_listens_for_is_offered_to_nobody_until_somebody_does(house: House, at: SetClock) -> None:
    contact = house.arrive()
    house.do(lambda desk, now: handlers.stop_listening(desk, contact, now))
    assert (house.state(contact), house.offer()) == ("parked", None)
    at.forward(PARKED_SECONDS - 1)
    house.do(lambda desk, now: handlers.listen(desk, contact, now))
    assert house.offer()


def test_and_is_given_up_in_the_end(house: House, at: SetClock) -> None:
    contact = house.arrive()
    house.do(lambda desk, now: handlers.stop_listening(desk, contact, now))
    at.forward(PARKED_SECONDS)
    house.do(lambda _desk, _now: None)
    assert house.state(contact) == "abandoned"
    house.do(lambda desk, now: handlers.stop_listening(desk, "unheard of", now))


def test_a_look_writes_nothing(house: House) -> None:
    contact = house.arrive()
    before = house.rows(store.desk_epoch), house.announced()
    assert house.desk.look(lambda desk, now: handlers.assignment(desk, contact, now))["state"] == "offered"
    assert isinstance(house.desk.look(lambda desk, now: handlers.assignment(desk, "nobody", now)), NotFound)
    assert (house.rows(store.desk_epoch), house.announced()) == before


# ---- what the telephony system does with a routed contact itself


def test_a_contact_that_the_pbx_serves_after_all_is_offered_to_nobody_and_told_as_the_pbx_tells_it(house: House) -> None:
    contact = house.arrive()
    house.hear(house.event("contact_answered", contact, 2, outcome="talking", agent="Bob", answered_at=house.at() + 5, hold_seconds=5.0))
    assert (house.state(contact), house.offer()) == ("released", None)
    house.hear(house.event("contact_ended", contact, 3, outcome="completed", agent="Bob", hold_seconds=5.0, talk_seconds=60.0))
    assert house.told() == ["contact_queued", "offer_made", "offer_withdrawn", "contact_released", "contact_assigned", "contact_completed"]
    (leg,) = house.rows(store.leg)
    assert (leg.agent, leg.outcome, leg.talk_seconds, leg.missed, bool(leg.observed)) == ("Bob", "completed", 60.0, {}, True)


def test_a_contact_may_join_a_second_routed_queue_once_it_is_over_in_the_first(house: House) -> None:
    house.do(lambda desk, _now: handlers.put_queue(desk, {"name": "support", "wrap_up": False}))
    contact = house.arrive()
    offer = house.offer()
    assert offer is not None
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.hear(house.event("contact_arrived", contact, 2, number=2, queue="support"))
    again = house.offer()
    assert again is not None and (again["contact"], again["queue"]) == (contact, "support")
    assert [(leg.number, leg.queue, leg.outcome) for leg in house.rows(store.leg)] == [(1, "sales", "completed"), (2, "support", "waiting")]


def test_the_leg_of_an_observed_queue_stays_when_the_contact_goes_on_to_a_routed_one(house: House) -> None:
    contact = new_id()
    house.hear(house.event("contact_arrived", contact, 1, queue="phone"))
    house.hear(house.event("contact_answered", contact, 2, queue="phone", outcome="talking", agent="Bob"))
    house.hear(house.event("contact_arrived", contact, 3, number=2))
    house.hear(house.event("contact_transferred", contact, 4, queue="phone", outcome="transferred", agent="Bob"))
    assert house.state(contact) == "offered"
    legs = [(leg.number, leg.queue, leg.outcome, bool(leg.observed)) for leg in house.rows(store.leg)]
    assert legs == [(1, "phone", "transferred", True), (2, "sales", "waiting", False)]


# ---- a queue that is observed from now on


def observe(house: House) -> None:
    house.do(lambda desk, _now: handlers.put_queue(desk, {"name": "sales", "mode": "observed", "wrap_up": False}))


def test_who_talks_when_the_queue_becomes_observed_is_free_after_the_hang_up(house: House) -> None:
    contact = house.arrive()
    offer = house.offer()
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    observe(house)
    house.hear(house.event("contact_ended", contact, sequence=2, outcome="completed", ended_by="caller"))
    assert house.do(lambda desk, _now: desk.agents["ann"].state) == "available"
    assert [leg.outcome for leg in house.rows(store.leg)] == ["completed"]


def test_who_waits_when_the_queue_becomes_observed_is_the_pbx_s(house: House) -> None:
    contact = house.arrive()
    observe(house)
    assert (house.state(contact), house.offer()) == ("released", None)
    house.hear(house.event("contact_abandoned", contact, sequence=2, outcome="abandoned", ended_at=house.at()))
    assert [(leg.outcome, bool(leg.observed)) for leg in house.rows(store.leg)] == [("abandoned", True)]
    house.arrive()
    assert house.offer() is None


# ---- a callback


def test_a_callback_that_is_cancelled_is_open_no_longer_in_the_reports(house: House) -> None:
    house.do(lambda desk, now: desk.set_agent_state("ann", "paused", now))
    contact = house.arrive()
    house.do(lambda desk, now: handlers.promise_callback(desk, contact, "+4930123456", "", "Europe/Berlin", now))
    house.do(lambda desk, now: desk.cancel_callback(contact, now))
    assert [(leg.outcome, leg.kind) for leg in house.rows(store.leg)] == [("callback", "inbound"), ("withdrawn", "callback")]
    with house.units.database.reading() as connection:
        (row,) = reports.callbacks(connection, {"queue": "sales"})["callbacks"]
        assert (row["promised"], row["open"], row["merged_or_cancelled"]) == (1, 0, 1)
        assert reports.callbacks(connection, {"queue": "other"})["callbacks"] == []
