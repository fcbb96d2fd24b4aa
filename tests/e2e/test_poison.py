"""What cannot be applied is set aside with its cause and blocks nobody; an operator sees it, mends it, brings it back or gives it up."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from tests.system import System, eventually

BUCKETS = ("applied", "duplicate", "dropped", "waiting", "retrying", "dead")


def id_of(number: int = 0) -> str:
    return str(uuid.UUID(int=uuid.uuid4().int & ~(0xF000 << 64) | 0x7000 << 64))


def envelope(name: str, contact: str, sequence: int = 1, **leg: Any) -> dict[str, Any]:
    told = {"number": 1, "queue": name, "call": f"{name}.1", "outcome": "waiting", "arrived_at": "2026-11-21T12:00:00Z"} | leg
    return {
        "specversion": "1.0", "id": id_of(), "source": "/answerline/gateway", "type": "gateway.contact_arrived.v1", "subject": contact,
        "time": "2026-11-21T12:00:00Z", "datacontenttype": "application/json", "sequence": sequence,
        "data": {"contact": contact, "source": name, "channel": "voice", "required_skills": {}, "leg": told},
    }  # fmt: skip


def send(system: System, event: dict[str, Any]) -> None:
    """As a faulty gateway would: deployed straight into routing's queue, embedded by way of the outbox, the only way in."""
    if system.deployed:
        system.publish(json.dumps(event))
        return
    row = {
        "id": event.get("id") or id_of(),
        "type": "gateway.contact_arrived.v1",
        "subject": str(event.get("subject", "")),
        "body": json.dumps(event),
    }
    statement = "insert into outbox (id, type, subject, body, written_at) values (:id, :type, :subject, :body, :at)"
    system.sql("gateway", statement, **row, at=time.time())


def aside(system: System) -> dict[str, tuple[str, str]]:
    """All that is set aside: its state and cause by id."""
    return {row[0]: (row[1], row[2]) for row in system.sql("routing", "select id, state, cause from set_aside")}


def waits_aside(system: System, subject: str) -> list[Any]:
    return [
        tuple(row)
        for row in system.sql("routing", "select id, state, cause from set_aside where subject = :s order by position", s=subject)
    ]


def sums(system: System) -> tuple[float, float]:
    metrics = system.metrics("routing")
    found = {bucket: metrics.get(f'answerline_routing_inbox_events_total{{bucket="{bucket}"}}', 0.0) for bucket in BUCKETS}
    found |= {
        bucket: metrics[name]
        for bucket in BUCKETS
        if (name := f'answerline_routing_inbox_set_aside_events{{bucket="{bucket}"}}') in metrics
    }
    return metrics["answerline_routing_inbox_received_events_total"], sum(found.values())


def test_a_malformed_message_is_a_dead_letter_with_its_cause_and_others_flow_on(system: System, name: str) -> None:
    before = set(aside(system))
    send(system, {"hello": name})
    system.settle()
    (new,) = eventually(lambda: set(aside(system)) - before)
    state, cause = aside(system)[new]
    assert state == "dead"
    assert "lacks 'type'" in cause
    (line,) = [line for line in system.answerline("dlq", "list").stdout.splitlines() if line.startswith(new)]
    assert state in line
    assert cause in line
    shown = system.answerline("dlq", "show", new).stdout
    assert name in shown, "show gives the message whole"
    received, placed = sums(system)
    assert received == placed
    system.answerline("dlq", "drop", new, "--yes")
    assert new not in aside(system)
    received, placed = sums(system)
    assert received == placed


def test_what_is_no_json_at_all_is_a_dead_letter_too(system: System, name: str) -> None:
    if not system.deployed:
        return  # in one process nothing but the gateway reaches the bus, and its outbox holds nothing but JSON
    before = set(aside(system))
    for body in (f"\x00\xff {name}".encode("latin-1"), b"", b"[]", b"17", b"\xff" * 100_000):
        system.publish(body)
    system.settle()
    eventually(lambda: len(set(aside(system)) - before) == 5)
    assert {aside(system)[id][0] for id in set(aside(system)) - before} == {"dead"}
    received, placed = sums(system)
    assert received == placed


def test_an_event_whose_data_break_its_contract_is_a_dead_letter_that_says_which_field(system: System, name: str) -> None:
    contact = id_of()
    event = envelope(name, contact, outcome="danced")
    send(system, event)
    system.settle()
    ((id, state, cause),) = eventually(lambda: waits_aside(system, contact))
    assert (id, state) == (event["id"], "dead")
    assert "outcome" in cause
    assert f"{id}  dead" in system.answerline("dlq", "list", "--state", "dead").stdout
    assert id not in system.answerline("dlq", "list", "--state", "retrying").stdout

    # later events of this contact wait behind it, and all come in their order once it is given up
    send(system, envelope(name, contact, 2, outcome="waiting"))
    eventually(lambda: [row[1] for row in waits_aside(system, contact)] == ["dead", "waiting"])
    assert system.get("/v1/reports/queues", source=name).ok()["queues"] == []
    system.answerline("dlq", "drop", id, "--yes")
    eventually(lambda: not waits_aside(system, contact))
    assert system.get("/v1/reports/queues", source=name).ok()["queues"][0]["waiting"] == 1
    received, placed = sums(system)
    assert received == placed


def test_a_dead_letter_whose_cause_is_mended_is_applied_by_retry_and_its_followers_after_it(system: System, name: str) -> None:
    contact = id_of()
    event = envelope(name, contact, outcome="danced")
    send(system, event)
    send(system, envelope(name, contact, 2, outcome="abandoned", ended_at="2026-11-21T12:00:09Z"))
    eventually(lambda: [row[1] for row in waits_aside(system, contact)] == ["dead", "waiting"])

    system.answerline("dlq", "retry", event["id"])
    eventually(lambda: system.sql("routing", "select attempts from set_aside where id = :id", id=event["id"])[0][0] > 0)
    assert [row[1] for row in waits_aside(system, contact)] == ["dead", "waiting"], "nothing was mended, so it is dead again"

    event["data"]["leg"]["outcome"] = "waiting"  # a new version would understand what the old one did not
    system.sql("routing", "update set_aside set body = :body where id = :id", body=json.dumps(event), id=event["id"])
    assert "1 will be tried again" in system.answerline("dlq", "retry", event["id"]).stdout
    eventually(lambda: not waits_aside(system, contact))
    assert system.get("/v1/reports/queues", source=name).ok()["queues"][0]["abandoned"] == 1
    received, placed = sums(system)
    assert received == placed


def test_a_message_that_comes_twice_is_applied_once_and_counted_as_duplicate(system: System, name: str) -> None:
    contact = id_of()
    event = envelope(name, contact)
    send(system, event)
    eventually(lambda: system.get("/v1/reports/queues", source=name).ok()["queues"])
    duplicates = system.metrics()['answerline_routing_inbox_events_total{bucket="duplicate"}']
    if system.deployed:
        send(system, event)
    else:
        system.sql("gateway", "update outbox set published_at = null where id = :id", id=event["id"])
    eventually(lambda: system.metrics()['answerline_routing_inbox_events_total{bucket="duplicate"}'] > duplicates)
    assert system.get("/v1/reports/queues", source=name).ok()["queues"][0]["offered"] == 1
    received, placed = sums(system)
    assert received == placed


def test_an_unknown_dead_letter_is_one_clear_line(system: System) -> None:
    for verb in (("show", "nothing"), ("retry", "nothing"), ("drop", "nothing", "--yes")):
        done = system.answerline("dlq", *verb, code=1)
        assert "answerline dlq list" in done.stderr
        assert "Traceback" not in done.stderr
