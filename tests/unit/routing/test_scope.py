"""What a scope leaves over of queues, agents and figures."""

from __future__ import annotations

from typing import Any

import pytest

from services.routing import reports, scope, store
from services.routing.domain.entities import Agent, Queue
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from tests.unit.conftest import MakeUnits, SetClock

QUEUES = {"sales": ("berlin", "sales"), "claims": ("berlin", "claims"), "cork": ("cork", ""), "ours": ("", "")}
AGENTS = {"ann": ("berlin", "sales"), "bob": ("cork", ""), "cy": ("", "")}


def scoped(sites: list[str], teams: list[str], agent: str | None = None) -> dict[str, Any]:
    return {"sites": sites, "teams": teams, "agent": agent}


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    units = make_units(store.metadata)
    queues = [Queue(name, site=site, team=team).to_row() for name, (site, team) in QUEUES.items()]
    agents = [
        {**Agent(id, id.title(), site=site, team=team, address=f"PJSIP/{id}", aliases=[f"Agent/{id}"]).to_row(), "shard": 0}
        for id, (site, team) in AGENTS.items()
    ]
    legs = [
        {**dict.fromkeys(store.LEG_COLUMNS), "contact": f"01a20084-8aa9-78ba-9740-3b5b66c9016{number}", "number": 1, "source": "p", "queue": queue,
         "channel": "voice", "observed": False, "agent": agent, "arrived_at": at(), "answered_at": at(), "ended_at": at(), "outcome": "completed",
         "hold_seconds": 1.0, "talk_seconds": 2.0, "kind": "inbound", "sequence": 1}
        for number, (queue, agent) in enumerate([("sales", "Ann"), ("cork", "Agent/bob"), ("cork", "ann"), ("ours", "cy"), ("unknown", "stranger")])
    ]  # fmt: skip
    with units() as work:
        bulk.insert(work.connection, store.queue, queues, columns=bulk.columns_of(store.queue))
        bulk.insert(work.connection, store.agent, agents, columns=bulk.columns_of(store.agent))
        bulk.insert(work.connection, store.leg, legs, columns=store.LEG_COLUMNS)
    return units


def test_everything_is_where_it_was_put_agents_under_each_name(units: UnitOfWork) -> None:
    with units.database.reading() as connection:
        told = scope.belonging(connection)
    assert told["queues"] == {name: place for name, place in QUEUES.items() if name != "ours"}
    assert told["agents"] == {
        name: AGENTS[id] for id in ("ann", "bob") for name in (id, id.title(), f"PJSIP/{id}", f"Agent/{id}")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "queues", "agents"),
    [
        (None, ["claims", "cork", "ours", "sales"], ["ann", "bob", "cy"]),
        (scoped(["berlin"], []), ["claims", "ours", "sales"], ["ann", "cy"]),
        (scoped(["berlin"], ["sales"]), ["ours", "sales"], ["ann", "cy"]),
        (scoped([], ["claims"]), ["claims", "cork", "ours"], ["bob", "cy"]),
        (scoped(["cork"], [], "bob"), ["cork", "ours"], ["bob"]),
        (scoped([], [], "ann"), ["claims", "cork", "ours", "sales"], ["ann"]),
    ],
)
def test_lists_leave_out_the_rest(units: UnitOfWork, seen: Any, queues: list[str], agents: list[str]) -> None:
    with units.database.reading() as connection:
        found = [
            [row[key] for row in store.page(connection, table, "", 10, scope.in_sight(table, seen))["items"]]
            for table, key in ((store.queue, "name"), (store.agent, "id"))
        ]
    assert found == [queues, agents]


def test_a_page_is_full_whatever_is_left_out(units: UnitOfWork) -> None:
    with units.database.reading() as connection:
        page = store.page(connection, store.queue, "", 2, scope.in_sight(store.queue, scoped(["cork"], [])))
    assert ([row["name"] for row in page["items"]], page["next"]) == (["cork", "ours"], None)


def test_queue_reports_tell_of_the_queues_and_agent_reports_of_the_agents_in_sight(units: UnitOfWork) -> None:
    filters = {"scope": scoped(["berlin"], [])}
    with units.database.reading() as connection:
        queues = [(row["queue"], row["offered"]) for row in reports.queues(connection, filters)["queues"]]
        agents = [(row["agent"], row["answered"]) for row in reports.agents(connection, filters)["agents"]]
    assert queues == [("ours", 1), ("sales", 1), ("unknown", 1)], "a queue without settings is everybody's"
    assert agents == [("Ann", 2), ("Cy", 1), ("stranger", 1)], "Ann's contact of another site's queue is her work all the same"
