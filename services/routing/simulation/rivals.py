"""How telephony systems distribute, as engines that a desk can have in the place of ours, to be compared with it.

Callers go in the order of their places, over all queues of the pool (a PBX serves each queue on its own and leaves to chance whose head gets
an agent of several queues: this is the kinder reading). Which of the free agents with the skill is asked is the strategy:
that of Asterisk's queue.conf (`rrmemory`, `fewestcalls`, `leastrecent`) and mod_callcenter's `longest-idle-agent`. As they do,
counts and turns are kept for each queue, since the system started. Nobody declines, and nothing is lost to polling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from services.routing.domain.engine import Decision
from services.routing.domain.needs import Need, Seat, Waiting
from services.routing.domain.standing import Standing

Order = Callable[[Waiting], tuple[Any, ...]]


def first_come(waiting: Waiting) -> tuple[Any, ...]:
    return waiting.place


def strict_priority(waiting: Waiting) -> tuple[Any, ...]:
    """The heaviest segment first, whatever the others have waited; in it, first come first served."""
    return (-waiting.terms.weight, *waiting.place)


def head_start(waiting: Waiting) -> tuple[Any, ...]:
    """First come first served, but some count as if they had come earlier."""
    return (waiting.since - waiting.terms.head_start, waiting.id)


class Rival:
    """An engine: see `domain.engine.Engine` for what each door does. `strategy` says which of the free agents is asked."""

    def __init__(self, strategy: str = "longest_idle", order: Order = first_come, pooled: bool = False) -> None:
        self.strategy, self.order, self.pooled = strategy, order, pooled
        self.waiting: dict[str, Waiting] = {}
        self.seats: dict[str, Seat] = {}
        self.prices: dict[Any, float] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        self.last: dict[tuple[str, str], int] = {}
        self.turn: dict[str, str] = {}  # by queue, who was asked last
        self._able: dict[tuple[Need, Any], bool] = {}
        self._news = False
        self._given = 0

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def pending(self) -> bool:
        return self._news

    def put_contact(self, waiting: Waiting) -> None:
        self.waiting[waiting.id] = waiting
        self._news = True

    def remove_contact(self, contact_id: str) -> None:
        self.waiting.pop(contact_id, None)

    def put_agent(self, seat: Seat) -> None:
        self.seats[seat.id] = seat
        self._news |= bool(seat.room)

    def remove_agent(self, agent_id: str) -> None:
        self.seats.pop(agent_id, None)

    def standing(self, _contact_id: str, _now: float) -> Standing:
        return Standing(1, 0.0, 0)

    def overlooked(self, _now: float) -> list[str]:
        return []

    def observe_arrival(self, need: Need, now: float) -> None:
        pass

    def observe_service(self, need: Need, seconds: float) -> None:
        pass

    def reprice(self, now: float) -> None:
        pass

    def decide(self, _now: float, limit: int = 64, _explain: bool = True) -> list[Decision]:
        made: list[Decision] = []
        free = {agent: seat for agent, seat in self.seats.items() if seat.room}
        if free and self.waiting:
            hopeless: set[Need] = set()
            for waiting in sorted(self.waiting.values(), key=self.order):
                if len(made) == limit or not free:
                    break
                if waiting.need in hopeless:
                    continue
                able = [seat for seat in free.values() if self._may(waiting.need, seat)]
                if not able:
                    hopeless.add(waiting.need)
                    continue
                seat = self._choose(waiting.need.queue, able)
                del free[seat.id], self.waiting[waiting.id]
                self.seats[seat.id] = seat._replace(state="offered", room=frozenset())
                made.append(Decision(waiting.id, seat.id, {}))
        self._news = len(made) == limit
        return made

    def _may(self, need: Need, seat: Seat) -> bool:
        if need.channel not in seat.room:
            return False
        if self.pooled:
            return True
        key = (need, seat.profile)
        known = self._able.get(key)
        if known is None:
            known = self._able[key] = seat.profile.objection(need) is None
        return known

    def _choose(self, queue: str, able: list[Seat]) -> Seat:
        longest_idle = min(able, key=lambda seat: seat.place)
        match self.strategy:
            case "round_robin":
                after = self.turn.get(queue, "")
                chosen = min(able, key=lambda seat: (seat.id <= after, seat.id))
                self.turn[queue] = chosen.id
            case "fewest_calls":
                chosen = min(able, key=lambda seat: (self.calls[queue, seat.id], seat.id))
            case "least_recent":
                chosen = min(able, key=lambda seat: (self.last.get((queue, seat.id), 0), seat.id))
            case _:
                chosen = longest_idle
        self._given += 1
        self.calls[queue, chosen.id] += 1
        self.last[queue, chosen.id] = self._given
        return chosen


RIVALS: Mapping[str, Callable[[], Rival]] = {
    "pooled-fcfs": partial(Rival, pooled=True),
    "strict-priority": partial(Rival, order=strict_priority),
    "longest-idle": Rival,
    "round-robin": partial(Rival, "round_robin"),
    "fewest-calls": partial(Rival, "fewest_calls"),
    "least-recent": partial(Rival, "least_recent"),
    "recorded": partial(Rival, order=head_start),
}
