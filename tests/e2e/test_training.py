"""Routing obeys training: from the import of a certificate, a permit or a lapse to the offer that is made, or is not, through the whole system."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared.bus.envelope import Event
from shared.contracts import topology, write
from tests.e2e.centre import Centre
from tests.system import Answer, System, eventually

SOON = 1.5


class School(Centre):
    """A routed queue, its agents in the directory of people, and a curriculum for a channel of its own."""

    def __init__(self, system: System, name: str, **queue: Any) -> None:
        self.channel = f"{name}_chat"
        super().__init__(system, name, channel=self.channel, **queue)
        self.define("courses", f"{name}_course", {"title": "Chat", "topic": "channel", "hours": 1, "self_study": True})
        self.define("curricula", self.channel, {"courses": [f"{name}_course"], "practice": {"contacts": 1, "mark": 0.8}})
        self.define("ladders", f"{name}_role", {"channels": [{"channel": self.channel}]})

    def define(self, kind: str, name: str, document: dict[str, Any]) -> None:
        self.system.put(f"/v1/training/{kind}/{name}", document).ok()

    def learner(self, who: str, role: str = "agent") -> str:
        """Certified for nothing, says the directory; known to training."""
        id = self.agent(who, channels=[])
        self.system.put(f"/v1/people/{id}", {"name": id, "roles": [role]}).ok()
        eventually(lambda: self.system.get(f"/v1/learners/{id}").status == 200)
        return id

    def contact_on_channel(self) -> str:
        return self.call(channel=self.channel)

    def give(self, who: str, until: str = "") -> Answer:
        table = f"agent,channel,until\n{who},{self.channel},{until}\n"
        return self.system.request("POST", "/v1/imports/certifications", table, headers={"Content-Type": "text/csv"})

    def certificate(self, who: str) -> dict[str, Any]:
        (found,) = self.system.get("/v1/certifications", person=who, state="holds").ok()["items"]
        return dict(found)

    def ended(self, who: str) -> list[str]:
        """Why certificates of theirs are over."""
        return [one["end_reason"] for one in self.system.get("/v1/certifications", person=who, state="over").ok()["items"]]

    def serves(self, who: str) -> bool:
        """Whether routing holds a certificate of theirs."""
        return self.channel in (self.system.get(f"/v1/agents/{who}").ok()["certificates"] or {})

    def until(self, who: str) -> str | None:
        """When it ends, as routing has it."""
        found: str | None = (self.system.get(f"/v1/agents/{who}").ok()["certificates"] or {}).get(self.channel)
        return found


def seconds_until_a_revocation_is_obeyed(school: School, who: str, id: str) -> float:
    """From the answer to the command on, by the clock of a machine that is ours alone: others slow us down as much as they do a plain loop."""
    before = slowed_down()
    school.system.post(f"/v1/certifications/{id}/revoke", {"reason": "hung up on customers"}).ok()
    began = time.monotonic()
    eventually(lambda: not school.serves(who), every=0.02)
    return (time.monotonic() - began) / max(before, slowed_down())


def slowed_down() -> float:
    """How many times as long as alone a computation takes now; 1.0: no longer."""
    began, used, seconds = time.monotonic(), time.thread_time(), 0.02
    while time.thread_time() - used < seconds:
        pass
    return max(1.0, (time.monotonic() - began) / seconds)


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_an_imported_certificate_lets_serve_and_its_revocation_ends_that_within_a_second(system: System, name: str) -> None:
    school = School(system, name)
    anna = school.learner("anna")
    first = school.contact_on_channel()
    assert school.offers(anna) == []
    assert school.give(anna).ok()["created"] == 1
    school.serve(anna, first)
    school.contact_on_channel()
    school.state(anna, "available")
    assert school.serves(anna)
    id = school.certificate(anna)["id"]
    revoked = [seconds_until_a_revocation_is_obeyed(school, anna, id)]
    while revoked[-1] >= 1.0 and len(revoked) < 3:  # the machine was busy: somebody else's then
        bea = school.learner(f"bea{len(revoked)}")
        assert school.give(bea).ok()["created"] == 1
        eventually(lambda bea=bea: school.serves(bea))
        revoked.append(seconds_until_a_revocation_is_obeyed(school, bea, school.certificate(bea)["id"]))
    assert revoked[-1] < 1.0, revoked
    assert school.state_of(anna) == "busy", "what they have they finish"
    school.end(first)
    eventually(lambda: school.state_of(anna) != "busy")
    school.state(anna, "available")
    assert school.offers(anna) == []


def test_a_certificate_ends_by_its_date_though_training_is_down(system: System, name: str) -> None:
    school = School(system, name)
    anna = school.learner("anna")
    ends = time.time() + SOON
    assert school.give(anna, in_seconds(SOON)).ok()["created"] == 1
    eventually(lambda: school.serves(anna) or school.ended(anna))
    if system.deployed:
        system.kill("training")
    try:
        eventually(lambda: time.time() > ends)
        school.contact_on_channel()
        assert school.offers(anna) == []
    finally:
        system.start("training")
    assert eventually(lambda: school.ended(anna)) == ["expired"], "training comes to know it too, when it is there again"
    eventually(lambda: not school.serves(anna))


def test_a_learner_practises_while_the_supervisor_is_there_and_becomes_certified(system: System, name: str) -> None:
    school = School(system, name)
    anna, lee = school.learner("anna"), school.learner("lee", "supervisor")
    school.state(lee, "offline")
    refused = system.post(f"/v1/learners/{anna}/learning", {"target": school.channel}).problem(404)
    assert "PUT /v1/training/ladders/ROLE" in refused["detail"] or "do not lead to" in refused["detail"]
    school.define("ladders", "agent", ladder_with(system, school.channel))
    opened = {"target": school.channel, "approver": lee, "reason": "begins here in this test"}
    system.post(f"/v1/learners/{anna}/learning", opened).ok()
    told = {"channel": school.channel, "supervisor": lee, "contacts_a_day": 1, "until": in_seconds(86400)}
    system.post(f"/v1/learners/{anna}/permits", told).ok()
    contact = school.contact_on_channel()
    assert not school.serves(anna) and school.offers(anna) == []
    school.state(lee, "paused")
    school.serve(anna, contact)
    school.end(contact)
    eventually(lambda: school.state_of(anna) != "busy")
    school.state(anna, "available")
    school.contact_on_channel()
    assert school.offers(anna) == [], "one a day"
    path, more = f"/v1/agents/{anna}", {"supervisor": lee, "per_day": 9, "until": in_seconds(86400)}
    system.put(f"{path}/permits/{school.channel}", more).problem(409)
    system.put(f"{path}/certificates/{school.channel}", {}).problem(409)
    system.delete(f"{path}/certificates/{school.channel}").problem(409)
    today = datetime.now(UTC).date().isoformat()
    system.post(f"/v1/learners/{anna}/self-study", {"day": today, "minutes": 60, "course": f"{name}_course"}).ok()
    missing = system.post("/v1/certifications", {"person": anna, "target": school.channel}).problem(409)
    assert "0 of 1 supervised contacts evaluated at 0.8 or above" in missing["detail"]
    if not system.deployed:
        return  # what quality evaluated comes over the broker
    evaluated = evaluation(anna, school, contact, lee)
    system.publish(json.dumps(evaluated.envelope()), topology.inbox_queue("training"))
    eventually(lambda: system.post("/v1/certifications", {"person": anna, "target": school.channel}).ok(), 60)
    eventually(lambda: school.serves(anna))


def ladder_with(system: System, channel: str) -> dict[str, Any]:
    """The agents' ladder with this channel at its end: all tests share it."""
    answer = system.get("/v1/training/ladders/agent")
    known = answer.ok()["document"]["channels"] if answer.status == 200 else []
    return {"channels": [*known, {"channel": channel}]}


