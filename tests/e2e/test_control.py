"""`answerline bridge asterisk-control` and `asterisk-control-ari` between a running Answerline and an Asterisk that speaks AMI, or ARI: who is rung,
connected and let go. What is not said of one of the two holds for both."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.gateway.bridges import controller_ami, controller_ari
from services.gateway.bridges.asterisk_ami import Manager
from services.gateway.bridges.asterisk_ari import Rest
from services.gateway.bridges.controller import LEG
from services.gateway.bridges.kernel import Pauses, Where
from tests.e2e.centre import LONG, Centre
from tests.system import System, eventually
from tests.unit.gateway.asterisk_peers import Exchange, RestExchange

Pbx = Exchange | RestExchange
KINDS = {"ami": Exchange, "ari": RestExchange}
_calls = itertools.count(1)


@contextmanager
def controlled(pbx: Pbx, gateway: Where) -> Iterator[None]:
    controller: controller_ami.Controller | controller_ari.Controller
    if isinstance(pbx, Exchange):
        controller = controller_ami.Controller(Manager("127.0.0.1", pbx.port, "answerline", "s3cret"), gateway)
    else:
        rest = Rest(f"http://127.0.0.1:{pbx.port}", "answerline", "s3cret", pbx.APPLICATION, everything=False)
        controller = controller_ari.Controller(rest, gateway, self_service="help")
    stopped = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stopped, Pauses(0.001, 0.002)))
    thread.start()
    try:
        pbx.listening()
        yield
    finally:
        stopped.set()
        controller.control.stop()
        thread.join(20)
        assert not thread.is_alive()


class Floor:
    """A centre and a PBX; `controlled` puts a controller between them."""

    def __init__(self, system: System, name: str, pbx: Pbx, **queue: object) -> None:
        self.centre, self.pbx = Centre(system, name, **queue), pbx
        host, port = system.address
        self.gateway = Where(f"http://{host}:{port}", system.client("telephony").key or "", name, timeout=LONG)

    def call(self) -> str:
        call = f"{int(time.time())}.{next(_calls)}"
        self.pbx.caller_holds(call, self.centre.queue)
        return call

    def ring(self, agent: str, beyond: int = 0) -> str:
        """The agent's channel, once it rings."""
        return self.pbx.rung(f"PJSIP/{agent}", beyond)

    def leg(self, call: str) -> dict[str, object]:
        return self.centre.leg(f"{self.centre.name}:{call}")


@pytest.fixture(params=KINDS)
def pbx(request: pytest.FixtureRequest) -> Iterator[Pbx]:
    with KINDS[request.param]() as pbx:
        yield pbx


@pytest.fixture
def floor(system: System, name: str, pbx: Pbx) -> Iterator[Floor]:
    floor = Floor(system, name, pbx)
    with controlled(pbx, floor.gateway):
        yield floor


