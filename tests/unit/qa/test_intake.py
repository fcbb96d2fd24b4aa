"""Contacts and their facts, from events in any order; on both databases."""

from __future__ import annotations

from itertools import islice, pairwise, permutations
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.qa import handlers, intake, reports, store, studies
from shared.bus.envelope import Event
from shared.contracts.gateway import STAND_IN
from shared.ids import new_id
from tests.unit.qa.house import LEAD, House

DAY = 86400.0


def test_a_contact_has_its_facts_from_routing_and_the_gateway(house: House) -> None:
    id = house.call(waited_seconds=7.0, talk_seconds=90.0)
    house.gate("ended", id, thread="m-1", facts={"self_service_failed": True}, leg={"arrived_at": house.at() - 97, "hold_seconds": 12.0})
    house.route(
        "wrapped_up", id, 11, agent="anna", disposition="sold", resolved=True, amount="129.90", currency="EUR", wrap_up_seconds=20.0
    )
    house.hear("im.escalation_opened.v1", new_id(), {"contact": id})
    house.hear("im.question_answered.v1", new_id(), {"contact": id, "hold_seconds": 25.0})
    for sequence in (1, 2):
        house.hear("gateway.recording_available.v1", "recording", {"contact": id}, sequence)
    row = house.contact(id)
    told = {
        name: row[name] for name in ("agent", "outcome", "ended_by", "waited_seconds", "hold_seconds", "thread", "matter", "disposition")
    }
    assert told == {
        "agent": "anna", "outcome": "completed", "ended_by": "customer", "waited_seconds": 7.0, "hold_seconds": 25.0, "thread": "m-1",
        "matter": "m-1", "disposition": "sold",
    }  # fmt: skip
    assert (row["amount"], row["currency"], row["wrap_up_seconds"], row["arrived_at"]) == (129.9, "EUR", 20.0, house.at() - 97)
    assert (row["escalations"], row["answered_inside"], row["recordings"], bool(row["self_service_failed"])) == (1, 1, 1, True)


def test_what_a_pbx_calls_hold_time_is_the_wait(house: House) -> None:
    id = new_id()
    house.gate("ended", id, leg={"hold_seconds": 12.0})
    row = house.contact(id)
    assert (row["waited_seconds"], row["hold_seconds"], row["holds"]) == (12.0, None, None)
    handlers.put_transcript(house.units, id, [{"speaker": "agent", "text": "Hello."}], "en", 3.0, 2, 40.0)
    handlers.put_transcript(house.units, id, [{"speaker": "agent", "text": "Hello!"}], "en", None)
    row = house.contact(id)
    assert (row["silence_seconds"], row["holds"], row["hold_seconds"]) == (3.0, 2, 40.0)


def held(house: House, id: str) -> tuple[int | None, float | None]:
    row = house.contact(id)
    return row["holds"], row["hold_seconds"]


def hold(leg: int = 1, holds: int | None = None, seconds: float | None = None, **more: object) -> dict[str, object]:
    return {"number": leg, "holds": holds, "on_hold_seconds": seconds, **more}


def test_holds_of_all_legs_are_the_contacts_and_the_newest_word_of_a_leg_counts(house: House) -> None:
    id = new_id()
    house.gate("transferred", id, 3, leg=hold(1, 1, 7.5, outcome="transferred"))
    house.gate("ended", id, 6, leg=hold(2, 2, 10.0))
    assert held(house, id) == (3, 17.5)
    house.gate("corrected", id, 7, leg=hold(1, 2, 9.0, outcome="transferred"))
    house.gate("transferred", id, 3, leg=hold(1, 1, 7.5, outcome="transferred"))
    assert held(house, id) == (4, 19.0)
    house.gate("corrected", id, 8, leg=hold(2, outcome="void"))
    assert held(house, id) == (2, 9.0)


def test_a_leg_told_behind_a_newer_one_keeps_its_holds(house: House) -> None:
    id = new_id()
    house.gate("ended", id, 6, leg=hold(2, 0, 0.0))
    assert held(house, id) == (0, 0.0)
    house.gate("transferred", id, 3, leg=hold(1, 1, 7.5, outcome="transferred"))
    assert held(house, id) == (1, 7.5)


