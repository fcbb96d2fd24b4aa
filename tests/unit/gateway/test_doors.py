"""From a request to routing: what each door asks, that routing knows the question, and what it makes of the answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from marshmallow import RAISE, Schema, fields

from services.gateway import handlers, store
from services.gateway.handlers import Taken
from services.gateway.scopes import Scopes
from services.gateway.sealing import Sealer
from services.gateway.service import GatewayService
from services.routing.service import RoutingService
from shared.bus.outbox import UnitOfWork
from shared.config import Settings
from shared.contracts.fields import Document
from shared.http.endpoint import Principal, Router, Scope, endpoints_of
from shared.http.wsgi import Application
from shared.runtime.waiting import Switchboard
from tests.unit.conftest import MakeUnits, SetClock

DAY = "2026-11-21T00:00:00Z"
MIDNIGHT = 1795219200.0
CONTACT = "01a20084-8aa9-78ba-9740-3b5b66c90165"


class Routing:
    """Notes what it is asked, and answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: Any = {"fine": True, "policies": [], "versions": [], "history": [], "closures": []}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            inspect.signature(getattr(RoutingService, method)).bind(None, **arguments)
            self.asked.append((method, arguments))
            return self.answer

        return ask


class Gateway:
    def __init__(self, units: UnitOfWork | None = None) -> None:
        service: Any = GatewayService()
        service.core = SimpleNamespace(units=units, settings=Settings(timezone="Europe/Berlin"), board=Switchboard(), scopes=Scopes())
        service.core.caller_ref = lambda number, _country: f"mark of {number}"
        service.routing = self.routing = Routing()
        service.contact_of = lambda request: request.parameters["id"]
        self.service = service
        self.application = Application(Router(service), lambda _: Principal("Ann's key", frozenset(["admin"])), lambda *_: None)
        self.type = ""

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        raw = body.encode() if isinstance(body, str) else b"" if body is None else orjson.dumps(body)
        path, _, query = path.partition("?")
        environ = {"REQUEST_METHOD": method, "PATH_INFO": quote(path), "QUERY_STRING": query, "CONTENT_LENGTH": str(len(raw)),
                   "wsgi.input": BytesIO(raw), **headers}  # fmt: skip
        told: list[Any] = []
        read = b"".join(self.application(environ, lambda status, sent: told.extend((int(status.split()[0]), dict(sent)))))
        self.type = told[1].get("Content-Type", "")
        return told[0], orjson.loads(read) if "json" in self.type else read.decode()

    def asks(self, method: str, path: str, body: Any = None) -> tuple[str, dict[str, Any]]:
        """What routing is asked, having asserted that the door let the request in."""
        status, answer = self(method, path, body)
        assert status < 300, answer
        (asked,) = self.routing.asked
        return asked


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


WHOLE_LISTS = {"/v1/checks", "/v1/me", "/v1/sign-in/oidc/callback", "/v1/telephony/recording-commands"}
"""Somebody's roles, and what is to be done this moment."""
WHOLE = {"code": "sold", "resolved": True, "amount": "129.90", "currency": "EUR"}