def test_the_agents_telephone_rings_and_whoever_picks_up_has_the_caller(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    assert leg.startswith(LEG)
    assert floor.centre.state_of(agent) == "offered"
    floor.pbx.picks_up(leg)
    floor.pbx.joined(call, leg)
    assert floor.centre.state_of(agent) == "busy"
    floor.pbx.agent_parts(call, leg, floor.centre.queue)
    eventually(lambda: floor.centre.state_of(agent) == "wrap_up")
    assert (floor.leg(call)["outcome"], floor.leg(call)["ended_by"]) == ("completed", "agent")
    assert floor.pbx.dials() == 1


def test_a_caller_who_hangs_up_in_the_talk_has_ended_it(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.picks_up(leg)
    floor.pbx.joined(call, leg)
    floor.pbx.hangs_up(call)
    floor.pbx.let_go(leg)
    eventually(lambda: floor.centre.state_of(agent) == "wrap_up")
    assert (floor.leg(call)["outcome"], floor.leg(call)["ended_by"]) == ("completed", "caller")


def test_a_caller_who_hangs_up_while_it_rings_stops_the_ringing_and_nobody_missed_anything(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.hangs_up(call)
    floor.pbx.let_go(leg)
    eventually(lambda: floor.centre.state_of(agent) == "available", within=4)
    assert floor.centre.misses(agent) == 0
    assert floor.leg(call)["outcome"] == "abandoned"


@pytest.mark.parametrize(("cause", "reason", "misses"), [("19", "3", 1), ("17", "5", 0), ("20", "0", 0)])
def test_who_does_not_pick_up_is_followed_by_the_next(floor: Floor, cause: str, reason: str, misses: int) -> None:
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    call = floor.call()
    floor.pbx.does_not_pick_up(floor.ring(first), cause, reason)
    leg = floor.ring(second)
    floor.pbx.picks_up(leg)
    floor.pbx.joined(call, leg)
    assert floor.centre.misses(first) == misses
    assert floor.centre.state_of(second) == "busy"


def test_who_rejects_in_a_program_is_rung_no_longer(floor: Floor) -> None:
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    floor.call()
    leg = floor.ring(first)
    floor.centre.reject(first, floor.centre.offer(first))
    floor.pbx.let_go(leg)
    floor.ring(second)


def test_who_accepts_in_a_program_is_connected_when_their_telephone_is_picked_up(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.centre.accept(agent, floor.centre.offer(agent))
    floor.pbx.picks_up(leg)
    floor.pbx.joined(call, leg)
    assert floor.pbx.dials() == 1


def test_after_a_break_nobody_is_dialled_twice(floor: Floor) -> None:
    agent, other = floor.centre.agent("only"), floor.centre.agent("other", state="paused")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.breaks_off()
    floor.pbx.picks_up(leg)
    floor.pbx.joined(call, leg)
    assert floor.pbx.dials() == 1
    assert floor.centre.state_of(other) == "paused"


def test_who_hung_up_in_a_break_is_known_after_it(floor: Floor) -> None:
    """Both the caller while it rang and the agent while they talked."""
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    talking = floor.call()
    leg = floor.ring(first)
    floor.pbx.picks_up(leg)
    floor.pbx.joined(talking, leg)
    floor.pbx.bridged(talking, leg)
    leaving = floor.call()
    other = floor.ring(second)
    floor.pbx.unheard(leaving)
    floor.pbx.unheard(leg)
    floor.pbx.breaks_off()
    floor.pbx.let_go(other)
    eventually(lambda: floor.leg(leaving)["outcome"] == "abandoned")
    eventually(lambda: (floor.leg(talking)["outcome"], floor.leg(talking)["ended_by"]) == ("completed", "agent"))
    assert floor.pbx.dials() == 2


def test_whom_the_pbx_took_back_in_a_break_is_not_rung_for_and_not_pulled_out_of_its_queue(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.takes_back(call, floor.centre.queue, heard=False)
    floor.pbx.breaks_off()
    floor.pbx.let_go(leg)
    eventually(lambda: not floor.centre.offers(agent))
    assert floor.centre.misses(agent) == 0
    assert floor.pbx.dials() == 1


def test_another_controller_goes_on_where_the_first_was_killed(system: System, name: str, pbx: Pbx) -> None:
    floor = Floor(system, name, pbx)
    ringing, talking = floor.centre.agent("ringing"), floor.centre.agent("talking")
    with controlled(pbx, floor.gateway):
        call = floor.call()
        leg = floor.ring(ringing)
        in_talk = floor.call()
        other = floor.ring(talking)
        pbx.picks_up(other)
        pbx.joined(in_talk, other)
    pbx.bridged(in_talk, other)
    seen = len(pbx.requests)
    if isinstance(pbx, Exchange):
        pbx.channels[leg] |= {
            "ChannelState": "6"
        }  # picked up meanwhile; ARI hangs up whoever picks up for an application that nobody hears
    with controlled(pbx, floor.gateway):
        if isinstance(pbx, RestExchange):
            pbx.wait_for("POST /channels", beyond=seen, channelId=leg)
            pbx.picks_up(leg)
        pbx.joined(call, leg, beyond=seen)
        assert len(pbx.channels) == 4
        eventually(lambda: floor.centre.state_of(ringing) == "busy")
        pbx.agent_parts(in_talk, other, floor.centre.queue)
        eventually(lambda: floor.centre.state_of(talking) == "wrap_up")
        assert floor.leg(in_talk)["ended_by"] == "agent"


def test_whom_the_pbx_took_back_is_not_rung_for_any_longer(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.takes_back(call, floor.centre.queue)
    floor.pbx.let_go(leg)
    eventually(lambda: not floor.centre.offers(agent))
    assert floor.centre.misses(agent) == 0


def test_an_observed_queue_is_left_to_the_pbx(system: System, name: str, pbx: Pbx) -> None:
    floor = Floor(system, name, pbx, mode="observed", required_skills={})
    with controlled(pbx, floor.gateway):
        pbx.sent_back(floor.call())


def test_without_answerline_the_pbx_has_its_callers_back(name: str, pbx: Pbx) -> None:
    with controlled(pbx, Where("http://127.0.0.1:9", "al_x", name)):
        pbx.caller_holds("1.1", name)
        pbx.sent_back("1.1")
        assert not [one for one in pbx.requests if one.get("Variable", one.get("variable")) in ("ANSWERLINE_BEAT", "TIMEOUT(absolute)")]


# ---- as AMI has it


@pytest.mark.parametrize("pbx", ["ami"], indirect=True)
def test_the_agent_is_rung_with_the_callers_number(floor: Floor) -> None:
    floor.centre.agent("only")
    floor.call()
    asked = floor.pbx.wait_for("Originate")
    told = {"Context": "answerline-agent", "Async": "true", "CallerID": "<+85221234567>"}
    assert told.items() <= asked.items()


@pytest.mark.parametrize("pbx", ["ami"], indirect=True)
def test_who_picked_up_in_a_break_is_connected_after_it(floor: Floor) -> None:
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    floor.pbx.channels[leg] |= {"ChannelState": "6"}
    floor.pbx.breaks_off()
    floor.pbx.joined(call, leg)
    assert floor.pbx.dials() == 1


@pytest.mark.parametrize("pbx", ["ami"], indirect=True)
def test_the_heart_beats_for_as_long_as_answerline_answers(floor: Floor) -> None:
    floor.pbx.wait_for("Setvar", Variable="ANSWERLINE_BEAT")
    seen = len(floor.pbx.requests)
    floor.pbx.wait_for("Setvar", beyond=seen, Variable="ANSWERLINE_BEAT")


# ---- as ARI has it


@pytest.fixture
def stasis(system: System, name: str) -> Iterator[tuple[Floor, RestExchange]]:
    with RestExchange() as pbx:
        floor = Floor(system, name, pbx)
        with controlled(pbx, floor.gateway):
            yield floor, pbx


def test_a_caller_is_answered_and_held_with_music_two_seconds_at_a_time(stasis: tuple[Floor, RestExchange]) -> None:
    floor, pbx = stasis
    assert pbx.requests[0]["Action"] == "GET /events"
    assert (pbx.requests[0]["app"], pbx.requests[0]["subscribeAll"]) == ("answerline-control", "false")
    call = floor.call()
    pbx.wait_for(f"POST /channels/{call}/answer")
    pbx.wait_for(f"POST /channels/{call}/moh", mohClass="default")
    for _ in range(2):  # again and again, for as long as Answerline answers
        seen = len(pbx.requests)
        told = pbx.wait_for(f"POST /channels/{call}/variable", beyond=seen, variable="TIMEOUT(absolute)")
        assert 0 < float(told["value"]) < 2
    agent = floor.centre.agent("only")
    asked = pbx.wait_for("POST /channels")
    told = {"app": "answerline-control", "appArgs": f"agent,{call}", "originator": call, "timeout": "20", "callerId": "+85221234567"}
    assert told.items() <= asked.items()
    leg = floor.ring(agent)
    pbx.picks_up(leg)
    pbx.joined(call, leg)
    last = [one["value"] for one in pbx.requests if one["Action"].endswith("/variable") and one["variable"] == "TIMEOUT(absolute)"][-1]
    assert last == "0", "a talk lasts as long as it lasts"
    pbx.hangs_up(leg)
    pbx.sent_on(call, "answered")
    pbx.wait_for(f"DELETE /bridges/answerline-bridge-{call}")


def test_who_waits_hears_their_place_the_wait_and_the_self_service_address(
    stasis: tuple[Floor, RestExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.bridges.controller.FIRST_WORDS_SECONDS", 0.0)
    floor, pbx = stasis
    announce = {"announce": {"every_seconds": 30, "self_service": {"en": "Answers are at help.example.com."}}}
    floor.centre.system.put(f"/v1/policies/{floor.centre.name}", announce).ok()
    floor.centre.system.put(f"/v1/queues/{floor.centre.name}", {"required_skills": {"zh": 2}, "policy": floor.centre.name}).ok()
    pbx.wait_for(f"POST /channels/{floor.call()}/play")
    call = floor.call()
    played = pbx.wait_for(f"POST /channels/{call}/play")
    media = played["media"].split(",")
    assert media[:3] == ["sound:queue-thereare", "number:2", "sound:queue-callswaiting"]
    assert media[-1] == "sound:help"
    order = [one["Action"] for one in pbx.requests if one["Action"].startswith((f"POST /channels/{call}/", f"DELETE /channels/{call}/"))]
    assert order[order.index(f"POST /channels/{call}/play") - 1] == f"DELETE /channels/{call}/moh"
    seen = len(pbx.requests)
    pbx.plays_to_the_end(played)
    pbx.wait_for(f"POST /channels/{call}/moh", beyond=seen)
    assert floor.pbx.count(f"POST /channels/{call}/play") == 1, "told again only when it is time"


def test_an_agent_whose_telephone_cannot_be_rung_is_passed_over(stasis: tuple[Floor, RestExchange]) -> None:
    floor, pbx = stasis
    pbx.unreachable = "first"
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    call = floor.call()
    leg = floor.ring(second)
    pbx.picks_up(leg)
    pbx.joined(call, leg)
    assert floor.centre.misses(first) == 0


def test_an_agent_who_vanishes_at_the_moment_of_connecting_gives_the_caller_back(stasis: tuple[Floor, RestExchange]) -> None:
    floor, pbx = stasis
    first, second = floor.centre.agent("first"), floor.centre.agent("second")
    call = floor.call()
    leg = floor.ring(first)
    pbx.vanishing = leg
    pbx.picks_up(leg)
    other = floor.ring(second)
    pbx.picks_up(other)
    pbx.joined(call, other)
    assert floor.centre.state_of(first) != "busy"
    assert floor.leg(call)["outcome"] == "talking"


def test_a_customer_whom_the_agent_transfers_stays_with_whoever_has_them(stasis: tuple[Floor, RestExchange]) -> None:
    floor, pbx = stasis
    agent = floor.centre.agent("only")
    call = floor.call()
    leg = floor.ring(agent)
    pbx.picks_up(leg)
    pbx.joined(call, leg)
    pbx.transfers(call, leg, "colleague")
    eventually(lambda: floor.centre.state_of(agent) == "wrap_up")
    assert not pbx.count(f"POST /channels/{call}/continue"), "the two talk"
    pbx.hangs_up("colleague")
    pbx.sent_on(call, "answered")


def test_a_closed_queue_is_left_to_the_dialplan(stasis: tuple[Floor, RestExchange]) -> None:
    floor, pbx = stasis
    closure = {"kind": "emergency", "queues": [floor.centre.queue], "message": {"en": "Fire."}, "reason": "fire", "minutes": 30}
    made = floor.centre.system.post("/v1/closures", closure).ok()
    pbx.sent_on(floor.call(), "closed")
    floor.centre.system.delete(f"/v1/closures/{made['id']}")


def test_an_agents_channel_of_which_nobody_knows_is_hung_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.bridges.controller_ari.ORPHAN_SECONDS", 0.0)
    with RestExchange() as pbx:
        pbx.channel(f"{LEG}o9", "Up", "Stasis", f"{pbx.APPLICATION},agent,1.1", arguments="agent,1.1")
        with controlled(pbx, Where("http://127.0.0.1:9", "al_x", name)):
            pbx.let_go(f"{LEG}o9")
