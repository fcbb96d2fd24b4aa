"""The directory of customers: what routing's policies may ask about them, and the numbers by which their calls are recognised.

Numbers stand in the table `customer_number` alone; no message repeats one, for messages reach logs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select

from services.gateway import store
from services.gateway.store import customer, customer_number
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid, NotFound
from shared.numbers import BadNumber, to_e164

FACTS = ("value", "buying_power", "tier", "preferred_channel")
WANTS = ("language", "region", "site")


def put(units: UnitOfWork, id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write a customer down, in place of what was known of them. `numbers` in any international form. Raises Invalid."""
    if not 1 <= len(id) <= store.LONGEST_NAME or id.startswith("+"):
        raise Invalid(
            f"a customer's id has 1 to {store.LONGEST_NAME} characters and is no telephone number: it travels, which numbers do not"
        )
    whole = {"id": id, **{name: told.get(name) for name in (*FACTS, *WANTS)}, "numbers": e164_of(told.get("numbers", ()))}
    put_all(units, [whole])
    return whole


def put_all(units: UnitOfWork, several: Sequence[Mapping[str, Any]]) -> None:
    """Write customers down in one transaction, each whole and checked, with numbers in E.164."""
    rows = [{"id": one["id"], "profile": {name: one[name] for name in (*FACTS, *WANTS)}, "changed_at": clock.now()} for one in several]
    numbers = [{"number": number, "customer": one["id"]} for one in several for number in one["numbers"]]
    with units() as work:
        bulk.insert(work.connection, customer, rows, key=("id",), update=("profile", "changed_at"))
        work.connection.execute(delete(customer_number).where(customer_number.c.customer.in_([row["id"] for row in rows])))
        bulk.insert(work.connection, customer_number, numbers, columns=("number", "customer"), key=("number", "customer"))


def get(units: UnitOfWork, id: str) -> dict[str, Any]:
    """A customer with their numbers. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(customer).where(customer.c.id == id)).first()
        if row is None:
            raise NotFound("no customer has this id")
        return _with_numbers(connection, [row])[0]


def several(units: UnitOfWork, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of these customers whom the directory has, by id."""
    with units.database.reading() as connection:
        rows = connection.execute(select(customer).where(customer.c.id.in_(ids))).all()
        return {one["id"]: one for one in _with_numbers(connection, rows)}


def listing(units: UnitOfWork, after: str, limit: int) -> dict[str, Any]:
    """A page of customers by id, from behind `after`; `next` is what to ask for more with."""
    query = select(customer).where(customer.c.id > after).order_by(customer.c.id).limit(limit + 1)
    with units.database.reading() as connection:
        rows = connection.execute(query).all()
        page = rows[:limit]
        return {"items": _with_numbers(connection, page), "next": page[-1].id if len(rows) > limit else None}


def _with_numbers(connection: Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
    of: dict[str, list[str]] = {row.id: [] for row in rows}
    query = select(customer_number).where(customer_number.c.customer.in_(of)).order_by(customer_number.c.number)
    for row in connection.execute(query) if of else ():
        of[row.customer].append(row.number)
    return [{"id": row.id, **row.profile, "numbers": of[row.id]} for row in rows]


def e164_of(given: Iterable[str]) -> list[str]:
    """E.164, sorted, each once. Raises Invalid, which says of each by its place what is wrong with it."""
    numbers, wrong = set(), {}
    for place, text in enumerate(given):
        try:
            number = to_e164(text)
        except BadNumber as error:
            wrong[place] = [f"The number {error}."]
        else:
            if number is None:
                wrong[place] = ["The number is no telephone number."]
            else:
                numbers.add(number)
    if wrong:
        raise Invalid("a number cannot be used: write each with its country code, as in +49 30 1234567", errors={"numbers": wrong})
    return sorted(numbers)


# ---- who calls


def owners_of(connection: Connection, callers: Iterable[str], country: str = "") -> dict[str, str]:
    """Caller, as telephony systems write them -> the one customer whose number that is. A number withheld, or of several, is nobody's."""
    numbers = _numbers_of(callers, country)
    if not numbers:
        return {}
    query = (
        select(customer_number.c.number, func.min(customer_number.c.customer).label("owner"))
        .where(customer_number.c.number.in_(set(numbers.values())))
        .group_by(customer_number.c.number)
        .having(func.count() == 1)
    )
    owners = {row.number: row.owner for row in connection.execute(query)}
    return {caller: owners[number] for caller, number in numbers.items() if number in owners}


def refs_of(connection: Connection, callers: Iterable[str], country: str, mark: Callable[[str], str]) -> dict[str, str]:
    """Caller -> by what routing may know them again when they ring a second time: a mark of their number, from which nobody learns it.
    None for a number that is withheld or of several customers."""
    numbers = _numbers_of(callers, country)
    if not numbers:
        return {}
    query = (
        select(customer_number.c.number)
        .where(customer_number.c.number.in_(set(numbers.values())))
        .group_by(customer_number.c.number)
        .having(func.count() > 1)
    )
    shared = set(connection.scalars(query))
    return {caller: mark(number) for caller, number in numbers.items() if number not in shared}


def _numbers_of(callers: Iterable[str], country: str) -> dict[str, str]:
    """Caller -> E.164, of those who have a number."""
    numbers = {}
    for caller in callers:
        try:
            number = to_e164(caller, country)
        except BadNumber:  # an extension, or of no country that is known
            continue
        if number is not None:
            numbers[caller] = number
    return numbers


def wishes_of(connection: Connection, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the directory says of customers: {"wants": …, "facts": …}, for those in it."""
    query = select(customer.c.id, customer.c.profile).where(customer.c.id.in_(set(ids)))
    return {row.id: {"wants": _known(row.profile, WANTS), "facts": _known(row.profile, FACTS)} for row in connection.execute(query)}


def _known(profile: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: profile[name] for name in names if profile.get(name) not in (None, "")}


def beneath(own: Mapping[str, Any], directory: Mapping[str, Any]) -> dict[str, Any]:
    """A contact's own wishes on top of others: of each want and each fact its own counts."""
    merged = {**directory, **own}
    for name in ("wants", "facts"):
        if both := {**directory.get(name, {}), **own.get(name, {})}:
            merged[name] = both
    return merged
