"""deploy/asterisk/extensions-answerline.conf, the very file, against a running Answerline: what a caller hears, and whose the call is."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.centre import LONG, Centre
from tests.e2e.dialplan import Caller, evaluate, json_decode, read
from tests.system import System, eventually

FALLBACK_SECONDS = 2.0
_calls = itertools.count(1)


class Phone:
    """A caller in the dialplan, in a thread of their own."""

    def __init__(self, centre: Centre, address: str = "", **caller: object) -> None:
        self.centre = centre
        host, port = centre.system.address
        settings = {
            "ANSWERLINE": address or f"http://{host}:{port}", "ANSWERLINE_KEY": centre.system.key or "", "ANSWERLINE_SOURCE": centre.name,
            "ANSWERLINE_MUSIC": "default", "ANSWERLINE_RING": "20", "ANSWERLINE_SELF_SERVICE": "self-service",
        }  # fmt: skip
        self.call = f"{int(time.time())}.{next(_calls)}"
        self.caller = Caller(settings, self.call, **caller)  # type: ignore[arg-type]
        self.done: Future[str | None] = Future()

    def rings_in(self) -> Phone:
        self.done = self.centre.pool.submit(self.caller.call, "answerline", "route", self.centre.queue)
        return self

    @property
    def contact(self) -> str:
        return f"{self.centre.name}:{self.call}"

    def ends(self) -> str | None:
        return self.done.result(LONG)

    def hears(self, what: str) -> None:
        eventually(lambda: what in self.caller.heard, within=LONG)


@pytest.fixture
def centre(system: System, name: str) -> Centre:
    return Centre(system, name)


def test_the_caller_is_put_through_to_the_agent_who_took_the_call(centre: Centre) -> None:
    agent = centre.agent("only")
    phone = Phone(centre).rings_in()
    centre.accept(agent, centre.offer(agent))
    assert phone.ends() == "answered", "the agent has hung up: the caller's dialplan goes on"
    assert phone.caller.heard == ["music default", f"ringing PJSIP/{agent}"]
    assert (phone.caller.music, phone.caller.handlers) == ("", [])
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    leg = centre.leg(phone.contact)
    assert (leg["outcome"], leg["ended_by"], leg["agent"]) == ("completed", "agent", f"only {centre.name}")


def test_a_caller_who_hangs_up_in_the_talk_has_ended_it(centre: Centre) -> None:
    agent = centre.agent("only")

    def talk(_address: str) -> str:
        phone.caller.hang_up()
        return "ANSWER"

    phone = Phone(centre, dial=talk).rings_in()
    centre.accept(agent, centre.offer(agent))
    assert phone.ends() is None
    eventually(lambda: centre.state_of(agent) == "wrap_up")
    assert centre.leg(phone.contact)["ended_by"] == "caller"


def test_who_waits_hears_their_place_the_wait_and_the_self_service_address_again_and_again(centre: Centre) -> None:
    announce = {
        "announce": {"every_seconds": 30, "self_service": {"en": "Answers are at help.example.com.", "zh": "答案在 help.example.com。"}}
    }
    centre.system.put(f"/v1/policies/{centre.name}", announce).ok()
    centre.system.put(f"/v1/queues/{centre.name}", {"required_skills": {"zh": 2}, "policy": centre.name, "offer_seconds": 60}).ok()
    agent = centre.agent("only")
    centre.serve(agent, centre.call())  # so that a wait can be foreseen
    before = centre.call()
    hour = itertools.count()
    phone = Phone(centre, clock=lambda: time.time() + 10 * next(hour)).rings_in()
    eventually(lambda: phone.caller.heard.count("self-service") >= 2, within=LONG)
    told = centre.system.get(f"/v1/contacts/{phone.contact}/announcement", language="zh-CN").ok()
    assert (told["state"], told["position"], told["language"], told["every_seconds"]) == ("waiting", 2, "zh", 30)
    assert "您前面还有 1 位。" in told["text"]
    assert told["text"].endswith("答案在 help.example.com。")
    assert centre.system.get(f"/v1/contacts/{phone.contact}/announcement").ok()["text"].startswith("There is 1 caller ahead of you.")
    centre.end(before)
    phone.hears("queue-youarenext")
    phone.caller.hang_up()
    assert phone.ends() is None
    heard = phone.caller.heard
    first = heard.index("queue-thereare")
    assert heard[first - 1 : first + 3] == ["music default", "queue-thereare", "2", "queue-callswaiting"]
    assert heard.index("self-service") > first
    assert heard[heard.index("self-service") + 1] == "music default", "the music goes on after each announcement"
    if told.get("estimated_wait_minutes"):
        assert ["queue-holdtime", str(told["estimated_wait_minutes"])] in [heard[at : at + 2] for at in range(len(heard))]


def test_nothing_more_is_announced_once_an_agent_is_asked_and_the_caller_is_not_lost_meanwhile(centre: Centre) -> None:
    """An announcement is longer than the pause after which a caller counts as gone; the dialplan says that it will be back."""
    playing, go_on = threading.Event(), threading.Event()
    hour = itertools.count()

    class Slow(Caller):
        def _do_playback(self, told: str) -> None:
            super()._do_playback(told)
            playing.set()
            assert go_on.wait(LONG)

    phone = Phone(centre)
    settings = phone.caller.globals
    phone.caller = Slow(settings, phone.call, clock=lambda: time.time() + 10 * next(hour))
    phone.rings_in()
    assert playing.wait(LONG)
    agent = centre.agent("only")
    centre.accept(agent, centre.offer(agent))
    go_on.set()
    assert phone.ends() == "answered"
    assert [one for one in phone.caller.heard if one.startswith("queue")] == ["queue-youarenext"]


def test_between_two_requests_nobody_is_given_up(system: System, name: str) -> None:
    """Short requests follow each other: whoever has asked again in time has not gone, though nobody listens at the very moment."""
    centre = Centre(system, name)
    contact = centre.call()
    agent = centre.agent("only")
    offer = centre.offer(agent, contact)
    system.post(f"/v1/contacts/{contact}/assignment", wait=0.05).ok()
    before = time.monotonic()
    asked = 0
    while time.monotonic() - before < 4.5:  # one of the checks after 3 s fell between two requests
        system.post(f"/v1/contacts/{contact}/assignment", wait=0.01).ok()
        asked += 1
        threading.Event().wait(0.2)
    assert asked > 10
    assert [one["id"] for one in centre.offers(agent)] == [offer["id"]]


def test_a_caller_who_hangs_up_while_waiting_is_offered_no_longer_and_nobody_missed_them(centre: Centre) -> None:
    agent = centre.agent("only")
    phone = Phone(centre).rings_in()
    offer = centre.offer(agent)
    phone.caller.hang_up()
    assert phone.ends() is None
    waits = [float(request.partition("wait=")[2]) for request in phone.caller.requests if "wait=" in request]
    assert max(waits) < 1, "a hang-up is heard when a request has returned: this is the longest that an agent is asked in vain"
    eventually(lambda: not centre.offers(agent), within=4)
    assert centre.misses(agent) == 0
    assert centre.leg(phone.contact)["outcome"] == "abandoned"
    assert "withdrawn" in centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent}).problem(409)["detail"]


@pytest.mark.parametrize("status", ["NOANSWER", "BUSY", "CHANUNAVAIL"])
def test_an_agent_who_does_not_pick_up_after_all_is_replaced_by_the_next(centre: Centre, status: str) -> None:
    first, second = centre.agent("first"), centre.agent("second")
    phone = Phone(centre, dial=lambda address: status if address == f"PJSIP/{first}" else "ANSWER").rings_in()
    centre.accept(first, centre.offer(first))
    centre.accept(second, centre.offer(second))
    assert phone.ends() == "answered"
    assert phone.caller.heard == ["music default", f"ringing PJSIP/{first}", "music default", f"ringing PJSIP/{second}"]
    assert centre.state_of(first) == "available"


def test_an_agent_without_a_telephone_does_not_end_the_call(centre: Centre) -> None:
    first, second = centre.agent("first", address=""), centre.agent("second")
    phone = Phone(centre).rings_in()
    centre.accept(first, centre.offer(first))
    centre.accept(second, centre.offer(second))
    assert phone.ends() == "answered"


def test_a_closed_queue_is_left_to_the_dialplan(centre: Centre) -> None:
    closure = {"kind": "emergency", "queues": [centre.queue], "message": {"en": "Fire."}, "reason": "fire", "minutes": 30}
    made = centre.system.post("/v1/closures", closure).ok()
    phone = Phone(centre).rings_in()
    assert phone.ends() == "closed"
    assert phone.caller.handlers == []
    centre.system.delete(f"/v1/closures/{made['id']}")


def test_an_observed_queue_is_the_pbxs_at_once(system: System, name: str) -> None:
    centre = Centre(system, name, mode="observed", required_skills={})
    phone = Phone(centre, queue=lambda _: "COMPLETED").rings_in()
    assert phone.ends() == "COMPLETED"
    assert phone.caller.heard == ["music default", f"queue {name}"]


# ---- when Answerline is not there


def test_what_answers_wrongly_or_not_at_all_leads_to_the_pbxs_own_queue_within_two_seconds(system: System, name: str) -> None:
    centre = Centre(system, name)
    for answer in (
        b"", b"garbage", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 14\r\n\r\n{\"status\": 503}",
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 14\r\n\r\n{\"status\": 429}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"state\":null,\"x\":\"\\\"\"}", None,
    ):  # fmt: skip
        with answering(answer) as address:
            phone = Phone(centre, address, patience=0.1 if answer is None else 10.0).rings_in()
            assert phone.ends() == "TIMEOUT", answer
            assert phone.caller.heard == ["music default", f"queue {name}"]
            assert phone.caller.queued_after is not None
            assert phone.caller.queued_after < FALLBACK_SECONDS
            assert len(phone.caller.requests) == 1
            assert phone.caller.handlers == [], "what hangs up in the PBX's queue is told by the PBX"


def test_nobody_at_the_address_leads_to_the_pbxs_own_queue(centre: Centre) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    phone = Phone(centre, f"http://127.0.0.1:{port}").rings_in()
    assert phone.ends() == "TIMEOUT"
    assert phone.caller.queued_after is not None
    assert phone.caller.queued_after < FALLBACK_SECONDS


def test_a_state_that_nobody_knows_leads_to_the_pbxs_own_queue(centre: Centre) -> None:
    arrived = b'HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"contact":"c","state":"unheard"}'
    with answering(arrived) as address:
        phone = Phone(centre, address).rings_in()
        assert phone.ends() == "TIMEOUT"


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """A server that gives this answer to everything; None: it takes the connection and says nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if answer is None:
                quiet.wait(LONG)
            else:
                self.wfile.write(answer)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    quiet = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield "http://{}:{}".format(*server.server_address)
    finally:
        quiet.set()
        server.shutdown()
        server.server_close()


