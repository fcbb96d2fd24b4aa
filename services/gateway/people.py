"""The directory of people, sites and teams. A person's id is their agent id in routing too, and travels in events; e-mail addresses do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, select, true, update
from sqlalchemy.exc import IntegrityError

from services.gateway import keys, store
from services.gateway.store import password, person, session, site, team
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.errors import Conflict, Invalid, NotFound
from shared.http.endpoint import Principal, Scope

ANNOUNCED = ("name", "site", "team", "roles", "language", "active")
SHOWN = ("id", "name", "email", "site", "team", "roles", "language", "sites", "teams", "active")
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


# ---- people


def put(units: UnitOfWork, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write a person down, in place of what was known of them; inactive, they are signed out everywhere. Raises Invalid or Conflict."""
    require_name("a person's id", id)
    if "@" in id or id.startswith("+"):
        raise Invalid("a person's id is no e-mail address and no telephone number: it travels, which those do not")
    told = {**told, "roles": keys.require_roles(told["roles"], "a person")}
    email = told.get("email") or None
    if email and not ADDRESS.fullmatch(email):
        raise Invalid("the e-mail address cannot be used", errors={"email": ["Write it as in ann@example.com."]})
    if "admin" in told["roles"] and (told.get("sites") or told.get("teams")):
        raise Invalid("an administrator's roles hold for the whole organisation: leave out sites and teams, or the role admin")
    row = {**{name: told.get(name) for name in SHOWN}, "id": id, "email": email, "email_key": email and email.casefold()}
    try:
        with units() as work:
            _require_places(work.connection, row)
            return _save(work, row)
    except IntegrityError as error:
        raise Conflict("somebody else in the directory has this e-mail address") from error


def _save(work: Work, row: dict[str, Any]) -> dict[str, Any]:
    """Write the row and announce it, if others see a difference."""
    known = work.connection.execute(select(person).where(person.c.id == row["id"]).with_for_update()).mappings().first()
    row = {**row, "sequence": (known["sequence"] if known else 0) + 1, "changed_at": clock.now()}
    changing = [name for name in row if name != "id"]
    bulk.insert(work.connection, person, [row], columns=bulk.columns_of(person), key=("id",), update=changing)
    if not row["active"]:
        work.connection.execute(delete(session).where(session.c.person == row["id"]))
    if known is None or any(known[name] != row[name] for name in ANNOUNCED):
        data = {"person": row["id"], **{name: row[name] for name in ANNOUNCED}}
        work.announce(Event("gateway.person_changed.v1", row["id"], data, row["changed_at"], row["sequence"]))
    return _shown(row)


def get(units: UnitOfWork, id: str, asked_by: Principal) -> dict[str, Any]:
    """A person, if the asker sees them. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(person).where(person.c.id == id, _in_sight(asked_by))).mappings().first()
    if row is None:
        raise NotFound(f"nobody in the directory has the id {id}")
    return _shown(row)


def listing(units: UnitOfWork, asked_by: Principal, told: Mapping[str, Any]) -> dict[str, Any]:
    """A page of the people whom the asker sees, by id, from behind `cursor`; `site`, `team`, `active` narrow it."""
    narrower = [person.c[name] == told[name] for name in ("site", "team", "active") if told.get(name) is not None]
    return _page(units, person, told, _in_sight(asked_by), *narrower)


def deactivate(units: UnitOfWork, id: str) -> None:
    """They have left: they are signed out and cannot sign in; what is on record of them stays. Raises NotFound."""
    with units() as work:
        row = work.connection.execute(select(person).where(person.c.id == id).with_for_update()).mappings().first()
        if row is None:
            raise NotFound(f"nobody in the directory has the id {id}")
        work.connection.execute(delete(password).where(password.c.person == id))
        _save(work, {**{name: row[name] for name in bulk.columns_of(person)}, "active": False})


def scope_of(row: Mapping[Any, Any], roles: Iterable[str]) -> Scope:
    """For which sites and teams a person's roles hold: those that are said, or else their own. An administrator's hold for all."""
    if "admin" in roles:
        return Scope()
    sites, teams = (
        [row[own]] if said is None and row[own] else said or [] for own, said in (("site", row["sites"]), ("team", row["teams"]))
    )
    return Scope(frozenset(sites), frozenset(teams))


def _in_sight(asked_by: Principal) -> ColumnElement[bool]:
    places = ("site", asked_by.scope.sites), ("team", asked_by.scope.teams)
    return and_(true(), *(person.c[name].in_(("", *names)) for name, names in places if names))


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: bool(row[name]) if name == "active" else row[name] for name in SHOWN}


def _require_places(connection: Connection, row: Mapping[str, Any]) -> None:
    """The site and the team must be there, and the team must be of that site. Raises Invalid."""
    wrong: dict[str, list[str]] = {}
    if row["site"] and not connection.scalar(select(site.c.id).where(site.c.id == row["site"], site.c.active)):
        wrong["site"] = [f"There is no site {row['site']}: PUT /v1/sites/{row['site']} first."]
    if row["team"]:
        home = connection.scalar(select(team.c.site).where(team.c.id == row["team"], team.c.active))
        if home is None:
            wrong["team"] = [f"There is no team {row['team']}: PUT /v1/teams/{row['team']} first."]
        elif home not in ("", row["site"]):
            wrong["team"] = [f"The team {row['team']} is of the site {home}."]
    if wrong:
        raise Invalid("the site or the team does not fit", errors=wrong)


# ---- sites and teams


def put_site(units: UnitOfWork, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write a site down. Raises Invalid."""
    require_name("a site's id", id)
    row = {"id": id, "name": told["name"], "zone": told["zone"], "active": told["active"], "changed_at": clock.now()}
    with units() as work:
        if not row["active"]:
            _require_unused(work.connection, "site", id)
        bulk.insert(work.connection, site, [row], key=("id",), update=("name", "zone", "active", "changed_at"))
    return _place(row)