@pytest.mark.parametrize(
    ("method", "path", "body", "asked"),
    [
        ("GET", "/v1/queues?limit=5&cursor=sales", None, ("list_queues", {"after": "sales", "limit": 5})),
        ("GET", "/v1/agents", None, ("list_agents", {"after": "", "limit": 100})),
        ("GET", "/v1/agents/a1/offers?session=s1", None, ("agent_offers", {"agent_id": "a1", "session": "s1"})),
        ("PUT", "/v1/agents/a1/state", {"state": "available", "session": "s1", "disposition": WHOLE},
         ("set_agent_state", {"agent_id": "a1", "state": "available", "reason": "", "disposition": WHOLE, "session": "s1"})),
        ("PUT", "/v1/agents/a1/state", {"state": "paused", "reason": "lunch", "disposition": "sold"},
         ("set_agent_state", {"agent_id": "a1", "state": "paused", "reason": "lunch", "disposition": "sold", "session": ""})),
        ("POST", "/v1/offers/o1/accept", {"agent": "a1", "session": "s1"}, ("accept_offer", {"offer_id": "o1", "agent_id": "a1", "session": "s1"})),
        ("POST", "/v1/offers/o1/reject", {"agent": "a1"}, ("reject_offer", {"offer_id": "o1", "agent_id": "a1", "reason": "", "session": "", "missed": False})),
        ("PUT", "/v1/agents/a1/certificates/chat", {}, ("certify", {"agent_id": "a1", "channel": "chat", "until": None})),
        ("PUT", "/v1/agents/a1/certificates/chat", {"until": DAY}, ("certify", {"agent_id": "a1", "channel": "chat", "until": MIDNIGHT})),
        ("DELETE", "/v1/agents/a1/certificates/chat", None, ("lapse", {"agent_id": "a1", "channel": "chat"})),
        ("PUT", "/v1/agents/a1/permits/chat", {"supervisor": "s", "per_day": 3, "until": DAY},
         ("permit", {"agent_id": "a1", "channel": "chat", "supervisor": "s", "per_day": 3, "until": MIDNIGHT})),
        ("POST", f"/v1/contacts/{CONTACT}/transfer", {"queue": "billing"}, ("transfer_contact", {"contact_id": CONTACT, "queue": "billing", "agent": ""})),
        ("POST", f"/v1/contacts/{CONTACT}/requeue", {"reason": "wrong"}, ("requeue_contact", {"contact_id": CONTACT, "reason": "wrong"})),
        ("POST", f"/v1/contacts/{CONTACT}/conference", {"participant": "a lawyer"},
         ("confer_contact", {"contact_id": CONTACT, "agent": "", "participant": "a lawyer"})),
        ("POST", f"/v1/contacts/{CONTACT}/pending", None, ("pend_contact", {"contact_id": CONTACT})),
        ("POST", f"/v1/contacts/{CONTACT}/resume", None, ("resume_contact", {"contact_id": CONTACT})),
        ("POST", f"/v1/contacts/{CONTACT}/wrap-up", {"agent": "a1", "disposition": {"code": "sold", "amount": 12.5}},
         ("wrap_up_contact", {"contact_id": CONTACT, "agent_id": "a1", "disposition": {"code": "sold", "amount": "12.5"}})),
        ("POST", f"/v1/contacts/{CONTACT}/callback", {"number": "030 1234567", "country": "DE"},
         ("promise_callback", {"contact_id": CONTACT, "number": "030 1234567", "country": "DE", "zone": "", "caller_ref": "mark of 030 1234567"})),
        ("POST", f"/v1/contacts/{CONTACT}/callback/dialled", {"outcome": "busy"}, ("callback_dialled", {"contact_id": CONTACT, "outcome": "busy"})),
        ("DELETE", f"/v1/contacts/{CONTACT}/callback", None, ("cancel_callback", {"contact_id": CONTACT})),
        ("GET", f"/v1/contacts/{CONTACT}/decisions?agent=a2", None, ("get_decisions", {"contact_id": CONTACT, "agent": "a2"})),
        ("PUT", "/v1/policies/sales?note=faster", "bound_seconds: 60",
         ("put_policy", {"name": "sales", "document": "bound_seconds: 60", "by": "Ann's key", "note": "faster", "starts_at": None})),
        ("PUT", f"/v1/policies/sales?starts_at={DAY}", {"bound_seconds": 60},
         ("put_policy", {"name": "sales", "document": '{"bound_seconds":60}', "by": "Ann's key", "note": "", "starts_at": MIDNIGHT})),
        ("PUT", "/v1/policies/sales?dry_run=true", "bound_seconds: 60", ("dry_run_policy", {"name": "sales", "document": "bound_seconds: 60"})),
        ("GET", "/v1/policies", None, ("list_policies", {})),
        ("GET", "/v1/policies/sales", None, ("get_policy", {"name": "sales"})),
        ("GET", "/v1/policies/sales/versions", None, ("policy_history", {"name": "sales"})),
        ("GET", "/v1/policies/sales/diff?to=3", None, ("diff_policy", {"name": "sales", "version": 3})),
        ("DELETE", "/v1/policies/sales/schedule", None, ("unschedule_policy", {"name": "sales", "by": "Ann's key"})),
        ("PUT", "/v1/policies/sales/shadow", "bound_seconds: 60", ("put_shadow", {"name": "sales", "document": "bound_seconds: 60", "by": "Ann's key"})),
        ("GET", "/v1/policies/sales/shadow", None, ("get_shadow", {"name": "sales"})),
        ("DELETE", "/v1/policies/sales/shadow", None, ("end_shadow", {"name": "sales"})),
        ("POST", "/v1/policies/sales/rollback", None, ("rollback_policy", {"name": "sales", "by": "Ann's key"})),
        ("PUT", "/v1/calendars/main", {"zone": "UTC", "weekly": {"mon-fri": ["09:00-17:00"]}},
         ("put_calendar", {"name": "main", "document": {"zone": "UTC", "weekly": {"mon-fri": ["09:00-17:00"]}}, "by": "Ann's key"})),
        ("GET", "/v1/calendars/main", None, ("get_calendar", {"name": "main"})),
        ("POST", "/v1/closures", {"kind": "emergency", "message": {"en": "Fire."}, "reason": "fire", "minutes": 30},
         ("put_closure", {"request": {"kind": "emergency", "message": {"en": "Fire."}, "reason": "fire", "minutes": 30.0}, "by": "Ann's key"})),
        ("GET", "/v1/closures", None, ("list_closures", {})),
        ("DELETE", "/v1/closures/c1", None, ("end_closure", {"closure_id": "c1", "by": "Ann's key"})),
        ("PUT", "/v1/dispositions/sales", {"nodes": []}, ("put_dispositions", {"name": "sales", "document": {"nodes": []}, "by": "Ann's key"})),
        ("GET", "/v1/dispositions/sales", None, ("get_dispositions", {"name": "sales"})),
        ("GET", f"/v1/reports/queues/intervals?from={DAY}&queue=sales&step=15m&zone=Asia/Hong_Kong", None,
         ("report_queue_intervals",
          {"filters": {"from": MIDNIGHT, "to": None, "source": None, "queue": "sales"}, "step": "15m", "zone": "Asia/Hong_Kong"})),
        ("GET", "/v1/reports/agents/intervals?agent=a1", None,
         ("report_agent_intervals", {"filters": {"from": None, "to": None, "source": None, "agent": "a1"}, "step": "30m", "zone": ""})),
        ("GET", "/v1/reports/callbacks", None, ("report_callbacks", {"filters": {"from": None, "to": None, "source": None}})),
        ("GET", "/v1/reports/estimates", None, ("report_estimates", {"filters": {"from": None, "to": None, "source": None}})),
    ],
)  # fmt: skip
def test_what_a_door_asks_of_routing(gateway: Gateway, method: str, path: str, body: Any, asked: tuple[str, dict[str, Any]]) -> None:
    assert gateway.asks(method, path, body) == asked


