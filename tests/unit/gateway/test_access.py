"""Role × route × scope: every route of the gateway against every role and against others' objects, in one house.

The routes are those that there are, the requests to them the examples of /openapi.json; a new route is under test as soon as it exists.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from sqlalchemy import MetaData, insert

from services.gateway import handlers, keys, people, recordings, store
from services.gateway.contract import ABOUT
from services.gateway.doors import training
from services.gateway.keys import ROLES
from services.gateway.scopes import PLACED
from services.gateway.service import GatewayService
from services.im.service import ImService
from services.qa.service import QaService
from services.routing.service import RoutingService
from services.training.service import TrainingService
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database
from shared.errors import NotFound
from shared.http.endpoint import Endpoint, Principal, Scope, endpoints_of
from tests.unit.gateway import access_table
from tests.unit.gateway.access_table import REACH, collection_of
from tests.unit.gateway.door import Answer, Doors

ROUTES = [(endpoint, door.__name__) for endpoint, door in endpoints_of(GatewayService)]
GUARDED = [(endpoint, door) for endpoint, door in ROUTES if not endpoint.public]
LIMITED = [(endpoint, door) for endpoint, door in GUARDED if endpoint.roles != ("admin",)]
PLACES = {"ours": ("berlin", "sales"), "theirs": ("cork", "claims")}
OPEN_TO_ALL = ("customers", "telephony", "me", "sign-out", "events")
READ_BY_ALL = (
    "policies", "calendars", "dispositions", "sources", "experts", "ladders", "training", "training-plans", "programmes", "scorecards", "samples",
    "checks", "calibrations", "analyses", "survey-rules",
)  # fmt: skip
TAUGHT = ("learners", "certifications", "exams", "sessions")
WHOLE = ("imports", "exports")


def each(routes: list[tuple[Endpoint, str]]) -> Any:
    return pytest.mark.parametrize(("route", "door"), routes, ids=[f"{route.method} {route.path}" for route, _ in routes])


def names_object(endpoint: Endpoint) -> bool:
    """Of a collection whose objects belong to somebody."""
    return "{" in endpoint.path and collection_of(endpoint) not in (*OPEN_TO_ALL, *READ_BY_ALL, *WHOLE)


class Routing:
    """Has two queues and two agents, `ours` and `theirs`, and is content with whatever it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.im_told: list[dict[str, Any]] = []
        self.queue_of: dict[str, str] = {}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            inspect.signature(getattr(RoutingService, method)).bind(None, **arguments)
            self.asked.append(method)
            return self._answer(method, arguments)

        return ask

    def _answer(self, method: str, arguments: dict[str, Any]) -> Any:
        match method:
            case "belongings":
                return {"queues": PLACES, "agents": PLACES}
            case "list_closures":
                return {"closures": [{"id": name, "queues": [name]} for name in PLACES]}
            case "get_contact":
                place = self.queue_of[arguments["contact_id"]]
                return {"contact": arguments["contact_id"], "legs": [{"queue": place, "agent": place}]}
            case "get_assignment":
                raise NotFound("it is not being routed")
            case "get_agent" | "get_queue":
                name = arguments.get("agent_id") or arguments.get("name") or ""
                if name not in PLACES:
                    raise NotFound("there is none")
                return {"id": name, "name": name, **dict(zip(("site", "team"), PLACES[name], strict=True))}
            case "list_policies":
                return {"policies": []}
            case "agent_offers":
                return [{"id": "o"}]
        return {"fine": True, "csv": "", "items": [], "next": None}


ROOMS = {"ours": "01a201de-2f2c-7d49-8393-8eae17e2b501", "theirs": "01a201de-2f2c-7d49-8393-8eae17e2b502"}


class Im:
    """Has a question in each of the two queues, which concerns the agent there, and is content with whatever it is told."""

    def __init__(self, asked: list[str], told: list[dict[str, Any]]) -> None:
        self.asked, self.told = asked, told

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            inspect.signature(getattr(ImService, method)).bind(None, **arguments)
            if method == "get_room":
                queue = next(name for name, id in ROOMS.items() if id == arguments["id"])
                return {"queue": queue, "people": [queue, "eve"]}
            self.asked.append(method)
            self.told.append(arguments)
            return {"fine": True, "items": [], "next": None}

        return ask


