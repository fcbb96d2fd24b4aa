"""What the reports and a contact's own page say, and for which time and source."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared import clock
from tests.contract.telephony import agents, post, queues, true_agents, true_queues
from tests.system import System
from tests.unit.gateway import telephony_samples as samples

LOG = "\n".join(samples.queue_log_lines())
LEGS = samples.legs_of(samples.by_queue_log())
ARRIVALS = sorted(leg.arrived_at for leg in LEGS if leg.arrived_at)


def text(moment: float, hours: int = 0) -> str:
    return datetime.fromtimestamp(moment, timezone(timedelta(hours=hours)) if hours else UTC).isoformat()


@pytest.fixture(scope="module")
def told(system: System) -> str:
    """A source that told all of run1."""
    post(system, "reports", "queue-log", LOG).ok()
    system.settle()
    return "reports"


@pytest.mark.parametrize(("start", "end"), [(20, 80), (0, 60), (60, 117), (50, 51), (50, 50)])
@pytest.mark.parametrize("hours", [0, 8])
def test_from_and_to_choose_by_arrival_the_first_included_the_last_not(system: System, told: str, start: int, end: int, hours: int) -> None:
    since, until = (ARRIVALS[at] if at < len(ARRIVALS) else ARRIVALS[-1] + 1 for at in (start, end))
    within = [leg for leg in LEGS if leg.arrived_at is not None and since <= leg.arrived_at < until]
    period = {"from": text(since, hours), "to": text(until, hours)}
    expected = {
        queue: {"ring_no_answer" if n == "missed" else n: v for n, v in row.items()} for queue, row in samples.by_queue(within).items()
    }
    assert queues(system, told, **period) == expected
    expected = {
        agent: {"ring_no_answer" if n == "missed" else n: v for n, v in row.items()} for agent, row in samples.by_agent(within).items()
    }
    assert {agent: row for agent, row in agents(system, told, **period).items() if any(row.values())} == expected


def test_an_open_end_takes_everything_from_there(system: System, told: str) -> None:
    first, second = queues(system, told, to=text(ARRIVALS[50])), queues(system, told, **{"from": text(ARRIVALS[50])})
    assert {queue: row["offered"] + second[queue]["offered"] for queue, row in first.items()} == {
        queue: row["offered"] for queue, row in true_queues().items()
    }


def test_a_source_filter_shows_that_source_alone_and_none_shows_all(system: System, told: str) -> None:
    other = f"{told}_other"
    post(system, other, "queue-log", "1795296258|1.1|sales|NONE|ENTERQUEUE||1|1\n1795296260|1.1|sales|NONE|ABANDON|1|1|2").ok()
    system.settle()
    assert queues(system, told) == true_queues()
    assert agents(system, told) == true_agents()
    assert queues(system, other)["sales"]["offered"] == 1
    assert queues(system, "nobody") == {}
    everywhere = {row["queue"]: row["offered"] for row in system.get("/v1/reports/queues").ok()["queues"]}
    assert everywhere["sales"] >= true_queues()["sales"]["offered"] + 1


def test_a_contact_is_found_by_its_call_and_by_its_id_and_tells_its_story(system: System, told: str) -> None:
    leg = next(leg for leg in LEGS if leg.outcome == "completed")
    found = system.get(f"/v1/contacts/{told}:{leg.call}").ok()
    assert system.get(f"/v1/contacts/{found['contact']}").ok() == found
    assert (found["source"], found["channel"], found["observed"]) == (told, "voice", True)
    (story,) = found["legs"]
    expected = {
        "number": 1, "queue": leg.queue, "call": leg.call, "agent": leg.agent, "position": leg.position, "outcome": "completed",
        "ended_by": leg.ended_by,
        **{moment: clock.to_text(getattr(leg, moment)) for moment in ("arrived_at", "answered_at", "ended_at")},
        "hold_seconds": leg.hold_seconds, "talk_seconds": leg.talk_seconds, "missed": leg.missed, "uncertain": None,
    }  # fmt: skip
    assert {fact: story[fact] for fact in expected} == expected
    assert "caller" not in story, "a number is not passed on to who does not need it"


def test_a_call_queued_again_by_a_blind_transfer_is_one_contact_of_two_legs(system: System, told: str) -> None:
    legs = system.get(f"/v1/contacts/{told}:1795296281.138").ok()["legs"]
    assert [leg["number"] for leg in legs] == [1, 2]
    assert legs[0]["outcome"] == "transferred"
    assert legs[0]["target"]


def test_the_same_call_id_of_another_source_is_another_contact(system: System, told: str) -> None:
    post(system, f"{told}_twin", "queue-log", LOG).ok()
    system.settle()
    ids = {system.get(f"/v1/contacts/{source}:1795296281.138").ok()["contact"] for source in (told, f"{told}_twin")}
    assert len(ids) == 2
    system.get(f"/v1/contacts/{told}_third:1795296281.138").problem(404)


def test_an_agent_of_the_directory_is_one_row_under_all_its_names(system: System, name: str) -> None:
    system.put(f"/v1/agents/{name}", {"name": f"Bob {name}", "address": f"Local/{name}", "aliases": [f"bob-{name}"]}).ok()
    at = 1795296258
    lines = f"{at}|1.1|sales|NONE|ENTERQUEUE||1|1\n{at + 1}|1.1|sales|bob-{name}|CONNECT|1|1.2|0\n{at + 5}|1.1|sales|bob-{name}|COMPLETEAGENT|1|4|1\n"
    lines += f"{at}|2.1|sales|NONE|ENTERQUEUE||1|1\n{at + 1}|2.1|sales|Local/{name}|RINGNOANSWER|1000\n"
    post(system, name, "queue-log", lines).ok()
    system.settle()
    assert agents(system, name) == {f"Bob {name}": {"answered": 1, "talk_seconds": 4, "ring_no_answer": 1}}
