"""Where a contact stands among those who compete for the same agents, for estimates of its wait."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .floor import Floor, suits
from .needs import Waiting, urgency
from .staff import AWAY

REMEMBERED = 1_000_000  # shares, 8 bytes each


class Standing(NamedTuple):
    position: int  # 1 = next
    ahead: float  # contacts that would be chosen earlier, each by the share of its agents that also suit this one
    servers: int  # agents signed in who suit it


def overlooked(floor: Floor, now: float, most: int = 2000) -> list[str]:
    """Contacts that wait although an agent with room suits them and no rule says otherwise: there should be none. Compared one by one,
    not by what decisions go by; at most so many comparisons."""
    found: list[str] = []
    seats = [floor.first_seat(slot) for slot, places in enumerate(floor.benches.places) if places]
    for slot, places in enumerate(floor.lines.places):
        if not places or not seats:
            continue
        waiting = floor.head(slot)
        most -= len(seats)
        if most < 0:
            break
        if any(suits(seat, waiting) and waiting.passed.get(seat.id, 0.0) <= now for seat in seats):
            found.append(waiting.id)
    return found


class Overlaps:
    """How far needs compete for the same agents, remembered until somebody signs in or out."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._overlaps: dict[int, tuple[tuple[int, int], np.ndarray]] = {}

    def standing(self, contact_id: str, now: float) -> Standing:
        """Of a waiting contact. Raises KeyError for one that does not wait."""
        waiting, line = self._floor.waiting[contact_id]
        if line < 0:
            before = sum(one.place < waiting.place for one in self._floor.personal[str(waiting.only)].values())
            seat = self._floor.seats.get(str(waiting.only))
            able = seat is not None and seat[0].state not in AWAY and seat[0].profile.objection(waiting.need) is None
            return Standing(before + 1, float(before), int(able))
        lines = self._floor.lines
        servers, overlap = self._overlap(int(lines.need[line]))
        own = lines.places[line].before(waiting.place)
        position, ahead = 1 + own, float(own)
        shared = overlap[lines.need]
        latest = self._ahead_of(waiting, now)
        for other in np.flatnonzero((shared > 0.0) & (lines.shut == 0.0) & (lines.since < latest)).tolist():
            if other != line:
                count = lines.places[other].before((latest[other],))
                position += count
                ahead += count * float(shared[other])
        return Standing(position, ahead, servers)

    def _ahead_of(self, waiting: Waiting, now: float) -> np.ndarray:
        """By line: who came before this moment is chosen before the contact, by urgency or because they are overdue."""
        lines, overdue = self._floor.lines, waiting.overdue(now)
        if overdue >= 0.0:
            return now - lines.bound - overdue
        own = float(urgency(waiting.terms, waiting.waited(now)))
        needed = own / np.maximum(lines.weight, 1e-12) - lines.head_start
        waited = 2.0 * needed / (1.0 + np.sqrt(1.0 + 2.0 * np.maximum(needed, 0.0) / lines.target))  # t + t²/2T = needed, for t
        return np.where(needed < 0.0, math.inf, now - np.minimum(waited, lines.bound))

    def _overlap(self, need: int) -> tuple[int, np.ndarray]:
        """Agents signed in who suit this need; and by need the share of those who suit that one who also suit this."""
        needs, staff = self._floor.lines.needs, self._floor.staff
        stamp = (staff.sign_ins, needs.logged)
        heads = np.zeros(staff.profiles.capacity)
        heads[: len(staff.signed_in)] = staff.signed_in
        own = np.where(self._floor.fit_of_need.row(need) >= 0.0, heads, 0.0)
        known = self._overlaps.get(need)
        if known is None or known[0] != stamp:
            if len(self._overlaps) * needs.capacity > REMEMBERED:
                self._overlaps.clear()
            shares = np.zeros(needs.capacity)
            for other in range(len(needs.keys)):
                suits = self._floor.fit_of_need.row(other) >= 0.0
                theirs = float(heads[suits].sum())
                shares[other] = float(own[suits].sum()) / theirs if theirs else 0.0
            known = self._overlaps[need] = (stamp, shares)
        return int(own.sum()), known[1]
