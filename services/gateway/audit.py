"""What administrators and supervisors did: written down before it is done, and how it ended after. Secrets and numbers stand nowhere in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, insert, select, true, update

from services.gateway.store import audit
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid
from shared.http.endpoint import Endpoint, Principal
from shared.http.wsgi import Request
from shared.ids import is_id, lowest_id, new_id

ADMINISTERING = frozenset(("admin", "supervisor"))
SHOWN = frozenset(
    ("roles", "site", "team", "sites", "teams", "active", "mode", "state", "kind", "closed", "minutes", "days", "expires_at", "queues", "pool",
     "policy", "calendar", "dispositions", "dry_run", "starts_at", "until")
)  # fmt: skip
"""Fields whose values are in the summary; of all others only the names are."""
NUMBER = re.compile(r"\+?\d[\d\s()./-]{5,}\d")
LONGEST = 300
EXPORT = "/v1/exports/{kind}"


def concerns(endpoint: Endpoint, principal: Principal) -> bool:
    """Whether the request is an administrative act: it changes something at a door of administrators and supervisors alone, or comes from
    a person who is one of them. To take whole tables out is one too."""
    if endpoint.method == "GET" or endpoint.public:
        return endpoint.path == EXPORT
    theirs = bool(endpoint.roles) and ADMINISTERING.issuperset(endpoint.roles)
    return theirs or (bool(principal.person) and not ADMINISTERING.isdisjoint(principal.roles))


def begin(units: UnitOfWork, endpoint: Endpoint, request: Request) -> Callable[[int, Any], None]:
    """Write down that an act begins; what is returned writes down how it ended: the status and the answer's body."""
    principal, object = request.principal, "/".join(map(without_numbers, request.parameters.values()))
    with units() as work:
        id = note(work.connection, principal.id, principal.name, f"{endpoint.method} {endpoint.path}", object, None)
    return partial(_end, units, id, object, request)


def _end(units: UnitOfWork, id: str, object: str, request: Request, status: int, answer: Any) -> None:
    made = object or _made(answer)
    with units() as work:
        work.connection.execute(update(audit).where(audit.c.id == id).values(status=status, object=made, summary=_summary(request)))


def note(connection: Connection, who: str, name: str, act: str, object: str, status: int | None, summary: str = "") -> str:
    """Write one act down; its id."""
    row = {"id": new_id(), "at": clock.now(), "who": who, "name": name, "act": act, "object": object, "status": status, "summary": summary}
    connection.execute(insert(audit).values(**row))
    return str(row["id"])


def listing(units: UnitOfWork, told: Mapping[str, Any]) -> dict[str, Any]:
    """A page of the acts, the newest first, from behind `cursor`; `who` (id), `object`, `since` and `until` (epoch seconds) narrow it."""
    if told["cursor"] and not is_id(told["cursor"]):
        raise Invalid("a page's cursor is what the page before told as `next`", errors={"cursor": ["There is no such page."]})
    conditions: list[ColumnElement[bool]] = [audit.c[name] == told[name] for name in ("who", "object") if told.get(name) is not None]
    conditions += [audit.c.id < told["cursor"]] if told["cursor"] else []
    conditions += [audit.c.at >= told["since"]] if told.get("since") is not None else []
    conditions += [audit.c.at < told["until"]] if told.get("until") is not None else []
    limit = told["limit"]
    query = select(audit).where(and_(true(), *conditions)).order_by(audit.c.id.desc()).limit(limit + 1)
    with units.database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    items = [{**{str(name): value for name, value in row.items()}, "at": clock.to_text(row["at"])} for row in rows[:limit]]
    return {"items": items, "next": rows[limit - 1]["id"] if len(rows) > limit else None}


def prune(units: UnitOfWork, before: float) -> bool:
    """Forget a slice of what was done before that moment; whether there may be more."""
    with units() as work:
        return bulk.forget_oldest(work.connection, audit.c.id, lambda _: true(), lambda row: row.id < lowest_id(before))


def without_numbers(text: str) -> str:
    """The text without anything that could be a telephone number; ids as we make them stay."""
    return text if is_id(text) else NUMBER.sub("…", text)[:LONGEST]


def _made(answer: Any) -> str:
    """The id of what was made, where the answer tells it."""
    try:
        told = orjson.loads(answer) if isinstance(answer, bytes) else None
    except orjson.JSONDecodeError:
        return ""
    return without_numbers(str(told.get("id", ""))) if isinstance(told, dict) else ""


def _summary(request: Request) -> str:
    told = {**request.query, **request.body}
    shown = [f"{name}={orjson.dumps(told[name], default=str).decode()}" for name in sorted(told) if name in SHOWN]
    others = sorted(told.keys() - SHOWN)
    parts = [*shown, *([f"also {', '.join(others)}"] if others else [])]
    if not request.body and request.raw:
        parts.append(f"{len(request.raw)} bytes")
    return ", ".join(NUMBER.sub("…", part) for part in parts)[:LONGEST]
