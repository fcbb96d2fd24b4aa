"""Questions and rooms while im is killed again and again, and the broker once: no step of a ladder left out or done twice, no acknowledged message lost (G3, G5)."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.chaos.harness import CORE, RECOVERY_SECONDS, Chaos, Monkey
from tests.chaos.synthetic import Say
from tests.e2e.centre import Centre
from tests.system import eventually

QUESTIONS = 6
PACE = 0.03
"""Seconds between two messages of one who writes."""
LADDER = """
steps:
  - {after: 0, who: experts, best: 1}
  - {after: 0.7, who: experts, best: 1}
  - {after: 1.4, who: experts, best: 1}
  - {after: 2.1, who: experts, best: 1}
ends_after: 3
open_per_agent: 100
"""


@pytest.fixture
def services() -> tuple[str, ...]:
    return *CORE, "im"


def asked(system: Chaos, centre: Centre, agent: str, contact: str) -> str:
    body = {"contact": contact, "topic": centre.queue, "question": "?", "person": agent}
    return str(eventually(lambda: system.post("/v1/escalations", body).ok()["id"], 30))


def write(system: Chaos, id: str, agent: str, over: Any) -> dict[str, int]:
    """Messages until the ladder has ended: text -> the number that was acknowledged."""
    acknowledged: dict[str, int] = {}
    number = 0
    while not over():
        number += 1
        try:
            answer = system.post(f"/v1/escalations/{id}/messages", {"person": agent, "text": f"m{number}"})
        except (OSError, http.client.HTTPException):
            time.sleep(PACE)
            continue
        if answer.status == 201:
            acknowledged[f"m{number}"] = answer.json["number"]
        time.sleep(PACE)
    return acknowledged


def test_ladders_and_rooms_outlive_kills(either: Chaos, monkey: Monkey, rounds: int, say: Say) -> None:
    system = either
    centre = Centre(system, "rooms")
    system.put("/v1/ladders/rooms", LADDER, headers={"Content-Type": "application/yaml"}).ok()
    for number in range(4):
        system.put(f"/v1/experts/e{number}", {"topics": {"rooms": 3}, "cap": 100}).ok()
        system.put(f"/v1/experts/e{number}/presence", {"state": "available"}).ok()
    anna = centre.agent("anna")
    contact = centre.call()
    centre.serve(anna, contact)
    service = "im" if system.deployed else "gateway"
    with system.supervised(), ThreadPoolExecutor() as pool:
        ids = [asked(system, centre, anna, contact) for _ in range(QUESTIONS * rounds)]

        def over(id: str) -> bool:
            return system.sql("im", "select state from escalation where id = :id", id=id)[0][0] == "unanswered"

        writing = {one: pool.submit(write, system, one, anna, partial(over, one)) for one in ids}
        while not all(over(id) for id in ids):
            monkey.pause(1.5)
            system.kill(service)
            if system.broker and not system.done["kill broker"]:
                system.kill_broker()
                monkey.pause(0.5)
                system.broker.start()
            if monkey.random.random() < 0.7:  # else it may die again while it starts
                eventually(lambda: system.ready(service), RECOVERY_SECONDS)
        acknowledged = {id: one.result(60) for id, one in writing.items()}
    eventually(lambda: not system.count("im", "outbox where published_at is null"), RECOVERY_SECONDS)
    for id in ids:
        steps = [row[0] for row in system.sql("im", "select step from ladder_step where escalation = :id order by step", id=id)]
        assert steps == [0, 1, 2, 3]
        kept = {text: number for number, text in system.sql("im", "select number, text from message where escalation = :id", id=id)}
        assert acknowledged[id].items() <= kept.items()
        assert sorted(kept.values()) == list(range(1, len(kept) + 1)), "numbered without a gap"
    told = Counter((row[0], row[1]) for row in system.sql("im", "select subject, type from outbox"))
    assert {told[id, "im.expert_asked.v1"] for id in ids} == {4}
    assert {told[id, "im.escalation_unanswered.v1"] for id in ids} == {1}
    say({"done": dict(system.done), "messages": sum(map(len, acknowledged.values())), "questions": len(ids)})


def test_of_a_hundred_claims_over_two_processes_exactly_one_wins(deployed: Chaos) -> None:
    system = deployed
    with system.twin() as twin:
        twin.start("im")
        centre = Centre(system, "race")
        anna = centre.agent("anna")
        contact = centre.call()
        centre.serve(anna, contact)
        id = asked(system, centre, anna, contact)
        experts = system.patient()
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda number: experts.post(f"/v1/escalations/{id}/claim", {"person": f"x{number}"}), range(100)))
        assert Counter(answer.status for answer in answers) == {200: 1, 409: 99}
        told = [row[0] for row in system.sql("im", "select type from outbox where subject = :id", id=id)]
        assert told.count("im.escalation_claimed.v1") == 1
