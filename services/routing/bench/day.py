"""A centre's busy hour with a burst in it: what callers and agents do, and what is to be told of how they were served.

Pure: who drives it passes the moments in (seconds of one monotonic clock), does what is asked for, and says what was heard. Arrivals are
Poisson; conversations and patience are exponential, so that the rest of one under way is drawn as a new one is.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from typing import Any, Protocol

AT_ONCE = 40
"""So many arrivals are under way at a time while the centre fills."""
SAMPLE_SECONDS = 1.0
HEARD = (
    "contact_queued", "offer_made", "offer_expired", "offer_withdrawn", "contact_assigned", "contact_abandoned", "contact_completed",
    "contact_wrapped_up",
)  # fmt: skip


class Centre(Protocol):
    """What callers and agents do. What comes of it is heard by `Day.hear` later."""

    def arrive(self, call: str) -> None: ...
    def hang_up(self, call: str, answered: bool) -> None: ...
    def ask_position(self, call: str) -> None: ...
    def accept(self, offer: str, agent: str) -> None: ...
    def make_available(self, agent: str) -> None: ...


@dataclass
class Caller:
    """`stage`: told, waiting, offered, talking, ending, wrapping, leaving, over."""

    arrived: float
    stage: str = "told"
    assigned: int = 0


@dataclass
class Figures:
    """Of one stretch of the day; durations in seconds."""

    rate: float
    began: float
    ended: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    took: dict[str, list[float]] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def note(self, what: str, seconds: float) -> None:
        self.took.setdefault(what, []).append(seconds)

    def told(self, agents: int) -> dict[str, Any]:
        return {
            "seconds": round(self.ended - self.began, 1),
            "rate": self.rate,
            **{name: self.counts[name] for name in ("arrived", "answered", "hung_up")},
            "occupancy": round(sum(self.busy) / len(self.busy) / agents, 3) if self.busy else None,
            "longest_queue": max(self.waiting, default=0),
            "waiting_at_end": self.waiting[-1] if self.waiting else 0,
            **{
                f"{what}_p{round(100 * share)}_ms": milliseconds(took, share)
                for what, took in sorted(self.took.items())
                for share in (0.5, 0.99)
            },
        }


class Day:
    """`talk`: mean seconds of a conversation with what follows it; `patience`: mean seconds until a caller who waits hangs up, inf: never;
    `announce`: seconds between two questions of a waiting caller for their position, inf: never."""

    def __init__(self, centre: Centre, agents: int, talk: float, patience: float, announce: float, random: Random) -> None:
        self.centre, self.agents, self.talk, self.patience, self.announce = centre, agents, talk, patience, announce
        self.random = random
        self.callers: dict[str, Caller] = {}
        self.in_line: set[str] = set()
        self.busy: dict[str, str] = {}
        self.free_since: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.now = 0.0
        self.figures = Figures(0.0, 0.0)
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = count()
        self._held: deque[str] | None = deque()
        self._epoch = 0

    # What is done

    def fill(self, talking: int) -> bool:
        """To be called again and again until true: so many are in conversation, which do not end before `begin`."""
        at_it = sum(self.callers[call].stage in ("told", "waiting", "offered") for call in list(self.callers)[-2 * AT_ONCE :])
        for _ in range(min(AT_ONCE - at_it, talking - len(self.callers))):
            self._arrive()
        return len(self._held or ()) >= talking

    def begin(self, now: float, rate: float) -> Figures:
        """The next stretch: so many arrivals a second from now on. Returns the figures of the one before."""
        before, self.figures = self.figures, Figures(rate, now)
        before.ended = now
        held, self._held = self._held or (), None
        for call in held:
            self._at(now + self._drawn(self.talk), self._ends(call))
        self._epoch += 1
        if rate:
            self._next_arrival(now, rate, self._epoch)
        if self._epoch == 1:
            self._sample(now)
        return before

    def stop(self, now: float) -> Figures:
        """Nothing happens any more; what is under way is still heard of. Returns the figures of the last stretch."""
        before = self.begin(now, 0.0)
        self._due.clear()
        return before

    def step(self, now: float) -> float:
        """Do what is due. Returns when the next is."""
        self.now = now
        while self._due and self._due[0][0] <= now:
            at, _, do = heapq.heappop(self._due)
            self.figures.note("bench_late", now - at)
            do(at)
        return self._due[0][0] if self._due else inf

    # What is heard

    def hear(self, what: str, call: str, data: Mapping[str, Any], now: float) -> None:
        """`what`: one of HEARD, as routing announces it."""
        self.now = now
        if (caller := self.callers.get(call)) is None:
            return
        match what:
            case "contact_queued":
                caller.stage = "waiting"
                self.in_line.add(call)
                self.figures.note("queued", now - caller.arrived)
                self._at(now + self._drawn(self.patience), self._loses_patience(call))
                self._at(now + self.announce * self.random.random(), self._asks(call))
            case "offer_made":
                self._offered(call, caller, data)
            case "offer_expired" | "offer_withdrawn":
                self.counts["missed"] += what == "offer_expired"
                self._free(data["agent"])
                if caller.stage == "offered":
                    caller.stage = "waiting"
                    self.in_line.add(call)
            case "contact_assigned":
                caller.assigned += 1
                self.counts["twice"] += caller.assigned > 1
                if caller.stage == "offered":
                    caller.stage = "talking"
                    self.figures.counts["answered"] += 1
                    self.figures.note("waited", now - caller.arrived)
                    if self._held is not None:
                        self._held.append(call)
                    else:
                        self._at(now + self._drawn(self.talk), self._ends(call))
            case "contact_abandoned":
                caller.stage = "over"
                self.figures.counts["hung_up"] += 1
            case "contact_completed":
                caller.stage = "wrapping"
                self._free(data["agent"])
                self.centre.make_available(data["agent"])
            case "contact_wrapped_up":
                caller.stage = "over"

    def answered(self, command: str, seconds: float, refused: str = "") -> None:
        """A command was answered. How fast one is refused makes no figure better."""
        if refused:
            self.refused[f"{command}: {refused}"] += 1
        else:
            self.figures.note(command, seconds)

    # What is to be told

    @property
    def under_way(self) -> int:
        """Callers of whom something was told whose effect has not been heard of."""
        return sum(one.stage not in ("waiting", "talking", "over") for one in self.callers.values())

    def outcome(self) -> dict[str, Any]:
        """After `stop`, when nothing is under way or has been waited for in vain."""
        stages = Counter(one.stage for one in self.callers.values())
        return {
            "left": {"waiting": stages["waiting"], "talking": stages["talking"]},
            "lost": self.under_way,
            "twice": self.counts["twice"],
            "idle_while_waiting": min(stages["waiting"], self.agents - len(self.busy)),
            "missed": self.counts["missed"],
            "refused": dict(self.refused),
        }

    # Callers and agents

    def _arrive(self) -> None:
        call = f"call{len(self.callers)}"
        self.callers[call] = Caller(self.now)
        self.figures.counts["arrived"] += 1
        self.centre.arrive(call)

    def _next_arrival(self, after: float, rate: float, epoch: int) -> None:
        def arrives(at: float) -> None:
            if epoch == self._epoch:
                self._arrive()
                self._next_arrival(at, rate, epoch)

        self._at(after + self.random.expovariate(rate), arrives)

    def _offered(self, call: str, caller: Caller, data: Mapping[str, Any]) -> None:
        agent = data["agent"]
        self.counts["twice"] += self.busy.get(agent, call) != call
        self.busy[agent] = call
        if caller.stage in ("told", "waiting"):
            caller.stage = "offered"
            self.in_line.discard(call)
            self.figures.note("offer", self.now - max(caller.arrived, self.free_since.get(agent, -inf)))
        self.centre.accept(data["offer"], agent)

    def _free(self, agent: str) -> None:
        self.busy.pop(agent, None)
        self.free_since[agent] = self.now

    def _ends(self, call: str) -> Callable[[float], None]:
        def ends(_at: float) -> None:
            self.callers[call].stage = "ending"
            self.centre.hang_up(call, True)

        return ends

    def _loses_patience(self, call: str) -> Callable[[float], None]:
        def leaves(_at: float) -> None:
            if call in self.in_line:
                self.in_line.remove(call)
                self.callers[call].stage = "leaving"
                self.centre.hang_up(call, False)

        return leaves

    def _asks(self, call: str) -> Callable[[float], None]:
        def asks(at: float) -> None:
            if call in self.in_line:
                self.centre.ask_position(call)
                self._at(at + self.announce, asks)

        return asks

    def _sample(self, at: float) -> None:
        self.figures.busy.append(len(self.busy))
        self.figures.waiting.append(len(self.in_line))
        self._at(at + SAMPLE_SECONDS, self._sample)

    def _drawn(self, mean: float) -> float:
        return self.random.expovariate(1 / mean) if mean < inf else inf

    def _at(self, when: float, do: Callable[[float], None]) -> None:
        if when < inf:
            heapq.heappush(self._due, (when, next(self._serial), do))


def milliseconds(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