class Training:
    """Has a learner, a certificate, an attempt and a session at each of the two places, leaves out what a scope does not see, as its own tests
    show of the real one, and is content with whatever else it is told."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            inspect.signature(getattr(TrainingService, method)).bind(None, **arguments)
            scope = arguments.get("scope")
            if scope and scope["sites"] == ["berlin"] and "theirs" in (arguments.get("person"), arguments.get("id")):
                raise NotFound("there is none")
            self.routing.asked.append(method)
            return self.routing._answer(method, arguments)

        return ask


class Qa:
    """Has an evaluation, a finding and a flag in each of the two queues, which concern the agent there."""

    def __init__(self, asked: list[str], told: list[dict[str, Any]]) -> None:
        self.asked, self.told = asked, told

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            inspect.signature(getattr(QaService, method)).bind(None, **arguments)
            if method == "place_of":
                queue = next(name for name, id in ROOMS.items() if id == arguments["id"])
                return {"queue": queue, "people": [queue]}
            self.asked.append(method)
            self.told.append(arguments)
            return {"fine": True, "items": [], "next": None, "contact": ""}

        return ask


class House(NamedTuple):
    doors: Doors
    routing: Routing
    objects: dict[str, dict[str, dict[str, str]]]
    keys: dict[str, str]

    def ask(self, endpoint: Endpoint, door: str, key: str = "", whose: str = "ours") -> Answer:
        """The request of the route's example, about an object of ours or of theirs."""
        example = ABOUT.examples.get(door, {})
        named = {**example.get("path", {}), **self.objects.get(collection_of(endpoint), {}).get(whose, {})}
        path = re.sub(r"\{(\w+)\}", lambda match: named.get(match[1], "agents"), endpoint.path)
        kind, body = next(iter(example.get("request", {}).items()), ("application/json", {}))
        if isinstance(body, dict):
            body = {name: self._ours(name, value, whose, collection_of(endpoint)) for name, value in body.items()}
            if door in ("put_queue", "put_agent"):
                body |= dict(zip(("site", "team"), PLACES["ours"], strict=True))
        asked = {name: self._ours(name, value, whose, collection_of(endpoint)) for name, value in example.get("query", {}).items()}
        query = urlencode(asked | ({"wait": 0} if endpoint.query and "wait" in endpoint.query().load_fields else {}))
        return self.doors(endpoint.method, f"{path}?{query}" if query else path, body, key, kind)

    @staticmethod
    def _ours(name: str, value: Any, whose: str, collection: str) -> Any:
        if name == "person" and collection in TAUGHT:
            return whose
        return whose if name in ("agent", "queue") else [whose] if name == "queues" else value


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('access')}/house.sqlite3")
    bus = MetaData()
    units = UnitOfWork(database, BusTables(bus))
    bus.create_all(database.engine)
    store.metadata.create_all(database.engine)
    yield furnished(units)
    database.close()


