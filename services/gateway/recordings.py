"""Recordings of contacts: where they are kept, who agreed to them, who paused them and who has heard them.

What telephony systems tell of a channel's recordings is kept as it came (`recorded_call`) until a contact is known to have that channel,
and from then on worked out anew with every further word (domain/recordings.py): it matters not which of the two is told first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Float, Index, Integer, Table, Text, and_, delete, insert, or_, select, update

from services.gateway import store
from services.gateway.domain.observation import Observation
from services.gateway.domain.recordings import Recording, Span, consent_of, fold, format_of, overlapping
from services.gateway.sources import Source
from services.gateway.store import ContactRow, metadata
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial
from shared.errors import Conflict, NotFound
from shared.http.endpoint import Principal
from shared.ids import is_id, new_id

DAY = 86400.0

recorded_call = Table(
    "recorded_call",
    metadata,
    Column("source", Text, primary_key=True),
    Column("call", Text, primary_key=True),
    Column("linked", Text),
    Column("contact", Id, index=True),
    Column("told", Document, nullable=False),
    Column("told_at", Moment, nullable=False),
)
"""What was told of the recordings of one channel; `contact` as soon as one is known to have it."""
Index(
    "recorded_call_unclaimed",
    recorded_call.c.source,
    recorded_call.c.linked,
    postgresql_where=recorded_call.c.contact.is_(None),
    sqlite_where=recorded_call.c.contact.is_(None),
)

recording = Table(
    "recording",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("call", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("seconds", Float),
    Column("failed", Boolean, nullable=False),
    Column("muted", Document, nullable=False),
    Column("consent", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
)
"""`location` may hold a number, as names of files do: it is neither announced nor shown. `sequence`: of its announcements."""
Index("recording_location", recording.c.source, recording.c.call, recording.c.location, unique=True)

recording_pause = Table(
    "recording_pause",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("paused_at", Moment, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("resumed_at", Moment),
    Column("resumed_by", Text),
    Column("waiting", Boolean, nullable=False),
    Column("confirmed", Text),
    Column("trouble", Text),
)
"""`waiting`: the telephony system has not said yet that it does what was asked last; `confirmed`: "pause" or "resume", what it said it did."""
Index(
    "recording_pause_waiting", recording_pause.c.source, postgresql_where=recording_pause.c.waiting, sqlite_where=recording_pause.c.waiting
)

recording_access = Table(
    "recording_access",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("recording", Id, nullable=False),
    Column("at", Moment, nullable=False),
    Column("by", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("first", Serial, nullable=False),
    Column("last", Serial, nullable=False),
    Column("size", Serial, nullable=False),
    sqlite_autoincrement=True,
)
Index("recording_access_of", recording_access.c.recording, recording_access.c.seq)

TOLD = ("source", "call", "linked", "contact", "told", "told_at")
COLUMNS = bulk.columns_of(recording)
FACTS = ("started_at", "ended_at", "seconds", "failed", "muted", "consent")
MOST_TOLD = 500
"""Of one channel; what comes beyond changes nothing any more."""
COMMANDS_FOR = DAY
"""How long a telephony system is asked to do what it has not confirmed."""


# ---- what is told


def note(work: Work, source: str, told: Sequence[Observation], contacts: Mapping[str, ContactRow], aliases: Iterable[str]) -> None:
    """Bring the recordings of one source up to date, in the transaction of its contacts: with what was told of recordings, with the
    contacts that changed, and with the names of calls that contacts were found to have."""
    rows = _told_before(work.connection, source, {one.call for one in told if one.call}, contacts, list(aliases))
    changed = _add(rows, source, told)
    changed |= _claim(work.connection, source, rows)
    affected = {row["contact"] for row in rows.values() if row["contact"]}
    if closed := [id for id in affected if id in contacts and not contacts[id].is_open]:
        _stop_commanding(work.connection, closed)
    if not affected and not changed:
        return
    known = {**store.load_contacts(work.connection, affected - contacts.keys()), **{id: contacts[id] for id in affected & contacts.keys()}}
    changed |= _follow(work.connection, rows, known)
    bulk.insert(
        work.connection,
        recorded_call,
        [rows[call] for call in sorted(changed)],
        columns=TOLD,
        key=("source", "call"),
        update=TOLD[2:],
    )
    _refold(work, source, rows, known)


def _told_before(
    connection: Connection, source: str, calls: set[str], contacts: Iterable[str], aliases: Sequence[str]
) -> dict[str, dict[str, Any]]:
    table = recorded_call
    unclaimed = and_(table.c.source == source, table.c.contact.is_(None))
    mine = or_(
        and_(table.c.source == source, table.c.call.in_(calls)),
        table.c.contact.in_(list(contacts)),
        and_(unclaimed, or_(table.c.call.in_(aliases), table.c.linked.in_(aliases))),
    )
    return {row["call"]: {name: row[name] for name in TOLD} for row in connection.execute(select(table).where(mine)).mappings()}


def _add(rows: dict[str, dict[str, Any]], source: str, told: Sequence[Observation]) -> set[str]:
    changed = set()
    for one in told:
        if not one.call:
            continue
        row = rows.setdefault(one.call, {"source": source, "call": one.call, "linked": None, "contact": None, "told": [], "told_at": 0.0})
        if any(kept["key"] == one.key for kept in row["told"]) or len(row["told"]) >= MOST_TOLD:
            continue
        row["told"] = [*row["told"], one.to_dict()]
        row["linked"], row["told_at"] = row["linked"] or one.linked, clock.now()
        changed.add(one.call)
    return changed


def _claim(connection: Connection, source: str, rows: Mapping[str, dict[str, Any]]) -> set[str]:
    """Give those channels their contact that one is known to have by now."""
    free = [row for row in rows.values() if row["contact"] is None]
    if not free:
        return set()
    names = {(source, name) for row in free for name in (row["call"], row["linked"]) if name}
    found = store.contacts_of(connection, names)
    for row in free:
        row["contact"] = found.get((source, row["call"])) or found.get((source, row["linked"] or ""))
    return {row["call"] for row in free if row["contact"]}


def _follow(connection: Connection, rows: Mapping[str, dict[str, Any]], known: dict[str, ContactRow]) -> set[str]:
    """Where a contact turned out to be another, its recordings are the other's."""
    changed = set()
    for id in sorted(known):
        into = known[id]
        while into.merged_into:
            if into.merged_into not in known:
                known |= store.load_contacts(connection, [into.merged_into])
            into = known[into.merged_into]
        if into.id == id:
            continue
        for row in rows.values():
            if row["contact"] == id:
                row["contact"] = into.id
                changed.add(row["call"])
        for table in (recording, recording_pause):
            connection.execute(update(table).where(table.c.contact == id).values(contact=into.id))
    return changed


