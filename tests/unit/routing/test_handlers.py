"""The live desk: what cannot be committed did not happen, and what is history changes nothing that lives."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from services.routing import handlers, interval_store, policies, reports, rulebook, store
from services.routing.domain.desk import Desk
from services.routing.domain.needs import Need
from services.routing.handlers import FRESH_SECONDS, PARKED_SECONDS
from services.routing.live import HELD_SECONDS, KNOWN_SECONDS, Command, LiveDesk
from services.routing.service import RoutingCore
from services.routing.sharding import Shard
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

    def do(self, command: Command) -> Any:
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
def test_a_refused_command_is_an_answer_and_changes_nothing(house: House, command: Command, kind: type[AnswerlineError]) -> None:
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


def test_it_fails_alone_and_those_before_and_behind_it_happen_once(house: House) -> None:
    before, behind = new_id(), new_id()

    def break_it(desk: Desk, _now: float) -> None:
        desk.agents.clear()
        raise RuntimeError("nobody foresaw this")

    first, fault, last = house.desk.execute(
        [
            lambda desk, now: desk.arrive(before, "sales", now).id,
            break_it,
            lambda desk, now: desk.arrive(behind, "sales", now).id,
        ]
    )
    assert (first, str(fault), last) == (before, "nobody foresaw this", behind)
    for _ in range(2):
        assert {house.state(before), house.state(behind)} == {"offered", "waiting"}
        assert sorted(row.id for row in house.rows(store.contact)) == sorted([before, behind])
        assert house.told() == ["contact_queued", "contact_queued", "offer_made"]
        house.desk = LiveDesk(house.units)


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
    leaving: list[bool] = []
    old.on_superseded = lambda: leaving.append(True)
    contact = house.arrive()
    old_house_state = house.rows(store.contact), house.announced()
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            old.execute([lambda desk, now: desk.hang_up(contact, now)])
    assert (house.rows(store.contact), house.announced()) == old_house_state
    assert house.state(contact) == "offered"
    assert leaving, "it says so, for it can never work again"


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
    house.hear(house.event("contact_ended", contact, 2, outcome="completed", ended_by="agent", holds=2, on_hold_seconds=7.5))
    (leg,) = house.rows(store.leg)
    assert (leg.outcome, leg.agent, leg.hold_seconds, leg.talk_seconds, leg.ended_by) == ("completed", "Ann", 2, 30, "agent")
    assert (leg.holds, leg.on_hold_seconds) == (2, 7.5), "of holds telephony alone knows"
    assert house.told()[-1] == "contact_completed"


def test_a_stale_leg_never_overwrites_a_newer_one(house: House) -> None:
    contact = new_id()
    told = [
        house.event("contact_ended", contact, 3, queue="phone", outcome="completed", holds=1, on_hold_seconds=4.0),
        house.event("contact_arrived", contact, 1, queue="phone"),
    ]
    house.hear(*told[:1])
    house.hear(*told[1:])
    assert [(row.outcome, row.sequence, row.holds, row.on_hold_seconds) for row in house.rows(store.leg)] == [("completed", 3, 1, 4.0)]
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


# ---- who has left


def changed(house: House, sequence: int, active: bool, person: str = "ann") -> Event:
    data = {"person": person, "name": "Ann", "site": "", "team": "", "roles": ["agent"], "language": "", "active": active}
    return Event("gateway.person_changed.v1", person, data, house.at(), sequence)


def presence(house: House) -> tuple[str, str, str]:
    return tuple(house.do(lambda desk, _now: [getattr(desk.agents["ann"], name) for name in ("state", "presence", "reason")]))


def test_who_has_left_is_offered_nothing_more_and_has_missed_nothing(house: House) -> None:
    contact = house.arrive()
    assert house.offer()
    house.hear(changed(house, 1, active=False))
    assert house.offer() is None
    assert (house.state(contact), presence(house)) == ("waiting", ("offline", "offline", "left"))
    assert "offer_withdrawn" in house.told()
    assert house.do(lambda desk, _now: desk.agents["ann"].missed_in_row) == 0
    assert isinstance(house.do(lambda desk, now: desk.set_agent_state("ann", "available", now)), Conflict)
    house.do(lambda desk, now: desk.set_agent_state("ann", "offline", now))


def test_who_has_left_finishes_what_they_have_in_hand(house: House) -> None:
    contact = house.arrive()
    offer = house.offer()
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.hear(changed(house, 1, active=False))
    assert (house.state(contact), presence(house)[0]) == ("assigned", "busy")
    other = house.arrive()
    house.hear(house.event("contact_ended", contact, 2, ended_by="caller", outcome="completed"))
    assert (house.state(other), presence(house)[0], house.offer()) == ("waiting", "offline", None)


def test_who_is_back_may_work_again_and_an_old_word_of_their_leaving_changes_nothing(house: House) -> None:
    house.hear(changed(house, 2, active=False))
    house.hear(changed(house, 3, active=True))
    house.hear(changed(house, 2, active=False))
    assert presence(house)[0] == "offline", "they sign in themselves"
    house.do(lambda desk, now: desk.set_agent_state("ann", "available", now))
    house.hear(changed(house, 4, active=True))
    assert presence(house)[0] == "available"


def test_who_had_left_before_they_became_an_agent_or_before_a_restart_may_not_sign_in(house: House) -> None:
    house.hear(changed(house, 1, active=False, person="bob"))
    for desk in (house.desk, LiveDesk(house.units)):
        house.desk = desk
        house.do(lambda desk, _now: desk.put_agent("bob", name="Bob", channels=["voice"]))
        assert isinstance(house.do(lambda desk, now: desk.set_agent_state("bob", "available", now)), Conflict)


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


def test_the_report_of_callbacks_adds_up_whatever_becomes_of_them(house: House) -> None:
    house.do(lambda desk, _now: handlers.put_queue(desk, {"name": "service", "wrap_up": False}))

    def promised() -> str:
        house.do(lambda desk, now: desk.set_agent_state("ann", "paused", now))
        contact = house.arrive()
        house.do(lambda desk, now: handlers.promise_callback(desk, contact, "+4930123456", "", "Europe/Berlin", now))
        house.do(lambda desk, now: desk.set_agent_state("ann", "available", now))
        house.do(lambda desk, now: desk.accept(desk.contacts[contact].offer, "ann", now))
        return contact

    for outcome in ("wrong_number", "refused", "busy"):
        contact = promised()
        house.do(lambda desk, now, contact=contact, outcome=outcome: desk.callback_dialled(contact, now, outcome))
    house.do(lambda desk, now, contact=contact: desk.cancel_callback(contact, now))
    reached = promised()
    house.do(lambda desk, now: desk.callback_dialled(reached, now, "connected"))
    house.do(lambda desk, now: desk.hang_up(reached, now))
    passed_on = promised()
    house.do(lambda desk, now: desk.transfer(passed_on, now, queue="service"))
    house.do(lambda desk, now: desk.cancel_callback(passed_on, now))
    put_back = promised()
    house.do(lambda desk, now: desk.requeue(put_back, now))
    house.do(lambda desk, now: desk.cancel_callback(put_back, now))
    promised()  # and being dialled now
    with house.units.database.reading() as connection:
        sales, service = reports.callbacks(connection, {})["callbacks"]
    sums = ("connected", "wrong_number", "refused", "given_up", "passed_on", "open", "merged_or_cancelled")
    assert [service["promised"], service["merged_or_cancelled"]] == [1, 1]
    assert {name: sales[name] for name in sums} == {
        "connected": 1, "wrong_number": 1, "refused": 1, "given_up": 0, "passed_on": 2, "open": 1, "merged_or_cancelled": 2,
    }  # fmt: skip
    assert sales["promised"] == sum(sales[name] for name in sums)


def test_a_policy_that_was_to_start_later_can_be_called_off(house: House, at: SetClock) -> None:
    put = ["standard", "bound_seconds: 1", "me", "", at() + 60]
    assert house.desk.change_rules(rulebook.put_policy, put)["state"] == "scheduled"
    assert house.desk.change_rules(rulebook.unschedule_policy, ["standard", "me"])["state"] == "draft"
    at.forward(61)
    house.do(lambda _desk, _now: None)
    assert house.desk.rules.policies == {}
    assert isinstance(house.desk.change_rules(rulebook.unschedule_policy, ["standard", "me"]), NotFound)


def test_how_far_estimates_were_off_is_told_by_period_and_adds_up(house: House, at: SetClock) -> None:
    began = at()
    house.do(lambda desk, _now: desk.experience["sales"].service.served(60.0))

    def day(calls: int) -> float:
        contacts = [house.arrive() for _ in range(calls)]
        for contact in contacts[:-1]:
            at.forward(17)
            house.do(lambda desk, now, contact=contact: desk.accept(desk.contacts[contact].offer, "ann", now))
            at.forward(40)
            house.do(lambda desk, now, contact=contact: desk.hang_up(contact, now))
        house.hear(house.event("contact_abandoned", contacts[-1], 9, outcome="abandoned"))
        at.forward(86400)
        return at()

    noon, end = day(4), day(3)
    with house.units.database.reading() as connection:
        first, second, both = (
            reports.estimates(connection, {"from": since, "to": until})["estimates"][0]
            for since, until in ((began, noon), (noon, end), (began, end))
        )
    assert [row["answered"] + row["at_once"] for row in (first, second, both)] == [3, 2, 5]
    assert [row["abandoned"] for row in (first, second, both)] == [1, 1, 2]
    total = sum(row["answered"] * row["mean_absolute_error_seconds"] for row in (first, second))
    assert total == pytest.approx(both["answered"] * both["mean_absolute_error_seconds"])
    house.do(lambda _desk, _now: None)
    with house.units.database.reading() as connection:
        (learnt,) = reports.estimates(connection, {})["estimates"]
    assert {**learnt, "factor": both["factor"]} == pytest.approx(both), "what was learnt on the way"


# ---- what training says


DAY = 86400.0


def word(kind: str, sequence: int, person: str = "ann", **more: Any) -> Event:
    return Event(f"training.{kind}.v1", person, {"person": person, "channel": "voice", **more}, 0.0, sequence)


def certified(house: House, sequence: int, until: float | None, **more: Any) -> Event:
    return word("certified", sequence, certified_at=house.at(), expires_at=until, **more)


def lapsed(house: House, sequence: int, **more: Any) -> Event:
    return word("certification_lapsed", sequence, at=house.at(), reason="expired", **more)


def channels_of(house: House, agent: str) -> set[str]:
    return set(house.do(lambda desk, _now: desk.profile_of(desk.agent(agent)).channels))


def test_a_certificate_counts_from_its_word_to_its_end(house: House, at: SetClock) -> None:
    house.hear(certified(house, 1, at() + 60, channel="chat"))
    assert channels_of(house, "ann") == {"voice", "chat"}
    at.forward(61)
    house.do(lambda _desk, _now: None)
    assert channels_of(house, "ann") == {"voice"}
    house.hear(lapsed(house, 2))
    assert channels_of(house, "ann") == set()


def test_a_word_that_comes_late_or_twice_changes_nothing(house: House) -> None:
    house.hear(lapsed(house, 5), certified(house, 4, None))
    assert channels_of(house, "ann") == set()
    for late in (certified(house, 3, None), certified(house, 4, None)):
        house.hear(late)
        assert channels_of(house, "ann") == set()
    house.do(lambda desk, now: desk.certify("ann", "voice", None, now))  # by hand
    house.hear(lapsed(house, 5))
    assert channels_of(house, "ann") == {"voice"}


def test_by_hand_certificates_are_given_only_while_training_is_silent_of_the_agent(house: House) -> None:
    live, until = house.desk, house.at() + DAY
    acts: dict[str, Command] = {
        "certify": lambda desk, now: live.certify(desk, "ann", "social", None, now).id,
        "permit": lambda desk, now: live.permit(desk, "ann", "social", {"supervisor": "bob", "per_day": 1, "until": until}, now).id,
        "lapse": lambda desk, now: live.lapse(desk, "ann", "chat", now).id,
    }

    def answers() -> list[str]:
        return [str(house.do(act)) for act in acts.values()]

    house.do(lambda desk, _now: desk.put_agent("bob"))
    assert answers() == ["ann", "ann", "ann"]
    house.do(lambda desk, now: live.lapse(desk, "ann", "social", now))
    house.hear(certified(house, 1, None, channel="chat"))
    refused = answers()
    assert "training says what ann may serve" in refused[0] and refused[1] == refused[0]
    assert "training let ann serve chat" in refused[2] and channels_of(house, "ann") == {"voice", "chat"}
    house.do(lambda desk, now: live.lapse(desk, "ann", "voice", now))
    assert channels_of(house, "ann") == {"chat"}, "what the profile said can still be taken away"
    house.hear(lapsed(house, 2, channel="chat"))
    assert "training says" in answers()[0] and channels_of(house, "ann") == set()


def test_who_becomes_an_agent_later_is_what_training_said_before(house: House) -> None:
    permitted = word("practice_permitted", 2, "new", channel="chat", supervisor="ann", contacts_a_day=2, until=house.at() + DAY)
    house.hear(lapsed(house, 1, person="new"), permitted)
    house.desk = LiveDesk(house.units)
    house.do(lambda desk, _now: house.desk.put_agent(desk, "new", {"channels": ["voice"]}))
    assert channels_of(house, "new") == {"chat"}
    house.do(lambda desk, now: desk.set_agent_state("ann", "offline", now))
    assert channels_of(house, "new") == set()


@pytest.mark.parametrize("supervisor", ["nobody", "ann"])
def test_a_permit_without_a_supervisor_who_could_be_there_is_kept_and_lets_nobody_practise(house: House, supervisor: str) -> None:
    house.hear(word("practice_permitted", 1, channel="chat", supervisor=supervisor, contacts_a_day=2, until=house.at() + DAY))
    assert channels_of(house, "ann") == {"voice"}


@pytest.mark.parametrize("before", [(), ("mail",)])
def test_a_permit_binds_whose_profile_names_the_channel(house: House, before: tuple[str, ...]) -> None:
    """Whether or not it is training's first word of the agent, and after a restart."""
    house.do(lambda desk, _now: house.desk.put_agent(desk, "ann", {"channels": ["voice", "chat"]}))
    house.do(lambda desk, _now: house.desk.put_agent(desk, "bob", {"channels": ["voice"]}))
    for channel in before:
        house.hear(certified(house, 1, None, channel=channel))
    house.hear(word("practice_permitted", 2, channel="chat", supervisor="bob", contacts_a_day=2, until=house.at() + DAY))
    assert channels_of(house, "ann") == {"voice", *before}, "bob is not there"
    house.do(lambda desk, now: desk.set_agent_state("bob", "available", now))
    assert channels_of(house, "ann") == {"voice", "chat", *before}
    house.desk = LiveDesk(house.units)
    house.do(lambda desk, now: desk.set_agent_state("bob", "offline", now))
    assert channels_of(house, "ann") == {"voice", *before}


