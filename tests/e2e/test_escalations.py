"""An agent who is stuck asks while the customer is there: from the call to the answer, through the whole system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.centre import Centre
from tests.system import Answer, System, eventually


class Floor(Centre):
    """A centre with an agent in a call, and experts on a topic of its own."""

    def __init__(self, system: System, name: str, ladder: str = "") -> None:
        super().__init__(system, name)
        self.topic = name
        if ladder:
            system.put(f"/v1/ladders/{name}", ladder, headers={"Content-Type": "application/yaml"}).ok()
        self.anna = self.agent("anna")
        self.contact = self.call()
        self.serve(self.anna, self.contact)

    def expert(self, who: str, level: int = 5, **more: Any) -> str:
        id = f"{self.queue}_{who}"
        self.system.put(f"/v1/experts/{id}", {"topics": {self.topic: level}, **more}).ok()
        self.system.put(f"/v1/experts/{id}/presence", {"state": "available"}).ok()
        return id

    def ask(self, question: str = "Which firmware has IPv6?") -> dict[str, Any]:
        body = {"contact": self.contact, "topic": self.topic, "question": question, "person": self.anna}
        asked: dict[str, Any] = eventually(lambda: self.system.post("/v1/escalations", body).ok())
        return asked

    def do(self, id: str, what: str, person: str, **more: Any) -> Answer:
        return self.system.post(f"/v1/escalations/{id}/{what}", {"person": person, **more})

    def look(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.system.get(f"/v1/escalations/{id}").ok()
        return found


TWO_STEPS = """
steps:
  - {after: 0, who: experts, best: 1, level: 4}
  - {after: 1, who: experts, level: 1}
ends_after: 30
"""


def test_a_question_is_asked_claimed_answered_and_accepted(system: System, name: str) -> None:
    floor = Floor(system, name)
    bob = floor.expert("bob")
    one = floor.ask()
    assert (one["state"], one["card"]["queue"], [asked["expert"] for asked in one["asked"]]) == ("asking", floor.queue, [bob])
    floor.do(one["id"], "claim", bob).ok()
    floor.do(one["id"], "messages", floor.anna, text="It is a 7590.").ok()
    assert floor.do(one["id"], "answer", bob, text="From 3.2 on.").ok()["number"] == 2
    assert floor.do(one["id"], "accept", floor.anna, hold_seconds=9).ok()["state"] == "accepted"
    told = system.get(f"/v1/escalations/{one['id']}/messages").ok()["messages"]
    assert [(message["author"], message["text"]) for message in told] == [(floor.anna, "It is a 7590."), (bob, "From 3.2 on.")]
    (figures,) = system.get("/v1/reports/escalations", topic=floor.topic).ok()["topics"]
    assert (figures["asked"], figures["accepted"], figures["hold_seconds"]["p50"], figures["reached_customer_share"]) == (1, 1, 9, 1)


def test_the_ladder_asks_more_after_its_seconds(system: System, name: str) -> None:
    floor = Floor(system, name, TWO_STEPS)
    bob, eve = floor.expert("bob"), floor.expert("eve", level=2)
    id = floor.ask()["id"]
    steps = eventually(lambda: (steps := floor.look(id)["steps"])[1:] and steps)
    assert [step["asked"] for step in steps] == [[bob], [eve]]
    assert eve in steps[0]["choice"]["excluded"]["level"]
    floor.do(id, "claim", eve).ok()


def test_of_a_hundred_claims_at_once_one_wins_and_all_others_learn_who(system: System, name: str) -> None:
    floor = Floor(system, name)
    floor.expert("bob")
    id = floor.ask()["id"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: floor.do(id, "claim", f"x{number}"), range(100)))
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: 1, 409: 99}
    winner = floor.look(id)["claimed_by"]
    assert {answer.problem(409)["claimed_by"] for answer in answers if answer.status == 409} == {winner}


def test_the_room_goes_with_a_transfer_and_outlives_the_contact(system: System, name: str) -> None:
    floor = Floor(system, name)
    bob = floor.expert("bob")
    other = Centre(system, f"{name}_b")
    otto = other.agent("otto")
    id = floor.ask()["id"]
    system.post(f"/v1/contacts/{floor.contact}/transfer", {"queue": other.queue}).ok()
    other.serve(otto, floor.contact)
    eventually(lambda: floor.look(id)["agent"] == otto)
    other.end(floor.contact)
    eventually(lambda: floor.look(id)["contact_ended_at"])
    floor.do(id, "claim", bob).ok()
    floor.do(id, "answer", bob, text="For later: 3.2.").ok()
    assert floor.look(id)["in_contact"] is False


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        (lambda body: {**body, "contact": "nobody"}, 404, "has no contact"),
        (lambda body: {**body, "person": "stranger"}, 404, "has no contact"),
        (lambda body: {**body, "urgency": "very"}, 422, "urgency"),
        (lambda body: {**body, "question": ""}, 422, "question"),
        (lambda body: {**body, "person": ""}, 422, "say who"),
        (lambda body: {**body, "more": 1}, 422, "more"),
    ],
)
def test_what_cannot_be_asked(
    system: System, name: str, change: Callable[[dict[str, Any]], dict[str, Any]], status: int, says: str
) -> None:
    body = {"contact": "c", "topic": "t", "question": "q", "person": "p"}
    problem = system.post("/v1/escalations", change(body)).problem(status)
    assert says in str(problem)


def test_a_ladder_that_is_wrong_is_refused_with_all_its_mistakes(system: System, name: str) -> None:
    problem = system.put(f"/v1/ladders/{name}", "steps: [{after: x, who: y}]", headers={"Content-Type": "application/yaml"}).problem(422)
    assert {error["path"] for error in problem["errors"]} == {"steps[0].after", "steps[0].who"}
