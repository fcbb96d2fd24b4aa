"""`answerline bridge asterisk-control` between a running Answerline and an Asterisk that speaks AMI: who is rung, connected and let go."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.gateway.bridges.asterisk_ami import Manager
from services.gateway.bridges.controller import LEG, Gateway
from services.gateway.bridges.controller_ami import Bridge
from services.gateway.bridges.kernel import Pauses
from tests.e2e.centre import Centre
from tests.system import System, eventually
from tests.unit.gateway.asterisk_peers import Exchange

_calls = itertools.count(1)


@contextmanager
def controlled(centre: Centre, pbx: Exchange, key: str) -> Iterator[Bridge]:
    host, port = centre.system.address
    bridge = Bridge(Manager("127.0.0.1", pbx.port, "answerline", "s3cret"), Gateway(f"http://{host}:{port}", key, centre.name))
    stopped = threading.Event()
    thread = threading.Thread(target=bridge.run, args=(stopped, Pauses(0.001, 0.002)))
    thread.start()
    try:
        pbx.wait_for("CoreShowChannels")
        yield bridge
    finally:
        stopped.set()
        bridge.control.stop()
        thread.join(20)
        assert not thread.is_alive()


class Floor:
    """A centre with a PBX and a controller between."""

    def __init__(self, centre: Centre, pbx: Exchange, key: str) -> None:
        self.centre, self.pbx, self.key = centre, pbx, key

    def call(self) -> str:
        call = f"{int(time.time())}.{next(_calls)}"
        self.pbx.caller_holds(call, self.centre.queue)
        return call

    def ring(self, agent: str, beyond: int = 0) -> str:
        """The agent's channel, once it rings."""
        return self.pbx.wait_for("Originate", beyond=beyond, Channel=f"PJSIP/{agent}")["ChannelId"]

    def leg(self, call: str) -> dict[str, object]:
        return self.centre.leg(f"{self.centre.name}:{call}")


@pytest.fixture
def floor(system: System, name: str) -> Iterator[Floor]:
    key = system.client("telephony").key or ""
    centre = Centre(system, name)
    with Exchange() as pbx, controlled(centre, pbx, key):
        yield Floor(centre, pbx, key)


