"""Who sees what: sites, teams, and agents who act alone."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.scopes import KNOWN_FOR_SECONDS, Scopes
from shared.errors import NotFound, Unavailable
from shared.http.endpoint import Principal, Scope
from tests.unit.conftest import SetClock

BELONGINGS = {
    "queues": {"sales": ["berlin", "sales"], "claims": ["berlin", "claims"], "cork": ["cork", ""], "vip": ["", "vip"]},
    "agents": {"ann": ["berlin", "sales"], "PJSIP/1": ["berlin", "sales"], "bob": ["cork", ""]},
}
ALL = ("sales", "claims", "cork", "vip", "everybody's")


class Routing:
    def __init__(self) -> None:
        self.told: Any = BELONGINGS
        self.asked = 0

    def belongings(self) -> Any:
        self.asked += 1
        if self.told is None:
            raise Unavailable("routing is out of reach")
        return self.told

    def get_agent(self, agent_id: str) -> Any:
        if agent_id != "ann":
            raise NotFound("no agent")
        return {"name": "Ann Lee", "address": "PJSIP/1", "aliases": ["Agent/7"]}


@pytest.fixture
def routing() -> Routing:
    return Routing()


@pytest.fixture
def scopes(routing: Routing, at: SetClock) -> Scopes:
    return Scopes(routing)


def supervisor(*, sites: tuple[str, ...] = (), teams: tuple[str, ...] = ()) -> Principal:
    return Principal("s", frozenset(["supervisor"]), "k", scope=Scope(frozenset(sites), frozenset(teams)))


ANN = Principal("Ann", frozenset(["agent"]), "ann", "ann")


@pytest.mark.parametrize(
    ("sites", "teams", "seen"),
    [
        ((), (), ALL),
        (("berlin",), (), ("sales", "claims", "vip", "everybody's")),
        (("cork",), (), ("cork", "vip", "everybody's")),
        (("berlin", "cork"), (), ALL),
        ((), ("sales",), ("sales", "cork", "everybody's")),
        (("berlin",), ("sales",), ("sales", "everybody's")),
        (("cork",), ("vip",), ("cork", "vip", "everybody's")),
        (("nowhere",), ("none",), ("everybody's",)),
    ],
)
def test_a_queue_is_seen_by_its_site_and_its_team(
    scopes: Scopes, sites: tuple[str, ...], teams: tuple[str, ...], seen: tuple[str, ...]
) -> None:
    mine = supervisor(sites=sites, teams=teams)
    assert tuple(queue for queue in ALL if scopes.sees(mine, queue=queue)) == seen


def test_an_agent_is_seen_under_each_of_their_names(scopes: Scopes) -> None:
    mine = supervisor(sites=("cork",))
    assert [scopes.sees(mine, agent=name) for name in ("ann", "PJSIP/1", "bob", "a stranger")] == [False, False, True, True]


def test_where_a_queue_is_named_it_decides(scopes: Scopes) -> None:
    """A contact of ours is ours, whoever serves it."""
    mine = supervisor(sites=("cork",))
    assert scopes.sees(mine, queue="cork", agent="ann")
    assert not scopes.sees(mine, queue="sales", agent="bob")
    assert scopes.sees(mine)


def test_a_person_who_is_an_agent_and_nothing_else_sees_themselves_alone(scopes: Scopes) -> None:
    assert [scopes.sees(ANN, agent=name) for name in ("ann", "Ann Lee", "PJSIP/1", "Agent/7", "bob")] == [True, True, True, True, False]
    assert scopes.sees(ANN, queue="cork")
    assert not scopes.sees(ANN, queue="cork", agent="bob")
    assert not scopes.sees(Principal("Ann", frozenset(["agent", "expert"]), "ann", "ann"), agent="bob"), "an expert leads nobody"
    newcomer = Principal("New", frozenset(["agent"]), "new", "new")
    assert scopes.sees(newcomer, agent="new") and not scopes.sees(newcomer, agent="ann")


def test_a_key_and_a_supervising_agent_act_for_others_too(scopes: Scopes) -> None:
    assert scopes.sees(Principal("desk", frozenset(["agent"]), "k"), agent="bob")
    assert scopes.sees(Principal("Ann", frozenset(["agent", "supervisor"]), "ann", "ann"), agent="bob")


def test_routing_is_asked_once_in_a_while_and_never_for_who_sees_all(scopes: Scopes, routing: Routing, at: SetClock) -> None:
    for _ in range(3):
        assert scopes.sees(supervisor(), queue="cork")
    assert routing.asked == 0
    for _ in range(3):
        scopes.sees(supervisor(sites=("cork",)), queue="cork")
    assert routing.asked == 1
    routing.told = {"queues": {"cork": ["berlin", ""]}, "agents": {}}
    assert scopes.sees(supervisor(sites=("cork",)), queue="cork")
    at.forward(KNOWN_FOR_SECONDS + 1)
    assert not scopes.sees(supervisor(sites=("cork",)), queue="cork")
    scopes.forget()
    scopes.sees(supervisor(sites=("cork",)), queue="cork")
    assert routing.asked == 3


def test_while_routing_is_out_of_reach_what_it_said_last_holds_and_nobody_guesses(scopes: Scopes, routing: Routing, at: SetClock) -> None:
    told, routing.told = routing.told, None
    with pytest.raises(Unavailable):
        scopes.sees(supervisor(sites=("cork",)), queue="sales")
    routing.told = told
    assert not scopes.sees(supervisor(sites=("cork",)), queue="sales")
    routing.told = None
    at.forward(3600)
    assert not scopes.sees(supervisor(sites=("cork",)), queue="sales")


def test_lists_and_reports_are_narrowed_for_who_does_not_see_all(scopes: Scopes) -> None:
    assert scopes.narrowing(supervisor()) == {}
    assert scopes.narrowing(supervisor(sites=("b", "a"))) == {"scope": {"sites": ["a", "b"], "teams": [], "agent": None}}
    assert scopes.narrowing(ANN) == {"scope": {"sites": [], "teams": [], "agent": "ann"}}


def test_the_wallboard_leaves_out_what_is_not_seen(scopes: Scopes) -> None:
    figures = {"queues": [{"queue": name} for name in ALL], "agents": [{"agent": name} for name in ("ann", "bob", "stranger")], "more": 1}
    assert scopes.live(supervisor(), figures) is figures
    assert scopes.live(supervisor(sites=("cork",)), figures) == {
        "queues": [{"queue": name} for name in ("cork", "vip", "everybody's")], "agents": [{"agent": "bob"}, {"agent": "stranger"}], "more": 1,
    }  # fmt: skip


def test_closures_are_seen_by_whom_they_concern(scopes: Scopes) -> None:
    told = {"closures": [{"id": "1", "queues": []}, {"id": "2", "queues": ["sales", "cork"]}, {"id": "3", "queues": ["sales"]}]}
    assert [row["id"] for row in scopes.closures(supervisor(sites=("cork",)), told)["closures"]] == ["1", "2"]
    assert scopes.closures(supervisor(), told) == told
