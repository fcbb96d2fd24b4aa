"""What becomes of a contact that one queue or one conversation does not settle, and what supervisors may change meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.centre import LONG, Centre
from tests.system import System, eventually

SOON = 4.0
NUMBER = "+49301234567"
ROUND_THE_CLOCK = (
    "callback: {offer_after_seconds: 0, from_hour: 0, to_hour: 24, retry_seconds: {busy: 600, no_answer: 600, machine: 600}}\n"
)
LABEL = {"en": "Sale"}


@pytest.fixture
def centre(system: System, name: str) -> Centre:
    return Centre(system, name)


def do(centre: Centre, contact: str, what: str, body: Any = None) -> dict[str, Any]:
    return dict(centre.system.post(f"/v1/contacts/{contact}/{what}", body).ok())


def policy(centre: Centre, document: str, **query: Any) -> dict[str, Any]:
    """The queue's own policy, put in force."""
    told = centre.system.put(f"/v1/policies/{centre.name}", document, headers={"Content-Type": "application/yaml"}, **query).ok()
    return dict(told)


def setting(centre: Centre, **queue: Any) -> None:
    settings = {"mode": "routed", "required_skills": {"zh": 2}, "offer_seconds": 60, "retry_seconds": 0.2}
    centre.system.put(f"/v1/queues/{centre.queue}", settings | queue).ok()


# ---- transfer, requeue, conference


def test_a_transfer_to_another_queue_keeps_its_wait(system: System, name: str) -> None:
    centre, other = Centre(system, name), Centre(system, f"{name}_b")
    giver = centre.agent("giver")
    passed_on = centre.call()
    centre.serve(giver, passed_on)
    told = do(centre, passed_on, "transfer", {"queue": other.queue})
    assert (told["state"], told["queue"], told["kind"]) == ("waiting", other.queue, "transfer")
    eventually(lambda: centre.state_of(giver) == "wrap_up")
    taker = other.agent("taker")
    ((place_at, arrived_at),) = centre.system.sql("routing", "select place_at, arrived_at from contact where id = :id", id=passed_on)
    assert place_at < arrived_at, "what it has waited counts"
    other.serve(taker, passed_on)
    found = other.assignment(passed_on)
    assert (found["state"], found["agent"], found["queue"]) == ("assigned", taker, other.queue)
    other.end(passed_on)
    eventually(lambda: other.state_of(taker) == "wrap_up")


def test_a_transfer_to_an_agent_waits_for_that_agent(centre: Centre) -> None:
    giver = centre.agent("giver")
    contact = centre.call()
    centre.serve(giver, contact)
    idle, wanted = centre.agent("idle"), centre.agent("wanted")
    do(centre, contact, "transfer", {"agent": wanted})
    assert centre.offer(wanted, contact)
    assert not centre.offers(idle)