def test_a_hold_for_a_question_that_telephony_told_too_is_not_counted_twice(house: House) -> None:
    id = house.call()
    for seconds in (25.0, 9.0):
        house.hear("im.question_answered.v1", new_id(), {"contact": id, "hold_seconds": seconds})
    assert held(house, id) == (2, 34.0), "as far as only the agent says so"
    handlers.put_transcript(house.units, id, [{"speaker": "agent", "text": "Hello."}], "en", None, 1)
    assert held(house, id) == (1, 34.0), "what was heard goes before it"
    house.gate("ended", id, leg=hold(1, 3, 40.0))
    assert held(house, id) == (3, 40.0), "and what was measured before both"
    house.hear("im.question_answered.v1", new_id(), {"contact": id, "hold_seconds": 5.0})
    handlers.put_transcript(house.units, id, [{"speaker": "agent", "text": "Hello."}], "en", None, 2, 20.0)
    assert held(house, id) == (3, 40.0)
    house.gate("corrected", id, 2, leg=hold(1))
    assert held(house, id) == (2, 20.0), "telephony does not know after all"


def test_what_was_said_before_it_was_kept_apart_still_counts(house: House) -> None:
    id = house.call()
    with house.units() as work:
        work.connection.execute(store.contact.update().values(holds=2, hold_seconds=30.0))
    house.hear("im.question_answered.v1", new_id(), {"contact": id, "hold_seconds": 5.0})
    assert held(house, id) == (3, 35.0)
    house.gate("ended", id, leg=hold(1, 1, 31.0))
    assert held(house, id) == (1, 31.0)


def test_holds_told_after_the_check_have_the_contact_checked_anew(house: House) -> None:
    rules = "rules:\n  - {name: few, title: {en: Few, zh: 少}, check: {fact: {fact: holds, at_most: 1}}}\n"
    studies.put_rules(house.units, "holds", rules, "lea")
    checker = studies.Checker()

    def check() -> None:
        studies.check_due(house.units, checker, lambda work, *told: work(*told))

    id = house.call()
    house.gate("ended", id, leg=hold(1, 1, 4.0))
    house.at.forward(3600)
    check()
    assert house.contact(id)["check_at"] is None
    house.gate("corrected", id, 2, leg=hold(1, 1, 4.0))
    assert house.contact(id)["check_at"] is None
    house.gate("corrected", id, 3, leg=hold(1, 2, 8.0))
    assert house.contact(id)["check_at"] is not None
    check()
    assert [row.reasons for row in house.rows(store.automatic)] == [["few"]]


def test_a_corrected_wait_holds(house: House) -> None:
    id = house.call(waited_seconds=12.0, leg=2)
    house.gate("ended", id, 3, leg={"hold_seconds": 12.0, "number": 2})
    with house.units() as work:
        store.change(work.connection, store.contact, id, check_at=None)  # it has been checked
    house.gate("corrected", id, 4, leg={"hold_seconds": 21.0, "number": 2})
    assert (house.contact(id)["waited_seconds"], house.contact(id)["check_at"]) == (21.0, house.at()), "and is checked anew by that"
    house.route("transferred", id, 5, agent="bert", target="billing")
    house.gate("corrected", id, 6, leg={"hold_seconds": 3.0, "talk_seconds": 8.0, "outcome": "transferred"})
    assert house.contact(id)["waited_seconds"] == 21.0, "the wait is that of the last leg"
    (passed_on,) = handlers.get_contact(house.units, id, LEAD)["handovers"]
    assert (passed_on["agent"], passed_on["talk_seconds"]) == ("bert", 8.0), "the correction of an earlier leg holds there"
    house.gate("corrected", id, 7, leg={"outcome": "completed"})
    assert (handlers.get_contact(house.units, id, LEAD)["handovers"], house.contact(id)["transfers"]) == ([], 0)


