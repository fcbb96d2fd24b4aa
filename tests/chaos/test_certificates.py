"""Certificates and permits end by their dates, whoever is down: routing keeps the dates itself."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tests.chaos.harness import CORE, Chaos
from tests.chaos.synthetic import Say
from tests.e2e.test_training import School, in_seconds
from tests.system import eventually

LASTS = 2.0
ROUNDS_AFTER = 2


@pytest.fixture
def services() -> tuple[str, ...]:
    return *CORE, "training"


def test_dates_are_obeyed_while_training_and_the_broker_are_down(deployed: Chaos, say: Say) -> None:
    """A contact goes round among three who do not react. One is certified without end, one until a moment, one practises until it."""
    system = deployed
    school = School(system, "dates", offer_seconds=1, retry_seconds=0.1, miss_limit=100)
    ann, bob, cem, lee = (school.learner(who) for who in ("ann", "bob", "cem", "lee"))
    school.define("ladders", "agent", {"channels": [{"channel": school.channel}]})
    system.post(f"/v1/learners/{cem}/learning", {"target": school.channel}).ok()
    for who in (ann, bob):
        assert school.give(who).ok()["created"] == 1
    school.contact_on_channel()

    def permit(seconds: float) -> None:
        told = {"channel": school.channel, "supervisor": lee, "contacts_a_day": 20, "until": in_seconds(seconds)}
        system.post(f"/v1/learners/{cem}/permits", told).ok()

    def offers(who: str, since: float = 0.0) -> list[float]:
        """When they were made, as routing's own database has it."""
        rows = system.sql(
            "routing", "select made_at from offer where agent = :agent and made_at >= :since order by made_at", agent=who, since=since
        )
        return [float(row[0]) for row in rows]

    permit(86_400.0)
    eventually(lambda: offers(ann) and offers(bob) and offers(cem), 60)
    ends = time.time() + LASTS
    assert school.give(ann, in_seconds(ends - time.time())).ok()["updated"] == 1
    permit(ends - time.time())
    eventually(lambda: school.until(ann) and system.get(f"/v1/agents/{cem}").ok()["permits"][school.channel]["until"] < in_seconds(3600.0))
    system.kill("training")
    system.kill_broker()
    eventually(lambda: len(offers(bob, ends)) >= ROUNDS_AFTER, 60)
    assert (offers(ann, ends + 0.001), offers(cem, ends + 0.001)) == ([], []), "not one more, from that moment on"
    pauses = [after - before for before, after in pairwise(offers(bob, ends))]
    say(
        {
            "before the end": (len(offers(ann)), len(offers(cem))),
            "of another after it": len(offers(bob, ends)),
            "longest pause": max(pauses),
        }
    )
    system.broker.start()
    system.start("training")
    eventually(lambda: "expired" in school.ended(ann), 60)
    eventually(lambda: not school.serves(ann), 30)
