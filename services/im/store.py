"""The tables of im, and the statements that read and write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from services.im.domain.escalation import Asked, Escalation, Member
from services.im.domain.experts import Expert, Presence, Record
from shared.db import bulk
from shared.db.types import Document, Id, Moment
from shared.ids import is_id

metadata = MetaData()

escalation = Table(
    "escalation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("contact", Text, nullable=False, index=True),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("urgency", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("opened_at", Moment, nullable=False, index=True),
    Column("ladder", Text, nullable=False),
    Column("ladder_version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Moment, nullable=False),
    Column("step", Integer, nullable=False),
    Column("next_at", Moment),
    Column("claimed_by", Text),
    Column("claimed_at", Moment),
    Column("claims", Integer, nullable=False),
    Column("answered_by", Text),
    Column("answered_at", Moment),
    Column("answer", Integer),
    Column("answer_step", Integer),
    Column("closed_at", Moment),
    Column("close_reason", Text, nullable=False),
    Column("contact_ended_at", Moment),
    Column("hold_seconds", Moment),
    Column("in_contact", Boolean),
    Column("messages", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("members", Document, nullable=False),
    Column("asked", Document, nullable=False),
    Column("lost_claims", Integer, nullable=False, server_default="0"),
    Column("erased_at", Moment),
)
_due = escalation.c.next_at.is_not(None)
Index("escalation_due", escalation.c.next_at, postgresql_where=_due, sqlite_where=_due)
_open = escalation.c.closed_at.is_(None)
Index("escalation_of_agent", escalation.c.agent, postgresql_where=_open, sqlite_where=_open)
_held = escalation.c.state.in_(("claimed", "answered"))
_keeps_busy = or_(escalation.c.next_at.is_not(None), escalation.c.contact_ended_at.is_(None))
"""Nobody closes a room for certain: one that outlives its contact and waits for nothing takes nobody's time."""
Index("escalation_of_expert", escalation.c.claimed_by, postgresql_where=_held, sqlite_where=_held)