def test_a_permit_takes_back_what_was_offered_while_the_profile_alone_counted(house: House) -> None:
    offered = house.arrive()
    assert house.do(lambda desk, _now: desk.contacts[offered].offer)
    house.hear(word("practice_permitted", 1, channel="voice", supervisor="bob", contacts_a_day=2, until=house.at() + DAY))
    assert house.do(lambda desk, _now: desk.contacts[offered].offer) is None


def test_a_learner_begins_in_the_queues_that_the_permit_names(house: House) -> None:
    permitted = word("practice_permitted", 1, channel="chat", supervisor="bob", contacts_a_day=2, until=house.at() + DAY, queues=["easy"])
    house.do(lambda desk, _now: house.desk.put_agent(desk, "bob", {"channels": ["voice"]}))
    house.do(lambda desk, now: desk.set_agent_state("bob", "available", now))
    house.hear(permitted)
    objections = house.do(
        lambda desk, _now: [
            desk.profile_of(desk.agent("ann")).objection(Need(queue, channel)) for queue, channel in (("easy", "chat"), ("hard", "chat"))
        ]
    )
    assert objections == [None, "practises on other queues than hard"]
    house.hear(certified(house, 2, None, channel="chat"))
    assert house.do(lambda desk, _now: desk.profile_of(desk.agent("ann")).practice) == frozenset()


