"""A contact is served, surveyed and evaluated, and what went wrong is told to training: through the whole system."""

from __future__ import annotations

from typing import Any

from shared import clock
from tests.e2e.centre import Centre
from tests.system import System, eventually

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
