"""Group commit: what many requests want written at one moment is written in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import eventlet
from eventlet.event import Event

from shared.db.engine import is_outage

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """`commit` writes a list of items, all or none, and returns a result for each, in order.

    If it raises, the list is halved until the culprit stands alone, who gets that error; in an outage all who wait get it.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], Sequence[Result]], most: int = 500) -> None:
        self._commit = commit
        self._most = most
        self._pending: list[tuple[Item, Event]] = []
        self._busy = False

    def submit(self, item: Item) -> Result:
        """Returns when the item is durable."""
        done = Event()
        self._pending.append((item, done))
        if not self._busy:
            self._busy = True
            eventlet.spawn_n(self._work)
        return done.wait()

    def _work(self) -> None:
        """Runs after everything that is ready now has had its turn, and so finds all of it."""
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._most], self._pending[self._most :]
                self._write(batch)
                eventlet.sleep(0)
        finally:
            self._busy = False

    def _write(self, batch: list[tuple[Item, Event]]) -> None:
        try:
            results = self._commit([item for item, _ in batch])
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            if len(batch) == 1 or not isinstance(error, Exception) or is_outage(error):
                for _, done in batch:
                    done.send_exception(error)
                return
            middle = len(batch) // 2
            self._write(batch[:middle])
            self._write(batch[middle:])
            return
        try:
            settled = list(zip(batch, results, strict=True))
        except ValueError as error:  # what is written is written: never twice
            for _, done in batch:
                done.send_exception(error)
            return
        for (_, done), result in settled:
            done.send(result)
