"""Group commit: what many requests want written at one moment is written in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import eventlet
from eventlet.event import Event

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """`commit` writes a list of items and returns a result for each, in order; if it raises, all who wait get that error."""

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
            settled = list(zip(batch, self._commit([item for item, _ in batch]), strict=True))
        except BaseException as error:  # noqa: BLE001 - every one who waits raises it
            for _, done in batch:
                done.send_exception(error)
            return
        for (_, done), result in settled:
            done.send(result)