# ---- and when it is back: nothing is routed twice


def pbx(centre: Centre, call: str, *events: str) -> None:
    """Lines of the PBX's own queue_log."""
    now = int(time.time())
    lines = "".join(f"{now}|{call}|{centre.queue}|{event}\n" for event in events)
    centre.system.post("/v1/telephony/asterisk/queue-log", lines, source=centre.name).ok()


def test_a_call_that_went_to_the_pbxs_own_queue_is_taken_off_the_desk(centre: Centre) -> None:
    agent = centre.agent("only")
    phone = Phone(centre).rings_in()
    offer = centre.offer(agent)
    pbx(centre, phone.call, "NONE|ENTERQUEUE||1|1")
    eventually(lambda: not centre.offers(agent), within=4)
    assert phone.ends() == "TIMEOUT", "the answer is released, which sends the caller where the PBX says they are"
    centre.system.post(f"/v1/offers/{offer['id']}/accept", {"agent": agent}).problem(409)
    pbx(centre, phone.call, "Bob|CONNECT|3|1.2|1", "Bob|COMPLETEAGENT|3|5|1")
    centre.system.settle()
    leg = centre.leg(phone.contact)
    assert (leg["outcome"], leg["agent"]) == ("completed", "Bob"), "what becomes of it the PBX tells"
    assert centre.figures()["offered"] == 1
    assert centre.misses(agent) == 0


