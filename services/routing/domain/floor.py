"""Who waits and who has room, and the candidates among them: for a contact its agents, for an agent their contacts."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .lines import Benches, BenchKey, LineKey, Lines
from .needs import Need, Pair, Profile, Seat, Waiting
from .slots import CELLS, Comparison, Ordered
from .staff import Staff

Key = TypeVar("Key")
Suitable = dict[int, tuple[tuple[Key, int, int], np.ndarray]]  # slot -> what it was made of, vector over the other side's slots


class Ranked(NamedTuple):
    """Pairs, the best first; how many more there are, and the worth of the best of those."""

    pairs: list[Pair]
    further: int = 0
    best: float | None = None


class Floor:
    """The books, and what changed in them since somebody last looked."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.benches = Benches()
        profiles, needs = self.benches.profiles, self.lines.needs
        self.staff = Staff(profiles)
        self.fit_of_need = Comparison(needs, profiles, lambda need, profile: _fit(profile, need))
        self.fit_of_profile = Comparison(profiles, needs, _fit)
        self.waiting: dict[str, tuple[Waiting, int]] = {}  # contact -> its line; -1 where one agent only may be asked
        self.seats: dict[str, tuple[Seat, int, int]] = {}  # agent -> profile, bench; -1 without room
        self.personal: dict[str, dict[str, Waiting]] = {}  # agent -> contacts that wait for nobody else
        self.passers: dict[str, dict[str, None]] = {}  # agent -> contacts in lines that they passed on
        self.new_lines: dict[int, None] = {}
        self.new_benches: dict[int, None] = {}
        self.new_personal: dict[str, None] = {}
        self.again: dict[str, None] = {}  # contacts whose passers may be asked again
        self._prices: dict[Profile, float] = {}
        self._find_prices: Callable[[], dict[Profile, float]] | None = None
        self._price = np.zeros(0)  # by slot of profiles
        self._priced = -1
        self._pricings = 0
        self._lines_for: Suitable[BenchKey] = {}
        self._lines_alike: Suitable[BenchKey] = {}
        self._benches_for: Suitable[LineKey] = {}
        self._able_lines: Suitable[BenchKey] = {}
        self._able_benches: Suitable[LineKey] = {}
        self._alike = (-1, True)

    def put_contact(self, waiting: Waiting) -> None:
        """Take a contact in, or in its new state: it is looked at (again) at the next decision."""
        self.remove_contact(waiting.id)
        if waiting.only is not None:
            self.personal.setdefault(waiting.only, {})[waiting.id] = waiting
            self.waiting[waiting.id] = (waiting, -1)
            self.new_personal[waiting.only] = None
            return
        slot = self.lines.join(waiting)
        self.waiting[waiting.id] = (waiting, slot)
        self.new_lines[slot] = None
        if waiting.passed:
            for agent in waiting.passed:
                self.passers.setdefault(agent, {})[waiting.id] = None
            self.again[waiting.id] = None

    def remove_contact(self, contact_id: str) -> None:
        known = self.waiting.pop(contact_id, None)
        if known is None:
            return
        waiting, slot = known
        if slot < 0:
            _discard(self.personal, str(waiting.only), contact_id)
            return
        self.lines.leave(slot, waiting)
        for agent in waiting.passed:
            _discard(self.passers, agent, contact_id)
        self.again.pop(contact_id, None)

    def put_agent(self, seat: Seat) -> None:
        """Take an agent in, or in their new state."""
        known = self.seats.get(seat.id)
        if known is not None and known[0].profile == seat.profile:
            old, profile, bench = known
            if bench >= 0:
                self.benches.stand(bench, old)
            self.staff.change(profile, old, seat)
        else:
            self.remove_agent(seat.id)
            profile = self.staff.join(seat)
        bench = -1
        if seat.room:
            bench = self.benches.sit(seat)
            self.new_benches[bench] = None
            if seat.id in self.personal:
                self.new_personal[seat.id] = None
            if seat.id in self.passers:
                self.again.update(self.passers[seat.id])
        self.seats[seat.id] = (seat, profile, bench)

    def remove_agent(self, agent_id: str) -> None:
        known = self.seats.pop(agent_id, None)
        if known is None:
            return
        seat, profile, bench = known
        if bench >= 0:
            self.benches.stand(bench, seat)
        self.staff.leave(profile, seat)

    # Candidates

    def head(self, line: int) -> Waiting:
        return self.waiting[self.lines.places[line][0][1]][0]

    def first_seat(self, bench: int) -> Seat:
        return self.seats[self.benches.places[bench][0][1]][0]

    def able_lines(self, bench: int) -> np.ndarray:
        """0 for each line that who sits on this bench may be asked for, -inf for the others: what `lines_for` says without weighing it."""
        stamp = (self.benches.slots.keys[bench], self.lines.slots.logged, 0)
        known = self._able_lines.get(bench)
        if known is None or known[0] != stamp:
            fit = self.fit_of_profile.row(self.benches.profile.item(bench))
            known = (stamp, np.where(self.lines.able(stamp[0], fit[self.lines.need]), 0.0, -math.inf))
            _remember(self._able_lines, bench, known)
        return known[1]

    def able_benches(self, line: int) -> np.ndarray:
        """0 for each bench that may be asked for who waits in this line, -inf for the others."""
        stamp = (self.lines.slots.keys[line], self.benches.slots.logged, 0)
        known = self._able_benches.get(line)
        if known is None or known[0] != stamp:
            fit = self.fit_of_need.row(self.lines.need.item(line))
            known = (stamp, np.where(self.benches.able(stamp[0], fit[self.benches.profile]), 0.0, -math.inf))
            _remember(self._able_benches, line, known)
        return known[1]

    def lines_for(self, bench: int, priced: bool = True) -> np.ndarray:
        """How suitable each line is for who sits on this bench; -inf = not. The price of one agent is the same in every line: where all
        lines count it alike it decides nothing, and need not be known for the order (`priced` False)."""
        priced = priced or not self._count_prices_alike()
        stamp = (self.benches.slots.keys[bench], self.lines.slots.logged, self._pricings if priced else 0)
        kept = self._lines_for if priced else self._lines_alike
        known = kept.get(bench)
        if known is None or known[0] != stamp:
            profile = self.benches.profile.item(bench)
            fit = self.fit_of_profile.row(profile)
            price = self._price_by_slot().item(profile) if priced and self.lines.scarcity_seconds.any() else 0.0
            known = (stamp, self.lines.suitability(stamp[0], fit, price))
            _remember(kept, bench, known)
        return known[1]

    def _count_prices_alike(self) -> bool:
        logged = self.lines.slots.logged
        if self._alike[0] != logged:
            counts = self.lines.scarcity_seconds[: len(self.lines.slots.keys)]
            self._alike = (logged, bool((counts == counts[:1]).all()))
        return self._alike[1]

    def benches_for(self, line: int) -> np.ndarray:
        """How suitable each bench is for who waits in this line; -inf = not."""
        key = self.lines.slots.keys[line]
        stamp = (key, self.benches.slots.logged, self._pricings if key.terms.scarcity_seconds else 0)
        known = self._benches_for.get(line)
        if known is None or known[0] != stamp:
            fit = self.fit_of_need.row(self.lines.need.item(line))
            prices = self._price_by_slot() if key.terms.scarcity_seconds else np.zeros(self.staff.profiles.capacity)
            known = (stamp, self.benches.suitability(key, fit, prices))
            _remember(self._benches_for, line, known)
        return known[1]

    def may(self, seat: Seat, waiting: Waiting) -> bool:
        """Whether this agent, who has not passed on it, suits a contact in a line."""
        if seat.id in waiting.passed or waiting.need.channel not in seat.room:
            return False
        _, _, bench = self.seats[seat.id]
        return self.able_lines(bench).item(self.waiting[waiting.id][1]) > -math.inf

    def pair(self, waiting: Waiting, seat: Seat) -> Pair:
        profile = self.seats[seat.id][1]
        line = self.waiting[waiting.id][1]
        fit = seat.profile.fit(waiting.need) if line < 0 else self.fit_of_profile.row(profile).item(self.lines.need.item(line))
        price = self._price_by_slot().item(profile)
        name = self.staff.name(profile)
        return Pair(waiting.id, waiting.since, waiting.terms, seat.id, name, fit, price, seat.load, seat.idle_since, seat.profile.scores)

    def agent_for(self, waiting: Waiting, now: float) -> Seat | None:
        """The best of those who have not passed on it."""
        if not waiting.passed:
            free = np.flatnonzero(self.able_benches(self.waiting[waiting.id][1]) + self.benches.shut > -math.inf)
            if len(free) < 2:  # nothing to weigh
                return self.first_seat(free.item(0)) if len(free) else None
        scores = self._agent_scores(waiting, now)
        if waiting.passed:
            pair = next(self.agents(waiting, scores, now, len(scores)), None)
            return self.seats[pair.agent][0] if pair else None
        bench = self.benches.first(scores)
        return None if bench is None else self.first_seat(bench)

    def contact_for(self, seat: Seat, now: float) -> Waiting | None:
        """The most overdue, or else the best, of those whom this agent has not passed on."""
        scores, overdue = self._contact_scores(seat, now, priced=False)
        line = None if overdue is None else self.lines.first(overdue)
        if line is None:
            line = self.lines.first(scores)
        return None if line is None else self.head(line)

    def rank_agents(self, waiting: Waiting, now: float, wanted: int) -> Ranked:
        scores = self._agent_scores(waiting, now)
        candidates = int(self.benches.size[scores > -math.inf].sum())
        for agent in waiting.passed:
            seat, _, bench = self.seats.get(agent, (None, -1, -1))
            candidates -= seat is not None and bench >= 0 and suits(seat, waiting)
        pairs = self.agents(waiting, scores, now, len(scores) if waiting.passed else wanted + 1)
        return first_of(pairs, candidates, wanted, now)

    def rank_contacts(self, seat: Seat, now: float, wanted: int) -> Ranked:
        scores, overdue = self._contact_scores(seat, now)
        candidates = int(self.lines.size[scores > -math.inf].sum())
        return first_of(self._contacts(seat, scores, overdue, now, wanted + 1), candidates, wanted, now)

    def agents(self, waiting: Waiting, scores: np.ndarray | None, now: float, wanted: int) -> Iterator[Pair]:
        """Those who have not passed on it, the best first; at least as many as wanted, if there are."""
        if scores is None:
            scores = self._agent_scores(waiting, now)
        fit = self.fit_of_need.row(self.lines.need.item(self.waiting[waiting.id][1]))
        price = self._price_by_slot()
        contact, since, terms = waiting.id, waiting.since, waiting.terms

        def pair_of(agent: str) -> Pair:
            seat, profile, _ = self.seats[agent]
            name = self.staff.name(profile)
            worth = fit.item(profile), price.item(profile)
            return Pair(contact, since, terms, agent, name, *worth, seat.load, seat.idle_since, seat.profile.scores)

        pairs = _merge(_highest(scores, wanted), scores, None, self.benches.places, pair_of, now)
        return (pair for pair in pairs if pair.agent not in waiting.passed) if waiting.passed else pairs

    def _contacts(self, seat: Seat, scores: np.ndarray, overdue: np.ndarray | None, now: float, wanted: int) -> Iterator[Pair]:
        lines = set(_highest(scores, wanted))
        if overdue is not None:
            lines.update(_highest(overdue, wanted))
        profile = self.seats[seat.id][1]
        fit, price, name = self.fit_of_profile.row(profile), self._price_by_slot().item(profile), self.staff.name(profile)
        agent, load, idle_since = seat.id, seat.load, seat.idle_since

        def pair_of(contact: str) -> Pair:
            waiting, line = self.waiting[contact]
            fits = fit.item(self.lines.need.item(line))
            return Pair(contact, waiting.since, waiting.terms, agent, name, fits, price, load, idle_since, seat.profile.scores)

        return _merge(list(lines), scores, overdue, self.lines.places, pair_of, now)

    def _agent_scores(self, waiting: Waiting, now: float) -> np.ndarray:
        return self.benches.scores(waiting, self.benches_for(self.waiting[waiting.id][1]), now)

    def _contact_scores(self, seat: Seat, now: float, priced: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """By line the worth of its head, and how much it is overdue, if any is; -inf where there is nobody for this agent."""
        waited = self.lines.waited(now)
        scores = self.lines.scores(self.lines_for(self.seats[seat.id][2], priced), waited, max(0.0, now - seat.idle_since))
        for contact in self.passers.get(seat.id, ()):
            scores[self.waiting[contact][1]] = -math.inf
        overdue = waited - self.lines.bound
        if overdue.max() < 0.0:
            return scores, None
        overdue[(scores == -math.inf) | (overdue < 0.0)] = -math.inf
        return scores, overdue

    @property
    def prices(self) -> dict[Profile, float]:
        if self._find_prices is not None:
            self._prices, self._find_prices = self._find_prices(), None
        return self._prices

    def price(self, prices: Mapping[Profile, float]) -> None:
        self.price_by(lambda: dict(prices))

    def price_by(self, find: Callable[[], dict[Profile, float]]) -> None:
        """Prices that hold from now on, worked out when first asked for: until the next pricing nobody may."""
        self._find_prices = find
        self._pricings += 1
        self._priced = -1

    def _price_by_slot(self) -> np.ndarray:
        profiles = self.staff.profiles
        if self._priced != profiles.logged:
            self._price = np.zeros(profiles.capacity)
            prices = self.prices
            self._price[: len(profiles.keys)] = [prices.get(profile, 0.0) for profile in profiles.keys]
            self._priced = profiles.logged
        return self._price


def suits(seat: Seat, waiting: Waiting) -> bool:
    return waiting.need.channel in seat.room and seat.profile.objection(waiting.need) is None


def first_of(pairs: Iterator[Pair], candidates: int, wanted: int, now: float) -> Ranked:
    shown = [pair for _, pair in zip(range(wanted), pairs, strict=False)]
    following = next(pairs, None) if candidates > len(shown) else None
    return Ranked(shown, candidates - len(shown), following.total(now) if following else None)


def _fit(profile: Profile, need: Need) -> float:
    return -1.0 if profile.objection(need) is not None else profile.fit(need)


def _remember(rows: dict[int, Any], slot: int, row: tuple[Any, np.ndarray]) -> None:
    if len(rows) * len(row[1]) > CELLS:
        rows.clear()
    rows[slot] = row


def _discard(books: dict[str, dict[str, Any]], owner: str, contact: str) -> None:
    books[owner].pop(contact, None)
    if not books[owner]:
        del books[owner]


def _highest(scores: np.ndarray, wanted: int) -> list[int]:
    """Slots of the highest scores above -inf, in no order."""
    some = np.flatnonzero(scores > -math.inf)
    if len(some) > wanted:
        some = some[np.argpartition(-scores[some], wanted - 1)[:wanted]]
    return some.tolist()


def _merge(
    slots: list[int],
    scores: np.ndarray,
    overdue: np.ndarray | None,
    places: list[Ordered],
    pair_of: Callable[[str], Pair],
    now: float,
) -> Iterator[Pair]:
    """All pairs in these lines or on these benches, by rank; they are made only as they are asked for."""
    late = [math.inf] * len(slots) if overdue is None else [-one if one >= 0 else math.inf for one in overdue[slots].tolist()]
    heap: list[tuple[float, float, tuple[float, str], int, int, Pair | None]] = [
        (min(over, 1.0), -score, places[slot][0], slot, 0, None)
        for slot, score, over in zip(slots, scores[slots].tolist(), late, strict=True)
    ]
    heapq.heapify(heap)
    while heap:
        _, _, place, slot, index, pair = heap[0]
        yield pair or pair_of(place[1])
        if index + 1 < len(places[slot]):
            place = places[slot][index + 1]
            pair = pair_of(place[1])
            heapq.heapreplace(heap, (*pair.rank(now)[:2], place, slot, index + 1, pair))
        else:
            heapq.heappop(heap)
