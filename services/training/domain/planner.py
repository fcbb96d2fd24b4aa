"""Fills a span of half-days with sessions so that everybody gets the courses they need: rooms, trainers and equipment are each in one place at a
time, and no team loses more than a share of its people at once.

Half-day after half-day, each person may have their next course, so that the order of courses holds. A half-day is a mixed-integer programme (HiGHS, by
scipy.optimize.milp): how many of each team go to which course, and how many sessions of it are held by which class of equal rooms and equal trainers.
Once the sessions are chosen the people are a flow in a network, whole by itself, so that only sessions need be integers: all half-days together are one programme
too large to be solved in a minute. Each site keeps somewhat ahead of an even pace; at the end all half-days are gone through once more with what is left. What still
has no seat is placed with rooms, trainers and shares that do not exist, each at a price: what of these was used is what is short. Shortages that
counting alone proves are told as such.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

SECONDS = 0.5
"""For one half-day's programme, at most: what it has found by then is used."""
GAP = 0.01
FULL = 0.6
"""A session is so full when it is held early; later it may hold fewer."""
PACE = 1.3
"""A site is to be so much ahead of an even pace: what goes wrong late has no half-days left."""
INVENTED = 15.0
"""The price of a half-day of a room or a trainer that does not exist, in people."""
PRIZES = 5.0, 1000.0
"""What a seat is worth then: first so much that rooms and trainers are invented for a few people, in the end whatever it takes."""
ABOVE_SHARE = 50.0
NO_TEAM = "~"
"""Before a site: the people there who are in no team, together."""


@dataclass(frozen=True)
class Room:
    id: str
    site: str
    capacity: int
    open: frozenset[int]


@dataclass(frozen=True)
class Trainer:
    """`site` empty: at any; `courses` empty: all."""

    id: str
    site: str
    capacity: int
    open: frozenset[int]
    courses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Equipment:
    id: str
    site: str
    model: str
    capacity: int
    open: frozenset[int]


@dataclass(frozen=True)
class Learner:
    """`needs`: courses in their order, each as often as it has half-days; `away`: half-days when they are not there."""

    id: str
    team: str
    site: str
    needs: tuple[str, ...]
    away: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Problem:
    """`slots` half-days in their order; `models`: course -> equipment it is taught on; `team_sizes`: all people of a team, those without needs too;
    `busy`: (team, half-day) -> how many of it are away already; `away_share`: of a team, at one time. `overlaps`: by half-day those that lie at the same time
    at a site in another zone; what belongs to no site is taken for them too. Empty: none."""

    slots: int
    rooms: tuple[Room, ...]
    trainers: tuple[Trainer, ...]
    equipment: tuple[Equipment, ...]
    learners: tuple[Learner, ...]
    models: Mapping[str, tuple[str, ...]]
    team_sizes: Mapping[str, int]
    busy: Mapping[tuple[str, int], int]
    away_share: float
    least_people: int
    capacity: int
    overlaps: tuple[tuple[int, ...], ...] = ()

    def bookings(self, one: Room | Trainer | Equipment, slot: int) -> set[tuple[str, int]]:
        """The half-days that are gone for it when it is taken for this one."""
        others = self.overlaps[slot] if self.overlaps and not one.site else ()
        return {(one.id, number) for number in (slot, *others)}

    def limit(self, team: str, slot: int) -> int:
        """How many of the team may be away then, beside those who are already."""
        return max(0, math.floor(self.away_share * self.team_sizes[team] + 1e-9) - self.busy.get((team, slot), 0))


@dataclass
class Held:
    """A planned session."""

    site: str
    slot: int
    course: str
    room: str
    trainer: str
    equipment: list[str]
    capacity: int
    people: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Short:
    """A constraint that is short: `what` (rooms, trainers, equipment, team_share, calendar), `where` (a site, a team, a course), by how much in `unit`
    (room_half_days, trainer_half_days, people_at_once, seats, half_days). `proved`: no plan at all can do without."""

    what: str
    where: str
    by: int
    unit: str
    proved: bool


@dataclass(frozen=True)
class Plan:
    sessions: list[Held]
    needed: int
    placed: int
    unplaced: dict[str, list[str]]
    short: list[Short]


Progress = Callable[[int, int, int, int], None]
"""Told (steps done, of so many, seats placed, of so many)."""