def test_a_call_that_the_pbx_has_taken_by_itself_is_never_offered(centre: Centre) -> None:
    """Answerline did not answer when it arrived: it hears of it from the PBX's queue alone, in which it stands already."""
    agent = centre.agent("only")
    pbx(centre, f"{int(time.time())}.77", "NONE|ENTERQUEUE||1|1")
    centre.system.settle()
    assert not centre.offers(agent)
    assert centre.figures()["waiting"] == 1
    assert centre.system.sql("routing", "select count(*) from offer where agent = :agent", agent=agent)[0][0] == 0


def test_a_call_whose_dialplan_never_asks_is_offered_to_nobody_for_long(centre: Centre) -> None:
    """Its arrival was durable, but the answer came too late: the PBX's own queue has it."""
    agent = centre.agent("only")
    told = {"event": "call.arrived", "queue": centre.queue, "callid": "1.1", "at": int(time.time()), "polls": "1"}
    receipt = centre.system.post("/v1/telephony/asterisk/dialplan", told, source=centre.name).ok()
    assert centre.offer(agent, receipt["contact"])
    eventually(lambda: not centre.offers(agent), within=LONG)
    assert centre.misses(agent) == 0


@pytest.mark.parametrize("service", ["gateway", "routing"])
def test_killed_while_callers_wait_it_offers_them_to_nobody_when_it_is_back_until_they_ask(
    own_system: System, name: str, service: str
) -> None:
    if service == "routing" and not own_system.deployed:
        return  # both are one process
    centre = Centre(own_system, name)
    phone = Phone(centre).rings_in()
    eventually(lambda: own_system.sql("routing", "select polled from contact")[-1:] and phone.caller.requests[2:])
    own_system.kill(service)
    assert phone.ends() == "TIMEOUT"
    assert phone.caller.heard[-1] == f"queue {name}"
    assert phone.caller.queued_after is not None
    assert phone.caller.queued_after < FALLBACK_SECONDS
    own_system.start(service)
    agent = centre.agent("only")
    own_system.settle()
    assert not centre.offers(agent)
    assert own_system.sql("routing", "select count(*) from offer where agent = :agent", agent=agent)[0][0] == 0
    other = centre.call()
    assert centre.offer(agent, other), "who arrives now is served"
    pbx(centre, phone.call, "NONE|ENTERQUEUE||1|1", "Bob|CONNECT|3|1.2|1")
    own_system.settle()
    leg = centre.leg(phone.contact)
    assert (leg["outcome"], leg["agent"]) == ("talking", "Bob")