@pytest.mark.parametrize(
    ("path", "rows", "key"), [("/v1/policies", "policies", "name"), ("/v1/policies/sales/versions", "versions", "version"), ("/v1/closures", "closures", "id")]
)  # fmt: skip
def test_a_whole_list_of_routings_comes_in_pages(gateway: Gateway, path: str, rows: str, key: str) -> None:
    known = [{key: number, "queues": []} for number in range(5, 0, -1)]
    gateway.routing.answer = {rows: known, "history": [{"version": row[key], "action": "activated"} for row in known]}
    read, cursor, pages = [], "", 0
    while cursor is not None:
        status, told = gateway("GET", f"{path}?limit=2&cursor={cursor}")
        assert status == 200, told
        assert [act["version"] for act in told.get("history", ())] in ([], [row[key] for row in told[rows]])
        read, cursor, pages = read + told[rows], told["next"], pages + 1
    assert (read, pages) == (known, 3)
    assert gateway("GET", f"{path}?cursor=gone")[1]["errors"] == {"cursor": ["Begin again without it."]}


def nested(schema: Schema) -> Iterator[Schema]:
    """The schema and all that stand in it, but for documents that their owner checks."""
    yield schema
    waiting = list(schema.load_fields.values())
    while waiting:
        match waiting.pop():
            case fields.Nested() as field:
                yield from nested(field.schema)
            case fields.List() as field:
                waiting.append(field.inner)
            case fields.Dict() as field if field.value_field:
                waiting.append(field.value_field)


def test_no_door_passes_over_what_it_does_not_know() -> None:
    taken = [schema for door, _ in endpoints_of(GatewayService) for schema in (door.body, door.query) if schema and schema is not Document]
    loose = {type(inner).__name__ for schema in taken for inner in nested(schema()) if inner.unknown != RAISE}
    assert (loose, len(taken) > 50) == (set(), True)


def test_every_list_of_many_comes_in_pages() -> None:
    """Lists of one thing's own (its offers, its recordings) and reports are as long as they are; all else has a limit and a cursor."""
    lists = {
        door.path
        for door, _ in endpoints_of(GatewayService)
        if door.method == "GET" and door.answer and any(isinstance(field, fields.List) for field in door.answer().fields.values())
    }
    paged = {door.path for door, _ in endpoints_of(GatewayService) if door.query and {"limit", "cursor"} <= door.query().fields.keys()}
    whole = {path for path in lists - paged if not path.startswith("/v1/reports/") and "{" not in path}
    assert whole == WHOLE_LISTS


