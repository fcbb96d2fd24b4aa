"""Backup and restore of all services' databases as of one moment, while they work.

The archive is a tar: `about.json` (what it is), then the contents in gzipped parts, `<service>/<table>/<number>.gz` (PostgreSQL: the text format of
COPY) or `<service>/database/<number>.gz` (SQLite: the file), and at last `manifest.json` (rows, bytes and SHA-256 of each). One that was cut off has no
manifest. It is written and read as a stream.

Why what is restored agrees across services, with nothing lost and nothing twice: docs/adr/0019-one-moment-for-all.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import orjson
import psycopg2
from kombu import Connection as BrokerConnection
from psycopg2.extensions import get_wait_callback, set_wait_callback
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from shared import clock
from shared.bus import broker as brokers
from shared.config import Settings
from shared.contracts import topology
from shared.db import migrate
from shared.db.engine import Database, is_outage
from shared.db.lease import RESTORE, Lease
from shared.errors import AnswerlineError
from shared.runtime import context
from shared.runtime.definition import Definition

FORMAT = 1
ABOUT, MANIFEST = "about.json", "manifest.json"
WHOLE = "database"
PART_BYTES = 8 * 2**20
COMPRESSION = 4
CALLER = "gateway"
"""The one that asks others (RPC): its snapshot is taken first, so that whatever it knows to be done elsewhere is in theirs."""
LOCK_SECONDS = 3
LOCK_TRIES = 20
SQLITE_LOCK_SECONDS = 20.0
KEYS = ("secret.key", "admin.key")

STANDSTILL = "lock table inbox, checkpoint in share mode"
PATIENTLY = "set local idle_in_transaction_session_timeout = 0"
"""Each database waits for its turn, for hours where the others are large (elsewhere who stands still within a transaction is cut off)."""
TABLES = """
select class.relname as name,
    array(select quote_ident(attname) from pg_attribute where attrelid = class.oid and attnum > 0 and not attisdropped order by attnum) as columns,
    array(select quote_ident(attname) from pg_index join lateral unnest(indkey) with ordinality as part (number, place) on true
        join pg_attribute on attrelid = class.oid and attnum = part.number where indrelid = class.oid and indisprimary order by place) as key