# ---- held for a controller (AMI): Gosub(answerline,hold,1(QUEUE))


class Held:
    """A caller in `hold`, whose controller is the test: what it does over the manager interface, it does here."""

    def __init__(self, **caller: object) -> None:
        settings = {"ANSWERLINE_MUSIC": "default", "ANSWERLINE_SELF_SERVICE": "self-service", "ANSWERLINE_BEAT": "1"}
        self.caller = Caller(settings, "1.1", pace=0.2, **caller)  # type: ignore[arg-type]
        self.beats = threading.Event()
        self.pool = ThreadPoolExecutor(2)
        self.done = self.pool.submit(self.caller.call, "answerline", "hold", "sales")

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.beats.set()
        self.caller.hang_up()
        self.pool.shutdown()

    def beat(self) -> Held:
        """The controller lives."""

        def beat() -> None:
            while not self.beats.wait(0.02):
                self.caller.globals["ANSWERLINE_BEAT"] = str(int(self.caller.globals["ANSWERLINE_BEAT"]) + 1)

        self.pool.submit(beat)
        return self

    def waits(self) -> Held:
        eventually(lambda: "UserEvent(AnswerlineHold,Queue: sales)" in self.caller.events and self.caller.music == "default")
        return self

    def hears(self, *heard: str) -> None:
        eventually(lambda: self.done.done() or self.caller.heard == [*heard])
        assert self.caller.heard == [*heard]

    def ends(self) -> str | None:
        return self.done.result(LONG)