def test_a_queue_and_an_agent_go_to_routing_with_every_setting(gateway: Gateway) -> None:
    queue = {"pool": "p", "miss_limit": 2, "short_abandon_seconds": 3.0, "abandons_count": False, "policy": "sales", "calendar": "main",
             "dispositions": "sales", "zone": "Europe/Berlin"}  # fmt: skip
    agent = {"languages": {"zh": 5}, "regions": ["sichuan"], "site": "home", "employment": "part", "pool": "p", "capacity": {"chat": 33}}
    assert gateway.asks("PUT", "/v1/queues/q", queue)[1]["queue"].items() >= {"name": "q", **queue}.items()
    gateway.routing.asked.clear()
    assert gateway.asks("PUT", "/v1/agents/a", agent)[1]["profile"].items() >= agent.items()


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("PUT", "/v1/queues/q", {"zone": "Mars/Olympus"}, "zone"),
        ("PUT", "/v1/agents/a", {"capacity": {"chat": 0}}, "capacity"),
        ("PUT", "/v1/agents/a", {"capacity": {"chat": 101}}, "capacity"),
        ("PUT", "/v1/agents/a", {"languages": {"zh": 6}}, "languages"),
        ("PUT", "/v1/agents/a/state", {"state": "available", "disposition": {"resolved": True}}, "disposition"),
        ("PUT", "/v1/agents/a/state", {"state": "available", "disposition": {"code": "x", "amount": True}}, "disposition"),
        ("PUT", "/v1/agents/a/permits/chat", {"supervisor": "s", "per_day": 0, "until": DAY}, "per_day"),
        ("POST", "/v1/contacts/c/transfer", {}, "queue"),
        ("POST", "/v1/contacts/c/conference", {}, "participant"),
        ("POST", "/v1/contacts/c/callback/dialled", {"outcome": "lost"}, "outcome"),
        ("POST", "/v1/contacts", {"queue": "q", "facts": {"value": -1}}, "facts"),
        ("POST", "/v1/contacts", {"queue": "q", "facts": {"age": 44}}, "facts"),
        ("POST", "/v1/contacts", {"queue": "q", "facts": {"repeat": 1.5}}, "facts"),
        ("POST", "/v1/contacts", {"queue": "q", "customer": "+49301234567"}, "customer"),
        ("GET", "/v1/agents?limit=0", None, "limit"),
        ("GET", "/v1/reports/queues/intervals?step=7m", None, "step"),
        ("GET", "/v1/reports/queues/intervals?zone=Mars", None, "zone"),
        ("GET", "/v1/policies/p/diff?to=latest", None, "to"),
        ("PUT", "/v1/policies/p?starts_at=soon", "bound_seconds: 60", "starts_at"),
    ],
)
def test_what_is_wrong_is_named_and_routing_is_not_asked(gateway: Gateway, method: str, path: str, body: Any, named: str) -> None:
    status, problem = gateway(method, path, body)
    assert (status, named in problem["errors"]) == (422, True), problem
    assert "+49301234567" not in str(problem)
    assert not gateway.routing.asked


@pytest.mark.parametrize("document", ["", " \n", "\x00"])
def test_a_policy_without_a_document_is_refused(gateway: Gateway, document: str) -> None:
    assert gateway("PUT", "/v1/policies/p", document)[0] == 400
    assert not gateway.routing.asked


@pytest.mark.parametrize(("path", "accept"), [("?format=csv", ""), ("", "text/csv"), ("?format=csv", "application/json")])
def test_a_report_comes_as_csv_to_who_asks_for_it(gateway: Gateway, path: str, accept: str) -> None:
    gateway.routing.answer = {"csv": "queue,offered\r\nsales,1\r\n"}
    assert gateway("GET", f"/v1/reports/queues/intervals{path}", HTTP_ACCEPT=accept) == (200, "queue,offered\r\nsales,1\r\n")
    assert gateway.type == "text/csv; charset=utf-8"
    assert gateway.routing.asked[0][1]["format"] == "csv"