STORY: list[tuple[str, int, dict[str, Any]]] = [
    ("gateway.contact_transferred.v1", 3, {"number": 1, "outcome": "transferred", "agent": "bert", "arrived_at": 1000.0, "hold_seconds": 5.0, "talk_seconds": 30.0}),
    ("routing.contact_transferred.v1", 11, {"leg": 1, "agent": "bert", "talk_seconds": 30.0, "target": "billing", "at": 1035.0}),
    ("gateway.contact_ended.v1", 5, {"number": 2, "outcome": "completed", "agent": "anna", "hold_seconds": 12.0, "talk_seconds": 60.0, "ended_by": "agent"}),
    ("routing.contact_completed.v1", 12, {"leg": 2, "agent": "anna", "waited_seconds": 12.0, "talk_seconds": 60.0, "ended_by": "agent", "at": 1110.0}),
    ("gateway.contact_corrected.v1", 6, {"number": 2, "outcome": "completed", "agent": "anna", "hold_seconds": 20.0, "talk_seconds": 52.0, "ended_by": "caller"}),
    ("gateway.contact_corrected.v1", 7, {"number": 2, "outcome": "completed", "agent": "anna", "hold_seconds": 21.0, "talk_seconds": 51.0, "ended_by": "caller"}),
    ("gateway.contact_corrected.v1", 8, {"number": 1, "outcome": "transferred", "agent": "bert", "arrived_at": 999.0, "hold_seconds": 3.0, "talk_seconds": 32.0, "target": "sales"}),
]  # fmt: skip
"""A contact as the telephony system and routing tell of it: type, sequence, and the leg."""


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(STORY))), cuts=st.sets(st.integers(1, len(STORY) - 1)), again=st.integers(0, len(STORY) - 1))
def test_the_newest_right_word_holds_in_whatever_order_and_batches_it_comes(
    house: House, order: list[int], cuts: set[int], again: int
) -> None:
    id, place = new_id(), {"queue": "support", "channel": "voice", "customer": "k5", "direction": "inbound"}
    events = []
    for number in [*order, again]:
        type, sequence, leg = STORY[number]
        data = (
            place | leg
            if type.startswith("routing.")
            else {"channel": "voice", "customer": "k5", "facts": {}, "leg": {"queue": "support"} | leg}
        )
        events.append(Event(type, id, data | {"contact": id}, 1200.0, sequence))
    for start, end in pairwise([0, *sorted(cuts), len(events)]):
        with house.units() as work:
            intake.receive(work, events[start:end])
    row = house.contact(id)
    told = (
        "agent",
        "outcome",
        "waited_seconds",
        "talk_seconds",
        "ended_by",
        "arrived_at",
        "transfers",
        "queue",
        "customer",
        "gateway_sequence",
    )
    assert [row[name] for name in told] == ["anna", "completed", 21.0, 51.0, "customer", 999.0, 1, "support", "k5", 8]
    (passed_on,) = handlers.get_contact(house.units, id, LEAD)["handovers"]
    assert [passed_on[name] for name in ("leg", "agent", "target", "talk_seconds")] == [1, "bert", "sales", 32.0]


def test_a_last_leg_that_never_was_takes_its_figures_back_in_whatever_order(house: House) -> None:
    void: list[tuple[str, int, dict[str, Any]]] = [
        ("gateway.contact_corrected.v1", 7, {"number": 2, "outcome": "void", "holds": 2, "hold_seconds": 12.0, "talk_seconds": 60.0}),
        ("gateway.contact_corrected.v1", 8, STORY[6][2]),
    ]
    early: list[tuple[str, int, dict[str, Any]]] = [
        (type, sequence, leg | {"holds": 1, "on_hold_seconds": 9.0}) for type, sequence, leg in (STORY[0], STORY[2])
    ]
    for order in islice(permutations([*early, STORY[3], *void]), 0, None, 7):
        id = new_id()
        for type, sequence, leg in order:
            if type.startswith("routing."):
                house.route(type.split(".")[1].removeprefix("contact_"), id, sequence, **leg)
            else:
                house.gate(type.split(".")[1].removeprefix("contact_"), id, sequence, leg=leg)
        row = house.contact(id)
        assert [row[name] for name in ("waited_seconds", "talk_seconds", "ended_by", "arrived_at")] == [3.0, 32.0, None, 999.0]
        assert held(house, id) == (None, None), "the correction of the first leg knows of no holds after all"


