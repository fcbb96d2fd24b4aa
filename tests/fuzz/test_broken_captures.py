"""Broken captures by way of HTTP: nothing that was acknowledged is lost on its way to the reports, and the reports add up."""

from __future__ import annotations

import random
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.contract.telephony import queue_report
from tests.fuzz.mutations import Intake, broken, intakes
from tests.system import System
from tests.thorough import TIMES, USUAL

DEAD = 'answerline_routing_inbox_set_aside_events{bucket="dead"}'
EXITS = ("answered", "abandoned", "timed_out", "left_by_key", "left_otherwise", "lost", "waiting")


@pytest.mark.parametrize("intake", intakes(), ids=str)
def test_what_was_acknowledged_is_kept_and_the_report_adds_up(system: System, name: str, intake: Intake) -> None:
    sent: list[tuple[bytes, int]] = []
    dead = system.metrics()[DEAD]
    headers = {"Content-Type": intake.kind} | {
        field.removeprefix("HTTP_").replace("_", "-"): unquote(value) if "%" not in value else value
        for field, value in intake.headers.items()
    }

    @seed(1)
    @settings(max_examples=4 * TIMES, deadline=None, database=None, derandomize=USUAL, suppress_health_check=list(HealthCheck))
    @given(body=broken(intake))
    def post(body: bytes) -> None:
        answer = system.post(intake.path, body, headers=headers, source=name)
        assert answer.status in (200, 202, 204, 400, 413, 415, 422), answer
        if answer.status in (200, 202):
            sent.append((body, answer.json["accepted"]))

    post()
    system.settle()
    kept = system.sql("gateway", "select count(*), count(processed_at) from intake where source = :source", source=name)
    assert kept[0][0] == kept[0][1], "all that was kept was made sense of"
    assert kept[0][0] >= sum(accepted for _, accepted in sent)
    random.Random(1).shuffle(sent)
    for body, _ in sent if not intake.name.startswith("callcenter") else ():  # a ring that has lost its time is known by when it came
        assert system.post(intake.path, body, headers=headers, source=name).json["accepted"] == 0, "sent again, it is known"
    system.settle()
    for queue, row in queue_report(system, name).items():
        over = sum(1 for doubt in row["uncertain"] if doubt["over"] and doubt["state"] == "waiting")
        assert row["offered"] == sum(row[figure] for figure in EXITS) + over, (queue, row)
    assert not system.sql("gateway", "select reason from refused where source = :source and door = 'correlation'", source=name)
    assert system.metrics()[DEAD] == dead
