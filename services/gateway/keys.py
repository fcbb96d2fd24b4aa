"""API keys: shown once, kept as a digest, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update

from services.gateway.store import api_key
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound
from shared.http.endpoint import Principal
from shared.ids import is_id, new_id

ROLES = ("admin", "supervisor", "agent", "expert", "evaluator", "trainer", "telephony", "metrics")
KNOWN_FOR_SECONDS = 5.0
SCHEME = "bearer"


def digest(key: str) -> str:
    """Keys are 256 random bits, so that a plain SHA-256 cannot be reversed."""
    return hashlib.sha256(key.encode()).hexdigest()


def create(units: UnitOfWork, name: str, roles: list[str]) -> dict[str, Any]:
    """Make a key; the answer is the only time that it is shown. Raises Invalid for an unknown role."""
    if unknown := set(roles) - set(ROLES):
        raise Invalid(f"unknown role: {', '.join(sorted(unknown))}; there are {', '.join(ROLES)}")
    if not roles:
        raise Invalid(f"a key needs a role: {', '.join(ROLES)}")
    key, id = "al_" + secrets.token_urlsafe(32), new_id()
    row = {"id": id, "name": name, "digest": digest(key), "roles": sorted(roles), "created_at": clock.now()}
    with units() as work:
        work.connection.execute(insert(api_key).values(**row))
    return {"id": id, "name": name, "roles": sorted(roles), "key": key}


def listing(units: UnitOfWork) -> list[dict[str, Any]]:
    """All keys ever made, oldest first; never the keys themselves."""
    columns = (api_key.c.id, api_key.c.name, api_key.c.roles, api_key.c.created_at, api_key.c.revoked_at)
    with units.database.reading() as connection:
        return [dict(row) for row in connection.execute(select(*columns).order_by(api_key.c.created_at)).mappings()]


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


def _offered(environ: Mapping[str, Any]) -> str:
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


class Keyring:
    """Says who a request comes from. A key found in the database is remembered for a few seconds."""

    def __init__(self, units: UnitOfWork, bootstrap: str) -> None:
        self.units = units
        self._bootstrap = digest(bootstrap)
        self._known: dict[str, tuple[float, Principal | None]] = {}

    def authenticate(self, environ: Mapping[str, Any]) -> Principal | None:
        key = _offered(environ)
        if not key:
            return None
        offered = digest(key)
        if hmac.compare_digest(offered, self._bootstrap):
            return Principal("bootstrap", frozenset(("admin",)))
        until, principal = self._known.get(offered, (0.0, None))
        if clock.monotonic() > until:
            if len(self._known) > 10_000:
                self._known.clear()
            principal = self._look_up(offered)
            self._known[offered] = (clock.monotonic() + KNOWN_FOR_SECONDS, principal)
        return principal

    def _look_up(self, offered: str) -> Principal | None:
        query = select(api_key.c.name, api_key.c.roles).where(api_key.c.digest == offered, api_key.c.revoked_at.is_(None))
        with self.units.database.reading() as connection:
            row = connection.execute(query).first()
        return Principal(row.name, frozenset(row.roles)) if row else None
