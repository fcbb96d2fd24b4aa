"""Samples of a real Asterisk (22, synthetic callers): run1 by three reporters, run2's AMI without Timestamps; and their true figures."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from services.gateway.domain import ami, dialplan, queue_log
from services.gateway.domain.legs import Leg, fold
from services.gateway.domain.observation import CALL_KINDS, Malformed, Observation

DATA = Path(__file__).parents[2] / "data" / "telephony"
TRUTH = json.loads((DATA / "truth.json").read_text())


def queue_log_lines() -> list[str]:
    return (DATA / "queue_log").read_text().splitlines()


def ami_lines(name: str) -> list[bytes]:
    return gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes()).splitlines()


def raw_ami() -> bytes:
    return gzip.decompress((DATA / "ami_start.raw.gz").read_bytes())


def posts() -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress((DATA / "curl_posts.jsonl.gz").read_bytes()).splitlines()]


@cache
def by_queue_log() -> tuple[Observation, ...]:
    return tuple(o for line in queue_log_lines() if isinstance(o := queue_log.parse(line), Observation))


@cache
def by_ami(name: str = "ami_with_timestamps") -> tuple[Observation, ...]:
    read = [ami.interpret(*ami.read_json(line)) for line in ami_lines(name)]
    return tuple(o for o in read if isinstance(o, Observation))


@cache
def by_dialplan() -> tuple[Observation, ...]:
    told = []
    for post in posts():
        try:
            told.append(dialplan.interpret(dialplan.decode(post["body"].encode(), post["content_type"])))
        except Malformed:
            continue
    return tuple(told)


def group_by_contact(observations: Iterable[Observation]) -> list[list[Observation]]:
    """Observations of calls, sorted into contacts: two are of one contact when a chain of shared ids joins them."""
    contacts: dict[str, list[Observation]] = {}
    for observation in observations:
        if observation.kind not in CALL_KINDS:
            continue
        ids = observation.identifiers
        known = list({id(c): c for i in ids if (c := contacts.get(i)) is not None}.values())
        contact = max(known, key=len) if known else []
        for other in known:
            if other is not contact:
                contact.extend(other)
                for moved in other:
                    contacts.update(dict.fromkeys(moved.identifiers, contact))
        contact.append(observation)
        contacts.update(dict.fromkeys(ids, contact))
    return list({id(contact): contact for contact in contacts.values()}.values())


def legs_of(observations: Iterable[Observation]) -> list[Leg]:
    return [leg for contact in group_by_contact(observations) for leg in fold(contact)]


def by_queue(legs: Iterable[Leg]) -> dict[str, dict[str, float]]:
    figures: dict[str, Counter[str]] = defaultdict(Counter)
    for leg in legs:
        count = figures[leg.queue]
        count["offered"] += 1
        count["answered"] += leg.answered
        count[leg.outcome] += 1
        count["hold_seconds"] += int(leg.hold_seconds or 0) if leg.answered else 0
        count["talk_seconds"] += int(leg.talk_seconds or 0)
        count["missed"] += sum((leg.missed or {}).values())
    return {queue: {name: count[name] for name in TRUTH["run1"]["queues"]["sales"]} for queue, count in figures.items()}


def by_agent(legs: Iterable[Leg]) -> dict[str, dict[str, float]]:
    figures: dict[str, Counter[str]] = defaultdict(Counter)
    for leg in legs:
        if leg.agent:
            figures[leg.agent]["answered"] += 1
            figures[leg.agent]["talk_seconds"] += int(leg.talk_seconds or 0)
        for agent, rings in (leg.missed or {}).items():
            figures[agent]["missed"] += rings
    return {agent: {name: count[name] for name in ("answered", "talk_seconds", "missed")} for agent, count in figures.items()}
