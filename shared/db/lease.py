"""A lease: of all processes of a service, one at a time holds it. It goes with the holder's connection, so a dead holder frees it at once.

A holder that stands still (a stopped process, a suspended machine) keeps its connection. But it asks for its lease every second or so, and the
database knows when that was: whoever wants the lease and sees that nothing was asked for `FROZEN_SECONDS` ends that connection, and with it
the lease; should the holder wake up, it finds so before it goes on.
"""

import fcntl
import threading
import zlib
from io import TextIOWrapper
from pathlib import Path

import structlog
from sqlalchemy import Connection, text

from shared.db.engine import Database, promptly

log = structlog.get_logger()

PRESENT = text(
    "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ShareLock' and classid = 0 and objid = cast(:key as oid) "
    "and database = (select oid from pg_database where datname = current_database())"
)

TAKEN = text(
    "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock' and classid = 0 "
    "and objid = cast(:key as oid) and database = (select oid from pg_database where datname = current_database())"
)

FROZEN_SECONDS = 15.0
"""Longer than any step of a healthy holder, and than the pauses of one that is ten times too slow."""
END_OF_FROZEN = text(
    "select count(pg_terminate_backend(activity.pid)) from pg_locks as held join pg_stat_activity as activity using (pid) "
    "where held.locktype = 'advisory' and held.granted and held.mode = 'ExclusiveLock' and held.classid = 0 and held.objid = cast(:key as oid) "
    "and held.database = (select oid from pg_database where datname = current_database()) and activity.usename = current_user "
    "and activity.state = 'idle' and activity.state_change < clock_timestamp() - make_interval(secs => :seconds)"
)

STILL_THERE = text("select 1")


PERMANENT = "begin; set local idle_in_transaction_session_timeout = 0"
"""Who stands still within a transaction is not taken for frozen, nor cut off."""
RESTORE = "restore"
"""What a restore holds of each service's database, and whoever starts looks for."""


class Lease:
    """Held through a PostgreSQL session lock, or through a lock on a file beside the SQLite database."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self._connection: Connection | None = None
        self._file: TextIOWrapper | None = None
        self._turn = threading.Lock()  # looked up now: the command line may import us before eventlet patches

    def acquire(self) -> bool:
        """Whether we hold it now; never waits for it. Raises when the database is out of reach."""
        with self._turn:  # several loops ask, and two at once on one connection make psycopg2 hang for ever
            if self.database.sqlite:
                return self._acquire_file()
            with promptly():
                return self._acquire_session()

    def hold(self) -> bool:
        """As `acquire`, and no other process can end it, however long we do something else: it is ours until it is released or we die."""
        held = self.acquire()
        if self._connection is not None:
            self._connection.exec_driver_sql(PERMANENT)
        return held

    def is_taken(self) -> bool:
        """Whether somebody holds it now. Raises when the database is out of reach."""
        if self.database.sqlite:
            return self._is_file_taken()
        with self.database.reading() as connection:
            return bool(connection.scalar(TAKEN, {"key": self._key}))

    @property
    def _key(self) -> int:
        return zlib.crc32(f"answerline lease {self.name}".encode())

    def keep(self) -> None:
        """Show that the holder lives; nothing where we are not it. Raises when the database is out of reach."""
        with self._turn:
            if self._connection is not None:
                with promptly():
                    self._acquire_session()

    def _acquire_session(self) -> bool:
        if self._connection is None:
            connection = self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            key = self._key
            try:
                if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key}):
                    if connection.scalar(END_OF_FROZEN, {"key": key, "seconds": FROZEN_SECONDS}):
                        log.warning("the holder of a lease stands still: its connection was ended", lease=self.name)
                    connection.close()
                    return False
            except BaseException:  # a time-out in between too: the pool must not have a connection that may hold the lock
                _end(connection)
                raise
            self._connection = connection
            return True
        try:
            self._connection.scalar(STILL_THERE)
        except BaseException:  # a connection that was cut short in the middle of a question cannot be asked again
            self._forget()
            raise
        return True

    def _acquire_file(self) -> bool:
        if self._file is None:
            file = self._path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._file = file
        return True

    def _is_file_taken(self) -> bool:
        if not self._path.exists():
            return False
        with self._path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # those who look do not see one another
            except BlockingIOError:
                return True
        return False

    @property
    def _path(self) -> Path:
        return Path(self.database.url.database or "lease").with_suffix(f".{self.name.rpartition(':')[2]}.lock")

    def release(self) -> None:
        with self._turn:
            self._forget()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)


class Presence:
    """How many processes of a service are there: each shares a PostgreSQL session lock, which goes with its connection, as a lease does."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self._key = zlib.crc32(f"answerline presence {name}".encode())
        self._connection: Connection | None = None

    def count(self) -> int:
        """Of all processes that are there now, this one included. Raises when the database is out of reach."""
        try:
            with promptly():
                if self._connection is None:
                    self._connection = self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                    self._connection.execute(text("select pg_advisory_lock_shared(:key)"), {"key": self._key})
                return int(self._connection.scalar(PRESENT, {"key": self._key}) or 1)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)


def _end(connection: Connection) -> None:
    connection.invalidate()
    connection.close()
