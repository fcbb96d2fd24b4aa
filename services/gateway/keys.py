"""API keys: shown once, kept as a digest, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import insert, select, update

from services.gateway.store import api_key
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound, Unauthenticated
from shared.http.endpoint import Principal, Scope
from shared.ids import is_id, new_id

ROLES = ("admin", "supervisor", "agent", "expert", "evaluator", "trainer", "telephony", "metrics")
KNOWN_FOR_SECONDS = 5.0
SCHEME = "bearer"
SHOWN = ("id", "name", "roles", "sites", "teams")
MOMENTS = ("created_at", "expires_at", "revoked_at")


def digest(key: str) -> str:
    """Keys are 256 random bits, so that a plain SHA-256 cannot be reversed."""
    return hashlib.sha256(key.encode()).hexdigest()


def require_roles(roles: Iterable[str], who: str) -> list[str]:
    """The roles in order, each once. Raises Invalid for none, and for one that does not exist."""
    if unknown := set(roles) - set(ROLES):
        raise Invalid(f"unknown role: {', '.join(sorted(unknown))}; there are {', '.join(ROLES)}")
    if not roles:
        raise Invalid(f"{who} needs a role: {', '.join(ROLES)}")
    return sorted(set(roles))


def create(
    units: UnitOfWork,
    name: str,
    roles: Sequence[str],
    *,
    expires_at: float | None = None,
    sites: Iterable[str] = (),
    teams: Iterable[str] = (),
) -> dict[str, Any]:
    """Make a key; the answer is the only time that it is shown. `sites`, `teams`: for which it holds; none: for all. Raises Invalid."""
    roles, sites, teams = require_roles(roles, "a key"), sorted(set(sites)), sorted(set(teams))
    if "admin" in roles and (sites or teams):
        raise Invalid("an administrator's key holds for the whole organisation: leave out sites and teams, or the role admin")
    if expires_at is not None and expires_at <= clock.now():
        raise Invalid("a key cannot have expired when it is made", errors={"expires_at": ["Say a moment to come."]})
    key = "al_" + secrets.token_urlsafe(32)
    row = {
        "id": new_id(),
        "name": name,
        "roles": roles,
        "sites": sites,
        "teams": teams,
        "created_at": clock.now(),
        "expires_at": expires_at,
    }
    with units() as work:
        work.connection.execute(insert(api_key).values(**row, digest=digest(key)))
    return {**_shown({**row, "revoked_at": None}), "key": key}


def listing(units: UnitOfWork, after: str = "", limit: int = 100) -> dict[str, Any]:
    """A page of all keys ever made, oldest first, from behind `after`; never the keys themselves. `next` is what to ask for more with."""
    columns = (api_key.c[name] for name in (*SHOWN, *MOMENTS))
    query = select(*columns).order_by(api_key.c.id).limit(limit + 1)
    if after and not is_id(after):
        raise Invalid("a page's cursor is what the page before told as `next`", errors={"cursor": ["There is no such page."]})
    with units.database.reading() as connection:
        rows = connection.execute(query.where(api_key.c.id > after) if after else query).mappings().all()
    return {"items": [_shown(row) for row in rows[:limit]], "next": rows[limit - 1]["id"] if len(rows) > limit else None}


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    moments = {name: None if row[name] is None else clock.to_text(row[name]) for name in MOMENTS}
    return {**{name: row[name] for name in SHOWN}, **moments}


def revoke(units: UnitOfWork, id: str) -> None:
    """A key stops working, everywhere within seconds. Raises NotFound."""
    if not is_id(id):
        raise NotFound(f"no valid key has the id {id}")
    with units() as work:
        changed = work.connection.execute(
            update(api_key).where(api_key.c.id == id, api_key.c.revoked_at.is_(None)).values(revoked_at=clock.now())
        )
        if changed.rowcount == 0:
            raise NotFound(f"no valid key has the id {id}")


def offered(environ: Mapping[str, Any]) -> str:
    """The key that a request brings, or nothing. Telephony systems that can set no header of their own bring it as Basic's password."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == SCHEME:
        return credentials.strip()
    if scheme.lower() != "basic" or not environ.get("PATH_INFO", "").startswith("/v1/telephony/"):
        return ""
    try:
        _user, _, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password.strip()


class _Known(NamedTuple):
    principal: Principal | None
    expires_at: float | None


class Keyring:
    """Says who a request comes from. A key found in the database is remembered for a few seconds. `signed_in` says who brings the token
    of a sign-in, and None for what is none."""

    def __init__(self, units: UnitOfWork, bootstrap: str, signed_in: Callable[[str], Principal | None] = lambda _token: None) -> None:
        self.units = units
        self.signed_in = signed_in
        self._bootstrap = digest(bootstrap)
        self._known: dict[str, tuple[float, _Known]] = {}

    def authenticate(self, environ: Mapping[str, Any]) -> Principal | None:
        """None: no valid key. Raises Unauthenticated for one that has expired, and for a sign-in that has ended."""
        key = offered(environ)
        if not key:
            return None
        if principal := self.signed_in(key):
            return principal
        told = digest(key)
        if hmac.compare_digest(told, self._bootstrap):
            return Principal("bootstrap", frozenset(("admin",)), "bootstrap")
        until, known = self._known.get(told, (0.0, _Known(None, None)))
        if clock.monotonic() > until:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._look_up(told)
            self._known[told] = (clock.monotonic() + KNOWN_FOR_SECONDS, known)
        if known.expires_at is not None and clock.now() >= known.expires_at:
            raise Unauthenticated(f"this key expired on {clock.to_text(known.expires_at)}; an administrator makes another")
        return known.principal

    def _look_up(self, told: str) -> _Known:
        columns = (api_key.c[name] for name in ("id", "name", "roles", "sites", "teams", "expires_at"))
        query = select(*columns).where(api_key.c.digest == told, api_key.c.revoked_at.is_(None))
        with self.units.database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return _Known(None, None)
        scope = Scope(frozenset(row.sites), frozenset(row.teams))
        return _Known(Principal(row.name, frozenset(row.roles), row.id, scope=scope), row.expires_at)
