"""The record of administrative acts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from services.gateway import audit, store
from services.gateway.audit import without_numbers
from shared.bus.outbox import UnitOfWork
from shared.errors import NotFound
from shared.http.endpoint import Endpoint, Principal
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

QUEUE = {"site": "berlin", "pool": "p", "offer_seconds": 20}


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


@pytest.fixture
def doors(units: UnitOfWork) -> Doors:
    doors = Doors(units)
    doors.service.routing = SimpleNamespace(
        put_queue=lambda queue: queue,
        get_queue=lambda name: {"name": name},
        set_agent_state=lambda **told: told,
        put_policy=lambda **told: told,
    )
    return doors


def told(doors: Doors, query: str = "") -> list[dict[str, Any]]:
    answer = doors("GET", f"/v1/audit{query}", key="admin")
    assert answer.status == 200, answer
    return answer.json["items"]


def test_an_act_is_on_record_with_who_when_what_and_how_it_ended(doors: Doors, at: SetClock) -> None:
    assert doors("PUT", "/v1/queues/sales", QUEUE, "supervisor").status == 200
    (act,) = told(doors)
    id = act.pop("id")
    assert id and act == {
        "at": "2027-01-15T08:00:00.000Z", "who": "", "name": "supervisor", "act": "PUT /v1/queues/{name}", "object": "sales", "status": 200,
        "summary": act["summary"],
    }  # fmt: skip
    assert 'pool="p"' in act["summary"] and 'site="berlin"' in act["summary"] and "offer_seconds" in act["summary"]


def test_what_is_made_is_named_by_its_id(doors: Doors) -> None:
    made = doors("POST", "/v1/keys", {"name": "desk", "roles": ["agent"]}, "admin").json
    (act,) = told(doors)
    assert (act["object"], act["status"]) == (made["id"], 201)
    assert made["key"] not in str(act) and 'roles=["agent"]' in act["summary"]


def test_refusals_are_on_record_too(doors: Doors) -> None:
    assert doors("POST", "/v1/keys", {"name": "mine", "roles": ["admin"]}, "supervisor").status == 403
    assert doors("PUT", "/v1/queues/sales", {"nonsense": 1}, "supervisor").status == 422
    assert [(act["act"], act["status"]) for act in told(doors)] == [("PUT /v1/queues/{name}", 422), ("POST /v1/keys", 403)]


def test_an_act_is_written_down_before_it_is_done(doors: Doors, units: UnitOfWork) -> None:
    """Whatever happens then, it began."""
    seen: list[Any] = []

    def look(queue: dict[str, Any]) -> Any:
        with units.database.reading() as connection:
            seen.extend(connection.execute(select(store.audit.c.act, store.audit.c.status)).all())
        raise NotFound("gone")

    doors.service.routing.put_queue = look
    assert doors("PUT", "/v1/queues/sales", QUEUE, "supervisor").status == 404
    assert [tuple(row) for row in seen] == [("PUT /v1/queues/{name}", None)]
    assert told(doors)[0]["status"] == 404


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [
        ("/v1/people/ann/password", {"password": "a secret of mine"}, "a secret of mine"),
        ("/v1/customers/+49301234567", {"numbers": ["+49 30 1234567"]}, "1234567"),
        ("/v1/customers/c1", {"numbers": ["+49 30 1234567"], "site": "030/12345678"}, "1234567"),
        ("/v1/sources/pbx", {"twilio_auth_token": "tok_3nx"}, "tok_3nx"),
        ("/v1/people/ann", {"name": "Ann", "email": "ann@example.com", "roles": ["agent"]}, "ann@example.com"),
    ],
)
def test_secrets_and_numbers_are_not_on_record(doors: Doors, path: str, body: dict[str, Any], secret: str) -> None:
    doors("PUT", path, body, "admin")
    (act,) = told(doors)
    assert secret not in str(act), act


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sales", "sales"),
        ("1001", "1001"),
        ("01a200b7-27f1-73d4-82f8-8f2034b92023", "01a200b7-27f1-73d4-82f8-8f2034b92023"),
        ("+49301234567", "…"),
        ("030 1234567/chat", "…/chat"),
        ("pbx1:1795296258.5", "pbx1:…"),
    ],
)
def test_what_could_be_a_number_is_left_out(text: str, shown: str) -> None:
    assert without_numbers(text) == shown


PERSON = Principal("Ann", frozenset(["supervisor"]), "ann", "ann")
KEY = Principal("desk", frozenset(["supervisor"]), "k")


@pytest.mark.parametrize(
    ("endpoint", "principal", "concerned"),
    [
        (Endpoint("PUT", "/v1/queues/{name}", roles=("supervisor",)), KEY, True),
        (Endpoint("GET", "/v1/queues/{name}", roles=("supervisor",)), KEY, False),
        (Endpoint("PUT", "/v1/agents/{id}/state", roles=("agent", "supervisor")), KEY, False),
        (Endpoint("PUT", "/v1/agents/{id}/state", roles=("agent", "supervisor")), PERSON, True),
        (Endpoint("PUT", "/v1/agents/{id}/state", roles=("agent", "supervisor")), Principal("Bo", frozenset(["agent"]), "bo", "bo"), False),
        (Endpoint("POST", "/v1/contacts", roles=("telephony",)), Principal("boot", frozenset(["admin"]), "bootstrap"), False),
        (Endpoint("POST", "/v1/sign-in", public=True), PERSON, False),
        (Endpoint("GET", "/v1/exports/{kind}", roles=("supervisor",)), KEY, True),
    ],
)
def test_which_requests_are_administrative_acts(endpoint: Endpoint, principal: Principal, concerned: bool) -> None:
    assert audit.concerns(endpoint, principal) is concerned


def test_the_record_is_read_page_by_page_and_narrowed(doors: Doors, units: UnitOfWork, at: SetClock) -> None:
    for number in range(5):
        doors("PUT", f"/v1/queues/q{number % 2}", QUEUE, "supervisor")
        at.forward(60)
    page = doors("GET", "/v1/audit?limit=3", key="admin").json
    rest = doors("GET", f"/v1/audit?limit=3&cursor={page['next']}", key="admin").json
    assert [act["object"] for act in page["items"] + rest["items"]] == ["q0", "q1", "q0", "q1", "q0"]
    assert rest["next"] is None
    assert len(told(doors, "?object=q1")) == 2
    assert len(told(doors, "?from=2027-01-15T08:01:00Z&to=2027-01-15T08:03:00Z")) == 2
    assert told(doors, "?who=somebody") == []
    assert doors("GET", "/v1/audit?cursor=x", key="admin").status == 422
    assert doors("GET", "/v1/audit", key="supervisor").status == 403


def test_the_record_is_kept_for_as_long_as_is_set(doors: Doors, units: UnitOfWork) -> None:
    doors("PUT", "/v1/queues/q", QUEUE, "supervisor")
    (act,) = told(doors)
    made = int(act["id"].replace("-", "")[:12], 16) / 1000  # ids are made by the real clock
    audit.prune(units, made - 1)
    assert len(told(doors)) == 1
    audit.prune(units, made + 1)
    assert told(doors) == []
