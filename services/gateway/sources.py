"""The register of sources: for each telephony system its name, what it is, its zone and country, and whether it distributes by itself.

Secrets are written and never shown: an answer says only which there are. They are kept sealed (see sealing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, select, update

from services.gateway import sealing, store
from services.gateway.sealing import Sealer
from services.gateway.store import source, source_secret
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid, NotFound

SECRETS = ("twilio_auth_token",)
KINDS = ("asterisk", "freeswitch", "twilio", "other")
MODES = ("observed", "routed")
TWILIO_API = "https://api.twilio.com"
OF_RECORDINGS = (
    "twilio_account",
    "twilio_api",
    "recordings_root",
    "recordings_prefix",
    "recordings_days",
    "recordings_need_consent",
)
KNOWN_FOR_SECONDS = 5.0
MOST_KNOWN = 10_000


@dataclass(frozen=True)
class Source:
    """What the doors and the correlation ask of a source; one that is not registered has nothing but its name.

    `zone`: of its times without one. `country`: two letters, of numbers without a country code. `mode`: "observed" where it distributes
    its contacts by itself, whatever the mode of their queues; "routed" where each queue's own mode counts.
    `recordings_root`: the only folder that its recordings are given out of; `recordings_prefix`: what it calls that folder itself.
    """

    name: str
    kind: str = "other"
    zone: ZoneInfo | None = None
    country: str = ""
    mode: str = "routed"
    available_activities: frozenset[str] = frozenset()
    twilio_account: str = ""
    twilio_api: str = TWILIO_API
    recordings_root: str = ""
    recordings_prefix: str = ""
    recordings_days: int | None = None
    recordings_need_consent: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """sealed; see Register.secret"""
    deleted: bool = False


def put(units: UnitOfWork, sealer: Sealer, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Register a source, or change it. A secret not spoken of stays; null takes it away. Raises Invalid."""
    if not 1 <= len(name) <= store.LONGEST_NAME or ":" in name or "/" in name:
        raise Invalid(f"a source's name has 1 to {store.LONGEST_NAME} characters and holds no : or /")
    settings = {key: value for key, value in told.items() if key not in SECRETS}
    settings["country"] = settings["country"].upper()
    row = {"name": name, "settings": settings, "changed_at": clock.now(), "deleted_at": None}
    with units() as work:
        bulk.insert(work.connection, source, [row], key=("name",), update=("settings", "changed_at", "deleted_at"))
        sealing.keep(work.connection, sealer, source_secret.c.source, name, {secret: told[secret] for secret in SECRETS if secret in told})
    return get(units, name)


def remove(units: UnitOfWork, name: str) -> None:
    """Take a source off the register. Its secrets go; its settings stay for what it left behind. Raises NotFound."""
    with units() as work:
        there = update(source).where(source.c.name == name, source.c.deleted_at.is_(None)).values(deleted_at=clock.now())
        if work.connection.execute(there).rowcount == 0:
            raise NotFound(f"no source is called {name}")
        work.connection.execute(delete(source_secret).where(source_secret.c.source == name))


def get(units: UnitOfWork, name: str) -> dict[str, Any]:
    """A source as it is shown. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(source).where(source.c.name == name, source.c.deleted_at.is_(None))).first()
        if row is None:
            raise NotFound(f"no source is called {name}")
        return _shown(connection, [row])[0]


def listing(units: UnitOfWork, after: str, limit: int) -> dict[str, Any]:
    """A page of sources by name, from behind `after`; `next` is what to ask for more with."""
    query = select(source).where(source.c.name > after, source.c.deleted_at.is_(None)).order_by(source.c.name).limit(limit + 1)
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


def _source(name: str, settings: Mapping[str, Any], secrets: Mapping[str, str] | None = None, deleted: bool = False) -> Source:
    return Source(
        name,
        settings["kind"],
        ZoneInfo(settings["zone"]) if settings["zone"] else None,
        settings["country"],
        settings["mode"],
        frozenset(activity.lower() for activity in settings["available_activities"]),
        **{name: settings[name] for name in OF_RECORDINGS if name in settings},
        secrets=secrets or {},
        deleted=deleted,
    )


class Register:
    """Answers what a source is, remembering it for some seconds: every post asks."""

    def __init__(self, units: UnitOfWork, sealer: Sealer) -> None:
        self.units = units
        self._sealer = sealer
        self._known: dict[str, tuple[float, Source]] = {}

    def get(self, name: str) -> Source:
        """The source of that name, with its secrets as they are kept; one that is not registered has nothing but its name."""
        until, known = self._known.get(name, (0.0, None))
        if known is None or clock.monotonic() > until:
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            known = self._look_up(name)
            self._known[name] = (clock.monotonic() + KNOWN_FOR_SECONDS, known)
        return known

    def secret(self, name: str, secret: str) -> str | None:
        """A secret of that source, None where it has none. Raises Unavailable where it cannot be unsealed."""
        sealed = self.get(name).secrets.get(secret)
        return None if sealed is None else self._sealer.unseal(sealed)

    def require(self, name: str) -> None:
        """Raises NotFound for a source that was deleted: whoever still posts in its name keeps what it has, until somebody decides."""
        if self.get(name).deleted:
            raise NotFound(f"the source {name} was deleted: PUT /v1/sources/{name} registers it again, or stop posting in its name")

    def forget(self, name: str) -> None:
        """It was changed: ask anew."""
        self._known.pop(name, None)

    def _look_up(self, name: str) -> Source:
        with self.units.database.reading() as connection:
            row = connection.execute(select(source.c.settings, source.c.deleted_at).where(source.c.name == name)).first()
            if row is None:
                return Source(name)
            rows = connection.execute(select(source_secret.c.name, source_secret.c.value).where(source_secret.c.source == name))
            return _source(name, row.settings, {secret.name: secret.value for secret in rows}, row.deleted_at is not None)