from pg_class class where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname not in ('alembic_version', 'half_restored') order by 1
"""
SEQUENCES = "select sequencename, last_value from pg_sequences where schemaname = current_schema() and last_value is not null order by 1"

Say = Callable[[str], None]


class Damaged(AnswerlineError):
    """The archive is not what was written."""


class Unsuitable(AnswerlineError):
    """The archive is whole, but cannot be restored here and now; the message says what to mend."""


@dataclass
class Summary:
    """What an archive holds: `made_at` is the moment (epoch seconds) before which everything that was acknowledged is in it."""

    made_at: float
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(one["rows"] for one in self.contents.values())

    @property
    def bytes(self) -> int:
        return sum(one["bytes"] for one in self.contents.values())


# ---- the archive


class Writer:
    def __init__(self, out: IO[bytes], about: dict[str, Any]) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|")  # noqa: SIM115 - finished by `finish`
        self._about = about
        self.summary = Summary(clock.from_text(about["made_at"]))
        self._add(ABOUT, orjson.dumps(about, option=orjson.OPT_INDENT_2))

    def add(self, stem: str, fill: Callable[[_Parts], None], rows: int | None = None) -> dict[str, Any]:
        """Contents that `fill` writes. `rows`: as many as there are lines, unless told."""
        parts = _Parts(lambda number, data: self._add(f"{stem}/{number:06}.gz", gzip.compress(data, COMPRESSION, mtime=0)))
        fill(parts)
        parts.finish()
        told = {"rows": parts.lines if rows is None else rows, "bytes": parts.bytes, "sha256": parts.sha256.hexdigest()}
        self.summary.contents[stem] = told
        return told

    def finish(self) -> None:
        self._add(MANIFEST, orjson.dumps({"about": self._about, "contents": self.summary.contents}, option=orjson.OPT_INDENT_2))
        self._tar.close()

    def _add(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = len(data), int(self.summary.made_at), 0o600
        self._tar.addfile(entry, io.BytesIO(data))


class _Parts(io.RawIOBase):
    """Cuts what is written into parts; there is at least one."""

    def __init__(self, put: Callable[[int, bytes], None]) -> None:
        self._put = put
        self._held = bytearray()
        self._number = self.lines = self.bytes = 0
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        self.lines += bytes(data).count(b"\n")  # COPY writes a line break within a value as \n
        self._held += data
        if len(self._held) >= PART_BYTES:
            self._cut()
        return len(data)

    def finish(self) -> None:
        if self._held or not self._number:
            self._cut()

    def _cut(self) -> None:
        self._put(self._number, bytes(self._held))
        self._held.clear()
        self._number += 1


class Reader:
    """Reads an archive from its beginning to its end. Raises Damaged, at the latest by `finish`."""

    def __init__(self, source: IO[bytes]) -> None:
        try:
            self._members = self._read(tarfile.open(fileobj=source, mode="r|"))  # noqa: SIM115 - a stream has no end to close
            name, data = next(self._members)
        except (tarfile.TarError, EOFError, StopIteration, OSError) as error:
            raise Damaged("this is no archive of `answerline backup`") from error
        if name != ABOUT:
            raise Damaged("this is no archive of `answerline backup`")
        self.about = _document(data)
        if self.about.get("format") != FORMAT:
            raise Unsuitable(f"the archive has format {self.about.get('format')}, this Answerline reads {FORMAT}: use the one that made it")
        self.summary = Summary(clock.from_text(self.about["made_at"]))
        self._manifest: dict[str, Any] | None = None

    def contents(self) -> Iterator[tuple[str, _Source]]:
        """`<service>/<table>` and what to read of it, which must be read to its end before the next."""
        for stem, parts in groupby(self._members, lambda member: member[0].rpartition("/")[0]):
            if not stem:
                for name, data in parts:
                    if name != MANIFEST or self._manifest is not None:
                        raise Damaged(f"the archive is damaged: {name} does not belong to it")
                    self._manifest = _document(data)
                continue
            if self._manifest is not None or stem in self.summary.contents:
                raise Damaged(f"the archive is damaged: {stem} is not where it belongs")
            source = _Source(stem, parts)
            yield stem, source
            self.summary.contents[stem] = {"rows": source.lines, "bytes": source.bytes, "sha256": source.sha256.hexdigest()}

    def finish(self) -> Summary:
        """When all was read: whether it is what was written."""
        if self._manifest is None:
            raise Damaged("the archive is not whole: its end is missing")
        wanted = self._manifest.get("contents", {})
        files = {
            stem: {"rows": one["rows"]} for stem, one in wanted.items() if stem.endswith(f"/{WHOLE}")
        }  # what the lines of a file say is nothing
        found = {stem: one | files.get(stem, {}) for stem, one in self.summary.contents.items()}
        wrong = [stem for stem in sorted(wanted.keys() | found.keys()) if wanted.get(stem) != found.get(stem)]
        if wrong or self._manifest.get("about") != self.about:
            raise Damaged(f"the archive is damaged: {', '.join(wrong) or ABOUT} is not what was written")
        self.summary.contents = found
        return self.summary

    def _read(self, tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                raise Damaged(f"the archive is damaged: {member.name} is no file")
            yield member.name, file.read()


class _Source(io.RawIOBase):
    """The parts of one table as one stream."""

    def __init__(self, stem: str, parts: Iterator[tuple[str, bytes]]) -> None:
        self._stem, self._parts, self._held, self._at = stem, parts, b"", 0
        self.lines = self.bytes = 0
        self.sha256 = hashlib.sha256()
        self.fault: Damaged | None = None
        """Kept, for the database driver that reads us tells of it in its own words."""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(PART_BYTES), b""))
        while self._at >= len(self._held):
            if not self._next():
                return b""
        taken = self._held[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def _next(self) -> bool:
        try:
            _name, packed = next(self._parts)
            self._held, self._at = gzip.decompress(packed), 0
        except StopIteration:
            return False
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            self.fault = Damaged(f"the archive is damaged: {self._stem} cannot be read")
            raise self.fault from error
        self.sha256.update(self._held)
        self.bytes += len(self._held)
        self.lines += self._held.count(b"\n")
        return True


def _document(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Damaged("the archive is damaged: its description cannot be read") from error
    return found if isinstance(found, dict) else {}


def check(source: IO[bytes]) -> Summary:
    """Read an archive to its end and compare it with its manifest. Raises Damaged."""
    reader = Reader(source)
    for _stem, contents in reader.contents():
        while contents.read(PART_BYTES):
            pass
    return reader.finish()


# ---- backup


def backup(settings: Settings, definitions: Sequence[Definition], out: IO[bytes], say: Say, with_keys: bool = False) -> Summary:
    """Write an archive of all services' databases as of one moment. Raises Unsuitable where some cannot be had."""
    services = {one.name: context.of_a_centre(one.name, settings).database for one in definitions}
    with ExitStack() as opened:
        for database in services.values():
            opened.enter_context(closing(database))
        kinds = {database.sqlite for database in services.values()}
        if len(kinds) > 1:
            raise Unsuitable("ANSWERLINE_DATABASE_URL: some services are in SQLite and some in PostgreSQL")
        for name, database in services.items():
            if migrate.is_half_restored(database):
                raise Unsuitable(f"{name} was restored by half: run `answerline restore` again first")
            if migrate.revision_of(database) is None:
                raise Unsuitable(f"{name} has no tables yet: run `answerline migrate` first")
        about = {
            "format": FORMAT,
            "made_at": clock.to_text(clock.now()),  # before the snapshots: what was acknowledged by now is in all of them
            "answerline": version("answerline"),
            "kind": "sqlite" if kinds == {True} else "postgresql",
            "sealing_keys": [_fingerprint(key) for key in _sealing_keys(settings)],
            "keys": _kept_keys(settings) if with_keys else {},
        }
        return (_backup_sqlite if about["kind"] == "sqlite" else _backup_postgresql)(services, about, out, say)


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != CALLER, name))