def furnished(units: UnitOfWork) -> House:
    doors, routing = Doors(units), Routing()
    doors.service.routing = doors.service.core.scopes.routing = routing
    doors.service.im = Im(routing.asked, routing.im_told)
    doors.service.training = Training(routing)
    doors.service.qa = Qa(routing.asked, routing.im_told)
    objects: dict[str, dict[str, dict[str, str]]] = {
        kind: {}
        for kind in ("agents", "queues", "contacts", "recordings", "people", "sites", "teams", "closures", "escalations", *PLACED, *TAUGHT)
    }
    for name, (site, team) in PLACES.items():
        people.put_site(units, site, {"name": site, "zone": "", "active": True})
        people.put_team(units, team, {"name": team, "site": site, "active": True})
        person = {"name": name, "site": site, "team": team, "roles": ["agent"], "language": "", "sites": [], "teams": [], "active": True}
        people.put(units, name, person)
        contact = doors("POST", "/v1/contacts", {"queue": name}, "admin").json["contact"]
        handlers.correlate(units)
        recording = f"01a20084-8aa9-78ba-9740-3b5b66c9000{len(routing.queue_of)}"
        routing.queue_of[contact] = name
        with units() as work:
            work.connection.execute(
                insert(recordings.recording).values(
                    id=recording,
                    contact=contact,
                    source="pbx",
                    call=name,
                    location="x.wav",
                    failed=False,
                    muted=[],
                    consent="unknown",
                    sequence=1,
                )
            )
        ids = {"agents": name, "contacts": contact, "recordings": recording, "people": name, "sites": site, "teams": team, "closures": name}
        for kind, id in ids.items():
            objects[kind][name] = {"id": id}
        objects["queues"][name] = {"name": name}
        for kind in ("escalations", *PLACED):
            objects[kind][name] = {"id": ROOMS[name]}
        for kind in TAUGHT:
            objects[kind][name] = {"id": name, "person": name}
    made = {role: keys.create(units, role, [role])["key"] for role in ROLES}
    made |= {f"{role} of ours": keys.create(units, role, [role], sites=["berlin"])["key"] for role in ROLES if role != "admin"}
    made["expired"] = keys.create(units, "old", ["admin"], expires_at=clock.now() + 0.001)["key"]
    for name, roles in (("eve", ["expert"]), ("bob", ["expert", "trainer"]), ("lena", ["supervisor"])):
        person = {"name": name, "site": "cork", "team": "", "roles": roles, "language": "", "sites": None, "teams": None, "active": True}
        people.put(units, name, person)
    with units() as work:
        for name in ("ours", "eve", "bob", "lena"):
            row = work.connection.execute(store.person.select().where(store.person.c.id == name)).one()
            made[f"{name}, alone"] = doors.service.core.accounts.begin(work.connection, row, "test").token
    return House(doors, routing, objects, made)


# ---- who may come in at all


@each(GUARDED)
def test_without_a_key_nobody_comes_in(house: House, route: Endpoint, door: str) -> None:
    assert house.ask(route, door).status == 401
    assert house.ask(route, door, "al_nonsense").status == 401


@each(GUARDED)
def test_with_an_expired_key_nobody_comes_in_and_learns_why(house: House, route: Endpoint, door: str) -> None:
    answer = house.ask(route, door, house.keys["expired"])
    assert (answer.status, "expired on" in answer.json["detail"]) == (401, True)


@each(GUARDED)
def test_a_wrong_role_is_forbidden_and_learns_which_are_right(house: House, route: Endpoint, door: str) -> None:
    for role in set(ROLES) - {*route.roles, "admin"} if route.roles else ():
        answer = house.ask(route, door, house.keys[role])
        assert answer.status == 403, (role, answer)
        assert all(right in answer.json["detail"] for right in route.roles)


# ---- what they see


@each([(route, door) for route, door in LIMITED if names_object(route)])
def test_anothers_object_is_not_there_and_ones_own_is(house: House, route: Endpoint, door: str) -> None:
    for role in route.roles:
        key = house.keys[f"{role} of ours"]
        house.routing.asked.clear()
        assert house.ask(route, door, key, "theirs").status == 404, role
        asked = set(house.routing.asked) - {"belongings", "list_closures", "get_contact", "get_assignment"}
        assert not asked, "it was refused before anything was done"
        answer = house.ask(route, door, key, "ours")
        assert answer.status not in (401, 403, 404), (role, answer)


ALONE = [
    (route, door)
    for route, door in LIMITED
    if "agent" in route.roles and collection_of(route) in ("agents", "offers", "contacts", "recordings", *PLACED) and "{" in route.path
]


@each(ALONE)
def test_a_person_who_is_an_agent_and_nothing_else_acts_as_themselves_alone(house: House, route: Endpoint, door: str) -> None:
    key = house.keys["ours, alone"]
    assert house.ask(route, door, key, "theirs").status == 404
    answer = house.ask(route, door, key, "ours")
    assert answer.status not in (401, 403, 404), answer


