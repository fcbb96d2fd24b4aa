"""An agent who is stuck asks while the customer is there: from the call to the answer, through the whole system."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.centre import Centre
from tests.e2e.listening import Ear
from tests.e2e.test_webhook_journeys import listening
from tests.system import Answer, Client, System, eventually


class Floor(Centre):
    """A centre with an agent in a call, and experts on a topic of its own."""

    def __init__(self, system: System, name: str, ladder: str = "", **contact: Any) -> None:
        super().__init__(system, name)
        self.topic = name
        if ladder:
            system.put(f"/v1/ladders/{name}", ladder, headers={"Content-Type": "application/yaml"}).ok()
        self.anna = self.agent("anna")
        self.contact = self.call(**contact)
        self.serve(self.anna, self.contact)

    def expert(self, who: str, level: int = 5, **more: Any) -> str:
        id = f"{self.queue}_{who}"
        self.system.put(f"/v1/experts/{id}", {"topics": {self.topic: level}, **more}).ok()
        self.system.put(f"/v1/experts/{id}/presence", {"state": "available"}).ok()
        return id

    def ask(self, question: str = "Which firmware has IPv6?") -> dict[str, Any]:
        body = {"contact": self.contact, "topic": self.topic, "question": question, "person": self.anna}
        asked: dict[str, Any] = eventually(lambda: self.people.post("/v1/escalations", body).ok())
        return asked

    def do(self, id: str, what: str, person: str, **more: Any) -> Answer:
        return self.people.post(f"/v1/escalations/{id}/{what}", {"person": person, **more})

    def look(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.people.get(f"/v1/escalations/{id}").ok()
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


def test_experts_are_asked_in_their_chat_and_answer_there(system: System, name: str) -> None:
    floor = Floor(system, name)
    bob = floor.expert("bob")
    system.put(f"/v1/chats/{name}", {"token": "the chat's token", "people": {"U7": bob}}).ok()
    with listening() as chat:
        hook = {"url": chat.url(f"/{name}"), "types": ["im.*"], "queues": [floor.queue], "format": "slack"}
        webhook = system.post("/v1/webhooks", hook).ok()
        one = floor.ask("Which firmware has IPv6?")

        def told() -> list[str]:
            return [json.loads(body)["text"] for _, body in list(chat.posts.get(f"/{name}", ()))]

        def say(text: str, token: str = "the chat's token") -> Answer:
            said = urlencode({"token": token, "user_id": "U7", "text": text})
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            return system.client().request("POST", f"/v1/chats/{name}/reply", said, headers=form)

        code = one["code"]
        eventually(lambda: told() == [f"{code} · {name}: Which firmware has IPv6? — reply `{code} …`"])
        say(f"{code} From 3.2 on.", "guessed").problem(401)
        assert say(f"{code} From 3.2 on.").ok() == {"text": f"{code}: the agent has your answer."}
        (message,) = system.get(f"/v1/escalations/{one['id']}/messages").ok()["messages"]
        assert (message["author"], message["kind"], message["text"]) == (bob, "answer", "From 3.2 on.")
        floor.do(one["id"], "accept", floor.anna).ok()
        eventually(
            lambda: told()[1:] == [f"{code} · {name}: {bob} has it", f"{code} · {name}: Which firmware has IPv6? — {bob}: From 3.2 on."]
        )
        system.delete(f"/v1/webhooks/{webhook['id']}")


AT_ONCE = """
steps:
  - {after: 0, who: experts, best: 1, level: 5}
ends_after: 1
"""


def test_a_question_that_nobody_answers_becomes_a_callback_once_the_customer_has_hung_up(system: System, name: str) -> None:
    floor = Floor(system, name, AT_ONCE, caller="+49301234567")
    with Ear(system, f"contact:{floor.contact}").opened() as ear:
        id = floor.ask()["id"]
        ear.until(lambda told: told.name == "routing.callback_promised.v1")
    assert floor.look(id)["state"] == "unanswered"
    floor.end(floor.contact)
    legs = eventually(lambda: (legs := system.get(f"/v1/contacts/{floor.contact}").ok()["legs"])[1:] and legs)
    assert [leg["kind"] for leg in legs] == ["inbound", "callback"]
    assert floor.assignment(floor.contact)["state"] in ("callback", "waiting", "offered")


def test_whose_number_is_withheld_cannot_be_called_back_and_the_agent_learns_it(system: System, name: str) -> None:
    floor = Floor(system, name, AT_ONCE)
    with Ear(system, f"agent:{floor.anna}").opened() as ear:
        id = floor.ask()["id"]
        told = ear.until(lambda told: told.name == "gateway.callback_refused.v1")[-1].data["data"]
    assert (told["escalation"], told["reason"]) == (id, "withheld")


def test_people_hear_of_the_questions_that_concern_them_and_being_there_is_enough(system: System, name: str) -> None:
    floor, eve, other = Floor(system, name), f"{name}_eve", f"{name}_tom"
    for person in (eve, other):
        system.put(f"/v1/people/{person}", {"name": person, "roles": ["expert"]}).ok()
        system.put(f"/v1/people/{person}/password", {"password": "correct horse battery"}).ok()
    eventually(lambda: system.get(f"/v1/experts/{eve}").ok())
    system.put(f"/v1/experts/{eve}", {"topics": {floor.topic: 5}}).ok()
    keys = [system.post("/v1/sign-in", {"login": who, "password": "correct horse battery"}).ok()["token"] for who in (eve, other)]
    with (
        Ear(Client(system.address, keys[0]), "im.*", timeout=40).opened() as hers,
        Ear(Client(system.address, keys[1]), "im.*").opened() as his,
    ):
        eventually(lambda: system.get(f"/v1/experts/{eve}").ok()["presence"] == "available", within=30)
        id = floor.ask()["id"]
        asked = hers.until(lambda told: told.name == "im.expert_asked.v1")[-1].data["data"]
        assert (asked["escalation"], asked["experts"]) == (id, [eve])
        assert Client(system.address, keys[1]).get(f"/v1/escalations/{id}").status == 404
        assert Client(system.address, keys[0]).post(f"/v1/escalations/{id}/claim", {}).ok()["claimed_by"] == eve
        floor.do(id, "hand-over", eve, to=other).ok()
        told = his.until(lambda told: told.data["data"]["escalation"] == id)
        assert told[0].name in ("im.member_joined.v1", "im.escalation_handed_over.v1")


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