def test_a_held_caller_hears_music_for_as_long_as_the_controller_lives_and_is_the_pbxs_when_it_does_not() -> None:
    with Held(queue=lambda _: "COMPLETED").waits().beat() as held:
        eventually(lambda: held.caller.rounds >= 6, within=LONG)
        assert held.caller.heard == ["music default"]
        held.beats.set()
        assert held.ends() == "COMPLETED"
        assert held.caller.heard == ["music default", "queue sales"]
        assert held.caller.events == ["UserEvent(AnswerlineHold,Queue: sales)", "UserEvent(AnswerlineFallback,Queue: sales)"]


def test_a_held_caller_is_in_the_pbxs_own_queue_within_two_seconds_of_the_last_beat() -> None:
    waited: list[float] = []

    class Listening(Caller):
        def _do_wait(self, told: str) -> None:
            waited.append(float(told))

    caller = Listening({"ANSWERLINE_MUSIC": "default"}, "1.1")
    assert caller.call("answerline", "hold", "sales") == "TIMEOUT"
    assert 0.3 * 3 < sum(waited) < FALLBACK_SECONDS, "two beats may be late"


def test_a_held_caller_hears_what_the_controller_says_and_then_music_again() -> None:
    told = '{"state":"waiting","position":2,"estimated_wait_minutes":1,"announce":"help.example.com"}'
    with Held().waits().beat() as held:
        held.caller.set("ANSWERLINE_SAY", told)
        held.hears(
            "music default", "queue-thereare", "2", "queue-callswaiting", "queue-holdtime", "1", "queue-minute", "self-service", "music default"
        )  # fmt: skip
        assert held.caller.requests == [], "the controller asks Answerline, not the dialplan"
        assert held.caller.variables["ANSWERLINE_SAY"] == ""


def test_a_held_caller_is_bridged_to_the_agent_and_goes_on_when_the_agent_has_hung_up() -> None:
    with Held().waits().beat() as held:
        held.caller.set("ANSWERLINE_AGENT", "PJSIP/1001-7")
        held.caller.redirect("answerline", "bridge")
        assert held.ends() == "answered"
        assert held.caller.heard == ["music default", "bridge PJSIP/1001-7,x"]
        assert held.caller.events[-1] == "UserEvent(AnswerlineDone,Queue: sales)"
        assert held.caller.music == ""


def test_a_held_caller_whose_agent_is_gone_at_the_moment_of_bridging_is_held_on() -> None:
    results = iter(["NONEXISTENT", "SUCCESS"])
    with Held(bridge=lambda _channel: next(results)).waits().beat() as held:
        held.caller.redirect("answerline", "bridge")
        eventually(
            lambda: held.caller.events[-1] == "UserEvent(AnswerlineUnbridged,Queue: sales)" and held.caller.music == "default", within=LONG
        )
        assert not held.done.done()
        held.caller.redirect("answerline", "bridge")
        assert held.ends() == "answered"


def test_a_held_caller_whom_answerline_does_not_route_is_the_pbxs() -> None:
    with Held(queue=lambda _: "COMPLETED").waits().beat() as held:
        held.caller.redirect("answerline", "release")
        assert held.ends() == "COMPLETED"
        assert held.caller.heard == ["music default", "queue sales"]


@pytest.mark.parametrize("state", ["closed", "callback"])
def test_a_held_caller_who_is_not_let_in_goes_on_in_the_dialplan(state: str) -> None:
    with Held().waits().beat() as held:
        held.caller.set("ANSWERLINE_STATE", state)
        held.caller.redirect("answerline", "over")
        assert held.ends() == state
        assert held.caller.music == ""


