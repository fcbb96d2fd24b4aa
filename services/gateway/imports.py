"""Tables of agents, skills, certificates, certifications and customers: read, checked row by row, held against what is there, and written.

Nothing is written before every row was read. What is to be written is first put down as a whole (`import_job`, `import_row`); from that
moment on all of it is done, slice by slice, and goes on after an interruption. Before it, nothing is. To import the same again changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Column, Integer, Table, Text, delete, insert, select, update

from services.gateway import customers
from services.gateway.domain import tables
from services.gateway.domain.tables import Row
from services.gateway.store import metadata
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.db.types import Document, Id, Moment
from shared.errors import AnswerlineError, Invalid, Unavailable
from shared.ids import new_id

log = structlog.get_logger()

SLICE = 100
"""Rows asked for or written in one go: others have their turn between."""
TURN_SECONDS = 0.005
"""So long rows are read and compared in one go."""
PAGE = 1000
MOST_ROWS = 200_000
ERRORS_SHOWN = 100
LEFT_ALONE_SECONDS = 60.0
"""An import of which nothing was heard for so long was interrupted."""

import_job = Table(
    "import_job",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("touched_at", Moment, nullable=False),
)
"""`state`: "staging" until all its rows are there, then "accepted"; a finished one is gone."""

import_row = Table(
    "import_row",
    metadata,
    Column("job", Id, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("line", Integer, nullable=False),
    Column("told", Document, nullable=False),
)

Item = TypeVar("Item")
Told = dict[str, Any]
Load = Callable[[Mapping[str, Any]], Told]
"""Checks a row's values; raises Refused."""


class Refused(ValueError):
    """What is wrong with a row, by column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{column}: {reason}" for column, reason in columns.items()))
        self.columns = dict(columns)


@dataclass
class Report:
    """What became of the rows, or would."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    written: bool = False

    def refuse(self, line: int, columns: Mapping[str, str]) -> None:
        self.rejected += 1
        for column, reason in columns.items():
            if len(self.errors) < ERRORS_SHOWN:
                self.errors.append({"line": line, "column": column, "reason": reason})


class Kind(Protocol):
    """One kind of table. `known` gives what is there, by key; `changed` what a row makes of it (None: nothing new); `write` does it."""

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def needed(self) -> tuple[str, ...]: ...
    @property
    def key(self) -> tuple[str, ...]: ...

    def value(self, column: str, cell: str) -> Any: ...
    def load(self, told: Told) -> Told: ...
    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]: ...
    def changed(self, told: Told, before: Told | None) -> Told | None: ...
    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]: ...
    def export(self) -> Iterator[Sequence[Sequence[str]]]: ...


def run(units: UnitOfWork, name: str, kind: Kind, body: bytes, by: str, *, dry_run: bool, by_row: bool) -> Report:
    """Import a table. `by_row`: rows that are fine are written although others are not. Raises Invalid with the errors by row, or where
    the table cannot be read at all."""
    report = Report()
    rows = list(_read(kind, body, report))
    changes = _compare(kind, rows, report)
    if dry_run:
        return report
    if report.rejected and not by_row:
        raise Invalid(f"nothing was written: {report.rejected} of {report.rows} rows cannot be", rows=report.errors)
    if changes:
        job = _stage(units, name, changes, by)
        for line, error in _finish(units, job, kind):
            report.refuse(line, {kind.key[0]: error.detail})
    report.written = True
    return report


def export(kind: Kind) -> Iterator[bytes]:
    """The table of all there are, as it can be imported again."""
    yield tables.write([kind.columns], mark=True)
    for page in kind.export():
        yield tables.write(page)
        time.sleep(0)


def resume(units: UnitOfWork, kind_of: Callable[[str], Kind]) -> int:
    """Go on with imports that were interrupted, and forget those that never came to be accepted. Returns how many were finished."""
    before, count = clock.now() - LEFT_ALONE_SECONDS, 0
    table = import_job
    with units.database.reading() as connection:
        left = connection.execute(select(table).where(table.c.touched_at < before)).all()
    for job in left:
        if job.state == "staging":
            _forget(units, job.id)
        elif _claim(units, job.id, job.touched_at):
            try:
                refused = list(_finish(units, job.id, kind_of(job.kind)))
            except Unavailable as error:
                log.warning("an interrupted import cannot go on yet", kind=job.kind, job=job.id, cause=error.detail)
                continue
            log.warning("an interrupted import was finished", kind=job.kind, job=job.id, refused=len(refused))
            count += 1
    return count


