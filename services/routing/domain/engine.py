"""The decision: who gets whom, so that the most waiting is spared, nobody waits beyond the bound, and everything can be explained.

Lines of contacts and benches of agents are compared head by head in vectors; what was compared is remembered until it changes.
The engine looks only at what changed since it last looked: a line that somebody joined, a bench on which somebody sat down.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import record, scarcity
from .floor import Floor, Ranked, first_of, suits
from .needs import Need, Pair, Profile, Seat, Waiting, assign, urgency
from .standing import Overlaps, Standing, overlooked

HEADS = 32  # of each side in a joint assignment
LOOKS = 512  # lines tried in vain in one call
STALE = 8  # lines tried in vain after a decision, before those worth trying are found anew
FEW = 4  # lines or benches looked at one by one, to see whether they need a look of their own


class Decision(NamedTuple):
    contact: str
    agent: str
    record: dict[str, Any]  # empty unless asked for


class Engine:
    """Decides over its books. Contacts and agents are taken out by a decision; the caller puts them in again."""

    def __init__(self) -> None:
        self.floor = Floor()
        self._demand = scarcity.Demand()
        self._present: tuple[int, list[int], list[Profile], np.ndarray] = (-1, [], [], np.zeros(0))  # as of so many sign-ins
        self._overlaps = Overlaps(self.floor)

    def __len__(self) -> int:
        """Contacts that wait."""
        return len(self.floor.waiting)

    @property
    def pending(self) -> bool:
        floor = self.floor
        return bool(floor.new_lines or floor.new_benches or floor.new_personal or floor.again)

    @property
    def prices(self) -> dict[Profile, float]:
        """Of each group of agents, 0 to 1; a group not yet priced costs nothing."""
        return self.floor.prices

    @prices.setter
    def prices(self, prices: dict[Profile, float]) -> None:
        self.floor.price(prices)

    def put_contact(self, waiting: Waiting) -> None:
        """Take a contact in, or in its new state: it is looked at (again) at the next decision."""
        self.floor.put_contact(waiting)

    def remove_contact(self, contact_id: str) -> None:
        self.floor.remove_contact(contact_id)

    def put_agent(self, seat: Seat) -> None:
        """Take an agent in, or in their new state."""
        self.floor.put_agent(seat)

    def remove_agent(self, agent_id: str) -> None:
        self.floor.remove_agent(agent_id)

    def standing(self, contact_id: str, now: float) -> Standing:
        """Where a waiting contact stands. Raises KeyError for one that does not wait."""
        return self._overlaps.standing(contact_id, now)

    def overlooked(self, now: float) -> list[str]:
        """Who waits although somebody with room suits them: nobody, once `pending` is over."""
        return [] if self.pending else overlooked(self.floor, now)

    # Scarcity

    def observe_arrival(self, need: Need, now: float) -> None:
        self._demand.arrival(need, now)

    def observe_service(self, need: Need, seconds: float) -> None:
        """How long an agent was taken up by a contact with this need, wrap-up included."""
        self._demand.service(need, seconds)

    def reprice(self, now: float) -> None:
        """Price the agents' groups anew by the demand of the last half hour. It is worked out when a decision asks for it."""
        demand, staff = self._demand.erlangs(now), self.floor.staff
        if self._present[0] != staff.sign_ins:
            slots = staff.present()
            self._present = (staff.sign_ins, slots, [staff.profiles.keys[slot] for slot in slots], staff.signed_in[slots])
        _, slots, profiles, heads = self._present

        def find() -> dict[Profile, float]:
            return dict(zip(profiles, scarcity.prices(demand, heads, self._fits(demand, slots)).tolist(), strict=True))

        self.floor.price_by(find)

    def _fits(self, demand: dict[Need, float], slots: list[int]) -> dict[Need, np.ndarray]:
        """By need whether each of these profiles meets it; what was never compared is, a bounded number of pairs at a time."""
        fits: dict[Need, np.ndarray] = {}
        compared = 0
        for need in scarcity.most(demand, len(slots)):
            slot = self.floor.lines.needs.keep(need)
            if not self.floor.fit_of_need.known(slot):
                if compared and compared + len(slots) > scarcity.COMPARED:
                    continue  # its turn is at the next pricing
                compared += len(slots)
            fits[need] = self.floor.fit_of_need.row(slot)[slots] >= 0.0
        return fits

    # Decisions

    def decide(self, now: float, limit: int = 64, explain: bool = True) -> list[Decision]:
        """Up to `limit` decisions; `pending` tells whether there may be more.

        Whoever is most overdue goes first, whatever their worth; then the best agent for one contact, the best contact for one
        agent, and where both are many a joint assignment of the most urgent to their best. A contact and its agent's room are
        out of the books with the decision.
        """
        made: list[Decision] = []
        looks = [LOOKS]
        while len(made) < limit and self.pending:
            room = limit - len(made)
            step = self._decide_personal(now, explain) or self._decide_lines(now, room, looks, explain)
            if not step and looks[0] <= 0:
                break
            made += step or self._decide_again(now, explain)
        return made

    def _decide_lines(self, now: float, limit: int, looks: list[int], explain: bool) -> list[Decision]:
        """One step among those in lines; none means that nobody new suits anybody, unless the looks are used up."""
        floor = self.floor
        self._forget_the_settled()
        if not floor.new_lines and not floor.new_benches:
            return []
        line, bench = _only(floor.new_lines), _only(floor.new_benches)
        if line is not None and not floor.new_benches and len(floor.lines.places[line]) == 1:
            step = self._best_agent(floor.head(line), now, explain)
        elif bench is not None and not floor.new_lines and len(floor.benches.places[bench]) == 1:
            step = self._best_contact(floor.first_seat(bench), now, explain)
        else:
            step = self._decide_many(now, limit, looks, explain)
        if not step and looks[0] > 0:
            floor.new_lines.clear()
            floor.new_benches.clear()
        return step

    def _forget_the_settled(self) -> None:
        """Lines and benches that emptied, and those which only the new of the other side suit: these are looked at with them."""
        floor = self.floor
        lines, benches = floor.new_lines, floor.new_benches
        for bench in [bench for bench in benches if not floor.benches.places[bench]]:
            del benches[bench]
        for line in [line for line in lines if not floor.lines.places[line]]:
            del lines[line]
        if len(lines) <= FEW:
            seated = list(benches)
            for line in list(lines):
                suitable = floor.able_benches(line) + floor.benches.shut
                suitable[seated] = -math.inf
                if suitable.max() == -math.inf:
                    del lines[line]
        if lines and len(benches) <= FEW:
            joined = list(lines)
            for bench in list(benches):
                suitable = floor.able_lines(bench) + floor.lines.shut
                suitable[joined] = -math.inf
                if suitable.max() == -math.inf:
                    del benches[bench]

    def _best_agent(self, waiting: Waiting, now: float, explain: bool) -> list[Decision]:
        ranked = None
        if explain:
            ranked = self.floor.rank_agents(waiting, now, record.RUNNERS_UP + 1)
            seat = self.floor.seats[ranked.pairs[0].agent][0] if ranked.pairs else None
        else:
            seat = self.floor.agent_for(waiting, now)
        return [self._give("best_agent", waiting, seat, now, ranked)] if seat else []

    def _best_contact(self, seat: Seat, now: float, explain: bool) -> list[Decision]:
        ranked = None
        if explain:
            ranked = self.floor.rank_contacts(seat, now, record.RUNNERS_UP + 1)
            waiting = self.floor.waiting[ranked.pairs[0].contact][0] if ranked.pairs else None
        else:
            waiting = self.floor.contact_for(seat, now)
        return [self._give("best_contact", waiting, seat, now, ranked)] if waiting else []

    def _decide_many(self, now: float, limit: int, looks: list[int], explain: bool) -> list[Decision]:
        lines = self.floor.lines
        hopeful = np.zeros(lines.capacity, dtype=bool)
        hopeful[list(self.floor.new_lines)] = True
        for bench in self.floor.new_benches:
            hopeful |= self.floor.able_lines(bench) > -math.inf
        hopeful &= lines.shut == 0.0
        made = self._decide_overdue(hopeful, now, limit, looks, explain)
        if made or looks[0] <= 0:
            return made
        return self._decide_jointly(hopeful, now, limit, looks, explain)

    def _decide_overdue(self, hopeful: np.ndarray, now: float, limit: int, looks: list[int], explain: bool) -> list[Decision]:
        """Each contact beyond its bound gets its best agent, the most overdue first."""
        lines, made, vain = self.floor.lines, list[Decision](), 0
        overdue = np.where(hopeful, lines.waited(now) - lines.bound, -math.inf)
        overdue[overdue < 0.0] = -math.inf
        while len(made) < limit and looks[0] > 0 and not (made and vain > STALE):
            line = lines.first(overdue)
            if line is None:
                break
            waiting = self.floor.head(line)
            step = self._best_agent(waiting, now, explain)
            made += step
            if not step:
                self._hopeless(line, looks)
                hopeful[line] = False
                vain += 1
            left = self.floor.head(line).overdue(now) if step and lines.places[line] else -math.inf
            overdue[line] = left if left >= 0.0 else -math.inf
        return made

    def _decide_jointly(self, hopeful: np.ndarray, now: float, limit: int, looks: list[int], explain: bool) -> list[Decision]:
        """The most urgent contacts each bring the best agent not yet brought; then all of these are assigned at once."""
        lines = self.floor.lines
        urgent = np.where(hopeful, lines.urgency(now), -math.inf)
        contacts: list[Waiting] = []
        seats: list[Seat] = []
        while len(contacts) < HEADS and looks[0] > 0:
            line = lines.first(urgent)
            if line is None:
                break
            waiting = self.floor.head(line)
            seat = self.floor.agent_for(waiting, now)
            if seat is not None:
                seats.append(seat)
                self.floor.benches.remove(self.floor.seats[seat.id][2], seat.place)
            elif not any(self.floor.may(one, waiting) for one in seats):
                self._hopeless(line, looks)
                urgent[line] = -math.inf
                continue
            contacts.append(waiting)
            lines.remove(line, waiting.place)
            urgent[line] = urgency(waiting.terms, self.floor.head(line).waited(now)) if lines.places[line] else -math.inf
        for waiting in contacts:
            lines.add(self.floor.waiting[waiting.id][1], waiting.place)
        for seat in seats:
            self.floor.benches.add(self.floor.seats[seat.id][2], seat.place)
        if not contacts:
            return []
        if len(contacts) == 1:
            return self._best_agent(contacts[0], now, explain)
        if len(seats) == 1:
            return self._best_contact(seats[0], now, explain)
        return self._assign(contacts, seats, now, limit, explain)

    def _assign(self, contacts: list[Waiting], seats: list[Seat], now: float, limit: int, explain: bool) -> list[Decision]:
        pairs = [[self.floor.pair(waiting, seat) if self.floor.may(seat, waiting) else None for seat in seats] for waiting in contacts]
        worth = np.array([[pair.total(now) if pair else -math.inf for pair in row] for row in pairs])
        decided = []
        heads = record.heads(pairs) if explain else None
        for row, column in assign(worth)[:limit]:
            chosen = pairs[row][column]
            ranked = self._rank_row(contacts[row], pairs[row], chosen, now) if explain and chosen else None
            decided.append((contacts[row], seats[column], ranked))
        return [self._give("joint", waiting, seat, now, ranked, heads) for waiting, seat, ranked in decided]

    def _rank_row(self, waiting: Waiting, row: list[Pair | None], chosen: Pair, now: float) -> Ranked:
        """The chosen of a joint assignment, the others among its heads who suit the contact, and who else did."""
        others = sorted((pair for pair in row if pair and pair is not chosen), key=lambda pair: pair.rank(now))
        shown = [chosen, *others[: record.RUNNERS_UP]]
        told = {pair.agent for pair in shown}
        further = self.floor.rank_agents(waiting, now, 0).further - len(told)
        left = (pair for pair in self.floor.agents(waiting, None, now, HEADS + 1) if pair.agent not in told)
        best = next(left, None) if further else None
        return Ranked(shown, further, best.total(now) if best else None)

    def _hopeless(self, line: int, looks: list[int]) -> None:
        if line in self.floor.new_lines:
            del self.floor.new_lines[line]
            looks[0] -= 1

    def _decide_personal(self, now: float, explain: bool) -> list[Decision]:
        """A contact for whom one agent only may be asked gets them when nobody in the lines deserves them more."""
        for agent in list(self.floor.new_personal):
            waiting = self._personal_for(agent, now)
            if waiting is None:
                del self.floor.new_personal[agent]
                continue
            seat = self.floor.seats[agent][0]
            rival = self.floor.contact_for(seat, now)
            own = self.floor.pair(waiting, seat)
            if rival is None or own.rank(now) < self.floor.pair(rival, seat).rank(now):
                ranked = Ranked([own], 0, None)
                if explain:
                    others = self.floor.rank_contacts(seat, now, record.RUNNERS_UP)
                    ranked = Ranked([own, *others.pairs], others.further, others.best)
                return [self._give("only", waiting, seat, now, ranked if explain else None)]
        return []

    def _personal_for(self, agent: str, now: float) -> Waiting | None:
        seat, _, bench = self.floor.seats.get(agent, (None, -1, -1))
        if seat is None or bench < 0:
            return None
        mine = [one for one in self.floor.personal.get(agent, {}).values() if one.passed.get(agent, now) <= now and suits(seat, one)]
        return min(mine, key=lambda one: self.floor.pair(one, seat).rank(now), default=None)

    def _decide_again(self, now: float, explain: bool) -> list[Decision]:
        """Whoever passed on a contact is asked again when their pause is over and nobody else is left."""
        floor = self.floor
        contacts = (floor.waiting[contact][0] for contact in floor.again)
        for waiting in sorted(contacts, key=lambda one: (-one.overdue(now), one.place)):
            known = [floor.seats[agent] for agent, at in waiting.passed.items() if at <= now and agent in floor.seats]
            pairs = [floor.pair(waiting, seat) for seat, _, bench in known if bench >= 0 and suits(seat, waiting)]
            if pairs:
                pairs.sort(key=lambda pair: pair.rank(now))
                ranked = first_of(iter(pairs), len(pairs), record.RUNNERS_UP + 1, now) if explain else None
                return [self._give("best_agent", waiting, floor.seats[pairs[0].agent][0], now, ranked)]
            del floor.again[waiting.id]
        return []

    def _give(
        self, rule: str, waiting: Waiting, seat: Seat, now: float, ranked: Ranked | None, heads: dict[str, Any] | None = None
    ) -> Decision:
        told = {}
        if ranked is not None:
            pool = self._pool(waiting, seat, now)
            told = record.record(rule, now, waiting, ranked.pairs, ranked.further, ranked.best, pool, heads)
        self.floor.remove_contact(waiting.id)
        self.floor.put_agent(seat._replace(state="offered", room=frozenset()))
        return Decision(waiting.id, seat.id, told)

    def _pool(self, waiting: Waiting, seat: Seat, now: float) -> list[Any]:
        floor = self.floor
        again = seat.id in waiting.passed
        passers = [(floor.seats[agent], at) for agent, at in waiting.passed.items() if agent in floor.seats]
        barred = [profile for (one, profile, _), at in passers if suits(one, waiting) and not (again and at <= now)]
        kept_for = (waiting.only, floor.seats[waiting.only][1]) if waiting.only else None
        return floor.staff.pool(waiting.need, barred, kept_for)


def _only(slots: dict[int, None]) -> int | None:
    return next(iter(slots)) if len(slots) == 1 else None