def test_a_contact_stored_before_words_were_kept_has_its_last_legs_figures_by_routing(house: House) -> None:
    id = new_id()
    house.route("transferred", id, 3, agent="bert", talk_seconds=30.0, waited_seconds=4.0)
    house.route("completed", id, 4, leg=2, agent="anna", talk_seconds=60.0, waited_seconds=12.0, ended_by="agent")
    with house.units() as work:
        store.change(work.connection, store.contact, id, told_by=None)
    house.gate("transferred", id, 5, leg={"outcome": "transferred", "hold_seconds": 5.0, "talk_seconds": 31.0})
    house.gate("ended", id, 6, leg={"number": 2, "hold_seconds": 13.0, "talk_seconds": None})
    house.gate("corrected", id, 7, leg={"outcome": "transferred", "hold_seconds": 6.0, "talk_seconds": 33.0})
    row = house.contact(id)
    assert [row[name] for name in ("waited_seconds", "talk_seconds", "ended_by")] == [12.0, 60.0, "agent"]
    house.gate("corrected", id, 8, leg={"number": 2, "hold_seconds": 14.0, "talk_seconds": 58.0})
    assert (house.contact(id)["waited_seconds"], house.contact(id)["talk_seconds"]) == (14.0, 58.0)


def test_what_comes_late_or_again_changes_nothing(house: House) -> None:
    id = house.call(agent="bert", talk_seconds=90.0)
    house.route("transferred", id, 5, agent="anna", talk_seconds=30.0, target="billing")
    house.route("completed", id, 4, agent="anna")
    row = house.contact(id)
    assert (row["agent"], row["outcome"], row["transfers"], bool(row["transferred"])) == ("bert", "completed", 1, False)
    house.route("transferred", id, 5, agent="anna", talk_seconds=30.0, target="billing")
    assert house.contact(id)["transfers"] == 1
    house.gate("ended", id, 8, thread="new")
    house.gate("ended", id, 7, thread="old")
    assert house.contact(id)["thread"] == "new"


def test_routings_sequences_are_large(house: House) -> None:
    id = house.call()
    house.route("completed", id, 1_795_341_834_210_208, agent="bert")
    house.hear(
        "training.practice_permitted.v1", "p", {"person": "p", "channel": "voice", "supervisor": "l", "until": 1.0}, 1_795_341_834_210_208
    )
    assert house.contact(id)["agent"] == "bert"


def test_a_batch_counts_as_its_events_one_by_one(house: House) -> None:
    from services.qa import intake

    ids = [new_id() for _ in range(3)]
    base = {"leg": 1, "queue": "support", "channel": "voice", "customer": None, "direction": "inbound", "at": house.at(), "agent": "anna"}
    events = [Event("routing.contact_completed.v1", id, {"contact": id, **base}, house.at(), 3) for id in reversed(ids)]
    events += [Event("im.escalation_opened.v1", new_id(), {"contact": ids[1]}, house.at(), 1)]
    with house.units() as work:
        intake.receive(work, events)
    assert {row.id: row.escalations for row in house.rows(store.contact)} == {ids[0]: 0, ids[1]: 1, ids[2]: 0}


def test_a_contact_that_was_another_is_none(house: House) -> None:
    id = house.call()
    house.gate("corrected", id, 3, merged_into=new_id())
    house.route("completed", id, 12, agent="anna")
    assert (house.contact(id)["outcome"], house.contact(id)["agent"]) == ("void", None)


def test_a_repeat_undoes_the_contact_before_in_whatever_order_they_are_told(house: House) -> None:
    first, second, third = new_id(), new_id(), new_id()
    start = house.at()
    for id, after in ((third, 5 * DAY), (first, 0.0), (second, 2 * DAY)):
        house.call(contact=id, at=start + after + 65)
    told = {id: (house.contact(id)["next_at"], bool(house.contact(id)["is_repeat"])) for id in (first, second, third)}
    assert told == {first: (start + 2 * DAY, False), second: (start + 5 * DAY, True), third: (None, True)}


def test_a_repeat_is_known_though_the_telephony_system_told_of_both_before_routing(house: House) -> None:
    first, second = new_id(), new_id()
    for number, id in enumerate((first, second)):
        house.gate("ended", id, leg={"arrived_at": house.at() + number * 3600.0}, customer="k1")
    for id in (first, second):
        house.call(contact=id)
    assert (house.contact(first)["next_at"], bool(house.contact(second)["is_repeat"])) == (house.at() + 3600.0, True)


