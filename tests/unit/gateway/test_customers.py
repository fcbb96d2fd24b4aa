"""The directory, and whose contact a call is: by the id that it names, or by a number that is one customer's alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import inspect, select, text

from services.gateway import customers, handlers, store
from services.gateway.domain.observation import Observation
from services.gateway.handlers import Arrival, Reading, Taken
from services.gateway.sealing import Sealer
from shared import contracts
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock

NUMBER = "+49301234567"
CHAN = {"value": 1200.0, "tier": "business", "preferred_channel": "chat", "language": "zh", "region": "sichuan", "numbers": [NUMBER]}


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


def call(units: UnitOfWork, caller: str | None = None, country: str = "", kind: Any = "entered", **wishes: Any) -> dict[str, Any]:
    """The announcement of a contact that arrives."""
    id = new_id()
    told = Observation("api", kind, f"api|{id}", 1_800_000_000.0, call=id, queue="sales", caller=caller)
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([told]), Arrival(id, wishes=wishes))])
    while handlers.correlate(units, country):
        pass
    return next(data for data in announced(units) if data["contact"] == id)


def announced(units: UnitOfWork) -> Iterator[dict[str, Any]]:
    outbox = units.tables.outbox
    with units.database.reading() as connection:
        for body in connection.scalars(select(outbox.c.body).order_by(outbox.c.seq)):
            contracts.load(body["type"], body["data"])
            yield body["data"]


# ---- the directory


def test_a_customer_is_read_as_written_down_with_every_number_in_one_form(units: UnitOfWork) -> None:
    written = customers.put(units, "c1", {**CHAN, "numbers": ["+49 (30) 123-4567", "tel:+49-30-1234567", "+852 9123 4567"]})
    assert written == customers.get(units, "c1")
    assert written["numbers"] == [NUMBER, "+85291234567"]
    assert (written["value"], written["tier"], written["buying_power"], written["language"]) == (1200.0, "business", None, "zh")


def test_written_down_again_only_the_new_counts(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    customers.put(units, "c1", {"value": 5.0, "numbers": ["+85291234567"]})
    again = customers.get(units, "c1")
    assert (again["value"], again["tier"], again["numbers"]) == (5.0, None, ["+85291234567"])
    assert "customer" not in call(units, NUMBER)


def test_who_is_not_in_the_directory_is_not_found(units: UnitOfWork) -> None:
    with pytest.raises(NotFound):
        customers.get(units, "nobody")


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("030 1234567", "has no country code"),
        ("+999 1234567", "has no country code"),
        ("anonymous", "is no telephone number"),
        ("+852 912", "is too short"),
        ("+4930123456789012345", "is too long"),
        ("+49301234567 ext. 12", "has an extension"),
    ],
)
def test_a_number_that_cannot_be_used_is_named_by_its_place_and_not_repeated(units: UnitOfWork, number: str, why: str) -> None:
    with pytest.raises(Invalid, match="with its country code") as refused:
        customers.put(units, "c1", {"numbers": [NUMBER, number]})
    (sentence,) = refused.value.more["errors"]["numbers"][1]
    assert why in sentence
    assert number not in f"{refused.value.detail} {refused.value.more}"
    with pytest.raises(NotFound):
        customers.get(units, "c1")


@pytest.mark.parametrize("id", ["", NUMBER, "x" * 201])
def test_a_customers_id_is_short_and_no_number(units: UnitOfWork, id: str) -> None:
    with pytest.raises(Invalid, match="is no telephone number"):
        customers.put(units, id, {})


def test_the_list_comes_page_by_page_and_leaves_nobody_out(units: UnitOfWork) -> None:
    for number in range(7):
        customers.put(units, f"c{number}", {"numbers": [f"+4930123456{number}"]})
    pages, after = [], ""
    while not pages or after:
        page = customers.listing(units, after, 3)
        pages.append([one["id"] for one in page["items"]])
        after = page["next"] or ""
    assert pages == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"]]
    assert customers.listing(units, "c4", 1)["items"][0]["numbers"] == ["+49301234565"]
    assert customers.listing(units, "c6", 3) == {"items": [], "next": None}


# ---- whose contact it is


def test_a_contact_that_names_its_customer_has_what_the_directory_knows(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    told = call(units, customer="c1")
    assert told["customer"] == "c1"
    assert told["wants"] == {"language": "zh", "region": "sichuan"}
    assert told["facts"] == {"value": 1200.0, "tier": "business", "preferred_channel": "chat"}


def test_of_each_want_and_fact_the_contacts_own_counts(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    told = call(
        units, customer="c1", thread="m1", wants={"language": "en", "preferred_skills": ["modem"]}, facts={"value": 0.0, "repeat": 2}
    )
    assert told["wants"] == {"language": "en", "region": "sichuan", "preferred_skills": ["modem"]}
    assert told["facts"] == {"value": 0.0, "repeat": 2, "tier": "business", "preferred_channel": "chat"}
    assert told["thread"] == "m1"


def test_a_customer_whom_the_directory_does_not_know_keeps_their_id(units: UnitOfWork) -> None:
    told = call(units, customer="crm-7", facts={"tier": "business"})
    assert (told["customer"], told["facts"]) == ("crm-7", {"tier": "business"})
    assert "wants" not in told


@pytest.mark.parametrize(
    ("caller", "country"), [(NUMBER, ""), ("+49 30 1234567", ""), ("030 1234567", "DE"), ("0049301234567", "DE"), ("49301234567", "DE")]
)
@pytest.mark.parametrize("kind", ["entered", "arrived"])
def test_a_caller_is_known_by_a_number_that_is_theirs_alone(units: UnitOfWork, caller: str, country: str, kind: str) -> None:
    customers.put(units, "c1", CHAN)
    told = call(units, caller, country, kind)
    assert (told["customer"], told["facts"]["tier"], told["wants"]["language"]) == ("c1", "business", "zh")


@pytest.mark.parametrize(
    "caller", [None, "", "anonymous", "Anonymous", "unknown", "<unknown>", "private", "s", "-", "1001", "030 1234567", "+49301234568", "+"]
)
def test_a_withheld_or_unknown_number_tells_of_nobody(units: UnitOfWork, caller: str | None) -> None:
    customers.put(units, "c1", CHAN)
    told = call(units, caller)
    assert not {"customer", "wants", "facts"} & told.keys()


def test_a_shared_number_tells_of_nobody(units: UnitOfWork) -> None:
    for id in ("c1", "c2"):
        customers.put(units, id, CHAN)
    assert "customer" not in call(units, NUMBER)
    customers.put(units, "c2", {"numbers": []})
    assert call(units, NUMBER)["customer"] == "c1"


def test_the_customer_that_a_contact_names_counts_before_its_number(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    customers.put(units, "c2", {"tier": "gold"})
    told = call(units, NUMBER, customer="c2")
    assert (told["customer"], told["facts"]) == ("c2", {"tier": "gold"})


def test_what_was_known_at_the_arrival_is_in_every_later_event(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    id = call(units, NUMBER)["contact"]
    customers.put(units, "c1", {"tier": "gold", "numbers": []})
    over = Observation("api", "hung_up", f"api|over|{id}", 1_800_000_009.0, call=id)
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([over]))])
    handlers.correlate(units)
    first, last = (data for data in announced(units) if data["contact"] == id)
    assert last["leg"]["outcome"] == "abandoned"
    assert [last[name] for name in ("customer", "wants", "facts")] == [first[name] for name in ("customer", "wants", "facts")]


def test_calls_that_only_the_queue_log_tells_of_are_known_too(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    for reading in handlers.read_queue_log(f"1800000000|5.1|sales|NONE|ENTERQUEUE||{NUMBER}|1\n".encode()):
        handlers.take_in(units, [Taken("pbx1", "queue-log", reading)])
    handlers.correlate(units)
    assert [data["customer"] for data in announced(units)] == ["c1"]


def test_contacts_that_turn_out_to_be_one_call_share_what_is_known(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    first = call(units, customer="c1", facts={"repeat": 1})["contact"]
    second = call(units, facts={"age_seconds": 60.0})["contact"]
    joined = Observation("ami", "waiting", "ami|joined", 1_800_000_001.0, call=first, linked=second, queue="sales")
    handlers.take_in(units, [Taken("pbx1", "ami", Reading([joined]))])
    handlers.correlate(units)
    with units.database.reading() as connection:
        rows = store.load_contacts(connection, [first, second])
    kept = next(row for row in rows.values() if not row.merged_into)
    assert kept.wishes["customer"] == "c1"
    assert kept.wishes["facts"].items() >= {"repeat": 1, "age_seconds": 60.0, "tier": "business"}.items()


# ---- the dialplan


@pytest.mark.parametrize(("named", "understood"), [("c1", "c1"), (" c1 ", "c1"), (17, "17"), ("", ""), (NUMBER, ""), ("x" * 201, "")])
def test_the_dialplan_may_name_the_customer_and_a_number_in_its_place_is_passed_over(named: Any, understood: str) -> None:
    body = orjson.dumps({"event": "call.arrived", "callid": "5.1", "queue": "sales", "customer": named})
    reading = handlers.read_dialplan(body, "application/json", 1.0)
    assert (reading.customer, len(reading.observations)) == (understood, 1)


# ---- numbers stay where they are


def test_numbers_stand_in_one_table_of_the_directory_and_in_no_event(units: UnitOfWork) -> None:
    customers.put(units, "c1", CHAN)
    call(units, NUMBER)
    with units.database.reading() as connection:
        tables = [name for name in inspect(connection).get_table_names() if name not in ("intake", "contact")]  # what a caller sent
        holding = [name for name in tables if NUMBER[1:] in str(connection.execute(text(f'select * from "{name}"')).all())]
    assert holding == ["customer_number"]


# ---- who rings again


def marked(units: UnitOfWork, caller: str | None, country: str = "") -> Any:
    """What stands for the caller's number in the announcement."""
    id = new_id()
    told = Observation("api", "entered", f"api|{id}", 1_800_000_000.0, call=id, queue="sales", caller=caller)
    handlers.take_in(units, [Taken("pbx1", "contacts", Reading([told]), Arrival(id, wishes={"facts": {"value": 5.0}}))])
    while handlers.correlate(units, country, SEALER.mark):
        pass
    data = next(data for data in announced(units) if data["contact"] == id)
    assert data["facts"]["value"] == 5.0
    return data["facts"].get("caller_ref")


SEALER = Sealer(["k" * 32])


def test_a_number_is_known_again_however_it_is_written_and_does_not_travel(units: UnitOfWork) -> None:
    ref = marked(units, NUMBER)
    assert ref == marked(units, "030 1234567", "DE") == marked(units, "0049 30 1234567", "DE")
    assert ref != marked(units, "+49301234568")
    assert re.fullmatch("[0-9a-f]{32}", ref)
    assert ref != Sealer(["o" * 32]).mark(NUMBER), "another installation has other marks"


@pytest.mark.parametrize("caller", [None, "anonymous", "", "1001", "PJSIP/1001"])
def test_whose_number_is_withheld_is_nobody_who_rang_before(units: UnitOfWork, caller: str | None) -> None:
    assert marked(units, caller) is None


def test_nor_is_a_number_that_several_share(units: UnitOfWork) -> None:
    customers.put(units, "c1", {"numbers": [NUMBER]})
    assert marked(units, NUMBER)
    customers.put(units, "c2", {"numbers": [NUMBER]})
    assert marked(units, NUMBER) is None