def test_a_transfer_needs_somewhere_to_go(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call()
    centre.serve(agent, contact)
    assert "queue" in centre.system.post(f"/v1/contacts/{contact}/transfer", {}).problem(422)["errors"]
    centre.system.post(f"/v1/contacts/{contact}/transfer", {"queue": f"{centre.name}_nowhere"}).problem(404)
    assert centre.assignment(contact)["agent"] == agent, "nothing has changed"


def test_who_cannot_serve_a_contact_puts_it_back_in_its_place_for_somebody_else(centre: Centre) -> None:
    first = centre.agent("first")
    contact = centre.call()
    centre.serve(first, contact)
    later = centre.call()
    do(centre, contact, "requeue", {"reason": "not my field"})
    assert centre.offer(first, later), "first is free for others"
    second = centre.agent("second")
    centre.accept(second, centre.offer(second, contact))
    assert centre.assignment(contact)["agent"] == second


def test_who_is_deactivated_is_offered_nothing_more_and_finishes_what_they_have(centre: Centre) -> None:
    talking, asked = centre.agent("talking"), centre.agent("asked", state="paused")
    for id in (talking, asked):
        centre.system.put(f"/v1/people/{id}", {"name": id, "roles": ["agent"]}).ok()
    call = centre.call()
    centre.serve(talking, call)
    centre.state(asked, "available")
    other = centre.call()
    assert centre.offer(asked, other)
    for id in (talking, asked):
        assert centre.system.delete(f"/v1/people/{id}").status == 204
    eventually(lambda: not centre.offers(asked) and centre.state_of(asked) == "offline")
    assert (centre.state_of(talking), centre.assignment(call)["agent"]) == ("busy", talking)
    assert centre.misses(asked) == 0
    assert centre.system.put(f"/v1/agents/{asked}/state", {"state": "available"}).status == 409
    centre.end(call)
    eventually(lambda: centre.state_of(talking) == "offline")
    assert centre.assignment(other)["state"] == "waiting"


def test_who_joins_a_conversation_is_noted(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second", state="paused")
    contact = centre.call()
    centre.serve(first, contact)
    do(centre, contact, "conference", {"agent": second})
    do(centre, contact, "conference", {"participant": "a technician"})
    assert centre.assignment(contact)["agent"] == first
    centre.system.post(f"/v1/contacts/{contact}/conference", {}).problem(422)


# ---- callbacks


def test_a_callback_keeps_its_place_and_is_dialled_when_its_turn_comes(centre: Centre) -> None:
    policy(centre, ROUND_THE_CLOCK)
    setting(centre, policy=centre.name)
    early = centre.call()
    assert centre.assignment(early)["callback_offered"] is True
    do(centre, early, "callback", {"number": "030 1234567", "country": "DE"})
    late = centre.call()
    centre.end(early)  # the customer hangs up, and is not forgotten
    agent = centre.agent("only")
    offer = centre.offer(agent)
    assert (offer["contact"], offer["kind"]) == (early, "callback")
    assert NUMBER not in str(offer)
    assert centre.accept(agent, offer)["dial"] == NUMBER, "told when it is to be dialled, not before"
    assert centre.assignment(early)["dial"] == NUMBER
    do(centre, early, "callback/dialled", {"outcome": "connected"})
    assert (centre.assignment(early)["agent"], centre.assignment(early).get("dial")) == (agent, None)
    assert centre.assignment(late)["state"] == "waiting"
    centre.end(early, by="agent")
    eventually(lambda: centre.state_of(agent) == "wrap_up")


def test_a_line_that_is_busy_frees_the_agent_and_is_dialled_again_later(centre: Centre) -> None:
    policy(centre, ROUND_THE_CLOCK)
    setting(centre, policy=centre.name)
    contact = centre.call()
    do(centre, contact, "callback", {"number": NUMBER})
    late = centre.call()
    agent = centre.agent("only")
    centre.serve(agent, contact)
    told = do(centre, contact, "callback/dialled", {"outcome": "busy"})
    assert told["state"] == "callback"
    assert told["callback_at"], "it says when"
    assert centre.offer(agent, late)
    assert centre.assignment(contact)["state"] == "callback"
    assert centre.system.delete(f"/v1/contacts/{contact}/callback").ok()["state"] == "released"
    report = centre.system.get("/v1/reports/callbacks", queue=centre.queue).ok()
    assert NUMBER not in str(report)


def test_a_number_that_cannot_be_called_back_is_refused_and_not_repeated(centre: Centre) -> None:
    contact = centre.call()
    for number in ("12", "+999 1234567", "anonymous", "030 7654321"):
        told = centre.system.post(f"/v1/contacts/{contact}/callback", {"number": number}).problem(422)
        assert number not in str(told)
    assert centre.assignment(contact)["state"] == "waiting"


# ---- hours


def test_an_emergency_closing_is_one_call_and_tells_whoever_waits(centre: Centre) -> None:
    waiting = centre.call()
    poll = centre.wait_for_agent(waiting)
    message = {"en": "The building is being evacuated.", "zh": "大楼正在疏散。"}
    closure = {"kind": "emergency", "queues": [centre.queue], "message": message, "reason": "fire alarm", "minutes": 30}
    made = centre.system.post("/v1/closures", closure).ok()
    told = poll.result(SOON)
    assert (told["state"], told["message"]) == ("closed", message)
    late = centre.call()
    told = centre.wait_for_agent(late).result(SOON)
    assert (told["state"], told["message"]) == ("closed", message)
    assert made["id"] in [one["id"] for one in centre.system.get("/v1/closures").ok()["closures"]]
    agent = centre.agent("only")
    assert not centre.offers(agent)
    ended = centre.system.delete(f"/v1/closures/{made['id']}").ok()
    assert ended["ended_by"]
    assert centre.offer(agent, centre.call()), "open again, at once"


def test_a_calendar_closes_its_queues_and_says_when_they_open(centre: Centre) -> None:
    shut = {"zone": "UTC", "weekly": {"mon-sun": []}, "messages": {"hours": {"en": "We are closed."}}}
    centre.system.put(f"/v1/calendars/{centre.name}", shut).ok()
    setting(centre, calendar=centre.name)
    told = centre.wait_for_agent(centre.call()).result(SOON)
    assert (told["state"], told["message"]) == ("closed", {"en": "We are closed."})
    centre.system.put(f"/v1/calendars/{centre.name}", {"zone": "UTC", "weekly": "always"}).ok()
    assert centre.assignment(centre.call())["state"] == "waiting"
    assert "zone" in centre.system.put(f"/v1/calendars/{centre.name}", {"zone": "Mars", "weekly": "always"}).problem(422)["errors"]


# ---- policies


def test_a_shadow_is_compared_beside_the_policy_and_changes_nobody(centre: Centre) -> None:
    path = f"/v1/policies/{centre.name}/shadow"
    assert centre.system.put(path, "bound_seconds: 60\n").problem(404)
    policy(centre, "bound_seconds: 600\n")
    setting(centre, policy=centre.name)
    assert centre.system.get(path).problem(404)
    assert "line 1" in centre.system.put(path, "bound: 60\n").problem(422)["detail"]
    assert centre.system.put(path, "bound_seconds: 60\n").ok()["compared_at"] is None
    compared = eventually(lambda: (told := centre.system.get(path).ok())["compared_at"] and told, within=60)
    assert compared["document"] == "bound_seconds: 60\n"
    assert compared["figures"] or compared["problem"]  # by a process of its own
    assert centre.system.get(f"/v1/policies/{centre.name}").ok()["document"] == "bound_seconds: 600\n"
    centre.system.delete(path).ok()
    assert centre.system.get(path).problem(404)


def test_a_policy_decides_who_comes_first_until_it_is_rolled_back(centre: Centre) -> None:
    policy(centre, "bound_seconds: 600\n")
    setting(centre, policy=centre.name)
    segments = 'segments: [{name: business, when: tier == "business", weight: 5, head_start_seconds: 300}]\n'
    tried = policy(centre, segments, dry_run=True)
    assert tried["segments"]["business"] == 0
    assert centre.system.get(f"/v1/policies/{centre.name}").ok()["version"] == 1, "a dry run changes nothing"
    assert policy(centre, segments, note="business first")["version"] == 2
    plain, business = centre.call(), centre.call(facts={"tier": "business"})
    agent = centre.agent("only")
    centre.serve(agent, business)
    centre.end(business)
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    assert centre.system.post(f"/v1/policies/{centre.name}/rollback").ok()["version"] == 1
    other = centre.call(facts={"tier": "business"})
    centre.state(agent, "available")
    assert centre.offer(agent)["contact"] == plain, "first come, first served again"
    assert centre.assignment(other)["state"] == "waiting"
    changes = centre.system.get(f"/v1/policies/{centre.name}/diff", to=2).ok()["changes"]
    assert any("segments" in change["path"] for change in changes)
    steps = centre.system.get(f"/v1/policies/{centre.name}/versions").ok()["history"]
    assert "business first" in [step["note"] for step in steps]


def test_a_policy_that_makes_no_sense_is_refused_with_its_line(centre: Centre) -> None:
    told = centre.system.put(f"/v1/policies/{centre.name}", "bound_seconds: 60\nsegments: [{name: x, when: tier ==, weight: 2}]\n").problem(
        422
    )
    assert "line 2" in told["detail"]
    centre.system.get(f"/v1/policies/{centre.name}").problem(404)


def test_the_directory_and_the_calls_number_put_a_customer_into_their_segment(centre: Centre) -> None:
    policy(centre, 'segments: [{name: business, when: tier == "business", weight: 5, head_start_seconds: 300}]\n')
    setting(centre, policy=centre.name)
    number = f"+4930{abs(hash(centre.name)) % 10**7:07d}"
    centre.system.put(f"/v1/customers/{centre.name}", {"tier": "business", "numbers": [number]}).ok()
    stranger, customer = centre.call(), centre.call(caller=number)
    agent = centre.agent("only")
    offer = centre.offer(agent)
    assert (offer["contact"], offer["customer"]) == (customer, centre.name)
    assert centre.assignment(stranger)["state"] == "waiting"
    assert number not in str(offer)


# ---- agents


def test_a_certificate_that_lapses_stops_offers_at_once(centre: Centre) -> None:
    agent = centre.agent("only")
    path = f"/v1/agents/{agent}/certificates/voice"
    centre.system.put(path, {"until": None}).ok()
    contact = centre.call()
    centre.serve(agent, contact)
    centre.system.delete(path).ok()
    assert centre.assignment(contact)["agent"] == agent, "the contact in progress goes on"
    centre.end(contact)
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    centre.state(agent, "available")
    waiting = centre.call()
    poll = centre.wait_for_agent(waiting, wait=1)
    assert poll.result(LONG)["state"] == "waiting"
    assert not centre.offers(agent)
    centre.system.put(path, {"until": "2099-01-01T00:00:00Z"}).ok()
    assert centre.offer(agent, waiting)


def test_a_learner_gets_as_many_contacts_as_the_permit_allows_while_the_supervisor_is_there(centre: Centre) -> None:
    learner = centre.agent("learner", channels=["email"])
    supervisor = centre.agent("supervisor", queues=[f"{centre.name}_none"], state="offline")
    permit = {"supervisor": supervisor, "per_day": 1, "until": "2099-01-01T00:00:00Z"}
    centre.system.put(f"/v1/agents/{learner}/permits/voice", permit).ok()
    contact = centre.call()
    assert not centre.offers(learner), "nobody is there to help"
    centre.state(supervisor, "available")
    centre.serve(learner, contact)
    centre.end(contact)
    eventually(lambda: centre.state_of(learner) == "wrap_up")
    centre.state(learner, "available")
    assert centre.wait_for_agent(centre.call(), wait=0.5).result(LONG)["state"] == "waiting", "one a day"


def test_the_newest_sign_in_holds_and_the_old_one_is_told(centre: Centre) -> None:
    agent = centre.agent("only", state="offline")
    centre.state(agent, "available", session="desk")
    centre.state(agent, "available", session="home")
    contact = centre.call()
    offer = centre.offer(agent, contact)
    centre.system.get(f"/v1/agents/{agent}/offers", session="desk").problem(409)
    centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent, "session": "desk"}).problem(409)
    centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent, "session": "home"}).ok()


