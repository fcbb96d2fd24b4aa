"""All agents by profile: how many are in which state, and why each of them can or cannot be asked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import TypedDict

import numpy as np

from .needs import Need, Profile, Seat
from .slots import Slots

AWAY = frozenset({"offline", "unknown"})
REMEMBERED = 300_000  # profiles × needs
TOLD_APART = 1000  # profiles in one record; the smallest beyond them are counted by reason alone

CANDIDATE, PASSED, NO_ROOM = "candidate", "passed on it before", "no room"


class Counted(TypedDict):
    profile: str
    reason: str
    agents: int


def fingerprint(profile: Profile) -> str:
    """A short name for a profile, the same in every process."""
    parts = [sorted(part) if isinstance(part, frozenset) else part for part in profile]
    return hashlib.blake2s(repr(parts).encode(), digest_size=4).hexdigest()


class Staff:
    def __init__(self, profiles: Slots[Profile]) -> None:
        self.profiles = profiles
        self.signed_in = np.zeros(64)  # heads by slot of profiles
        self.sign_ins = 0  # changes of that vector
        self._states: dict[int, dict[tuple[str, frozenset[str]], int]] = {}
        self._told: dict[int, dict[str, list[Counted]]] = {}  # slot -> channel
        self._names: dict[int, tuple[Profile, str]] = {}
        self._strength = 0  # changes of anybody's profile
        self._objections: dict[Need, tuple[int, list[Counted], list[int]]] = {}
        self._remembered = 0

    def join(self, seat: Seat) -> int:
        slot, _, _ = self.profiles.take(seat.profile)
        if slot >= len(self.signed_in):
            self.signed_in = np.concatenate([self.signed_in, np.zeros(self.profiles.capacity - len(self.signed_in))])
        self._states.setdefault(slot, {})
        self._strength += 1
        self._count(slot, seat, 1)
        if seat.state not in AWAY:
            self._sign_in(slot, 1)
        return slot

    def leave(self, slot: int, seat: Seat) -> None:
        self._count(slot, seat, -1)
        if seat.state not in AWAY:
            self._sign_in(slot, -1)
        self._strength += 1
        if not self._states[slot]:
            del self._states[slot]
        self.profiles.drop(slot)

    def change(self, slot: int, old: Seat, new: Seat) -> None:
        """Another state or room, the same profile."""
        if old.state != new.state or old.room != new.room:
            self._count(slot, old, -1)
            self._count(slot, new, 1)
            came = (new.state not in AWAY) - (old.state not in AWAY)
            if came:
                self._sign_in(slot, came)

    def name(self, slot: int) -> str:
        profile = self.profiles.keys[slot]
        known = self._names.get(slot)
        if known is None or known[0] is not profile:
            known = self._names[slot] = (profile, fingerprint(profile))
        return known[1]

    def pool(self, need: Need, barred: Iterable[int], kept_for: tuple[str, int] | None) -> list[Counted]:
        """Every agent counted once, by profile and reason.

        barred: the profile of each agent with room who is not asked because they passed; kept_for: the only agent who may be
        asked, and their profile. The list is the caller's, what stands in it is shared: read only.
        """
        excluded, able = self._compare(need)
        passed = Counter(barred)
        counted = list(excluded)
        for slot in able:
            if kept_for or slot in passed:
                own = kept_for is not None and kept_for[1] == slot
                counted += self._with_exceptions(slot, need.channel, passed[slot], kept_for and kept_for[0], own)
            else:
                counted += self._by_state(slot, need.channel)
        return counted if len(counted) <= TOLD_APART else _shorten(counted)

    def _by_state(self, slot: int, channel: str) -> list[Counted]:
        """Those of a profile that suits: candidates, and why the others are none."""
        known = self._told.setdefault(slot, {})
        counted = known.get(channel)
        if counted is None:
            name, reasons = self.name(slot), Counter[str]()
            for (state, room), agents in self._states[slot].items():
                reasons[CANDIDATE if channel in room else NO_ROOM if state == "available" else state] += agents
            counted = known[channel] = [Counted(profile=name, reason=reason, agents=agents) for reason, agents in reasons.items()]
        return counted

    def _with_exceptions(self, slot: int, channel: str, passed: int, kept_for: str | None, own: bool) -> list[Counted]:
        reasons = {one["reason"]: one["agents"] for one in self._by_state(slot, channel)}
        free = reasons.pop(CANDIDATE, 0) - passed
        candidates = int(own) if kept_for else free
        reasons |= {CANDIDATE: candidates, PASSED: passed, f"kept for {kept_for}": free - candidates}
        return [Counted(profile=self.name(slot), reason=reason, agents=agents) for reason, agents in reasons.items() if agents]

    def present(self) -> list[int]:
        """Slots of the profiles of those signed in."""
        return [slot for slot in self._states if self.signed_in[slot] > 0]

    def _count(self, slot: int, seat: Seat, agents: int) -> None:
        self._told.pop(slot, None)
        states = self._states[slot]
        key = (seat.state, seat.room)
        count = states.get(key, 0) + agents
        if count:
            states[key] = count
        else:
            del states[key]

    def _sign_in(self, slot: int, agents: int) -> None:
        self.signed_in[slot] += agents
        self.sign_ins += 1

    def _compare(self, need: Need) -> tuple[list[Counted], list[int]]:
        """Who objects, ready to be told, and the profiles that do not."""
        known = self._objections.get(need)
        if known and known[0] == self._strength:
            return known[1], known[2]
        self._remembered += len(self._states)
        if self._remembered > REMEMBERED:
            self._objections.clear()
            self._remembered = len(self._states)
        excluded, able = [], []
        for slot, states in self._states.items():
            reason = self.profiles.keys[slot].objection(need)
            if reason is None:
                able.append(slot)
            else:
                excluded.append(Counted(profile=self.name(slot), reason=reason, agents=sum(states.values())))
        self._objections[need] = (self._strength, excluded, able)
        return excluded, able


def _shorten(counted: list[Counted]) -> list[Counted]:
    counted.sort(key=lambda one: -one["agents"])
    rest: Counter[str] = Counter()
    for one in counted[TOLD_APART:]:
        rest[one["reason"]] += one["agents"]
    return counted[:TOLD_APART] + [Counted(profile="", reason=reason, agents=agents) for reason, agents in rest.items()]
