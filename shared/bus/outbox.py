"""A unit of work: a service's state and what it announces about it, in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection

from shared import clock, contracts
from shared.bus.envelope import Event
from shared.bus.tables import BusTables
from shared.db import bulk
from shared.db.engine import Database
from shared.observability import trace

log = structlog.get_logger()

OUTBOX_COLUMNS = ("id", "type", "subject", "body", "written_at")


class Work:
    """One transaction in progress. Events given to `announce` become outbox rows just before the commit, after the state rows
    were locked, so that their order is the order of the states."""

    def __init__(self, connection: Connection, tables: BusTables) -> None:
        self.connection = connection
        self._tables = tables
        self._rows: list[dict[str, Any]] = []
        self._inserts: list[bulk.Insert] = []
        self._afterwards: list[Callable[[bool], None]] = []
        self.traces: dict[str, str] = {}
        """By an event's id or a subject: the trace of what is announced because of it or about it."""

    def afterwards(self, hook: Callable[[bool], None]) -> None:
        """Call `hook` when the transaction is over, with whether it was committed. Last in, first called."""
        self._afterwards.append(hook)

    def ended(self, committed: bool) -> None:
        """Nothing that fails here makes what was committed look as if it had not been: it would be done again."""
        while self._afterwards:
            try:
                self._afterwards.pop()(committed)
            except Exception as error:
                log.error("what follows a transaction failed", committed=committed, error=type(error).__name__, exc_info=error)

    def announce(self, event: Event) -> None:
        """Announce an event; its data is checked here against its contract. Raises ContractBroken."""
        traces = self.traces
        traceparent = event.trace or traces.get(event.cause or "") or traces.get(event.subject) or trace.current()
        self._rows.append(
            {
                "id": event.id,
                "type": event.type,
                "subject": event.subject,
                "body": event.envelope(contracts.write(event.type, event.data), traceparent),
                "written_at": clock.now(),
            }
        )

    def save(self, *inserts: bulk.Insert) -> None:
        """Rows to be written at the end of the transaction, together with the outbox: until then queries do not find them."""
        self._inserts += inserts

    def write(self) -> None:
        """Write now what is to be saved."""
        inserts, self._inserts = self._inserts, []
        bulk.insert_all(self.connection, inserts)

    def flush(self) -> int:
        """Write what is to be saved, and the announced events to the outbox; returns how many of these."""
        rows, self._rows = self._rows, []
        inserts, self._inserts = self._inserts, []
        bulk.insert_all(self.connection, [*inserts, bulk.Insert(self._tables.outbox, rows, OUTBOX_COLUMNS)])
        return len(rows)


class UnitOfWork:
    """Makes units of work for one service and wakes its relay after each that announced something."""

    def __init__(self, database: Database, tables: BusTables) -> None:
        self.database = database
        self.tables = tables
        self.on_announced: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self) -> Iterator[Work]:
        work: Work | None = None
        announced, committed = 0, False
        try:
            with self.database.transaction() as connection:
                work = Work(connection, self.tables)
                yield work
                announced = work.flush()
            committed = True
        finally:
            if work:
                work.ended(committed)
        if announced:
            self.on_announced()