def test_an_assignment_tells_only_what_there_is_to_tell(gateway: Gateway) -> None:
    here = {"contact": CONTACT, "queue": "sales", "agent": None, "name": None}
    gateway.routing.answer = {
        **here,
        "state": "closed",
        "address": None,
        "message": {"en": "Fire."},
        "opens_at": DAY,
        "position": None,
    }
    status, told = gateway("POST", f"/v1/contacts/{CONTACT}/assignment?wait=20")
    assert (status, told) == (200, {**here, "state": "closed", "message": {"en": "Fire."}, "opens_at": DAY})


@pytest.mark.parametrize("state", ["assigned", "pending", "callback", "closed", "ended", "abandoned", "released"])
def test_who_asks_whom_to_dial_need_not_wait_once_there_is_nobody_to_come(gateway: Gateway, state: str) -> None:
    gateway.routing.answer = {"contact": CONTACT, "state": state, "queue": "sales", "agent": None, "name": None}
    assert gateway("POST", f"/v1/contacts/{CONTACT}/assignment?wait=100")[1]["state"] == state


def test_the_end_of_a_contact_whose_call_is_over_goes_to_routing(make_units: MakeUnits, at: SetClock) -> None:
    """A callback, or a matter in writing: its call ended long since."""
    gateway = Gateway(make_units(store.metadata))
    taken: list[Taken] = []
    gateway.service.core.take = lambda told: taken.append(told) or handlers.take_in(gateway.service.core.units, [told])[0]
    contact = gateway("POST", "/v1/contacts", {"queue": "sales"})[1]["contact"]
    over = {"ended_by": "agent"}
    assert gateway("POST", f"/v1/contacts/{contact}/end", over) == (202, {"contact": contact})
    assert [told.reading.observations[0].kind for told in taken] == ["entered", "hung_up"], "telephony's word is enough while it is open"
    assert not gateway.routing.asked
    handlers.correlate(gateway.service.core.units)
    assert gateway("POST", f"/v1/contacts/{contact}/end", over) == (202, {"contact": contact})
    assert gateway.routing.asked == [("end_contact", {"contact_id": contact, "ended_by": "agent"})]
    assert len(taken) == 2


def test_the_directory_is_written_read_and_listed(make_units: MakeUnits, at: SetClock) -> None:
    gateway = Gateway(make_units(store.metadata))
    status, written = gateway("PUT", "/v1/customers/c1", {"value": 7, "language": "zh", "numbers": ["+49 30 1234567"]})
    assert (status, written["numbers"]) == (200, ["+49301234567"])
    assert gateway("GET", "/v1/customers/c1") == (200, written)
    assert gateway("GET", "/v1/customers?limit=1") == (200, {"items": [written], "next": None})
    status, problem = gateway("PUT", "/v1/customers/c1", {"numbers": ["030 1234567"]})
    assert (status, set(problem["errors"])) == (422, {"numbers"})
    assert "1234567" not in problem["errors"]["numbers"]["0"][0]


def test_a_customer_is_forgotten_by_an_administrator_of_the_whole_organisation(make_units: MakeUnits, at: SetClock) -> None:
    gateway = Gateway(make_units(store.metadata))
    gateway("PUT", "/v1/customers/c1", {"numbers": ["+49 30 1234567"]})
    gateway.service.core.sealer = Sealer(["k" * 32])
    status, told = gateway("POST", "/v1/customers/c1/erase")
    assert (status, told["customer"], told["numbers"], told["contacts"]) == (200, "c1", 1, 0)
    assert gateway("GET", "/v1/customers/c1")[0] == 404
    assert gateway("POST", "/v1/customers/c1/erase")[0] == 200
    scope = Scope(sites=frozenset(["berlin"]), teams=frozenset())
    gateway.application = Application(
        Router(gateway.service), lambda _: Principal("Eve's key", frozenset(["admin"]), scope=scope), lambda *_: None
    )
    status, problem = gateway("POST", "/v1/customers/c1/erase")
    assert (status, "the whole organisation" in problem["detail"]) == (403, True)


def test_who_may_read_an_exams_answers_does_not_sit_it_alone(gateway: Gateway) -> None:
    asked = []
    gateway.service.training = SimpleNamespace(begin_attempt=lambda **told: asked.append(told["person"]) or {"id": CONTACT})
    tom = Principal("Tom", frozenset(["trainer"]), person="tom")
    gateway.application = Application(Router(gateway.service), lambda _: tom, lambda *_: None)
    status, problem = gateway("POST", "/v1/exams/mail/attempts", {})
    assert (status, "another trainer" in problem["detail"]) == (403, True)
    gateway("POST", "/v1/exams/mail/attempts", {"person": "ann"})
    assert asked == ["ann"]
