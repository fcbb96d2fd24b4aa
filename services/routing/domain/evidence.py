"""Evidence across contacts that a leg, open by what its own call told, cannot be open any more."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CLOCK_SECONDS = 1.0
OVERTAKEN_SECONDS = 600.0
SILENCE_SECONDS = 1800.0
BEYOND_BELIEF_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class LegFacts:
    """Instants are epoch seconds UTC of one source's clock; None = not (yet) known. `position` is that on entry, from 1."""

    contact: str
    leg: int
    queue: str
    agent: str | None = None
    position: int | None = None
    arrived_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is to be said against an open leg. `over`: it cannot be open any more, and is not counted as such."""

    why: str
    over: bool


def since(leg: LegFacts) -> float | None:
    """Since when it has stood as it stands: answered, or waiting. None: nobody has told yet."""
    return leg.arrived_at if leg.answered_at is None else leg.answered_at


def is_believable(leg: LegFacts, news: float) -> bool:
    """Whether a leg that has not ended may still be open, for all that its own call told. `news`: the source's newest moment."""
    began = since(leg)
    return began is None or news - began <= BEYOND_BELIEF_SECONDS


def suspicions(
    legs: Iterable[LegFacts], now: float, news: float, last_answers: Mapping[str, float] | None = None
) -> dict[tuple[str, int], Suspicion]:
    """What is to be said against one source's open legs: others contradict them, they are open beyond belief, or the source has been
    silent (or its clock is far from ours), so that nobody would know of their end. `now` is epoch seconds UTC of our clock, `news` the
    newest moment that the source has told. `legs` are the open ones and the latest that left the queues in which somebody waits; `last_answers`
    tells the newest answer of agents (by name, or address) whose other legs are not among them."""
    legs = list(legs)
    found = {key: Suspicion(why, over=True) for key, why in contradictions(legs, last_answers).items()}
    for leg in legs:
        key = leg.contact, leg.leg
        if leg.ended_at is not None or since(leg) is None or key in found:
            continue
        if not is_believable(leg, news):
            found[key] = Suspicion("it has been open for more than a day", over=True)
        elif abs(now - news) > SILENCE_SECONDS:
            found[key] = Suspicion("its source has told nothing since", over=False)
    return found


def contradictions(legs: Iterable[LegFacts], last_answers: Mapping[str, float] | None = None) -> dict[tuple[str, int], str]:
    """Open legs of one source that the source's other legs (and what else is known of its agents' newest answers) contradict, each with
    the reason.

    The rule. A *talking* leg (answered, not ended) is contradicted once its agent has answered another call later: a PBX offers no
    second call to a busy agent (ringinuse=no; where a queue allows it, don't ask). A *waiting* leg (neither answered nor ended) is
    contradicted when a later caller entered the same queue at position p while p-1 other callers are known to have stood before
    him, since they left or were answered afterwards: no place is left for the open one; for p = 1 nobody else needs to be known.
    This holds where nobody jumps the queue; a queue in which somebody entered *before* a caller known to be waiting (position p
    with p or more known before him) has priorities, and is left alone. Where no positions are told, a waiting leg is contradicted when a
    caller who arrived 600 s later has been answered. Instants closer than one second count as simultaneous and prove nothing.
    """
    by_queue: dict[str, list[LegFacts]] = defaultdict(list)
    last_answer = dict(last_answers or {})
    for leg in legs:
        by_queue[leg.queue].append(leg)
        if (who := leg.agent or leg.address) and leg.answered_at is not None:
            last_answer[who] = max(leg.answered_at, last_answer.get(who, leg.answered_at))
    found: dict[tuple[str, int], str] = {}
    for of_queue in by_queue.values():
        for leg in of_queue:
            talking_since = leg.answered_at if leg.ended_at is None else None
            if talking_since is not None and leg.agent and last_answer.get(leg.agent, 0.0) > talking_since:
                found[leg.contact, leg.leg] = "its agent has answered another call since"
        for leg in _cannot_wait(of_queue):
            found[leg.contact, leg.leg] = "later callers of its queue stood before it"
    return found


def _cannot_wait(legs: Sequence[LegFacts]) -> list[LegFacts]:
    waiting = [leg for leg in legs if leg.answered_at is None and leg.ended_at is None and leg.arrived_at is not None]
    if not waiting:
        return []
    stood = _Stood(legs)
    entries = [(leg.arrived_at, leg.position - 1 - stood.at(leg.arrived_at)) for leg in legs if leg.position and leg.arrived_at]
    if any(free < 0 for _, free in entries):
        return []
    last_full = max((at for at, free in entries if free == 0), default=0.0)
    last_served = max((leg.arrived_at for leg in legs if leg.answered_at is not None and leg.arrived_at is not None), default=0.0)
    return [
        leg
        for leg in waiting
        if leg.arrived_at is not None and (last_full > leg.arrived_at + CLOCK_SECONDS or last_served > leg.arrived_at + OVERTAKEN_SECONDS)
    ]


class _Stood:
    """How many callers certainly stood in the queue at a moment, for many moments: by bisection, since a day has thousands."""

    def __init__(self, legs: Iterable[LegFacts]) -> None:
        stays = []
        for leg in legs:
            left = leg.answered_at if leg.answered_at is not None else leg.ended_at
            if leg.arrived_at is not None and left is not None:
                stays.append((leg.arrived_at, max(left, leg.arrived_at)))
        self._stays = sorted(stays)
        self._arrived = [arrived for arrived, _ in self._stays]
        self._left = sorted(left for _, left in self._stays)

    def at(self, moment: float) -> int:
        before, after = moment - CLOCK_SECONDS, moment + CLOCK_SECONDS
        came_before, came_until = bisect_left(self._arrived, before), bisect_right(self._arrived, after)
        gone = bisect_right(self._left, after)
        gone_of_the_last = sum(left <= after for _, left in self._stays[came_before:came_until])
        return came_before - (gone - gone_of_the_last)
