"""A customer asks to be forgotten: all services obey, and figures stay."""

from __future__ import annotations

from typing import Any

import orjson

from tests.e2e.centre import Centre
from tests.system import System, eventually

NUMBER = "+4930555777"


def test_a_customer_is_forgotten_everywhere(system: System, name: str) -> None:
    centre, customer = Centre(system, name, wrap_up=False), f"{name}_li"
    system.put(f"/v1/customers/{customer}", {"numbers": [NUMBER]}).ok()
    anna = centre.agent("anna")
    contact = centre.call(caller=NUMBER)
    centre.serve(anna, contact)
    body = {"contact": contact, "topic": name, "question": "Li Chan asks?", "person": anna}
    question = eventually(lambda: system.post("/v1/escalations", body).ok())["id"]
    refused = system.post(f"/v1/customers/{customer}/erase").problem(409)
    assert refused["contacts"] == [contact]
    centre.end(contact)
    turns = [{"speaker": "customer", "text": "I am Li Chan.", "start": 0.0, "end": 1.0}]
    eventually(lambda: system.put(f"/v1/contacts/{contact}/transcript", {"turns": turns, "language": "en"}).ok())
    system.post("/v1/surveys", {"contact": contact, "satisfied": 2, "resolved": False, "text": "Li Chan was here."}).ok()
    assert eventually(lambda: qa(system, contact)["customer_said"])["text"] == "Li Chan was here."
    figures = eventually(lambda: (row := centre.figures()).get("answered") and row)

    key = {"Idempotency-Key": f"{name}-erase"}
    told = eventually(lambda: system.post(f"/v1/customers/{customer}/erase", headers=key).ok())
    assert (told["contacts"], told["numbers"]) == (1, 1)
    assert system.post(f"/v1/customers/{customer}/erase", headers=key).ok() == told
    assert system.get(f"/v1/customers/{customer}").status == 404
    room = eventually(lambda: (one := system.get(f"/v1/escalations/{question}").ok())["question"] == "" and one)
    assert (room["state"], room["customer"][:7], room["card"]["customer"]) == ("closed", "erased-", room["customer"])
    said = eventually(lambda: (one := qa(system, contact))["customer"] == room["customer"] and one)
    assert (said["customer_said"]["satisfied"], said["customer_said"]["text"]) == (2, None)
    assert system.get(f"/v1/contacts/{contact}/transcript").status == 404
    shown = eventually(lambda: customer not in (text := shown_of(system, contact)) and text)
    assert NUMBER not in shown
    assert centre.figures() == figures
    acts = system.get("/v1/audit", object=customer).ok()["items"]
    assert {act["status"] for act in acts if act["act"] == "POST /v1/customers/{id}/erase"} == {200, 409}


def qa(system: System, contact: str) -> dict[str, Any]:
    found: dict[str, Any] = system.get(f"/v1/contacts/{contact}/quality").ok()
    return found


def shown_of(system: System, contact: str) -> str:
    return orjson.dumps(system.get(f"/v1/contacts/{contact}").ok()).decode()