def plan(problem: Problem, progress: Progress = lambda *_: None) -> Plan:
    """At an even pace with full sessions; where that leaves somebody out, as early as possible, and what places more is taken."""
    needed, steps = sum(len(one.needs) for one in problem.learners), 3 * problem.slots + 1
    best = _State(problem)
    best.run(lambda done: progress(done, steps, needed - best.left(), needed))
    if best.left():
        early = _State(problem, even=False)
        early.run(lambda done: progress(2 * problem.slots + (done + 1) // 2, steps, needed - min(best.left(), early.left()), needed))
        best = min(best, early, key=_State.left)
    placed = needed - best.left()
    unplaced = {one.id: list(needs) for one, needs in best.needs.items() if needs}
    sessions, short = [one for one in best.held if one.people], []
    if unplaced:
        short = _proved(problem) or best.invent() or [Short("calendar", "", needed - placed, "half_days", False)]
    progress(steps, steps, placed, needed)
    return Plan(sessions, needed, placed, unplaced, short)


class _State:
    """`even`: at an even pace and with full sessions first; otherwise as early as possible."""

    def __init__(self, problem: Problem, even: bool = True) -> None:
        self.problem = problem
        self.even = even
        self.needs = {one: list(one.needs) for one in problem.learners}
        self.count = sum(map(len, self.needs.values()))
        self.held: list[Held] = []
        self.taken: set[tuple[str, int]] = set()  # rooms, trainers, equipment
        resources: list[Room | Trainer | Equipment] = [*problem.rooms, *problem.trainers, *problem.equipment]
        self.resources = {one.id: one for one in resources}
        self.last: dict[Learner, int] = {}
        self.away: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.asked: defaultdict[str, int] = defaultdict(int)  # by site
        self.placed: defaultdict[str, int] = defaultdict(int)
        for one in problem.learners:
            self.asked[one.site] += len(one.needs)

    def run(self, progress: Callable[[int], None]) -> None:
        """All half-days, and all once more for what is left."""
        for done in range(2 * self.problem.slots):
            turn, slot = divmod(done, self.problem.slots)
            if self.left():
                self.fill(slot, slots_left=self.problem.slots - slot if turn == 0 and self.even else 0)
            progress(done + 1)

    def left(self) -> int:
        return self.count

    def fill(self, slot: int, slots_left: int) -> None:
        made = self._programme(slot, slots_left)
        if made is None:
            return
        by_course: defaultdict[tuple[str, str], list[Held]] = defaultdict(list)
        for one in made.sessions():
            by_course[one.site, one.course].append(one)
        for (site, team, course, _who), people in made.sent():
            for learner in people:
                session = next((one for one in by_course[site, course] if len(one.people) < one.capacity), None)
                if session is not None and self.away[team, slot] < self.problem.limit(team, slot):
                    session.people.append(learner.id)
                    self.away[team, slot] += 1
                    self._met(learner, slot)
        for sessions in by_course.values():
            for one in sessions:
                if one.people:
                    self.held.append(one)
                    for name in (one.room, one.trainer, *one.equipment):
                        self.taken |= self.problem.bookings(self.resources[name], slot)

    def _met(self, learner: Learner, slot: int) -> None:
        self.needs[learner].pop(0)
        self.last[learner] = slot
        self.placed[learner.site] += 1
        self.count -= 1
        if slot >= 0 and learner.id in self.resources:
            self.taken |= self.problem.bookings(self.resources[learner.id], slot)

    def _programme(self, slot: int, slots_left: int, prize: float = 0.0) -> _Programme | None:
        waiting: defaultdict[Group, list[Learner]] = defaultdict(list)
        for one, needs in self.needs.items():
            if needs and slot > self.last.get(one, -1) and slot not in one.away and (one.id, slot) not in self.taken:
                waiting[one.site, one.team, needs[0], one.id if one.id in self.resources else ""].append(one)
        pace = {}
        if slots_left:
            done = PACE * (slot + 1) / self.problem.slots
            pace = {site: math.ceil(done * count) + self.problem.capacity - self.placed[site] for site, count in self.asked.items()}
        for people in waiting.values():
            people.sort(key=lambda one: (-len(self.needs[one]), one.id))
        weights = {key: sum(len(self.needs[one]) for one in people) / len(people) for key, people in waiting.items()}
        made = _Programme(self.problem, self.taken, self.away, slot, dict(sorted(waiting.items())), weights)
        share = slots_left / self.problem.slots  # early on only well filled sessions, at last any
        least = 0.0 if prize else share * FULL * self.problem.capacity + (1 - share) * self.problem.least_people if slots_left else 1.0
        return made if made.solve(pace, least, prize) else None

    def invent(self) -> list[Short]:
        """Place what is left with what does not exist; what of it was used, by kind and place."""
        used: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        most: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.last.clear()  # the order of courses is given up here: what is short is what is counted
        for slot, prize in ((slot, prize) for prize in PRIZES for slot in range(self.problem.slots)):
            made = self._programme(slot, 0, prize) if self.left() else None
            if made is None:
                continue
            for key, amount in made.invented().items():
                used[key] += amount
                most[key] = max(most[key], amount)
            for _key, people in made.sent():
                for learner in people:
                    self._met(learner, -1)
        told = []
        for (what, where, unit), amount in sorted(used.items()):
            told.append(Short(what, where, most[what, where, unit] if what == "team_share" else amount, unit, False))
        if rest := self.left():
            told.append(Short("calendar", "", rest, "half_days", False))
        return told


Group = tuple[str, str, str, str]
"""Site, team, course; and the one person, where they teach too: they cannot do both at once."""


@dataclass
class _Programme:
    """The mixed-integer programme of a half-day, variables and rows as they come. `groups`: who waits for which course and is free."""

    problem: Problem
    taken: set[tuple[str, int]]
    away: Mapping[tuple[str, int], int]
    slot: int
    groups: dict[Group, list[Learner]]
    weights: Mapping[Group, float]

    def __post_init__(self) -> None:
        self.cost: list[float] = []
        self.upper: list[float] = []
        self.whole: list[int] = []
        self.rows: list[dict[int, float]] = []
        self.bounds: list[tuple[float, float]] = []
        self.holding: dict[tuple[str, str, int, int], int] = {}
        self.extra: dict[tuple[str, str, str], int] = {}
        self.x: Any = None
        # who has more before them goes first: otherwise they alone would be left at the end
        self.going = {key: self.variable(-(1.0 + 0.05 * self.weights[key]), len(people), 0) for key, people in self.groups.items()}

    def variable(self, cost: float, upper: float, whole: int = 1) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.cost) - 1

    def row(self, terms: Mapping[int, float], low: float, high: float) -> None:
        if terms:
            self.rows.append(dict(terms))
            self.bounds.append((low, high))

    def solve(self, pace: Mapping[str, int], least: float, prize: float) -> bool:
        if not self.going:
            return False
        self._hold(max(0.0, least - 0.5), prize > 0)
        if not (self.holding or prize):
            return False
        self._limit(pace, prize)
        entries = [(number, variable, value) for number, terms in enumerate(self.rows) for variable, value in terms.items()]
        numbers, variables, values = (np.array(column) for column in zip(*entries, strict=True))
        matrix = coo_array((values, (numbers, variables)), shape=(len(self.rows), len(self.cost))).tocsr()
        low, high = (np.array(side) for side in zip(*self.bounds, strict=True))
        found = milp(
            np.array(self.cost), constraints=LinearConstraint(matrix, low, high), bounds=Bounds(0, np.array(self.upper)),
            integrality=np.array(self.whole), options={"time_limit": SECONDS, "mip_rel_gap": GAP},
        )  # fmt: skip
        if found.x is None:
            return False
        self.x = np.rint(found.x).astype(int)
        return True

    def _equipment(self, site: str, model: str) -> list[Equipment]:
        slot = self.slot
        return [
            one
            for one in self.problem.equipment
            if one.model == model and one.site in ("", site) and slot in one.open and (one.id, slot) not in self.taken
        ]

    def _hold(self, price: float, invent: bool) -> None:
        """Sessions: for each course of each site so many by each class of rooms and of trainers."""
        slot = self.slot
        rooms: defaultdict[tuple[str, int], list[Room]] = defaultdict(list)
        for room in self.problem.rooms:
            if slot in room.open and (room.id, slot) not in self.taken:
                rooms[room.site, room.capacity].append(room)
        learning = {who: self.going[site, team, course, who] for site, team, course, who in self.going if who}
        trainers: defaultdict[tuple[str, int, frozenset[str], str], list[Trainer]] = defaultdict(list)
        for trainer in self.problem.trainers:
            if slot in trainer.open and (trainer.id, slot) not in self.taken:
                alone = trainer.id if trainer.id in learning else ""
                trainers[trainer.site, trainer.capacity, trainer.courses, alone].append(trainer)
        self.rooms, self.trainers = list(rooms.values()), list(trainers.values())
        in_room: defaultdict[int, dict[int, float]] = defaultdict(dict)
        by_trainer: defaultdict[int, dict[int, float]] = defaultdict(dict)
        on_piece: defaultdict[str, dict[int, float]] = defaultdict(dict)
        seats: defaultdict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for (site, _team, course, _who), variable in self.going.items():
            seats[site, course][variable] = 1.0
        for (site, course), row in sorted(seats.items()):
            pieces = {model: self._equipment(site, model) for model in self.problem.models.get(course, ())}
            stock = [sum(one.capacity for one in of) for of in pieces.values()]
            for r, of_rooms in enumerate(self.rooms):
                for t, of_trainers in enumerate(self.trainers):
                    room, trainer = of_rooms[0], of_trainers[0]
                    fits = room.site in ("", site) and trainer.site in ("", site) and (not trainer.courses or course in trainer.courses)
                    capacity = min([room.capacity, trainer.capacity, *stock])
                    if fits and capacity > 0:
                        variable = self.holding[site, course, r, t] = self.variable(price, min(len(of_rooms), len(of_trainers)))
                        row[variable] = -float(capacity)
                        in_room[r][variable] = by_trainer[t][variable] = 1.0
                        for one in (piece for of in pieces.values() for piece in of):
                            on_piece[one.id][variable] = 1.0
            if invent:
                self._invent(site, course, row, in_room, by_trainer, [model for model, of in pieces.items() if not of])
            self.row(row, -np.inf, 0.0)
        for r, terms in in_room.items():
            self.row(terms, 0.0, len(self.rooms[r]))
        for t, terms in by_trainer.items():
            self.row(terms, 0.0, len(self.trainers[t]))
            if (learner := learning.get(self.trainers[t][0].id)) is not None:
                self.row({**terms, learner: 1.0}, 0.0, 1.0)
        for terms in on_piece.values():
            self.row(terms, 0.0, 1.0)

    def _invent(
        self,
        site: str,
        course: str,
        row: dict[int, float],
        in_room: Mapping[int, dict[int, float]],
        by_trainer: Mapping[int, dict[int, float]],
        lacking: list[str],
    ) -> None:
        """Sessions in a room, by a trainer or at equipment that does not exist, or several of these."""

        def extra(what: str, where: str, unit: str, cost: float) -> int:
            if (what, where, unit) not in self.extra:
                self.extra[what, where, unit] = self.variable(cost, 10_000)
            return self.extra[what, where, unit]

        def session(needs: list[int], *classes: dict[int, float]) -> None:
            variable = self.variable(0.0, 100)
            row[variable] = -float(self.problem.capacity)
            for number in needs:
                self.row({variable: 1.0, number: -1.0}, -np.inf, 0.0)
            for terms in classes:
                terms[variable] = 1.0

        at_equipment = [extra("equipment", f"{model} {site}".strip(), "sessions", INVENTED) for model in lacking]
        room, trainer = extra("rooms", site, "room_half_days", INVENTED), extra("trainers", course, "trainer_half_days", INVENTED)
        able = [t for t, of in enumerate(self.trainers) if of[0].site in ("", site) and (not of[0].courses or course in of[0].courses)]
        there = [r for r, of in enumerate(self.rooms) if of[0].site in ("", site)]
        for t in able:
            session([room, *at_equipment], by_trainer[t])
        for r in there:
            session([trainer, *at_equipment], in_room[r])
            for t in able if lacking else ():
                session(at_equipment, in_room[r], by_trainer[t])
        session([room, trainer, *at_equipment])

    def _limit(self, pace: Mapping[str, int], prize: float) -> None:
        by_team: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for (_site, team, _course, _who), variable in self.going.items():
            by_team[team][variable] = 1.0
            self.cost[variable] -= prize
        for team, terms in by_team.items():
            most = max(0, self.problem.limit(team, self.slot) - self.away.get((team, self.slot), 0))
            if prize:
                terms[self.extra.setdefault(("team_share", team, "people_at_once"), self.variable(ABOVE_SHARE, 10_000))] = -1.0
            self.row(terms, -np.inf, most)
        for site, most in pace.items():
            self.row({variable: 1.0 for (at, *_), variable in self.going.items() if at == site}, -np.inf, max(0, most))

    # ---- what came out

    def sent(self) -> Iterable[tuple[Group, list[Learner]]]:
        """Of each group those who go."""
        for key, people in self.groups.items():
            if count := int(self.x[self.going[key]]):
                yield key, people[:count]

    def sessions(self) -> list[Held]:
        """Sessions with rooms, trainers and equipment that are free, the largest first."""
        rooms, trainers = [list(of) for of in self.rooms], [list(of) for of in self.trainers]
        held = []
        for (site, course, r, t), variable in self.holding.items():
            for _ in range(int(self.x[variable])):
                room, trainer = rooms[r].pop(0), trainers[t].pop(0)
                pieces = [self._equipment(site, model) for model in self.problem.models.get(course, ())]
                capacity = min([room.capacity, trainer.capacity, *(sum(one.capacity for one in of) for of in pieces)])
                held.append(Held(site, self.slot, course, room.id, trainer.id, [one.id for of in pieces for one in of], capacity))
        return sorted(held, key=lambda one: -one.capacity)

    def invented(self) -> dict[tuple[str, str, str], int]:
        return {key: int(self.x[variable]) for key, variable in self.extra.items() if int(self.x[variable])}


def _proved(problem: Problem) -> list[Short]:
    """What counting alone shows to be short: more half-days are needed than there are seats, by site, course, model, team or person."""
    short = []
    slots = range(problem.slots)
    by_site: defaultdict[str, int] = defaultdict(int)
    by_course: defaultdict[tuple[str, str], int] = defaultdict(int)
    by_team: defaultdict[str, int] = defaultdict(int)
    calendar = 0
    for one in problem.learners:
        by_site[one.site] += len(one.needs)
        by_team[one.team] += len(one.needs)
        for course in one.needs:
            by_course[one.site, course] += 1
        calendar += max(0, len(one.needs) - sum(slot not in one.away for slot in slots))
    if calendar:
        short.append(Short("calendar", "", calendar, "half_days", True))
    for site, seats in sorted(by_site.items()):
        there = [room for room in problem.rooms if room.site in ("", site)]
        if (lack := seats - sum(room.capacity * len(room.open) for room in there)) > 0:
            short.append(
                Short(
                    "rooms",
                    site,
                    math.ceil(lack / max((room.capacity for room in there), default=problem.capacity)),
                    "room_half_days",
                    True,
                )
            )
        teaching = [one for one in problem.trainers if one.site in ("", site)]
        if (lack := seats - sum(one.capacity * len(one.open) for one in teaching)) > 0:
            most = max((one.capacity for one in teaching), default=problem.capacity)
            short.append(Short("trainers", site, math.ceil(lack / most), "trainer_half_days", True))
    for (site, course), seats in sorted(by_course.items()):
        teaching = [one for one in problem.trainers if one.site in ("", site) and one.courses and course in one.courses]
        anybody = any(not one.courses and one.site in ("", site) for one in problem.trainers)
        if not anybody and (lack := seats - sum(one.capacity * len(one.open) for one in teaching)) > 0:
            most = max((one.capacity for one in teaching), default=problem.capacity)
            short.append(Short("trainers", course, math.ceil(lack / most), "trainer_half_days", True))
        for model in problem.models.get(course, ()):
            stock = sum(one.capacity * len(one.open) for one in problem.equipment if one.model == model and one.site in ("", site))
            if (lack := seats - stock) > 0:
                short.append(Short("equipment", f"{model} {site}".strip(), lack, "seats", True))
    for team, seats in sorted(by_team.items()):
        if (lack := seats - sum(problem.limit(team, slot) for slot in slots)) > 0:
            short.append(Short("team_share", team, math.ceil(lack / max(1, problem.slots)), "people_at_once", True))
    return short


def words(one: Short, language: str = "en") -> str:
    """A shortage for reading; `language`: en or zh."""
    zh = language == "zh"
    where = one.where or ("所有人" if zh else "everybody")
    if where.startswith(NO_TEAM):
        at = where.removeprefix(NO_TEAM)
        where = f"{at}未分组者" if zh else f"of those in no team{' at ' * bool(at)}{at}"
    if zh:
        told = {
            "rooms": f"{where}：教室缺 {one.by} 个半天",
            "trainers": f"{where}：讲师缺 {one.by} 个半天",
            "equipment": f"{where}：设备缺 {one.by} 个席位",
            "team_share": f"团队 {where}：同时离岗人数上限差 {one.by} 人",
            "calendar": f"{where}：可用的半天少 {one.by} 个",
        }[one.what]
        return told + ("（已证明）" if one.proved else "")
    told = {
        "rooms": f"{where}: {one.by} more half-days of a room",
        "trainers": f"{where}: {one.by} more half-days of a trainer",
        "equipment": f"{where}: {one.by} more seats at equipment",
        "team_share": f"team {where}: {one.by} more of its people away at one time",
        "calendar": f"{where}: {one.by} more half-days when people are there",
    }[one.what]
    return told + (" (proved: no plan can do without)" if one.proved else " would have been enough")
