"""We decide who answers: from a dialplan's question to the agent's address, and whatever may come between."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.centre import LONG, Centre, answer_on
from tests.system import System, eventually

SOON = 4.0
"""Generous for "within a second", and less than the 5 s after which a poll would look again by itself."""


@pytest.fixture
def centre(system: System, name: str) -> Centre:
    return Centre(system, name)


def test_the_longest_idle_agent_with_the_skills_is_offered_and_the_dialplan_learns_whom_to_dial(centre: Centre) -> None:
    centre.agent("unskilled", level=1)
    centre.agent("of_another_queue", queues=["elsewhere"])
    centre.agent("of_another_channel", channels=["chat"])
    centre.agent("uncertified", channels=[])
    centre.agent("paused", state="paused")
    centre.agent("signed_out", state="offline")
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    poll = centre.wait_for_agent(contact)
    offer = centre.offer(first, contact)
    assert centre.state_of(second) == "available"
    assert centre.leg(contact)["ringing"] == [f"first {centre.name}"]
    assert not poll.done()
    centre.accept(first, offer)
    assert poll.result(LONG) == {
        "contact": contact, "state": "assigned", "queue": centre.queue, "agent": first, "name": f"first {centre.name}", "address": f"PJSIP/{first}",
    }  # fmt: skip
    assert centre.state_of(first) == "busy"
    assert centre.assignment(contact)["address"] == f"PJSIP/{first}", "asked again, the answer is the same"

    other = centre.call()
    assert centre.offer(second, other), "the first is busy"


def test_the_agent_who_has_rested_longest_is_first_again(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    centre.serve(first, contact)
    centre.end(contact)
    eventually(lambda: centre.state_of(first) == "wrap_up")
    centre.state(first, "available")
    assert centre.offer(second, centre.call()), "first has only just become available"


def test_a_contact_brings_skills_of_its_own(centre: Centre) -> None:
    plain, versed = centre.agent("plain"), centre.agent("versed", skills={"zh": 2, "tax": 4})
    contact = centre.call(required_skills={"tax": 3})
    assert centre.offer(versed, contact)
    assert not centre.offers(plain)


def test_a_declined_contact_goes_to_the_next_agent_and_is_no_miss(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    assert centre.reject(first, centre.offer(first, contact))["state"] == "declined"
    centre.accept(second, centre.offer(second, contact))
    assert centre.assignment(contact)["agent"] == second
    assert centre.misses(first) == 0


def test_an_expired_offer_goes_to_the_next_agent_and_counts_as_a_miss(system: System, name: str) -> None:
    centre = Centre(system, name, offer_seconds=0.4, retry_seconds=60)
    first, second = centre.agent("first"), centre.agent("second", state="paused")
    contact = centre.call()
    assert centre.offer(first, contact)
    eventually(lambda: centre.misses(first) == 1)
    assert centre.leg(contact)["missed"] == {f"first {name}": 1}
    assert centre.figures()["ring_no_answer"] == 1
    system.put(f"/v1/queues/{name}", {"offer_seconds": 60, "required_skills": {"zh": 2}}).ok()
    centre.state(second, "available")
    centre.accept(second, centre.offer(second, contact))
    assert centre.assignment(contact)["agent"] == second


def test_a_hang_up_told_by_the_dialplan_withdraws_the_offer_and_is_no_miss(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    poll = centre.wait_for_agent(contact)
    offer = centre.offer(first, contact)
    centre.end(contact)
    eventually(lambda: not centre.offers(first) and centre.state_of(first) == "available", within=SOON)
    assert poll.result(SOON)["state"] == "abandoned"
    assert centre.misses(first) == 0
    assert "withdrawn" in centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": first}).problem(409)["detail"]
    assert centre.figures()["abandoned"] == 1
    assert centre.offer(first, centre.call()), "it was no fault of theirs: their place among the idle is kept"
    assert centre.state_of(second) == "available"


def test_a_caller_whose_connection_breaks_off_is_offered_to_nobody(centre: Centre) -> None:
    agent = centre.agent("first")
    contact = centre.call()
    with centre.hanging(contact):
        assert centre.offer(agent, contact)
    eventually(lambda: not centre.offers(agent), within=SOON)
    assert centre.state_of(agent) == "available"
    assert centre.misses(agent) == 0
    assert centre.leg(contact)["outcome"] == "waiting"
    assert centre.offer(agent, centre.call()), "the agent serves others meanwhile"


def test_a_caller_who_asks_again_is_back_in_its_place(centre: Centre) -> None:
    early, late = centre.call(), centre.call()
    with centre.hanging(early) as connection:
        assert centre.assignment(early)["state"] == "waiting"
        connection.close()
    # a question is a sign of life, so the state must be read where none is asked
    eventually(lambda: centre.system.sql("routing", "select state from contact where id = :id", id=early)[0][0] == "parked", within=SOON)
    poll = centre.wait_for_agent(early)
    eventually(lambda: centre.system.sql("routing", "select state from contact where id = :id", id=early)[0][0] == "waiting")
    agent = centre.agent("only")
    centre.accept(agent, centre.offer(agent))
    assert poll.result(LONG)["state"] == "assigned", "it came before the other"
    assert centre.assignment(late)["state"] == "waiting"


def test_a_poll_that_ran_out_may_be_asked_again(centre: Centre) -> None:
    contact = centre.call()
    assert centre.wait_for_agent(contact, wait=0.3).result(LONG)["state"] == "waiting"
    agent = centre.agent("only")
    poll = centre.wait_for_agent(contact)
    centre.serve(agent, contact)
    assert poll.result(LONG)["agent"] == agent


def test_the_end_leads_to_wrap_up_and_the_agent_decides_how_long_it_lasts(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call()
    centre.serve(agent, contact)
    centre.end(contact, by="agent")
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    waiting = centre.call()
    assert not centre.offers(agent)
    leg = centre.leg(contact)
    assert (leg["outcome"], leg["ended_by"], leg["agent"]) == ("completed", "agent", f"only {centre.name}")
    assert centre.state(agent, "available", disposition="sold")["state"] in ("available", "offered")
    assert centre.offer(agent, waiting)
    assert centre.system.sql("routing", "select code from contact_outcome where contact = :id", id=contact)[0][0] == "sold"


def test_without_wrap_up_the_agent_is_free_at_once(system: System, name: str) -> None:
    centre = Centre(system, name, wrap_up=False)
    agent = centre.agent("only")
    contact = centre.call()
    centre.serve(agent, contact)
    centre.end(contact)
    eventually(lambda: centre.state_of(agent) == "available")


def test_who_signs_out_during_a_contact_is_not_cut_off(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call()
    centre.serve(agent, contact)
    assert centre.state(agent, "offline")["state"] == "busy"
    centre.end(contact)
    eventually(lambda: centre.state_of(agent) == "offline")


def test_who_pauses_with_an_offer_on_the_table_declines_it(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    centre.offer(first, contact)
    assert centre.state(first, "paused", reason="lunch")["state"] == "paused"
    assert centre.offer(second, contact)


def test_accepting_twice_is_accepting_once(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call()
    offer = centre.offer(agent, contact)
    first, again = centre.accept(agent, offer), centre.accept(agent, offer)
    assert first == again
    assert centre.figures()["answered"] == 1
    centre.system.post(f"/v1/offers/{offer['id']}/reject", {"agent": agent}).problem(409)


def test_nobody_accepts_another_agents_offer(centre: Centre) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    contact = centre.call()
    offer = centre.offer(first, contact)
    answer = centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": second})
    answer.problem(answer.status)
    assert answer.status in (404, 409)
    assert [one["id"] for one in centre.offers(first)] == [offer["id"]]
    centre.accept(first, offer)


def test_a_second_post_of_the_same_call_finds_the_same_contact(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call("7.1")
    assert centre.call("7.1") == contact
    assert centre.contact(f"{centre.name}:7.1") == centre.contact(contact)
    centre.serve(agent, contact)
    assert centre.call("7.1") == contact
    centre.system.settle()
    assert centre.figures()["offered"] == 1
    assert centre.assignment(f"{centre.name}:7.1")["agent"] == agent


def test_a_call_that_the_pbx_announces_is_routed_and_asked_for_by_its_own_id(centre: Centre) -> None:
    agent = centre.agent("only")
    call = f"{int(time.time())}.42"
    told: dict[str, Any] = {"event": "call.arrived", "queue": centre.queue, "callid": call, "linkedid": call, "caller": "+85212345678"}
    receipt = centre.system.post("/v1/telephony/asterisk/dialplan", told | {"at": int(time.time())}, source=centre.name).ok()
    poll = centre.wait_for_agent(f"{centre.name}:{call}")
    centre.serve(agent, receipt["contact"])
    found = poll.result(LONG)
    assert (found["contact"], found["state"], found["address"]) == (receipt["contact"], "assigned", f"PJSIP/{agent}")
    over = {"event": "call.hangup", "callid": call, "linkedid": call, "at": int(time.time())}
    centre.system.post("/v1/telephony/asterisk/dialplan", over, source=centre.name).ok()
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    assert centre.leg(receipt["contact"])["outcome"] == "completed"
    assert centre.figures()["offered"] == 1


def test_an_agents_own_poll_hears_of_an_offer_at_once(centre: Centre) -> None:
    agent = centre.agent("only")
    waiting = centre.pool.submit(lambda: centre.system.get(f"/v1/agents/{agent}/offers", wait=LONG).ok()["offers"])
    contact = centre.call()
    assert waiting.result(SOON)[0]["contact"] == contact


def test_several_polls_for_one_contact_all_learn_the_answer(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call()
    with centre.hanging(contact) as one, centre.hanging(contact) as two:
        centre.serve(agent, contact)
        assert answer_on(one) == answer_on(two)
        assert centre.assignment(contact)["agent"] == agent


def test_one_contact_for_one_agent_and_one_agent_for_one_contact(centre: Centre) -> None:
    agents = [centre.agent(f"a{number}") for number in range(6)]
    contacts = list(centre.pool.map(lambda _: centre.call(), range(6)))
    served = [centre.offer(agent)["contact"] for agent in agents]
    assert sorted(served) == sorted(contacts)


# ---- what is never routed


def test_a_call_into_an_observed_queue_is_reported_and_never_offered(system: System, name: str) -> None:
    centre = Centre(system, name, mode="observed", required_skills={})
    agent = centre.agent("only")
    contact = centre.call()
    assert centre.assignment(contact)["state"] == "observed", "so the dialplan goes on with the PBX's own queue at once"
    assert centre.wait_for_agent(contact).result(SOON)["state"] == "observed"
    system.settle()
    assert not centre.offers(agent)
    assert centre.figures()["waiting"] == 1


def test_a_queue_nobody_has_defined_is_observed(system: System, name: str) -> None:
    contact = system.post("/v1/contacts", {"queue": f"{name}_unknown", "source": name}).ok()["contact"]
    system.settle()
    assert system.post(f"/v1/contacts/{contact}/assignment", wait=10).ok()["state"] == "observed"


def test_an_old_arrival_into_a_routed_queue_is_in_the_report_and_offered_to_nobody(centre: Centre) -> None:
    agent = centre.agent("only")
    hour_ago = int(time.time()) - 3600
    lines = f"{hour_ago}|1.1|{centre.queue}|NONE|ENTERQUEUE||1|1\n{hour_ago}|1.2|{centre.queue}|NONE|ENTERQUEUE||1|2\n"
    lines += f"{hour_ago + 9}|1.2|{centre.queue}|NONE|ABANDON|2|2|9\n"
    centre.system.post("/v1/telephony/asterisk/queue-log", lines, source=centre.name).ok()
    late = {"event": "call.arrived", "queue": centre.queue, "callid": "1.3", "at": hour_ago}
    centre.system.post("/v1/telephony/asterisk/dialplan", late, source=centre.name).ok()
    centre.system.settle()
    assert {name: centre.figures()[name] for name in ("offered", "waiting", "abandoned")} == {"offered": 3, "waiting": 2, "abandoned": 1}
    assert not centre.offers(agent)
    assert centre.state_of(agent) == "available"
    assert centre.assignment(f"{centre.name}:1.1")["state"] == "observed"
    assert centre.system.sql("routing", "select count(*) from offer where agent = :agent", agent=agent)[0][0] == 0


def test_late_news_of_a_contact_that_is_over_changes_nothing_live(centre: Centre) -> None:
    agent = centre.agent("only")
    contact = centre.call("9.1")
    centre.serve(agent, contact)
    centre.end(contact)
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    centre.state(agent, "available")
    now = int(time.time())
    for told in ({"event": "call.arrived", "queue": centre.queue, "callid": "9.1", "at": now - 2},
                 {"event": "call.hangup", "callid": "9.1", "at": now}):  # fmt: skip
        centre.system.post("/v1/telephony/asterisk/dialplan", told, source=centre.name).ok()
    centre.system.settle()
    assert centre.state_of(agent) == "available"
    assert not centre.offers(agent)
    assert centre.figures()["offered"] == 1


def test_a_contact_nobody_knows_is_a_404_at_once(system: System, name: str) -> None:
    for reference in (f"{name}:1.1", "01a20084-8aa9-78ba-9740-3b5b66c90165"):
        system.post(f"/v1/contacts/{reference}/assignment", wait=20).problem(404)
        system.post(f"/v1/contacts/{reference}/end", {}).problem(404)
        system.get(f"/v1/contacts/{reference}").problem(404)
    system.post("/v1/offers/01a20084-8aa9-78ba-9740-3b5b66c90165/accept", {"agent": "nobody"}).problem(404)
    system.put(f"/v1/agents/{name}/state", {"state": "available"}).problem(404)