def test_another_matter_or_customer_is_no_repeat(house: House) -> None:
    first = house.call()
    house.at.forward(100)
    house.call(customer="k2")
    house.call(customer=None)
    other = new_id()
    house.gate("ended", other, thread="another matter", customer="k1")
    house.call(contact=other)
    assert house.contact(first)["next_at"] is None


def test_new_staff_and_learners_under_a_permit_are_known(house: House) -> None:
    person = {"person": "anna", "team": "t", "site": "s", "roles": ["agent"], "active": True, "name": "Anna", "language": ""}
    house.hear("gateway.person_changed.v1", "anna", person)
    house.hear(
        "training.practice_permitted.v1", "anna", {"person": "anna", "channel": "voice", "supervisor": "lea", "until": house.at() + DAY}
    )
    learning = house.contact(house.call())
    assert (bool(learning["new_staff"]), bool(learning["practice"]), learning["supervisor"]) == (True, True, "lea")
    assert not house.contact(house.call(channel="chat"))["practice"]
    house.hear("training.certified.v1", "anna", {"person": "anna", "channel": "voice", "certified_at": house.at()}, 2)
    house.at.forward(100 * DAY)
    certified = house.contact(house.call())
    assert (bool(certified["new_staff"]), bool(certified["practice"]), certified["supervisor"]) == (False, False, None)


# ---- surveys


def rule(house: House, **told: object) -> None:
    handlers.put_survey_rule(house.units, "default", {"enabled": True, "share": 1.0, "fatigue_days": 30.0, "delay_seconds": 300.0} | told)


def asked(house: House) -> list[str]:
    while handlers.send_due(house.units):
        pass
    return [one["contact"] for one in house.told("survey_asked")]


def test_a_customer_is_asked_after_a_while(house: House) -> None:
    rule(house)
    id = house.call()
    assert asked(house) == []
    house.at.forward(301)
    assert asked(house) == [id] == asked(house)
    assert house.told("survey_asked")[0]["customer"] == "k1"


def test_nobody_is_asked_too_often(house: House) -> None:
    rule(house)
    first = house.call()
    house.at.forward(DAY)
    house.call()
    house.at.forward(30 * DAY)
    later = house.call()
    house.at.forward(301)
    assert asked(house) == [later], "the first is asked no more a month late"
    assert {row.contact for row in house.rows(store.survey)} == {first, later}


def test_nobody_is_asked_without_a_rule_about_an_unknown_customer_or_late(house: House) -> None:
    house.call()
    rule(house, channels=["chat"])
    house.call(customer="k2")
    rule(house, channels=[])
    house.call(customer=None)
    house.call(customer="k3", at=house.at() - DAY)
    rule(house, share=0.0)
    house.call(customer="k4")
    house.at.forward(301)
    assert asked(house) == []


def test_an_answer_is_kept_and_counts_as_one_of_those_who_were_asked(house: House) -> None:
    rule(house)
    asked_of, unasked = house.call(), house.call(queue="sales", customer=None)
    house.call(customer="k9")
    house.at.forward(301)
    asked(house)
    house.answer(asked_of, satisfied=2, resolved=False, text="No help.")
    house.answer(asked_of, satisfied=4, resolved=True, text="Called again: solved.")
    house.answer(unasked, satisfied=5)
    from services.qa import reports

    told = house.look(reports.surveys, {"by": "queue", "from": 0.0, "to": 9e9})["groups"]
    (sales, support) = told
    assert (support["asked"], support["answered"], support["satisfaction"]["value"], support["resolved"]["value"]) == (2, 1, 4.0, 1.0)
    assert support["response_rate"]["value"] == 0.5
    assert (sales["asked"], sales["unasked"]) == (0, {"answers": 1, "satisfaction": 5.0})


def test_an_answer_that_comes_before_its_contact_ends_is_its_agents(house: House) -> None:
    contact = new_id()
    house.answer(contact, satisfied=5)
    house.call(contact=contact)
    (one,) = house.rows(store.survey)
    assert (one.agent, one.queue, one.channel, one.customer, one.csat) == ("anna", "support", "voice", "k1", 5)


