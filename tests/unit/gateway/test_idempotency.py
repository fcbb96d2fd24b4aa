"""A request with an Idempotency-Key is carried out once, whoever repeats it where and when; and what is certain when a process dies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from services.gateway import store
from services.gateway.idempotency import KEEP_SECONDS, LARGEST_KEPT, ORPHANED_SECONDS, Memory, request_key
from services.gateway.sealing import Sealer
from shared.bus.outbox import UnitOfWork, Work
from shared.errors import AnswerlineError, Conflict, Invalid
from shared.http.endpoint import Response
from shared.http.wsgi import Claim
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import SEALER

ROUTE = "POST /v1/things"
MADE = Response(b'{"key":"al_secret"}', 201, "application/json", [("Location", "/v1/things/1")])


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


@pytest.fixture
def memory(units: UnitOfWork) -> Memory:
    return Memory(units, SEALER)


def claim(memory: Memory, key: str = "k", fingerprint: str = "f", whose: str = "ann") -> Claim:
    claimed = memory.claim(whose, ROUTE, key, fingerprint)
    assert isinstance(claimed, Claim)
    return claimed


def again(memory: Memory, key: str = "k", fingerprint: str = "f", whose: str = "ann") -> Response:
    told = memory.claim(whose, ROUTE, key, fingerprint)
    assert isinstance(told, Response)
    return told


def rows(units: UnitOfWork) -> list[tuple[object, ...]]:
    with units.database.reading() as connection:
        return [tuple(row) for row in connection.execute(select(request_key))]


def test_the_same_answer_comes_again_for_a_day_from_any_process(memory: Memory, units: UnitOfWork, at: SetClock) -> None:
    memory.keep(claim(memory), MADE)
    at.forward(KEEP_SECONDS - 1)
    told = again(Memory(units, SEALER))
    assert (told.status, told.body, told.content_type) == (201, MADE.body, "application/json")
    assert told.headers == [("Location", "/v1/things/1"), ("Idempotency-Replayed", "true")]
    at.forward(2)
    assert claim(memory, fingerprint="another").turn == 1, "after a day it is a key like any other"


def test_it_is_somebodys_own_and_one_routes(memory: Memory) -> None:
    memory.keep(claim(memory), MADE)
    assert claim(memory, whose="eve") and claim(memory, key="other")
    assert isinstance(memory.claim("ann", "POST /v1/others", "k", "f"), Claim)


def test_a_key_used_for_another_request_is_refused(memory: Memory) -> None:
    claimed = claim(memory)
    with pytest.raises(Invalid, match="used for another request"):
        memory.claim("ann", ROUTE, "k", "another")
    memory.keep(claimed, MADE)
    with pytest.raises(Invalid):
        memory.claim("ann", ROUTE, "k", "another")


def test_while_it_is_carried_out_elsewhere_it_is_not_here(memory: Memory, at: SetClock) -> None:
    claim(memory)
    at.forward(ORPHANED_SECONDS - 1)
    with pytest.raises(Conflict) as refused:
        memory.claim("ann", ROUTE, "k", "f")
    assert refused.value.more["retry_after"] >= 1


def test_of_many_at_one_moment_one_is_carried_out(units: UnitOfWork) -> None:
    def ask(_: int) -> str:
        try:
            return type(Memory(units, SEALER).claim("ann", ROUTE, "k", "f")).__name__
        except AnswerlineError as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(40))) == ["Claim"] + ["Conflict"] * 39


def test_what_came_to_nothing_may_be_tried_again(memory: Memory) -> None:
    memory.release(claim(memory))
    assert claim(memory).turn == 1


def test_what_may_have_been_done_is_tried_again_at_once_with_the_same_id(memory: Memory) -> None:
    first = claim(memory)
    memory.release(first, unsure=True)
    again = claim(memory)
    assert (again.turn, again.made) == (2, first.made)
    with pytest.raises(Conflict):
        claim(memory)


def test_a_turn_that_came_to_nothing_says_nothing_of_those_before(memory: Memory) -> None:
    first = claim(memory)
    memory.release(first, unsure=True)
    memory.release(claim(memory))  # 429, say
    again = claim(memory)
    assert (again.turn, again.made) == (3, first.made)


def test_whoever_died_over_it_leaves_it_to_the_next_with_the_same_id_and_its_late_word_does_not_count(memory: Memory, at: SetClock) -> None:
    dead = claim(memory)
    at.forward(ORPHANED_SECONDS)
    second = claim(memory)
    assert (second.turn, second.made) == (2, dead.made)
    memory.keep(dead, Response(b"late"))
    memory.release(dead)
    with pytest.raises(Conflict):
        memory.claim("ann", ROUTE, "k", "f")
    memory.keep(second, MADE)
    assert again(memory).body == MADE.body


def test_where_there_is_but_one_process_a_claim_of_a_former_one_is_nobodys(memory: Memory, units: UnitOfWork, at: SetClock) -> None:
    dead = claim(memory)
    at.forward(1)
    restarted = Memory(units, SEALER, alone_since=at())
    assert claim(restarted).made == dead.made
    at.forward(1)
    with pytest.raises(Conflict):
        restarted.claim("ann", ROUTE, "k", "f")


@pytest.mark.parametrize("answer", [Response(b"x" * (LARGEST_KEPT + 1)), Response(iter([b"x"]))])
def test_an_answer_too_large_to_be_kept_is_still_known_to_have_been_given(memory: Memory, answer: Response) -> None:
    memory.keep(claim(memory), answer)
    with pytest.raises(Conflict, match="was carried out, and answered 200"):
        memory.claim("ann", ROUTE, "k", "f")


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe", "Grüße".encode(), b"x" * LARGEST_KEPT])
def test_an_answer_is_kept_byte_for_byte(memory: Memory, body: bytes) -> None:
    memory.keep(claim(memory), Response(body, 200, "application/octet-stream"))
    assert again(memory).body == body


def test_no_secret_lies_in_the_table(memory: Memory, units: UnitOfWork) -> None:
    memory.keep(claim(memory, key="order-17"), MADE)
    assert "al_secret" not in str(rows(units)) and "order-17" not in str(rows(units))
    with pytest.raises(Conflict, match="cannot be read any more"):
        Memory(units, Sealer(["another" * 8])).claim("ann", ROUTE, "order-17", "f")


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(memory: Memory, units: UnitOfWork, at: SetClock) -> None:
    claimed = claim(memory)

    class Away(UnitOfWork):
        @contextmanager
        def __call__(self) -> Iterator[Work]:
            raise OperationalError("", {}, Exception("gone"))
            yield

    away = Memory(Away(units.database, units.tables), SEALER)
    away.keep(claimed, MADE)
    away.release(claimed)
    with pytest.raises(Conflict):
        memory.claim("ann", ROUTE, "k", "f")


def test_what_is_older_than_a_day_is_forgotten(memory: Memory, units: UnitOfWork, at: SetClock) -> None:
    memory.keep(claim(memory, key="old"), MADE)
    at.forward(KEEP_SECONDS / 2)
    memory.keep(claim(memory, key="new"), MADE)
    at.forward(KEEP_SECONDS / 2 + 1)
    memory.prune()
    assert len(rows(units)) == 1
    assert again(memory, key="new")
