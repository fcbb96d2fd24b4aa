"""Plans: nothing is in two places at once, no team loses too many, courses come in their order, and what is short is named."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.training import classes, handlers, planning, store
from services.training.domain import planner
from services.training.domain.planner import Equipment, Learner, Plan, Problem, Room, Short, Trainer
from shared.errors import Conflict, Invalid
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.training.house import House


def problem(
    slots: int = 20, people: int = 12, needs: tuple[str, ...] = ("a", "b"), team: int = 6, share: float = 0.5, rooms: int = 1, trainers: int = 1,
    capacity: int = 6, **more: Any,
) -> Problem:  # fmt: skip
    always = frozenset(range(slots))
    learners = tuple(Learner(f"p{number:02}", f"t{number // team}", "x", needs) for number in range(people))
    told: dict[str, Any] = {
        "slots": slots, "rooms": tuple(Room(f"r{number}", "x", capacity, always) for number in range(rooms)),
        "trainers": tuple(Trainer(f"k{number}", "", capacity, always) for number in range(trainers)), "equipment": (), "learners": learners, "models": {},
        "team_sizes": dict(Counter(one.team for one in learners)), "busy": {}, "away_share": share, "least_people": 1, "capacity": capacity,
    }  # fmt: skip
    return Problem(**(told | more))


def check(asked: Problem, made: Plan) -> None:
    """What holds for every plan."""
    there: Counter[tuple[str, int]] = Counter()
    away: Counter[tuple[str, int]] = Counter()
    came: dict[str, list[tuple[int, str]]] = {}
    by_id = {one.id: one for one in asked.learners}
    open = {one.id: one.open for one in (*asked.rooms, *asked.trainers, *asked.equipment)}
    for one in made.sessions:
        there.update((name, one.slot) for name in (one.room, one.trainer, *one.equipment))
        assert all(one.slot in open[name] for name in (one.room, one.trainer, *one.equipment))
        assert 0 < len(one.people) <= one.capacity
        there.update((person, one.slot) for person in one.people)
        for person in one.people:
            away[by_id[person].team, one.slot] += 1
            assert one.slot not in by_id[person].away and by_id[person].site == one.site
            came.setdefault(person, []).append((one.slot, one.course))
    assert max(there.values(), default=0) <= 1, "one place at a time"
    assert all(count <= asked.limit(*key) for key, count in away.items())
    for person, visits in came.items():
        assert len({slot for slot, _ in visits}) == len(visits)
        assert [course for _, course in sorted(visits)] == list(by_id[person].needs[: len(visits)])
    assert made.placed == sum(map(len, came.values())) == made.needed - sum(map(len, made.unplaced.values()))
    assert bool(made.short) == bool(made.unplaced)


def test_everybody_has_what_they_need_in_its_order() -> None:
    asked = problem()
    made = planner.plan(asked)
    check(asked, made)
    assert (made.placed, made.unplaced, made.short) == (24, {}, [])
    assert len(made.sessions) <= 8, "and sessions are well filled: four of six would do"


@given(st.integers(2, 14), st.integers(1, 16), st.integers(1, 3), st.floats(0.1, 1), st.integers(1, 2), st.integers(1, 8), st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_asked_the_rules_hold(
    slots: int, people: int, needs: int, share: float, rooms: int, capacity: int, data: st.DataObject
) -> None:
    asked = problem(slots, people, ("a", "b", "c")[:needs], 5, share, rooms, rooms, capacity)
    away = data.draw(st.lists(st.sets(st.integers(0, slots - 1), max_size=3), min_size=people, max_size=people))
    learners = tuple(Learner(one.id, one.team, one.site, one.needs, frozenset(of)) for one, of in zip(asked.learners, away, strict=True))
    asked = problem(slots, people, ("a", "b", "c")[:needs], 5, share, rooms, rooms, capacity, learners=learners)
    if data.draw(st.booleans(), "who learns teaches too"):
        asked = replace(asked, trainers=tuple(replace(one, id=f"p{number:02}") for number, one in enumerate(asked.trainers)))
    check(asked, planner.plan(asked))


@pytest.mark.parametrize(
    ("asked", "short"),
    [
        (problem(slots=3), [Short("rooms", "x", 1, "room_half_days", True), Short("trainers", "x", 1, "trainer_half_days", True)]),
        (problem(share=0.1), [Short("team_share", "t0", 1, "people_at_once", True), Short("team_share", "t1", 1, "people_at_once", True)]),
        (problem(trainers=0), [Short("trainers", "x", 4, "trainer_half_days", True)]),
        (problem(models={"b": ("box",)}), [Short("equipment", "box x", 12, "seats", True)]),
        (problem(slots=1, people=1), [Short("calendar", "", 1, "half_days", True)]),
    ],
)
def test_what_counting_proves_to_be_short_is_told_with_its_amount(asked: Problem, short: list[Short]) -> None:
    made = planner.plan(asked)
    check(asked, made)
    assert [one for one in made.short if one in short] == short
    assert all("proved" in planner.words(one) and "已证明" in planner.words(one, "zh") for one in short)


def test_what_only_planning_finds_to_be_short_is_told_with_what_would_be_enough() -> None:
    """Seats there are, but the trainer is there when the room is not."""
    room, trainer = Room("r", "x", 12, frozenset(range(0, 6))), Trainer("k", "", 12, frozenset(range(5, 20)))
    asked = problem(share=1.0, capacity=12)
    asked = Problem(**{**vars(asked), "rooms": (room,), "trainers": (trainer,)})
    made = planner.plan(asked)
    check(asked, made)
    assert made.placed == 12 and [(one.what, one.by, one.proved) for one in made.short] in ([("rooms", 1, False)], [("trainers", 1, False)])


def test_a_course_never_comes_before_the_one_it_follows_even_where_there_is_room() -> None:
    late, early = Trainer("ka", "", 6, frozenset({3}), frozenset("a")), Trainer("kb", "", 6, frozenset({0}), frozenset("b"))
    asked = Problem(**{**vars(problem(slots=4, people=4, share=1.0)), "trainers": (late, early)})
    made = planner.plan(asked)
    check(asked, made)
    assert made.placed == 4 and set(map(tuple, made.unplaced.values())) == {("b",)}


def test_nobody_teaches_themselves() -> None:
    """Two teach each other, one alone lacks a trainer."""
    asked = replace(problem(people=2, needs=("a",), trainers=2, rooms=2, share=1.0), away_share=1.0)
    both = replace(asked, trainers=tuple(replace(one, id=f"p{number:02}") for number, one in enumerate(asked.trainers)))
    made = planner.plan(both)
    check(both, made)
    assert {(one.trainer, *one.people) for one in made.sessions} == {("p00", "p01"), ("p01", "p00")}
    alone = replace(both, trainers=both.trainers[:1])
    made = planner.plan(alone)
    check(alone, made)
    assert (made.unplaced, made.short) == ({"p00": ["a"]}, [Short("trainers", "a", 1, "trainer_half_days", False)])


def test_a_team_never_loses_more_than_its_share() -> None:
    asked = problem(slots=10, people=12, needs=("a",), team=6, share=0.34, capacity=12)
    made = planner.plan(asked)
    check(asked, made)
    assert made.placed == 12 and max(len(one.people) for one in made.sessions) == 4, "two of each team of six"


def test_equipment_is_used_by_one_session_at_a_time_and_bounds_its_seats() -> None:
    box = Equipment("e1", "x", "box", 2, frozenset(range(20)))
    asked = problem(people=6, needs=("b",), rooms=2, trainers=2, models={"b": ("box",)}, equipment=(box,))
    made = planner.plan(asked)
    check(asked, made)
    assert made.placed == 6 and {one.capacity for one in made.sessions} == {2} and all(one.equipment == ["e1"] for one in made.sessions)


def test_progress_is_told_and_ends_at_its_end() -> None:
    told: list[tuple[int, ...]] = []
    planner.plan(problem(), lambda *figures: told.append(figures))
    assert told == sorted(told) and told[-1] == (61, 61, 24, 24)


# ---- asked for, made and carried out


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    house = House(make_units(store.metadata), at)
    handlers.put_definition(
        house.units, "policy", "default", {"zone": "Europe/Berlin", "hours_a_year": 8, "away_share": 0.5, "least_people": 1}, "tom"
    )
    handlers.put_definition(house.units, "resources", "una", {"kind": "trainer", "external": True}, "tom")
    return house


ASKED = {"from": "2027-02-01", "to": "2027-02-28", "courses": ["empathy", "mail"], "sites": ["berlin"]}


def work_off(house: House) -> str:
    return planning.work_off(house.units, planning.in_this_process)[0]


def test_a_plan_fills_everybodys_hours_and_is_carried_out(house: House) -> None:
    asked = planning.ask(house.units, ASKED, "tom")
    assert asked["state"] == "waiting"
    with pytest.raises(Conflict, match="is waiting"):
        planning.apply(house.units, asked["id"])
    assert work_off(house) == "ready" and work_off(house) == ""
    made = house.look(planning.get, asked["id"])
    result = made["result"]
    assert (made["state"], result["needed"], result["placed"], result["people"]) == ("ready", 10, 10, 5)
    assert made["progress"]["of"] == 169
    assert planning.apply(house.units, asked["id"])["state"] == "accepted"
    assert work_off(house) == "applied"
    assert house.look(planning.get, asked["id"])["result"]["refused"] == []
    for who in ("ann", "bea", "cem", "lee", "tom"):
        told = house.look(handlers.learner, who)
        assert [one["course"] for one in told["sessions"]] == ["empathy", "mail"] and told["hours"]["planned"] == 8
    planning.ask(house.units, ASKED, "tom")
    work_off(house)
    assert [row.result["needed"] for row in house.rows(store.plan)] == [10, 0], "what is planned is not planned again"


def test_a_plan_works_around_what_is_there_and_is_not_carried_out_over_it(house: House) -> None:
    taken = house.session(day="2027-02-01")
    asked = planning.ask(house.units, ASKED, "tom")
    work_off(house)
    sessions = house.look(planning.get, asked["id"])["result"]["sessions"]
    assert (taken["day"], "am") not in {(one["day"], one["half"]) for one in sessions}
    house.session(day=sessions[0]["day"], half=sessions[0]["half"])
    with pytest.raises(Conflict, match="taken already: r1"):
        planning.apply(house.units, asked["id"])
    assert len(house.rows(store.session)) == 2


def test_who_cannot_be_planned_is_told_and_why(house: House) -> None:
    handlers.put_definition(
        house.units, "resources", "r1", {"kind": "room", "site": "berlin", "capacity": 2, "weekly": {"mon": ["am"]}}, "tom"
    )
    asked = planning.ask(house.units, ASKED, "tom")
    assert work_off(house) == "short"
    result = house.look(planning.get, asked["id"])["result"]
    assert [(one["what"], one["where"], one["by"]) for one in result["short"]] == [("rooms", "berlin", 1)]
    assert result["short"][0]["words"]["en"].startswith("berlin: 1 more half-days of a room")
    assert sum(map(len, result["unplaced"].values())) == result["needed"] - result["placed"] == 2


def test_an_interrupted_plan_is_taken_up_again(house: House, at: SetClock) -> None:
    asked = planning.ask(house.units, ASKED, "tom")
    with house.units() as work:
        store.change(work.connection, store.plan, asked["id"], state="planning")
    assert work_off(house) == ""
    at.forward(121)
    assert work_off(house) == "ready"


def test_a_plan_of_a_process_that_ended_without_one_has_failed(house: House) -> None:
    asked = planning.ask(house.units, ASKED, "tom")
    assert planning.work_off(house.units, lambda _: iter([b'{"done": 1}']))[0] == "failed"
    assert "plan again" in house.look(planning.get, asked["id"])["result"]["error"]


def test_the_process_of_its_own_makes_the_same_plan() -> None:
    text = orjson.dumps(planning.as_json(problem(slots=4)))
    assert list(planning.in_a_process(text))[-1].strip() == list(planning.in_this_process(text))[-1]


@pytest.mark.parametrize(
    ("process", "silent", "longest", "told"),
    [
        ("import time; time.sleep(60)", 0.2, 60.0, "said nothing for 0.2 s"),
        ("import sys, time; sys.stdin.read(); print('{}', flush=True); time.sleep(60)", 0.2, 60.0, "said nothing for 0.2 s"),
        ("while True: print('{}', flush=True)", 60.0, 0.4, "longer than 0.4 s"),
        ("import sys; sys.exit(3)", 60.0, 60.0, "ended with code 3"),
    ],
)
def test_a_process_that_hangs_is_ended_and_says_so(
    monkeypatch: pytest.MonkeyPatch, process: str, silent: float, longest: float, told: str
) -> None:
    monkeypatch.setattr(planning, "SILENT_SECONDS", silent)
    monkeypatch.setattr(planning, "LONGEST_SECONDS", longest)
    with pytest.raises(ChildProcessError, match=told):
        list(planning.in_a_process(b" " * 2_000_000, [sys.executable, "-c", process]))


@pytest.mark.parametrize(
    "wrong", [{"to": "2027-01-31"}, {"to": "2028-01-31"}, {"courses": ["none"]}, {"from": "2027-01-01", "to": "2027-12-31"}]
)
def test_a_plan_that_makes_no_sense_is_refused(house: House, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        planning.ask(house.units, ASKED | wrong, "tom")


def test_who_sits_in_a_session_elsewhere_is_not_free_at_that_time_by_their_own_clock(house: House) -> None:
    handlers.put_definition(house.units, "policy", "default", {"zone": "Europe/Berlin", "sites": {"hk": "Asia/Hong_Kong"}}, "tom")
    for room in ("rb", "rh"):
        handlers.put_definition(house.units, "resources", room, {"kind": "room", "site": {"rb": "berlin", "rh": "hk"}[room]}, "tom")
    house.person("kai", "agent", site="hk")
    online = house.session(day="2027-02-01", place="off_site", room="", site="", trainers=["una"])  # 8:30 in Berlin is 15:30 in Hong Kong
    classes.enrol(house.units, online["id"], ["kai"], False)
    asked = {"from": "2027-02-01", "to": "2027-02-02", "courses": ["empathy", "mail"], "sites": []}
    made, slots, _ = house.look(planning.problem_of, asked)
    away = {one.id: {slots[number] for number in one.away} for one in made.learners}
    assert away["kai"] == {("2027-02-01", "pm")} and away["ann"] == set()
    open = {one.id: [slots[number] for number in sorted(one.open)] for one in made.trainers}
    assert open["una"] == [("2027-02-02", "am"), ("2027-02-02", "pm")], "of no site: neither half is free everywhere"


def test_a_trainer_who_has_a_seat_is_not_planned_to_teach_then(house: House) -> None:
    online = house.session(day="2027-02-01", place="off_site", room="", trainers=["una"])
    classes.enrol(house.units, online["id"], ["tom"], False)
    made, slots, _ = house.look(planning.problem_of, ASKED)
    (open,) = [one.open for one in made.trainers if one.id == "tom"]
    assert ("2027-02-01", "am") not in {slots[number] for number in open} and ("2027-02-01", "pm") in {slots[number] for number in open}
    asked = planning.ask(house.units, ASKED, "tom")
    work_off(house)
    assert planning.apply(house.units, asked["id"])["state"] == "accepted"


def test_a_trainer_who_travels_teaches_nowhere_while_booked_at_one_site_though_their_own_is_another(house: House) -> None:
    handlers.put_definition(house.units, "policy", "default", {"zone": "Europe/Berlin", "sites": {"hk": "Asia/Hong_Kong"}}, "tom")
    house.person("tom", "trainer", site="hk")
    house.session(day="2027-02-01")  # 8:30 in Berlin is 15:30 in Hong Kong
    made, slots, _ = house.look(planning.problem_of, {"from": "2027-02-01", "to": "2027-02-02", "courses": ["empathy"], "sites": []})
    (tom,) = [one for one in made.trainers if one.id == "tom"]
    assert [slots[number] for number in sorted(tom.open)] == [("2027-02-02", "am"), ("2027-02-02", "pm")]


def test_a_half_day_that_the_clock_leaves_out_is_passed_over_by_a_plan(house: House) -> None:
    night = {"zone": "Australia/Lord_Howe", "halves": {"night": "02:10", "am": "08:30"}, "away_share": 1.0, "least_people": 1}
    handlers.put_definition(house.units, "policy", "default", night, "tom")
    for name, kind in (("r1", "room"), ("una", "trainer")):
        handlers.put_definition(house.units, "resources", name, {"kind": kind, "weekly": {"sun": ["night"]}}, "tom")
    planning.ask(house.units, {"from": "2027-10-01", "to": "2027-10-31", "courses": ["empathy"], "sites": []}, "tom")
    work_off(house)
    days = {one["day"] for one in house.rows(store.plan)[0].result["sessions"]}
    assert days and days <= {"2027-10-10", "2027-10-17", "2027-10-24", "2027-10-31"}, "on the 3rd it is set forward"


def test_who_is_elsewhere_when_a_plan_is_carried_out_is_left_out(house: House) -> None:
    asked = planning.ask(house.units, ASKED, "tom")
    work_off(house)
    first = house.look(planning.get, asked["id"])["result"]["sessions"][0]
    other = house.session(day=first["day"], half=first["half"], room="", place="off_site", trainers=[])
    classes.enrol(house.units, other["id"], first["people"][:1], False)
    planning.apply(house.units, asked["id"])
    work_off(house)
    seats = {one["person"] for one in house.look(classes.get, first["id"])["seats"]}
    assert seats == set(first["people"][1:])


def test_a_plan_that_is_asked_for_again_is_the_plan_that_it_is(house: House) -> None:
    id = planning.ask(house.units, ASKED, "tom", new_id())["id"]
    work_off(house)
    again = planning.ask(house.units, ASKED, "tom", id)
    assert (again["id"], again["state"], len(house.rows(store.plan))) == (id, "ready", 1)
