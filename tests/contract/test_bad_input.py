"""Whatever comes in at a door that should not: a 4xx problem document that says what to mend, never a 5xx, and nobody else is hurt."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from tests.contract.telephony import DOORS, kept, post, queue_report
from tests.system import Answer, Client, System, eventually, raw_request

MIB = 1024 * 1024
ROOMY = {
    DOORS["queue-log"],
    DOORS["ami"],
    "/v1/telephony/asterisk/ari",
    "/v1/telephony/freeswitch/callcenter",
    "/v1/telephony/freeswitch/cdr",
    "/v1/telephony/twilio/events",
    "/v1/events",
    "/v1/imports/{kind}",
}
"""Doors that take more than the usual at once."""
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class Door(NamedTuple):
    method: str
    path: str
    told: dict[str, Any]

    @property
    def public(self) -> bool:
        return not self.told["security"] or {} in self.told["security"]

    @property
    def body(self) -> dict[str, Any] | None:
        """The schema of the JSON object it takes. What telephony systems send, in whatever form, has a receipt instead: see tests/fuzz."""
        if self.path.startswith("/v1/telephony/"):
            return None
        content = self.told.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        return schema if schema.get("type") == "object" else None

    @property
    def query(self) -> dict[str, Any]:
        return {one["name"]: one["schema"] for one in self.told["parameters"] if one["in"] == "query"}

    def url(self, value: str = "nobody") -> str:
        return re.sub(r"\{\w+\}", value, self.path)


def doors(system: System) -> Iterator[Door]:
    for path, operations in system.get("/openapi.json").ok()["paths"].items():
        for method, told in operations.items():
            yield Door(method.upper(), path, told)


def refused(answer: Answer, where: object = "") -> dict[str, Any]:
    """The problem document of a 4xx answer."""
    assert 400 <= answer.status < 500, (where, answer)
    return answer.problem(answer.status)


# ---- who may come in


def test_without_a_key_every_door_but_the_public_ones_says_401(system: System) -> None:
    nobody = system.client()
    for door in doors(system):
        if not door.public:
            answer = nobody.request(door.method, door.url())
            assert "Bearer" in answer.problem(401)["detail"], door
            assert answer.headers["WWW-Authenticate"] == "Bearer", door


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic YTpi", "bearer", "Bearer " + "x" * 4000, "Bearer \xe9"])
def test_a_wrong_key_is_no_key(system: System, header: str) -> None:
    answer = system.get("/v1/reports/queues")
    assert answer.status == 200
    answer = system.client().request("GET", "/v1/reports/queues", headers={"Authorization": header})
    assert "wrong" not in answer.problem(401)["detail"], "no key is repeated in an answer"


def test_with_a_key_of_another_role_every_door_says_403_and_with_its_role_it_does_not(system: System) -> None:
    roles = {role for door in doors(system) for role in door.told["x-roles"]}
    clients = {role: system.client(role) for role in {*roles, "trainer"} - {"admin"}}
    for door in doors(system):
        wanted = set(door.told["x-roles"])
        for role, client in clients.items() if wanted else ():
            answer = client.request(door.method, door.url())
            if role in wanted:
                assert answer.status not in (401, 403), (door, role, answer)
            else:
                assert all(name in answer.problem(403)["detail"] for name in wanted), (door, role)


def test_a_revoked_key_opens_nothing(system: System, name: str) -> None:
    made = system.post("/v1/keys", {"name": name, "roles": ["supervisor"]}).ok()
    client = Client(system.address, made["key"])
    if not system.deployed:  # a key once used is remembered for some seconds
        assert client.get("/v1/reports/queues").status == 200
    assert system.delete(f"/v1/keys/{made['id']}").status == 204
    assert eventually(lambda: client.get("/v1/reports/queues").status == 401)
    assert system.delete(f"/v1/keys/{made['id']}").status == 404


def test_no_answer_about_keys_holds_a_key(system: System, name: str) -> None:
    assert "rôle" in system.post("/v1/keys", {"name": name, "roles": ["rôle"]}).problem(422)["detail"]
    assert "role" in system.post("/v1/keys", {"name": name, "roles": []}).problem(422)["detail"]


# ---- bodies


def test_an_unknown_field_is_named(system: System) -> None:
    for door in doors(system):
        if door.body:
            told = system.request(door.method, door.url(), {"no_such_field": 1}).problem(422)
            assert "no_such_field" in told["errors"], door


def test_a_missing_field_is_named(system: System) -> None:
    for door in doors(system):
        for field in (door.body or {}).get("required", ()):
            assert field in system.request(door.method, door.url(), {}).problem(422)["errors"], (door, field)


def test_a_field_of_a_wrong_type_is_named(system: System) -> None:
    wrong = {"string": [17, {}, [], True], "integer": ["x", {}], "number": ["x", {}, []], "object": ["x", [], 1], "array": ["x", {}, 1]}
    tried = 0
    for door in doors(system):
        for field, schema in (door.body or {}).get("properties", {}).items():
            kinds = schema.get("type", "string")
            for value in wrong.get(kinds if isinstance(kinds, str) else kinds[0], ()):
                told = system.request(door.method, door.url(), {field: value}).problem(422)
                assert field in told["errors"], (door, field, value, told)
                tried += 1
    assert tried > 30


BODIES = {
    "nothing": (b"", 400),
    "not JSON": (b"hello", 400),
    "half JSON": (b'{"queue": "sales"', 400),
    "two JSONs": (b"{}{}", 400),
    "NaN": (b'{"queue": NaN}', 400),
    "invalid UTF-8": (b'{"queue": "\xff\xfe"}', 400),
    "half a character": (b'{"queue": "\\ud800"}', 400),
    "UTF-16": ('{"queue": "sales"}'.encode("utf-16"), 400),
    "a very deep one": (b"[" * 100_000, 400),
    "a list": (b'[{"queue": "sales"}]', 422),
    "text": (b'"sales"', 422),
    "a number": (b"17", 422),
    "null": (b"null", 422),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_json_object_is_refused(system: System, case: str) -> None:
    body, status = BODIES[case]
    for door in doors(system):
        if door.body:
            system.request(door.method, door.url(), body, headers={"Content-Type": "application/json"}).problem(status)


def test_another_content_type_is_refused(system: System) -> None:
    for door in doors(system):
        if door.body:
            system.request(door.method, door.url(), b"{}", headers={"Content-Type": "text/xml"}).problem(415)


def test_a_body_of_1_mib_is_too_large_for_the_small_doors(system: System) -> None:
    body = json.dumps({"name": "x" * MIB}).encode()
    for door in doors(system):
        asks_first = any(one["required"] for one in door.told["parameters"] if one["in"] == "query")
        if door.method in ("POST", "PUT") and door.path not in ROOMY and not asks_first:
            told = system.request(door.method, door.url(), body, headers={"Content-Type": "application/json"}).problem(413)
            assert "262144" in told["detail"], door


@pytest.mark.parametrize("door", ["queue-log", "ami", "dialplan"])
@pytest.mark.parametrize(
    "body", [b"x" * MIB, b"\xff" * MIB, b"\x00" * MIB, b"|" * MIB, b'{"' * (MIB // 2), bytes(range(256)) * 4096, b"\n" * MIB]
)
def test_1_mib_of_nonsense_breaks_no_telephony_door(system: System, name: str, door: str, body: bytes) -> None:
    answer = post(system, name, door, body, "application/octet-stream")
    if answer.status == 200:
        assert body.strip(b"|\n") == b"", "nothing but empty lines, or lines of no event, may pass"
        assert answer.json["accepted"] == 0
    else:
        refused(answer)


def test_many_bad_lines_are_all_kept_and_the_first_hundred_named(system: System, name: str) -> None:
    told = post(system, name, "queue-log", "\n".join(f"bad line {number}" for number in range(250))).problem(400)
    assert [one["line"] for one in told["rejected"]] == list(range(1, 101))
    assert len(kept(system, name)) == 250


def test_numbers_out_of_range_are_refused(system: System, name: str) -> None:
    for field, value in [
        ("offer_seconds", 0),
        ("offer_seconds", -1),
        ("offer_seconds", 1e300),
        ("retry_seconds", 10**400),
        ("wrap_up", 17),
    ]:
        told = system.put(f"/v1/queues/{name}", json.dumps({field: value}).encode(), headers={"Content-Type": "application/json"})
        refused(told, (field, value))
    for skills in ({"zh": 0}, {"zh": 6}, {"zh": 2.5}, {"zh": "3"}, {"": 3}, {"zh": True}, {"zh": 10**30}):
        refused(system.put(f"/v1/agents/{name}", {"skills": skills}), skills)
    assert system.get(f"/v1/queues/{name}").status == system.get(f"/v1/agents/{name}").status == 404, "nothing of it was done"


STRUCTURED, FORM = "application/cloudevents+json", "application/x-www-form-urlencoded"


def cloud_event(id: str, kind: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"specversion": "1.0", "id": id, "source": "/nasty", "type": kind, "data": data}).encode()


NASTY = ["\x00", "a\x00b", "\U0001f600" * 30, "\u202e", "'; drop table leg; --", "%s", "{}", "\\", '"', "x" * 200, " ", "\r\n", "null", "~"]


@pytest.mark.parametrize("text", NASTY)
def test_any_text_is_taken_whole_or_refused_but_breaks_nothing(system: System, name: str, text: str) -> None:
    call = f"{name}.1"
    for answer in (
        system.post("/v1/contacts", {"queue": text, "source": name, "call": call}),
        system.post("/v1/contacts", {"queue": name, "source": text, "call": call, "caller": text}),
        system.post("/v1/contacts", {"queue": name, "source": name, "call": text}),
        system.post("/v1/contacts", {"queue": name, "source": name, "required_skills": {text: 1}}),
        system.put(
            f"/v1/agents/{name}", {"name": text, "address": text, "skills": {text: 1}, "queues": [text], "aliases": [f"{text}{name}"]}
        ),
        system.put(f"/v1/agents/{name}/state", {"state": "paused", "reason": text, "disposition": text}),
        system.put(f"/v1/queues/{name}", {"channel": text, "required_skills": {text: 1}, "pool": text, "policy": text, "zone": text}),
        system.post(
            "/v1/contacts", {"queue": name, "source": name, "customer": text, "thread": text, "language": text, "facts": {"tier": text}}
        ),
        system.put(f"/v1/customers/{quote(text, safe='')}", {"tier": text, "language": text, "numbers": [text]}),
        system.put(f"/v1/policies/{name}", text),
        system.put(f"/v1/dispositions/{name}", {"nodes": [{"code": text, "label": {"en": text}, text: text}]}),
        system.put(f"/v1/calendars/{name}", {"zone": text, "weekly": {text: text}}),
        system.put(f"/v1/agents/{name}/state", {"state": "available", "session": text, "disposition": {"code": text}}),
        system.put(f"/v1/agents/{name}/certificates/{quote(text, safe='')}", {}),
        system.put(f"/v1/sources/{quote(text, safe='')}", {"available_activities": [text]}),
        system.put(f"/v1/sources/{name}", {"zone": text, "country": text, "twilio_auth_token": text}),
        system.post(
            "/v1/events",
            cloud_event(text, "gateway.call_arrived.v1", {"call": text, "queue": text}),
            headers={"Content-Type": STRUCTURED},
            source=name,
        ),
        system.post("/v1/events", b'{"call": "1"}', headers={"ce-specversion": "1.0", "ce-id": quote(text), "ce-type": "x"}, source=name),
        system.post(
            "/v1/telephony/twilio/voice",
            urlencode({"CallSid": text, "CallStatus": "completed"}),
            headers={"Content-Type": FORM},
            source=name,
        ),
        system.post(
            "/v1/telephony/twilio/taskrouter",
            urlencode({"EventType": "task-queue.entered", "TaskSid": text, "TaskQueueName": text, "TaskChannelUniqueName": text}),
            headers={"Content-Type": FORM},
            source=name,
        ),
        system.post(
            "/v1/telephony/twilio/route",
            urlencode({"CallSid": text, "From": text}),
            headers={"Content-Type": FORM},
            source=name,
            queue=text,
            fallback="f",
            wait=0,
        ),
        system.post(f"/v1/offers/{name}/accept", {"agent": text}),
        system.post(f"/v1/offers/{name}/reject", {"agent": text, "reason": text}),
        system.post("/v1/keys", {"name": text, "roles": ["agent"]}),
        system.post(DOORS["queue-log"], f"1795296258|{call}|{text}|{text}|ENTERQUEUE||{text}|1", source=name),
        system.post(DOORS["queue-log"], f"1795296258|{call}|{name}|NONE|ENTERQUEUE||1|1", source=text),
        system.post(DOORS["dialplan"], {"event": "call.arrived", "queue": text, "callid": call, "name": text}, source=name),
        system.post(DOORS["ami"], {"Event": "QueueCallerJoin", "Queue": text, "Uniqueid": call, "CallerIDNum": text}, source=name),
        system.get("/v1/reports/queues", source=text),
    ):
        assert answer.status < 500, answer
        if answer.status >= 400:
            refused(answer)
    system.settle()
    metrics = system.metrics()
    assert metrics['answerline_routing_inbox_set_aside_events{bucket="retrying"}'] == 0
    assert metrics['answerline_routing_inbox_set_aside_events{bucket="dead"}'] == 0


# ---- paths, queries, methods


def test_an_unknown_path_is_a_404_that_says_where_to_look(system: System) -> None:
    for path in (
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/contacts/",
        "/v2/contacts",
        "/v1/contacts/1/nothing",
        "/v1/keys/1/2",
        "/static/../keys.py",
    ):
        for method in ("GET", "POST"):
            assert "/openapi.json" in system.request(method, path).problem(404)["detail"], path


@pytest.mark.parametrize(
    "value",
    ["%ff", "%00", "%2e%2e%2f", "x" * 3000, "%25", "%F0%9F%98%80", "a:b", ":", "%zz", "00000000-0000-0000-0000-000000000000", "-" * 36],
)
def test_any_id_in_a_path_is_answered_by_a_problem(system: System, value: str) -> None:
    for door in doors(system):
        forgets = door.path.endswith("/erase")  # whoever is unknown to the gateway may be known elsewhere, and is forgotten there
        if "{" in door.path and door.method in ("GET", "POST", "DELETE") and not forgets:
            refused(system.request(door.method, door.url(value), {} if door.body else None), (door, value))


def test_an_unknown_query_parameter_is_named(system: System) -> None:
    for door in doors(system):
        if not door.public or door.query:
            answer = system.request(door.method, door.url(), query={"no_such_parameter": "1"})
            assert "no_such_parameter" in answer.problem(422)["detail"], door


def test_a_query_parameter_with_a_senseless_value_is_refused(system: System) -> None:
    wrong = {"wait": ["x", "-1", "121", "1e400", "nan", "inf", "", "0x10"], "source": ["", "x" * 201], "topics": ["", "x"]}
    moments = ("from", "to", "starts_at")
    wrong |= {moment: ["", "yesterday", "2026-11-21", "2026-11-21T12:00:00", "17", "99999-01-01T00:00:00Z"] for moment in moments}
    wrong |= {
        "limit": ["", "x", "0", "-1", "1001", "1.5"],
        "dry_run": ["", "perhaps"],
        "by_row": ["", "perhaps"],
        "step": ["", "7m"],
        "format": ["", "xml"],
    }
    wrong |= {"state": ["", "x"], "after": ["x", "-1", "1.5", "1" * 19]}
    wrong |= {"until": ["", "never"], "back": ["", "x", "-1", "61", "nan"], "language": ["!", "x" * 36]}
    wrong |= {"zone": ["Mars/Olympus", "../etc/passwd"], "kind": ["", "x"], "note": ["x" * 1001]}
    wrong |= {name: ["x" * 201] for name in ("cursor", "session", "bodySHA256", "uuid")} | {
        name: ["", "x" * 201] for name in ("queue", "agent", "who", "object")
    }
    wrong |= {name: ["", "perhaps"] for name in ("active", "everywhere")} | {name: ["x" * 201] for name in ("site", "team")}
    wrong |= {name: ["x" * 201] for name in ("target", "course", "programme")} | {"exam": ["", "x" * 201]}
    wrong |= {"without": ["", "database", "broker,database"]}
    wrong |= {"year": ["", "x", "1999", "2027.5"], "version": ["", "x", "0", "1.5"], "missing_only": ["", "perhaps"]}
    from_provider = (
        "code",
        "iss",
        "error",
        "error_description",
        "error_uri",
        "session_state",
        "scope",
        "authuser",
        "prompt",
        "hd",
        "client_info",
    )
    wrong |= {name: ["x" * 4001] for name in ("then", *from_provider)}
    wrong |= {
        "fallback": ["", "two words", "x" * 1001],
        "music": ["hold.mp3", "https://a b"],
        "say_at": ["x", "-1", "nan"],
        "offer": ["x" * 201],
        "engine": ["x" * 201],
        "voice": ["x" * 201],
    }
    wrong |= {name: ["x" * 201] for name in ("contact", "person", "topic")}
    wrong |= {name: ["", "x" * 201] for name in ("evaluator", "scorecard", "calibration", "owner", "criterion", "measure")}
    wrong |= {
        "by": ["", "shoe_size"],
        "days": ["", "x", "0", "61", "nan"],
        "within": ["", "x", "0", "1", "nan"],
        "version": ["x", "0", "1.5"],
        "cause": ["", "laziness"],
        "answered": ["", "perhaps"],
        "overdue": ["", "perhaps"],
    }
    for door in doors(system):
        for parameter in door.query:
            for value in wrong[parameter]:
                refused(system.request(door.method, door.url(), query={parameter: value}), (door, parameter, value))
            assert "twice" in refused(system.request(door.method, f"{door.url()}?{parameter}=1&{parameter}=1"), door)["detail"]
            refused(system.request(door.method, f"{door.url()}?{parameter}=%ff"), door)


def test_a_wrong_method_is_a_405_that_names_the_right_ones(system: System) -> None:
    for path, operations in system.get("/openapi.json").ok()["paths"].items():
        allowed = {method.upper() for method in operations}
        for method in {*METHODS, "BREW"} - allowed:
            answer = system.request(method, re.sub(r"\{\w+\}", "x", path))
            answer.problem(405)
            assert allowed == set(answer.headers["Allow"].split(", ")) - {"HEAD"}, (method, path)


def test_head_answers_as_get_without_a_body(system: System) -> None:
    for door in doors(system):
        if door.method == "GET" and "{" not in door.path and door.path != "/v1/stream":
            get, head = system.get(door.path), system.request("HEAD", door.path)
            assert (head.status, head.body) == (get.status, b""), door
            assert head.headers["Content-Type"] == get.headers["Content-Type"], door


# ---- the wire


def line_of(name: str, call: str) -> bytes:
    return f"1795296258|{call}|{name}|NONE|ENTERQUEUE||1|1\n".encode()


def wire(system: System, head: str, body: bytes = b"", door: str = "queue-log", name: str = "wire") -> bytes:
    start = f"POST {DOORS[door]}?source={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {system.key}\r\n"
    return raw_request(system.address, (start + head + "\r\n").encode() + body)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_asterisks_content_type_sent_twice_works(system: System, name: str) -> None:
    told = b'{"event":"call.arrived","queue":"sales","callid":"1.1","at":1795296258}'
    twice = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Type: application/json\r\nContent-Length: {len(told)}\r\n"
    answer = wire(system, twice, told, "dialplan", name)
    assert status_of(answer) == 200
    assert b'"accepted":1' in answer
    form = b"event=call.arrived&queue=sales&callid=1.2&at=1795296258"
    twice = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
    assert b'"accepted":1' in wire(system, twice, form, "dialplan", name)
    system.settle()
    assert queue_report(system, name)["sales"]["offered"] == 2


def test_a_chunked_body_is_a_body(system: System, name: str) -> None:
    lines = [line_of(name, f"{number}.1") for number in range(5)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"
    assert b'"accepted":5' in wire(system, "Transfer-Encoding: chunked\r\n", body, name=name)


def test_a_chunked_body_beyond_the_limit_is_too_large(system: System, name: str) -> None:
    body = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert status_of(wire(system, "Transfer-Encoding: chunked\r\n", body * 16 + b"0\r\n\r\n", "dialplan", name)) == 413


def test_expect_100_continue_is_answered(system: System, name: str) -> None:
    line = line_of(name, "1.1")
    head = (
        f"POST {DOORS['queue-log']}?source={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {system.key}\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(line)}\r\n\r\n"
    )
    with socket.create_connection(system.address, timeout=10) as connection:
        connection.sendall(head.encode())
        assert b"100 Continue" in connection.recv(1024), "a client such as curl waits for it before it sends a large body"
        connection.sendall(line)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b'"accepted":1' in answer


@pytest.mark.parametrize(
    "head",
    ["Content-Length: x\r\n", "Content-Length: -5\r\n", "Content-Length: 1e3\r\n", "Content-Length: 5\r\nContent-Length: 7\r\n",
     "Content-Length: 99999999999999999999\r\n", "Content-Length: \u0665\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n"],
)  # fmt: skip
def test_a_body_whose_length_makes_no_sense_is_refused(system: System, name: str, head: str) -> None:
    answer = wire(system, head, b"ZZ\r\nnonsense\r\n", name=name)
    assert 400 <= status_of(answer) < 500, answer
    assert system.get("/livez").status == 200


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                      b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
                                      b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])  # fmt: skip
def test_what_is_not_http_is_refused_and_hurts_nobody(system: System, request_: bytes) -> None:
    answer = raw_request(system.address, request_)
    if answer.startswith(b"HTTP/1"):  # to hang up, or to answer as of old, without a status, is right too
        assert 200 <= status_of(answer) < 500, answer
    assert system.get("/livez").status == 200


def test_a_body_that_breaks_off_is_not_taken_and_hurts_nobody(system: System, name: str) -> None:
    line = line_of(name, "1.1")
    answer = wire(system, f"Content-Length: {len(line) + 500}\r\n", line, name=name)
    assert not answer or 400 <= status_of(answer) < 500, answer
    assert post(system, name, "queue-log", line).ok()["accepted"] == 1, "the half post must not count"


def test_slow_clients_hold_up_nobody_and_are_served_in_the_end(system: System, name: str) -> None:
    """Twenty clients that stopped in their headers, twenty in their body; all others go on."""
    line = line_of(name, "1.1")
    head = f"POST {DOORS['queue-log']}?source={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {system.key}\r\nContent-Length: {len(line)}\r\n"
    slow = []
    try:
        for number in range(40):
            connection = socket.create_connection(system.address, timeout=10)
            slow.append(connection)
            connection.sendall((head if number % 2 else head + "\r\n").encode())
        for number in range(2, 30):
            assert post(system, name, "queue-log", line_of(name, f"{number}.1")).ok()["accepted"] == 1
        slow[0].sendall(line)
        assert b'"accepted":1' in b"".join(iter(lambda: slow[0].recv(65536), b""))
        slow[1].sendall(b"\r\n" + line)
        assert b'"duplicate":1' in b"".join(iter(lambda: slow[1].recv(65536), b""))
    finally:
        for connection in slow:
            connection.close()


def test_requests_sent_ahead_on_one_connection_are_answered_in_order(system: System) -> None:
    one = f"GET /v1/agents/{{}} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {system.key}\r\n{{}}\r\n"
    sent = "".join(one.format(f"agent{number}", "Connection: close\r\n" if number == 4 else "") for number in range(5))
    answer = raw_request(system.address, sent.encode())
    assert re.findall(rb"No agent is called (agent\d)|no agent is called (agent\d)", answer) == [
        (b"", b"agent%d" % number) for number in range(5)
    ]


@pytest.mark.parametrize(
    "head",
    ["Content-Length: 2\r\nContent-Length: 44\r\n", "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n",
     "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"],
)  # fmt: skip
def test_where_the_end_of_a_body_is_in_doubt_nothing_that_follows_is_a_request(system: System, head: str) -> None:
    first = f"POST /v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {system.key}\r\n{head}\r\n{{}}"
    answer = raw_request(system.address, (first + "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").encode())
    assert status_of(answer) == 400
    assert b'"status":"ok"' not in answer
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("start", ["", "0\r\n", "2;"])
def test_a_line_without_end_between_chunks_fills_no_memory(system: System, start: str) -> None:
    head = f"POST /v1/contacts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{start}"
    with socket.create_connection(system.address, timeout=10) as connection, pytest.raises(ConnectionError):
        connection.sendall(head.encode())
        for _ in range(100):
            connection.sendall(b"a" * 1_000_000)


@pytest.mark.parametrize("body", [b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"5\r\nab"])
def test_a_chunk_that_breaks_off_is_the_clients_fault(system: System, name: str, body: bytes) -> None:
    assert status_of(wire(system, "Transfer-Encoding: chunked\r\n", body, name=name)) == 400


def test_a_connection_goes_on_after_a_refused_request(system: System) -> None:
    connection = HTTPConnection(*system.address, timeout=10)
    for body, status in ((b"nonsense", 400), (b"x" * 1000, 400), (b"{}", 422)):
        connection.request("POST", "/v1/contacts", body, {"Authorization": f"Bearer {system.key}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


def test_security_headers_are_on_every_answer(system: System) -> None:
    for answer in (system.get("/livez"), system.get("/nothing"), system.get("/v1/reports/queues")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
