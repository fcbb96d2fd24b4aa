"""What the contract tests share: posts made of the captured samples, and the report as the truth writes it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from services.gateway.domain import ami, dialplan, queue_log
from services.gateway.domain.observation import Malformed, Observation
from tests.system import Answer, Client
from tests.unit.gateway import telephony_samples as samples

DOORS = {door: f"/v1/telephony/asterisk/{door}" for door in ("queue-log", "ami", "dialplan")}
RENAMED = {"missed": "ring_no_answer"}
Figures = dict[str, dict[str, float]]


class Told(NamedTuple):
    """One thing a PBX tells: through which door, the text, and what the domain reads in it (None: nothing, or it cannot be read)."""

    door: str
    text: str
    kind: str
    means: Observation | None
    at: float


@cache
def queue_log_told() -> tuple[Told, ...]:
    means = [(line, queue_log.parse(line)) for line in samples.queue_log_lines()]
    return tuple(Told("queue-log", line, "text/plain", _known(o), float(line.split("|")[0])) for line, o in means)


@cache
def ami_told(name: str = "ami_with_timestamps") -> tuple[Told, ...]:
    def read(line: bytes) -> Told:
        message, received = ami.read_json(line)
        return Told("ami", line.decode(), "application/x-ndjson", _known(ami.interpret(message, received)), received or 0.0)

    return tuple(map(read, samples.ami_lines(name)))


@cache
def dialplan_told() -> tuple[Told, ...]:
    def read(post: dict[str, Any]) -> Told:
        try:
            means = dialplan.interpret(dialplan.decode(post["body"].encode(), post["content_type"]))
        except Malformed:
            means = None
        return Told("dialplan", post["body"], post["content_type"], means, float(post["recv"]))

    return tuple(map(read, samples.posts()))


def _known(told: Any) -> Observation | None:
    return told if isinstance(told, Observation) else None


def raw_ami(name: str = "ami_with_timestamps") -> bytes:
    """The sample as the bytes of an AMI session."""
    frames = []
    for line in samples.ami_lines(name):
        message = json.loads(line)["ami"]
        headers = [(header, one) for header, value in message.items() for one in (value if isinstance(value, list) else [value])]
        frames.append("".join(f"{header}: {value}\r\n" for header, value in headers) + "\r\n")
    return "".join(frames).encode()


# ---- posting


def post(client: Client, source: str, door: str, body: str | bytes, kind: str = "text/plain") -> Answer:
    return client.post(DOORS[door], body, headers={"Content-Type": kind}, source=source)


def post_all(client: Client, source: str, told: Iterable[Told], seconds: float = 1.0, threads: int = 4) -> list[Answer]:
    """Post in the order given, what a door hears within `seconds` in one post where the door takes many; several posts under way at once."""
    posts: list[tuple[str, str, str]] = []
    window: dict[str, list[Told]] = defaultdict(list)

    def flush() -> None:
        for door, heard in window.items():
            if door == "dialplan":
                posts.extend((door, one.text, one.kind) for one in heard)
            else:
                posts.append((door, "\n".join(one.text for one in heard), heard[0].kind))
        window.clear()

    began = None
    for one in told:
        if began is None or abs(one.at - began) > seconds:
            flush()
            began = one.at
        window[one.door].append(one)
    flush()
    patient = client.patient()
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda one: post(patient, source, *one), posts))


# ---- reading


def queue_report(client: Client, source: str, **filters: str) -> dict[str, dict[str, Any]]:
    return {row["queue"]: row for row in client.get("/v1/reports/queues", source=source, **filters).ok()["queues"]}


def queues(client: Client, source: str, **filters: str) -> Figures:
    """The report on queues with the truth's columns."""
    return {queue: {name: row[name] for name in true_queues()["sales"]} for queue, row in queue_report(client, source, **filters).items()}


def agents(client: Client, source: str, **filters: str) -> Figures:
    rows = client.get("/v1/reports/agents", source=source, **filters).ok()["agents"]
    return {row["agent"]: {name: row[name] for name in ("answered", "talk_seconds", "ring_no_answer")} for row in rows}


def true_queues(run: str = "run1") -> Figures:
    return _renamed(samples.TRUTH[run]["queues"])


def true_agents(run: str = "run1") -> Figures:
    return _renamed(samples.TRUTH[run]["agents"])


def _renamed(figures: Figures) -> Figures:
    return {who: {RENAMED.get(name, name): value for name, value in row.items()} for who, row in figures.items()}


def doubts(client: Client, source: str) -> dict[str, tuple[str, bool]]:
    """The calls whose end is uncertain: the state they are in, and whether it cannot be true any more."""
    listed = [doubt for row in queue_report(client, source).values() for doubt in row["uncertain"]]
    assert all(doubt["why"] for doubt in listed)
    return {doubt["call"]: (doubt["state"], doubt["over"]) for doubt in listed}


def kept(system: Any, source: str) -> list[tuple[str, str, str]]:
    """What was refused of this source and kept: door, text, reason."""
    return [
        tuple(row)
        for row in system.sql("gateway", "select door, body, reason from refused where source = :source order by seq", source=source)
    ]
