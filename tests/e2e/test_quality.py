"""A contact is served, surveyed and evaluated, and what went wrong is told to training: through the whole system."""

from __future__ import annotations

from typing import Any

import pytest

from shared import clock
from tests.e2e.centre import Centre
from tests.system import Client, System, eventually

CARD = """
kind: internal
title: {en: Short}
sections:
  - id: all
    title: {en: All}
    criteria:
      - {id: solved, title: {en: The question was dealt with}, critical: customer}
      - {id: clear, title: {en: Clear}, answering: scale, low: 1, high: 5}
"""
TURNS = [{"speaker": "agent", "text": "Good morning.", "start": 0.0}, {"speaker": "customer", "text": "It is broken.", "start": 2.0}]
PASSWORD = "correct horse battery"
PLAN = {"owner": "lea", "action": "Half an hour beside Bob.", "check": {"kind": "certificate"}}


def test_a_contact_is_surveyed_evaluated_and_its_gap_told(system: System, name: str) -> None:
    system.put(f"/v1/scorecards/{name}", CARD, headers={"Content-Type": "application/yaml"}).ok()
    system.put(f"/v1/survey-rules/{name}", {"enabled": True, "delay_seconds": 0}).ok()
    centre = Centre(system, name)
    anna = centre.agent("anna")
    contact = centre.call(customer=f"{name}-k", facts={"self_service_failed": True})
    centre.serve(anna, contact)
    centre.end(contact)

    def known() -> Any:
        return system.get(f"/v1/contacts/{contact}/quality").ok()

    eventually(lambda: known()["self_service_failed"] and known()["ended_at"] and known()["agent"] == anna)
    (asked,) = eventually(lambda: system.get("/v1/surveys", contact=contact).ok()["items"])
    eventually(lambda: system.get("/v1/surveys", contact=contact).ok()["items"][0]["sent_at"])
    system.post("/v1/surveys", {"contact": contact, "satisfied": 2, "resolved": False, "survey": asked["id"]}).ok()
    eventually(lambda: known()["customer_said"] == {"satisfied": 2, "resolved": False, "text": None})

    system.put(f"/v1/contacts/{contact}/transcript", {"turns": TURNS, "language": "en"}).ok()
    one = system.post("/v1/evaluations", {"contact": contact, "scorecard": name, "evaluator": "eve"}).ok()["id"]
    marks = [{"criterion": "solved", "answer": "no", "message": 2}, {"criterion": "clear", "answer": 4}]
    system.put(f"/v1/evaluations/{one}", {"marks": marks, "person": "eve"}).ok()
    assert "have not opened it" in system.post(f"/v1/evaluations/{one}/submit", {"person": "eve"}).problem(409)["detail"]
    system.get(f"/v1/contacts/{contact}/transcript").ok()
    assert system.post(f"/v1/evaluations/{one}/submit", {"person": "eve"}).ok()["failed"] == ["customer"]
    finding = system.post(
        "/v1/findings",
        {"evaluation": one, "criterion": "solved", "cause": "knowledge", "due_at": clock.to_text(clock.now() + 864000), **PLAN},
    ).ok()
    assert (finding["agent"], finding["state"]) == (anna, "open")
    assert "when training certifies" in system.post(f"/v1/findings/{finding['id']}/close", {"person": "max"}).problem(409)["detail"]
    types = [row[0] for row in system.sql("qa", "select type from outbox where subject = :id", id=finding["id"])]
    assert types == ["qa.gap_found.v1"]
    (group,) = system.get("/v1/reports/quality", queue=name).ok()["groups"]
    assert (group["agent"], group["internal"][0]["class_accuracy"]["customer"]["value"]) == (anna, 0.0)
    assert group["customers_said"]["response_rate"]["value"] == 1.0
    period = {"from": clock.to_text(clock.now() - 86400), "to": clock.to_text(clock.now() + 60)}
    analysis = system.post("/v1/analyses", {"kind": "validity", "scorecard": name, **period}).ok()["id"]
    done = eventually(lambda: (told := system.get(f"/v1/analyses/{analysis}").ok())["state"] in ("done", "failed") and told, 60)
    assert (done["state"], done["progress"]) == ("done", 1.0), done["error"]
    assert {row["verdict"] for row in done["result"]["criteria"]} == {"not_enough_data"}, "of one contact nothing is known"
    automatic = eventually(lambda: known()["automatic"], 90)
    assert [row["ruleset"] for row in automatic] == ["ready"]


AGENTS, CALLS, TOGETHER = 7, 22, 10
"""A funnel needs five peers of twenty contacts each; agreement ten contacts that two have marked."""