message = Table(
    "message",
    metadata,
    Column("escalation", Id, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("author", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

ladder_step = Table(
    "ladder_step",
    metadata,
    Column("escalation", Id, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("who", Text, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("at", Moment, nullable=False),
    Column("asked", Document, nullable=False),
    Column("choice", Document, nullable=False),
)
"""Each step that was done, with its reasons."""

expert = Table(
    "expert",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("topics", Document, nullable=False),
    Column("languages", Document, nullable=False),
    Column("site", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("department", Text, nullable=False),
    Column("ranks", Document, nullable=False),
    Column("cap", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("changed_at", Moment, nullable=False),
)
"""`sequence`: of the directory's last word on this person; 0: it has said nothing."""

presence = Table(
    "presence",
    metadata,
    Column("person", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
)
"""Whoever is not heard of again by `until` is offline."""

record = Table(
    "record",
    metadata,
    Column("expert", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("asked", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("log_seconds", Moment, nullable=False),
)

ladder_version = Table(
    "ladder_version",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)
"""The highest version of a name is in force."""

card = Table(
    "card",
    metadata,
    Column("contact", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("waited_seconds", Moment),
    Column("assigned_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("talk_seconds", Moment),
    Column("disposition", Text),
    Column("resolved", Boolean),
    Column("satisfied", Moment),
    Column("customer_resolved", Boolean),
    Column("answered_at", Moment),
    Column("answer_until", Moment),
    Column("escalations", Integer, nullable=False, server_default="0"),
    Column("sequence", Moment, nullable=False),
)
"""What is known of a contact that an agent has or had: the card in the corner of the room, and what became of it. `resolved`: the agent's word;
`satisfied`, `customer_resolved`: the customer's, given at `answered_at`, which counts until `answer_until` (null: nobody asked, or it is not heard yet)."""
Index("card_ended", card.c.ended_at)

Row = dict[str, Any]
ESCALATION_COLUMNS = tuple(one.name for one in fields(Escalation) if one.name in escalation.c)
CHANGING = tuple(name for name in ESCALATION_COLUMNS if name not in ("id", "code", "contact", "question", "topic", "opened_at"))


# ---- escalations


def save_all(connection: Connection, several: Sequence[Escalation]) -> None:
    """The rows, and what was written and done since they were read."""
    rows = [
        {
            **{name: getattr(one, name) for name in ESCALATION_COLUMNS},
            "members": [asdict(member) for member in one.members],
            "asked": [asdict(asked) for asked in one.asked],
        }
        for one in several
    ]
    bulk.insert_all(
        connection,
        [
            bulk.Insert(escalation, rows, ESCALATION_COLUMNS, ("id",), CHANGING),
            bulk.Insert(message, [{"escalation": one.id, **asdict(written)} for one in several for written in one.written]),
            bulk.Insert(ladder_step, [{"escalation": one.id, **done} for one in several for done in one.steps_done]),
            bulk.Insert(record, _added(several), key=("expert", "topic"), add=COUNTED),
        ],
    )
    for one in several:
        one.written, one.steps_done, one.credits = [], [], []


def lock(connection: Connection, id: str) -> Escalation | None:
    """The escalation, for this transaction alone."""
    return next(iter(lock_all(connection, [id])), None)


def lock_all(connection: Connection, ids: Iterable[str]) -> list[Escalation]:
    """In the order of their ids, so that two who want the same do not wait for each other."""
    wanted = [id for id in set(ids) if is_id(id)]
    query = select(escalation).where(escalation.c.id.in_(wanted)).order_by(escalation.c.id).with_for_update()
    return [_escalation(row) for row in connection.execute(query).mappings()]


def find(connection: Connection, id: str) -> Escalation | None:
    if not is_id(id):
        return None
    row = connection.execute(select(escalation).where(escalation.c.id == id)).mappings().first()
    return _escalation(row) if row else None


def id_of_code(connection: Connection, code: str) -> str | None:
    found: str | None = connection.scalar(select(escalation.c.id).where(escalation.c.code == code))
    return found


def soonest_due(connection: Connection, most: int) -> Sequence[Any]:
    """Of which something is due first, now or later."""
    names = ("id", "next_at", "topic", "ladder", "ladder_version")
    query = select(*(escalation.c[name] for name in names)).where(escalation.c.next_at.is_not(None))
    return connection.execute(query.order_by(escalation.c.next_at).limit(most)).all()


def lock_due(connection: Connection, ids: Iterable[str], now: float) -> list[Escalation]:
    """Those of these of which something is still due, for this transaction alone; what another works at is left to it."""
    return _lock_free(connection, _due_by(now).where(escalation.c.id.in_(list(ids))))


def lock_soonest_due(connection: Connection, most: int, now: float) -> list[Escalation]:
    """What is due and nobody works at, for this transaction alone."""
    return _lock_free(connection, _due_by(now).limit(most))


def _due_by(now: float) -> Select[Any]:
    return select(escalation).where(escalation.c.next_at <= now).order_by(escalation.c.next_at)


def _lock_free(connection: Connection, query: Select[Any]) -> list[Escalation]:
    return [_escalation(row) for row in connection.execute(query.with_for_update(skip_locked=True)).mappings()]


def of_contact(connection: Connection, contact: str, alive_only: bool = False) -> list[Escalation]:
    query = select(escalation).where(escalation.c.contact == contact).order_by(escalation.c.id)
    if alive_only:
        query = query.where(escalation.c.closed_at.is_(None)).with_for_update()
    return [_escalation(row) for row in connection.execute(query).mappings()]


def of_customer(connection: Connection, customer: str, contacts: Sequence[str]) -> list[Escalation]:
    theirs = or_(escalation.c.customer == customer, escalation.c.contact.in_(contacts))
    query = select(escalation).where(theirs).order_by(escalation.c.id).with_for_update()
    return [_escalation(row) for row in connection.execute(query).mappings()]


def listing(
    connection: Connection, *, contact: str = "", state: str = "", after: str = "", limit: int = 100, queues: Sequence[str] | None = None
) -> list[Escalation]:
    """The newest first; `after`: the id of the last of the page before."""
    query = select(escalation).order_by(escalation.c.id.desc()).limit(limit)
    if contact:
        query = query.where(escalation.c.contact == contact)
    if state:
        query = query.where(escalation.c.state == state)
    if queues is not None:
        query = query.where(escalation.c.queue.in_(queues))
    if after and is_id(after):
        query = query.where(escalation.c.id < after)
    return [_escalation(row) for row in connection.execute(query).mappings()]


def asked_by(connection: Connection, agent: str, since: float) -> tuple[int, int]:
    """How many questions of this agent are open, and how many were asked since then, open or not; none is added by another transaction
    until this one is over. One that nobody took, or that outlived its contact and waits for nothing, counts as open no longer than that."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text("select pg_advisory_xact_lock(hashtext('im questions of'), hashtext(:agent))"), {"agent": agent})
    theirs, fresh = select(func.count()).where(escalation.c.agent == agent), escalation.c.opened_at > since
    busy = and_(_keeps_busy, escalation.c.state != "unanswered")
    still = theirs.where(escalation.c.closed_at.is_(None), or_(busy, fresh))
    return connection.scalar(still) or 0, connection.scalar(theirs.where(fresh)) or 0


def messages_of(connection: Connection, id: str, after: int = 0, limit: int = 200) -> list[Row]:
    query = select(message).where(message.c.escalation == id, message.c.number > after).order_by(message.c.number).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def steps_of(connection: Connection, id: str) -> list[Row]:
    query = select(ladder_step).where(ladder_step.c.escalation == id).order_by(ladder_step.c.step)
    return [dict(row) for row in connection.execute(query).mappings()]


def erase(connection: Connection, ids: Sequence[str], now: float) -> None:
    """Questions and messages lose their texts; who, when and how long stay, for the figures."""
    if ids:
        connection.execute(delete(message).where(message.c.escalation.in_(ids)))
        blank = {"question": "", "close_reason": "", "erased_at": now}
        connection.execute(update(escalation).where(escalation.c.id.in_(ids)).values(**blank))


def to_erase(connection: Connection, ladder: str, before: float, most: int) -> list[str]:
    """Those of this ladder that are older than that and wait for nothing; again where somebody has written in one since."""
    written_since = exists().where(message.c.escalation == escalation.c.id, message.c.at < before)
    query = select(escalation.c.id).where(
        escalation.c.ladder == ladder,
        escalation.c.opened_at < before,
        escalation.c.next_at.is_(None),
        or_(escalation.c.erased_at.is_(None), written_since),
    )
    return list(connection.scalars(query.limit(most)))


def _escalation(row: Any) -> Escalation:
    values = {name: row[name] for name in ESCALATION_COLUMNS}
    values["members"] = [Member(**member) for member in row["members"]]
    values["asked"] = [Asked(**asked) for asked in row["asked"]]
    values["in_contact"] = None if row["in_contact"] is None else bool(row["in_contact"])
    return Escalation(**values)


# ---- experts


def put_expert(connection: Connection, row: Row) -> None:
    columns = bulk.columns_of(expert)
    bulk.insert(connection, expert, [row], columns=columns, key=("id",), update=[name for name in columns if name != "id"])


def get_expert(connection: Connection, id: str, lock: bool = False) -> Row | None:
    """`lock`: nobody else changes them until this transaction is over."""
    query = select(expert).where(expert.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return {str(name): value for name, value in row.items()} if row else None


def experts_page(connection: Connection, after: str, limit: int) -> list[Row]:
    query = select(expert).where(expert.c.id > after).order_by(expert.c.id).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def experts(connection: Connection, now: float) -> list[Expert]:
    """Everybody who is active, with presence and the rooms that they are busy with."""
    held = select(escalation.c.claimed_by, func.count()).where(_held, _keeps_busy)
    rooms = {row[0]: row[1] for row in connection.execute(held.group_by(escalation.c.claimed_by))}
    query = select(expert, presence.c.state.label("seen"), presence.c.until)
    query = query.select_from(expert.outerjoin(presence, presence.c.person == expert.c.id)).where(expert.c.active)
    return [_expert(row, now, rooms.get(row["id"], 0)) for row in connection.execute(query).mappings()]


def _expert(row: Any, now: float, rooms: int) -> Expert:
    values = {one.name: row[one.name] for one in fields(Expert) if one.name in expert.c}
    values |= {"languages": tuple(row["languages"]), "ranks": tuple(row["ranks"]), "active": bool(row["active"])}
    return Expert(**values, presence=seen(row["seen"], row["until"], now), rooms=rooms)


def seen(state: str | None, until: float | None, now: float) -> Presence:
    return "offline" if state is None or until is None or until <= now else state  # type: ignore[return-value]


def note_presence(connection: Connection, person: str, state: str, now: float, until: float) -> bool:
    """Whether it is another state than before."""
    known = connection.execute(select(presence.c.state, presence.c.until).where(presence.c.person == person)).first()
    changed = known is None or seen(known.state, known.until, now) != state
    row = {"person": person, "state": state, "since": now, "until": until}
    bulk.insert(connection, presence, [row], key=("person",), update=("state", "until", "since") if changed else ("until",))
    return changed


def renew_presence(connection: Connection, people: Sequence[str], now: float, until: float) -> None:
    """They are still there; who was offline is available, who is away stays so."""
    rows = [{"person": person, "state": "available", "since": now, "until": until} for person in sorted(set(people))]
    into = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(presence).values(rows)
    stays = and_(presence.c.until > now, presence.c.state != "offline")  # looked at when it is written: who has just gone away stays so
    kept = {name: case((stays, presence.c[name]), else_=into.excluded[name]) for name in ("state", "since")}
    connection.execute(into.on_conflict_do_update(index_elements=["person"], set_={**kept, "until": into.excluded.until}))


def presence_of(connection: Connection, people: Iterable[str], now: float) -> dict[str, Presence]:
    query = select(presence).where(presence.c.person.in_(set(people)))
    return {row.person: seen(row.state, row.until, now) for row in connection.execute(query)}


# ---- records


def records(connection: Connection, topic: str) -> dict[str, Record]:
    query = select(record).where(record.c.topic == topic)
    return {row.expert: Record(row.asked, row.accepted, row.answered, row.log_seconds) for row in connection.execute(query)}


def total(records: Iterable[Record]) -> Record:
    """Of all together: the topic's average."""
    known = list(records)
    return Record(*(sum(getattr(one, field.name) for one in known) for field in fields(Record)))


COUNTED = ("asked", "accepted", "answered", "log_seconds")


def _added(several: Sequence[Escalation]) -> list[Row]:
    """What these add to records, each record once."""
    sums: dict[tuple[str, str], Row] = {}
    for one in several:
        for credit in one.credits:
            row = sums.setdefault((credit.expert, one.topic), {"expert": credit.expert, "topic": one.topic, **dict.fromkeys(COUNTED, 0)})
            for name in COUNTED:
                row[name] += getattr(credit, name)
    return list(sums.values())


# ---- ladders


def ladder_document(connection: Connection, name: str, version: int | None = None) -> Row | None:
    """The version, or the one in force."""
    query = select(ladder_version).where(ladder_version.c.name == name).order_by(ladder_version.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(ladder_version.c.version == version)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def ladder_names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(ladder_version.c.name).distinct().order_by(ladder_version.c.name)))


def put_ladder(connection: Connection, name: str, document: str, who: str, now: float) -> Row:
    if connection.dialect.name == "postgresql":  # two at once would make the same version
        connection.execute(text("select pg_advisory_xact_lock(hashtext('im ladder'), hashtext(:name))"), {"name": name})
    newest = ladder_document(connection, name)
    if newest and newest["document"] == document:
        return newest
    version = newest["version"] + 1 if newest else 1
    row = {"name": name, "version": version, "document": document, "created_at": now, "created_by": who}
    connection.execute(insert(ladder_version).values(**row))
    return row


# ---- cards


CARD = ("contact", "queue", "channel", "customer", "agent", "waited_seconds", "assigned_at", "ended_at", "sequence")


def put_cards(connection: Connection, rows: Sequence[Row]) -> None:
    """An agent has the contact now; what is older than what is known changes nothing."""
    bulk.insert(
        connection, card, rows, columns=CARD, key=("contact",), update=[name for name in CARD if name != "contact"], newer="sequence"
    )


def get_card(connection: Connection, contact: str) -> Row | None:
    row = connection.execute(select(card).where(card.c.contact == contact)).mappings().first()
    return dict(row) if row else None


def rename_customer(connection: Connection, customer: str, contacts: Sequence[str], stand_in: str) -> None:
    """On cards; one that names nobody goes on naming nobody."""
    theirs = or_(card.c.customer == customer, card.c.contact.in_(contacts) & (card.c.customer != ""))
    connection.execute(update(card).where(theirs).values(customer=stand_in))


def note_on_card(connection: Connection, contact: str, **what: Any) -> None:
    connection.execute(update(card).where(card.c.contact == contact).values(**what))


def note_answer(connection: Connection, contact: str, at: float, satisfied: float | None, resolved: bool | None) -> None:
    """A customer's answer takes the place of an earlier one, unless it comes too late and the earlier one did not, as with qa."""
    known, late = card.c.answered_at, case((card.c.answer_until < at, 1), else_=0)
    was_late = case((card.c.answer_until < known, 1), else_=0)
    takes_place = or_(known.is_(None), late < was_late, and_(late == was_late, known <= at))
    told = {"answered_at": at, "satisfied": satisfied, "customer_resolved": resolved}
    connection.execute(update(card).where(card.c.contact == contact, takes_place).values(**told))


def count_escalation(connection: Connection, contact: str) -> None:
    connection.execute(update(card).where(card.c.contact == contact).values(escalations=card.c.escalations + 1))


def forget_cards(connection: Connection, before: float) -> None:
    connection.execute(delete(card).where(or_(card.c.ended_at < before, and_(card.c.ended_at.is_(None), card.c.assigned_at < before))))