def put_team(units: UnitOfWork, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write a team down. Raises Invalid, and Conflict where people of another site are in it."""
    require_name("a team's id", id)
    row = {"id": id, "name": told["name"], "site": told["site"], "active": told["active"], "changed_at": clock.now()}
    with units() as work:
        if row["site"] and not work.connection.scalar(select(site.c.id).where(site.c.id == row["site"], site.c.active)):
            raise Invalid("the site does not fit", errors={"site": [f"There is no site {row['site']}: PUT /v1/sites/{row['site']} first."]})
        if not row["active"]:
            _require_unused(work.connection, "team", id)
        elsewhere = person.c.team == id, person.c.active, person.c.site != row["site"]
        if row["site"] and (number := work.connection.scalar(select(func.count()).select_from(person).where(*elsewhere))):
            raise Conflict(f"{number} people of other sites are in the team: put them elsewhere first")
        bulk.insert(work.connection, team, [row], key=("id",), update=("name", "site", "active", "changed_at"))
    return _place(row)


def get_place(units: UnitOfWork, table: Table, id: str, asked_by: Principal) -> dict[str, Any]:
    """A site or a team, if the asker sees it. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(table).where(table.c.id == id, _places_in_sight(table, asked_by))).mappings().first()
    if row is None:
        raise NotFound(f"no {table.name} has the id {id}")
    return _place(row)


def places(units: UnitOfWork, table: Table, asked_by: Principal, told: Mapping[str, Any]) -> dict[str, Any]:
    """A page of the sites or the teams that the asker sees, by id, from behind `cursor`."""
    return _page(units, table, told, _places_in_sight(table, asked_by))


def close_place(units: UnitOfWork, table: Table, id: str) -> None:
    """A site or a team is given up; it stays on record. Raises NotFound, and Conflict while somebody is there."""
    with units() as work:
        _require_unused(work.connection, table.name, id)
        changed = work.connection.execute(update(table).where(table.c.id == id).values(active=False, changed_at=clock.now()))
        if changed.rowcount == 0:
            raise NotFound(f"no {table.name} has the id {id}")


def _require_unused(connection: Connection, kind: str, id: str) -> None:
    number = connection.scalar(select(func.count()).select_from(person).where(person.c[kind] == id, person.c.active))
    if kind == "site" and not number:
        number = connection.scalar(select(func.count()).select_from(team).where(team.c.site == id, team.c.active))
        if number:
            raise Conflict(f"{number} teams are at this site: give them up first")
    if number:
        raise Conflict(f"{number} people are in this {kind}: put them elsewhere first")


def _places_in_sight(table: Table, asked_by: Principal) -> ColumnElement[bool]:
    sites, teams = asked_by.scope.sites, asked_by.scope.teams
    if table is site:
        of_teams = select(team.c.site).where(team.c.id.in_(teams))
        return site.c.id.in_(sites) if sites else site.c.id.in_(of_teams) if teams else true()
    return and_(team.c.site.in_(("", *sites)) if sites else true(), team.c.id.in_(teams) if teams else true())


def _place(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): bool(value) if name == "active" else value for name, value in row.items() if name != "changed_at"}


# ---- what all have


def _page(units: UnitOfWork, table: Table, told: Mapping[str, Any], *conditions: Any) -> dict[str, Any]:
    show: Callable[[Mapping[Any, Any]], dict[str, Any]] = _shown if table is person else _place
    limit = told["limit"]
    with units.database.reading() as connection:
        by_id = table.c.id.collate("C") if connection.dialect.name == "postgresql" else table.c.id
        query = select(table).where(by_id > told["cursor"], *conditions).order_by(by_id).limit(limit + 1)
        rows = connection.execute(query).mappings().all()
    return {"items": [show(row) for row in rows[:limit]], "next": rows[limit - 1]["id"] if len(rows) > limit else None}


def require_name(what: str, text: str) -> None:
    """Raises Invalid for what cannot stand in an address or a list."""
    if not 1 <= len(text) <= store.LONGEST_NAME or "/" in text or not text.isprintable() or text != text.strip():
        raise Invalid(f"{what} has 1 to {store.LONGEST_NAME} characters, no / and no blank at its ends")
