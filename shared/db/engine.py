"""One database of one service: PostgreSQL where deployed, a SQLite file where embedded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from psycopg2.extensions import new_type, register_type
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

UUID_AS_TEXT = new_type((2950,), "UUID_AS_TEXT", lambda value, _cursor: value)
"""Ids are text in Python, in rows of textual statements too, where SQLAlchemy's column types have no say."""
# a server that vanished without a word is given up after half a minute, not after two hours
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
SERVER_KEEPALIVE = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3"
# whoever stands still in the middle of a transaction (a stopped process, a suspended machine) must not hold its locks for ever
ABANDONED = "set idle_in_transaction_session_timeout = '20s'"
PATIENCE: ContextVar[float] = ContextVar("database patience", default=300.0)
"""Seconds after which a server that says nothing to a question is taken for gone: its machine may be up, and nobody there to answer."""
PROMPT_SECONDS = 10.0
"""The same for questions that any healthy server answers at once."""
DISK_FULL = "53100"
SQLITE_LOCK_PAUSE = 0.005
SQLITE_LOCK_PATIENCE = 10.0
POOL_SIZE = {True: 4, False: 10}
"""Of SQLite, and of PostgreSQL."""
OVERFLOW = {True: 16, False: 20}


class Database:
    """Transactions on one database.

    SQLite blocks the whole process while it waits for another process's lock, so it is told to give up after 50 ms;
    the pause between tries is cooperative.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url) if self.sqlite else _postgres_engine(url)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back when it raises."""
        if self.sqlite:
            with self.engine.connect() as connection:
                _begin_immediately(connection)
                try:
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
        else:
            with self.engine.begin() as connection:
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries; nothing it does is kept."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    @property
    def in_use(self) -> int:
        """Connections in use now."""
        return int(getattr(self.engine.pool, "checkedout", lambda: 0)())  # a database in memory has a pool that does not count

    @property
    def most(self) -> int:
        """Connections that may be in use at one time."""
        return POOL_SIZE[self.sqlite] + OVERFLOW[self.sqlite]

    def skew(self, connection: Connection) -> float:
        """Seconds by which our clock is ahead of the database's, to the length of a question; a file has ours."""
        if self.sqlite:
            return 0.0
        before = time.time()
        theirs = float(connection.scalar(text("select extract(epoch from clock_timestamp())")))
        after = time.time()
        return min(max(theirs, before), after) - theirs

    def size(self, connection: Connection) -> int:
        """Bytes that the database takes."""
        if self.sqlite:
            pages, each = (int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in ("page_count", "page_size"))
            return pages * each
        return int(connection.scalar(text("select pg_database_size(current_database())")))


@contextmanager
def promptly(within: float | None = None) -> Iterator[None]:
    """What is asked within is answered at once, or within that time, or raises OperationalError. (The driver's own limits do not hold where
    waiting is cooperative.)"""
    before = PATIENCE.set(PROMPT_SECONDS if within is None else within)
    try:
        yield
    finally:
        PATIENCE.reset(before)


class LeaseLostError(RuntimeError):
    """Another process does our work now: what was asked was not wrong, it is only no longer ours to do."""


def is_outage(error: BaseException) -> bool:
    """Whether the database itself (or our right to it), and not what was asked of it, is the trouble: worth waiting and trying again."""
    if isinstance(error, PoolTimeout | LeaseLostError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    limit_exceeded = str(getattr(getattr(error, "orig", None), "pgcode", None)).startswith("54")  # too long for an index: it would stay so
    return isinstance(error, OperationalError | InterfaceError) and not limit_exceeded


def why_out(error: BaseException) -> str:
    """What to tell whoever asked during an outage."""
    cause = getattr(error, "orig", None)
    if getattr(cause, "pgcode", None) == DISK_FULL or "disk is full" in str(cause):
        return "the database's disk is full, so nothing was stored; make room there, then send it again"
    return "the database is out of reach"


def _begin_immediately(connection: Connection) -> None:
    deadline = time.monotonic() + SQLITE_LOCK_PATIENCE
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            connection.rollback()
            time.sleep(SQLITE_LOCK_PAUSE)


def _sqlite_engine(url: str) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": 0.05, "check_same_thread": False},
        pool_size=POOL_SIZE[True],
        max_overflow=OVERFLOW[True],
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-20000")

    return engine


def _postgres_engine(url: str) -> Engine:
    target = make_url(url)
    if target.drivername == "postgresql":
        target = target.set(drivername="postgresql+psycopg2")
    engine = create_engine(
        target,
        pool_size=POOL_SIZE[False],
        max_overflow=OVERFLOW[False],
        pool_pre_ping=True,
        pool_timeout=5,
        connect_args={"connect_timeout": 5, **KEEPALIVE},
        hide_parameters=True,
    )

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        with promptly():
            return dialect.connect(*arguments, **named)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        register_type(UUID_AS_TEXT, connection)
        with promptly(), connection.cursor() as cursor:
            cursor.execute(f"{SERVER_KEEPALIVE}; {ABANDONED}")
            connection.commit()

    ping = engine.dialect.do_ping

    def _ping(connection: Any) -> bool:
        with promptly():
            return ping(connection)

    engine.dialect.do_ping = _ping  # type: ignore[assignment, method-assign]

    return engine