def _refold(work: Work, source: str, rows: Mapping[str, dict[str, Any]], contacts: Mapping[str, ContactRow]) -> None:
    ids = sorted({row["contact"] for row in rows.values() if row["contact"]})
    siblings: Any = work.connection.execute(select(recorded_call).where(recorded_call.c.contact.in_(ids))).mappings()
    kept = work.connection.execute(select(recording).where(recording.c.contact.in_(ids))).mappings()
    before: dict[Any, dict[str, Any]] = {
        (row["contact"], row["call"], row["location"]): {name: row[name] for name in COLUMNS} for row in kept
    }
    of: dict[str, list[Observation]] = {}
    for sibling in siblings:
        of.setdefault(sibling["contact"], []).extend(Observation.from_dict(one) for one in sibling["told"])
    written: list[dict[str, Any]] = []
    for id, told in sorted(of.items()):
        contact, consent = contacts[id], consent_of(told)
        for one in fold(told, _over(contact, {kept.call or "" for kept in told})):
            facts = {**{name: getattr(one, name) for name in FACTS[:-1]}, "muted": [list(span) for span in one.muted], "consent": consent}
            was = before.get((id, one.call, one.location))
            row: dict[str, Any] = was or {
                "id": new_id(),
                "contact": id,
                "source": source,
                "call": one.call,
                "location": one.location,
                "sequence": 0,
            }
            fresh = was is None or any(was[name] != facts[name] for name in FACTS)
            row = {**row, **facts}
            if one.ended_at is not None and not one.failed and contact.sequence and (fresh or not row["sequence"]):
                row["sequence"] += 1
                work.announce(_available(contact, row))
                fresh = True
            if fresh:
                written.append(row)
    bulk.insert(work.connection, recording, written, key=("id",), update=("sequence", *FACTS))