def test_a_matter_in_writing_gives_its_capacity_back_while_it_is_pending(system: System, name: str) -> None:
    centre = Centre(system, name, channel="email")
    agent = centre.agent("only", channels=["email"])
    matter = centre.call(channel="email", thread="m1")
    centre.serve(agent, matter)
    (due,) = centre.system.get("/v1/reports/matters", queue=centre.queue).ok()["matters"]
    assert (due["owner"], due["late"], due["replies"]) == (agent, False, 0)
    assert due["reply_due_at"]
    replied = do(centre, matter, "reply", {"agent": agent})
    assert (replied["replies"], replied["reply_due_at"], replied["call_suggested"]) == (1, None, False)
    assert do(centre, matter, "pending")["state"] == "pending"
    eventually(lambda: centre.state_of(agent) == "available")
    other = centre.call(channel="email")
    centre.serve(agent, other)
    centre.end(other)
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    centre.state(agent, "available")
    do(centre, matter, "resume")
    centre.accept(agent, centre.offer(agent, matter))
    centre.end(matter, by="agent")
    eventually(lambda: centre.state_of(agent) == "wrap_up")


# ---- what is asked and noted


def test_a_policy_that_names_a_queue_that_does_not_exist_is_refused(centre: Centre) -> None:
    refused = centre.system.put(f"/v1/policies/{centre.name}", "overflow: [{after_seconds: 60, to: nowhere}]")
    assert "nowhere" in refused.problem(422)["detail"]


