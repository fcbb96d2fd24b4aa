"""What `answerline doctor` looks for in the gateway: kept secrets that open, sources that speak, a backup that is fresh."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select

from services.gateway import store
from services.gateway.metrics import BACKUP, BACKUP_OBJECT
from services.gateway.sealing import Sealer
from shared import clock
from shared.config import SettingError
from shared.errors import Unavailable
from shared.runtime.context import Context
from shared.runtime.definition import Finding

SILENT_SECONDS = 86400.0
BACKUP_SECONDS = 26 * 3600.0


def examine(ours: Context) -> Iterator[Finding]:
    yield from _secrets(ours)
    yield from _sources(ours)
    with ours.database.reading() as connection:
        newest = select(func.max(store.audit.c.at)).where(store.audit.c.object == BACKUP_OBJECT, store.audit.c.act == BACKUP)
        last = connection.scalar(newest)
    fresh = last is not None and clock.now() - last < BACKUP_SECONDS
    mend = "" if fresh else "`answerline backup`, every night: docs/operations.md"
    yield Finding("backup", "ok" if fresh else "note", f"the last was made {clock.to_text(last)}" if last else "none was ever made", mend)


def _secrets(ours: Context) -> Iterator[Finding]:
    """Whether what is kept sealed can be opened."""
    with ours.database.reading() as connection:
        sealed = connection.execute(select(store.source_secret.c.source, store.source_secret.c.value)).all()
    if not sealed:
        return
    try:
        sealer = Sealer(ours.settings.sealing_keys())
    except SettingError as error:
        yield Finding("kept secrets", "bad", str(error), "set ANSWERLINE_SECRET_KEY to the key that belongs to this database")
        return
    lost = set()
    for source, value in sealed:
        try:
            sealer.unseal(value)
        except Unavailable:
            lost.add(source)
    mend = "put the former key back behind the newest in ANSWERLINE_SECRET_KEY, or write these secrets anew" if lost else ""
    told = f"not to be opened: those of {', '.join(sorted(lost))}" if lost else f"{len(sealed)} can be opened"
    yield Finding("kept secrets", "bad" if lost else "ok", told, mend)


def _sources(ours: Context) -> Iterator[Finding]:
    """Telephony that is registered and says nothing, or speaks and is not registered."""
    intake = store.intake
    with ours.database.reading() as connection:
        heard = dict(connection.execute(select(intake.c.source, func.max(intake.c.received_at)).group_by(intake.c.source)).all())
        known = set(connection.scalars(select(store.source.c.name).where(store.source.c.deleted_at.is_(None))))
    for name in sorted(known):
        last = heard.get(name)
        if last is None or clock.now() - last > SILENT_SECONDS:
            told = f"was last heard {clock.to_text(last)}" if last else "has never told anything"
            mend = "is its bridge or log shipper running, and does its key have the role telephony? docs/cookbook.md"
            yield Finding(f"source {name}", "note", told, mend)
        else:
            yield Finding(f"source {name}", "ok", f"was last heard {clock.to_text(last)}")
    strangers = sorted(name for name in heard.keys() - known if not name.startswith("~"))
    if strangers:
        told = f"{', '.join(strangers[:10])}{' and more' if strangers[10:] else ''} tell of calls and are not registered"
        yield Finding(
            "sources", "note", told, "PUT /v1/sources/{name} says their zone, country and kind; without it UTC and no country hold"
        )
    if not heard and not known:
        yield Finding("sources", "note", "no telephony has told anything yet", "docs/cookbook.md leads from a PBX to the first call")
