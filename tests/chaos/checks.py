"""The guarantees, read from reports, metrics and both databases."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.contracts import topology
from tests.chaos.harness import RECOVERY_SECONDS, Chaos
from tests.chaos.load import Floor, Pbx
from tests.system import SERVICES, eventually

HEARD = ", ".join(f"'{type}'" for type in topology.SUBSCRIPTIONS["routing"])
CLOSED = ("offer_accepted", "offer_declined", "offer_expired", "offer_withdrawn")


def tally(system: Chaos) -> Counter[str]:
    """Routing's buckets, as `shared.bus.inbox.sums` makes them."""
    found = Counter({bucket: int(events) for bucket, events in system.sql("routing", "select bucket, events from tally")})
    found.update({state: int(events) for state, events in system.sql("routing", "select state, count(*) from set_aside group by state")})
    return found


def settled(system: Chaos, within: float = RECOVERY_SECONDS, set_aside: int = 0) -> None:
    """Everything taken in has been correlated, published and applied; no more than that is set aside."""

    def check() -> None:
        left = {
            "uncorrelated": system.count("gateway", "intake where processed_at is null"),
            "unpublished by the gateway": system.count("gateway", "outbox where published_at is null"),
            "unpublished by routing": system.count("routing", "outbox where published_at is null"),
            "not applied": system.count("gateway", f"outbox where type in ({HEARD})") - system.count("routing", "inbox"),
            "set aside": system.count("routing", "set_aside") - set_aside,
        }
        assert not any(left.values()), left

    try:
        eventually(lambda: check() is None, within, every=0.2)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{system.story()}") from None


def nothing_lost_or_twice(system: Chaos) -> dict[str, int]:
    """G2, G3, G5. The figures, for the log of the test."""
    published = system.ids("gateway", f"outbox where type in ({HEARD})")
    applied = system.ids("routing", "inbox")
    buckets = tally(system)
    figures = {"events": len(published), "lost": len(published - applied), "twice": buckets["applied"] - len(applied), **buckets}
    assert applied == published, figures
    assert buckets["applied"] == len(applied), figures
    sums_agree(buckets)
    assert not (buckets["waiting"] or buckets["retrying"] or buckets["dead"]), figures
    return figures


def sums_agree(buckets: Counter[str]) -> None:
    """G2: received is the sum of all other buckets."""
    assert buckets["received"] == sum(events for bucket, events in buckets.items() if bucket != "received"), buckets


def pbx(system: Chaos, load: Pbx) -> dict[str, int]:
    """G1: every acknowledged line is there, and in the figures once."""
    assert load.acknowledged == load.lines
    kept = system.count("gateway", f"intake where source = '{load.source}'")
    assert kept == len(load.lines)
    eventually(lambda: load.check_reports(system) is None)
    return {"calls": len(load.calls), "lines": len(load.lines), "posts": load.posts, "told again": load.duplicate}


def floor(system: Chaos, *loads: Floor) -> dict[str, Any]:
    """Nobody stuck, nobody with two contacts, nothing assigned twice, all ended."""
    left = [tuple(row) for row in system.sql("routing", "select id, state, arrived_at, offer, agent from contact where ended_at is null")]
    assert not left, (left, system.story())
    assert system.count("routing", "offer where state = 'open'") == 0
    for row in system.sql("routing", "select id, work from agent"):
        work = json.loads(row.work) if isinstance(row.work, str) else row.work
        assert all(one["phase"] == "wrap_up" for one in work.values()), row

    offers: dict[str, list[str]] = defaultdict(list)
    lives: dict[str, list[str]] = defaultdict(list)
    with_agent: dict[str, set[str]] = defaultdict(set)
    assigned = 0
    for row in system.sql("routing", "select type, subject, body from outbox where type not like '%agent_state%' order by seq"):
        data = (json.loads(row.body) if isinstance(row.body, str) else row.body)["data"]
        if data["observed"]:
            continue
        what = row.type.split(".")[1]
        lives[row.subject].append(what)
        if what.startswith("offer_"):
            offers[data["offer"]].append(what)
        elif what == "contact_assigned":
            assert not with_agent[data["agent"]], f"{data['agent']} has {with_agent[data['agent']]} and gets {row.subject}"
            with_agent[data["agent"]].add(row.subject)
            assigned += 1
        elif what == "contact_completed":
            with_agent[data["agent"]].remove(row.subject)
    for offer, told in offers.items():
        assert len(told) == 2, (offer, told)
        assert told[0] == "offer_made", (offer, told)
        assert told[1] in CLOSED, (offer, told)
    for contact, told in lives.items():
        assert told[0] == "contact_queued", (contact, told)
        assert told.count("contact_queued") == 1, (contact, told)
        assert told.count("contact_assigned") <= 1, (contact, told)
        assert told.count("contact_completed") + told.count("contact_abandoned") == 1, (contact, told)
    contacts = {contact for load in loads for contact in load.contacts}
    assert set(lives) <= contacts

    rows = [system.get("/v1/reports/queues", source=load.source).ok()["queues"][0] for load in loads]
    assert [row["offered"] for row in rows] == [len(load.contacts) for load in loads]
    assert sum(row["answered"] for row in rows) == assigned
    assert not any(row["waiting"] or row["talking"] for row in rows)
    assert sum(row["abandoned"] for row in rows) == len(contacts) - assigned
    return {"contacts": len(contacts), "routed": len(lives), "offers": len(offers), "assigned": assigned}


# ---- the books of all services