def _backup_postgresql(services: Mapping[str, Database], about: dict[str, Any], out: IO[bytes], say: Say) -> Summary:
    with _uncooperative(), _snapshots(services) as connections:
        about["services"] = {
            name: {
                "revision": connection.scalar(text("select version_num from alembic_version")),
                "tables": {row.name: row.columns for row in connection.execute(text(TABLES))},
                "sequences": {row.sequencename: row.last_value for row in connection.execute(text(SEQUENCES))},
            }
            for name, connection in connections.items()
        }
        writer = Writer(out, about)
        for name, connection in connections.items():
            for table in connection.execute(text(TABLES)).all():
                told = writer.add(f"{name}/{table.name}", lambda file, c=connection, t=table: _copy_out(c, t, file))  # type: ignore[misc]
                if told["bytes"] > PART_BYTES:
                    say(f"{name}: {table.name}, {told['rows']} rows")
            say(f"{name}: done")
        writer.finish()
    return writer.summary


@contextmanager
def _uncooperative() -> Iterator[None]:
    """The driver cannot COPY while it waits cooperatively; this process has nothing else to do."""
    callback = get_wait_callback()
    set_wait_callback(None)
    try:
        yield
    finally:
        set_wait_callback(callback)


@contextmanager
def _snapshots(services: Mapping[str, Database]) -> Iterator[dict[str, Connection]]:
    """A connection to each database that sees it as it was at one moment: no event is applied anywhere between the first and the last
    snapshot, so that none is in a receiver's inbox that is not in its publisher's outbox."""
    with ExitStack() as opened:
        names = _in_order(services)
        # connected before, so that the standstill is short; a backup that is stopped within it loses its locks as anybody does, and fails
        connections = {name: opened.enter_context(services[name].engine.connect()) for name in names}
        lockers = {name: opened.enter_context(services[name].engine.connect()) for name in names}
        for tries in range(1, LOCK_TRIES + 1):
            deadline = time.monotonic() + LOCK_SECONDS
            try:
                with ExitStack() as standstill:
                    for name in names:
                        standstill.enter_context(lockers[name].begin())
                        left = max(int(1000 * (deadline - time.monotonic())), 1)
                        lockers[name].execute(text(f"set local lock_timeout = '{left}ms'"))
                        lockers[name].execute(text(STANDSTILL))
                    snapshots = {name: _snapshot(connections[name]) for name in names}
                break
            except OperationalError as error:
                if not _is_lock_timeout(error) or tries == LOCK_TRIES:
                    raise
        yield snapshots


def _is_lock_timeout(error: DBAPIError) -> bool:
    return getattr(error.orig, "pgcode", None) == "55P03"


def _snapshot(connection: Connection) -> Connection:
    connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    connection.execute(text(PATIENTLY))
    connection.execute(text("select 1"))
    return connection


