"""The loop, closed: what one contact showed changes who is offered the next. Everybody is signed in as themselves and has HTTP alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.e2e.centre import Centre
from tests.system import Client, System, eventually

CARD = """
kind: internal
title: {en: Chats}
sections:
  - id: all
    title: {en: All}
    criteria:
      - {id: explains, title: {en: Explains what to do next}}
      - {id: solved, title: {en: The question was dealt with}}
      - {id: clear, title: {en: Simple and clear}, answering: scale, low: 1, high: 5}
"""
MARKS = [
    {"criterion": "explains", "answer": "no", "message": 2},
    {"criterion": "solved", "answer": "yes"},
    {"criterion": "clear", "answer": 5},
]
TURNS = [{"speaker": "customer", "text": "Which firmware has IPv6?"}, {"speaker": "agent", "text": "From 3.2 on."}]
QUESTION = {"id": "next", "text": "What does the customer hear last?", "choices": ["What happens next", "Goodbye"], "correct": [0]}
PASSWORD = "correct horse battery"


class Loop(Centre):
    """A queue of chats. Anna learns chat and Bob is certified; Eli knows routers, Eve evaluates, Lee supervises."""

    def __init__(self, system: System, name: str) -> None:
        self.channel, self.lesson = f"{name}_chat", f"{name}_lesson"
        super().__init__(system, name, channel=self.channel)
        system.put(f"/v1/scorecards/{name}", CARD, headers={"Content-Type": "application/yaml"}).ok()
        system.put(f"/v1/survey-rules/{name}", {"enabled": True, "delay_seconds": 0}).ok()
        course = {"title": "What comes next", "topic": "language", "hours": 1, "self_study": True, "criteria": [f"{name}/explains"]}
        self.write("courses", self.lesson, course)
        self.write("exams", name, {"bank": [QUESTION], "questions": 1, "pass_mark": 1.0})
        practice = {"contacts": 1, "mark": 0.6}
        self.write("curricula", self.channel, {"courses": [self.lesson], "exam": name, "practice": practice})
        ladder = system.get("/v1/training/ladders/agent")
        known = ladder.ok()["document"]["channels"] if ladder.status == 200 else []
        self.write("ladders", "agent", {"channels": [*known, {"channel": self.channel}]})

    def write(self, kind: str, name: str, document: dict[str, Any]) -> None:
        self.system.put(f"/v1/training/{kind}/{name}", document).ok()

    def joins(self, who: str, role: str) -> tuple[str, Client]:
        """Somebody new: their id, and the desk at which they have signed in."""
        id = f"{self.name}_{who}"
        self.system.put(f"/v1/people/{id}", {"name": id, "roles": [role]}).ok()
        self.system.put(f"/v1/people/{id}/password", {"password": PASSWORD}).ok()
        eventually(lambda: self.system.get(f"/v1/learners/{id}").status == 200)
        return id, Client(self.system.address, self.system.post("/v1/sign-in", {"login": id, "password": PASSWORD}).ok()["token"])

    def chat(self, customer: str) -> str:
        return self.call(channel=self.channel, customer=f"{self.name}_{customer}")


def test_what_one_contact_showed_changes_who_is_offered_the_next(system: System, name: str) -> None:
    loop = Loop(system, name)
    (anna, hers), (bob, his), (lee, lees) = (loop.joins(*one) for one in (("anna", "agent"), ("bob", "agent"), ("lee", "supervisor")))
    (eli, elis), (_, eves) = loop.joins("eli", "expert"), loop.joins("eve", "evaluator")
    for who, state in (("lee", "paused"), ("anna", "available"), ("bob", "offline")):
        loop.agent(who, state, channels=[])

    # Anna may practise one chat a day while Lee is there; Bob was certified before.
    lees.post(f"/v1/learners/{anna}/learning", {"target": loop.channel, "approver": lee, "reason": "begins with chat"}).ok()
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    permit = {"channel": loop.channel, "supervisor": lee, "contacts_a_day": 1, "until": until}
    lees.post(f"/v1/learners/{anna}/permits", permit).ok()
    table = f"agent,channel,until\n{bob},{loop.channel},\n"
    system.post("/v1/imports/certifications", table, headers={"Content-Type": "text/csv"}).ok()
    eventually(lambda: loop.channel in (system.get(f"/v1/agents/{bob}").ok()["certificates"] or {}))

    # A contact is routed to her. She is stuck, and Eli answers while the customer is there.
    first = loop.chat("kim")
    offer = loop.offer(anna, first)
    hers.post(f"/v1/offers/{offer['id']}/accept", {"agent": anna}).ok()
    system.put(f"/v1/experts/{eli}", {"topics": {name: 5}}).ok()
    elis.put(f"/v1/experts/{eli}/presence", {"state": "available"}).ok()
    asked = eventually(
        lambda: (
            (answer := hers.post("/v1/escalations", {"contact": first, "topic": name, "question": "Which firmware?"})).status == 201
            and answer.ok()
        )
    )
    elis.post(f"/v1/escalations/{asked['id']}/claim", {}).ok()
    elis.post(f"/v1/escalations/{asked['id']}/answer", {"text": "From 3.2 on."}).ok()
    assert hers.post(f"/v1/escalations/{asked['id']}/accept", {}).ok()["in_contact"] is True

    # It ends, and she notes how.
    loop.end(first)
    eventually(lambda: loop.state_of(anna) == "wrap_up")
    hers.post(f"/v1/contacts/{first}/wrap-up", {"agent": anna, "disposition": {"code": "explained", "resolved": True}}).ok()
    assert loop.state_of(anna) == "available"

    # The customer is asked, and answers.
    def survey() -> Any:
        found = lees.get("/v1/surveys", contact=first).ok()["items"]
        return found and found[0]["sent_at"] and found[0]

    answer = {"contact": first, "survey": eventually(survey)["id"], "satisfied": 3, "resolved": False, "text": "And now?"}
    system.post("/v1/surveys", answer).ok()
    system.put(f"/v1/contacts/{first}/transcript", {"turns": TURNS, "language": "en"}).ok()

    # Eve evaluates it and finds why: a gap of knowledge.
    def quality() -> Any:
        return eves.get(f"/v1/contacts/{first}/quality").ok()

    eventually(lambda: (told := quality())["ended_at"] and told["disposition"] == "explained" and told["answered_inside"] == 1)
    eventually(lambda: lees.get("/v1/surveys", contact=first).ok()["items"][0]["satisfied"] == 3)
    told = quality()
    assert (told["agent"], told["practice"], told["supervisor"], told["escalations"]) == (anna, True, lee, 1)
    assert told["customer_said"] is None, "not before she has evaluated it"
    eves.get(f"/v1/contacts/{first}/transcript").ok()
    evaluation = eves.post("/v1/evaluations", {"contact": first, "scorecard": name}).ok()["id"]
    eves.put(f"/v1/evaluations/{evaluation}", {"marks": MARKS}).ok()
    eves.post(f"/v1/evaluations/{evaluation}/submit", {}).ok()
    assert quality()["customer_said"] == {"satisfied": 3, "resolved": False, "text": "And now?"}
    plan = {"owner": lee, "action": "What comes next", "due_at": until, "check": {"kind": "certificate", "channel": loop.channel}}
    finding = eves.post("/v1/findings", {"evaluation": evaluation, "criterion": "explains", "cause": "knowledge", **plan}).ok()["id"]

    # Training assigns the lesson for that criterion. Until Anna has done it, the next contact is Bob's.
    (lesson,) = eventually(lambda: hers.get(f"/v1/learners/{anna}").ok()["lessons"])
    assert (lesson["finding"], lesson["criterion"], lesson["course"], lesson["verdict"]) == (finding, "explains", loop.lesson, "assigned")
    second = loop.chat("lou")
    assert loop.offers(anna) == []
    his.put(f"/v1/agents/{bob}/state", {"state": "available"}).ok()
    his.post(f"/v1/offers/{loop.offer(bob, second)['id']}/accept", {"agent": bob}).ok()
    refused = lees.post("/v1/certifications", {"person": anna, "target": loop.channel}).problem(409)["detail"]
    assert f"courses not done: {loop.lesson}; the exam {name} is not passed" in refused

    # She does it and passes, and Lee certifies her.
    today = datetime.now(UTC).date().isoformat()
    hers.post(f"/v1/learners/{anna}/self-study", {"day": today, "minutes": 60, "course": loop.lesson}).ok()
    attempt = hers.post(f"/v1/exams/{name}/attempts", {}).ok()
    right = {one["id"]: [one["choices"].index("What happens next")] for one in attempt["questions"]}
    assert hers.post(f"/v1/exams/attempts/{attempt['id']}/answers", {"answers": right}).ok()["passed"] is True
    eventually(lambda: lees.post("/v1/certifications", {"person": anna, "target": loop.channel}).status == 201)
    assert hers.get(f"/v1/learners/{anna}").ok()["lessons"][0]["verdict"] == "done"

    # The certificate closes the finding, and the next contact is hers though Bob is there too.
    closed = eventually(lambda: (told := eves.get(f"/v1/findings/{finding}").ok())["state"] == "closed" and told)
    (certificate,) = hers.get("/v1/certifications", person=anna).ok()["items"]
    assert closed["evidence"] == {"certified_at": certificate["certified_at"], "channel": loop.channel}
    eventually(lambda: loop.channel in (system.get(f"/v1/agents/{anna}").ok()["certificates"] or {}))
    loop.end(second)
    eventually(lambda: loop.state_of(bob) == "wrap_up")
    his.put(f"/v1/agents/{bob}/state", {"state": "available"}).ok()
    third = loop.chat("mia")
    assert loop.offer(anna, third)["agent"] == anna
    assert (loop.offers(bob), loop.state_of(bob)) == ([], "available")