@each(ALONE)
def test_a_desktops_key_acts_for_every_agent(house: House, route: Endpoint, door: str) -> None:
    answer = house.ask(route, door, house.keys["agent"], "theirs")
    assert answer.status not in (401, 403, 404), answer


ROOM_DOORS = [(route, door) for route, door in LIMITED if route.path.startswith("/v1/escalations/") and "expert" in route.roles]


@each(ROOM_DOORS)
def test_a_question_is_there_for_the_people_whom_it_concerns_wherever_they_belong(house: House, route: Endpoint, door: str) -> None:
    example = ABOUT.examples[door]["request"]["application/json"] if route.method != "GET" else None
    for person, found in (("eve", True), ("bob", False)):
        path = route.path.replace("{id}", ROOMS["ours"])
        body = b"" if example is None else {**example, "person": person}
        status = house.doors(route.method, path, body, house.keys[f"{person}, alone"]).status
        assert (status == 404) != found, person
        assert found == (200 <= status < 300), (person, status)
    assert house.ask(route, door, house.keys["lena, alone"], "ours").status in (403, 404), "a supervisor of another site"


def test_a_person_acts_as_themselves_alone_and_says_where_they_are(house: House) -> None:
    mine = house.keys["eve, alone"]
    assert house.doors("POST", f"/v1/escalations/{ROOMS['ours']}/claim", {}, mine).status == 200
    assert house.routing.im_told[-1]["expert"] == "eve"
    assert house.doors("POST", f"/v1/escalations/{ROOMS['ours']}/claim", {"person": "bob"}, mine).status == 422
    assert house.doors("PUT", "/v1/experts/eve/presence", {"state": "away"}, mine).status == 200
    assert house.doors("PUT", "/v1/experts/bob/presence", {"state": "away"}, mine).status in (403, 404)
    assert house.doors("GET", "/v1/escalations?person=bob", key=mine).status == 200
    assert house.routing.im_told[-1]["person"] == "eve"


@each([(route, door) for route, door in LIMITED if collection_of(route) in READ_BY_ALL])
def test_what_holds_for_the_whole_organisation_is_changed_only_without_a_scope(house: House, route: Endpoint, door: str) -> None:
    for role in route.roles:
        status = house.ask(route, door, house.keys[f"{role} of ours"]).status
        assert (status == 403) == (route.method != "GET"), role


@each([(route, door) for route, door in LIMITED if collection_of(route) in WHOLE])
def test_what_is_about_everything_needs_to_see_everything(house: House, route: Endpoint, door: str) -> None:
    for role in route.roles:
        assert house.ask(route, door, house.keys[f"{role} of ours"]).status == 403


QUESTION_FIGURES = tuple(
    f"/v1/reports/{name}"
    for name in ("escalations", "experts", "escalation-effect", "quality", "criteria", "surveys", "resolution", "value")
)
REPORTS = [route for route in LIMITED if collection_of(route[0]) == "reports" and route[0].path not in QUESTION_FIGURES]


@each([(route, door) for route, door in LIMITED if route.path in QUESTION_FIGURES])
def test_questions_and_quality_are_counted_within_the_queues_in_sight(house: House, route: Endpoint, door: str) -> None:
    assert house.ask(route, door, house.keys["supervisor of ours"]).status == 200
    assert house.routing.im_told[-1]["filters"]["queues"] == ["ours"]
    assert house.ask(route, door, house.keys["supervisor"]).status == 200
    assert "queues" not in house.routing.im_told[-1]["filters"]


@each([*REPORTS, *((route, door) for route, door in LIMITED if route.path in ("/v1/agents", "/v1/queues"))])
def test_lists_and_reports_are_asked_for_within_the_scope(
    house: House, route: Endpoint, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        house.routing, "_answer", lambda method, arguments: told.append(arguments) or {"csv": "", "items": [], "next": None}
    )
    scope = {"sites": ["berlin"], "teams": [], "agent": None}
    for role in route.roles:
        assert house.ask(route, door, house.keys[f"{role} of ours"]).status == 200
        assert told[-1].get("scope", told[-1].get("filters", {}).get("scope")) == scope
        assert house.ask(route, door, house.keys[role]).status == 200
        assert "scope" not in told[-1] and "scope" not in told[-1].get("filters", {})


