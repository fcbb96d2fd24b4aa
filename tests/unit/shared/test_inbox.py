"""Receiving: every event ends in exactly one bucket, once, and nobody is blocked by another's fault."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select
from sqlalchemy.exc import OperationalError

from shared.bus import deadletters
from shared.bus.envelope import Event
from shared.bus.inbox import PAUSES, Inbox, sums
from shared.bus.outbox import UnitOfWork, Work
from shared.errors import NotFound
from tests.unit.conftest import MakeUnits, SetClock

from .events import body, broken, event

metadata = MetaData()
ledger = Table("ledger", metadata, Column("n", Integer, primary_key=True), Column("subject", Text), Column("sequence", Integer))


class House:
    """A service that writes down what it was told, unless the event is one that it cannot stand."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        self.inbox = Inbox(units, self.handle)
        self.unbearable: set[str] = set()
        self.batches: list[int] = []

    def handle(self, work: Work, events: list[Event]) -> None:
        self.batches.append(len(events))
        for one in events:
            work.connection.execute(insert(ledger).values(subject=one.subject, sequence=one.sequence))
            if one.id in self.unbearable:
                raise ValueError(f"cannot stand {one.sequence}\nand more")

    def receive(self, *events: Event | bytes) -> None:
        self.inbox.process([one if isinstance(one, bytes) else body(one) for one in events])

    def dislike(self, *events: Event) -> None:
        self.unbearable = {one.id for one in events}

    @property
    def told(self) -> list[tuple[str, int]]:
        with self.units.database.reading() as connection:
            return [(row.subject, row.sequence) for row in connection.execute(select(ledger).order_by(ledger.c.n))]

    @property
    def sums(self) -> dict[str, int]:
        with self.units.database.reading() as connection:
            return {name: count for name, count in sums(connection, self.units).items() if count}

    def aside(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in deadletters.listing(self.units)}


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(metadata))


A = [event("a", n) for n in range(1, 6)]
B = [event("b", n) for n in range(1, 6)]


def test_a_batch_is_one_transaction(house: House) -> None:
    house.receive(*A, *B)
    assert house.told == [("a", n) for n in range(1, 6)] + [("b", n) for n in range(1, 6)]
    assert (house.batches, house.sums) == ([10], {"received": 10, "applied": 10})


def test_an_event_known_already_is_a_duplicate(house: House) -> None:
    house.receive(A[0], A[0], A[1])
    house.receive(A[1], A[0], A[2])
    assert house.told == [("a", 1), ("a", 2), ("a", 3)]
    assert house.sums == {"received": 6, "applied": 3, "duplicate": 3}


def test_the_handler_gets_data_as_the_contract_promises(house: House) -> None:
    heard: list[Event] = []
    house.inbox.handler = lambda _work, events: heard.extend(events)
    house.receive(A[0])
    assert heard == [A[0]]


def test_halving_finds_the_culprit_and_all_others_are_applied(house: House) -> None:
    others = [event(str(n)) for n in range(64)]
    house.dislike(others[23])
    house.receive(*others)
    assert [int(subject) for subject, _ in house.told] == [n for n in range(64) if n != 23]
    assert house.sums == {"received": 64, "applied": 63, "retrying": 1}
    assert len(house.batches) <= 2 * 6 + 1


def test_later_events_of_its_subject_wait_behind_a_culprit_and_others_go_on(house: House) -> None:
    house.dislike(A[1])
    house.receive(A[0], A[1], B[0], A[2], B[1])
    house.receive(A[3], B[2])
    assert house.told == [("a", 1), ("b", 1), ("b", 2), ("b", 3)]
    assert house.sums == {"received": 7, "applied": 4, "retrying": 1, "waiting": 2}


def test_when_the_culprit_succeeds_its_followers_go_on_in_order(house: House, at: SetClock) -> None:
    house.dislike(A[0])
    house.receive(*A)
    house.dislike()
    house.inbox.retry_due()
    assert house.told == []
    at.forward(PAUSES[0])
    house.inbox.retry_due()
    assert house.told == [("a", n) for n in range(1, 6)]
    assert house.sums == {"received": 5, "applied": 5}