# ---- reading


def _read(kind: Kind, body: bytes, report: Report) -> Iterator[tuple[int, Told]]:
    seen: dict[tuple[str, ...], int] = {}
    try:
        found = tables.read(tables.decode(body), kind.columns, kind.needed)
        for row in _in_turns(found):
            report.rows += 1
            if report.rows > MOST_ROWS:
                raise Invalid(f"a table has at most {MOST_ROWS} rows here: divide it")
            if not isinstance(row, Row):
                report.refuse(row[0], {"": row[1]})
                continue
            try:
                told = kind.load(_values(kind, row))
                key = tuple(str(told[name]) for name in kind.key)
                if (first := seen.setdefault(key, row.line)) != row.line:
                    raise Refused({kind.key[-1]: f"it stands in line {first} already"})
            except Refused as error:
                report.refuse(row.line, error.columns)
                continue
            yield row.line, told
    except tables.Unreadable as error:
        raise Invalid(str(error)) from error


def _in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """The items, with a turn for others every few milliseconds."""
    until = clock.monotonic() + TURN_SECONDS
    for item in items:
        yield item
        if clock.monotonic() > until:
            time.sleep(0)
            until = clock.monotonic() + TURN_SECONDS


def _values(kind: Kind, row: Row) -> Told:
    told, wrong = {}, {}
    for column, cell in row.cells.items():
        try:
            told[column] = kind.value(column, cell)
        except ValueError as error:
            wrong[column] = str(error)
    if wrong:
        raise Refused(wrong)
    return told


def _compare(kind: Kind, rows: Sequence[tuple[int, Told]], report: Report) -> list[tuple[int, Told]]:
    changes = []
    look = kind.known(rows)
    for line, told in _in_turns(rows):
        try:
            before = look(told)
            change = kind.changed(told, before)
        except Refused as error:
            report.refuse(line, error.columns)
            continue
        if change is None:
            report.unchanged += 1
            continue
        report.created += before is None
        report.updated += before is not None
        changes.append((line, change))
    return changes


# ---- writing


def _stage(units: UnitOfWork, name: str, changes: Sequence[tuple[int, Told]], by: str) -> str:
    """Put down what is to be written; returns when nothing can stop it any more."""
    job = new_id()
    with units() as work:
        row = {"id": job, "kind": name, "state": "staging", "by": by, "touched_at": clock.now()}
        work.connection.execute(insert(import_job).values(**row))
    for start in range(0, len(changes), SLICE):
        rows = [
            {"job": job, "number": start + place, "line": line, "told": told}
            for place, (line, told) in enumerate(changes[start : start + SLICE])
        ]
        with units() as work:
            bulk.insert(work.connection, import_row, rows)
        time.sleep(0)
    with units() as work:
        work.connection.execute(update(import_job).where(import_job.c.id == job).values(state="accepted", touched_at=clock.now()))
    return job


def _finish(units: UnitOfWork, job: str, kind: Kind) -> Iterator[tuple[int, AnswerlineError]]:
    """Write slice after slice. What cannot be written any more, for something changed meanwhile, is passed over and told."""
    table = import_row
    while True:
        with units.database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.job == job).order_by(table.c.number).limit(SLICE)).all()
        if not rows:
            break
        results = kind.write([row.told for row in rows])
        for row, error in zip(rows, results, strict=True):
            if isinstance(error, Unavailable):
                raise Unavailable("the import is accepted, and goes on by itself as soon as it can; to post it again does no harm")
            if error is not None:
                yield row.line, error
        with units() as work:
            work.connection.execute(delete(table).where(table.c.job == job, table.c.number <= rows[-1].number))
            work.connection.execute(update(import_job).where(import_job.c.id == job).values(touched_at=clock.now()))
        time.sleep(0)
    _forget(units, job)


def _claim(units: UnitOfWork, job: str, touched_at: float) -> bool:
    mine = update(import_job).where(import_job.c.id == job, import_job.c.touched_at == touched_at).values(touched_at=clock.now())
    with units() as work:
        return bool(work.connection.execute(mine).rowcount)


def _forget(units: UnitOfWork, job: str) -> None:
    with units() as work:
        work.connection.execute(delete(import_row).where(import_row.c.job == job))
        work.connection.execute(delete(import_job).where(import_job.c.id == job))


