"""The engine against its promises, for any centre and any day that hypothesis can think of."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from services.routing.domain.engine import Decision, Engine
from services.routing.domain.needs import Need, Pair, Profile, Seat, Terms, Waiting, assign
from services.routing.domain.record import rerun, words
from services.routing.domain.scarcity import utilisations
from tests.thorough import TIMES

CHANNELS = ("voice", "chat")
SKILLS = ("tax", "loan")
AGENTS = tuple(f"a{number}" for number in range(6))
CONTACTS = tuple(f"c{number}" for number in range(12))

levels = st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5), max_size=2)
needs = st.builds(
    lambda queue, channel, skills, prefers: Need(queue, channel, tuple(sorted(skills.items())), (), prefers),
    st.sampled_from(["sales", "help"]),
    st.sampled_from(CHANNELS),
    levels,
    st.sampled_from([(), (("skill", "tax", 1.0),), (("region", "aegean", 2.0), ("site", "izmir", 1.0))]),
)
terms = st.sampled_from(
    [
        Terms("p", 1, "ordinary"),
        Terms("p", 1, "bounded", bound=30.0),
        Terms("p", 1, "precious", weight=5.0, head_start=40.0, target=5.0, bound=100.0, idle_seconds=50.0),
        Terms("p", 1, "careless", weight=0.0, scarcity_seconds=500.0, load_seconds=100.0, target=math.inf),
    ]
)
profiles = st.builds(
    lambda queues, channels, skills, site: Profile(frozenset(queues), frozenset(channels), frozenset(skills.items()), site=site),
    st.sets(st.sampled_from(["sales", "help"]), max_size=1),
    st.sets(st.sampled_from(CHANNELS), min_size=1),
    levels,
    st.sampled_from(["", "izmir"]),
)
passed = st.dictionaries(st.sampled_from(AGENTS), st.floats(0, 300), max_size=2)
contacts = st.builds(
    Waiting,
    st.sampled_from(CONTACTS),
    st.integers(0, 120).map(float),
    needs,
    terms,
    st.none() | st.none() | st.none() | st.sampled_from(AGENTS),
    st.just({}) | st.just({}) | passed,
)


@st.composite
def seats(draw: Any) -> Seat:
    profile = draw(profiles)
    state = draw(st.sampled_from(["available", "available", "available", "busy", "paused", "offline"]))
    room = frozenset(draw(st.sets(st.sampled_from(sorted(profile.channels))))) if state == "available" else frozenset[str]()
    return Seat(draw(st.sampled_from(AGENTS)), profile, state, room, draw(st.sampled_from([0, 30, 60])), float(draw(st.integers(0, 120))))


changes = st.lists(
    st.one_of(
        contacts.map(lambda one: ("contact", one)),
        contacts.map(lambda one: ("contact", one)),
        seats().map(lambda one: ("agent", one)),
        seats().map(lambda one: ("agent", one)),
        st.sampled_from(CONTACTS).map(lambda one: ("gone", one)),
        st.sampled_from(AGENTS).map(lambda one: ("left", one)),
        st.integers(1, 5).map(lambda limit: ("decide", limit)),
        st.just(("settle", 64)),
    ),
    max_size=40,
)
settle = ("settle", 64)
many_waiting = st.lists(contacts.map(lambda one: ("contact", one)), min_size=4, max_size=16)
few_agents = st.lists(seats().map(lambda one: ("agent", one)), min_size=1, max_size=6)
rush = st.builds(lambda waiting, agents: [*waiting, settle, *agents, settle], many_waiting, few_agents)
one_by_one = st.builds(lambda waiting, agents: [*waiting, *itertools.chain(*((one, settle) for one in agents))], many_waiting, few_agents)
steps = changes | rush | one_by_one
prices = st.lists(st.floats(0, 1), min_size=3, max_size=3)
many = settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class Day:
    """An engine, and beside it what its books should say."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.waiting: dict[str, Waiting] = {}
        self.seats: dict[str, Seat] = {}
        self.now = 100.0
        self.decided: list[tuple[Decision, Waiting, Seat]] = []

    def do(self, step: tuple[str, Any]) -> None:
        what, one = step
        self.now += 1.0
        if what == "contact":
            self.waiting[one.id] = one
            self.engine.put_contact(one)
        elif what == "agent":
            self.seats[one.id] = one
            self.engine.put_agent(one)
        elif what == "gone":
            self.waiting.pop(one, None)
            self.engine.remove_contact(one)
        elif what == "left":
            self.seats.pop(one, None)
            self.engine.remove_agent(one)
        elif what == "decide":
            self.decide(one)
        else:
            self.settle()

    def decide(self, limit: int = 64) -> list[Decision]:
        made = self.engine.decide(self.now, limit)
        assert len(made) <= limit
        for decision in made:
            seat = self.seats[decision.agent]
            self.decided.append((decision, self.waiting.pop(decision.contact), seat))  # KeyError: decided twice
            assert seat.room, f"{seat.id} had no room"
            self.seats[seat.id] = seat._replace(state="offered", room=frozenset())
        return made

    def settle(self) -> list[Decision]:
        """Pauses that are over in the meantime are announced, as the owner of the books does."""
        for one in [one for one in self.waiting.values() if one.passed]:
            self.engine.put_contact(one)
        made = self.decide()
        while self.engine.pending:
            made += self.decide()
        return made