def test_it_is_tried_five_times_with_growing_pauses_and_is_then_a_dead_letter_with_its_cause(house: House, at: SetClock) -> None:
    house.dislike(A[0])
    began, tries = at(), []
    house.receive(A[0], A[1])
    while house.aside()[A[0].id] != "dead":
        at.forward(0.5)
        before = len(house.batches)
        house.inbox.retry_due()
        tries += [at() - began] * (len(house.batches) - before)
    assert tries == [1.0, 6.0, 36.0, 156.0]
    dead = deadletters.show(house.units, A[0].id)
    assert (dead["attempts"], dead["cause"]) == (5, "ValueError: cannot stand 1")
    at.forward(86400)
    house.inbox.retry_due()
    assert house.sums == {"received": 2, "dead": 1, "waiting": 1}


def kill(house: House, at: SetClock, *events: Event) -> None:
    house.dislike(*events)
    house.receive(*events)
    for pause in PAUSES:
        at.forward(pause)
        house.inbox.retry_due()


def test_a_dead_letter_retried_goes_on_with_its_followers_in_order(house: House, at: SetClock) -> None:
    kill(house, at, A[0])
    house.receive(*A[1:], B[0])
    house.dislike()
    assert deadletters.retry(house.units) == 1
    house.inbox.retry_due()
    assert house.told == [("b", 1), ("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]
    assert house.sums == {"received": 6, "applied": 6}


def test_a_dead_letter_retried_in_vain_has_all_its_tries_again(house: House, at: SetClock) -> None:
    kill(house, at, A[0])
    deadletters.retry(house.units, A[0].id)
    for _ in PAUSES:
        house.inbox.retry_due()
        assert house.aside() == {A[0].id: "retrying"}
        at.forward(PAUSES[-1])
    house.inbox.retry_due()
    assert house.aside() == {A[0].id: "dead"}


def test_what_waited_behind_a_dropped_event_goes_on(house: House, at: SetClock) -> None:
    kill(house, at, A[0])
    house.receive(*A[1:3])
    deadletters.drop(house.units, A[0].id)
    house.inbox.retry_due()
    assert house.told == [("a", 2), ("a", 3)]
    assert house.sums == {"received": 3, "applied": 2, "dropped": 1}


def test_a_dropped_event_stays_dropped_when_it_comes_again(house: House, at: SetClock) -> None:
    kill(house, at, A[0])
    deadletters.drop(house.units, A[0].id)
    house.dislike()
    house.receive(A[0])
    assert house.told == []
    assert house.sums == {"received": 2, "duplicate": 1, "dropped": 1}


def test_only_the_first_of_a_subject_is_tried_even_when_told_to(house: House, at: SetClock) -> None:
    house.dislike(A[0])
    house.receive(A[0], broken(A[1]))
    deadletters.retry(house.units, A[1].id)
    house.inbox.retry_due()
    assert house.aside() == {A[0].id: "retrying", A[1].id: "retrying"}
    house.dislike()
    for _ in range(2):
        at.forward(PAUSES[0])
        house.inbox.retry_due()
    assert house.told == [("a", 1)]
    assert house.aside() == {A[1].id: "dead"}


def test_a_follower_that_fails_too_is_the_next_culprit(house: House, at: SetClock) -> None:
    house.dislike(A[0])
    house.receive(*A[:3])
    house.dislike(A[1])
    at.forward(PAUSES[0])
    house.inbox.retry_due()
    assert house.aside() == {A[1].id: "retrying", A[2].id: "waiting"}
    house.dislike()
    at.forward(PAUSES[0])
    house.inbox.retry_due()
    assert house.told == [("a", 1), ("a", 2), ("a", 3)]


MALFORMED = [b"", b"{", b"\xff\xfe\x00", b"[]", b'{"type": "x"}', b'{"a": "\\u0000"}', body(event("nul\0")), body(A[0])[:-1]]


def test_malformed_bodies_are_dead_at_once_and_block_nobody(house: House) -> None:
    house.receive(*MALFORMED, A[0])
    assert house.told == [("a", 1)]
    assert house.sums == {"received": 9, "applied": 1, "dead": 8}
    house.receive(*MALFORMED)
    assert house.sums == {"received": 17, "applied": 1, "dead": 8, "duplicate": 8}
    assert all(row["cause"] and row["id"].startswith("malformed-") for row in deadletters.listing(house.units, "dead"))
    house.receive(A[1])
    assert house.told == [("a", 1), ("a", 2)]


def test_data_against_the_contract_are_dead_at_once_and_their_subject_waits(house: House) -> None:
    house.receive(A[0], broken(A[1]), A[2], B[0])
    house.receive(A[3])
    assert house.told == [("a", 1), ("b", 1)]
    assert house.aside() == {A[1].id: "dead", A[2].id: "waiting", A[3].id: "waiting"}
    assert "source" in deadletters.show(house.units, A[1].id)["cause"]
    deadletters.drop(house.units, A[1].id)
    house.inbox.retry_due()
    assert house.told == [("a", 1), ("b", 1), ("a", 3), ("a", 4)]


@pytest.mark.parametrize("id", ["not-a-uuid", "x" * 700, "☎"])
def test_an_id_that_the_database_does_not_take_ends_as_a_dead_letter_at_the_worst(house: House, id: str, at: SetClock) -> None:
    strange = Event(A[0].type, "a", A[0].data, A[0].time, 1, id)
    house.receive(strange, B[0])
    for pause in PAUSES:
        at.forward(pause)
        house.inbox.retry_due()
    assert ("b", 1) in house.told
    assert house.sums in ({"received": 2, "applied": 2}, {"received": 2, "applied": 1, "dead": 1})


def test_a_subject_too_long_for_an_index_is_malformed(house: House) -> None:
    house.receive(event("".join(map(chr, range(33, 733)))), B[0])
    assert house.sums == {"received": 2, "applied": 1, "dead": 1}


def test_a_cause_tells_the_fault_without_the_data(house: House) -> None:
    def fail(work: Work, _events: list[Event]) -> None:
        for _ in range(2):
            work.connection.execute(insert(ledger).values(n=1, subject="+49 30 1234567", sequence=1))

    house.inbox.handler = fail
    house.receive(A[0])
    cause = deadletters.show(house.units, A[0].id)["cause"]
    assert cause.startswith("IntegrityError") and "1234567" not in cause


def test_what_is_announced_while_receiving_shares_the_batchs_fate(house: House) -> None:
    def announce(work: Work, events: list[Event]) -> None:
        for one in events:
            work.announce(event(f"{one.subject}{one.sequence}"))
        if any(one.id == A[1].id for one in events):
            raise ValueError

    house.inbox.handler = announce
    house.receive(*A[:2], B[0])
    outbox = house.units.tables.outbox
    with house.units.database.reading() as connection:
        assert list(connection.scalars(select(outbox.c.subject).order_by(outbox.c.seq))) == ["a1", "b1"]


@contextmanager
def outage(units: UnitOfWork, after: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The database goes away after that many statements, and is back at once."""
    left = [after]
    execute = Connection.execute

    def dying(connection: Connection, *arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OperationalError("server closed the connection", None, Exception("gone"))
        return execute(connection, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "execute", dying)
        yield


@pytest.mark.parametrize("after", range(5))
def test_an_outage_is_raised_and_changes_nothing(house: House, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive(A[0])
    with pytest.raises(OperationalError), outage(house.units, after, monkeypatch):
        house.receive(A[1], B[0])
    assert (house.told, house.sums) == ([("a", 1)], {"received": 1, "applied": 1})
    house.receive(A[1], B[0])
    assert house.sums == {"received": 3, "applied": 3}


def test_an_outage_during_a_retry_is_raised_and_costs_no_try(house: House, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    house.dislike(A[0])
    house.receive(A[0])
    at.forward(PAUSES[0])
    with pytest.raises(OperationalError), outage(house.units, 2, monkeypatch):
        house.inbox.retry_due()
    assert deadletters.show(house.units, A[0].id)["attempts"] == 1


def test_old_keys_are_forgotten(house: House, at: SetClock) -> None:
    house.receive(A[0])
    at.forward(100)
    house.receive(A[1])
    house.inbox.prune(60)
    house.receive(A[0], A[1])
    assert house.told == [("a", 1), ("a", 2), ("a", 1)]


def test_replay_begins_two_checkpoints_back(house: House) -> None:
    seen = [house.inbox.replay_from("gateway")]
    for position in (10, 20, 20, 15, 30):
        house.inbox.note_checkpoint("gateway", position)
        seen.append(house.inbox.replay_from("gateway"))
    assert seen == [0, 0, 10, 10, 10, 20]
    assert house.inbox.replay_from("training") == 0


def test_a_second_loss_begins_where_the_first_did_until_that_has_come_again(house: House) -> None:
    inbox = house.inbox
    for position in (10, 20):
        inbox.note_checkpoint("gateway", position)
    inbox.note_loss({"gateway": inbox.replay_from("gateway")})
    for position in (30, 40):  # what was sent after the loss, and before what was lost
        inbox.note_checkpoint("gateway", position)
    assert inbox.replay_from("gateway") == 10
    inbox.note_loss({"gateway": 10})
    inbox.note_replayed("gateway", 30)  # an answer to another question
    assert inbox.replay_from("gateway") == 10
    inbox.note_replayed("gateway", 10)
    assert inbox.replay_from("gateway") == 30


@pytest.mark.parametrize("action", [deadletters.show, deadletters.drop, deadletters.retry])
def test_what_is_not_there_is_said_so(house: House, action: Callable[[UnitOfWork, str], Any]) -> None:
    with pytest.raises(NotFound, match="dlq list"):
        action(house.units, "nothing")


class Anything(RuleBasedStateMachine):
    """Any sequence of deliveries, failures, retries, drops and outages."""

    house: House
    at: SetClock

    @initialize()
    def begin(self) -> None:
        with self.house.units.database.transaction() as connection:
            for table in (*metadata.sorted_tables, *self.house.units.tables.outbox.metadata.sorted_tables):
                connection.execute(table.delete())
        self.house.unbearable = set()
        self.sent: list[bytes] = []
        self.deliveries = 0
        self.next = dict.fromkeys("abc", 1)

    def make(self, kind: str, subject: str, again: int) -> bytes:
        if kind == "again" and self.sent:
            return self.sent[again % len(self.sent)]
        if kind == "malformed":
            return b"{" + b" " * again
        new = event(subject, self.next[subject])
        self.next[subject] += 1
        if kind == "fails":
            self.house.unbearable.add(new.id)
        self.sent.append(broken(new) if kind == "broken" else body(new))
        return self.sent[-1]

    kinds = st.sampled_from(["fine", "fine", "fine", "fails", "again", "broken", "malformed"])

    @rule(batch=st.lists(st.tuples(kinds, st.sampled_from("abc"), st.integers(0, 30)), min_size=1, max_size=8))
    def deliver(self, batch: list[tuple[str, str, int]]) -> None:
        bodies = [self.make(*one) for one in batch]
        self.house.inbox.process(bodies)
        self.deliveries += len(bodies)

    @rule(seconds=st.sampled_from([1.0, 5.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.at.forward(seconds)
        self.house.inbox.retry_due()

    @precondition(lambda self: self.house.unbearable)
    @rule(which=st.integers(0, 30))
    def mend(self, which: int) -> None:
        self.house.unbearable.discard(sorted(self.house.unbearable)[which % len(self.house.unbearable)])

    @rule(which=st.integers(0, 30), drop=st.booleans())
    def operate(self, which: int, drop: bool) -> None:
        aside = sorted(self.house.aside())
        if not aside:
            return
        with suppress(NotFound):
            (deadletters.drop if drop else deadletters.retry)(self.house.units, aside[which % len(aside)])

    @invariant()
    def every_delivery_is_in_exactly_one_bucket(self) -> None:
        if not hasattr(self, "deliveries"):
            return
        buckets = self.house.sums
        assert buckets.pop("received", 0) == sum(buckets.values()) == self.deliveries
        assert buckets.get("applied", 0) == len(self.house.told)

    @invariant()
    def each_is_applied_once_and_in_the_order_of_its_subject(self) -> None:
        for subject in "abc":
            told = [sequence for whose, sequence in self.house.told if whose == subject]
            assert told == sorted(set(told))


def test_the_sums_agree_and_order_holds_after_anything(house: House, at: SetClock) -> None:
    Anything.house, Anything.at = house, at
    examples = 25 if house.units.database.sqlite else 8
    how = settings(max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Anything, settings=how)
