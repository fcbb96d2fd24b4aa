"""Poison ends as dead letters with a cause, blocks nobody else, and comes back when the fault is mended."""

from __future__ import annotations

import json
import random
from typing import Any

from kombu import Connection

from shared.contracts import topology
from shared.ids import new_id
from tests.chaos import checks, synthetic
from tests.chaos.harness import Chaos
from tests.chaos.load import DOOR, Pbx, call
from tests.chaos.synthetic import Say
from tests.system import eventually

FAULT = "no leg of this queue today"
POISON = "poison"
TRIGGER = {
    True: (
        f"create function poisoned() returns trigger language plpgsql as $$ begin if new.queue = '{POISON}' then "
        f"raise exception '{FAULT}'; end if; return new; end $$",
        "create trigger poisoned before insert on leg for each row execute function poisoned()",
    ),
    False: (f"create trigger poisoned before insert on leg when new.queue = '{POISON}' begin select raise(abort, '{FAULT}'); end",),
}
MEND = {True: "drop trigger poisoned on leg", False: "drop trigger poisoned"}
NOW = "update set_aside set next_try_at = 0 where state = 'retrying'"
"""The pauses between tries are minutes; the test lets them pass."""


def states(system: Chaos) -> dict[str, int]:
    return {state: int(number) for state, number in system.sql("routing", "select state, count(*) from set_aside group by state")}


def test_events_whose_handler_raises(either: Chaos, seed: int, say: Say) -> None:
    system = either
    for statement in TRIGGER[system.deployed]:
        system.sql("routing", statement)
    calls = [call(random.Random(seed * 10 + number), f"bad-{number}", 1700000000 + number) for number in range(12)]
    for one in calls:
        one.lines = [line.replace(f"|{one.queue}|", f"|{POISON}|") for line in one.lines]
        one.queue = POISON
    with Pbx([system], seed, pace=0.2).working() as pbx:  # that others are not held up is seen by the first few as well
        for line in (line for step in range(9) for one in calls for line in one.lines[step : step + 1]):
            system.post(DOOR, line, source="bad").ok()
        eventually(lambda: states(system).get("retrying") == len(calls))
        system.settle()  # nobody else is blocked
        system.kill("routing")
        system.start("routing")

        def dead() -> bool:
            system.sql("routing", NOW)
            return states(system).get("dead") == len(calls)

        eventually(dead, 60, every=0.2)
        system.settle()
    waiting = states(system)["waiting"]
    assert states(system) == {"dead": len(calls), "waiting": waiting}, "first of its contact is dead, later ones wait behind it"
    listed = system.answerline("dlq", "list", "--state", "dead").stdout.splitlines()
    assert len(listed) == len(calls)
    assert all(FAULT in line for line in listed)
    checks.sums_agree(checks.tally(system))
    eventually(lambda: pbx.check_reports(system) is None)

    system.sql("routing", MEND[system.deployed])
    assert f"{len(calls)} will be tried again" in system.answerline("dlq", "retry").stdout
    checks.settled(system)
    figures = checks.nothing_lost_or_twice(system) | checks.pbx(system, pbx)
    pbx.calls, pbx.source = calls, "bad"
    pbx.check_reports(system)
    say({"dead": len(calls), "behind them": waiting, **figures})


NONSENSE = (
    b"",
    b"[]",
    b"\xff",
    b"{}",
    b'{"receiver":"nobody","after":"x"}',
    b'{"receiver":"routing","after":-1}',
    b'{"method":"x","deadline":9e99}',
)


def poison() -> dict[str, dict[str, Any]]:
    """name -> how to publish it"""
    good = synthetic.envelope(
        "gateway.contact_arrived.v1", "c" * 36, {"number": 1, "queue": "q", "call": "1", "outcome": "waiting", "arrived_at": 1e9}
    )

    def changed(**values: Any) -> dict[str, Any]:
        told = {**good, "id": new_id(), **values}
        return {"body": json.dumps({name: value for name, value in told.items() if value is not ...}).encode()}

    bodies = {
        "nothing": b"",
        "no JSON": b"\x00\xff\xfe",
        "a list": b"[]",
        "a number": b"17",
        "too deep": b"[" * 5000 + b"]" * 5000,
        "a megabyte": b"x" * 2**20,
        "a control without JSON": b'{"control"',
        "an unknown control": b'{"control":"self-destruct"}',
        "a checkpoint without a position": b'{"control":"checkpoint"}',
        "a checkpoint of nonsense": b'{"control":"checkpoint","publisher":{},"position":"far"}',
        "a control that is a list": b'{"control":[]}',
    }
    return {
        **{name: {"body": body} for name, body in bodies.items()},
        "without id": changed(id=...),
        "id of another kind": changed(id=5),
        "an id too long": changed(id="x" * 700),
        "unknown type": changed(type="gateway.nonsense.v1"),
        "another publisher": changed(type="nobody.nothing.v9"),
        "data no object": changed(data=[]),
        "data lack the leg": changed(data={"contact": "c" * 36}),
        "time nonsense": changed(time="yesterday"),
        "sequence too large": changed(sequence=2**80),
        "NUL in the subject": changed(subject="a\0b"),
        "an unknown encoding": {"body": b"{ }", "content_encoding": "klingon"},
        "an unknown content type": {"body": b"{}", "content_type": "application/x-python-serialize"},
        "an unknown compression": {"body": b"{  }", "headers": {"compression": "application/x-nonsense"}},
        "a broken compression": {"body": b"{   }", "headers": {"compression": "application/x-gzip"}},
    }


def test_malformed_messages(deployed: Chaos, seed: int, say: Say) -> None:
    system = deployed
    sent = poison()
    with Pbx([system], seed).working() as pbx:
        with Connection(system.broker_url) as connection, connection.channel() as channel:
            for message in sent.values():
                prepared = channel.prepare_message(
                    message["body"], content_type=message.get("content_type", "application/json"), headers=message.get("headers"),
                    content_encoding=message.get("content_encoding", "utf-8"), properties={"delivery_mode": 2},
                )  # fmt: skip
                channel.basic_publish(prepared, exchange="", routing_key=topology.inbox_queue("routing"))
            for queue in (topology.replay_queue("gateway"), topology.replay_queue("routing"), topology.command_queue("routing")):
                for body in NONSENSE:
                    channel.basic_publish(channel.prepare_message(body, content_type="application/json"), exchange="", routing_key=queue)
        system.settle()
    checks.settled(system, set_aside=len(sent))
    assert checks.tally(system)["dead"] == len(sent)
    checks.sums_agree(checks.tally(system))
    pbx.check_reports(system)
    listed = system.answerline("dlq", "list", "--state", "dead").stdout.splitlines()
    causes = {line.rpartition("  ")[2] for line in listed}
    assert len(listed) == len(sent)
    assert all(causes)
    assert all(system.running(service) for service in system.apart)
    say({"malformed": len(sent), "different causes": len(causes)})
