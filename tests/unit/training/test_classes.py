"""Sessions, seats, waiting lists, attendance and programmes, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.training import classes, handlers, store
from shared import clock
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import new_id
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.training.house import House

CROWD = 40


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)


def enrol(house: House, id: str, *people: str, wait: bool = False) -> dict[str, Any]:
    return classes.enrol(house.units, id, people, wait)


def seats(told: dict[str, Any]) -> dict[str, str]:
    return {one["person"]: one["state"] for one in told["seats"]}


def get(house: House, id: str) -> dict[str, Any]:
    told: dict[str, Any] = house.look(classes.get, id)
    return told


# ---- when and where


def test_a_half_day_is_four_hours_by_the_clock_of_its_site(house: House) -> None:
    winter, summer = house.session(day="2027-03-26"), house.session(day="2027-03-29")
    assert (winter["starts_at"], winter["ends_at"]) == ("2027-03-26T07:30:00.000Z", "2027-03-26T11:30:00.000Z")
    assert (summer["starts_at"], summer["ends_at"]) == ("2027-03-29T06:30:00.000Z", "2027-03-29T10:30:00.000Z")
    assert house.session(site="hk", room="", place="off_site", trainers=[])["starts_at"] == "2027-01-18T00:30:00.000Z"


def test_a_time_that_summer_time_leaves_out_is_refused(house: House) -> None:
    night = {"zone": "Europe/Berlin", "halves": {"night": "02:30"}}
    handlers.put_definition(house.units, "policy", "default", night, "tom")
    handlers.put_definition(house.units, "resources", "r2", {"kind": "room", "weekly": {"sun": ["night"]}}, "tom")
    with pytest.raises(Invalid, match="leaves out 02:30"):
        house.session(day="2027-03-28", half="night", room="r2", trainers=[])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"course": "none"}, "no none among the courses"),
        ({"room": "r9"}, "no room r9"),
        ({"room": "tom"}, "no room tom"),
        ({"site": "hk"}, "The room r1 is at berlin"),
        ({"half": "evening"}, "no half-day evening"),
        ({"day": "2027-01-23"}, "r1 is not there on 2027-01-23"),
        ({"day": "2027-01-14"}, "in the past"),
        ({"capacity": 3}, "take 2"),
        ({"room": ""}, "needs a room"),
        ({"place": "lab"}, "needs equipment"),
    ],
)
def test_a_session_that_cannot_be_held_is_refused_and_nothing_is_written(house: House, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises((Invalid, Conflict, NotFound), match=told):
        house.session(**wrong)
    assert house.rows(store.session) == house.rows(store.booking) == []


def test_a_room_and_a_trainer_are_in_one_place_at_a_time_and_both_are_named(house: House) -> None:
    first = house.session()
    with pytest.raises(Conflict, match=f"r1 by session {first['id']}; tom by session {first['id']}"):
        house.session()
    house.session(half="pm")
    classes.cancel(house.units, first["id"], "")
    house.session()


def test_the_lab_has_the_customers_equipment_and_as_many_seats_as_it(house: House) -> None:
    handlers.put_definition(
        house.units, "courses", "lab", {"title": "Router", "topic": "product", "hours": 4, "equipment": ["fb7590"]}, "tom"
    )
    for name in ("box1", "box2"):
        handlers.put_definition(house.units, "resources", name, {"kind": "equipment", "model": "fb7590", "capacity": 4}, "tom")
    handlers.put_definition(house.units, "resources", "big", {"kind": "room", "capacity": 40}, "tom")
    with pytest.raises(Invalid, match="equipment that the session has not: fb7590"):
        house.session("lab", room="big")
    one = house.session("lab", room="big", place="lab", equipment=["box1", "box2"])
    assert one["capacity"] == 8, "both boxes together, which is less than the room and the trainer take"


def test_a_trainer_is_away_on_the_days_that_they_say_and_teaches_what_they_say(house: House) -> None:
    away = {"kind": "trainer", "closed": [{"from": "2027-01-18", "to": "2027-01-20"}], "courses": ["empathy"]}
    handlers.put_definition(house.units, "resources", "tom", away, "tom")
    with pytest.raises(Conflict, match="trainer tom is not there on 2027-01-20"):
        house.session(day="2027-01-20")
    with pytest.raises(Invalid, match="does not teach mail"):
        house.session("mail", day="2027-01-21")
    house.session(day="2027-01-21")


# ---- seats


def test_one_person_too_many_is_refused_or_waits_and_moves_up(house: House) -> None:
    id = house.session()["id"]
    enrol(house, id, "ann", "bea")
    with pytest.raises(Conflict, match="cem would be one too many: all 2 seats are taken"):
        enrol(house, id, "cem")
    assert seats(enrol(house, id, "cem", wait=True)) == {"ann": "enrolled", "bea": "enrolled", "cem": "waiting"}
    assert seats(classes.withdraw(house.units, id, "ann")) == {"ann": "withdrawn", "bea": "enrolled", "cem": "enrolled"}
    assert [(one["person"], one["state"]) for one in house.told("enrolled")][-2:] == [("ann", "withdrawn"), ("cem", "enrolled")]


def test_of_many_at_once_as_many_have_seats_as_there_are(house: House) -> None:
    id, people = house.session()["id"], [f"p{number:03}" for number in range(CROWD)]
    with house.units() as work:
        store.put_people(work.connection, [{**house.look(store.get_person, "ann"), "id": who} for who in people])

    def try_it(who: str) -> bool:
        try:
            enrol(house, id, who)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(try_it, people)) == 2
    assert len(seats(get(house, id))) == 2


def test_who_is_asked_to_teach_and_to_learn_at_one_moment_does_one_of_both(house: House) -> None:
    handlers.put_definition(house.units, "resources", "ann", {"kind": "trainer"}, "tom")
    days = [f"2027-01-{day}" for day in range(18, 23)]
    ids = {day: house.session(day=day)["id"] for day in days}

    def learn(day: str) -> Any:
        return enrol(house, ids[day], "ann")

    def teach(day: str) -> Any:
        return house.session(day=day, room="", place="off_site", trainers=["ann"])

    def refused(act: Any, day: str) -> bool:
        try:
            act(day)
        except Conflict:
            return True
        return False

    with ThreadPoolExecutor(2) as pool:
        for day in days:
            assert sum(pool.map(refused, (learn, teach), (day, day))) == 1


def test_a_room_asked_for_twice_at_once_is_given_once(house: House) -> None:
    def try_it(_: int) -> bool:
        try:
            house.session()
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(try_it, range(4))) == [False, False, False, True]
    assert len(house.rows(store.session)) == 1


def test_of_several_people_all_have_seats_or_none(house: House) -> None:
    id = house.session()["id"]
    with pytest.raises(Conflict, match="cem would be one too many"):
        enrol(house, id, "ann", "bea", "cem")
    assert seats(get(house, id)) == {} and house.told("enrolled") == []


def test_nobody_is_in_two_sessions_at_once_and_no_trainer_learns_while_teaching(house: House) -> None:
    one, other = house.session()["id"], house.session(room="", place="off_site", trainers=[])["id"]
    enrol(house, one, "ann")
    with pytest.raises(Conflict, match=f"in another session then: ann \\({one}\\)"):
        enrol(house, other, "ann")
    with pytest.raises(Conflict, match="teach then: tom"):
        enrol(house, other, "tom")
    enrol(house, house.session(half="pm")["id"], "ann")


def test_who_waits_and_is_not_free_is_passed_over(house: House) -> None:
    id, other = house.session()["id"], house.session(room="", place="off_site", trainers=[])["id"]
    enrol(house, id, "ann", "bea")
    enrol(house, id, "cem", "lee", wait=True)
    enrol(house, other, "cem")
    assert seats(classes.withdraw(house.units, id, "ann")) == {"ann": "withdrawn", "bea": "enrolled", "cem": "waiting", "lee": "enrolled"}


def test_who_leaves_the_company_leaves_their_seats_to_those_who_wait(house: House) -> None:
    id = house.session()["id"]
    enrol(house, id, "ann", "bea")
    enrol(house, id, "cem", wait=True)
    house.person("ann", "agent", active=False)
    assert seats(get(house, id)) == {"ann": "withdrawn", "bea": "enrolled", "cem": "enrolled"}
    with pytest.raises(Conflict, match="does not work here"):
        enrol(house, house.session(half="pm")["id"], "ann")


def test_a_cancelled_session_gives_all_seats_back_and_is_over(house: House) -> None:
    id = house.session()["id"]
    enrol(house, id, "ann")
    assert classes.cancel(house.units, id, "trainer ill")["reason"] == "trainer ill"
    assert house.told("enrolled")[-1]["state"] == "withdrawn"
    for act in (
        lambda: enrol(house, id, "bea"),
        lambda: classes.cancel(house.units, id, ""),
        lambda: classes.withdraw(house.units, id, "ann"),
    ):
        with pytest.raises(Conflict, match="cancelled"):
            act()


def test_a_session_moves_with_those_who_have_seats_unless_one_cannot(house: House) -> None:
    id, other = house.session()["id"], house.session(half="pm")["id"]
    enrol(house, id, "ann")
    enrol(house, other, "ann")
    with pytest.raises(Conflict, match="taken already: r1"):
        classes.move(house.units, id, {"half": "pm"})
    with pytest.raises(Conflict, match="seat elsewhere: ann"):
        classes.move(house.units, id, {"half": "pm", "room": "", "place": "off_site", "trainers": []})
    moved = classes.move(house.units, id, {"day": "2027-01-19"})
    assert (moved["starts_at"], seats(moved)) == ("2027-01-19T07:30:00.000Z", {"ann": "enrolled"})
    house.session()


# ---- attendance


def test_attendance_is_in_the_ledger_and_completes_the_course(house: House, at: SetClock) -> None:
    house.take("empathy", "ann")
    told = house.look(handlers.learner, "ann")
    assert (told["courses"], told["hours"]["attended"]) == ([{"course": "empathy", "version": 1}], 4)
    assert [one["completed"] for one in house.told("session_attended")] == [True]
    assert [(one["hours"], one["day"]) for one in house.told("hours_recorded")] == [(4, "2027-01-18")]


def test_told_again_attendance_corrects_the_ledger_by_the_difference(house: House, at: SetClock) -> None:
    id = house.session()["id"]
    enrol(house, id, "ann")
    with pytest.raises(Conflict, match="has not begun"):
        classes.attend(house.units, id, [{"person": "ann", "present": True, "hours": None}], "tom")
    at.seconds = clock.from_text("2027-01-18T12:00:00Z")
    for hours, present in ((4, True), (2.5, True), (None, False)):
        classes.attend(house.units, id, [{"person": "ann", "present": present, "hours": hours}], "tom")
    assert [row.hours for row in house.rows(store.hours)] == [4, -1.5, -2.5]
    assert seats(get(house, id)) == {"ann": "absent"}
    with pytest.raises(Invalid, match="lasts 4 hours"):
        classes.attend(house.units, id, [{"person": "ann", "present": True, "hours": 5}], "tom")
    two = [{"person": "ann", "present": True, "hours": None}, {"person": "nobody", "present": True, "hours": None}]
    with pytest.raises(NotFound):
        classes.attend(house.units, id, two, "tom")
    assert house.look(handlers.learner, "ann")["hours"]["attended"] == 0, "all of it or nothing"


def test_a_course_of_two_half_days_is_complete_after_both(house: House) -> None:
    handlers.put_definition(house.units, "courses", "empathy", {"title": "Empathy", "topic": "empathy", "hours": 8}, "tom")
    house.take("empathy", "ann")
    assert house.look(handlers.learner, "ann")["courses"] == []
    house.take("empathy", "ann", half="pm")
    assert house.look(handlers.learner, "ann")["courses"] == [{"course": "empathy", "version": 2}]


def test_an_agent_sees_of_the_seats_their_own(house: House) -> None:
    id = house.session()["id"]
    enrol(house, id, "ann", "bea")
    assert seats(house.look(classes.get, id, {"sites": [], "teams": [], "agent": "ann"})) == {"ann": "enrolled"}
    with pytest.raises(NotFound):
        house.look(classes.get, id, {"sites": ["hk"], "teams": [], "agent": None})


# ---- programmes

TERMS = [
    {"months": 4, "days": 4, "courses": ["empathy"] * 20},
    {"months": 4, "days": 4, "gap_months": 3, "courses": ["mail"]},
    {"months": 3, "courses": ["alone"]},
]


def programme(house: House, **more: Any) -> dict[str, Any]:
    handlers.put_definition(house.units, "templates", "standard", {"terms": TERMS}, "tom")
    told = {
        "template": "standard",
        "start": "2027-02-01",
        "weekday": "",
        "site": "berlin",
        "place": "on_site",
        "room": "r1",
        "trainers": ["tom"],
        "equipment": [],
        "capacity": None,
    }
    return classes.create_programme(house.units, "spring", told | more, "tom")


def test_a_programme_is_made_of_its_template(house: House) -> None:
    made = programme(house)
    days = [(one["day"], one["half"], one["course"]) for one in made["sessions"]]
    assert days[:4] == [
        ("2027-02-01", "am", "empathy"),
        ("2027-02-01", "pm", "empathy"),
        ("2027-02-08", "am", "empathy"),
        ("2027-02-08", "pm", "empathy"),
    ]
    assert days[8][0] == "2027-03-01" and days[20] == ("2027-09-06", "am", "mail"), "the second term begins three months after the first"
    assert days[21] == ("2028-01-03", "am", "alone") and len(days) == 22


def test_a_programme_passes_over_closed_days(house: House) -> None:
    handlers.put_definition(
        house.units, "resources", "r1", {"kind": "room", "capacity": 2, "closed": [{"from": "2027-02-08", "to": "2027-02-08"}]}, "tom"
    )
    assert programme(house)["sessions"][2]["day"] == "2027-02-09"


def test_a_programme_is_moved_as_a_whole_or_not_at_all(house: House, at: SetClock) -> None:
    programme(house)
    at.seconds = clock.from_text("2027-02-10T00:00:00Z")
    house.session(day="2027-03-03")
    with pytest.raises(Conflict, match="2027-03-03"):
        classes.move_programme(house.units, "spring", "2027-02-03", "wed")
    before = house.look(classes.get_programme, "spring")["sessions"]
    assert before[4]["day"] == "2027-02-15"
    moved = classes.move_programme(house.units, "spring", "2027-02-04", "thu")["sessions"]
    assert [one["day"] for one in moved[:6]] == ["2027-02-01", "2027-02-01", "2027-02-08", "2027-02-08", "2027-02-18", "2027-02-18"], (
        "what was held stays"
    )
    assert moved[8]["day"] == "2027-03-04"


def test_a_programme_that_cannot_be_held_leaves_nothing_behind(house: House) -> None:
    house.session(day="2027-04-05")
    with pytest.raises(Conflict, match="2027-04-05"):
        programme(house)
    assert len(house.rows(store.session)) == 1 and house.rows(store.programme) == []
    with pytest.raises(Conflict, match="programme spring already"):
        programme(house, start="2029-02-05")
        programme(house)


def test_what_begins_at_the_same_moment_is_seen_page_by_page(house: House) -> None:
    ids = {house.session(day=day, half=half)["id"] for day in ("2027-01-18", "2027-01-19") for half in ("am", "pm")}
    asked: dict[str, Any] = {"from": 0.0, "to": 4e9, "limit": 3, "after": "", "person": ""}
    page = house.look(classes.listing, asked)
    rest = house.look(classes.listing, {**asked, "after": page["next"]})
    assert (len(page["items"]), rest["next"], {one["id"] for one in page["items"] + rest["items"]}) == (3, None, ids)
    enrol(house, page["items"][1]["id"], "ann")
    assert [one["id"] for one in house.look(classes.listing, {**asked, "person": "ann"})["items"]] == [page["items"][1]["id"]]


# ---- found by attack


def second_room(house: House) -> None:
    handlers.put_definition(house.units, "resources", "big", {"kind": "room", "site": "berlin", "capacity": 9}, "x")
    handlers.put_definition(house.units, "resources", "lee", {"kind": "trainer"}, "x")


def test_a_move_keeps_the_capacity_that_was_said(house: House) -> None:
    assert classes.move(house.units, house.session(capacity=1)["id"], {"day": "2027-01-19"})["capacity"] == 1


def test_a_larger_room_gives_seats_to_those_who_wait(house: House) -> None:
    second_room(house)
    one = house.session()
    enrol(house, one["id"], "ann", "bea", "cem", wait=True)
    assert set(seats(classes.move(house.units, one["id"], {"room": "big"})).values()) == {"enrolled"}


def test_nobody_teaches_and_learns_at_one_time_by_a_move_or_by_moving_up(house: House) -> None:
    second_room(house)
    one = house.session()
    enrol(house, one["id"], "lee", "bea")
    with pytest.raises(Conflict, match="lee"):
        classes.move(house.units, one["id"], {"trainers": ["lee"]})
    house.session(half="pm", room="big", trainers=["lee"])
    with pytest.raises(Conflict, match="lee"):
        classes.move(house.units, one["id"], {"half": "pm"})
    other = house.session(day="2027-01-19")
    enrol(house, other["id"], "ann", "bea")
    enrol(house, other["id"], "lee", wait=True)
    house.session(day="2027-01-19", room="big", trainers=["lee"])
    classes.withdraw(house.units, other["id"], "ann")
    assert seats(get(house, other["id"]))["lee"] == "waiting"


def test_one_time_counts_once_in_the_ledger(house: House) -> None:
    handlers.put_definition(house.units, "resources", "r2", {"kind": "room", "site": "berlin"}, "tom")
    house.take("empathy", "ann")
    house.take("empathy", "bea", day="2027-01-19")
    attended = house.rows(store.session)[0].id
    beside = house.rows(store.session)[1].id
    with house.units() as work:  # it was held at the same time, elsewhere
        first = store.find(work.connection, store.session, attended) or {}
        store.change(work.connection, store.session, beside, starts_at=first["starts_at"], ends_at=first["ends_at"])
    for who, told in (("ann", f"ann attended session {attended} at that time"), ("tom", "tom taught at that time")):
        with pytest.raises(Conflict, match=told):
            classes.attend(house.units, beside, [{"person": who, "present": True, "hours": 1.0}], "lee")
    assert [row.hours for row in house.rows(store.hours) if row.person == "ann"] == [4.0]


def test_nobody_withdraws_from_a_session_that_has_begun(house: House, at: SetClock) -> None:
    one = house.session()
    enrol(house, one["id"], "ann")
    at.seconds = clock.from_text(one["starts_at"]) + 1
    with pytest.raises(Conflict, match="has begun"):
        classes.withdraw(house.units, one["id"], "ann")


def test_an_agent_cannot_ask_for_the_sessions_of_another(house: House) -> None:
    enrol(house, house.session()["id"], "bea")
    asked = {"from": 0.0, "to": 4e9, "person": "bea", "limit": 10, "after": ""}
    with pytest.raises(NotFound):
        house.look(classes.listing, asked, {"sites": [], "teams": [], "agent": "ann"})


def test_who_leads_one_site_moves_no_session_to_another(house: House) -> None:
    one = house.session(room="", place="off_site", trainers=[])
    with pytest.raises(Invalid, match="others than you"):
        classes.move(house.units, one["id"], {"site": "hk"}, {"sites": ["berlin"], "teams": [], "agent": None})


def test_attendance_taken_back_takes_the_course_back(house: House) -> None:
    house.take("empathy", "ann")
    session = house.rows(store.session)[0].id
    classes.attend(house.units, session, [{"person": "ann", "present": False, "hours": None}], "tom")
    assert house.look(store.completions, ["ann"]) == {}


@pytest.mark.parametrize("start", ["0001-01-01", "9999-11-01"])
def test_days_beyond_any_calendar_are_refused(house: House, start: str) -> None:
    handlers.put_definition(house.units, "templates", "t", {"terms": [{"months": 4, "gap_months": 1, "courses": ["empathy"]}]}, "x")
    told = {"template": "t", "start": start, "weekday": "", "site": "berlin", "place": "on_site", "room": "r1", "trainers": [], "equipment": [],
            "capacity": None}  # fmt: skip
    with pytest.raises(Invalid, match="year from"):
        classes.create_programme(house.units, "p", told, "x")
    with pytest.raises(Invalid, match="year from"):
        house.session(day=start)


def test_a_programme_of_centuries_is_refused_at_once(house: House) -> None:
    handlers.put_definition(house.units, "templates", "t", {"terms": [{"months": 24, "courses": ["empathy"]}] * 500}, "x")
    told = {"template": "t", "start": "2027-02-01", "weekday": "", "site": "berlin", "place": "on_site", "room": "r1", "trainers": ["tom"],
            "equipment": [], "capacity": None}  # fmt: skip
    with pytest.raises(Invalid, match="12000 months"):
        classes.create_programme(house.units, "p", told, "x")


def test_a_session_that_is_made_again_is_the_session_that_it_is(house: House) -> None:
    told = {"course": "empathy", "day": "2027-01-18", "half": "am", "site": "berlin", "place": "on_site", "room": "r1"}
    told |= {"trainers": ["tom"], "equipment": [], "capacity": None}
    id = classes.create(house.units, told, new_id())["id"]
    enrol(house, id, "ann")
    assert seats(classes.create(house.units, told, id)) == seats(get(house, id)) == {"ann": "enrolled"}
    assert len(house.rows(store.session)) == 1
