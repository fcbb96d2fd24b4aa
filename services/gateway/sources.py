"""The register of sources: for each telephony system its name, what it is, its zone and country, and whether it distributes by itself.

Secrets are written and never shown: an answer says only which there are. They are kept as they are, for a signature is made anew with
them at each request; whoever can read this database can read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, select

from services.gateway import store
from services.gateway.store import source, source_secret
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid, NotFound

SECRETS = ("twilio_auth_token",)
KINDS = ("asterisk", "freeswitch", "twilio", "other")
MODES = ("observed", "routed")
KNOWN_FOR_SECONDS = 5.0
MOST_KNOWN = 10_000


@dataclass(frozen=True)
class Source:
    """What the doors and the correlation ask of a source; one that is not registered has nothing but its name.

    `zone`: of its times without one. `country`: two letters, of numbers without a country code. `mode`: "observed" where it distributes
    its contacts by itself, whatever the mode of their queues; "routed" where each queue's own mode counts.
    """

    name: str
    kind: str = "other"
    zone: ZoneInfo | None = None
    country: str = ""
    mode: str = "routed"
    available_activities: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def put(units: UnitOfWork, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Register a source, or change it. A secret not spoken of stays; null takes it away. Raises Invalid."""
    if not 1 <= len(name) <= store.LONGEST_NAME or ":" in name or "/" in name:
        raise Invalid(f"a source's name has 1 to {store.LONGEST_NAME} characters and holds no : or /")
    settings = {key: value for key, value in told.items() if key not in SECRETS}
    settings["country"] = settings["country"].upper()
    row = {"name": name, "settings": settings, "changed_at": clock.now()}
    with units() as work:
        bulk.insert(work.connection, source, [row], key=("name",), update=("settings", "changed_at"))
        for secret in SECRETS:
            if secret in told:
                work.connection.execute(delete(source_secret).where(source_secret.c.source == name, source_secret.c.name == secret))
                if told[secret] is not None:
                    work.connection.execute(source_secret.insert().values(source=name, name=secret, value=told[secret]))
    return get(units, name)


def get(units: UnitOfWork, name: str) -> dict[str, Any]:
    """A source as it is shown. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(source).where(source.c.name == name)).first()
        if row is None:
            raise NotFound(f"no source is called {name}")
        return _shown(connection, [row])[0]


def listing(units: UnitOfWork, after: str, limit: int) -> dict[str, Any]:
    """A page of sources by name, from behind `after`; `next` is what to ask for more with."""
    query = select(source).where(source.c.name > after).order_by(source.c.name).limit(limit + 1)
    with units.database.reading() as connection:
        rows = connection.execute(query).all()
        page = rows[:limit]
        return {"items": _shown(connection, page), "next": page[-1].name if len(rows) > limit else None}


def _shown(connection: Connection, rows: Iterable[Any]) -> list[dict[str, Any]]:
    rows = list(rows)
    query = select(source_secret.c.source, source_secret.c.name).where(source_secret.c.source.in_([row.name for row in rows]))
    kept: dict[str, list[str]] = {}
    for secret in connection.execute(query):
        kept.setdefault(secret.source, []).append(secret.name)
    return [{"name": row.name, **row.settings, "secrets": sorted(kept.get(row.name, []))} for row in rows]


def of(connection: Connection, names: Iterable[str]) -> dict[str, Source]:
    """Sources by name, registered or not, without their secrets."""
    wanted = set(names)
    rows = connection.execute(select(source.c.name, source.c.settings).where(source.c.name.in_(wanted))).all()
    return {name: Source(name) for name in wanted} | {row.name: _source(row.name, row.settings) for row in rows}


def _source(name: str, settings: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> Source:
    return Source(
        name,
        settings["kind"],
        ZoneInfo(settings["zone"]) if settings["zone"] else None,
        settings["country"],
        settings["mode"],
        frozenset(activity.lower() for activity in settings["available_activities"]),
        secrets or {},
    )


class Register:
    """Answers what a source is, remembering it for some seconds: every post asks."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        self._known: dict[str, tuple[float, Source]] = {}

    def get(self, name: str) -> Source:
        """The source of that name, with its secrets; one that is not registered has nothing but its name."""
        until, known = self._known.get(name, (0.0, None))
        if known is None or clock.monotonic() > until:
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            known = self._look_up(name)
            self._known[name] = (clock.monotonic() + KNOWN_FOR_SECONDS, known)
        return known

    def forget(self, name: str) -> None:
        """It was changed: ask anew."""
        self._known.pop(name, None)

    def _look_up(self, name: str) -> Source:
        with self.units.database.reading() as connection:
            settings = connection.scalar(select(source.c.settings).where(source.c.name == name))
            if settings is None:
                return Source(name)
            rows = connection.execute(select(source_secret.c.name, source_secret.c.value).where(source_secret.c.source == name))
            return _source(name, settings, {row.name: row.value for row in rows})
