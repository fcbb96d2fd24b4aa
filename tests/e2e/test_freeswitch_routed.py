"""FreeSWITCH's mod_httapi asks for each next step of a call that Answerline routes."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.centre import Centre
from tests.e2e.freeswitch import FOLDER, PROFILE, FreeswitchCall
from tests.system import System, eventually


@pytest.fixture
def centre(system: System, name: str) -> Centre:
    return Centre(system, name)


def calls(centre: Centre, **query: Any) -> FreeswitchCall:
    return FreeswitchCall(centre.system, centre.name, centre.queue, **query).go_on()


def user(centre: Centre, who: str) -> str:
    return centre.agent(who, address=f"user/{centre.name}_{who}@pbx")


def outcome(centre: Centre, call: FreeswitchCall) -> tuple[str, str | None]:
    centre.system.settle()
    leg = centre.leg(call.contact)
    return leg["outcome"], leg["agent"]


def test_from_music_to_the_agent_and_to_the_end(centre: Centre) -> None:
    call = calls(centre)
    assert call.heard == ["play local_stream://moh"]
    agent = user(centre, "ann")
    assert call.until_it_rings() == f"user/{centre.name}_ann@pbx"
    assert 5 <= int(call.variables["call_timeout"]) <= 60
    assert call.picked_up()
    assert centre.state_of(agent) == "busy"
    assert call.bridged("SUCCESS").left == "hangup"
    call.hang_up()
    assert outcome(centre, call) == ("completed", f"ann {centre.name}")
    assert centre.leg(call.contact)["ended_by"] == "agent"


def test_an_agent_who_is_free_at_once_is_rung_at_once(centre: Centre) -> None:
    user(centre, "ann")
    call = FreeswitchCall(centre.system, centre.name, centre.queue, wait=5).go_on()
    call.until_it_rings()
    assert call.picked_up()
    assert call.bridged("SUCCESS").left == "hangup"
    assert outcome(centre, call) == ("completed", f"ann {centre.name}")


def test_who_does_not_answer_is_missed_and_who_is_busy_is_not_and_the_next_agent_is_asked(centre: Centre) -> None:
    first, call = user(centre, "first"), calls(centre)
    call.until_it_rings()
    second = user(centre, "second")
    call.bridged("NO_ANSWER")
    assert call.until_it_rings() == f"user/{second}@pbx"
    eventually(lambda: centre.misses(first) == 1)
    third = user(centre, "third")
    call.bridged("USER_BUSY")
    assert call.until_it_rings() == f"user/{third}@pbx"
    assert centre.misses(second) == 0


def test_an_offer_that_is_no_longer_theirs_connects_nobody_and_the_caller_waits_on(centre: Centre) -> None:
    agent, call = user(centre, "late"), calls(centre)
    call.until_it_rings()
    centre.state(agent, "paused")
    assert not call.picked_up()
    call.bridged("CALL_REJECTED")
    assert call.heard[-1] == "play local_stream://moh"
    assert not call.left


def test_the_caller_hangs_up_while_waiting(centre: Centre) -> None:
    agent, call = user(centre, "ann"), calls(centre)
    centre.offer(agent)
    call.hang_up()
    eventually(lambda: not centre.offers(agent) and centre.state_of(agent) == "available")
    assert outcome(centre, call) == ("abandoned", None)
    assert centre.misses(agent) == 0


def test_the_caller_hangs_up_after_talking(centre: Centre) -> None:
    user(centre, "ann")
    call = calls(centre)
    call.until_it_rings()
    assert call.picked_up()
    call.hang_up()
    assert outcome(centre, call) == ("completed", f"ann {centre.name}")
    assert centre.leg(call.contact)["ended_by"] == "caller"


def test_place_is_said_when_it_is_time_by_the_engine_that_the_address_names(centre: Centre) -> None:
    call = calls(centre, language="zh", engine="tts_commandline", voice="zh & co")
    eventually(lambda: centre.contact(call.contact))
    call.params["answerline_say_at"] = "0"
    assert call.go_on().heard[-2:] == ["tts_commandline zh & co: 下一位就轮到您。", "play local_stream://moh"]
    assert call.go_on().heard[-2:] == ["play local_stream://moh"] * 2, "not again for a minute"


def test_a_queue_that_answerline_does_not_route_is_mod_callcenters_and_so_is_its_end(centre: Centre) -> None:
    centre.system.put(f"/v1/queues/{centre.queue}", {"mode": "observed"}).ok()
    call = calls(centre)
    eventually(lambda: call.left or call.go_on().left)
    assert call.left == "dialplan"
    call.hang_up()
    assert outcome(centre, call) == ("waiting", None), "its own events tell of that"


def test_an_address_that_cannot_be_led_on_to_the_agents_channel_is_refused(centre: Centre) -> None:
    call = FreeswitchCall(centre.system, centre.name, centre.queue)
    call.params["httapi_profile"] = "a,b}"
    assert call.go_on().left == "dialplan"
    assert centre.contact(call.contact) is None


def test_the_files_of_the_deployment_fit_each_other() -> None:
    actions = [
        (one.attrib["application"], one.attrib["data"])
        for one in ElementTree.parse(FOLDER / "answerline.xml").iter("action")
        if "data" in one.attrib
    ]
    told = dict(one.split("=", 1) for application, one in actions if application == "set")
    assert told["group_confirm_key"] == "exec"
    assert told["continue_on_fail"] == "true"
    (asked,) = (data for application, data in actions if application == "httapi")
    profile = PROFILE.find("profiles/profile")
    assert profile is not None
    assert f"httapi_profile={profile.attrib['name']}," in asked
    params = {one.attrib["name"]: one.attrib["value"] for one in profile.iter("param")}
    assert asked.partition("}")[2].startswith(params["gateway-url"])
    assert [application for application, _ in actions][-1] == "callcenter"
