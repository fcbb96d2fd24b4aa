"""A customer who wants to be forgotten: what the gateway itself knows of them goes at once, every other service is told, and what stands in
long tables (raw intake, the log of events) is looked for slice by slice afterwards, whatever ends meanwhile.

Contacts stay, for they are figures; the customer's id gives way to a stand-in, the same in all services, so that calls of one person stay calls
of one person while nobody can tell whose they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from services.gateway import store
from services.gateway.promises import promised_callback
from services.gateway.recordings import recorded_call, recording
from services.gateway.store import ContactRow, call_alias, contact, customer, customer_number, intake, metadata, refused
from services.gateway.stream_log import stream_event
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.contracts.gateway import STAND_IN, is_stand_in
from shared.db.types import Document, Id, Moment, Serial
from shared.errors import Conflict, Invalid
from shared.ids import new_id

ERASED = "gateway.customer_erased.v1"
PERSONAL = ("caller", "name", "recording")
"""What an observation holds of a person; everything else is of the call."""
SLICE = 2000
AGAIN_SECONDS = 86400.0
"""Told again after so long: what was under way to somebody else when it was told first has come to rest by then."""
TOLD_AGAIN = 0.0
"""Stands for `again_at` from then on."""
NAMES_OF_CALLS = ("call", "linked", "member_call")
"""Where an observation names calls."""

erasure = Table(
    "erasure",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("stand_in", Text, nullable=False),
    Column("contacts", Document, nullable=False),
    Column("calls", Document, nullable=False),
    Column("intake_from", Serial, nullable=False),
    Column("intake_to", Serial, nullable=False),
    Column("stream_from", Serial, nullable=False),
    Column("stream_to", Serial, nullable=False),
    Column("again_at", Moment, nullable=False),
)
"""What is still to be looked for, up to where; gone when all is done and told again, and the id with it."""
whose: ColumnElement[str] = literal_column("(wishes ->> 'customer')", Text)
who_rang: ColumnElement[str] = literal_column("(wishes -> 'facts' ->> 'caller_ref')", Text)
Index("contact_customer", whose, _table=contact)
Index("contact_caller_ref", who_rang, _table=contact)


def erase(units: UnitOfWork, id: str, mark: Callable[[str], str]) -> dict[str, Any]:
    """Forget a customer. Again it finds nothing and tells the others again. Raises Invalid, and Conflict while a contact of theirs is under way."""
    if not 1 <= len(id) <= store.LONGEST_NAME or id.startswith("+") or is_stand_in(id):
        raise Invalid(f"a customer's id has 1 to {store.LONGEST_NAME} characters and is neither a telephone number nor a stand-in")
    with units() as work:
        connection, moment, stand_in = work.connection, clock.now(), STAND_IN + new_id()
        numbers = list(connection.scalars(select(customer_number.c.number).where(customer_number.c.customer == id)))
        refs = {mark(number) for number in _theirs_alone(connection, numbers)}
        rows = _contacts_of(connection, id, refs)
        if under_way := sorted(row.id for row in rows if row.is_open):
            raise Conflict("a contact with this customer is under way: erase when it has ended", contacts=under_way[:10])
        ids = [row.id for row in rows]
        recordings = _forget_contacts(connection, rows, stand_in)
        for some in _slices(ids):
            connection.execute(delete(promised_callback).where(promised_callback.c.contact.in_(some)))
        connection.execute(delete(customer_number).where(customer_number.c.customer == id))
        connection.execute(delete(customer).where(customer.c.id == id))
        for number in numbers:
            connection.execute(delete(refused).where(refused.c.body.contains(number.removeprefix("+"))))
        job = {
            "id": new_id(), "customer": id, "stand_in": stand_in, "contacts": ids,
            "intake_from": 0, "stream_from": 0, **_what_to_search(connection, ids),
            "again_at": moment + AGAIN_SECONDS,
        }  # fmt: skip
        connection.execute(insert(erasure).values(**job))
        _announce(work, id, stand_in, ids, moment)
    return {"customer": id, "contacts": len(ids), "recordings": recordings, "numbers": len(numbers), "at": clock.to_text(moment)}


def _announce(work: Work, id: str, stand_in: str, contacts: Sequence[str], moment: float) -> None:
    data = {"customer": id, "stand_in": stand_in, "contacts": list(contacts), "at": moment}
    work.announce(Event(ERASED, stand_in, data, moment, int(moment * 1e6)))


def _theirs_alone(connection: Connection, numbers: Sequence[str]) -> list[str]:
    """A number that a family shares says nothing of who rang."""
    of = customer_number
    query = select(of.c.number).where(of.c.number.in_(numbers)).group_by(of.c.number).having(func.count() == 1)
    return list(connection.scalars(query))


def _contacts_of(connection: Connection, id: str, refs: Iterable[str]) -> list[ContactRow]:
    """Those that name the customer, and those that rang from a number of theirs alone and name nobody; nobody else changes them meanwhile."""
    nobody = or_(whose.is_(None), whose == "")
    theirs = or_(whose == id, and_(nobody, who_rang.in_(sorted(refs))))
    found = connection.execute(select(contact.c.id, contact.c.source).where(theirs)).all()
    store.lock_aliases(connection, {row.source for row in found})
    return list(store.load_contacts(connection, (row.id for row in found)).values())


def _forget_contacts(connection: Connection, rows: Sequence[ContactRow], stand_in: str) -> int:
    """Returns how many recordings nobody finds any more."""
    for row in rows:
        _forget_person(row, stand_in if row.wishes.get("customer") else "")
    store.save_contacts(connection, rows)
    recordings = 0
    for ids in _slices([row.id for row in rows]):
        recordings += connection.execute(delete(recording).where(recording.c.contact.in_(ids))).rowcount
        connection.execute(delete(recorded_call).where(recorded_call.c.contact.in_(ids)))
    return recordings


def _what_to_search(connection: Connection, contacts: Sequence[str]) -> dict[str, Any]:
    """By which calls, and up to where."""
    calls: list[list[str]] = []
    for some in _slices(contacts):
        query = select(call_alias.c.source, call_alias.c.alias).where(call_alias.c.contact.in_(some))
        calls += [list(row) for row in connection.execute(query)]
    intake_to = connection.scalar(select(func.max(intake.c.seq))) or 0
    stream_to = connection.scalar(select(func.max(stream_event.c.position))) or 0
    return {"calls": calls, "intake_to": intake_to, "stream_to": stream_to}


def _slices(ids: Sequence[str]) -> list[Sequence[str]]:
    """No statement takes any number of variables."""
    return [ids[start : start + SLICE] for start in range(0, len(ids), SLICE)]


def _forget_person(row: ContactRow, stand_in: str) -> None:
    facts = {name: value for name, value in row.wishes.get("facts", {}).items() if name != "caller_ref"}
    row.wishes = {**row.wishes, "facts": facts, **({"customer": stand_in} if stand_in else {})}
    row.observations = [_impersonal(told) for told in row.observations]
    row.legs = [{**leg, "caller": None} for leg in row.legs]


def _impersonal(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in PERSONAL}


def step(units: UnitOfWork) -> bool:
    """Look through one slice of what is left to do. Returns whether there was anything."""
    table = erasure
    unsearched = or_(table.c.intake_from < table.c.intake_to, table.c.stream_from < table.c.stream_to)
    due = or_(unsearched, table.c.again_at <= clock.now())
    with units.database.reading() as connection:  # there is seldom anything, and who only looks holds up nobody who writes
        if connection.scalar(select(table.c.id).where(due).limit(1)) is None:
            return False
    with units() as work:
        connection = work.connection
        job = connection.execute(select(table).where(due).order_by(table.c.id).limit(1).with_for_update()).first()
        if job is None:
            return False
        if job.intake_from < job.intake_to:
            where = {"intake_from": min(job.intake_from + SLICE, job.intake_to)}
            _search_intake(connection, job, where["intake_from"])
        elif job.stream_from < job.stream_to:
            where = {"stream_from": min(job.stream_from + SLICE, job.stream_to)}
            _search_stream(connection, job, where["stream_from"])
        elif job.again_at != TOLD_AGAIN:
            where = _again(work, job)
        else:
            connection.execute(delete(table).where(table.c.id == job.id))
            return True
        connection.execute(update(table).where(table.c.id == job.id).values(**where))
    return True


def _again(work: Work, job: Any) -> dict[str, Any]:
    """What came of these contacts since is forgotten as well. Returns what is to be searched yet: from where the search ended, up to now."""
    connection = work.connection
    sources = {row.source for row in store.load_contacts(connection, job.contacts).values()}
    store.lock_aliases(connection, sources)
    _forget_contacts(connection, list(store.load_contacts(connection, job.contacts).values()), job.stand_in)
    _announce(work, job.customer, job.stand_in, job.contacts, clock.now())
    searched = {"intake_from": min(job.intake_from, job.intake_to), "stream_from": min(job.stream_from, job.stream_to)}
    return {**searched, **_what_to_search(connection, job.contacts), "again_at": TOLD_AGAIN}


def _search_intake(connection: Connection, job: Any, to: int) -> None:
    calls = {(source, call) for source, call in job.calls}
    query = select(intake.c.seq, intake.c.source, intake.c.observation).where(
        intake.c.seq > job.intake_from, intake.c.seq <= to, intake.c.source.in_({source for source, _ in calls})
    )
    for row in connection.execute(query).all():
        if any((row.source, row.observation.get(name)) in calls for name in NAMES_OF_CALLS):
            connection.execute(update(intake).where(intake.c.seq == row.seq).values(observation=_impersonal(row.observation)))


def _search_stream(connection: Connection, job: Any, to: int) -> None:
    """Whatever was announced of these contacts: it tells whose they were, and what was said in them."""
    table, contacts = stream_event, set(job.contacts)
    newest = select(func.max(table.c.position)).scalar_subquery()  # stays, so that its position is known
    searched = table.c.position > job.stream_from, table.c.position <= to, table.c.position < newest
    rows = connection.execute(select(table.c.position, table.c.contact).where(*searched, table.c.contact.is_not(None))).all()
    theirs = [row.position for row in rows if row.contact in contacts]
    connection.execute(delete(table).where(table.c.position.in_(theirs)))
