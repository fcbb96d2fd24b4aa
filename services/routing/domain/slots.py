"""Numbers for things, so that what is known of many things stands in vectors, and order within one of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import numpy as np

Place = tuple[float, str]  # since, id
Key = TypeVar("Key", bound=Hashable)
These = TypeVar("These", bound=Hashable)
Those = TypeVar("Those", bound=Hashable)

SPARE = 1024  # slots kept though nobody uses them: the next of the kind is likely
CELLS = 4_000_000  # compared pairs remembered in one direction, 8 bytes each
_LOG = 4096


class Ordered:
    """Places in order. The first leaves at no cost; another one costs a shift of what follows (20 µs among 100,000)."""

    __slots__ = ("_places", "_start")

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._places) - self._start

    def __getitem__(self, index: int) -> Place:
        return self._places[self._start + index]

    def __iter__(self) -> Iterator[Place]:
        return (self._places[index] for index in range(self._start, len(self._places)))

    def add(self, place: Place) -> None:
        insort(self._places, place, lo=self._start)

    def remove(self, place: Place) -> None:
        index = bisect_left(self._places, place, lo=self._start)
        if index > self._start:
            del self._places[index]
            return
        self._start += 1
        if self._start * 2 > len(self._places):
            del self._places[: self._start]
            self._start = 0

    def before(self, place: tuple[float] | Place) -> int:
        """How many stand before this place; (since,) stands before all of that moment."""
        return bisect_left(self._places, place, lo=self._start) - self._start


class Slots(Generic[Key]):
    """A small number for each key in use; numbers are used again, and a log tells which changed their meaning."""

    def __init__(self, spare: int = SPARE) -> None:
        self.keys: list[Key] = []
        self.log: list[int] = []
        self.logged = 0  # entries ever written; the log holds the last of them
        self._slots: dict[Key, int] = {}
        self._users: list[int] = []
        self._unused: dict[int, None] = {}  # longest unused first
        self._spare = spare
        self.capacity = 64

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, key: Key) -> tuple[int, bool, Key | None]:
        """One more user of the key: its slot, whether that is new to it, and the key that lost it."""
        slot = self._slots.get(key)
        if slot is not None:
            self._unused.pop(slot, None)
            self._users[slot] += 1
            return slot, False, None
        lost = None
        if len(self._unused) > self._spare:
            slot = next(iter(self._unused))
            del self._unused[slot]
            lost = self.keys[slot]
            del self._slots[lost]
            self.keys[slot] = key
        else:
            slot = len(self.keys)
            self.keys.append(key)
            self._users.append(0)
            while self.capacity < len(self.keys):
                self.capacity *= 2
        self._slots[key] = slot
        self._users[slot] = 1
        self._write(slot)
        return slot, True, lost

    def drop(self, slot: int) -> None:
        """One user less."""
        self._users[slot] -= 1
        if not self._users[slot]:
            self._unused[slot] = None

    def keep(self, key: Key) -> int:
        """The slot of a key that may be asked about, though nobody uses it."""
        slot = self.take(key)[0]
        self.drop(slot)
        return slot

    def changes(self, since: int) -> list[int] | None:
        """The slots with another meaning since the log had that many entries; None if it no longer knows."""
        if since == self.logged:
            return []
        behind = self.logged - since
        return self.log[-behind:] if behind <= len(self.log) else None

    def _write(self, slot: int) -> None:
        self.log.append(slot)
        self.logged += 1
        if len(self.log) > 2 * _LOG:
            del self.log[:_LOG]


class _Row(Generic[Key]):
    __slots__ = ("key", "seen", "values")

    def __init__(self, key: Key, seen: int, values: np.ndarray) -> None:
        self.key, self.seen, self.values = key, seen, values


class Comparison(Generic[These, Those]):
    """Each of these compared with each of those: a vector over the slots of those for each slot of these.

    Made when first asked for and brought up to date when asked again; beyond `cells` the oldest are forgotten.
    """

    def __init__(self, these: Slots[These], those: Slots[Those], compare: Callable[[These, Those], float], cells: int = CELLS) -> None:
        self._these, self._those, self._compare, self._bound = these, those, compare, cells
        self._rows: dict[int, _Row[These]] = {}
        self.cells = 0

    def known(self, slot: int) -> bool:
        row = self._rows.get(slot)
        return row is not None and row.key is self._these.keys[slot] and len(row.values) == self._those.capacity

    def row(self, slot: int) -> np.ndarray:
        """Shape (capacity of those,); what stands at a slot without a key means nothing."""
        known = self._rows.get(slot)
        if known is not None:
            if known.seen == self._those.logged and known.key is self._these.keys[slot]:
                return known.values
            if self._catch_up(known, slot):
                return known.values
        return self._make(slot)

    def _catch_up(self, row: _Row[These], slot: int) -> bool:
        changed = self._those.changes(row.seen)
        if changed is None or not self.known(slot):
            return False
        for other in changed:
            row.values[other] = self._compare(row.key, self._those.keys[other])
        row.seen = self._those.logged
        return True

    def _make(self, slot: int) -> np.ndarray:
        self._forget(slot)
        key = self._these.keys[slot]
        values = np.full(self._those.capacity, -1.0)
        values[: len(self._those.keys)] = [self._compare(key, other) for other in self._those.keys]
        self.cells += len(values)
        while self._rows and self.cells > self._bound:
            self._forget(next(iter(self._rows)))
        self._rows[slot] = _Row(key, self._those.logged, values)
        return values

    def _forget(self, slot: int) -> None:
        row = self._rows.pop(slot, None)
        if row is not None:
            self.cells -= len(row.values)
