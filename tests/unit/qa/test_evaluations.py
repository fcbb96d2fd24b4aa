"""Evaluations from their draft to their end, and who sees what of them; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from services.qa import handlers, reports, store, studies
from services.qa.handlers import Viewer
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from tests.system import eventually
from tests.unit.qa.house import ANNA, BAD, CARD, EVE, GOOD, LEAD, OTTO, House, marks

DAY = 86400.0
TURNS = [{"speaker": "agent", "text": "Hello.", "start": 0.0, "end": 1.0}]


def test_an_evaluation_is_submitted_seen_by_its_agent_and_final(house: House) -> None:
    contact = house.call()
    one = house.evaluate(contact)
    assert (one["state"], one["asked"], one["score"]) == ("draft", ["solved", "clear"], None)
    done = house.submit(one["id"], answers={"solved": "yes", "clear": 4})
    assert (done["state"], done["score"], done["failed"], done["counts"]) == ("submitted", 0.875, [], True)
    assert handlers.acknowledge_evaluation(house.units, one["id"], "anna", ANNA)["state"] == "acknowledged"
    assert handlers.close_evaluation(house.units, one["id"], "first", "", "lea", LEAD)["state"] == "final"
    stages = [(told["stage"], told["counts"], told["score"]) for told in house.told("evaluation_submitted")]
    assert stages == [("submitted", True, 0.875), ("final", True, 0.875)]
    (solved, _) = house.told("evaluation_submitted")[0]["marks"]
    assert solved == {"criterion": "solved", "section": "all", "answer": "yes", "value": 1.0, "weight": 1.0, "critical": "customer", "second": 12.5, "message": None}  # fmt: skip


def test_a_failed_class_is_told(house: House) -> None:
    assert house.done(solved="no")["failed"] == ["customer"]
    assert house.told("evaluation_submitted")[0]["failed_classes"] == ["customer"]


@pytest.mark.parametrize(
    ("recordings", "thread", "says"),
    [(1, False, "you have not played it"), (0, True, "you have not opened it"), (0, False, "neither a recording nor a thread")],
)
def test_nobody_evaluates_what_they_have_not_seen(house: House, recordings: int, thread: bool, says: str) -> None:
    contact = house.call()
    if thread:
        handlers.put_transcript(house.units, contact, TURNS, "en", None)
    id = house.evaluate(contact)["id"]
    handlers.write_evaluation(house.units, id, {"marks": marks(solved="yes", clear=5)}, "eve", EVE)
    with pytest.raises(Conflict, match=says):
        handlers.submit_evaluation(house.units, id, "eve", recordings, False, EVE)
    if thread:
        assert handlers.get_transcript(house.units, contact, OTTO)["turns"][0]["number"] == 1
        with pytest.raises(Conflict, match=says):
            handlers.submit_evaluation(house.units, id, "eve", recordings, False, EVE)
        handlers.get_transcript(house.units, contact, EVE)
    elif not recordings:
        handlers.write_evaluation(house.units, id, {"live": True}, "eve", EVE)
    assert handlers.submit_evaluation(house.units, id, "eve", recordings, bool(recordings), EVE)["state"] == "submitted"


def test_what_was_missed_says_where(house: House) -> None:
    id = house.evaluate(house.call())["id"]
    told = [{"criterion": "solved", "answer": "no"}, {"criterion": "clear", "answer": 5}]
    handlers.write_evaluation(house.units, id, {"marks": told}, "eve", EVE)
    with pytest.raises(Invalid, match=r"say where it shows.*solved"):
        handlers.submit_evaluation(house.units, id, "eve", 1, True, EVE)
    handlers.write_evaluation(house.units, id, {"marks": [{**told[0], "message": 3}, told[1]]}, "eve", EVE)
    assert handlers.submit_evaluation(house.units, id, "eve", 1, True, EVE)["marks"][0]["message"] == 3


def test_the_customers_word_stays_hidden_until_the_evaluator_has_submitted(house: House) -> None:
    contact = house.call()
    house.answer(contact, satisfied=1, resolved=False)
    id = house.evaluate(contact)["id"]

    def seen(viewer: Viewer) -> tuple[Any, Any, int]:
        listed = handlers.list_surveys(house.units, {"after": "", "limit": 9}, viewer)["items"]
        return house.see(id, viewer)["customer_said"], handlers.get_contact(house.units, contact, viewer)["customer_said"], len(listed)

    assert seen(EVE) == (None, None, 0)
    assert handlers.get_contact(house.units, contact, OTTO)["customer_said"] is None, "who might still evaluate it does not know either"
    assert handlers.get_contact(house.units, contact, LEAD)["customer_said"]["satisfied"] == 1
    house.submit(id)
    assert seen(EVE) == ({"satisfied": 1, "resolved": False, "text": None}, {"satisfied": 1, "resolved": False, "text": None}, 1)


def test_a_lead_who_evaluates_is_kept_from_it_too(house: House) -> None:
    contact = house.call()
    house.answer(contact, satisfied=1)
    house.evaluate(contact, LEAD)
    assert handlers.get_contact(house.units, contact, LEAD)["customer_said"] is None


def test_two_score_the_same_blindly(house: House) -> None:
    first = house.evaluate(house.call(), blind="otto")
    (second,) = [row for row in house.rows(store.evaluation) if row.purpose == "double"]
    assert (first["blind"], second.evaluator, second.other) == (True, "otto", first["id"])
    house.submit(first["id"])
    with pytest.raises(NotFound):
        house.see(first["id"], OTTO)
    done = house.submit(second.id, OTTO, BAD)
    assert not done["counts"], "the second counts for nobody: it shows how far two agree"
    assert house.see(first["id"], OTTO)["score"] == 1.0
    with pytest.raises(NotFound):
        house.see(second.id, ANNA)


def test_an_agent_sees_their_own_once_it_is_submitted(house: House) -> None:
    id = house.evaluate(house.call())["id"]
    with pytest.raises(NotFound):
        house.see(id, ANNA)
    house.submit(id)
    assert house.see(id, ANNA)["score"] == 1.0
    with pytest.raises(NotFound):
        house.see(id, Viewer("bert", "bert", "agent", leads=False, agent=True))
    assert handlers.list_evaluations(house.units, {"after": "", "limit": 9}, ANNA)["items"][0]["id"] == id


def test_a_scope_leaves_other_queues_out(house: House) -> None:
    id = house.done()["id"]
    elsewhere = Viewer("max", "max", "supervisor", queues=["sales"])
    with pytest.raises(NotFound):
        house.see(id, elsewhere)
    with pytest.raises(NotFound):
        house.evaluate(house.call(), elsewhere)
    assert handlers.list_evaluations(house.units, {"after": "", "limit": 9}, elsewhere)["items"] == []


@pytest.mark.parametrize(
    ("more", "refusal", "says"),
    [
        ({"evaluator": "anna"}, Invalid, "nobody evaluates their own contact"),
        ({"evaluator": ""}, Invalid, "say who evaluates"),
        ({"agent": "bert"}, Invalid, "bert had no part"),
        ({"blind": "eve"}, Invalid, "are two"),
        ({"scorecard": "none"}, NotFound, "no scorecard none"),
    ],
)
def test_what_cannot_be_evaluated(house: House, more: dict[str, Any], refusal: type[Exception], says: str) -> None:
    contact = house.call()
    with pytest.raises(refusal, match=says):
        house.evaluate(contact, **more)


def test_a_contact_is_evaluated_once_by_a_scorecard(house: House) -> None:
    contact = house.call()
    known = house.evaluate(contact)["id"]
    with pytest.raises(Conflict, match="eve has evaluated") as refused:
        house.evaluate(contact)
    assert refused.value.more == {"evaluation": known}
    with pytest.raises(Conflict, match="somebody else evaluates"):
        house.evaluate(contact, OTTO)
    handlers.drop_evaluation(house.units, known, "eve", EVE)
    house.done(contact, OTTO)


def test_the_agent_who_passed_a_contact_on_can_be_evaluated_too(house: House) -> None:
    contact = house.call(agent="bert")
    house.route("transferred", contact, 5, agent="anna", target="billing")
    house.evaluate(contact)
    assert house.evaluate(contact, OTTO, agent="anna")["agent"] == "anna"


def test_only_its_evaluator_writes_it(house: House) -> None:
    id = house.evaluate(house.call())["id"]
    with pytest.raises(Forbidden, match="eve's to write"):
        handlers.write_evaluation(house.units, id, {"note": "x"}, "lea", LEAD)


# ---- disputes


def disputed(house: House) -> dict[str, Any]:
    one = house.done(solved="no")
    return handlers.dispute_evaluation(house.units, one["id"], "anna", "The customer said that it worked.", ANNA)


@pytest.mark.parametrize(("holds", "counting"), [("first", "eve"), ("second", "otto")])
def test_a_dispute_ends_with_a_second_opinion_that_has_not_seen_the_first(house: House, holds: str, counting: str) -> None:
    one = disputed(house)
    with pytest.raises(Conflict, match="ask for a second opinion first"):
        handlers.close_evaluation(house.units, one["id"], "first", "I think so still.", "lea", LEAD)
    handlers.ask_second_opinion(house.units, one["id"], "otto", LEAD)
    (second,) = [row for row in house.rows(store.evaluation) if row.purpose == "second_opinion"]
    with pytest.raises(Conflict, match="not there yet"):
        handlers.close_evaluation(house.units, one["id"], holds, "The recording shows it.", "lea", LEAD)
    with pytest.raises(NotFound):
        house.see(one["id"], OTTO)
    house.submit(second.id, OTTO)
    with pytest.raises(Invalid, match="say why"):
        handlers.close_evaluation(house.units, one["id"], holds, "", "lea", LEAD)
    handlers.close_evaluation(house.units, one["id"], holds, "The recording shows it.", "lea", LEAD)
    rows = house.rows(store.evaluation)
    assert {row.state for row in rows} == {"final"}
    assert [row.evaluator for row in rows if row.counts] == [counting]
    newest = {told["evaluation"]: told for told in house.told("evaluation_submitted")}
    assert [told["evaluator"] for told in newest.values() if told["counts"]] == [counting]


def test_a_second_opinion_is_somebody_elses(house: House) -> None:
    one = disputed(house)
    for who in ("eve", "anna"):
        with pytest.raises(Invalid):
            handlers.ask_second_opinion(house.units, one["id"], who, LEAD)


def test_a_dispute_needs_a_reason_and_comes_in_time(house: House) -> None:
    one = house.done()
    with pytest.raises(Invalid, match="say what is wrong"):
        handlers.dispute_evaluation(house.units, one["id"], "anna", "No.", ANNA)
    with pytest.raises(Forbidden, match="anna who acknowledges or disputes"):
        handlers.dispute_evaluation(house.units, one["id"], "lea", "She was right to do so.", LEAD)
    house.at.forward(15 * DAY)
    with pytest.raises(Conflict, match="within 14 days"):
        handlers.dispute_evaluation(house.units, one["id"], "anna", "The customer said that it worked.", ANNA)


def test_what_nobody_disputes_is_final_by_itself(house: House) -> None:
    one, other = house.done(), disputed(house)
    assert handlers.finish_due(house.units) == 0
    house.at.forward(15 * DAY)
    assert handlers.finish_due(house.units) == 1
    assert (house.see(one["id"])["state"], house.see(other["id"])["state"]) == ("final", "disputed")


# ---- scores


def test_an_agents_score_is_of_contacts_that_chance_chose(house: House) -> None:
    house.done(solved="no")
    assert house.told("agent_scored") == []
    contacts = [house.call() for _ in range(4)]
    told = {"scorecard": "small", "from": 0.0, "to": 9e9, "size": 4, "risk_size": 0, "seed": 7, "evaluators": ["eve"], "due_days": 7.0}
    sample = studies.draw_sample(house.units, told, "lea", LEAD, lambda work, *arguments: work(*arguments))
    drawn = [one["contact"] for one in sample["contacts"]]
    assert len(drawn) == 4
    fresh = [id for id in drawn if id in contacts]
    for id in fresh:
        house.done(id, clear=3)
    (newest, *_) = reversed(house.told("agent_scored"))
    assert (newest["agent"], newest["scorecard_kind"], newest["kind"], newest["score"]) == ("anna", "internal", "human", 0.75)
    assert newest["low"] <= 0.75 <= newest["high"]
    assert newest["evaluations"] == len(fresh)


@pytest.mark.parametrize(("recordings", "thread"), [(1, False), (0, True)])
def test_having_listened_live_is_no_excuse_where_it_can_be_heard_or_read(house: House, recordings: int, thread: bool) -> None:
    contact = house.call()
    if thread:
        handlers.put_transcript(house.units, contact, TURNS, "en", None)
    id = house.evaluate(contact)["id"]
    handlers.write_evaluation(house.units, id, {"marks": marks(**BAD), "live": True}, "eve", EVE)
    with pytest.raises(Conflict, match="you have not"):
        handlers.submit_evaluation(house.units, id, "eve", recordings, False, EVE)


def test_a_mark_is_about_a_message_that_is_there(house: House) -> None:
    contact = house.call()
    handlers.put_transcript(house.units, contact, TURNS, "en", None)
    id = house.evaluate(contact)["id"]
    handlers.get_transcript(house.units, contact, EVE)
    told = [{"criterion": name, "answer": answer, "message": 2} for name, answer in BAD.items()]
    handlers.write_evaluation(house.units, id, {"marks": told}, "eve", EVE)
    with pytest.raises(Invalid, match="the thread has 1 messages"):
        handlers.submit_evaluation(house.units, id, "eve", 0, False, EVE)


def test_dropping_a_blind_draft_does_not_show_the_others_marks(house: House) -> None:
    contact = house.call()
    first = house.evaluate(contact, blind="otto")["id"]
    (second,) = (row.id for row in house.rows(store.evaluation) if row.evaluator == "otto")
    house.submit(second, OTTO)
    with pytest.raises(Forbidden, match="ask a lead"):
        handlers.drop_evaluation(house.units, first, "eve", EVE)
    with pytest.raises(NotFound):
        house.see(second, EVE)
    handlers.drop_evaluation(house.units, first, "lea", LEAD)


# ---- what would sway


@pytest.mark.parametrize("look", ["contact", "survey", "evaluation"])
def test_who_has_looked_at_the_customers_word_evaluates_that_contact_no_more(house: House, look: str) -> None:
    handlers.put_scorecard(house.units, "other", CARD, "test")
    contact, other = house.call(), house.call()
    house.answer(contact, satisfied=1)
    match look:
        case "contact":
            assert handlers.get_contact(house.units, contact, LEAD)["customer_said"]["satisfied"] == 1
        case "survey":
            (seen,) = handlers.list_surveys(house.units, {"after": "", "limit": 9, "contact": contact}, LEAD)["items"]
            assert seen["satisfied"] == 1
        case _:
            one = house.done(contact)
            assert one["customer_said"] is None, "what a command answers is no look"
            assert house.see(one["id"])["customer_said"]["satisfied"] == 1
    with pytest.raises(Conflict, match="lea has looked at what the customer said"):
        house.evaluate(contact, LEAD, scorecard="other")
    house.evaluate(other, LEAD)


def test_who_looks_while_their_evaluation_is_begun_for_them_does_not_submit_it(house: House) -> None:
    contact = house.call()
    id = house.evaluate(contact, LEAD)["id"]
    handlers._note_looks(house.units, LEAD, answer=[contact])
    with pytest.raises(Conflict, match="would sway them"):
        house.submit(id, LEAD)


@pytest.mark.parametrize("report", [reports.quality, reports.surveys])
def test_a_report_shows_no_customers_word_to_who_has_yet_to_evaluate_and_binds_who_reads_the_only_one(house: House, report: Any) -> None:
    handlers.put_scorecard(house.units, "other", CARD, "test")
    contact, alone = house.call(), house.call("bert")
    for one in (contact, house.call(), alone):
        house.answer(one, satisfied=1)
    asked = {"by": "agent", "from": 0.0, "to": 9e9, "within": 0.05, "person": "lea"}

    def answers() -> dict[str, int]:
        groups = handlers.report_answers(house.units, report, asked)["groups"]
        return {one["agent"]: (one.get("customers_said") or one)["unasked"]["answers"] for one in groups}

    id = house.evaluate(contact, LEAD)["id"]
    assert answers()["anna"] == 1, "the one that lea has yet to submit an evaluation of is left out"
    house.submit(id, LEAD)
    assert answers() == {"anna": 2, "bert": 1}
    with pytest.raises(Conflict, match="lea has looked at what the customer said"):
        house.evaluate(alone, LEAD)
    house.evaluate(contact, LEAD, scorecard="other")
    if report is reports.surveys:
        third = house.call("cleo", queue="sales")
        house.gate("ended", third, facts={"self_service_failed": True})
        house.answer(third, satisfied=1)
        handlers.report_answers(house.units, report, asked | {"by": "self_service_failed"})
        with pytest.raises(Conflict, match="lea has looked at what the customer said"):
            house.evaluate(third, LEAD)
    assert handlers.report_answers(house.units, report, asked | {"person": ""})["groups"]


def test_what_was_drawn_for_one_scorecard_is_done_by_that_one_and_in_all_samples_at_once(house: House) -> None:
    handlers.put_scorecard(house.units, "other", CARD, "test")
    contact = house.call()
    told = {
        "scorecard": "small",
        "from": 0.0,
        "to": 9e9,
        "size": 1,
        "risk_size": 0,
        "seed": 7,
        "queues": [],
        "channels": [],
        "evaluators": ["eve"],
        "due_days": 7.0,
    }
    for _ in range(2):
        studies.draw_sample(house.units, told, "lea", LEAD, lambda do, *arguments: do(*arguments))
    assert [(one["contact"], one["scorecard"]) for one in house.look(studies.to_do, "eve", "", 9, EVE)["items"]] == [(contact, "small")]
    assert house.evaluate(contact, scorecard="other")["method"] == "chosen"
    studies.draw_sample(house.units, told | {"scorecard": "other"}, "lea", LEAD, lambda do, *arguments: do(*arguments))
    page = house.look(studies.to_do, "eve", "", 1, EVE)
    page["items"] += house.look(studies.to_do, "eve", page["next"], 1, EVE)["items"]
    assert {one["scorecard"] for one in page["items"]} == {"small", "other"}, "no page ends between two scorecards of a contact"
    with house.units() as work:
        others = store.sampled.c.sample == page["items"][-1]["sample"]
        work.connection.execute(store.sampled.update().where(others).values(evaluator="otto"))
    assert house.evaluate(contact)["method"] == "stratified"
    assert house.look(studies.to_do, "eve", "", 9, EVE)["items"] == []


def test_by_two_scorecards_one_evaluates_before_one_looks(house: House) -> None:
    contact = house.call()
    house.answer(contact, satisfied=2)
    handlers.put_scorecard(house.units, "other", CARD, "test")
    first = house.evaluate(contact)["id"]
    house.submit(first)
    second = house.evaluate(contact, scorecard="other")["id"]
    assert house.see(first, EVE)["customer_said"] is None, "not while another is open"
    house.submit(second)
    assert house.see(first, EVE)["customer_said"]["satisfied"] == 2


def test_who_has_read_the_first_marks_gives_no_second_opinion(house: House) -> None:
    one = disputed(house)
    assert house.see(one["id"], OTTO)["score"] is not None
    with pytest.raises(Conflict, match="otto has looked at what somebody else marked"):
        handlers.ask_second_opinion(house.units, one["id"], "otto", LEAD)
    assert house.see(one["id"])["state"] == "disputed"
    handlers.ask_second_opinion(house.units, one["id"], "olga", LEAD)


@pytest.mark.parametrize("where", ["draft", "list", "answer"])
def test_whoever_is_shown_anothers_marks_or_score_scores_that_contact_blind_no_more(house: House, where: str) -> None:
    mia = Viewer("mia", "mia", "supervisor")
    if where == "draft":
        one = house.evaluate(house.call())
        handlers.write_evaluation(house.units, one["id"], {"marks": marks(**BAD)}, "eve", EVE)
        assert house.see(one["id"], mia)["marks"]
        house.submit(one["id"])
        handlers.dispute_evaluation(house.units, one["id"], "anna", "The customer said that it worked.", ANNA)
    else:
        one = disputed(house)
    if where == "list":
        (seen,) = handlers.list_evaluations(house.units, {"after": "", "limit": 9}, mia)["items"]
        assert seen["score"] is not None
    if where == "answer":
        handlers.ask_second_opinion(house.units, one["id"], "olga", mia)
        (second,) = (row.id for row in house.rows(store.evaluation) if row.purpose == "second_opinion")
        handlers.drop_evaluation(house.units, second, "lea", LEAD)
    with pytest.raises(Conflict, match="mia has looked at what somebody else marked"):
        handlers.ask_second_opinion(house.units, one["id"], "mia", LEAD)


def test_nobody_asks_themselves_for_a_second_opinion_and_reads_the_first(house: House) -> None:
    one = disputed(house)
    with pytest.raises(Conflict, match="name somebody else"):
        handlers.ask_second_opinion(house.units, one["id"], "mia", Viewer("mia", "mia", "supervisor"))


def test_a_list_keeps_the_score_from_those_who_might_evaluate_the_contact(house: House) -> None:
    one = disputed(house)
    (seen,) = handlers.list_evaluations(house.units, {"after": "", "limit": 9}, OTTO)["items"]
    assert not {"score", "failed", "note"} & seen.keys()
    for viewer in (EVE, ANNA):
        (seen,) = handlers.list_evaluations(house.units, {"after": "", "limit": 9}, viewer)["items"]
        assert seen["failed"] == ["customer"]
    handlers.ask_second_opinion(house.units, one["id"], "otto", LEAD)


def test_a_second_opinion_that_holds_counts_in_the_score_and_as_evidence(house: House) -> None:
    contacts = [house.call() for _ in range(2)]
    told = {"scorecard": "small", "from": 0.0, "to": 9e9, "size": 2, "risk_size": 0, "seed": 7, "evaluators": ["eve"], "due_days": 7.0}
    studies.draw_sample(house.units, told, "lea", LEAD, lambda work, *arguments: work(*arguments))
    plan = {
        "contact": contacts[0], "scorecard": "small", "criterion": "solved", "cause": "knowledge", "owner": "lea",
        "action": "Half an hour with Bob on the price list.", "due_at": house.at() + DAY, "check": {"kind": "evaluations", "evaluations": 1, "at_least": 1.0},
    }  # fmt: skip
    house.at.forward(-60)
    finding = handlers.open_finding(house.units, plan, "lea", LEAD)
    house.at.forward(60)
    house.done(contacts[0], clear=1, solved="no")
    one = house.done(contacts[1], clear=1, solved="no")
    handlers.dispute_evaluation(house.units, one["id"], "anna", "The customer said that it worked.", ANNA)
    handlers.ask_second_opinion(house.units, one["id"], "otto", LEAD)
    (second,) = (row.id for row in house.rows(store.evaluation) if row.purpose == "second_opinion")
    house.submit(second, OTTO, GOOD)
    before = house.told("agent_scored")[-1]["score"]
    house.at.forward(60)
    handlers.close_evaluation(house.units, one["id"], "second", "The recording shows it.", "lea", LEAD)
    after = house.told("agent_scored")[-1]
    assert (after["score"] > before, after["evaluations"]) == (True, 2)
    assert [told["evidence"]["evaluations"][-1] for told in house.told("gap_closed") if told["finding"] == finding["id"]] == [second]


def test_what_a_calibration_says_of_evaluators_is_for_those_who_see_it(house: House) -> None:
    told = {"title": "t", "scorecard": "small", "contacts": [house.call()], "evaluators": ["eve", "otto"]}
    session = studies.open_calibration(house.units, told, "lea", LEAD)["id"]
    for row in house.rows(store.evaluation):
        house.submit(row.id, EVE if row.evaluator == "eve" else OTTO)
    elsewhere, here = Viewer("max", "max", "supervisor", queues=["sales"]), Viewer("mia", "mia", "supervisor", queues=["support"])
    with pytest.raises(NotFound):
        studies.close_calibration(house.units, session, "max", elsewhere)
    analysis = studies.close_calibration(house.units, session, "mia", here)["analysis"]
    with pytest.raises(NotFound):
        house.look(studies.get_analysis, analysis, elsewhere)
    assert house.look(studies.get_analysis, analysis, here)["id"] == analysis
    listed = [house.look(studies.list_analyses, "calibration", "", "", 9, viewer)["items"] for viewer in (elsewhere, here, LEAD)]
    assert [[one["id"] for one in items] for items in listed] == [[], [analysis], [analysis]]


@pytest.mark.parametrize("by", ["eve", "otto", "anna"])
def test_nobody_decides_a_dispute_about_their_own_evaluation(house: House, by: str) -> None:
    one = disputed(house)
    handlers.ask_second_opinion(house.units, one["id"], "otto", LEAD)
    (second,) = [row for row in house.rows(store.evaluation) if row.purpose == "second_opinion"]
    house.submit(second.id, OTTO)
    lead = Viewer(by, by, "supervisor")
    with pytest.raises(Forbidden, match="somebody else says which holds"):
        handlers.close_evaluation(house.units, one["id"], "first", "I was right, of course.", by, lead)
    handlers.close_evaluation(house.units, one["id"], "second", "The recording shows it.", "lea", LEAD)
    assert house.see(one["id"])["decided_by"] == "lea"


def test_nobody_cuts_the_time_to_dispute_short(house: House) -> None:
    one = house.done()
    with pytest.raises(Conflict, match="14 days to dispute"):
        handlers.close_evaluation(house.units, one["id"], "first", "", "lea", LEAD)
    handlers.acknowledge_evaluation(house.units, one["id"], "anna", ANNA)
    assert handlers.close_evaluation(house.units, one["id"], "first", "", "lea", LEAD)["state"] == "final"


def test_what_is_found_about_somebody_who_leads_is_not_for_those_they_lead(house: House) -> None:
    house.person("anna", "supervisor")
    one = house.done()
    for viewer, seen in ((OTTO, False), (EVE, True), (LEAD, True), (ANNA, True)):
        listed = handlers.list_evaluations(house.units, {"after": "", "limit": 9}, viewer)["items"]
        assert ([told["id"] for told in listed] == [one["id"]]) is seen
    with pytest.raises(NotFound):
        house.see(one["id"], OTTO)


# ---- two at once


def test_what_is_submitted_while_its_calibration_closes_is_kept(house: House) -> None:
    if house.units.database.sqlite:
        return  # writes one after the other
    told = {"title": "t", "scorecard": "small", "contacts": [house.call(), house.call()], "evaluators": ["eve", "otto"]}
    session = studies.open_calibration(house.units, told, "lea", LEAD)["id"]
    *first, last = house.rows(store.evaluation)
    for row in first:
        house.submit(row.id, EVE if row.evaluator == "eve" else OTTO)
    with ThreadPoolExecutor(1) as pool:
        with house.units() as work:
            store.change(work.connection, store.evaluation, last.id, state="submitted", submitted_at=house.at())
            closing = pool.submit(studies.close_calibration, house.units, session, "lea", LEAD)
            waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
            eventually(lambda: house.look(lambda connection: connection.scalar(waiting)))
        assert closing.result()["submitted"] == {"eve": 2, "otto": 2}
    assert len(house.rows(store.evaluation)) == 4


def test_of_two_who_begin_the_same_at_once_one_does(house: House) -> None:
    contact = house.call()

    def begin(viewer: Viewer) -> str:
        try:
            return str(house.evaluate(contact, viewer)["state"])
        except Conflict as refused:
            return refused.detail.partition(":")[0]

    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(begin, (EVE, OTTO)))
    assert told == ["draft", "somebody else evaluates this contact by small"]


def test_of_two_who_write_the_same_version_one_does(house: House) -> None:
    def write(number: int) -> Any:
        try:
            return studies.put_rules(house.units, "own", f"library: ['*']\nqueues: [q{number}]\n", "lea")["version"]
        except Conflict as refused:
            return refused.detail.partition(" of ")[0]

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(write, range(2)))
    assert sorted(map(str, told)) in (["1", "2"], ["1", "somebody else has just written version 1"])