# ---- customers


class Customers:
    """Those in the directory, by id; several numbers with | between."""

    columns = ("id", *customers.FACTS, *customers.WANTS, "numbers")
    needed = key = ("id",)

    def __init__(self, units: UnitOfWork, check: Load) -> None:
        self.units = units
        self._check = check

    def value(self, column: str, cell: str) -> Any:
        if column in ("value", "buying_power"):
            return _number(cell)
        return tables.split(cell) if column == "numbers" else cell

    def load(self, told: Told) -> Told:
        id = _named(told, "id")
        if id.startswith("+"):
            raise Refused({"id": "a customer's id is no telephone number: it travels, which numbers do not"})
        loaded = self._check({name: value for name, value in told.items() if name != "id"})
        given = {name: loaded[name] for name in told if name != "id"}
        if "numbers" in given:
            try:
                given["numbers"] = customers.e164_of(given["numbers"])
            except Invalid as error:
                raise Refused({"numbers": _first(error.more["errors"]["numbers"])}) from error
        return {"id": id, **given}

    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]:
        found: dict[str, Told] = {}
        for start in range(0, len(rows), SLICE):
            found |= customers.several(self.units, [told["id"] for _, told in rows[start : start + SLICE]])
            time.sleep(0)
        return lambda told: found.get(told["id"])

    def changed(self, told: Told, before: Told | None) -> Told | None:
        blank = self._check({}) if before is None else before
        whole = {"id": told["id"], **{name: told.get(name, blank[name]) for name in self.columns[1:]}}
        return None if whole == before else whole

    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]:
        customers.put_all(self.units, slice)
        return [None] * len(slice)

    def export(self) -> Iterator[Sequence[Sequence[str]]]:
        after: str | None = ""
        while after is not None:
            page = customers.listing(self.units, after, PAGE)
            yield [
                [_text(one[name]) if name != "numbers" else tables.join(one["numbers"]) for name in self.columns] for one in page["items"]
            ]
            after = page["next"]


# ---- what routing keeps


class OfAgents:
    """What the kinds that routing keeps have in common. `ask`: routing; `together`: many requests to it at once."""

    def __init__(self, ask: Any, together: Callable[..., list[Any]], check: Load) -> None:
        self.ask = ask
        self._together = together
        self._check = check

    def everyone(self) -> Iterator[list[Told]]:
        after: str | None = ""
        while after is not None:
            page = self.ask.list_agents(after=after, limit=PAGE)
            yield page["items"]
            after = page["next"]

    def _agents(self) -> dict[str, Told]:
        return {agent["id"]: agent for page in self.everyone() for agent in page}

    def _each(self, work: Callable[[Told], Any], slice: Sequence[Told]) -> list[AnswerlineError | None]:
        return [result if isinstance(result, AnswerlineError) else None for result in self._together(work, slice)]

    def _put(self, told: Told) -> Any:
        return self.ask.put_agent(agent_id=told["id"], profile=told["profile"])


class Agents(OfAgents):
    """Profiles; what a table has no column of stays, and so do skills, which are a table of their own."""

    columns = ("id", "name", "address", "aliases", "channels", "queues", "languages", "regions", "site", "team", "employment", "pool", "capacity")  # fmt: skip
    needed = key = ("id",)
    lists = ("aliases", "channels", "queues", "regions")
    pairs = ("languages", "capacity")

    def value(self, column: str, cell: str) -> Any:
        if column in self.lists:
            return tables.split(cell)
        return tables.split_pairs(cell) if column in self.pairs else cell

    def load(self, told: Told) -> Told:
        id = _named(told, "id")
        loaded = self._check({name: value for name, value in told.items() if name != "id" and (name != "pool" or value)})
        return {"id": id, **{name: loaded[name] for name in told if name != "id"}}

    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]:
        agents = self._agents()
        names: dict[str, str] = {}
        told_of = {told["id"]: told for _, told in rows}
        for id in [*agents, *(id for id in told_of if id not in agents)]:
            whole = {**agents.get(id, {}), **told_of.get(id, {})}
            for name in {id, whole.get("address", ""), *whole.get("aliases", ())} - {""}:
                names.setdefault(name, id)

        def look(told: Told) -> Told | None:
            for column in ("id", "address", "aliases"):
                values = told.get(column, ())
                for name in [values] if isinstance(values, str) else values:
                    if name and names.get(name) != told["id"]:
                        raise Refused({column: f"{name} already stands for agent {names.get(name)}"})
            return agents.get(told["id"])

        return look

    def changed(self, told: Told, before: Told | None) -> Told | None:
        blank = self._check({})
        profile = {name: (before or blank).get(name, value) for name, value in blank.items()}
        whole = {**profile, **{name: value for name, value in told.items() if name != "id"}}
        return None if before is not None and whole == profile else {"id": told["id"], "profile": whole}

    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]:
        return self._each(self._put, slice)

    def export(self) -> Iterator[Sequence[Sequence[str]]]:
        for page in self.everyone():
            yield [[self._cell(name, agent.get(name)) for name in self.columns] for agent in page]

    def _cell(self, name: str, value: Any) -> str:
        if name in self.lists:
            return tables.join(value or ())
        return tables.join_pairs(value or {}) if name in self.pairs else _text(value)


