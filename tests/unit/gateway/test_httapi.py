"""Documents for mod_httapi: nothing that anybody chose can mean something in them, in a dial string or in a variable."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from services.gateway.domain import httapi
from services.gateway.domain.conversation import Goodbye, Hold, Ring, Step
from services.gateway.doors.freeswitch_routed import outcome_of

FIELDS = {"url": "http://127.0.0.1:8000/v1/telephony/freeswitch/httapi?source=fs1&queue=support%40default", "httapi_profile": "answerline"}
NASTY = "</speak><execute application='system'/>\"'${x},}&\x0b\ud800"


@pytest.mark.parametrize(
    "address", ["user/1001", "user/1001@pbx.example.com", "sofia/gateway/carrier/+4930231250", "loopback/1001/default"]
)
def test_what_freeswitch_can_ring(address: str) -> None:
    assert httapi.dialable(address)


@pytest.mark.parametrize(
    "address", ["", "1001", "user/1001,user/1002", "{a=b}user/1001", "user/${x}", "user/1001|user/1002", "user/1 2", "&park()"]
)
def test_what_freeswitch_cannot_ring_or_would_ring_as_something_else(address: str) -> None:
    assert not httapi.dialable(address)


@pytest.mark.parametrize("step", [Hold(NASTY, "en", 0), Goodbye(NASTY)])
def test_nobody_writes_a_document_of_their_own_into_ours(step: Step) -> None:
    document = ElementTree.fromstring(httapi.render(step, FIELDS, NASTY, NASTY, NASTY))
    assert {tag.tag for work in document.iter("work") for tag in work} <= {"speak", "playback", "hangup"}


def test_names_are_led_on_to_the_agents_channel_whole_and_mean_nothing_there() -> None:
    nasty = NASTY.replace("\ud800", "")
    document = ElementTree.fromstring(httapi.render(Ring(nasty, "user/1001", nasty, 12), FIELDS, "", "", ""))
    params = {one.tag: one.text or "" for one in document.iter() if one.tag.startswith("answerline_")}
    assert (httapi.said(params, "agent"), httapi.said(params, "offer"), httapi.said(params, "say_at")) == (nasty, nasty, "")
    _timeout, confirm, bridge = (tag.attrib["data"] for tag in document.iter("execute"))
    assert bridge == "user/1001"
    head, _, tail = confirm.partition("}")
    assert tail == FIELDS["url"]
    brought = dict(one.split("=") for one in head.partition("{")[2].split(","))
    assert httapi.said(brought, "picked_up") == httapi.said(brought, "offer") == nasty


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://a/'x", "http://a/{x}", "http://key@a/", "http://a/ x", "http://a/${x}"])
def test_an_address_that_would_mean_something_there_is_not_led_on(url: str) -> None:
    assert httapi.knows_us(FIELDS)
    assert not httapi.knows_us({**FIELDS, "url": url})


@pytest.mark.parametrize(
    ("disposition", "outcome"),
    [("SUCCESS", "talked"), ("NO_ANSWER", "no_answer"), ("USER_BUSY", "busy"), ("USER_NOT_REGISTERED", "unavailable"), ("", "unavailable")],
)
def test_what_came_of_ringing(disposition: str, outcome: str) -> None:
    assert outcome_of(disposition) == outcome