@pytest.mark.parametrize(
    ("principal", "seen"),
    [
        (Principal("Ann", frozenset({"agent"}), "ann", "ann"), {"sites": [], "teams": [], "agent": "ann"}),
        (Principal("Ann", frozenset({"expert", "evaluator"}), "ann", "ann", Scope(frozenset({"berlin"}))), {"sites": [], "teams": [], "agent": "ann"}),
        (Principal("Lee", frozenset({"agent", "supervisor"}), "lee", "lee", Scope(teams=frozenset({"t1"}))), {"sites": [], "teams": ["t1"], "agent": None}),
        (Principal("desktop", frozenset({"agent"}), "k1", scope=Scope(frozenset({"berlin"}))), {"sites": ["berlin"], "teams": [], "agent": None}),
        (Principal("desktop", frozenset({"agent"}), "k2"), None),
    ],
)  # fmt: skip
def test_of_learners_who_does_not_lead_sees_themselves_and_a_key_all_of_its_scope(
    principal: Principal, seen: dict[str, Any] | None
) -> None:
    """A key is no person: a desktop's server speaks for everybody whom its scope names."""
    assert training.seen_by(principal) == ({} if seen is None else {"scope": seen})


# ---- what a scope may make


@pytest.mark.parametrize("path", ["/v1/queues/", "/v1/agents/"])
def test_nobody_gives_away_or_takes_what_is_not_theirs_alone(house: House, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = house.keys["supervisor of ours"]
    assert house.doors("PUT", f"{path}ours", {"site": "berlin"}, mine).status == 200
    assert house.doors("PUT", f"{path}new", {"site": "berlin", "team": "sales"}, mine).status == 200
    for body in ({"site": "cork"}, {}):
        answer = house.doors("PUT", f"{path}ours", body, mine)
        assert (answer.status, answer.json["errors"]) == (422, {"site": ["Say one of yours: berlin."]})
    monkeypatch.setitem(PLACES, "everybody's", ("", ""))
    house.doors.service.core.scopes.forget()
    assert house.doors("PUT", f"{path}everybody's", {"site": "berlin"}, mine).status == 403
    assert house.doors("PUT", f"{path}everybody's", {}, house.keys["supervisor"]).status == 200


def test_a_closure_concerns_ones_own_queues_alone(house: House) -> None:
    mine = house.keys["supervisor of ours"]
    closing = {"kind": "emergency", "message": {"en": "Fire."}, "reason": "fire"}
    statuses = [
        house.doors("POST", "/v1/closures", {**closing, "queues": queues}, mine).status for queues in (["ours"], ["ours", "theirs"], [])
    ]
    assert statuses == [201, 403, 403]
    assert [row["id"] for row in house.doors("GET", "/v1/closures", key=mine).json["closures"]] == ["ours"]


def test_a_contact_is_announced_into_a_queue_in_sight(house: House) -> None:
    mine = house.keys["telephony of ours"]
    assert [house.doors("POST", "/v1/contacts", {"queue": queue}, mine).status for queue in ("ours", "theirs", "unheard of")] == [
        201,
        404,
        201,
    ]


def test_a_transfer_may_go_to_anybody(house: House) -> None:
    contact = house.objects["contacts"]["ours"]["id"]
    assert house.doors("POST", f"/v1/contacts/{contact}/transfer", {"queue": "theirs"}, house.keys["ours, alone"]).status == 200


# ---- the document


@each(ROUTES)
def test_what_a_scope_means_for_it_is_written_down(route: Endpoint, door: str) -> None:
    assert not route.path.startswith("/v1/") or collection_of(route) in REACH, (
        "say it in tests/unit/gateway/access_table.py and in services/gateway/scopes.py"
    )


def test_the_table_in_the_documentation_is_up_to_date() -> None:
    _, written, _ = access_table.parts()
    assert written == access_table.table(), "make it anew: python -m tests.unit.gateway.access_table"