# ---- what takes several turns


def let_work(house: House) -> None:
    while (due := house.desk.next_deadline()) is not None and due <= house.at():
        house.do(lambda _desk, _now: None)


CLOSING = {"kind": "emergency", "queues": ["sales"], "message": {"en": "Fire."}, "reason": "fire"}


def test_an_emergency_reaches_all_who_wait_though_the_process_dies_meanwhile_and_nobody_who_came_later(house: House) -> None:
    talking = house.arrive()
    house.do(lambda desk, now: desk.accept(desk.contacts[talking].offer, "ann", now))
    house.do(lambda desk, now: [desk.arrive(new_id(), "sales", now) for _ in range(120)])
    house.desk.change_rules(rulebook.put_closure, [CLOSING, "supervisor"])
    house.desk = LiveDesk(house.units)
    let_work(house)
    house.at.forward(1)
    house.do(lambda desk, now: desk.transfer(talking, now, queue="sales"))
    house.desk = LiveDesk(house.units)
    let_work(house)
    states = [row.state for row in house.rows(store.contact)]
    assert (states.count("closed"), states.count("waiting") + states.count("offered")) == (120, 1)
    assert house.told().count("contact_turned_away") == 120


def test_so_does_a_queue_that_is_the_pbx_s_from_now_on(house: House) -> None:
    house.do(lambda desk, now: [desk.arrive(new_id(), "sales", now) for _ in range(120)])
    observe(house)
    house.desk = LiveDesk(house.units)
    let_work(house)
    assert {row.state for row in house.rows(store.contact)} == {"released"}