class OfOneAgent(OfAgents):
    """Rows that each say one thing of an agent who must be there."""

    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]:  # noqa: ARG002
        agents = self._agents()

        def look(told: Told) -> Told | None:
            if told["agent"] not in agents:
                raise Refused({"agent": "there is no such agent: import agents first"})
            return self.part(agents[told["agent"]], told)

        return look

    def part(self, agent: Told, told: Told) -> Told | None:
        raise NotImplementedError


class Skills(OfOneAgent):
    """A skill of an agent in each row; skills that no row names stay."""

    columns = needed = ("agent", "skill", "level")
    key = ("agent", "skill")

    def value(self, column: str, cell: str) -> Any:
        if column != "level":
            return cell
        if cell not in ("1", "2", "3", "4", "5"):
            raise ValueError("a level is a number from 1 to 5")
        return int(cell)

    def load(self, told: Told) -> Told:
        return {"agent": _named(told, "agent"), "skill": _named(told, "skill"), "level": told["level"]}

    def part(self, agent: Told, told: Told) -> Told | None:
        level = agent["skills"].get(told["skill"])
        return None if level is None else {**told, "level": level}

    def changed(self, told: Told, before: Told | None) -> Told | None:
        return None if told == before else told

    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]:
        """One change for each agent: the profile as it is now, with all the slice's skills of theirs."""
        of: dict[str, dict[str, int]] = {}
        for told in slice:
            of.setdefault(told["agent"], {})[told["skill"]] = told["level"]
        results = dict(zip(of, self._each(self._add, [{"id": agent, "skills": skills} for agent, skills in of.items()]), strict=True))
        return [results[told["agent"]] for told in slice]

    def _add(self, told: Told) -> Any:
        agent = self.ask.get_agent(agent_id=told["id"])
        profile = {name: agent.get(name, value) for name, value in self._check({}).items()}
        return self._put({"id": told["id"], "profile": {**profile, "skills": {**profile["skills"], **told["skills"]}}})

    def export(self) -> Iterator[Sequence[Sequence[str]]]:
        for page in self.everyone():
            yield [[agent["id"], skill, str(level)] for agent in page for skill, level in sorted(agent["skills"].items())]


class Certificates(OfOneAgent):
    """A channel that an agent is certified for in each row; `until` empty: without end. Certificates that no row names stay."""

    columns = ("agent", "channel", "until")
    needed = key = ("agent", "channel")

    def value(self, column: str, cell: str) -> Any:
        if column != "until" or not cell:
            return cell or (None if column == "until" else "")
        try:
            return clock.from_text(cell)
        except ValueError as error:
            raise ValueError(f"{error}; empty: without end") from error

    def load(self, told: Told) -> Told:
        return {"agent": _named(told, "agent"), "channel": _named(told, "channel"), "until": told.get("until")}

    def part(self, agent: Told, told: Told) -> Told | None:
        kept = agent["certificates"] or {}
        return {**told, "until": kept[told["channel"]]} if told["channel"] in kept else None

    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]:
        held, spoken_for = super().known(rows), set()
        names = sorted({told["agent"] for _, told in rows})
        for start in range(0, len(names), PAGE):
            spoken_for.update(self.ask.spoken_for(agents=names[start : start + PAGE]))

        def look(told: Told) -> Told | None:
            before = held(told)
            if told["agent"] in spoken_for and self.changed(told, before) is not None:
                raise Refused({"agent": "training says what they may serve: use the table certifications"})
            return before

        return look

    def changed(self, told: Told, before: Told | None) -> Told | None:
        return None if before is not None and _moment(before["until"]) == _moment(told["until"]) else told

    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]:
        return self._each(lambda told: self.ask.certify(agent_id=told["agent"], channel=told["channel"], until=told["until"]), slice)

    def export(self) -> Iterator[Sequence[Sequence[str]]]:
        for page in self.everyone():
            yield [
                [agent["id"], channel, _moment(until)] for agent in page for channel, until in sorted((agent["certificates"] or {}).items())
            ]