def _over(contact: ContactRow, calls: Iterable[str]) -> dict[str, float]:
    """When each channel was hung up, and else, where the contact is over, when that was."""
    ends = {told["call"]: told["at"] for told in contact.observations if told["kind"] == "hung_up" and told.get("call") and told.get("at")}
    last = max((leg["ended_at"] for leg in contact.legs if leg["ended_at"]), default=None)
    over = {} if contact.is_open or last is None else dict.fromkeys(calls, last)
    return {**over, **{call: at for call, at in ends.items() if call in set(calls)}}


def _available(contact: ContactRow, row: Mapping[str, Any]) -> Event:
    leg = _leg_of(contact, row["started_at"])
    data = {
        "recording": row["id"],
        "contact": contact.id,
        "source": contact.source,
        "queue": leg.get("queue"),
        "agent": leg.get("agent"),
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "seconds": row["seconds"],
        "format": format_of(row["location"]),
        "consent": row["consent"],
    }
    return Event("gateway.recording_available.v1", row["id"], data, row["ended_at"], row["sequence"])


def _leg_of(contact: ContactRow, at: float | None) -> Mapping[str, Any]:
    """The leg that was under way then, or the last one that somebody answered."""
    legs = [leg for leg in contact.legs if leg["outcome"] != "void"]
    during = [leg for leg in legs if at is not None and (leg["arrived_at"] or 0.0) <= at <= (leg["ended_at"] or at)]
    answered = [leg for leg in legs if leg["agent"]]
    return (during or answered or legs or [{}])[-1]


def _stop_commanding(connection: Connection, contacts: Sequence[str]) -> None:
    table = recording_pause
    connection.execute(update(table).where(table.c.waiting, table.c.contact.in_(contacts)).values(waiting=False))


def forget(work: Work, before: float) -> None:
    """What was told before then of channels that no contact has."""
    work.connection.execute(delete(recorded_call).where(recorded_call.c.contact.is_(None), recorded_call.c.told_at < before))


# ---- what is shown


def listing(units: UnitOfWork, contact: str, source_of: Any) -> dict[str, Any]:
    """The recordings of a contact and the pauses that were asked for. `source_of` (name) gives the register's entry."""
    with units.database.reading() as connection:
        rows = connection.execute(select(recording).where(recording.c.contact == contact)).mappings().all()
        pauses = _pauses(connection, contact)
        known = store.load_contacts(connection, [contact]).get(contact)
    spans = [(pause.paused_at, pause.resumed_at) for pause in pauses]
    over_at = None if known is None or known.is_open else max((leg["ended_at"] or 0.0 for leg in known.legs), default=0.0)
    shown = [_shown_pause(pause, over_at) for pause in pauses]
    items = [
        _shown(dict(row), source_of(row["source"]), spans) for row in sorted(rows, key=lambda row: (row["started_at"] or 0.0, row["id"]))
    ]
    return {"items": items, "pauses": shown, "paused": over_at is None and any(pause.resumed_at is None for pause in pauses)}


def _pauses(connection: Connection, contact: str) -> Sequence[Any]:
    table = recording_pause
    return connection.execute(select(table).where(table.c.contact == contact).order_by(table.c.paused_at, table.c.id)).all()


def _shown(row: Mapping[str, Any], source: Source, pauses: Iterable[Span]) -> dict[str, Any]:
    one = Recording(row["call"], row["location"], row["started_at"], row["ended_at"])
    return {
        "id": row["id"],
        "contact": row["contact"],
        "source": row["source"],
        "state": state_of(row, source),
        **{name: _time(row[name]) for name in ("started_at", "ended_at")},
        "seconds": row["seconds"],
        "format": format_of(row["location"]),
        "consent": row["consent"],
        "paused": _spans(overlapping(pauses, one)),
        "muted": _spans(row["muted"]),
        "media": f"/v1/recordings/{row['id']}/media",
    }


def _spans(spans: Iterable[Sequence[float | None]]) -> list[dict[str, Any]]:
    return [{"from": _time(since), "to": _time(until)} for since, until in spans]


def _time(at: float | None) -> str | None:
    return None if at is None else clock.to_text(at)


