"""The event stream from outside: no gap and nothing twice, however often a client comes back, and whoever else does not read."""

from __future__ import annotations

import socket
from itertools import islice
from urllib.parse import quote

from tests.e2e.listening import Ear, busy, ended, ids, is_last
from tests.system import System, eventually

RECONNECTIONS = 50
CUT_OFF = "answerline_gateway_stream_cut_off_total"


def test_a_client_that_comes_back_again_and_again_gets_each_event_once_and_in_order(system: System, name: str) -> None:
    with Ear(system, f"queue:{name}").opened() as steady:
        start, heard, last = steady.last, [], steady.last
        with busy(system, name):
            for number in range(RECONNECTIONS):
                with Ear(system, f"queue:{name}", last) as ear:
                    heard += list(islice(ear, number % 4 + 1))
                    last = heard[-1].id
        contact = ended(system, name)
        with Ear(system, f"queue:{name}", last) as ear:
            heard += ear.until(is_last(contact))
        expected = steady.until(is_last(contact))
    assert len(heard) > RECONNECTIONS * 2
    assert ids(heard) == ids(expected), "as one who never left"
    positions = [int(told.id) for told in heard]
    assert positions == sorted(set(positions))
    with Ear(system, f"queue:{name}", after=start) as late:
        assert ids(late.until(is_last(contact))) == ids(expected), "and as one who comes late"
    assert {told.data["data"].get("queue") or told.data["data"]["leg"]["queue"] for told in heard} == {name}


def test_a_contact_can_be_followed_by_its_id_or_its_call(system: System, name: str) -> None:
    contact = system.post("/v1/contacts", {"queue": name, "source": name, "call": "7"}).ok()["contact"]
    eventually(lambda: system.get(f"/v1/contacts/{contact}").status == 200)
    with Ear(system, f"contact:{quote(name)}:7", after=0) as ear, Ear(system, f"contact:{contact}", after=0) as other:
        ended(system, name, contact)
        assert {told.data["data"]["contact"] for told in ear.until(is_last(contact)) if told.name != "gap"} == {contact}
        assert next(told.name for told in other.until(is_last(contact)) if told.name != "gap") == "gateway.contact_arrived.v1"


def test_what_cannot_be_listened_to_is_said(system: System, name: str) -> None:
    assert "queue:NAME" in system.get("/v1/stream", topics="nonsense").problem(422)["detail"]
    assert "after" in system.get("/v1/stream", topics="*", after="x").problem(422)["errors"]
    header = {"Last-Event-ID": "now"}
    assert "whole number" in system.request("GET", "/v1/stream", headers=header, query={"topics": "*"}).problem(422)["detail"]
    system.get("/v1/stream", topics="contact:nobody").problem(404)
    system.client().get("/v1/stream", topics="*").problem(401)
    system.client("metrics").get("/v1/stream", topics="routing.*").problem(403)
    with Ear(system.client(), "live") as live:
        assert next(iter(live)).name == "figures", "the wallboard needs no key on the machine itself"
    with Ear(system.client("agent"), f"queue:{name}").opened() as ear:
        assert ear.last.isdigit()


def test_who_does_not_read_is_cut_off_while_others_get_everything(system: System, name: str) -> None:
    if system.deployed:
        return  # the door is the same, and being cut off takes its time
    before = system.metrics("gateway").get(CUT_OFF, 0.0)
    with socket.socket() as slow, Ear(system, f"queue:{name}", timeout=60).opened() as ear:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(system.address)
        slow.sendall(f"GET /v1/stream?topics=queue:{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {system.key}\r\n\r\n".encode())
        assert b"200 OK" in slow.recv(15)
        lines = "".join(f"1795296258|{name}.{number}|{name}|NONE|ENTERQUEUE||1|1\n" for number in range(300))
        system.post("/v1/telephony/asterisk/queue-log", lines, source=name).ok()
        heard: set[str] = set()
        for told in ear:
            if told.name == "gateway.contact_arrived.v1":
                heard.add(told.data["data"]["leg"]["call"])
            if len(heard) == 300:
                break
        eventually(lambda: system.metrics("gateway").get(CUT_OFF, 0.0) > before, within=30)
        with Ear(system, f"queue:{name}", ear.last) as again:
            contact = ended(system, name)
            again.until(is_last(contact))