def test_a_decision_is_told_in_words_that_name_who_was_left_out_and_why(centre: Centre) -> None:
    chosen, untrained = centre.agent("chosen"), centre.agent("untrained", level=1)
    uncertified = centre.agent("uncertified", channels=["chat"])
    contact = centre.call()
    assert centre.offer(chosen, contact)
    (decision,) = centre.system.get(f"/v1/contacts/{contact}/decisions").ok()["decisions"]
    words = " ".join(decision["words"]["en"])
    assert decision["agent"] == chosen
    assert chosen in words
    assert decision["words"]["zh"]
    for agent, named in ((untrained, "zh"), (uncertified, "voice")):
        asked = centre.system.get(f"/v1/contacts/{contact}/decisions", agent=agent).ok()["decisions"][0]["asked_about"]
        assert asked["agent"] == agent
        assert named in str(asked["words"]["en"]) + str(asked["reason"])
    centre.system.get(f"/v1/contacts/{centre.call()}/decisions").problem(404)


def test_a_wrap_up_chooses_from_the_queues_tree(centre: Centre) -> None:
    sale = {"code": "sale", "label": LABEL, "resolved": "yes", "requires_amount": True}
    tree = {"nodes": [sale, {"code": "question", "label": {"en": "Question"}, "resolved": None}]}
    centre.system.put(f"/v1/dispositions/{centre.name}", tree).ok()
    setting(centre, dispositions=centre.name)
    agent = centre.agent("only")
    contact = centre.call()
    centre.serve(agent, contact)
    centre.end(contact)
    eventually(lambda: centre.state_of(agent) == "wrap_up")

    def wrap_up(**disposition: Any) -> Any:
        return centre.system.post(f"/v1/contacts/{contact}/wrap-up", {"agent": agent, "disposition": disposition})

    assert "no code" in wrap_up(code="nonsense").problem(422)["detail"]
    assert "amount" in wrap_up(code="sale").problem(422)["detail"]
    assert centre.state_of(agent) == "wrap_up", "what is refused ends nothing"
    wrap_up(code="sale", amount=129.9, currency="EUR").ok()
    assert centre.state_of(agent) == "available"
    noted = centre.system.sql("routing", "select disposition from contact where id = :id", id=contact)[0][0]
    assert "129.9" in str(noted) and "sale" in str(noted)


# ---- lists


def test_lists_come_page_by_page(centre: Centre) -> None:
    mine = [centre.agent(who, state="offline") for who in ("a", "b", "c")]
    seen: list[str] = []
    cursor = None
    while True:
        page = centre.system.get("/v1/agents", limit=2, cursor=cursor).ok()
        assert len(page["items"]) <= 2
        seen += [agent["id"] for agent in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(set(seen))
    assert set(mine) <= set(seen)
    assert centre.queue in [queue["name"] for queue in centre.system.get("/v1/queues", limit=1000).ok()["items"]]
