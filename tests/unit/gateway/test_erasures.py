"""Who wants to be forgotten is: in the directory, in contacts, in raw intake and in the log of events; figures stay."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import sqlalchemy
from sqlalchemy import insert, select

from services.gateway import customers, erasures, handlers, recordings, store, stream_log
from services.gateway.domain.observation import Observation
from services.gateway.handlers import Arrival, Reading, Taken
from services.gateway.promises import promised_callback
from shared import contracts
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

NUMBER, OTHER = "+49301234567", "+85291234567"
AT = 1_800_000_000.0


def mark(number: str) -> str:
    return f"m{sum(map(ord, number))}"


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    units = make_units(store.metadata)
    customers.put(units, "c1", {"numbers": [NUMBER], "language": "zh"})
    return units


def call(units: UnitOfWork, caller: str | None = NUMBER, ended: bool = True, **wishes: Any) -> str:
    id = new_id()
    told = [Observation("api", "entered", f"api|{id}", AT, call=id, queue="sales", caller=caller, name="Li Chan")]
    if ended:
        told.append(Observation("api", "abandoned", f"api|{id}|over", AT + 9, call=id, queue="sales"))
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading(told), Arrival(id, wishes=wishes))])
    while handlers.correlate(units, "", mark):
        pass
    return id


def everything(units: UnitOfWork) -> str:
    """Every word that the gateway has, but for what waits to be published and what is still to be looked for."""
    with units.database.reading() as connection:
        tables = [table for table in store.metadata.sorted_tables if table is not erasures.erasure]
        return "\n".join(orjson.dumps(list(map(list, connection.execute(select(table)))), default=str).decode() for table in tables)


def work_through(units: UnitOfWork) -> None:
    while erasures.step(units):
        pass


def callers(units: UnitOfWork, *ids: str) -> list[str | None]:
    with units.database.reading() as connection:
        rows = store.load_contacts(connection, ids)
    return [next((one["caller"] for one in rows[id].observations if one.get("caller")), None) for id in ids]


def told(units: UnitOfWork, type: str = erasures.ERASED) -> list[dict[str, Any]]:
    outbox = units.tables.outbox
    with units.database.reading() as connection:
        bodies = list(connection.scalars(select(outbox.c.body).where(outbox.c.type == type).order_by(outbox.c.seq)))
    return [contracts.load(body["type"], body["data"]) for body in bodies]


def test_nothing_is_left_of_whom_is_forgotten_and_their_contacts_stay(units: UnitOfWork) -> None:
    named, rang = call(units, None, customer="c1"), call(units)
    with units() as work:
        row = {"type": "im.message_posted.v1", "at": AT, "subject": rang, "contact": rang, "body": {"text": f"{NUMBER} asks"}}
        work.connection.execute(
            insert(stream_log.stream_event), [{**row, "id": new_id()}, {**row, "id": new_id(), "contact": None, "body": {}}]
        )
        raw = {"source": "pbx1", "door": "ami", "body": f"Caller: {NUMBER[1:]}", "reason": "?", "received_at": AT}
        work.connection.execute(insert(store.refused).values(**raw))
        work.connection.execute(
            insert(promised_callback).values(contact=rang, escalation="e", queue="sales", agent="anna", tries=0, next_at=AT)
        )
        kept = {"call": rang, "location": f"/rec/{NUMBER}.wav", "failed": False, "muted": [], "consent": "unknown", "sequence": 1}
        work.connection.execute(insert(recordings.recording).values(id=new_id(), contact=rang, source="pbx1", **kept))
    before = everything(units)
    assert all(word in before for word in (NUMBER, "Li Chan", '"c1"'))
    answer = erasures.erase(units, "c1", mark)
    assert {name: answer[name] for name in ("contacts", "recordings", "numbers")} == {"contacts": 2, "recordings": 1, "numbers": 1}
    work_through(units)
    left = everything(units)
    assert not any(word in left for word in (NUMBER, NUMBER[1:], "Li Chan", '"c1"', mark(NUMBER), " asks"))
    with pytest.raises(NotFound):
        customers.get(units, "c1")
    with units.database.reading() as connection:
        rows = store.load_contacts(connection, [named, rang])
    assert [leg["outcome"] for id in (named, rang) for leg in rows[id].legs] == ["abandoned", "abandoned"]
    (event,) = told(units)
    assert sorted(event["contacts"]) == sorted([named, rang])
    assert {row.wishes["customer"] for row in rows.values()} == {event["stand_in"]}


def test_what_is_corrected_later_names_the_stand_in(units: UnitOfWork) -> None:
    id = call(units)
    erasures.erase(units, "c1", mark)
    late = Observation("api", "completed", f"api|{id}|late", AT + 9, call=id, queue="sales", agent="anna", talk_seconds=4.0)
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([late]))])
    handlers.correlate(units, "", mark)
    work_through(units)
    (event,), corrected = told(units), told(units, "gateway.contact_corrected.v1")
    assert corrected
    assert {one["customer"] for one in corrected} == {event["stand_in"]}
    assert callers(units, id) == [None]


def test_others_keep_what_is_theirs(units: UnitOfWork) -> None:
    customers.put(units, "c2", {"numbers": [OTHER]})
    theirs = [call(units, OTHER), call(units, NUMBER, customer="c2"), call(units, None)]
    erasures.erase(units, "c1", mark)
    work_through(units)
    with units.database.reading() as connection:
        rows = store.load_contacts(connection, theirs)
    assert [rows[id].wishes.get("customer") for id in theirs] == ["c2", "c2", None]
    assert callers(units, *theirs) == [OTHER, NUMBER, None]
    assert customers.get(units, "c2")["numbers"] == [OTHER]


def test_a_number_that_two_share_says_nothing_of_who_rang(units: UnitOfWork) -> None:
    customers.put(units, "c2", {"numbers": [NUMBER]})
    id = call(units)
    assert erasures.erase(units, "c1", mark)["contacts"] == 0
    assert callers(units, id) == [NUMBER]


def test_while_a_contact_is_under_way_nobody_is_forgotten(units: UnitOfWork) -> None:
    id = call(units, ended=False)
    with pytest.raises(Conflict, match="under way") as refused:
        erasures.erase(units, "c1", mark)
    assert refused.value.more == {"contacts": [id]}
    assert (customers.get(units, "c1")["numbers"], told(units)) == ([NUMBER], [])


def test_again_it_finds_nothing_and_tells_the_others_again(units: UnitOfWork) -> None:
    call(units)
    erasures.erase(units, "c1", mark)
    again = erasures.erase(units, "c1", mark)
    assert [again[name] for name in ("contacts", "recordings", "numbers")] == [0, 0, 0]
    assert [event["customer"] for event in told(units)] == ["c1", "c1"]


def test_a_day_later_it_is_told_again_and_the_id_is_forgotten_too(units: UnitOfWork, at: SetClock) -> None:
    call(units)
    erasures.erase(units, "c1", mark)
    work_through(units)
    at.forward(erasures.AGAIN_SECONDS)
    work_through(units)
    first, second = told(units)
    assert {**first, "at": 0} == {**second, "at": 0}
    with units.database.reading() as connection:
        assert connection.execute(select(erasures.erasure)).all() == []


def test_what_arrives_after_the_erasure_is_forgotten_a_day_later(units: UnitOfWork, at: SetClock) -> None:
    id = call(units)
    erasures.erase(units, "c1", mark)
    work_through(units)
    late = Observation(
        "api", "completed", f"api|{id}|late", AT + 9, call=id, linked=f"{id}-2", queue="sales", caller=NUMBER, name="Li Chan"
    )
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([late]))])
    handlers.correlate(units, "", mark)
    later = Observation("api", "completed", f"api|{id}|later", AT + 9, call=f"{id}-2", caller=NUMBER)  # by a name that it got since
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([later]))])
    handlers.correlate(units, "", mark)
    kept = {"call": id, "location": f"/rec/{NUMBER}.wav", "failed": False, "muted": [], "consent": "unknown", "sequence": 1}
    row = {"type": "im.message_posted.v1", "at": AT, "subject": id, "body": {"text": f"{NUMBER} asks"}}
    with units() as work:
        work.connection.execute(insert(recordings.recording).values(id=new_id(), contact=id, source="pbx1", **kept))
        log = [{**row, "id": new_id(), "contact": id}, {**row, "id": new_id(), "contact": None, "body": {}}]
        work.connection.execute(insert(stream_log.stream_event), log)
    assert NUMBER in everything(units)
    at.forward(erasures.AGAIN_SECONDS)
    work_through(units)
    left = everything(units)
    assert [word for word in (NUMBER, "Li Chan", '"c1"', mark(NUMBER), " asks") if word in left] == []
    with units.database.reading() as connection:
        assert connection.execute(select(erasures.erasure)).all() == []


def test_a_call_of_the_same_name_at_another_pbx_keeps_what_is_its_own(units: UnitOfWork) -> None:
    customers.put(units, "c2", {"numbers": [OTHER]})
    first, second = new_id(), new_id()
    for source, call_id, caller in (("pbx1", first, NUMBER), ("pbx2", second, NUMBER), ("pbx2", first, OTHER)):
        told = [
            Observation("api", "entered", f"api|{call_id}", AT, call=call_id, queue="sales", caller=caller),
            Observation("api", "abandoned", f"api|{call_id}|over", AT + 9, call=call_id, queue="sales"),
        ]
        handlers.take_in(units, [Taken(source, "contacts", Reading(told), Arrival(new_id()))])
    while handlers.correlate(units, "", mark):
        pass
    assert erasures.erase(units, "c1", mark)["contacts"] == 2
    work_through(units)
    with units.database.reading() as connection:
        rows = connection.execute(select(store.intake.c.source, store.intake.c.observation).order_by(store.intake.c.seq)).all()
    assert [row.observation["caller"] for row in rows if row.observation.get("caller")] == [OTHER]


def test_no_statement_grows_with_the_number_of_calls(units: UnitOfWork, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures, "SLICE", 20)
    id = call(units)
    with units() as work:
        store.save_aliases(work.connection, {("pbx1", f"{id}-{number}"): id for number in range(300)})
    variables = []

    def count(_connection: Any, _cursor: Any, _statement: str, parameters: Any, *_more: Any) -> None:
        variables.append(len(parameters))

    sqlalchemy.event.listen(units.database.engine, "before_cursor_execute", count)
    try:
        erasures.erase(units, "c1", mark)
        at.forward(erasures.AGAIN_SECONDS)
        work_through(units)
    finally:
        sqlalchemy.event.remove(units.database.engine, "before_cursor_execute", count)
    assert NUMBER not in everything(units)
    assert max(variables) < 50


@pytest.mark.parametrize("id", ["", "x" * 201, "+49301234567", "erased-1"])
def test_what_is_no_customers_id(units: UnitOfWork, id: str) -> None:
    with pytest.raises(Invalid, match="a customer's id"):
        erasures.erase(units, id, mark)
