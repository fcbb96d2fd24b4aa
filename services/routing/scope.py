"""Where queues and agents belong, and what of them a scope leaves over.

A scope is {"sites": […], "teams": […], "agent": id or None}: no sites mean all of them, and so for teams; an agent means that one alone.
What belongs to no site ("") is every site's; a queue without settings is everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, not_, or_, select, true

from services.routing import store

Scope = Mapping[str, Any]


def belonging(connection: Connection) -> dict[str, dict[str, tuple[str, str]]]:
    """(site, team) of every queue and agent that has one of them, agents under each of their names."""
    of_queues, of_agents = (or_(table.c.site != "", table.c.team != "") for table in (store.queue, store.agent))
    queues = connection.execute(select(store.queue.c.name, store.queue.c.site, store.queue.c.team).where(of_queues))
    agents: dict[str, tuple[str, str]] = {}
    names = (store.agent.c[name] for name in ("id", "name", "address", "aliases", "site", "team"))
    for row in connection.execute(select(*names).where(of_agents).order_by(store.agent.c.id)):
        agents |= dict.fromkeys({row.id, row.name, row.address, *row.aliases} - {""}, (row.site, row.team))
    return {"queues": {row.name: (row.site, row.team) for row in queues}, "agents": agents}


def in_sight(table: Table, scope: Scope | None) -> ColumnElement[bool]:
    """Rows of the queues or agents that the scope leaves over."""
    if scope is None:
        return true()
    conditions = [table.c[name].in_(("", *names)) for name, names in (("site", scope["sites"]), ("team", scope["teams"])) if names]
    if table is store.agent and scope.get("agent"):
        conditions.append(table.c.id == scope["agent"])
    return and_(true(), *conditions)


def of_queue(column: ColumnElement[str], scope: Scope | None) -> ColumnElement[bool]:
    """The column names a queue that the scope leaves over."""
    if scope is None:
        return true()
    return column.not_in(select(store.queue.c.name).where(not_(in_sight(store.queue, scope))))


def hidden_agents(connection: Connection, scope: Scope | None) -> frozenset[str]:
    """Ids of the agents that the scope leaves out."""
    if scope is None:
        return frozenset()
    return frozenset(connection.scalars(select(store.agent.c.id).where(not_(in_sight(store.agent, scope)))))