def test_a_held_caller_who_hangs_up_is_gone_at_once() -> None:
    with Held().waits().beat() as held:
        held.caller.hang_up()
        assert held.ends() is None
        assert held.caller.heard == ["music default"]


# ---- held in the application of a controller (ARI): Gosub(answerline,stasis,1(QUEUE))


def in_stasis(stasis: Callable[[str], dict[str, str] | None]) -> Caller:
    return Caller({"ANSWERLINE_MUSIC": "default"}, "1.1", stasis=stasis, queue=lambda _: "COMPLETED")


@pytest.mark.parametrize("state", ["answered", "closed", "callback"])
def test_behind_stasis_the_dialplan_goes_on_as_the_controller_says(state: str) -> None:
    asked: list[str] = []

    def stasis(arguments: str) -> dict[str, str]:
        asked.append(arguments)
        assert caller.absolute == FALLBACK_SECONDS, "without the controller the caller is held no longer"
        return {"ANSWERLINE_STATE": state}

    caller = in_stasis(stasis)
    assert caller.call("answerline", "stasis", "sales") == state
    assert asked == ["answerline-control,sales"]
    assert (caller.heard, caller.absolute) == ([], 0.0)


def test_whom_the_controller_lets_go_or_never_took_or_forgets_the_pbx_has() -> None:
    def silent(_arguments: str) -> None:
        raise TimeoutError

    for stasis in (lambda _: {"ANSWERLINE_STATE": ""}, lambda _: None, silent):
        caller = in_stasis(stasis)
        assert caller.call("answerline", "stasis", "sales") == "COMPLETED"
        assert caller.heard == ["queue sales"]
        assert caller.absolute == 0.0, "a talk in the queue lasts as long as it lasts"


def test_a_caller_who_hangs_up_in_stasis_is_gone() -> None:
    def stasis(_arguments: str) -> dict[str, str]:
        caller.hang_up()
        return {}

    caller = in_stasis(stasis)
    assert caller.call("answerline", "stasis", "sales") is None
    assert caller.heard == []


# ---- the file, and what reads it here


def test_every_label_and_extension_that_the_dialplan_names_is_there() -> None:
    text = (Path(__file__).parents[2] / "deploy/asterisk/extensions-answerline.conf").read_text()
    plan = read(text)
    for (context, extension), steps in plan.items():
        labels = {step.label for step in steps}
        for step in steps:
            if step.application == "Goto" and "," not in step.arguments:
                assert step.arguments in labels, step
            elif step.application == "Goto":
                *where, label = step.arguments.split(",")
                steps_there = plan[([context, *where])[-2], where[-1]]
                assert label == "1" or label in {one.label for one in steps_there}, step
            elif step.application == "GotoIf":
                for label in filter(None, step.arguments.rpartition("?")[2].split(":")):
                    assert label in labels, step
            elif step.application == "Gosub":
                where = step.arguments.partition("(")[0].split(",")
                assert (where[0], where[1]) in plan, step
        assert steps[-1].application in ("Return", "Goto", "Hangup"), (context, extension)


@pytest.mark.parametrize(
    ("expression", "value"),
    [('"a" = "b" | "x" = "x"', "1"), ('"a" = "a" | "x" = "y"', "1"), ("1795296303 + 45.0", "1795296348"), ('"" = ""', "1"), ("2 > 1", "1"),
     ("1 < 1", "0"), (" < 4", ""), ('"a"b" = "c"', ""), ('"9" < "10"', "1")],
)  # fmt: skip
def test_expressions_are_read_as_asterisk_reads_them(expression: str, value: str) -> None:
    assert evaluate(expression) == value


def test_json_is_read_as_asterisk_reads_it() -> None:
    assert [json_decode('{"a":null,"b":1,"c":"x"}', key) for key in "abcd"] == ["null", "1", "x", ""]
    assert json_decode("garbage", "a") == ""