def told_by_a_pbx(name: str, start: float) -> list[dict[str, Any]]:
    """What a day was like: everybody had a call that broke off; Carl ended half of his within five seconds."""
    events: list[dict[str, Any]] = []
    for agent in range(AGENTS):
        for number in range(CALLS):
            short = number % 2 == 0 if agent == 0 else number == 0
            call, at = f"{agent}-{number}", start + number * 300 + agent
            by = "agent" if short or number % 3 else "caller"
            for word, seconds, data in (
                ("arrived", 0, {"queue": name, "customer": f"{name}-{call}"}),
                ("answered", 10, {"agent": f"{name}-{agent}"}),
                ("ended", 14 if short else 200, {"ended_by": by}),
            ):
                told = {"specversion": "1.0", "id": f"{call}-{word}", "source": "/pbx", "type": f"gateway.call_{word}.v1"}
                events.append({**told, "time": clock.to_text(at + seconds), "data": {"call": call, **data}})
    return events


def signed_in(system: System, person: str, role: str) -> Client:
    system.put(f"/v1/people/{person}", {"name": person, "roles": [role]}).ok()
    system.put(f"/v1/people/{person}/password", {"password": PASSWORD}).ok()
    return Client(system.address, system.post("/v1/sign-in", {"login": person, "password": PASSWORD}).ok()["token"])


@pytest.mark.parametrize("system", ["deployed"], indirect=True)  # it costs two processes that compute, and the mode changes nothing in them
def test_who_hangs_up_on_customers_is_listened_to_and_evaluators_are_compared(system: System, name: str) -> None:
    start = clock.now() - 86400
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    posted = system.post("/v1/events", told_by_a_pbx(name, start), source=name, headers=batch).ok()
    assert posted["accepted"] == AGENTS * CALLS * 3
    system.put(f"/v1/scorecards/{name}", CARD, headers={"Content-Type": "application/yaml"}).ok()

    def id_of(call: str) -> str:
        return str(system.get(f"/v1/contacts/{name}:{call}/quality").ok()["id"])

    def heard() -> Any:
        groups = system.get("/v1/reports/value", queue=name, by="queue").ok()["groups"]
        return groups and groups[0]["contacts"] == AGENTS * CALLS

    eventually(heard, 60)
    contacts = [id_of(f"1-{number}") for number in range(TOGETHER)]
    people = {f"{name}-{who}": signed_in(system, f"{name}-{who}", "evaluator") for who in ("eve", "otto")}
    told = {"title": name, "scorecard": name, "contacts": contacts, "evaluators": sorted(people)}
    session = system.post("/v1/calibrations", told).ok()["id"]
    assert system.get("/v1/evaluations", calibration=session).ok()["items"] == [], "nobody sees another's before the close, a lead neither"
    for who, desk in people.items():
        drafts = desk.get("/v1/evaluations", calibration=session, limit=100).ok()["items"]
        assert [one["evaluator"] for one in drafts] == [who] * TOGETHER
        for one in drafts:
            number = contacts.index(one["contact"])
            clear = 1 + number % 5 if who.endswith("eve") else 5 - number % 5
            marks = [{"criterion": "solved", "answer": "yes" if number % 2 else "no"}, {"criterion": "clear", "answer": clear}]
            desk.put(f"/v1/evaluations/{one['id']}", {"marks": marks, "live": True}).ok()
            desk.post(f"/v1/evaluations/{one['id']}/submit", {}).ok()
    compared = system.post(f"/v1/calibrations/{session}/close").ok()["analysis"]
    period = {"from": clock.to_text(start - 1), "to": clock.to_text(clock.now())}
    looked = system.post("/v1/analyses", {"kind": "gaming", **period}).ok()["id"]

    def result(analysis: str) -> Any:
        found = eventually(lambda: (told := system.get(f"/v1/analyses/{analysis}").ok())["state"] in ("done", "failed") and told, 60)
        assert found["state"] == "done", found["error"]
        return found["result"]

    result(compared)
    agreement = {one["criterion"]: one for one in system.get(f"/v1/calibrations/{session}").ok()["agreement"]["result"]["criteria"]}
    assert (agreement["solved"]["alpha"], agreement["solved"]["verdict"]) == (1.0, "reliable")
    assert (agreement["clear"]["alpha"] < 0, agreement["clear"]["verdict"]) == (True, "unreliable")
    assert {one["evaluator"] for one in agreement["clear"]["against"]} == set(people)

    mine = [one for one in result(looked)["flags"] if one["queue"] == name]
    assert [(one["agent"], one["measure"], one["cases"]) for one in mine] == [(f"{name}-0", "short_hang_ups", CALLS // 2)]
    (flag,) = system.get("/v1/flags", queue=name).ok()["items"]
    assert (flag["state"], flag["meaning"], set(flag["contacts"]) >= {id_of("0-0")}) == ("open", "a reason to listen, not a verdict", True)
    heard_one = {"contacts": [id_of("0-0")], "found": "agreed", "note": "He says nothing and hangs up.", "person": "lea"}
    assert system.post(f"/v1/flags/{flag['id']}/close", heard_one).ok()["heard"]["by"] == "lea"