@dataclass
class Books:
    """What became of all events at all their receivers. `events` counts each once for every receiver that it is for."""

    events: int = 0
    applied: int = 0
    lost: int = 0
    twice: int = 0
    stuck: int = 0
    dead: int = 0
    announced: int = 0
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    disagree: list[str] = field(default_factory=list)

    def wrong(self, dead: Mapping[str, int]) -> str:
        """What is not as wanted, but for so many malformed messages that each receiver must have set aside."""
        faults = {"lost": self.lost, "twice": self.twice, "stuck": self.stuck, "sums that do not agree": self.disagree}
        faults["dead, beside what is malformed"] = {
            receiver: sums["dead"] for receiver, sums in self.sums.items() if sums["dead"] != dead.get(receiver, 0)
        }
        return ", ".join(f"{what}: {found}" for what, found in faults.items() if found)


def wait_for_rest(system: Chaos, extra: Collection[str], within: float) -> None:
    """Until all is published and applied, or so many seconds have passed."""
    deadline = time.monotonic() + within
    while _unfinished(system, extra) and time.monotonic() < deadline:
        time.sleep(0.2)


def _unfinished(system: Chaos, extra: Collection[str]) -> bool:
    if system.count("gateway", "intake where processed_at is null"):
        return True
    announced: Counter[str] = Counter()
    applied: dict[str, int] = {}
    for service in SERVICES:
        rows = system.sql(
            service,
            "select type, count(*), sum(case when published_at is null then 1 else 0 end) from outbox group by type "
            "union all select 'inbox', (select count(*) from inbox), (select count(*) from set_aside where state <> 'dead')",
        )
        for type, number, waiting in rows:
            if waiting:
                return True
            if type == "inbox":
                applied[service] = number
            else:
                announced[type] += number
    return any(
        applied[service] < sum(announced[type] for type in topology.SUBSCRIPTIONS[service]) + (len(extra) if service == "routing" else 0)
        for service in SERVICES
    )


def balance(system: Chaos, extra: Collection[str] = ()) -> Books:
    """Every service's outbox against every receiver's inbox and tally. `extra`: what routing was sent that no outbox has. Read again where
    something was announced meanwhile (a timer of routing's, say)."""
    while True:
        books, announced = _balance(system, extra), sum(system.count(service, "outbox") for service in SERVICES)
        if books.announced == announced:
            return books
        wait_for_rest(system, extra, 30)


def _balance(system: Chaos, extra: Collection[str]) -> Books:
    books = Books()
    outboxes = {service: system.sql(service, "select id, type from outbox") for service in SERVICES}
    books.announced = sum(map(len, outboxes.values()))
    for receiver in SERVICES:
        heard = set(topology.SUBSCRIPTIONS[receiver])
        published = {str(row.id) for rows in outboxes.values() for row in rows if row.type in heard} | (
            set(extra) if receiver == "routing" else set()
        )
        applied = system.ids(receiver, "inbox")
        sums = dict.fromkeys(("received", "applied", "duplicate", "dropped", "waiting", "retrying", "dead"), 0)
        sums |= {bucket: int(events) for bucket, events in system.sql(receiver, "select bucket, events from tally")}
        sums |= {state: int(events) for state, events in system.sql(receiver, "select state, count(*) from set_aside group by state")}
        aside = sums["waiting"] + sums["retrying"]
        books.events += len(published)
        books.applied += len(applied)
        books.lost += max(len(published - applied) - aside, 0)
        books.twice += abs(sums["applied"] - len(applied)) + len(applied - published)
        books.stuck += aside + system.count(receiver, "outbox where published_at is null")
        books.dead += sums["dead"]
        books.sums[receiver] = sums
        if sums["received"] != sum(events for bucket, events in sums.items() if bucket != "received"):
            books.disagree.append(receiver)
    books.stuck += system.count("gateway", "intake where processed_at is null")
    return books


def questions(system: Chaos, contact: str, asked: Collection[str]) -> int:
    """Every acknowledged question is kept, was told of once, and is in qa's figures once."""
    kept = {str(row[0]) for row in system.sql("im", "select id from escalation where contact = :contact", contact=contact)}
    assert kept >= set(asked), kept ^ set(asked)
    told = Counter(row[0] for row in system.sql("im", "select subject from outbox where type = 'im.escalation_opened.v1'"))
    assert told == Counter(kept), "told of each once"
    answered = Counter(row[0] for row in system.sql("im", "select subject from outbox where type = 'im.question_answered.v1'"))
    assert all(times == 1 for times in answered.values())
    row = system.sql("qa", "select escalations, answered_inside from contact where id = :contact", contact=contact)[0]
    assert tuple(row) == (len(kept), len(answered)), (tuple(row), len(kept), len(answered))
    return len(kept)


def people(system: Chaos, joined: Collection[str]) -> int:
    """Whoever joined is known to training."""
    known = {row[0] for row in system.sql("training", "select id from person where id like 'joined-%'")}
    assert known == set(joined), known ^ set(joined)
    return len(known)


def stream(system: Chaos) -> int:
    """The log behind streams and webhooks has every event of all services, and each once. Now and then one is published while we read."""

    def published() -> dict[str, str]:
        return {str(row[0]): str(row[1]) for service in SERVICES for row in system.sql(service, "select id, type from outbox")}

    def complete() -> int:
        before = published()
        kept = [str(row[0]) for row in system.sql("gateway", "select id from stream_event")]
        assert len(kept) == len(set(kept)), "each once"
        assert before.keys() <= set(kept), f"not in the stream: {Counter(before[id] for id in before.keys() - set(kept))}"
        assert set(kept) <= published().keys(), "nothing else"
        return len(kept)

    return eventually(complete)
