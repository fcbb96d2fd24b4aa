"""The log that streams and webhooks read: what stands in it, its order, and what is forgotten."""

from __future__ import annotations

import threading
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from services.gateway import store, stream_log
from shared import contracts
from shared.bus.envelope import Event, parse
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.ids import new_id
from tests.system import eventually
from tests.unit.conftest import MakeUnits, SetClock

EXAMPLES = sorted((Path(contracts.__file__).parent / "examples").glob("*.json"))
ENDED, ASSIGNED, STATE = "gateway.contact_ended.v1", "routing.contact_assigned.v1", "gateway.agent_state_reported.v1"


@pytest.fixture
def log(make_units: MakeUnits) -> UnitOfWork:
    return make_units(store.metadata)


def example(path: Path) -> Event:
    """As the inbox hands it on."""
    event = parse(path.read_bytes())
    return Event(event.type, event.subject, contracts.load(event.type, event.data), event.time, event.sequence, event.id,
                 event.correlation, event.cause, event.trace)  # fmt: skip


def append(units: UnitOfWork, *types: str) -> list[str]:
    """Ids of new events of these types."""
    by_type = {path.stem: example(path) for path in EXAMPLES}
    events = [Event(type, by_type[type].subject, by_type[type].data, 1.0, 1) for type in types]
    with units() as work:
        stream_log.append(work, events)
    return [event.id for event in events]


def everything(units: UnitOfWork) -> list[stream_log.Entry]:
    with units.database.reading() as connection:
        return stream_log.after(connection, 0, None, 1000)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_event_stands_there_as_it_was_published(log: UnitOfWork, path: Path) -> None:
    with log() as work:
        stream_log.append(work, [example(path)])
    (entry,) = everything(log)
    told, published = orjson.loads(entry.body), orjson.loads(path.read_bytes())
    assert {name: value for name, value in told["data"].items() if name in published["data"]} == published["data"]
    assert (told["id"], told["type"], told["time"], told["sequence"]) == tuple(
        published[name] for name in ("id", "type", "time", "sequence")
    )
    assert (entry.id, entry.type, entry.subject) == (told["id"], told["type"], told["subject"])
    leg = told["data"].get("leg")
    within = leg if isinstance(leg, dict) else {}
    assert entry.contact == told["data"].get("contact")
    assert entry.queue == (told["data"].get("queue") or within.get("queue"))
    assert entry.agent == (told["data"].get("agent") or within.get("agent") or told["data"].get("person"))
    assert "\n" not in entry.body, "one line of a stream"


def test_it_is_read_in_slices_by_type(log: UnitOfWork) -> None:
    ids = append(log, ENDED, STATE, ASSIGNED, ENDED)
    with log.database.reading() as connection:
        first = stream_log.after(connection, 0, None, 2)
        assert [entry.id for entry in first] == ids[:2]
        assert [entry.id for entry in stream_log.after(connection, first[1].position, None, 10)] == ids[2:]
        assert [entry.id for entry in stream_log.after(connection, 0, {ENDED, ASSIGNED}, 10)] == [ids[0], ids[2], ids[3]]
        assert stream_log.after(connection, 0, set(), 10) == []
        last = stream_log.newest(connection)
        assert [entry.id for entry in stream_log.between(connection, first[0].position, last, 10)] == ids[1:]
        assert stream_log.between(connection, last, last, 10) == []


def test_what_is_old_is_forgotten_but_never_the_last(log: UnitOfWork, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 2)
    with log.database.reading() as connection:
        assert stream_log.extent(connection) == stream_log.Extent(0, 0, None)
    append(log, *[ENDED] * 5)
    at.forward(100)
    kept = append(log, STATE)
    assert [stream_log.prune(log, at() - 50) for _ in range(3)] == [True, True, False], "in slices"
    (entry,) = everything(log)
    assert [entry.id] == kept
    stream_log.prune(log, at() + 1)
    assert [one.id for one in everything(log)] == kept, "the last stays"
    with log.database.reading() as connection:
        assert stream_log.extent(connection) == stream_log.Extent(entry.position - 1, entry.position, entry.at)
        assert stream_log.newest(connection) == entry.position
    append(log, STATE)
    assert everything(log)[-1].position > entry.position, "no position comes again"


def test_the_order_of_positions_is_the_order_of_commits(log: UnitOfWork) -> None:
    """Two processes write at once: one who has read up to a position must never find something new below it."""
    if log.database.sqlite:
        return  # has one writer
    second: list[str] = []
    other = threading.Thread(target=lambda: second.extend(append(log, STATE)))
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    with log() as work:
        first = new_id()
        stream_log.append(work, [Event(STATE, "a", example(next(p for p in EXAMPLES if p.stem == STATE)).data, 1.0, 1, first)])
        other.start()
        with log.database.reading() as connection:
            eventually(lambda: connection.scalar(waiting), within=10)
        assert everything(log) == []
    other.join(10)
    assert [entry.id for entry in everything(log)] == [first, *second]


def test_what_is_taken_back_is_not_there(log: UnitOfWork) -> None:
    with pytest.raises(ZeroDivisionError), log() as work:
        stream_log.append(work, [example(EXAMPLES[0])])
        raise ZeroDivisionError
    assert everything(log) == []
