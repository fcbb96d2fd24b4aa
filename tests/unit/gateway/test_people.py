"""The directory of people, sites and teams."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway import people, store
from shared.bus.outbox import UnitOfWork
from shared.errors import Conflict, Invalid, NotFound
from shared.http.endpoint import Principal, Scope
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

ADMIN = Principal("root", frozenset(["admin"]))
ANN: dict[str, Any] = {"name": "Ann Lee", "email": "Ann.Lee@example.com", "site": "berlin", "team": "sales", "roles": ["supervisor"]}


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


@pytest.fixture
def doors(units: UnitOfWork) -> Doors:
    doors = Doors(units)
    for site in ("berlin", "cork"):
        assert doors("PUT", f"/v1/sites/{site}", {"name": site.title(), "zone": "Europe/Berlin"}, "admin").status == 200
    for team, where in (("sales", "berlin"), ("claims", "cork"), ("night", "")):
        assert doors("PUT", f"/v1/teams/{team}", {"name": team.title(), "site": where}, "admin").status == 200
    return doors


def put(doors: Doors, id: str, **told: Any) -> Any:
    answer = doors("PUT", f"/v1/people/{id}", {**ANN, "email": None, **told}, "admin")
    assert answer.status == 200, answer
    return answer.json


def test_a_person_is_written_read_changed_and_announced_without_their_address(doors: Doors) -> None:
    shown = {**ANN, "id": "ann", "language": "", "sites": None, "teams": None, "active": True}
    assert put(doors, "ann", email=ANN["email"]) == shown
    assert doors("GET", "/v1/people/ann", key="supervisor").json == shown
    put(doors, "ann", email="ann@example.com")  # nothing that others know of has changed
    put(doors, "ann", email="ann@example.com", language="zh-Hant", roles=["agent", "agent"])
    told = [event for event in doors.announced() if event["type"] == "gateway.person_changed.v1"]
    assert [event["sequence"] for event in told] == [1, 3]
    assert told[1]["data"] == {
        "person": "ann", "name": "Ann Lee", "site": "berlin", "team": "sales", "roles": ["agent"], "language": "zh-Hant", "active": True,
    }  # fmt: skip
    assert "example.com" not in str(told)


@pytest.mark.parametrize(
    ("id", "told", "named"),
    [
        ("ann", {"site": "paris"}, "There is no site paris"),
        ("ann", {"team": "nobody"}, "There is no team nobody"),
        ("ann", {"team": "claims"}, "of the site cork"),
        ("ann", {"roles": ["king"]}, "unknown role: king"),
        ("ann", {"roles": []}, "needs a role"),
        ("ann", {"email": "ann"}, "ann@example.com"),
        ("ann", {"roles": ["admin"], "sites": ["berlin"]}, "whole organisation"),
        ("ann@example.com", {}, "no e-mail address and no telephone number"),
        ("+49301234567", {}, "no e-mail address and no telephone number"),
        (" ann", {}, "no blank at its ends"),
    ],
)
def test_what_does_not_fit_is_refused(doors: Doors, id: str, told: dict[str, Any], named: str) -> None:
    answer = doors("PUT", f"/v1/people/{id}", {**ANN, **told}, "admin")
    assert (answer.status, named in str(answer.json)) == (422, True), answer
    assert doors("GET", "/v1/people", key="admin").json["items"] == []


def test_an_address_is_one_persons_however_it_is_written(doors: Doors) -> None:
    put(doors, "ann", email="Ann.Lee@Example.com")
    assert doors("PUT", "/v1/people/other", {**ANN, "email": "ann.lee@example.com"}, "admin").status == 409
    put(doors, "ann", email=None)
    put(doors, "other", email="ann.lee@example.com")


def test_who_has_left_stays_on_record(doors: Doors) -> None:
    put(doors, "ann")
    assert doors("DELETE", "/v1/people/ann", key="admin").status == 204
    assert doors("GET", "/v1/people/ann", key="admin").json["active"] is False
    assert doors.announced()[-1]["data"]["active"] is False
    assert doors("DELETE", "/v1/people/nobody", key="admin").status == 404
    assert doors("GET", "/v1/people?active=true", key="admin").json["items"] == []


def test_people_come_page_by_page_and_narrowed(doors: Doors) -> None:
    for id, site, team in (("a", "berlin", "sales"), ("b", "cork", "claims"), ("c", "", ""), ("D", "berlin", "night")):
        put(doors, id, site=site, team=team)

    def ids(query: str) -> tuple[list[str], Any]:
        page = doors("GET", f"/v1/people?{query}", key="supervisor").json
        return [row["id"] for row in page["items"]], page["next"]

    assert ids("limit=3") == (["D", "a", "b"], "b")
    assert ids("limit=3&cursor=b") == (["c"], None)
    assert ids("site=berlin") == (["D", "a"], None)
    assert ids("team=claims") == (["b"], None)


def test_a_supervisor_reads_of_the_directory_what_is_theirs(doors: Doors, units: UnitOfWork) -> None:
    for id, site, team in (("a", "berlin", "sales"), ("b", "cork", "claims"), ("c", "", ""), ("d", "berlin", "night")):
        put(doors, id, site=site, team=team)
    page = {"cursor": "", "limit": 10}

    def seen(**scope: list[str]) -> list[list[str]]:
        mine = Principal("s", frozenset(["supervisor"]), scope=Scope(**{kind: frozenset(names) for kind, names in scope.items()}))
        tables = people.places(units, store.site, mine, page), people.places(units, store.team, mine, page)
        return [[row["id"] for row in found["items"]] for found in (people.listing(units, mine, page), *tables)]

    assert seen() == [["a", "b", "c", "d"], ["berlin", "cork"], ["claims", "night", "sales"]]
    assert seen(sites=["berlin"]) == [["a", "c", "d"], ["berlin"], ["night", "sales"]]
    assert seen(teams=["sales"]) == [["a", "c"], ["berlin"], ["sales"]]
    assert seen(sites=["cork"], teams=["sales"]) == [["c"], ["cork"], []]
    berlin = Principal("s", frozenset(["supervisor"]), scope=Scope(sites=frozenset(["berlin"])))
    for find in (
        lambda: people.get(units, "b", berlin),
        lambda: people.get_place(units, store.site, "cork", berlin),
        lambda: people.get_place(units, store.team, "claims", berlin),
    ):
        with pytest.raises(NotFound):
            find()


def test_a_place_is_given_up_only_when_nobody_is_there(doors: Doors, units: UnitOfWork) -> None:
    put(doors, "ann")
    for path, why in (("sites/berlin", "1 people"), ("teams/sales", "1 people"), ("sites/cork", "1 teams")):
        answer = doors("DELETE", f"/v1/{path}", key="admin")
        assert (answer.status, why in answer.json["detail"]) == (409, True), answer
    with pytest.raises(Conflict):
        people.put_team(units, "sales", {"name": "Sales", "site": "cork", "active": True})
    assert doors("DELETE", "/v1/people/ann", key="admin").status == 204
    assert [doors("DELETE", path, key="admin").status for path in ("/v1/teams/sales", "/v1/sites/berlin", "/v1/teams/none")] == [
        204,
        204,
        404,
    ]
    assert doors("GET", "/v1/sites/berlin", key="admin").json == {
        "id": "berlin",
        "name": "Berlin",
        "zone": "Europe/Berlin",
        "active": False,
    }
    with pytest.raises(Invalid):
        people.put_team(units, "sales", {"name": "Sales", "site": "berlin", "active": True})


@pytest.mark.parametrize(
    ("person", "scope"),
    [
        ({}, Scope(frozenset(["berlin"]), frozenset(["sales"]))),
        ({"team": ""}, Scope(frozenset(["berlin"]))),
        ({"site": "", "team": ""}, Scope()),
        ({"sites": ["berlin", "cork"], "teams": []}, Scope(frozenset(["berlin", "cork"]))),
        ({"sites": [], "teams": []}, Scope()),
        ({"roles": ["admin"]}, Scope()),
    ],
)
def test_a_persons_roles_hold_for_their_own_site_and_team_unless_the_directory_says_otherwise(person: dict[str, Any], scope: Scope) -> None:
    row = {**ANN, "sites": None, "teams": None, **person}
    assert people.scope_of(row, row["roles"]) == scope
