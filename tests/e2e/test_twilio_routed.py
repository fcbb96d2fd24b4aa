"""Twilio asks for each next step of a call that Answerline routes: from the caller's first words to the end, and whatever may come between."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.centre import Centre
from tests.e2e.twilio import BASE, TOKEN, TwilioCall
from tests.system import System, eventually

MUSIC = "https://media.example.com/ten-seconds.mp3?a=1&b=2"


@pytest.fixture
def centre(system: System, name: str) -> Centre:
    system.put(f"/v1/sources/{name}", {"kind": "twilio", "twilio_auth_token": TOKEN}).ok()
    return Centre(system, name)


def calls(centre: Centre, **query: Any) -> TwilioCall:
    return TwilioCall(centre.system, centre.name, centre.queue, **query).begin()


def client(centre: Centre, who: str) -> str:
    return centre.agent(who, address=f"client:{centre.name}_{who}")


def outcome(centre: Centre, call: TwilioCall) -> tuple[str, str | None]:
    centre.system.settle()
    leg = centre.leg(call.contact)
    return leg["outcome"], leg["agent"]


def test_from_music_to_the_agent_and_to_the_end(centre: Centre) -> None:
    call = calls(centre, music=MUSIC)
    assert call.heard == [f"play {MUSIC}"]
    agent = client(centre, "ann")
    assert call.until_it_rings() == f"Client {centre.name}_ann"
    assert call.picked_up()
    assert centre.state_of(agent) == "busy"
    call.dialled("completed", bridged=True)
    assert call.over, "the agent hung up, and there is nothing more to come"
    assert outcome(centre, call) == ("completed", f"ann {centre.name}")
    assert centre.leg(call.contact)["ended_by"] == "agent"
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    call.hang_up()
    assert outcome(centre, call) == ("completed", f"ann {centre.name}"), "the status callback says nothing new"
    assert centre.figures()["offered"] == 1


@pytest.mark.parametrize(
    ("address", "rung"), [("+4930231250", "Number +4930231250"), ("sip:bo@pbx.example.com?a=1&b=2", "Sip sip:bo@pbx.example.com?a=1&b=2")]
)
def test_numbers_and_sip_addresses_are_rung_as_such(centre: Centre, address: str, rung: str) -> None:
    centre.agent("bo", address=address)
    assert calls(centre).until_it_rings() == rung


def test_who_does_not_answer_is_missed_and_who_is_busy_is_not_and_the_next_agent_is_asked(centre: Centre) -> None:
    first, call = client(centre, "first"), calls(centre)
    assert call.until_it_rings() == f"Client {centre.name}_first"
    centre.state(client(centre, "second"), "available")
    call.dialled("no-answer")
    assert call.until_it_rings() == f"Client {centre.name}_second"
    eventually(lambda: centre.misses(first) == 1)
    third = client(centre, "third")
    call.dialled("busy")
    assert call.until_it_rings() == f"Client {centre.name}_third"
    assert call.picked_up()
    assert centre.state_of(third) == "busy"
    assert centre.misses(f"{centre.name}_second") == 0
    call.dialled("completed", bridged=True)
    assert outcome(centre, call) == ("completed", f"third {centre.name}")


def test_who_has_taken_the_call_in_a_program_is_rung_and_when_they_do_not_pick_up_somebody_else_is(centre: Centre) -> None:
    first, call = client(centre, "first"), calls(centre)
    centre.accept(first, centre.offer(first))
    assert call.until_it_rings() == f"Client {centre.name}_first"
    client(centre, "second")
    call.dialled("no-answer")
    assert call.until_it_rings() == f"Client {centre.name}_second"
    assert call.picked_up()


def test_an_offer_that_is_no_longer_theirs_connects_nobody_and_the_caller_waits_on(centre: Centre) -> None:
    agent, call = client(centre, "late"), calls(centre)
    call.until_it_rings()
    centre.state(agent, "paused")
    assert not call.picked_up()
    call.dialled("completed", bridged=False)
    assert call.heard[-1] == "pause"
    assert call.next
    client(centre, "next")
    assert call.until_it_rings() == f"Client {centre.name}_next"


@pytest.mark.parametrize("profile", [{"address": ""}, {}])
def test_an_agent_whom_twilio_cannot_ring_is_passed_over(centre: Centre, profile: dict[str, str]) -> None:
    unreachable = centre.agent("unreachable", **profile)
    call = calls(centre)
    centre.offer(unreachable)
    client(centre, "reachable")
    assert call.until_it_rings() == f"Client {centre.name}_reachable"


def test_the_caller_hangs_up_while_waiting(centre: Centre) -> None:
    agent, call = client(centre, "ann"), calls(centre)
    centre.offer(agent)
    call.hang_up()
    eventually(lambda: not centre.offers(agent) and centre.state_of(agent) == "available")
    assert outcome(centre, call) == ("abandoned", None)
    assert centre.misses(agent) == 0


def test_the_caller_hangs_up_while_the_agents_telephone_rings(centre: Centre) -> None:
    agent, call = client(centre, "ann"), calls(centre)
    call.until_it_rings()
    call.dialled("canceled", caller_gone=True)
    call.hang_up()
    assert outcome(centre, call) == ("abandoned", None)
    eventually(lambda: centre.state_of(agent) == "available")
    assert centre.misses(agent) == 0


def test_the_caller_hangs_up_after_talking(centre: Centre) -> None:
    client(centre, "ann")
    call = calls(centre)
    call.until_it_rings()
    assert call.picked_up()
    call.hang_up()
    call.over = False
    call.dialled("completed", bridged=True, caller_gone=True)
    assert outcome(centre, call) == ("completed", f"ann {centre.name}")


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "en-US: You are next in line. Answers <here> & there."), ("zh-CN", "zh-CN: 下一位就轮到您。 答案在 <这里>。")],
)
def test_place_and_self_service_address_are_said_when_it_is_time(centre: Centre, language: str, said: str) -> None:
    words = {"en": "Answers <here> & there.", "zh": "答案在 <这里>。"}
    centre.system.put(f"/v1/policies/{centre.name}", {"announce": {"every_seconds": 30, "self_service": words}}).ok()
    centre.system.put(f"/v1/queues/{centre.name}", {"mode": "routed", "policy": centre.name}).ok()
    call = calls(centre, language=language)
    assert call.heard == ["pause"], "not before there was some music"
    eventually(lambda: centre.contact(call.contact))
    call.next = re.sub(r"say_at=\d+", "say_at=0", call.next)
    assert call.go_on().heard == ["pause", said, "pause"]
    assert call.go_on().heard[-2:] == ["pause", "pause"], "not again for 30 s"


def test_whom_nobody_is_let_in_for_is_told_so(centre: Centre) -> None:
    closure = {
        "kind": "emergency",
        "queues": [centre.queue],
        "message": {"de": "Feuer.", "en": "Fire & smoke."},
        "reason": "x",
        "minutes": 9,
    }
    centre.system.post("/v1/closures", closure).ok()
    call = calls(centre)
    eventually(lambda: call.over or call.go_on().over)
    assert call.heard[-2:] == ["en-US: Fire & smoke.", "hangup"]


@pytest.mark.parametrize(
    ("fallback", "told"),
    [("sales", "queue sales"), (f"WW{'0' * 32}", f"queue WW{'0' * 32}"), ("https://example.com/q?a=1&b=2", "redirect https://example.com/q?a=1&b=2")],
)  # fmt: skip
def test_a_queue_that_answerline_does_not_route_is_twilios(centre: Centre, fallback: str, told: str) -> None:
    centre.system.put(f"/v1/queues/{centre.queue}", {"mode": "observed"}).ok()
    call = calls(centre, fallback=fallback)
    eventually(lambda: call.heard[-1] == told or call.go_on().heard[-1] == told)


def test_a_call_that_was_never_announced_is_twilios(centre: Centre) -> None:
    call = TwilioCall(centre.system, centre.name, centre.queue)
    call.next = call.where.replace("/route?", "/wait?")
    assert call.go_on().heard == ["queue theirs"]


def test_nobody_but_twilio_asks(centre: Centre) -> None:
    call = TwilioCall(centre.system, centre.name, centre.queue)
    held = call.where.partition("?")[2]
    about = {"route": held, "wait": held, "agent": f"source={centre.name}&agent=a", "dialled": f"{held}&agent=a"}
    for door, query in about.items():
        assert call.post(f"{BASE}{door}?{query}", token="somebody else's").status == 401, door
    nameless = call.post(call.where, CallSid="")
    assert nameless.problem(400)["detail"].startswith("CallSid must")