def _copy_out(connection: Connection, table: Any, file: _Parts) -> None:
    order = f" order by {', '.join(table.key)}" if table.key else ""
    query = f'copy (select {", ".join(table.columns)} from "{table.name}"{order}) to stdout'  # noqa: S608 - names from the catalogue
    with closing(connection.connection.cursor()) as cursor:
        cursor.copy_expert(query, file)


def _backup_sqlite(services: Mapping[str, Database], about: dict[str, Any], out: IO[bytes], say: Say) -> Summary:
    with ExitStack() as opened:
        readers = {name: opened.enter_context(closing(_sqlite(database))) for name, database in services.items()}
        with ExitStack() as standstill:
            for database in services.values():
                writer_of = standstill.enter_context(closing(_sqlite(database)))
                writer_of.execute("begin immediate")  # nobody writes until it is closed
            for reader in readers.values():
                reader.execute("begin")
                reader.execute("select count(*) from sqlite_schema").fetchone()
        about["services"] = {
            name: {
                "revision": reader.execute("select version_num from alembic_version").fetchone()[0],
                "tables": {table: _sqlite_rows(reader, table) for table in _sqlite_tables(reader)},
            }
            for name, reader in readers.items()
        }
        writer = Writer(out, about)
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="answerline-backup-")))
        for name, reader in readers.items():
            copy = place / name
            with closing(sqlite3.connect(copy)) as target:
                reader.backup(target, pages=4096)
                target.execute("pragma journal_mode = delete")
            with copy.open("rb") as file:
                rows = sum(about["services"][name]["tables"].values())
                writer.add(f"{name}/{WHOLE}", lambda part, file=file: shutil.copyfileobj(file, part, 2**20), rows)  # type: ignore[misc]
            copy.unlink()
            say(f"{name}: done")
        writer.finish()
    return writer.summary


def _sqlite(database: Database) -> sqlite3.Connection:
    return sqlite3.connect(_path_of(database), timeout=SQLITE_LOCK_SECONDS, isolation_level=None)


def _path_of(database: Database) -> Path:
    return Path(database.url.database or "")


def _sqlite_tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%' and name <> 'alembic_version' order by 1"
    )
    return [name for (name,) in rows]


def _sqlite_rows(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f'select count(*) from "{table}"').fetchone()[0])  # noqa: S608 - a name from the catalogue


# ---- keys: what is sealed in the archive is of use only with the key that sealed it


def _sealing_keys(settings: Settings) -> list[str]:
    """Those in use; none is made. Empty where it is not known here."""
    path = settings.data / KEYS[0]
    if settings.secret_key or (settings.embedded and path.exists()):
        return settings.sealing_keys()
    return []


def _fingerprint(key: str) -> str:
    return hashlib.sha256(b"answerline sealing key " + key.encode()).hexdigest()[:16]


def _kept_keys(settings: Settings) -> dict[str, str]:
    if not settings.embedded:
        raise Unsuitable(
            "--with-keys: a deployed centre's keys are where its settings come from; keep them there, docs/operations.md says which"
        )
    return {name: (settings.data / name).read_text() for name in KEYS if (settings.data / name).exists()}


def _missing_keys(settings: Settings, about: Mapping[str, Any]) -> dict[str, str]:
    """Keys in the archive, by file, that an embedded centre has not."""
    keys = (about.get("keys") or {}).items() if settings.embedded else ()
    return {name: key for name, key in keys if name in KEYS and not (settings.data / name).exists()}


def _bring_keys(settings: Settings, about: Mapping[str, Any]) -> None:
    for name, key in _missing_keys(settings, about).items():
        settings.make_data()
        whole = settings.data / f"{name}.restoring"
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(settings.data / name)  # half a key would be taken for one


def _check_keys(settings: Settings, about: Mapping[str, Any], another_key: bool) -> None:
    """Raises Unsuitable where what was sealed could not be read afterwards."""
    brought = "" if settings.secret_key else _missing_keys(settings, about).get(KEYS[0], "")
    here = {_fingerprint(key) for key in _sealing_keys(settings) + brought.replace(",", " ").split()}
    if not another_key and not here.issuperset(about["sealing_keys"]):
        where = f"{settings.data / KEYS[0]}, or ANSWERLINE_SECRET_KEY" if settings.embedded else "ANSWERLINE_SECRET_KEY"
        raise Unsuitable(
            f"the secrets in the archive are sealed with a key that is not here: put it back first ({where}); "
            "with --another-key all else is restored, and those secrets must be told anew"
        )


