"""Commands, events and due moments, each in one transaction, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from services.im import handlers, reports, store
from services.im.domain.effect import ENOUGH
from services.im.domain.ladder import DEFAULT
from services.im.metrics import RoomMetrics
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict, Invalid, NotFound, TooManyRequests
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

LADDER = """
steps:
  - {after: 0, who: experts, best: 1, level: 3}
  - {after: 8, who: experts, level: 1}
  - {after: 20, who: managers}
ends_after: 40
claim_seconds: 30
open_per_agent: 2
keep_days: 30
"""


def climb(units: UnitOfWork) -> list[float]:
    with units.database.reading() as connection:
        armed = handlers.arm(connection)
    return handlers.climb_due(units, armed)


class House:
    """im with three experts on routers (Bob, Eve, and Max the manager), a ladder for them, and Anna with a customer."""

    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        self.units, self.at = units, at
        for name, more in {"bob": {"topics": {"router": 5}}, "eve": {"topics": {"router": 2}}, "max": {"ranks": ["manager"]}}.items():
            handlers.put_expert(units, name, {"name": name.title(), **more})
            handlers.set_presence(units, name, "available")
        handlers.put_ladder(units, "router", LADDER, "test")
        self.contact = self.assign("anna")

    def hear(self, what: str, contact: str, sequence: int = 1, **data: Any) -> None:
        base = {"contact": contact, "queue": "support", "channel": "voice", "customer": "k1", "at": self.at()}
        with self.units() as work:
            handlers.receive(work, [Event(what if "." in what else f"routing.{what}.v1", contact, base | data, self.at(), sequence)])

    def assign(self, agent: str, contact: str = "", sequence: int = 1, **data: Any) -> str:
        contact = contact or new_id()
        self.hear("contact_assigned", contact, sequence, agent=agent, waited_seconds=4.0, **data)
        return contact

    def ask(self, **more: Any) -> dict[str, Any]:
        asked = {"contact": self.contact, "agent": "anna", "topic": "router", "question": "Which firmware has IPv6?", "urgency": "normal"}
        return handlers.open_escalation(self.units, asked | {"language": "", "site": ""} | more)

    def forward(self, seconds: float) -> list[float]:
        self.at.forward(seconds)
        return climb(self.units)

    def get(self, id: str) -> dict[str, Any]:
        with self.units.database.reading() as connection:
            return handlers.get(connection, id)

    def post(self, id: str, author: str, text: str, kind: str = "text") -> Any:
        return handlers.post_messages(self.units, [{"escalation": id, "author": author, "text": text, "kind": kind}])[0]

    def look(self, question: Callable[..., Any], *arguments: Any) -> Any:
        with self.units.database.reading() as connection:
            return question(connection, *arguments)

    def rows(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def told(self) -> list[str]:
        return [row.type.split(".")[1] for row in self.rows(self.units.tables.outbox)]

    def body(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = [row.body["data"] for row in self.rows(self.units.tables.outbox) if row.type == f"im.{name}.v1"][-1]
        return found


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)


# ---- asking


def test_a_question_opens_a_room_with_the_contacts_card_and_asks_the_best_at_once(house: House) -> None:
    one = house.ask()
    assert one["card"] == {"queue": "support", "channel": "voice", "customer": "k1", "agent": "anna", "waited_seconds": 4.0}
    assert (one["state"], [asked["expert"] for asked in one["asked"]]) == ("asking", ["bob"])
    assert house.told() == ["escalation_opened", "expert_asked"]
    assert house.body("expert_asked")["people"] == ["anna", "bob"]


def test_why_each_was_asked_or_not_is_kept(house: House) -> None:
    (step,) = house.get(house.ask()["id"])["steps"]
    assert step["choice"]["excluded"] == {"level": ["eve", "max"]}
    assert step["words"]["en"][0].startswith("bob was asked")


def test_only_the_agent_in_the_contact_can_ask(house: House) -> None:
    for more in ({"agent": "otto"}, {"contact": new_id()}):
        with pytest.raises(NotFound, match="has no contact"):
            house.ask(**more)


def test_one_agent_cannot_flood(house: House) -> None:
    first = house.ask()
    house.ask()
    with pytest.raises(Conflict, match="has 2 questions open already: accept, refuse or close one"):
        house.ask()
    handlers.change(house.units, first["id"], lambda one, _ladder, now: one.close("anna", now))
    house.ask()


def test_nor_while_nobody_is_there_to_be_asked(house: House) -> None:
    for name in ("bob", "eve", "max"):
        handlers.set_presence(house.units, name, "offline")
    assert [house.ask()["state"] for _ in range(2)] == ["unanswered"] * 2
    with pytest.raises(Conflict, match="has 2 questions open already"):
        house.ask()
    house.at.forward(handlers.LATELY_SECONDS)
    assert house.ask()["state"] == "unanswered"


def test_nor_by_taking_back_each_question(house: House) -> None:
    for _ in range(2 * handlers.OF_LATE):
        id = house.ask()["id"]
        handlers.change(house.units, id, lambda one, _ladder, now: one.close("anna", now))
    with pytest.raises(TooManyRequests, match="has asked 20 questions within 60 s"):
        house.ask()
    house.at.forward(handlers.LATELY_SECONDS)
    assert house.ask()


def test_nor_with_many_questions_at_one_moment(house: House) -> None:
    asked = at_once(lambda _number: house.ask(), 12)
    assert sum(not isinstance(one, Conflict) for one in asked) == 2


def test_a_topic_without_a_ladder_goes_by_the_default_one(house: House) -> None:
    assert house.ask(topic="billing")["ladder_version"] == DEFAULT.version


def test_a_change_of_the_ladder_concerns_questions_asked_from_then_on(house: House) -> None:
    one = house.ask()
    handlers.put_ladder(house.units, "router", "steps: [{after: 0, who: everyone}]", "test")
    house.forward(8)
    assert house.get(one["id"])["steps"][1]["who"] == "experts"
    assert house.ask()["ladder_version"] == 2


# ---- the ladder


def test_the_ladder_climbs_in_time_and_ends_with_a_promise(house: House) -> None:
    one = house.ask()
    assert house.forward(7.9) == []
    assert house.forward(0.1) == [0.0]
    assert house.forward(12) == [0.0]
    house.forward(20)
    found = house.get(one["id"])
    assert [(step["who"], step["asked"]) for step in found["steps"]] == [("experts", ["bob"]), ("experts", ["eve"]), ("managers", ["max"])]
    assert found["state"] == "unanswered"
    assert house.body("escalation_unanswered")["promise"] == "callback"


def test_after_an_outage_no_step_is_left_out_and_none_is_done_twice(house: House) -> None:
    one = house.ask()
    house.forward(25)
    assert [step["step"] for step in house.get(one["id"])["steps"]] == [0, 1, 2]
    assert house.forward(0) == []
    house.forward(100)
    assert house.told().count("expert_asked") == 3
    assert house.told().count("escalation_unanswered") == 1


def test_two_processes_that_wake_at_once_do_each_step_once(house: House) -> None:
    ids = [house.ask()["id"], house.ask()["id"]]
    house.at.forward(8)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: climb(house.units), range(4)))
    assert Counter(row.escalation for row in house.rows(store.ladder_step)) == dict.fromkeys(ids, 2)


def test_a_question_that_another_process_holds_keeps_no_other_waiting(house: House) -> None:
    held, other = house.ask()["id"], house.ask()["id"]
    house.at.forward(8)
    with house.units.database.transaction() as connection:
        store.lock(connection, held)
        with house.units.database.reading() as reading:
            armed = handlers.arm(reading)  # what a step needs is read while all of SQLite is locked
        assert set(armed.ids) == {held, other}
        if not house.units.database.sqlite:
            assert handlers.climb_due(house.units, armed) == [0.0]
            assert [len(house.get(id)["steps"]) for id in (held, other)] == [1, 2]
    climb(house.units)
    assert [len(house.get(id)["steps"]) for id in (held, other)] == [2, 2]


def test_a_process_that_holds_all_that_is_due_first_stops_no_ladder_but_those(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "DUE_AT_ONCE", 1)
    held = house.ask()["id"]
    house.at.forward(1)
    other = house.ask()["id"]
    house.at.forward(8)
    with house.units.database.transaction() as connection:
        store.lock(connection, held)
        with house.units.database.reading() as reading:
            armed = handlers.arm(reading)
        assert list(armed.ids) == [held]
        if not house.units.database.sqlite:
            assert handlers.climb_due(house.units, armed) == [0.0]
            assert handlers.climb_due(house.units, armed) == []
            assert [len(house.get(id)["steps"]) for id in (held, other)] == [1, 2]
    while climb(house.units):
        pass
    assert [len(house.get(id)["steps"]) for id in (held, other)] == [2, 2]


def test_who_is_not_heard_of_is_not_asked(house: House) -> None:
    house.at.forward(handlers.PRESENT_SECONDS + 1)
    handlers.heartbeat(house.units, ["eve"])
    one = house.ask()
    assert [asked["expert"] for asked in one["asked"]] == ["eve"]


def test_away_stays_away_through_heartbeats(house: House) -> None:
    handlers.set_presence(house.units, "bob", "away")
    handlers.heartbeat(house.units, ["bob"])
    with house.units.database.reading() as connection:
        assert handlers.get_expert(connection, "bob")["presence"] == "away"


def test_a_claim_without_a_word_goes_back_to_the_ladder(house: House) -> None:
    one = house.ask()
    handlers.claim(house.units, one["id"], "bob")
    house.forward(30)
    found = house.get(one["id"])
    assert (found["state"], found["claimed_by"], found["steps"][1]["asked"]) == ("asking", None, ["eve"])
    assert house.body("escalation_released")["reason"] == "silence"


# ---- claims


def at_once(do: Callable[[int], Any], times: int) -> list[Any]:
    ready = threading.Barrier(times)

    def one(number: int) -> Any:
        ready.wait()
        try:
            return do(number)
        except Conflict as late:
            return late

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def test_of_many_claims_at_once_exactly_one_wins(house: House) -> None:
    id = house.ask()["id"]
    results = at_once(lambda number: handlers.claim(house.units, id, f"x{number}"), 12)
    won = [result for result in results if not isinstance(result, Conflict)]
    assert len(won) == 1
    winner = house.get(id)["claimed_by"]
    assert {result.more["claimed_by"] for result in results if isinstance(result, Conflict)} == {winner}
    assert house.told().count("escalation_claimed") == 1
    assert house.rows(store.escalation)[0].lost_claims == 11


# ---- rooms


def test_an_answer_that_is_accepted_is_told_with_its_question(house: House) -> None:
    id = house.ask()["id"]
    handlers.claim(house.units, id, "bob")
    house.at.forward(12)
    house.post(id, "bob", "From 3.2 on.", "answer")
    handlers.accept(house.units, id, "anna", 9.0, True)
    expected = {"question": "Which firmware has IPv6?", "answer": "From 3.2 on.", "expert": "bob", "seconds": 12, "hold_seconds": 9}
    assert expected.items() <= house.body("question_answered").items()
    (record,) = house.rows(store.record)
    assert (record.expert, record.topic, record.asked, record.answered, record.accepted) == ("bob", "router", 1, 1, 1)


def test_many_messages_in_one_go_each_get_their_own_answer(house: House) -> None:
    first, second = house.ask()["id"], house.ask()["id"]
    posts = [
        (first, "anna", "one"),
        (second, "anna", "two"),
        (first, "anna", "three"),
        (first, "stranger", "four"),
        (new_id(), "anna", "five"),
    ]
    results = handlers.post_messages(
        house.units, [{"escalation": id, "author": author, "text": text, "kind": "text"} for id, author, text in posts]
    )
    assert [row["number"] if isinstance(row, dict) else type(row) for row in results] == [1, 1, 2, NotFound, NotFound]
    with house.units.database.reading() as connection:
        assert [row["text"] for row in handlers.messages(connection, first, "anna", 0, 10)["messages"]] == ["one", "three"]
        assert [row["number"] for row in handlers.messages(connection, first, "anna", 1, 10)["messages"]] == [2]
        with pytest.raises(NotFound):
            handlers.messages(connection, first, "stranger", 0, 10)


def test_the_room_goes_with_the_contact_and_outlives_it(house: House) -> None:
    id = house.ask()["id"]
    house.assign("otto", house.contact, 2, queue="second")
    assert (house.get(id)["agent"], house.body("room_followed")["queue"]) == ("otto", "second")
    house.hear("contact_completed", house.contact, 3, agent="otto", talk_seconds=60.0)
    assert house.get(id)["contact_ended_at"]
    handlers.claim(house.units, id, "bob")
    house.post(id, "bob", "For later: 3.2.", "answer")
    assert house.get(id)["in_contact"] is False


def test_an_older_assignment_changes_nothing(house: House) -> None:
    house.assign("otto", house.contact, 5)
    house.assign("anna", house.contact, 4)
    with pytest.raises(NotFound):
        house.ask()
    assert house.ask(agent="otto")["agent"] == "otto"


# ---- retention


def test_texts_go_when_their_time_is_up_and_figures_stay(house: House) -> None:
    id = house.ask()["id"]
    house.post(id, "anna", "private")
    handlers.change(house.units, id, lambda one, _ladder, now: one.close("anna", now, "he gave his number"))
    house.at.forward(31 * 86400)
    assert handlers.forget(house.units) == 1
    assert house.rows(store.message) == []
    assert (house.get(id)["question"], house.get(id)["close_reason"], house.get(id)["messages"]) == ("", "", 1)
    assert handlers.forget(house.units) == 0


def test_what_is_written_in_a_room_after_that_goes_too(house: House) -> None:
    id = house.ask()["id"]
    house.forward(40)
    house.at.forward(31 * 86400)
    assert (house.get(id)["state"], handlers.forget(house.units)) == ("unanswered", 1)
    house.post(id, "anna", "private after all")
    assert handlers.forget(house.units) == 0
    house.at.forward(31 * 86400)
    assert handlers.forget(house.units) == 1
    assert house.rows(store.message) == []


def test_what_customers_say_tells_the_effect_of_questions(house: House) -> None:
    for number in range(2 * ENOUGH):
        contact, asks = house.assign(f"a{number}"), number < ENOUGH
        if asks:
            house.ask(contact=contact, agent=f"a{number}")
        house.hear("contact_completed", contact, 2, agent=f"a{number}", talk_seconds=60.0)
        house.hear("contact_wrapped_up", contact, 3, disposition="fault", resolved=False)
        house.hear("gateway.survey_answered.v1", contact, satisfied=5 if asks else 2, resolved=True if asks else None)
    with house.units.database.reading() as connection:
        told = reports.effects(connection, {"from": 0.0, "to": house.at() + 1})
    assert (told["satisfied"]["difference"], told["resolved"]["difference"]) == (1.0, 1.0)


def test_answers_that_come_too_late_are_left_out_in_whatever_order_they_come(house: House) -> None:
    def asked(contact: str) -> None:
        house.hear("qa.survey_asked.v1", contact, 4, answer_until=house.at() + 100)

    def answered(contact: str, after: float, **told: Any) -> None:
        house.hear("gateway.survey_answered.v1", contact, at=house.at() + after, **told)

    first, second, third = contacts = [house.assign(f"a{number}") for number in range(3)]
    for contact in contacts:
        house.hear("contact_wrapped_up", contact, 3, disposition="fault", resolved=True)
    asked(first)  # in time, and then once more, too late
    answered(first, 50, satisfied=5, resolved=True)
    answered(first, 150, satisfied=2, resolved=False)
    answered(second, 90, satisfied=4, resolved=True)  # the earlier one is heard last, and that it was asked after both
    answered(second, 80, satisfied=2, resolved=False)
    asked(second)
    answered(third, 101, satisfied=2, resolved=False)  # too late alone: nobody's word but the agent's
    asked(third)
    cards = {row.contact: row for row in house.rows(store.card)}
    assert [reports.satisfied(cards[contact]) for contact in contacts] == [1.0, 1.0, None]
    assert [reports.resolved(cards[contact]) for contact in contacts] == [1.0, 1.0, 1.0]


def test_what_is_open_is_not_forgotten(house: House) -> None:
    house.ask()
    house.at.forward(31 * 86400)
    assert handlers.forget(house.units) == 0


def test_a_ladder_that_is_wrong_is_not_kept(house: House) -> None:
    with pytest.raises(Invalid):
        handlers.put_ladder(house.units, "router", "steps: 3", "test")
    with house.units.database.reading() as connection:
        assert handlers.get_ladder(connection, "router")["version"] == 1


# ---- the directory of people


def person_changed(house: House, person: str, sequence: int = 1, **told: Any) -> None:
    data = {
        "person": person,
        "name": "Ann Lee",
        "site": "berlin",
        "team": "net",
        "roles": ["expert"],
        "language": "de",
        "active": True,
    } | told
    with house.units() as work:
        handlers.receive(work, [Event("gateway.person_changed.v1", person, data, house.at(), sequence)])


def expert(house: House, id: str) -> dict[str, Any]:
    with house.units.database.reading() as connection:
        return handlers.get_expert(connection, id)


def test_what_the_directory_says_of_an_expert_holds_and_what_they_know_stays(house: House) -> None:
    person_changed(house, "bob", name="Bob Ray", roles=["agent"], active=False)
    assert expert(house, "bob") == {
        "id": "bob", "name": "Bob Ray", "site": "berlin", "team": "net", "active": False, "topics": {"router": 5}, "languages": [],
        "department": "", "ranks": [], "cap": 3, "presence": "available",
    }  # fmt: skip
    assert [asked["expert"] for asked in house.ask()["asked"]] != ["bob"], "who has left is not asked"


def test_with_the_role_somebody_is_a_new_expert_and_without_it_is_none(house: House) -> None:
    person_changed(house, "ann")
    person_changed(house, "tom", roles=["agent"])
    assert (expert(house, "ann")["languages"], expert(house, "ann")["topics"]) == (["de"], {})
    with pytest.raises(NotFound):
        expert(house, "tom")


def test_a_word_that_comes_late_changes_nothing(house: House) -> None:
    person_changed(house, "ann", sequence=3, team="second")
    person_changed(house, "ann", sequence=2, team="first")
    assert expert(house, "ann")["team"] == "second"


# ---- to be measured


def test_rooms_are_counted_by_state_when_scraped_and_not_at_all_without_their_database(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers.claim(house.units, house.ask()["id"], "bob")
    house.ask()
    gauges = RoomMetrics(house.units.database)
    try:
        house.at.forward(30)
        told = {family.name.removeprefix("answerline_im_"): family.samples for family in gauges.collect()}
        assert {sample.labels["state"]: sample.value for sample in told["rooms"]} == {"asking": 1, "claimed": 1}
        assert {sample.labels["state"]: sample.value for sample in told["recent_questions"]} == {"asking": 1, "claimed": 1}
        assert [sample.value for sample in told["oldest_question_seconds"]] == [30.0]
        assert {sample.labels["until"]: sample.value for sample in told["recent_wait_seconds"]} == {"claimed": 0.0}
        assert sum(sample.value for sample in told["experts"]) == 3
        monkeypatch.setattr(house.units.database, "reading", _gone)
        assert list(gauges.collect()) == []
    finally:
        gauges.close()


def _gone() -> None:
    raise OperationalError("select", {}, Exception("gone"), connection_invalidated=True)


# ---- a customer is forgotten


def forget(house: House, customer: str = "k1") -> None:
    house.hear("gateway.customer_erased.v1", "", customer=customer, stand_in="erased-1", contacts=[house.contact])


def test_what_was_said_about_a_customer_goes_and_figures_stay(house: House) -> None:
    one = house.ask()
    handlers.claim(house.units, one["id"], "bob")
    house.post(one["id"], "bob", "From 3.2 on.", "answer")
    handlers.accept(house.units, one["id"], "anna", 9.0, True)
    before = house.look(reports.questions, {"from": 0.0, "to": 2e9})
    forget(house)
    (row,) = house.rows(store.escalation)
    assert (row.question, row.customer, row.state) == ("", "erased-1", "accepted")
    assert house.rows(store.message) == []
    assert [card.customer for card in house.rows(store.card)] == ["erased-1"]
    assert house.look(reports.questions, {"from": 0.0, "to": 2e9}) == before
    forget(house)
    assert house.rows(store.escalation) == [row]


def test_a_question_that_is_open_is_over_and_whoever_was_asked_learns_it(house: House) -> None:
    id = house.ask()["id"]
    forget(house)
    assert (house.get(id)["state"], house.told()[-1]) == ("closed", "escalation_closed")
    assert house.forward(100) == []
    assert house.body("escalation_closed")["customer"] == "erased-1"


def test_questions_about_others_stay(house: House) -> None:
    house.contact, mine = house.assign("anna", customer="k2"), house.contact
    id = house.ask()["id"]
    house.contact = mine
    forget(house)
    assert (house.get(id)["question"], house.get(id)["customer"]) == ("Which firmware has IPv6?", "k2")


# ---- what an attack found


def test_a_code_that_another_question_has_is_not_given_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = iter("AAAAAA" + "AAAAAA" + "BBBBBB")
    monkeypatch.setattr(handlers.secrets, "choice", lambda _alphabet: next(letters))
    assert [house.ask()["code"], house.ask()["code"]] == ["AAAAAA", "BBBBBB"]


def test_asked_again_with_the_same_id_it_is_the_same_question(house: House) -> None:
    asked = {"contact": house.contact, "agent": "anna", "topic": "router", "question": "?", "urgency": "normal", "language": "", "site": ""}
    id = new_id()
    assert [handlers.open_escalation(house.units, asked, id)["id"] for _ in range(2)] == [id, id]
    assert len(house.rows(store.escalation)) == 1


def test_a_word_that_comes_late_does_not_lead_the_room_back(house: House) -> None:
    house.assign("otto", house.contact, sequence=3)
    id = house.ask(agent="otto")["id"]
    house.assign("anna", house.contact, sequence=2)
    assert house.get(id)["agent"] == "otto"


def test_an_answer_to_a_question_asked_after_the_call_did_not_reach_the_customer_in_it(house: House) -> None:
    house.hear("contact_completed", house.contact, 2, agent="anna")
    id = house.ask()["id"]
    handlers.claim(house.units, id, "bob")
    house.post(id, "bob", "3.2", "answer")
    assert house.get(id)["in_contact"] is False


def test_rooms_that_nobody_closes_keep_neither_expert_nor_agent_busy_for_ever(house: House) -> None:
    for _ in range(2):
        house.contact = house.assign("anna")
        id = house.ask()["id"]
        handlers.claim(house.units, id, "bob")
        house.post(id, "bob", "3.2", "answer")
    with pytest.raises(Conflict, match="2 questions open"):
        house.ask()
    for row in house.rows(store.escalation):
        house.hear("contact_completed", row.contact, 2, agent="anna")
    house.contact = house.assign("anna")
    house.at.forward(handlers.LATELY_SECONDS)
    handlers.set_presence(house.units, "bob", "available")
    step = house.get(house.ask()["id"])["steps"][0]["choice"]
    assert [(one["expert"], one["rooms"]) for one in step["chosen"]] == [("bob", 0)]


def test_who_goes_away_while_a_heartbeat_is_written_is_away(house: House) -> None:
    handlers.heartbeat(house.units, ["eve"])
    with house.units.database.reading() as connection:
        since = connection.scalar(select(store.presence.c.since).where(store.presence.c.person == "eve"))
    house.at.forward(10)
    handlers.heartbeat(house.units, ["eve", "eve", "new"])
    assert [(row.person, row.state, row.since) for row in house.rows(store.presence) if row.person in ("eve", "new")] == [
        ("eve", "available", since),
        ("new", "available", house.at()),
    ]


def test_two_who_change_a_ladder_at_once_make_two_versions(house: House) -> None:
    documents = [LADDER.replace("keep_days: 30", f"keep_days: {days}") for days in (31, 32, 33, 34)]
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda document: handlers.put_ladder(house.units, "router", document, "test")["version"], documents))
    assert sorted(made) == [2, 3, 4, 5]


def test_many_steps_at_once_add_to_the_same_records(house: House) -> None:
    for agent in ("anna", "otto", "tom"):
        house.contact = house.assign(agent)
        house.ask(agent=agent)
    house.forward(8)
    house.forward(12)
    found = {row.expert: row.asked for row in house.rows(store.record)}
    assert found == {"bob": 3, "eve": 3}