def test_a_policy_is_read_anew_when_the_version_that_was_written_never_came_to_be(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(document: str) -> Any:
        return house.desk.change_rules(rulebook.put_policy, ["standard", document, "me", "", None])

    with monkeypatch.context() as broken:
        broken.setattr(store, "of_desk", fail)
        with pytest.raises(RuntimeError):
            put("bound_seconds: 1")
    put("bound_seconds: 2")
    assert house.desk.rules.policies["standard"].bound_seconds == 2


def fail(*_: Any) -> Any:
    raise RuntimeError("the disk is full")


# ---- a customer is forgotten

STAND_IN = "erased-1"


def forget(house: House, *contacts: str) -> None:
    data = {"customer": "k1", "stand_in": STAND_IN, "contacts": list(contacts), "at": house.at()}
    house.hear(Event("gateway.customer_erased.v1", STAND_IN, data, house.at(), int(house.at() * 1e6)))


def known(house: House, contact: str) -> tuple[str, str, dict[str, Any]]:
    (row,) = [row for row in house.rows(store.contact) if row.id == contact]
    return row.customer, row.caller, row.facts


def served(house: House) -> str:
    """A contact of k1, answered by Ann and over."""
    contact = new_id()
    house.hear(house.event("contact_arrived", contact, more={"customer": "k1", "facts": {"caller_ref": "m1", "tier": "gold"}}))
    offer = house.offer()
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.do(lambda desk, now: desk.hang_up(contact, now))
    return contact


@pytest.mark.parametrize("on_desk", [True, False])
def test_nothing_tells_any_more_whose_a_contact_was_and_its_figures_stay(house: House, on_desk: bool) -> None:
    contact = served(house)
    if not on_desk:
        house.do(lambda desk, now: desk.forget(now + 1))
    legs, outcomes = house.rows(store.leg), house.rows(interval_store.contact_outcome)
    forget(house, contact)
    assert known(house, contact) == (STAND_IN, "", {"source": "pbx1", "tier": "gold"})
    assert house.rows(store.last_agent) == []
    assert (house.rows(store.leg), house.rows(interval_store.contact_outcome)) == (legs, outcomes)
    forget(house, contact)
    assert known(house, contact)[0] == STAND_IN


def test_one_that_agent_and_customer_have_left_is_told_of_by_the_stand_in(house: House) -> None:
    house.do(lambda desk, _now: handlers.put_queue(desk, {"name": "sales", "offer_seconds": 20, "wrap_up": True}))
    contact = served(house)
    forget(house, contact)
    house.do(lambda desk, now: desk.end_wrap_up("ann", now))
    assert known(house, contact)[0] == STAND_IN
    assert "k1" not in str([row.body for row in house.announced() if row.type == "routing.contact_wrapped_up.v1"])


def test_whoever_is_forgotten_is_not_called_back(house: House) -> None:
    contact = new_id()
    house.do(lambda desk, now: desk.set_agent_state("ann", "paused", now))
    house.hear(house.event("contact_arrived", contact, more={"customer": "k1"}))
    house.do(lambda desk, now: desk.promise_callback(contact, now, number="+815012345678", zones=("Asia/Tokyo",), caller_ref="m1"))
    forget(house)
    assert known(house, contact)[:2] == (STAND_IN, "")
    assert house.state(contact) == "released"
    assert "+815012345678" not in str(house.rows(store.contact))


def test_others_are_known_as_before(house: House) -> None:
    contact = new_id()
    house.hear(house.event("contact_arrived", contact, more={"customer": "k2", "facts": {"caller_ref": "m2"}}))
    forget(house)
    assert known(house, contact)[0] == "k2" and known(house, contact)[2]["caller_ref"] == "m2"


# ---- what qa says


PREFERS = "prefer: {scores: {world-class: 3}}\nfit_seconds: 20\n"


def scored(house: House, agent: str, high: float, sequence: int = 1, **more: Any) -> Event:
    data = {"agent": agent, "queue": None, "channel": None, "scorecard": "world-class", "scorecard_kind": "customer", "kind": "human", "score": high,
            "low": 0.0, "high": high, "evaluations": 9, "since": house.at() - DAY, "until": house.at(), "people": [agent], "at": house.at()}  # fmt: skip
    return Event("qa.agent_scored.v1", agent, data | more, house.at(), sequence)


def scores_of(house: House, agent: str) -> dict[str, float]:
    return dict(house.do(lambda desk, _now: desk.profile_of(desk.agent(agent)).scores))


def prefer_scores(house: House) -> None:
    house.do(lambda desk, _now: desk.put_policy(policies.compile(PREFERS, "standard", 1)))


def test_a_score_counts_where_a_policy_prefers_by_it_and_nowhere_else(house: House) -> None:
    house.hear(scored(house, "ann", 0.62))
    assert scores_of(house, "ann") == {}, "else each agent would be a bench of their own, for nothing"
    prefer_scores(house)
    assert scores_of(house, "ann") == {"world-class": 0.6}
    house.hear(scored(house, "ann", 0.9, 3), scored(house, "ann", 0.2, 2))
    house.hear(scored(house, "ann", 0.1, 3), scored(house, "ann", 0.1, 9, kind="automatic"), scored(house, "ann", 0.1, 9, queue="sales"))
    assert scores_of(house, "ann") == {"world-class": 0.9}, "late, again, or of something else"
    house.at.forward(91 * DAY)
    house.do(lambda _desk, _now: None)
    assert scores_of(house, "ann") == {}, "whom nobody has heard for so long is not judged by it"


def test_a_score_is_known_after_a_restart_and_of_who_becomes_an_agent_later(house: House) -> None:
    house.hear(scored(house, "ann", 0.5), scored(house, "new", 0.7))
    house.desk = LiveDesk(house.units)
    house.do(lambda desk, _now: house.desk.put_agent(desk, "new", {"channels": ["voice"]}))
    prefer_scores(house)
    assert (scores_of(house, "ann"), scores_of(house, "new")) == ({"world-class": 0.5}, {"world-class": 0.7})


# ---- what is over leaves the memory, and is known for a while


def after(house: House, seconds: float) -> None:
    house.at.forward(seconds)
    house.do(lambda _desk, _now: None)


def known_things(desk: Desk) -> str:
    """All that the desk has in its hands, its engines included."""
    return repr([vars(desk), *(vars(part) for engine in desk.engines.values() for part in (engine, engine.floor, engine.floor.lines))])


@pytest.mark.parametrize("ends", ["completed", "abandoned"])
def test_nothing_is_left_in_memory_of_a_contact_that_is_over(house: House, ends: str) -> None:
    """What is kept of each contact for an hour would be gigabytes in a large centre."""
    contact = new_id()
    house.hear(house.event("contact_arrived", contact, more={"customer": "k1", "facts": {"last_agent": "who has left"}}))
    if ends == "completed":
        offer = house.offer()
        assert offer
        house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.do(lambda desk, now: desk.hang_up(contact, now))
    desk = house.do(lambda desk, _now: desk)
    assert contact in known_things(desk)
    after(house, HELD_SECONDS + 600)
    assert house.do(lambda desk, _now: desk) is desk
    assert contact not in known_things(desk)


def test_who_asks_what_became_of_it_is_told_and_it_is_forgotten_again(house: House) -> None:
    contact = served(house)
    after(house, HELD_SECONDS + 1)

    def ask() -> Any:
        return house.desk.look(lambda desk, now: handlers.assignment(desk, contact, now), contact)

    assert (ask()["state"], ask()["agent"]) == ("ended", "ann")
    after(house, 5)
    assert house.state(contact) == "unknown"
    house.desk = LiveDesk(house.units)
    assert (ask()["state"], house.state(contact)) == ("ended", "unknown")
    after(house, KNOWN_SECONDS)
    assert isinstance(ask(), NotFound)
    other_shard = LiveDesk(house.units, shard=Shard(house.units, 1, 2))
    assert isinstance(other_shard.look(lambda desk, now: handlers.assignment(desk, contact, now), contact), NotFound)


def test_a_command_about_it_said_again_is_answered_as_before(house: House) -> None:
    contact = new_id()
    house.hear(house.event("contact_arrived", contact))
    offer = (house.offer() or {})["id"]
    core = object.__new__(RoutingCore)
    core.desk, core.shard = house.desk, house.desk.shard
    core.commands = type("AtOnce", (), {"submit": staticmethod(house.do)})()

    def accept() -> Any:
        return core.command(lambda desk, now: handlers.accept(desk, offer, "ann", "", now), agent="ann", offer=offer)["state"]

    def end() -> Any:
        return core.command(lambda desk, now: handlers.shown(desk.hang_up(contact, now)), contact=contact)["state"]

    assert (accept(), end()) == ("accepted", "ended")
    told = house.told()
    after(house, HELD_SECONDS + 1)
    assert (accept(), house.state(contact)) == ("accepted", "ended")
    after(house, 5)
    assert (house.state(contact), end()) == ("unknown", "ended")
    with pytest.raises(Conflict, match="is ended"):
        core.command(lambda desk, now: desk.promise_callback(contact, now, "+815012345678", ("Asia/Tokyo",)), contact=contact)
    for nobody in (new_id(), "no id at all"):
        with pytest.raises(NotFound):
            core.command(lambda desk, now, nobody=nobody: desk.hang_up(nobody, now), contact=nobody)
        with pytest.raises(NotFound):
            core.command(lambda desk, now, nobody=nobody: desk.reject(nobody, "ann", now), agent="ann", offer=nobody)
    assert house.told() == told


def test_a_late_event_about_it_corrects_nothing_that_the_desk_has_told(house: House) -> None:
    contact = served(house)
    (leg,) = house.rows(store.leg)
    after(house, HELD_SECONDS + 1)
    house.hear(house.event("contact_ended", contact, 9, outcome="completed", ended_by="agent", agent="Somebody"))
    assert [(row.agent, row.sequence) for row in house.rows(store.leg)] == [("Ann", leg.sequence)]


def test_in_a_further_queue_it_is_a_contact_as_any_other(house: House) -> None:
    contact = served(house)
    after(house, HELD_SECONDS + 1)
    house.hear(house.event("contact_arrived", contact, 9, number=2, queue="sales"))
    assert (house.state(contact), (house.offer() or {})["contact"]) == ("offered", contact)
    after(house, 1)
    assert house.state(contact) == "offered"


def test_its_trace_outlives_the_process(house: House) -> None:
    contact, traces = new_id(), [f"00-{digit * 32}-{digit * 16}-01" for digit in "ab"]
    house.hear(replace(house.event("contact_arrived", contact), trace=traces[0]))
    house.desk = LiveDesk(house.units)
    offer = house.offer()
    assert offer
    house.do(lambda desk, now: desk.accept(offer["id"], "ann", now))
    house.hear(replace(house.event("contact_ended", contact, 2, outcome="completed"), trace=traces[1]))
    told = [
        (row.type.split(".")[1], json.loads(row.body)["traceparent"] if isinstance(row.body, str) else row.body["traceparent"])
        for row in house.announced()
    ]
    assert told == [("contact_queued", traces[0]), ("offer_made", traces[0]), ("offer_accepted", traces[0]),
                    ("contact_assigned", traces[0]), ("contact_completed", traces[1])]  # fmt: skip