def suits(seat: Seat, one: Waiting) -> bool:
    return one.need.channel in seat.room and seat.profile.objection(one.need) is None


def possible(seat: Seat, one: Waiting, now: float) -> bool:
    return suits(seat, one) and one.only in (None, seat.id) and one.passed.get(seat.id, now) <= now


@many
@given(steps)
def test_nobody_waits_while_somebody_with_room_suits_them(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        day.do(step)
        if step[0] == "settle":
            left = [(one.id, seat.id) for one in day.waiting.values() for seat in day.seats.values() if possible(seat, one, day.now)]
            assert left == []
    assert len(day.engine) == len(day.waiting)


@many
@given(steps)
def test_an_engine_that_saw_every_change_decides_as_one_that_read_the_books_just_now(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        if step[0] == "settle":
            day.now += 1.0
            fresh = Engine()
            for seat in reversed(day.seats.values()):
                fresh.put_agent(seat)
            for one in reversed(day.waiting.values()):
                fresh.put_contact(one)
            made = day.settle()
            assert {one[:2] for one in made} == {one[:2] for one in fresh.decide(day.now, limit=1000)}
        elif step[0] != "decide":
            day.do(step)


@many
@given(steps)
def test_told_or_not_the_decisions_are_the_same(day_steps: list[tuple[str, Any]]) -> None:
    silent, telling = Engine(), Day()
    for what, one in day_steps:
        if what in ("contact", "agent"):
            telling.do((what, one))
            silent.put_contact(one) if what == "contact" else silent.put_agent(one)
        elif what in ("settle", "decide"):
            told = telling.engine.decide(telling.now, limit=5)
            assert [one[:2] for one in silent.decide(telling.now, limit=5, explain=False)] == [one[:2] for one in told]


@many
@given(steps)
def test_whoever_is_overdue_longest_goes_first(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        before, seats_before = len(day.decided), dict(day.seats)
        day.do(step)
        for decision, given_away, _ in day.decided[before:]:
            seat = seats_before[decision.agent]
            for other in day.waiting.values():
                if suits(seat, other) and other.only is None and not other.passed and other.overdue(day.now) >= 0:
                    assert given_away.overdue(day.now) >= other.overdue(day.now)


@many
@given(steps, prices)
def test_every_decision_can_be_run_again_and_told(day_steps: list[tuple[str, Any]], group_prices: list[float]) -> None:
    day = Day()
    for number, step in enumerate(day_steps):
        if number % 10 == 0:
            day.engine.prices = dict(zip([seat.profile for seat in day.seats.values()], itertools.cycle(group_prices), strict=False))
        day.do(step)
    for decision, one, _ in day.decided:
        told = json.loads(json.dumps(decision.record, allow_nan=False))
        assert rerun(told) == (decision.contact, decision.agent)
        assert told["waited_seconds"] == one.waited(told["at"])
        assert words(told, "en") and words(told, "zh")


@many
@given(steps)
def test_every_agent_is_counted_once_in_the_pool(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        before, agents = len(day.decided), len(day.seats)
        day.do(step)
        for decision, _, _ in day.decided[before:]:
            counted = decision.record["pool"]
            assert sum(one["agents"] for one in counted) == agents
            assert all(one["agents"] > 0 for one in counted)
            assert len({(one["profile"], one["reason"]) for one in counted}) == len(counted)
            assert any(one["reason"] == "candidate" for one in counted)


@many
@given(steps)
def test_an_engine_asked_again_has_nothing_to_say(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        day.do(step)
    day.settle()
    assert not day.engine.pending
    assert day.engine.decide(day.now) == []


def greed(worth: np.ndarray) -> list[tuple[int, int]]:
    """The best pair, again and again."""
    pairs, left = [], worth.copy()
    while (left > -math.inf).any():
        row, column = divmod(int(left.argmax()), left.shape[1])
        pairs.append((row, column))
        left[row, :] = left[:, column] = -math.inf
    return pairs


def gain(worth: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    """Their worth, counted from the lowest where that is below 0: to be served is never a loss."""
    floor = min(0.0, worth[worth > -math.inf].min(initial=0.0))
    return sum(worth[pair] - floor for pair in pairs)


@many
@given(st.lists(st.lists(st.none() | st.integers(-50, 200), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_joint_assignment_is_never_worth_less_than_taking_the_best_pair_again_and_again(rows: list[list[int | None]]) -> None:
    worth = np.array([[-math.inf if one is None else float(one) for one in row] for row in rows])
    joint = assign(worth)
    assert gain(worth, joint) >= gain(worth, greed(worth)) - 1e-9
    assert len({row for row, _ in joint}) == len({column for _, column in joint}) == len(joint)


@many
@given(st.lists(st.tuples(st.integers(0, 4), contacts), min_size=2, max_size=12), st.lists(seats(), min_size=2, max_size=6))
def test_what_is_assigned_jointly_is_worth_at_least_what_greed_would_get(raw: list[tuple[int, Waiting]], all_seats: list[Seat]) -> None:
    engine = Engine()
    for seat in all_seats:
        engine.put_agent(seat)
    for _, one in raw:
        engine.put_contact(one._replace(only=None, passed={}))
    made = [decision for decision in engine.decide(100.0) if decision.record["rule"] == "joint"]
    for heads in {id(decision.record["joint"]): decision.record["joint"] for decision in made}.values():
        rows = {one["contact"]: row for row, one in enumerate(heads["contacts"])}
        columns = {one["agent"]: column for column, one in enumerate(heads["agents"])}
        worth = np.full((len(rows), len(columns)), -math.inf)
        for contact, fits in zip(heads["contacts"], heads["fit"], strict=True):
            for agent, fit in zip(heads["agents"], fits, strict=True):
                if fit is not None:
                    own = Terms(**{name: math.inf if value is None else value for name, value in contact["terms"].items()})
                    pair = Pair("", contact["since"], own, "", "", fit, agent["price"], agent["load"], agent["idle_since"])
                    worth[rows[contact["contact"]], columns[agent["agent"]]] = pair.total(100.0)
        joint = [(rows[one.contact], columns[one.agent]) for one in made if one.record["joint"] is heads]
        assert 2 <= len(rows) <= 32 and 2 <= len(columns) <= 32
        assert gain(worth, joint) >= gain(worth, greed(worth)) - 1e-9


@many
@given(steps)
def test_the_worth_of_a_head_in_the_vectors_is_the_worth_of_the_pair(day_steps: list[tuple[str, Any]]) -> None:
    day = Day()
    for step in day_steps:
        day.do(step)
    floor = day.engine.floor
    for one, line in floor.waiting.values():
        if line >= 0 and floor.head(line) == one:
            scores = floor.benches.scores(one, floor.benches_for(line), day.now)
            for seat, _, bench in floor.seats.values():
                if bench >= 0 and floor.first_seat(bench) == seat:
                    worth = floor.pair(one, seat).total(day.now) if suits(seat, one) else -math.inf
                    assert scores[bench] == worth
                    waited = floor.lines.waited(day.now)
                    assert floor.lines.scores(floor.lines_for(bench), waited, max(0.0, day.now - seat.idle_since))[line] == worth


@many
@given(steps)
def test_the_position_is_the_place_in_which_one_busy_agent_would_take_them(day_steps: list[tuple[str, Any]]) -> None:
    """One agent who suits everybody, terms without fit, scarcity, load and idleness: then the order is the whole truth."""
    engine, now = Engine(), 100.0
    plain = {"fit_seconds": 0.0, "scarcity_seconds": 0.0, "idle_seconds": 0.0, "load_seconds": 0.0}
    waiting: dict[str, Waiting] = {}
    for what, one in day_steps:
        if what == "contact":
            own = one.terms._replace(**plain, weight=one.terms.weight or 1.0)
            waiting[one.id] = one._replace(
                only=None, passed={}, terms=own, since=one.since + int(one.id[1:]) / 64, need=Need("q", one.need.channel)
            )
    for one in waiting.values():
        engine.put_contact(one)
    both = frozenset(CHANNELS)
    seat = Seat("anna", Profile(channels=both), "busy", frozenset(), 0, now)
    engine.put_agent(seat)
    engine.decide(now)
    standings = {contact: engine.standing(contact, now) for contact in waiting}
    order = []
    for _ in waiting:
        engine.put_agent(seat._replace(state="available", room=both))
        order += [decision.contact for decision in engine.decide(now)]
    ranks = {one.id: Pair(one.id, one.since, one.terms, "anna", "", 0, 0, 0, now).rank(now)[:2] for one in waiting.values()}
    if len(set(ranks.values())) == len(ranks):
        assert [standings[contact].position for contact in order] == list(range(1, len(order) + 1))
        assert [standings[contact].ahead for contact in order] == list(range(len(order)))
    assert all(standing.servers == 1 for standing in standings.values())


@st.composite
def centres(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size_needs, groups = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    fits = np.array(draw(st.lists(st.lists(st.booleans(), min_size=groups, max_size=groups), min_size=size_needs, max_size=size_needs)))
    for row in fits:
        row[draw(st.integers(0, groups - 1))] = True
    demand = draw(st.lists(st.integers(1, 20), min_size=size_needs, max_size=size_needs))
    agents = draw(st.lists(st.integers(1, 20), min_size=groups, max_size=groups))
    return np.array(demand, dtype=float), np.array(agents, dtype=float), fits


@many
@given(centres())
def test_the_busiest_groups_are_those_with_a_dual_price_in_the_fluid_programme(centre: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Minimise the highest utilisation r: Σ_g x[n,g] = demand[n], Σ_n x[n,g] ≤ r·agents[g]; the duals of the second name the bottleneck."""
    demand, agents, fits = centre
    count, groups = fits.shape
    flows = [(n, g) for n in range(count) for g in range(groups) if fits[n, g]]
    served = np.array([[float(n == need) for n, _ in flows] + [0.0] for need in range(count)])
    used = np.array([[float(g == group) for _, g in flows] + [-agents[group]] for group in range(groups)])
    cost = np.array([0.0] * len(flows) + [1.0])
    programme = linprog(cost, A_ub=used, b_ub=np.zeros(groups), A_eq=served, b_eq=demand, method="highs")
    dual = -programme.ineqlin.marginals
    busy = utilisations(demand, agents, fits)
    assert busy.max() >= programme.fun - 1e-6
    assert busy.max() <= programme.fun * 1.05
    for group in np.flatnonzero(dual > 1e-6):
        assert busy[group] >= busy.max() * 0.95