def _shown_pause(pause: Any, over_at: float | None) -> dict[str, Any]:
    until = pause.resumed_at if pause.resumed_at is not None else over_at
    wanted = "pause" if pause.resumed_at is None else "resume"
    return {
        "id": pause.id,
        "since": clock.to_text(pause.paused_at),
        "until": _time(until),
        "seconds": round(max(0.0, (clock.now() if until is None else until) - pause.paused_at), 3),
        "by": pause.paused_by,
        "resumed_by": pause.resumed_by,
        "confirmed": pause.confirmed == wanted,
        "trouble": pause.trouble,
    }


def state_of(row: Mapping[str, Any], source: Source) -> str:
    """Whether it is under way, can be heard, came to nothing, or is older than its source keeps them."""
    if row["failed"]:
        return "failed"
    if row["ended_at"] is None:
        return "recording"
    days = source.recordings_days
    return "expired" if days is not None and row["ended_at"] + days * DAY < clock.now() else "available"


def find(units: UnitOfWork, id: str) -> dict[str, Any]:
    """A recording's row. Raises NotFound."""
    if is_id(id):
        with units.database.reading() as connection:
            if row := connection.execute(select(recording).where(recording.c.id == id)).mappings().first():
                return dict(row)
    raise NotFound(f"no recording {id}")


# ---- who heard it


def note_access(units: UnitOfWork, id: str, principal: Principal, first: int, last: int, size: int) -> None:
    """Write down, before a byte is given, who is given which."""
    row = {
        "recording": id, "at": clock.now(), "by": principal.name, "principal": principal.id, "first": first, "last": last, "size": size,
    }  # fmt: skip
    with units() as work:
        work.connection.execute(insert(recording_access).values(**row))


def heard_by(units: UnitOfWork, contact: str, principal: str, source_of: Callable[[str], Source]) -> tuple[int, bool]:
    """Of a contact's recordings: how many can be heard, and whether this one was given any part of one."""
    with units.database.reading() as connection:
        found = connection.execute(select(recording).where(recording.c.contact == contact)).mappings()
        rows: list[dict[str, Any]] = [{str(name): value for name, value in row.items()} for row in found]
        audible = [row["id"] for row in rows if row["consent"] != "refused" and state_of(row, source_of(row["source"])) == "available"]
        table = recording_access
        heard = select(table.c.seq).where(table.c.recording.in_([row["id"] for row in rows]), table.c.principal == principal).limit(1)
        return len(audible), connection.scalar(heard) is not None


def accesses(units: UnitOfWork, id: str, after: str, limit: int) -> dict[str, Any]:
    """A page of who was given what of it, the latest first."""
    table = recording_access
    query = select(table).where(table.c.recording == id).order_by(table.c.seq.desc()).limit(limit + 1)
    if after:
        query = query.where(table.c.seq < (int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0))
    with units.database.reading() as connection:
        rows = connection.execute(query).all()
    page = rows[:limit]
    items = [
        {"at": clock.to_text(row.at), "by": row.by, "principal": row.principal, "first": row.first, "last": row.last, "size": row.size}
        for row in page
    ]
    return {"items": items, "next": str(page[-1].seq) if len(rows) > limit else None}


# ---- the pause for card numbers


def pause(units: UnitOfWork, contact: str, by: str) -> str:
    """Ask for silence in the recordings of an open contact; once asked for, asking again changes nothing. Returns the pause's id.
    Raises Conflict where the contact is over."""
    with units() as work:
        known = _locked(work, contact)
        if not known.is_open:
            raise Conflict("the contact is over: nothing of it is recorded any more")
        if going_on := _going_on(work.connection, contact):
            return str(going_on.id)
        id, at = new_id(), clock.now()
        row = {"id": id, "contact": contact, "source": known.source, "paused_at": at, "paused_by": by, "waiting": True}
        work.connection.execute(insert(recording_pause).values(**row))
        _announce_pause(work, known, id, "paused", at, 1)
        return id


