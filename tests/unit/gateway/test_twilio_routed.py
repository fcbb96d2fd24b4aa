"""The steps of a waiting caller's call, their TwiML, and what is answered when routing is out of reach."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import pytest

from services.gateway import handlers, store
from services.gateway.domain import announcements, twiml
from services.gateway.domain.conversation import Fallback, Goodbye, Hold, Ring, Step, next_step
from shared.errors import Conflict, Unavailable
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.test_doors import Gateway

NOW = 1795296258.0
AGAIN = {"source": "cloud", "queue": "a&b", "fallback": "theirs", "say_at": "0"}
OFFER = {"id": "o1", "agent": "ann", "address": "client:ann", "expires_at": "2026-11-21T21:24:18Z"}


def step(found: dict[str, Any] | None, say_at: float = NOW, expires_at: float | None = None) -> Step:
    return next_step(found, "You are next in line.", "en", say_at, NOW, expires_at)


@pytest.mark.parametrize(
    ("found", "comes"),
    [
        (None, Fallback()),
        ({"state": "observed"}, Fallback()),
        ({"state": "released"}, Fallback()),
        ({"state": "pending"}, Fallback()),
        ({"state": "waiting"}, Hold("You are next in line.", "en", NOW + 60)),
        ({"state": "parked", "announce_every_seconds": 45}, Hold("You are next in line.", "en", NOW + 45)),
        ({"state": "assigned", "agent": "ann", "address": "client:ann"}, Ring("ann", "client:ann", "", 30)),
        ({"state": "closed", "message": {"zh": "火警。", "en-GB": "Fire."}}, Goodbye("Fire.", "en")),
        ({"state": "closed"}, Goodbye("We are closed at the moment. Please call again later.", "en")),
        ({"state": "callback"}, Goodbye("We will call you back. Goodbye.", "en")),
        ({"state": "ended"}, Goodbye()),
        ({"state": "abandoned"}, Goodbye()),
    ],
)
def test_each_state_has_a_next_step(found: dict[str, Any] | None, comes: Step) -> None:
    assert step(found) == comes


def test_words_come_when_they_are_due_and_not_before() -> None:
    assert step({"state": "waiting"}, say_at=NOW + 0.1) == Hold("", "en", NOW + 0.1)


@pytest.mark.parametrize(("left", "rings"), [(15.9, 15), (2.0, 5), (-3.0, 5), (None, 30)])
def test_a_telephone_rings_for_as_long_as_its_offer_lasts(left: float | None, rings: int) -> None:
    found = {"state": "offered", "offer": OFFER}
    assert step(found, expires_at=None if left is None else NOW + left) == Ring("ann", "client:ann", "o1", rings)


@pytest.mark.parametrize(
    ("language", "messages", "said"),
    [("zh", {"en": "Fire.", "zh-CN": "火警。"}, "火警。"), ("zh", {"de": "Feuer."}, "现在不是服务时间，请稍后再拨。"), ("en", {"de": "Feuer.", "en": "Fire."}, "Fire.")],
)  # fmt: skip
def test_who_is_not_let_in_is_told_in_their_language(language: announcements.Language, messages: dict[str, str], said: str) -> None:
    assert announcements.closed(language, messages) == said


@pytest.mark.parametrize("address", ["+49302312500", "sip:ann@example.com", "sips:ann@example.com", "client:ann"])
def test_what_twilio_can_ring(address: str) -> None:
    assert twiml.dialable(address)


@pytest.mark.parametrize("address", ["", "PJSIP/1001", "client:", "030 123", "+0301234", "user/1001"])
def test_what_twilio_cannot_ring(address: str) -> None:
    assert not twiml.dialable(address)


NASTY = "</Say><Dial>+1900</Dial>\"'&\x0b\ud800"


@pytest.mark.parametrize(
    "comes", [Hold(NASTY, "en", 0), Ring(NASTY, f"client:{NASTY}", NASTY, 5), Ring("a", f"sip:{NASTY}", "o", 5), Fallback(), Goodbye(NASTY)]
)
def test_nobody_writes_twiml_of_their_own_into_ours(comes: Step) -> None:
    nasty = {name: NASTY.replace("\ud800", "") for name in AGAIN}
    if isinstance(comes, Ring):
        comes = Ring(comes.agent.replace("\ud800", ""), comes.address, comes.offer.replace("\ud800", ""), 5)
    plain = twiml.render(comes, nasty, NASTY, NASTY)
    document = ElementTree.fromstring(plain)
    heard = {verb.tag for verb in document}
    assert heard <= {"Say", "Play", "Redirect", "Hangup", "Enqueue"} or [child.tag for child in document[0]] in (["Client"], ["Sip"])
    assert all(len(noun) == 0 for verb in document for noun in verb)
    assert "\x0b" not in plain


def test_the_next_address_says_what_this_one_said() -> None:
    document = ElementTree.fromstring(twiml.render(Ring("ann", "client:ann", "o1", 12), AGAIN, "", "theirs"))
    (dial,) = document
    assert (dial.attrib["timeout"], dial.attrib["method"]) == ("12", "POST")
    parts = urlsplit(dial.attrib["action"])
    assert parts.path == "dialled", "relative, for a proxy may have put a path of its own before ours"
    assert {name: value for name, (value,) in parse_qs(parts.query).items()} == {**AGAIN, "agent": "ann", "offer": "o1"}
    assert parse_qs(urlsplit(dial[0].attrib["url"]).query) == {"source": ["cloud"], "agent": ["ann"], "offer": ["o1"]}


# ---- routing out of reach


class Away:
    """Routing, of which some questions are answered with an error."""

    def __init__(self, gateway: Gateway, **errors: Exception) -> None:
        self.routing, self.errors = gateway.routing, errors

    def __getattr__(self, method: str) -> Any:
        def ask(**arguments: Any) -> Any:
            if method in self.errors:
                raise self.errors[method]
            return getattr(self.routing, method)(**arguments)

        return ask


@pytest.fixture
def gateway(make_units: MakeUnits, at: SetClock) -> Gateway:
    made = Gateway(make_units(store.metadata))
    made.service.core.take = lambda told: handlers.take_in(made.service.core.units, [told])[0]
    made.routing.answer = {"contact": "c", "state": "waiting", "queue": "support", "agent": None, "name": None}
    return made


def ask(gateway: Gateway, door: str, form: dict[str, str] | None = None, **query: str) -> str:
    held = {"source": "cloud", "queue": "support", "fallback": "theirs", "wait": "0"} if door != "agent" else {"source": "cloud"}
    body = urlencode({"CallSid": "CA1", "From": "+493023125001", **(form or {})})
    status, told = gateway("POST", f"/v1/telephony/twilio/{door}?{urlencode({**held, **query})}", body)
    assert (status, gateway.type) == (200, "text/xml")
    return str(told).partition("<Response>")[2].removesuffix("</Response>")


THEIRS = "<Enqueue>theirs</Enqueue>"


def test_when_routing_does_not_answer_the_caller_goes_to_twilios_own_queue(gateway: Gateway) -> None:
    gateway.service.routing = Away(gateway, get_assignment=Unavailable("away"), stop_waiting=Unavailable("away"))
    assert ask(gateway, "route") == THEIRS
    assert ask(gateway, "wait") == THEIRS


def test_when_we_cannot_write_the_caller_goes_to_twilios_own_queue(gateway: Gateway) -> None:
    def fails(_told: Any) -> None:
        raise Unavailable("the disk is full")

    gateway.service.core.take = fails
    assert ask(gateway, "route") == THEIRS


def test_whom_twilio_queues_we_offer_to_nobody(gateway: Gateway) -> None:
    ask(gateway, "route")
    gateway.routing.answer = {**gateway.routing.answer, "state": "released"}
    gateway.routing.asked.clear()
    assert ask(gateway, "wait") == THEIRS
    assert [method for method, _ in gateway.routing.asked] == ["get_assignment", "stop_waiting"]


def test_an_agent_who_picked_up_is_connected_although_routing_does_not_answer_and_never_to_a_call_of_somebody_else(
    gateway: Gateway,
) -> None:
    gateway.service.routing = Away(gateway, accept_offer=Unavailable("away"))
    assert ask(gateway, "agent", agent="ann", offer="o1") == ""
    gateway.service.routing = Away(gateway, accept_offer=Conflict("expired"))
    assert ask(gateway, "agent", agent="ann", offer="o1") == "<Hangup/>"


def test_a_talk_that_routing_did_not_hear_of_is_over_all_the_same(gateway: Gateway) -> None:
    ask(gateway, "route")
    taken: list[Any] = []
    gateway.service.core.take = taken.append
    gateway.service.routing = Away(gateway, get_assignment=Unavailable("away"), accept_offer=Unavailable("away"))
    assert ask(gateway, "dialled", {"DialCallStatus": "completed", "DialBridged": "true"}, agent="ann", offer="o1") == "<Hangup/>"
    assert [(one.reading.observations[0].kind, one.reading.observations[0].reason) for one in taken] == [("hung_up", "agent")]


def test_an_outcome_that_twilio_does_not_have_is_refused(gateway: Gateway) -> None:
    body = urlencode({"CallSid": "CA1", "DialCallStatus": "asleep"})
    status, problem = gateway("POST", "/v1/telephony/twilio/dialled?source=cloud&queue=q&fallback=f&agent=ann", body)
    assert (status, "DialCallStatus" in problem["detail"]) == (400, True)