def test_a_contact_that_was_none_undoes_nothing(house: House) -> None:
    first = house.call()
    house.at.forward(3600)
    second = house.call()
    house.at.forward(3600)
    third = house.call()
    house.gate("corrected", second, 2, {"outcome": "void"})
    assert house.contact(first)["next_at"] == house.contact(third)["arrived_at"]
    house.gate("corrected", third, 2, {"outcome": "void"})
    assert house.contact(first)["next_at"] is None


def test_two_surveys_planned_at_once_are_not_both_sent(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "fatigue_days": 30.0})
    one = house.call()
    other = house.call(customer="k2")
    with house.units() as work:  # as if another process had not seen the first one
        work.connection.execute(store.survey.update().values(customer="k1"))
    house.at.forward(400)
    handlers.send_due(house.units)
    assert [told["contact"] in (one, other) for told in house.told("survey_asked")] == [True]
    assert sum(row.sent_at is not None for row in house.rows(store.survey)) == 1


# ---- a customer is forgotten


def forget(house: House, *contacts: str) -> None:
    data = {"customer": "k1", "stand_in": "erased-1", "contacts": list(contacts), "at": house.at()}
    house.hear("gateway.customer_erased.v1", "erased-1", data)


def test_what_a_customer_said_goes_and_the_figures_stay(house: House) -> None:
    first = house.call()
    house.at.forward(60)
    second = house.call()
    house.answer(first, satisfied=2, resolved=False, text="It is me, Li Chan.")
    handlers.put_transcript(house.units, second, [{"speaker": "customer", "text": "hello", "second": 0.0, "action": None}], "en", None)
    before = [house.contact(id) for id in (first, second)]
    forget(house, first)
    after = [house.contact(id) for id in (first, second)]
    assert [row["customer"] for row in after] == ["erased-1", "erased-1"]
    assert [{**row, "customer": "k1"} for row in after] == before
    (survey,) = [row for row in house.rows(store.survey) if row.answered_at]
    assert (survey.csat, survey.text, survey.customer) == (2, None, "erased-1")
    assert house.rows(store.transcript) == []
    third = house.call(customer="erased-1")
    assert house.contact(third)["is_repeat"], "calls of one person stay calls of one person"


def test_whoever_is_forgotten_is_not_asked_how_it_was(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "share": 1.0})
    contact = house.call()
    assert [row.ask_at is None for row in house.rows(store.survey)] == [False]
    forget(house, contact)
    assert house.rows(store.survey) == []


def test_an_answer_that_comes_too_late_is_kept_marked_and_in_no_figure(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "answer_days": 1.0, "fatigue_days": 0.0})
    slow, quick = house.call(customer="slow"), house.call(customer="quick")
    house.at.forward(600)
    handlers.send_due(house.units)
    house.answer(quick, satisfied=5)
    house.at.forward(2 * DAY)
    for contact in (slow, quick):
        house.answer(contact, satisfied=1, resolved=False, text="At last.")
    told = {one.contact: one for one in house.rows(store.survey)}
    assert (told[slow].late, told[slow].csat, told[slow].text) == (True, 1, "At last.")
    assert (told[quick].late, told[quick].csat) == (False, 5), "what was said in time stands"
    (group,) = house.look(reports.surveys, {"from": 0.0, "to": 9e9, "by": "queue"})["groups"]
    assert (group["asked"], group["answered"], group["late"], group["satisfaction"]["value"]) == (2, 1, 1, 5.0)


def test_an_answer_in_time_stands_even_where_a_late_one_was_told_first(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "answer_days": 1.0})
    contact = house.call()
    house.at.forward(600)
    handlers.send_due(house.units)
    in_time = house.at() + 60
    house.at.forward(2 * DAY)
    house.answer(contact, satisfied=1)
    house.answer(contact, satisfied=5, at=in_time)
    (one,) = house.rows(store.survey)
    assert (one.csat, one.late) == (5, False)


def test_nobody_is_asked_by_the_stand_in_of_who_was_forgotten_while_in_contact(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "share": 1.0})
    house.call(customer=STAND_IN + new_id())
    assert house.rows(store.survey) == []