def test_the_agents_telephone_rings_and_whoever_picks_up_has_the_caller(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    assert leg.startswith(LEG)
    asked = floor.pbx.wait_for("Originate")
    assert {name: asked[name] for name in ("Context", "Async", "CallerID")} == {
        "Context": "answerline-agent",
        "Async": "true",
        "CallerID": "<+85221234567>",
    }
    assert floor.centre.state_of(agent) == "offered"
    floor.pbx.picks_up(leg)
    redirect = floor.pbx.wait_for("Redirect", Channel=call)
    assert (redirect["Context"], redirect["Exten"]) == ("answerline", "bridge")
    assert floor.pbx.wait_for("Setvar", Variable="ANSWERLINE_AGENT", Channel=call)["Value"] == floor.pbx.channels[leg]["Channel"]
    assert floor.centre.state_of(agent) == "busy"
    floor.pbx.say(floor.pbx.user_event("AnswerlineDone", call, floor.centre.queue))
    floor.pbx.hangs_up(leg)
    eventually(lambda: floor.centre.state_of(agent) == "wrap_up")
    assert (floor.leg(call)["outcome"], floor.leg(call)["ended_by"]) == ("completed", "agent")
    assert floor.pbx.count("Originate") == 1


def test_a_caller_who_hangs_up_while_it_rings_stops_the_ringing_and_nobody_missed_anything(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.hangs_up(call)
    floor.pbx.wait_for("Hangup", Channel=leg)
    eventually(lambda: floor.centre.state_of(agent) == "available", within=4)
    assert floor.centre.misses(agent) == 0
    assert floor.leg(call)["outcome"] == "abandoned"


@pytest.mark.parametrize(("cause", "reason", "misses"), [("19", "3", 1), ("17", "5", 0), ("20", "0", 0)])
def test_who_does_not_pick_up_is_followed_by_the_next(floor: Floor, cause: str, reason: str, misses: int) -> None:
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    call = floor.call()
    floor.pbx.does_not_pick_up(floor.ring(first), cause, reason)
    floor.pbx.picks_up(floor.ring(second))
    floor.pbx.wait_for("Redirect", Channel=call, Exten="bridge")
    assert floor.centre.misses(first) == misses
    assert floor.centre.state_of(second) == "busy"


def test_who_rejects_in_a_program_is_rung_no_longer(floor: Floor) -> None:
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    floor.call()
    leg = floor.ring(first)
    floor.centre.reject(first, floor.centre.offer(first))
    floor.pbx.wait_for("Hangup", Channel=leg)
    floor.ring(second)


def test_who_accepts_in_a_program_is_connected_when_their_telephone_is_picked_up(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.centre.accept(agent, floor.centre.offer(agent))
    floor.pbx.picks_up(leg)
    floor.pbx.wait_for("Redirect", Channel=call, Exten="bridge")
    assert floor.pbx.count("Originate") == 1


def test_after_a_break_of_the_manager_interface_nobody_is_dialled_twice(floor: Floor) -> None:
    agent, other = floor.centre.agent("only"), floor.centre.agent("other", state="paused")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.breaks_off()
    floor.pbx.picks_up(leg)
    floor.pbx.wait_for("Redirect", Channel=call, Exten="bridge")
    assert floor.pbx.count("Originate") == 1
    assert floor.centre.state_of(other) == "paused"


def test_what_happened_in_a_break_is_found_out_after_it(floor: Floor) -> None:
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    staying, leaving = floor.call(), ""
    leg = floor.ring(first)
    leaving = floor.call()
    other = floor.ring(second)
    del floor.pbx.channels[leaving]  # hung up while nobody listened
    floor.pbx.channels[leg] |= {"ChannelState": "6"}  # and this one picked up
    floor.pbx.breaks_off()
    floor.pbx.wait_for("Redirect", Channel=staying, Exten="bridge")
    floor.pbx.wait_for("Hangup", Channel=other)
    eventually(lambda: floor.leg(leaving)["outcome"] == "abandoned")
    assert floor.pbx.count("Originate") == 2


def test_another_controller_goes_on_where_the_first_was_killed(system: System, name: str) -> None:
    key = system.client("telephony").key or ""
    centre = Centre(system, name)
    agent = centre.agent("only")
    with Exchange() as pbx:
        floor = Floor(centre, pbx, key)
        with controlled(centre, pbx, key):
            call = floor.call()
            leg = floor.ring(agent)
        seen = len(pbx.requests)
        pbx.channels[leg] |= {"ChannelState": "6"}
        with controlled(centre, pbx, key):
            pbx.wait_for("Redirect", beyond=seen, Channel=call, Exten="bridge")
            assert pbx.count("Originate") == 1
            assert centre.state_of(agent) == "busy"


def test_whom_the_pbx_took_back_is_not_rung_for_any_longer(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.say(floor.pbx.user_event("AnswerlineFallback", call, floor.centre.queue))
    floor.pbx.wait_for("Hangup", Channel=leg)
    eventually(lambda: not floor.centre.offers(agent))
    assert floor.centre.misses(agent) == 0


def test_the_heart_beats_for_as_long_as_answerline_answers(floor: Floor) -> None:
    floor.pbx.wait_for("Setvar", Variable="ANSWERLINE_BEAT")
    seen = len(floor.pbx.requests)
    floor.pbx.wait_for("Setvar", beyond=seen, Variable="ANSWERLINE_BEAT")


def test_an_observed_queue_is_left_to_the_pbx(system: System, name: str) -> None:
    key = system.client("telephony").key or ""
    centre = Centre(system, name, mode="observed", required_skills={})
    with Exchange() as pbx, controlled(centre, pbx, key):
        call = Floor(centre, pbx, key).call()
        pbx.wait_for("Redirect", Channel=call, Exten="release")


def test_without_answerline_the_pbx_has_its_callers_back_and_the_heart_stands_still(name: str) -> None:
    with Exchange() as pbx:
        bridge = Bridge(Manager("127.0.0.1", pbx.port, "answerline", "s3cret"), Gateway("http://127.0.0.1:9", "al_x", name))
        stopped = threading.Event()
        thread = threading.Thread(target=bridge.run, args=(stopped, Pauses(0.001, 0.002)))
        thread.start()
        pbx.wait_for("CoreShowChannels")
        pbx.caller_holds("1.1", name)
        pbx.wait_for("Redirect", Channel="1.1", Exten="release")
        assert not [one for one in pbx.requests if one.get("Variable") == "ANSWERLINE_BEAT"]
        stopped.set()
        thread.join(20)