# ---- restore


def restore(settings: Settings, definitions: Sequence[Definition], source: IO[bytes], say: Say, another_key: bool = False) -> Summary:
    """Replace what all services have by what is in the archive. No service may run, and none that is started meanwhile begins to. Raises
    Damaged or Unsuitable, and nothing was changed then, unless the message says to run it again: a server that goes away in the last steps.
    Cut off there, it leaves marks (`migrate.is_half_restored`): services wait, and another restore mends it."""
    reader = Reader(source)
    about = reader.about
    _suits(settings, definitions, about)
    _check_keys(settings, about, another_key)
    with ExitStack() as opened:
        services: dict[str, Database] = {}
        for one in definitions:
            ours = context.build(one.name, settings)
            if ours.database.sqlite:
                settings.make_data()
            database = services[one.name] = opened.enter_context(closing(ours.database))
            shards = [context.lease_of(database, one.name, shard) for shard in range(1 if database.sqlite else one.shards(settings))]
            for lease in (Lease(database, RESTORE), *shards):
                opened.callback(lease.release)
                if not _held(lease):
                    another = lease.name == RESTORE
                    raise Unsuitable("another restore is under way" if another else f"{one.name} is running: stop all services first")
        known = [one for one in definitions if one.name in about["services"]]
        say(f"as of {about['made_at']}, by Answerline {about['answerline']}: {', '.join(one.name for one in known)}")
        put_back = _restore_sqlite if about["kind"] == "sqlite" else _restore_postgresql
        put_back(settings, definitions, services, reader, say)
        _bring_keys(settings, about)
        for one in definitions:
            migrate.upgrade(services[one.name], one.migrations)
        for database in services.values():
            migrate.mark_whole(database)
    return reader.summary


def _suits(settings: Settings, definitions: Sequence[Definition], about: Mapping[str, Any]) -> None:
    kinds = {"sqlite" if settings.database_of(one.name).startswith("sqlite") else "postgresql" for one in definitions}
    if kinds != {about["kind"]}:
        raise Unsuitable(
            f"the archive is of {about['kind']}, the databases here are {' and '.join(sorted(kinds))}: set ANSWERLINE_DATABASE_URL"
        )
    here = {one.name: one for one in definitions}
    if unknown := sorted(about["services"].keys() - here.keys()):
        raise Unsuitable(f"the archive has {', '.join(unknown)}, which this installation has not")
    for name, told in about["services"].items():
        if not migrate.knows(here[name].migrations, told["revision"]):
            raise Unsuitable(f"{name}'s tables in the archive are of a newer Answerline ({told['revision']}): install that one first")


def _held(lease: Lease) -> bool:
    try:
        return lease.hold()
    except Exception as error:
        if not is_outage(error):
            raise
        told = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise Unsuitable(f"the database is out of reach: {told}") from error


def _restore_postgresql(
    settings: Settings, definitions: Sequence[Definition], services: Mapping[str, Database], reader: Reader, say: Say
) -> None:
    told = reader.about["services"]
    with ExitStack() as transactions:
        transactions.enter_context(_uncooperative())
        connections = {name: transactions.enter_context(database.engine.connect()) for name, database in services.items()}
        for one in definitions:
            connection = connections[one.name]
            connection.execute(text(PATIENTLY))
            connection.execute(text(f"set local lock_timeout = '{LOCK_SECONDS}s'"))
            _empty(connection, one, told.get(one.name, {}).get("revision", "head"))
        for stem, contents in reader.contents():
            name, _, table = stem.partition("/")
            columns = told.get(name, {}).get("tables", {}).get(table)
            if columns is None:
                raise Damaged(f"the archive is damaged: {stem} does not belong to it")
            _copy_in(connections[name], table, columns, contents)
        reader.finish()
        for name, one in told.items():
            for sequence, value in one["sequences"].items():
                connections[name].execute(
                    text("select setval(quote_ident(:sequence)::regclass, :value)"), {"sequence": sequence, "value": value}
                )
        _begin_to_replace(settings, services, say)
        _commit(connections)


def _commit(connections: Mapping[str, Connection]) -> None:
    names = list(connections)
    for number, name in enumerate(names):
        try:
            connections[name].commit()
        except DBAPIError as error:
            if not number:
                raise Unsuitable(f"the database went away: {str(error.orig).splitlines()[0]}; run restore again") from error
            raise Unsuitable(
                f"the database went away in between: {', '.join(names[:number])} restored, {', '.join(names[number:])} not; run restore again"
            ) from error


