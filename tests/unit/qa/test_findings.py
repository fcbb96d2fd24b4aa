"""Findings without blame: a cause and a plan, closed by evidence; on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from services.qa import handlers
from services.qa.domain import errors
from services.qa.domain import finding as findings
from shared import clock
from shared.errors import Conflict, Invalid, NotFound
from tests.unit.qa.house import ANNA, EVE, LEAD, OTTO, House

DAY = 86400.0


def finding(house: House, **more: Any) -> dict[str, Any]:
    told = {
        "criterion": "clear", "cause": "knowledge", "owner": "lea", "action": "Half an hour with Bob on the price list.",
        "due_at": house.at() + 14 * DAY, "check": {"kind": "evaluations", "evaluations": 2, "at_least": 0.75},
    }  # fmt: skip
    source = {} if more.keys() & {"evaluation", "contact"} else {"evaluation": house.done(clear=1)["id"]}
    return handlers.open_finding(house.units, told | source | more, "lea", LEAD)


def test_a_finding_tells_training_what_to_teach_whom(house: House) -> None:
    one = finding(house, module="m-prices")
    (told,) = house.told("gap_found")
    wanted = {
        "agent": "anna",
        "criterion": "clear",
        "cause": "knowledge",
        "owner": "lea",
        "module": "m-prices",
        "section": "all",
        "people": ["anna", "lea"],
    }
    assert {name: told[name] for name in wanted} == wanted
    assert (one["state"], one["overdue"], told["finding"]) == ("open", False, one["id"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"cause": "laziness"}, "say the cause: one of process"),
        ({"owner": " "}, "a plan has an owner"),
        ({"owner": "anna"}, "does not own the plan"),
        ({"action": "Talk."}, "say what will be done"),
        ({"action": "Bring the handle time below 180 s"}, "handle time is shown, never a target"),
        ({"due_at": 0.0}, "on a day to come"),
        ({"check": {"kind": "document"}}, "evaluations or a certificate show"),
        ({"criterion": "shoes"}, "no criterion shoes"),
    ],
)
def test_a_finding_without_a_cause_and_a_plan_is_none(house: House, more: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        finding(house, **more)
    assert house.told("gap_found") == []


def test_a_cause_outside_of_people_names_nobody(house: House) -> None:
    one = finding(house, cause="tool", check={"kind": "document"}, action="The form gets a field for the serial number.")
    assert one["agent"] is None
    assert house.told("gap_found")[0]["agent"] is None


def test_a_plan_closes_by_evaluations_of_later_contacts_alone(house: House) -> None:
    before = house.call()
    house.at.forward(60)
    one = finding(house)
    house.at.forward(60)
    with pytest.raises(Conflict, match="there are 0"):
        handlers.close_finding(house.units, one["id"], "a paper", "max", LEAD)
    house.done(before)
    house.done(clear=1)
    house.at.forward(60)
    house.done(clear=4)
    with pytest.raises(Conflict, match=r"the mean is 0\.38"):
        handlers.close_finding(house.units, one["id"], "", "lea", LEAD)
    house.at.forward(60)
    last = house.done(clear=5)
    (closed,) = house.told("gap_closed")
    assert closed["evidence"]["mean"] == 0.875
    assert last["id"] in closed["evidence"]["evaluations"]
    assert house.look(handlers.get_finding, one["id"], LEAD)["state"] == "closed"
    with pytest.raises(Conflict, match="closed already"):
        handlers.close_finding(house.units, one["id"], "", "lea", LEAD)


def test_evaluations_of_somebody_else_prove_nothing(house: House) -> None:
    finding(house)
    house.at.forward(60)
    for _ in range(3):
        house.done(house.call(agent="bert"))
    assert house.told("gap_closed") == []


def test_a_plan_closes_by_a_certificate(house: House) -> None:
    one = finding(house, check={"kind": "certificate"})
    with pytest.raises(Conflict, match="when training certifies"):
        handlers.close_finding(house.units, one["id"], "", "lea", LEAD)
    house.at.forward(60)
    certified = {"person": "anna", "channel": "voice", "certified_at": house.at()}
    house.hear("training.certified.v1", "anna", certified)
    with house.units() as work:
        handlers.close_by_evidence(work, agent="anna", queue="", kind="certificate")
    told = {"channel": "voice", "certified_at": clock.to_text(certified["certified_at"])}
    assert house.told("gap_closed")[0]["evidence"] == told


def test_a_document_is_confirmed_by_somebody_else(house: House) -> None:
    one = finding(house, cause="process", check={"kind": "document"})
    for document, by, says in (("", "max", "name the `document`"), ("wiki/42", "lea", "somebody other than the plan's owner")):
        with pytest.raises(Conflict, match=says):
            handlers.close_finding(house.units, one["id"], document, by, LEAD)
    assert handlers.close_finding(house.units, one["id"], "wiki/42", "max", LEAD)["evidence"] == {
        "document": "wiki/42",
        "confirmed_by": "max",
    }


def test_another_plan_starts_the_proof_anew(house: House) -> None:
    one = finding(house)
    house.at.forward(60)
    house.done(clear=5)
    house.at.forward(60)
    changed = handlers.change_plan(house.units, one["id"], {"action": "A day beside Bob instead."}, LEAD)
    assert changed["action"] == "A day beside Bob instead."
    house.at.forward(60)
    house.done(clear=5)
    assert house.told("gap_closed") == []
    assert len(house.told("gap_found")) == 2


def test_who_sees_a_finding(house: House) -> None:
    one = finding(house)
    for viewer in (ANNA, EVE, OTTO):
        assert house.look(handlers.get_finding, one["id"], viewer)["id"] == one["id"]
    from services.qa.handlers import Viewer

    for stranger in (Viewer("bert", "bert", "agent", leads=False, agent=True), Viewer("max", "max", "supervisor", queues=["sales"])):
        with pytest.raises(NotFound):
            house.look(handlers.get_finding, one["id"], stranger)
        assert house.look(handlers.list_findings, {"after": "", "limit": 9}, stranger)["items"] == []


def test_what_is_overdue_is_found(house: House) -> None:
    one = finding(house)
    overdue = {"after": "", "limit": 9, "overdue": True}
    assert house.look(handlers.list_findings, overdue, LEAD)["items"] == []
    house.at.forward(15 * DAY)
    assert [row["id"] for row in house.look(handlers.list_findings, overdue, LEAD)["items"]] == [one["id"]]


def test_internal_and_customer_scorecards_never_share_a_name(house: House) -> None:
    from tests.unit.qa.house import CARD

    with pytest.raises(Conflict, match="never one figure"):
        handlers.put_scorecard(house.units, "small", CARD.replace("internal", "customer"), "test")
    assert handlers.put_scorecard(house.units, "small", CARD, "test")["version"] == 1
    assert handlers.put_scorecard(house.units, "small", CARD.replace("high: 5", "high: 7"), "test")["version"] == 2


def test_a_check_that_anything_passes_shows_nothing() -> None:
    with pytest.raises(errors.Invalid, match="would show nothing"):
        findings.read_check({"kind": "evaluations", "at_least": 0.0}, "process", None, "voice")


def test_who_ever_owned_a_plan_does_not_confirm_its_closing(house: House) -> None:
    one = finding(house, cause="process", check={"kind": "document"}, agent="anna")
    handlers.change_plan(house.units, one["id"], {"owner": "max"}, LEAD)
    handlers.change_plan(house.units, one["id"], {"owner": "mia"}, LEAD)
    for by in ("lea", "max", "mia", "anna"):
        with pytest.raises(Conflict, match="nobody who owned it before"):
            handlers.close_finding(house.units, one["id"], "wiki/42", by, LEAD)
    assert handlers.close_finding(house.units, one["id"], "wiki/42", "otto", LEAD)["state"] == "closed"


def test_a_finding_about_somebody_who_leads_is_not_for_those_they_lead(house: House) -> None:
    house.person("anna", "supervisor")
    house.person("tom", "trainer")
    with pytest.raises(Invalid, match="none of their own people"):
        finding(house, owner="tom")
    one = finding(house)
    with pytest.raises(NotFound):
        house.look(handlers.get_finding, one["id"], EVE)
    assert house.look(handlers.list_findings, {"after": "", "limit": 9}, EVE)["items"] == []
    for viewer in (LEAD, ANNA):
        assert house.look(handlers.get_finding, one["id"], viewer)["id"] == one["id"]
    with pytest.raises(Invalid, match="none of their own people"):
        handlers.change_plan(house.units, one["id"], {"owner": "tom"}, LEAD)
