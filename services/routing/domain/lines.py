"""Where contacts wait and agents sit: lines and benches, each with its head in vectors, so that all heads are weighed at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .needs import Need, Profile, Seat, Terms, Waiting, suitability, total, urgency
from .slots import Ordered, Slots


class LineKey(NamedTuple):
    need: Need
    terms: Terms
    alone: str  # a contact that somebody passed on stands in a line of its own


class BenchKey(NamedTuple):
    profile: Profile
    room: frozenset[str]
    load: int


class _Heads:
    """Ordered places by slot, and the first of each in a vector. Vectors have the shape (capacity,)."""

    numbers: tuple[str, ...] = ()  # further vectors

    def __init__(self) -> None:
        self.places: list[Ordered] = []
        self.capacity = 0
        self.since = np.zeros(0)
        self.shut = np.zeros(0)  # 0, or -inf where nobody is
        self.size = np.zeros(0)
        self._grow(64)

    def _grow(self, capacity: int) -> None:
        for name in ("since", "shut", "size", *self.numbers):
            old = getattr(self, name, np.zeros(0))
            new = np.full(capacity, -math.inf if name == "shut" else 0.0)
            new[: len(old)] = old
            setattr(self, name, new)
        self.capacity = capacity

    def add(self, slot: int, place: tuple[float, str]) -> None:
        self.places[slot].add(place)
        self.since[slot] = self.places[slot][0][0]
        self.shut[slot] = 0.0
        self.size[slot] += 1.0

    def remove(self, slot: int, place: tuple[float, str]) -> None:
        places = self.places[slot]
        places.remove(place)
        self.size[slot] -= 1.0
        if places:
            self.since[slot] = places[0][0]
        else:
            self.shut[slot] = -math.inf

    def first(self, scores: np.ndarray) -> int | None:
        """The slot of the highest score, among equals the one with the earliest head; None if all are -inf."""
        slot = int(scores.argmax())
        best = scores.item(slot)
        if best == -math.inf:
            return None
        equal = (scores == best).nonzero()[0]
        return slot if len(equal) == 1 else min(equal.tolist(), key=lambda one: self.places[one][0])


class Lines(_Heads):
    """Contacts with the same need and terms stand in one line, first come first served."""

    weight: np.ndarray
    head_start: np.ndarray
    target: np.ndarray
    bound: np.ndarray
    fit_seconds: np.ndarray
    scarcity_seconds: np.ndarray
    idle_seconds: np.ndarray
    load_seconds: np.ndarray
    numbers = ("weight", "head_start", "target", "bound", "fit_seconds", "scarcity_seconds", "idle_seconds", "load_seconds")

    def __init__(self) -> None:
        self.needs: Slots[Need] = Slots()
        self.slots: Slots[LineKey] = Slots()
        self.need = np.zeros(0, dtype=np.intp)
        self.channel = np.zeros(0, dtype=np.intp)
        self._channels: dict[str, int] = {}
        super().__init__()

    def _grow(self, capacity: int) -> None:
        super()._grow(capacity)
        self.target[self.target == 0] = 1.0
        self.need = np.concatenate([self.need, np.zeros(capacity - len(self.need), dtype=np.intp)])
        self.channel = np.concatenate([self.channel, np.zeros(capacity - len(self.channel), dtype=np.intp)])

    def join(self, waiting: Waiting) -> int:
        key = LineKey(waiting.need, waiting.terms, waiting.id if waiting.passed else "")
        slot, new, lost = self.slots.take(key)
        if new:
            if slot >= self.capacity:
                self._grow(self.slots.capacity)
            if lost is not None:
                self.needs.drop(int(self.need[slot]))
                self.places[slot] = Ordered()
            else:
                self.places.append(Ordered())
            self.need[slot] = self.needs.take(waiting.need)[0]
            self.channel[slot] = self._channels.setdefault(waiting.need.channel, len(self._channels))
            for name in self.numbers:
                getattr(self, name)[slot] = getattr(waiting.terms, name)
        self.add(slot, waiting.place)
        return slot

    def leave(self, slot: int, waiting: Waiting) -> None:
        self.remove(slot, waiting.place)
        self.slots.drop(slot)

    def waited(self, now: float) -> np.ndarray:
        return np.maximum(now - self.since, 0.0)

    def urgency(self, now: float) -> np.ndarray:
        """Of each head; -inf where nobody waits."""
        return urgency(self, self.waited(now)) + self.shut

    def suitability(self, bench: BenchKey, fit: np.ndarray, price: float) -> np.ndarray:
        """Of the lines for who sits on this bench, -inf where they do not suit; fit is by slot of needs."""
        fits = fit[self.need]
        return np.where(self.able(bench, fits), suitability(self, fits, price, bench.load), -math.inf)

    def able(self, bench: BenchKey, fits: np.ndarray) -> np.ndarray:
        """Whether who sits on this bench may be asked for the lines; fits are by line."""
        able: np.ndarray = fits >= 0.0
        if not bench.profile.channels <= bench.room:
            room = np.array([channel in bench.room for channel in self._channels] or [False])
            able &= room[self.channel]
        return able

    def scores(self, suitable: np.ndarray, waited: np.ndarray, idle: float) -> np.ndarray:
        """The worth of each head, -inf where nobody is who suits."""
        worth: np.ndarray = total(self, waited, suitable, idle) + self.shut
        return worth


class Benches(_Heads):
    """Agents with the same profile, room and load sit on one bench, longest idle first. Without room one sits nowhere."""

    numbers = ("load",)

    def __init__(self) -> None:
        self.profiles: Slots[Profile] = Slots()
        self.slots: Slots[BenchKey] = Slots()
        self.load = np.zeros(0)
        self.profile = np.zeros(0, dtype=np.intp)
        self._room: dict[str, np.ndarray] = {}
        super().__init__()

    def _grow(self, capacity: int) -> None:
        super()._grow(capacity)
        self.profile = np.concatenate([self.profile, np.zeros(capacity - len(self.profile), dtype=np.intp)])
        for channel, room in self._room.items():
            self._room[channel] = np.concatenate([room, np.zeros(capacity - len(room), dtype=bool)])

    def sit(self, seat: Seat) -> int:
        slot, new, lost = self.slots.take(BenchKey(seat.profile, seat.room, seat.load))
        if new:
            if slot >= self.capacity:
                self._grow(self.slots.capacity)
            if lost is not None:
                self.profiles.drop(int(self.profile[slot]))
                self.places[slot] = Ordered()
            else:
                self.places.append(Ordered())
            self.profile[slot] = self.profiles.take(seat.profile)[0]
            self.load[slot] = seat.load
            for channel in seat.room - self._room.keys():
                self._room[channel] = np.zeros(self.capacity, dtype=bool)
            for channel, room in self._room.items():
                room[slot] = channel in seat.room
        self.add(slot, seat.place)
        return slot

    def stand(self, slot: int, seat: Seat) -> None:
        self.remove(slot, seat.place)
        self.slots.drop(slot)

    def suitability(self, line: LineKey, fit: np.ndarray, prices: np.ndarray) -> np.ndarray:
        """Of the benches for who waits in this line, -inf where they do not suit; fit and prices are by slot of profiles."""
        fits = fit[self.profile]
        return np.where(self.able(line, fits), suitability(line.terms, fits, prices[self.profile], self.load), -math.inf)

    def able(self, line: LineKey, fits: np.ndarray) -> np.ndarray:
        """Whether who sits on the benches may be asked for this line; fits are by bench."""
        room = self._room.get(line.need.channel)
        able: np.ndarray = np.zeros(self.capacity, dtype=bool) if room is None else (fits >= 0.0) & room
        return able

    def scores(self, waiting: Waiting, suitable: np.ndarray, now: float) -> np.ndarray:
        """The worth of the first of each bench for this contact, -inf where nobody is who suits."""
        worth: np.ndarray = total(waiting.terms, waiting.waited(now), suitable, np.maximum(now - self.since, 0.0)) + self.shut
        return worth