def _copy_in(connection: Connection, table: str, columns: Sequence[str], contents: _Source) -> None:
    with closing(connection.connection.cursor()) as cursor:
        try:
            cursor.copy_expert(f'copy "{table}" ({", ".join(columns)}) from stdin', contents)
        except psycopg2.Error as error:
            told = f"{table}: {str(error).splitlines()[0]}"
            if contents.fault:
                raise contents.fault from error
            gone = cursor.connection.closed
            if gone:
                connection.invalidate(error)  # the cursor is the driver's own: nobody else noticed
            if gone or isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
                raise Unsuitable(f"the database went away or cannot take more: {told}") from error
            raise Damaged(f"the archive is damaged: {told}") from error


def _empty(connection: Connection, definition: Definition, revision: str) -> None:
    """The tables of that revision, without a row."""
    try:
        _drop(connection)
    except OperationalError as error:
        if _is_lock_timeout(error):
            raise Unsuitable(f"somebody works with {definition.name}'s database: stop all services, and what else reads it") from error
        raise
    migrate.upgrade_within(connection, definition.migrations, revision)
    if tables := [f'"{row.name}"' for row in connection.execute(text(TABLES))]:
        connection.execute(text(f"truncate {', '.join(tables)}"))


def _drop(connection: Connection) -> None:
    query = text("select tablename from pg_tables where schemaname = current_schema() and tablename <> :mark")
    names = connection.scalars(query, {"mark": migrate.HALF_RESTORED}).all()
    if names:
        connection.execute(text("drop table " + ", ".join(f'"{name}"' for name in names) + " cascade"))


def _restore_sqlite(
    settings: Settings, _definitions: Sequence[Definition], services: Mapping[str, Database], reader: Reader, say: Say
) -> None:
    waiting: dict[str, Path] = {}
    try:
        for stem, contents in reader.contents():
            name, _, what = stem.partition("/")
            if name not in services or what != WHOLE:
                raise Damaged(f"the archive is damaged: {stem} does not belong to it")
            waiting[name] = _path_of(services[name]).with_suffix(".restoring")
            with os.fdopen(os.open(waiting[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                shutil.copyfileobj(contents, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
        reader.finish()
        for name, path in waiting.items():
            with closing(sqlite3.connect(path)) as copy:
                if (found := copy.execute("pragma quick_check").fetchone()[0]) != "ok":
                    raise Damaged(f"the archive is damaged: {name}: {found}")
        _begin_to_replace(settings, services, say)
        for name, database in services.items():
            path = _path_of(database)
            for beside in ("-wal", "-shm"):
                path.with_name(path.name + beside).unlink(missing_ok=True)
            if name in waiting:
                waiting[name].replace(path)
            else:
                path.unlink(missing_ok=True)
    finally:
        for path in waiting.values():
            path.unlink(missing_ok=True)


def _begin_to_replace(settings: Settings, services: Mapping[str, Database], say: Say) -> None:
    """The archive is whole, and from here on what was there goes."""
    marked = [database for database in services.values() if migrate.is_half_restored(database)]
    for database in services.values():
        migrate.mark_half_restored(database)
    try:
        _forget_queues(settings, say)
    except Unsuitable:
        for database in services.values():
            if database not in marked:
                migrate.mark_whole(database)
        raise


def _forget_queues(settings: Settings, say: Say) -> None:
    """What the broker holds is of a time that is no more. Where the queues are gone, each receiver asks for what it has not, and the
    outboxes send it again. Raises Unsuitable where the broker is out of reach."""
    if settings.embedded:
        return
    try:
        with brokers.Broker(settings.broker_url).connect() as connection:
            names = [name for service in topology.SUBSCRIPTIONS for name in _queues_of(service)]
            _delete(connection, names)
    except OSError as error:
        raise Unsuitable(
            f"the broker is out of reach ({error}): it must forget what it holds, or that would be applied over what is restored"
        ) from error
    say("the broker has forgotten what it held")


def _queues_of(service: str) -> list[str]:
    return [brokers.inbox(service).name, brokers.told(service).name, brokers.replay_requests(service).name]


def _delete(connection: BrokerConnection, names: Iterable[str]) -> None:
    with connection.channel() as channel:
        for name in names:
            channel.queue_delete(name)