class Certifications(OfOneAgent):
    """Certificates that training is to know: what somebody had before. `until` empty: without end. Those that no row names stay."""

    columns = ("agent", "channel", "certified_at", "until", "note")
    needed = key = ("agent", "channel")

    def __init__(self, ask: Any, training: Any, together: Callable[..., list[Any]], check: Load) -> None:
        super().__init__(ask, together, check)
        self.training = training

    def value(self, column: str, cell: str) -> Any:
        if column not in ("certified_at", "until"):
            return cell
        try:
            return clock.from_text(cell) if cell else None
        except ValueError as error:
            raise ValueError(f"{error}; empty: {'without end' if column == 'until' else 'now'}") from error

    def load(self, told: Told) -> Told:
        since, until, now = told.get("certified_at"), told.get("until"), clock.now()
        if until is not None and until <= now:
            raise Refused({"until": "it is over already: leave the row out"})
        if since is not None and since > now:
            raise Refused({"certified_at": "it is still to come"})
        if len(told.get("note", "")) > 200:
            raise Refused({"note": "it has at most 200 characters"})
        named = {"agent": _named(told, "agent"), "channel": _named(told, "channel")}
        return {**named, "certified_at": since, "until": until, "note": told.get("note", "")}

    def known(self, rows: Sequence[tuple[int, Told]]) -> Callable[[Told], Told | None]:
        agents, held = self._agents(), {}
        names = sorted({told["agent"] for _, told in rows})
        for start in range(0, len(names), PAGE):
            for one in self.training.held_certificates(people=names[start : start + PAGE])["items"]:
                held[one["person"], one["channel"]] = one

        def look(told: Told) -> Told | None:
            if told["agent"] not in agents:
                raise Refused({"agent": "there is no such agent: import agents first"})
            told.update({name: agents[told["agent"]].get(name, "") for name in ("name", "site", "team")})
            return held.get((told["agent"], told["channel"]))

        return look

    def changed(self, told: Told, before: Told | None) -> Told | None:
        if before is None or _moment(before["expires_at"]) != _moment(told["until"]):
            return told
        return None if told["certified_at"] is None or _moment(before["certified_at"]) == _moment(told["certified_at"]) else told

    def write(self, slice: Sequence[Told]) -> list[AnswerlineError | None]:
        rows = [
            {
                **{name: told[name] for name in ("channel", "certified_at", "note", "name", "site", "team")},
                "person": told["agent"],
                "expires_at": told["until"],
            }
            for told in slice
        ]
        try:
            told = self.training.import_certificates(rows=rows, by="import")
        except Unavailable as error:
            return [error] * len(slice)
        return [None if reason is None else Invalid(reason) for reason in told]

    def export(self) -> Iterator[Sequence[Sequence[str]]]:
        after: str | None = ""
        while after is not None:
            page = self.training.held_certificates(after=after, limit=PAGE)
            yield [
                [one["person"], one["channel"], _moment(one["certified_at"]), _moment(one["expires_at"]), one["note"]]
                for one in page["items"]
            ]
            after = page["next"]


# ---- cells


def _named(told: Mapping[str, Any], column: str) -> str:
    name = str(told[column])
    if not 1 <= len(name) <= 200:
        raise Refused({column: "it has 1 to 200 characters"})
    return name


def _number(cell: str) -> float | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError as error:
        raise ValueError("it is no number such as 1200.50") from error


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _moment(at: float | None) -> str:
    return "" if at is None else clock.to_text(at)


def _first(told: Any) -> str:
    """The first sentence of messages by place."""
    while not isinstance(told, str):
        told = next(iter(told.values() if isinstance(told, Mapping) else told))
    return told


def sentences(messages: Mapping[str, Any]) -> dict[str, str]:
    """Messages by field as a schema gives them, one sentence for each column."""
    return {str(column): _first(told) for column, told in messages.items()}