def resume(units: UnitOfWork, contact: str, by: str) -> str:
    """Record again. Returns the pause's id. Raises Conflict where none goes on."""
    with units() as work:
        known = _locked(work, contact)
        going_on = _going_on(work.connection, contact)
        if going_on is None:
            raise Conflict("the recording is not paused")
        table, at = recording_pause, clock.now()
        changed = {"resumed_at": at, "resumed_by": by, "waiting": known.is_open, "trouble": None}
        work.connection.execute(update(table).where(table.c.id == going_on.id).values(**changed))
        _announce_pause(work, known, going_on.id, "resumed", at, 2)
        return str(going_on.id)


def _locked(work: Work, contact: str) -> ContactRow:
    """The contact; two who pause it at one moment come one after the other."""
    work.connection.execute(select(store.contact.c.id).where(store.contact.c.id == contact).with_for_update())
    known = store.load_contacts(work.connection, [contact]).get(contact)
    if known is None:
        raise NotFound(f"no contact {contact}")
    return known


def _going_on(connection: Connection, contact: str) -> Any:
    table = recording_pause
    return connection.execute(select(table).where(table.c.contact == contact, table.c.resumed_at.is_(None))).first()


def _announce_pause(work: Work, contact: ContactRow, id: str, what: str, at: float, sequence: int) -> None:
    leg = _leg_of(contact, None)
    data = {
        "pause": id, "contact": contact.id, "source": contact.source, "queue": leg.get("queue"), "agent": leg.get("agent"), "at": at,
    }  # fmt: skip
    work.announce(Event(f"gateway.recording_{what}.v1", id, data, at, sequence))


def pause_shown(units: UnitOfWork, contact: str, id: str) -> dict[str, Any]:
    """A pause as the one who asked for it is told."""
    with units.database.reading() as connection:
        row = next((one for one in _pauses(connection, contact) if one.id == id), None)
    if row is None:
        raise NotFound(f"no pause {id}")
    return {**_shown_pause(row, None), "contact": contact, "paused": row.resumed_at is None}


# ---- what telephony systems are to do


def commands(units: UnitOfWork, source: str) -> list[dict[str, Any]]:
    """What a source has not confirmed yet, the oldest first: each says what its recordings shall do now."""
    table = recording_pause
    query = select(table).where(table.c.source == source, table.c.waiting, table.c.paused_at > clock.now() - COMMANDS_FOR)
    with units.database.reading() as connection:
        rows = connection.execute(query.order_by(table.c.paused_at, table.c.id)).all()
        contacts = store.load_contacts(connection, [row.contact for row in rows]) if rows else {}
        kept = select(recording).where(
            recording.c.contact.in_(list(contacts)), recording.c.ended_at.is_(None), recording.c.failed.is_(False)
        )
        made = connection.execute(kept).all() if rows else []
    return [
        {
            "id": row.id,
            "action": "pause" if row.resumed_at is None else "resume",
            "contact": row.contact,
            "calls": _calls_of(contacts[row.contact]),
            "recordings": [{"call": one.call, "location": one.location} for one in made if one.contact == row.contact],
        }
        for row in rows
        if row.contact in contacts
    ]


def _calls_of(contact: ContactRow) -> list[str]:
    """The customer's channels, the latest first."""
    legs = [leg["call"] for leg in reversed(contact.legs) if leg["call"]]
    return list(dict.fromkeys([*legs, *(told["call"] for told in contact.observations if told.get("call") and told["kind"] != "hung_up")]))


def sources_waiting(units: UnitOfWork) -> list[str]:
    """Which sources have not confirmed something."""
    table = recording_pause
    with units.database.reading() as connection:
        return sorted(
            set(connection.scalars(select(table.c.source).where(table.c.waiting, table.c.paused_at > clock.now() - COMMANDS_FOR)))
        )


def confirm(units: UnitOfWork, id: str, action: str, done: bool, trouble: str) -> None:
    """The telephony system does it, or says why not; what was asked for meanwhile is not confirmed by that. Raises NotFound."""
    table = recording_pause
    wanted = table.c.resumed_at.is_(None) if action == "pause" else table.c.resumed_at.is_not(None)
    values: dict[str, Any] = {"confirmed": action, "waiting": False, "trouble": None} if done else {"trouble": trouble or "it was not done"}
    with units() as work:
        known = is_id(id) and work.connection.scalar(select(table.c.id).where(table.c.id == id))
        if not known:
            raise NotFound(f"no command {id}")
        work.connection.execute(update(table).where(table.c.id == id, wanted).values(**values))
