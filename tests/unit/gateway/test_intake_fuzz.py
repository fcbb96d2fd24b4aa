"""Captures broken at random, at each door of telephony: no crash, and nothing that was acknowledged is lost.

`make fuzz` tries many times more (ANSWERLINE_FUZZ)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from sqlalchemy import func, select

from services.gateway import handlers, store
from services.gateway.handlers import Receipt, Taken
from tests.fuzz.mutations import Intake, broken, intakes
from tests.thorough import TIMES, USUAL
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

EXAMPLES = 15 * TIMES
HOW = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=USUAL, database=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)  # fmt: skip


class Watched(Doors):
    """The doors, and what each post was acknowledged with, also where the sender is told no numbers."""

    def __init__(self, units: Any) -> None:
        super().__init__(units)
        self.receipts: list[Receipt] = []
        self.service.core.take = lambda taken: self._take([taken])[0]
        self.service.core.take_all = self._take

    def _take(self, posts: Any) -> list[Receipt]:
        receipts = handlers.take_in(self.units, posts)
        self.receipts.extend(receipts)
        return receipts

    def post(self, intake: Intake, source: str, body: bytes) -> tuple[int, list[int]]:
        """Status; and how many observations were accepted, duplicate, ignored and rejected."""
        self.receipts.clear()
        answer = self("POST", f"{intake.path}?source={source}", body, key="telephony", kind=intake.kind, **intake.headers)
        told = [[one.accepted, one.duplicate, one.ignored, one.rejected_total] for one in self.receipts]
        sums = [sum(column) for column in zip(*told, strict=True)] or [0, 0, 0, 0]
        if answer.status in (200, 202):
            shown = answer.json
            assert [shown["accepted"], shown["duplicate"], shown["ignored"], shown["rejected_total"]] == sums
        return answer.status, sums

    def count(self, table: Any, source: str) -> int:
        with self.units.database.reading() as connection:
            return int(connection.scalar(select(func.count()).select_from(table).where(table.c.source == source)) or 0)


def told_in(intake: Intake, body: bytes) -> int | None:
    """How many things a post tells, where that can be counted from outside; None where it cannot."""
    if intake.name == "queue_log" or (intake.name in ("ami_json", "callcenter_json") and body.lstrip()[:1] == b"{"):
        return sum(1 for line in body.split(b"\n") if line.strip())
    if intake.name in ("twilio_events", "cloudevents_batch"):
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return len(told) if isinstance(told, list) else None
    return None


@pytest.mark.parametrize("intake", intakes(), ids=str)
def test_no_post_however_broken_crashes_a_door_or_loses_what_it_acknowledged(intake: Intake, make_units: MakeUnits, at: SetClock) -> None:
    doors, numbers = Watched(make_units(store.metadata)), itertools.count(1)

    @HOW
    @given(body=broken(intake))
    @example(body=b"")
    @example(body=b"\x00" * 100)
    @example(body=b"[" * 50_000)
    @example(body=b'{"a":' * 50_000)
    @example(body=b"9" * 10_000)
    def hold(body: bytes) -> None:
        source = f"s{next(numbers)}"
        status, (accepted, duplicate, ignored, rejected) = doors.post(intake, source, body)
        assert status in (200, 202, 204, 400, 413, 415, 422), status
        if status >= 400:
            assert not accepted + duplicate + ignored, "what is refused was not taken"
        elif (told := told_in(intake, body)) is not None:
            assert accepted + duplicate + ignored + rejected == told
        assert doors.count(store.intake, source) == accepted
        assert doors.count(store.refused, source) == rejected
        again = doors.post(intake, source, body)
        assert again == (status, [0, accepted + duplicate, ignored, rejected]), "sent again, it is known"
        assert doors.count(store.intake, source) == accepted

    hold()
    doors.announced()  # everything is correlated, and each event fits its contract
    with doors.units.database.reading() as connection:
        pending = connection.scalar(select(func.count()).select_from(store.intake).where(store.intake.c.processed_at.is_(None)))
        poison = connection.scalars(select(store.refused.c.reason).where(store.refused.c.door == "correlation")).all()
    assert not pending
    assert not poison, "what a door accepts can be made sense of"


@pytest.mark.parametrize("intake", intakes(), ids=str)
def test_whole_captures_are_accepted(intake: Intake, make_units: MakeUnits, at: SetClock) -> None:
    """Else the posts broken above would all be refused for the same reason."""
    doors = Watched(make_units(store.metadata))
    told = [doors.post(intake, "whole", body) for body in intake.posts]
    assert sum(status >= 300 for status, _ in told) <= len(intake.posts) // 10, "a real dialplan gets its quotes wrong now and then"
    assert sum(sums[0] for _, sums in told) >= 1


def test_a_loss_would_be_found(make_units: MakeUnits, at: SetClock) -> None:
    doors, intake = Watched(make_units(store.metadata)), intakes()[0]
    honest = doors.service.core.take

    def forget(taken: Taken) -> Receipt:
        receipt = honest(taken)
        with doors.units() as work:
            work.connection.execute(store.intake.delete().where(store.intake.c.seq == 1))
        return receipt

    doors.service.core.take = forget
    _, (accepted, *_) = doors.post(intake, "s", intake.posts[0])
    assert doors.count(store.intake, "s") != accepted