def evaluation(agent: str, school: School, contact: str, lee: str) -> Event:
    now = time.time()
    data = {
        "evaluation": f"{contact}-e", "stage": "submitted", "contact": contact, "agent": agent, "queue": school.queue, "channel": school.channel,
        "contact_at": now, "practice": True, "supervisor": lee, "purpose": "practice", "counts": True, "scorecard": "service", "scorecard_version": 1,
        "scorecard_kind": "internal", "kind": "human", "evaluator": lee, "evaluator_role": "supervisor", "blind": False, "score": 0.9,
        "failed_classes": [], "marks": [], "sampled": "chosen", "probability": None, "people": [agent], "at": now,
    }  # fmt: skip
    return Event("qa.evaluation_submitted.v1", data["evaluation"], write("qa.evaluation_submitted.v1", data), now, 1)


def test_a_quarter_is_planned_in_the_background_and_carried_out(system: System, name: str) -> None:
    site, course = f"{name}_site", f"{name}_course"
    system.put(f"/v1/sites/{site}", {"name": site}).ok()
    people = [f"{name}_{who}" for who in ("ann", "bob")]
    for person in people:
        system.put(f"/v1/people/{person}", {"name": person, "roles": ["agent"], "site": site}).ok()
        eventually(lambda person=person: system.get(f"/v1/learners/{person}").status == 200)
    for kind, id, document in (
        ("courses", course, {"title": "Empathy", "topic": "empathy", "hours": 4}),
        ("resources", f"{name}_room", {"kind": "room", "site": site, "capacity": 2}),
        ("resources", f"{name}_trainer", {"kind": "trainer", "site": site}),
        ("policy", "default", {"away_share": 1.0, "least_people": 1}),
    ):
        system.put(f"/v1/training/{kind}/{id}", document).ok()
    year = date.today().year + 1
    asked = {"from": f"{year}-02-02", "to": f"{year}-02-06", "courses": [course], "sites": [site]}
    id = system.post("/v1/training-plans", asked).ok()["id"]
    made = eventually(lambda: (plan := system.get(f"/v1/training-plans/{id}").ok())["state"] == "ready" and plan, within=90)
    assert (made["result"]["placed"], made["result"]["unplaced"], made["result"]["short"]) == (2, {}, [])
    system.post(f"/v1/training-plans/{id}/apply").ok()
    eventually(lambda: system.get(f"/v1/training-plans/{id}").ok()["state"] == "applied", within=30)
    (session,) = system.get("/v1/sessions", site=site).ok()["items"]
    assert sorted(seat["person"] for seat in session["seats"]) == people
