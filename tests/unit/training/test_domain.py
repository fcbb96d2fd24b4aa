"""The pure parts: ladders, exams and their statistics, the ledger, lessons, programmes, time to competence, time zones."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.domain import certificate, competence, courses, exam, ladder, ledger, lessons, paths, programme, sessions
from services.training.domain.courses import Course
from services.training.domain.errors import Conflict, Invalid, Refused
from services.training.domain.exam import Exam, Question
from services.training.domain.ladder import Rung
from services.training.domain.programme import STANDARD, Term
from services.training.domain.sessions import Policy, Session
from shared import clock

DAY = 86400.0


# ---- ladders and courses


@given(st.permutations("abcdef"), st.randoms(use_true_random=False))
def test_a_ladder_whatever_the_order_of_its_lines_has_each_channel_behind_the_one_it_follows(
    names: list[str], chance: random.Random
) -> None:
    rungs = [Rung(names[0])] + [Rung(name, chance.choice(names[:number])) for number, name in enumerate(names[1:], 1)]
    first, *others = rungs
    chance.shuffle(others)
    done: list[str] = []
    for rung in ladder.in_order([first, *others]):
        assert rung.after in ("", *done)
        done.append(rung.channel)
    assert sorted(done) == sorted(names)


def test_a_circle_is_named_by_its_channels() -> None:
    with pytest.raises(Invalid, match=r"(a → b|b → c|c → a|b → a|a → c|c → b) → "):
        ladder.in_order([Rung("a", "b"), Rung("b", "c"), Rung("c", "a")])


def test_ideas_come_before_the_tool_and_easy_functions_first() -> None:
    known = {
        "idea": Course("idea", 1, "", "empathy", 4), "easy": Course("easy", 1, "", "tool", 4, "tool", 1), "hard": Course("hard", 1, "", "tool", 4, "tool", 3)
    }  # fmt: skip
    courses.check_order(("idea", "easy", "hard"), known)
    with pytest.raises(Invalid, match="ideas come first"):
        courses.check_order(("easy", "idea"), known)
    with pytest.raises(Invalid, match="easy functions come first"):
        courses.check_order(("idea", "hard", "easy"), known)


def test_a_completion_of_an_old_version_counts_no_more_where_the_course_says_so() -> None:
    known = {"a": Course("a", 5, "", "empathy", 4, counts_from=3), "b": Course("b", 5, "", "empathy", 4)}
    assert courses.done_of(("a", "b"), known, {"a": 2, "b": 1}) == (["b"], ["a"])


# ---- certificates


@given(st.lists(st.integers(1, 365), max_size=6, unique=True), st.floats(0.5, 400))
def test_each_reminder_is_sent_once_in_order_and_the_end_comes_last(reminders: list[int], days: float) -> None:
    now, expires, reminded, told = 0.0, days * DAY, None, []
    for _ in range(20):
        due, which = certificate.next_due(expires, reminders, reminded, now)
        assert due is not None and now <= due <= expires
        now = due
        if which is None:
            break
        told.append(which)
        reminded = which
    assert now == expires and told == sorted(told, reverse=True) and len(set(told)) == len(told)
    assert {one for one in reminders if one < days} <= set(told), "none of those whose time comes is left out"


# ---- exams

BANK = tuple(Question(f"q{number}", "?", ("a", "b", "c", "d"), (number % 4,)) for number in range(10))


@given(st.randoms(use_true_random=False), st.integers(1, 10))
def test_an_attempt_asks_so_many_different_questions_and_who_knows_all_has_all_right(chance: random.Random, count: int) -> None:
    paper = Exam("x", 1, BANK, count, 0.8)
    drawn = exam.draw(paper, chance)
    assert len({one["id"] for one in drawn}) == count
    right = {one["id"]: [one["order"].index(paper.question(one["id"]).correct[0])] for one in drawn}
    assert exam.grade(paper, drawn, right).score == 1
    assert exam.grade(paper, drawn, {}).score == 0


def test_a_question_with_several_right_choices_wants_exactly_these() -> None:
    paper = Exam("x", 1, (Question("q", "?", ("a", "b", "c"), (0, 2)),), 1, 1)
    drawn = exam.draw(paper, random.Random(1))
    of = {name: drawn[0]["choices"].index(name) for name in "abc"}
    for names, score in (("ac", 1), ("a", 0), ("abc", 0), ("", 0)):
        assert exam.grade(paper, drawn, {"q": [of[name] for name in names]}).score == score


def test_questions_that_were_not_seen_come_first() -> None:
    paper = Exam("x", 1, BANK, 5, 1)
    drawn = exam.draw(paper, random.Random(1), seen=["q0", "q1", "q2", "q3", "q4", "q5"])
    assert {"q6", "q7", "q8", "q9"} < {one["id"] for one in drawn}


def test_item_statistics_tell_good_questions_from_bad_ones() -> None:
    chance = random.Random(3)
    attempts = []
    for _ in range(300):
        skill = chance.random()
        right = {f"g{number}": chance.random() < skill for number in range(8)}
        attempts.append(
            right
            | {
                "easy": chance.random() < 0.99,
                "hard": chance.random() < 0.1,
                "luck": chance.random() < 0.5,
                "wrong": chance.random() < 1 - skill,
            }
        )
    told = exam.item_statistics(attempts)
    assert {told[f"g{number}"]["verdict"] for number in range(8)} == {"good"}
    assert {name: told[name]["verdict"] for name in ("easy", "hard", "wrong")} == {
        "easy": "too_easy",
        "hard": "too_hard",
        "wrong": "misleading",
    }
    assert told["luck"]["verdict"] in ("weak", "misleading") and told["easy"]["difficulty"] > 0.95
    assert exam.item_statistics(attempts[:10])["g1"]["verdict"] == "too_few"


def test_the_discrimination_is_the_correlation_with_the_rest() -> None:
    attempts = [
        {"a": True, "b": True, "c": True},
        {"a": True, "b": False, "c": True},
        {"a": False, "b": False, "c": True},
        {"a": False, "b": True, "c": False},
    ]
    assert exam.item_statistics(attempts)["a"]["discrimination"] == pytest.approx(1 / 3**0.5)


# ---- hours

POLICY = Policy(zone="Europe/Berlin")
MID = clock.from_text("2027-07-02T12:00:00Z")


def test_who_goes_on_as_they_have_will_miss_their_hours_unless_enough_is_planned() -> None:
    def account(attended: float, planned: float = 0.0, alone: float = 0.0, since: float = 0.0) -> ledger.Account:
        return ledger.account([("session", attended), ("self_study", alone)], planned, since, 2027, "Europe/Berlin", MID, POLICY)

    assert account(11).at_this_rate == pytest.approx(22, abs=0.05)
    assert [account(11).will_miss, account(12.1).will_miss, account(11, planned=13).will_miss] == [True, False, False]
    assert (account(0, alone=10).counted, account(0, alone=10).self_study) == (6, 10)
    late = account(0, since=MID - 7 * DAY)
    assert late.needed == pytest.approx(24 * (182.5 + 7) / 365, abs=0.1) and late.at_this_rate is None


def test_a_year_begins_by_the_clock_of_the_site() -> None:
    assert ledger.year_bounds(2027, "Asia/Hong_Kong")[0] == clock.from_text("2026-12-31T16:00:00Z")


# ---- lessons


def test_the_interval_of_a_difference_is_welchs() -> None:
    made = lessons.compare([0.1, 0.3, 0.2, 0.4], [0.8, 0.9, 0.7, 1.0, 0.9], 0.8, 5)
    assert (made.difference, made.low, made.high) == (pytest.approx(0.61), pytest.approx(0.4092, abs=2e-3), pytest.approx(0.8108, abs=2e-3))
    assert made.verdict == "closed"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([], [1.0] * 5, "closed"),
        ([], [0.2] * 5, "open"),
        ([0.2] * 4, [1.0] * 4, "unclear"),
        ([0.2, 0.3, 0.2], [0.2, 0.3, 0.2, 0.3, 0.2], "open"),
        ([0.1, 0.9], [0.9, 0.8, 0.7, 0.9, 0.9], "unclear"),
    ],
)
def test_a_gap_is_closed_where_it_is_better_beyond_chance(before: list[float], after: list[float], verdict: str) -> None:
    assert lessons.compare(before, after, 0.8, 5).verdict == verdict


def test_a_module_closes_nothing_when_enough_lessons_were_judged_and_none_closed() -> None:
    assert lessons.effect([0.0, 0.1, -0.1, 0.05, -0.05], 5, 0).closes_nothing
    assert not lessons.effect([0.0, 0.1, -0.1, 0.05], 4, 0).closes_nothing
    assert not lessons.effect([0.4, 0.5, 0.45, 0.5, 0.5], 5, 0).closes_nothing, "none closed, but all much better"
    assert not lessons.effect([0.0] * 5, 5, 1).closes_nothing


# ---- time to competence


def test_who_is_still_learning_makes_the_time_longer_not_shorter() -> None:
    assert competence.quantile([10, 20, 30, 40], [], 0.5) == 20
    assert competence.quantile([10, 20, 30, 40], [100, 100, 100, 100], 0.5) == 40
    assert competence.quantile([10], [100, 100], 0.5) is None
    assert competence.quantile([10, 30], [20], 0.5) == 30
    assert competence.quantile([], [], 0.5) is None


# ---- paths


def test_a_path_says_what_is_missing_and_who_may_take_it() -> None:
    path = paths.Path(
        "senior", "agent", "senior", certificates=("voice",), courses=("empathy",), quality=0.8, evaluations=2, months=6, hours=10
    )
    now = 365 * DAY
    ready = paths.Record({"agent": 0.0}, "t1", ["voice"], ["empathy"], [0.9, 0.8], 12)
    assert paths.missing(path, ready, now) == [] and ready.may_take(path)
    new = paths.Record({"agent": now - 30 * DAY})
    assert [one["what"] for one in paths.missing(path, new, now)] == ["certificate", "courses", "quality", "months", "hours"]
    assert not paths.Record({"agent": 0.0, "senior": 0.0}).may_take(path)
    rotation = paths.Path("to t2", "agent", to_team="t2")
    assert ready.may_take(rotation) and not paths.Record({"agent": 0.0}, "t2").may_take(rotation)


# ---- programmes


def test_the_standard_programme_is_four_months_of_four_days_a_second_term_three_months_later_and_a_last_of_three_months() -> None:
    full = {name: Course(name, 1, "", "empathy", 4 * count) for name, count in (("a", 32), ("b", 32), ("c", 24))}
    terms = [Term(one.months, one.days, one.gap_months, (name,)) for one, name in zip(STANDARD, full, strict=True)]
    made = programme.schedule(terms, date(2027, 1, 4), 0, ("am", "pm"), 4, full, lambda day: day.weekday() < 5)
    days = [sorted({one.day for one in made if one.term == number}) for number in (1, 2, 3)]
    assert [len(of) for of in days] == [16, 16, 12]
    assert (days[0][0], days[1][0], days[2][0]) == (date(2027, 1, 4), date(2027, 8, 9), date(2027, 12, 6))
    assert all(one.day.weekday() == 0 for one in made) and len(made) == 88


def test_courses_that_need_more_than_a_term_has_say_by_how_much() -> None:
    course = Course("a", 1, "", "empathy", 40)
    with pytest.raises(Invalid, match="need 10 half-days; it has 8: 2 too many"):
        programme.schedule([Term(1, 4, 0, ("a",))], date(2027, 1, 4), 0, ("am", "pm"), 4, {"a": course}, lambda _: True)


def test_months_end_where_they_end() -> None:
    assert programme.months_after(date(2027, 1, 31), 1) == date(2027, 2, 28)
    assert programme.months_after(date(2027, 11, 30), 3) == date(2028, 2, 29)


# ---- seats


def session(capacity: int = 3) -> Session:
    return Session("s", "c", 1, "2027-01-18", "am", "UTC", 100.0, 100.0 + 4 * 3600, "", "on_site", "", [], [], capacity)


@given(st.lists(st.tuples(st.sampled_from(["enrol", "wait", "withdraw"]), st.sampled_from("abcdefgh")), max_size=60))
def test_a_session_never_holds_more_than_it_takes_and_nobody_waits_beside_a_free_seat(acts: list[tuple[str, str]]) -> None:
    one = session()
    for act, who in acts:
        before = one.waiting
        with suppress(Refused):
            if act == "withdraw":
                one.withdraw(who)
                one.promote(lambda _: True)
            else:
                one.enrol(who, act == "wait", 0.0)
        assert len(one.enrolled) <= one.capacity
        assert not one.waiting or len(one.enrolled) == one.capacity
        kept = [person for person in before if person in one.waiting]
        assert [person for person in one.waiting if person in kept] == kept, "the order of the waiting list holds"


def test_who_comes_unannounced_is_one_too_many_when_all_seats_are_taken() -> None:
    one = session(1)
    one.enrol("a", False, 0.0)
    with pytest.raises(Conflict, match="one too many"):
        one.attend("b", None, 200.0)
    assert one.attend("a", None, 200.0) == 4


@pytest.mark.parametrize(
    ("zone", "day", "half", "begins", "ends"),
    [
        ("Australia/Sydney", "2027-04-02", "am", "2027-04-01T21:30:00.000Z", "2027-04-02T01:30:00.000Z"),
        ("Australia/Sydney", "2027-04-05", "am", "2027-04-04T22:30:00.000Z", "2027-04-05T02:30:00.000Z"),
        ("Australia/Lord_Howe", "2027-04-02", "am", "2027-04-01T21:30:00.000Z", "2027-04-02T01:30:00.000Z"),  # half an hour of summer time
        ("Australia/Lord_Howe", "2027-04-05", "am", "2027-04-04T22:00:00.000Z", "2027-04-05T02:00:00.000Z"),
        ("Asia/Kathmandu", "2027-01-18", "am", "2027-01-18T02:45:00.000Z", "2027-01-18T06:45:00.000Z"),
        (
            "Europe/Berlin",
            "2027-03-28",
            "night",
            "2027-03-28T00:15:00.000Z",
            "2027-03-28T04:15:00.000Z",
        ),  # to 6:15 on the wall, and four hours
        ("Europe/Berlin", "2027-10-31", "night", "2027-10-30T23:15:00.000Z", "2027-10-31T03:15:00.000Z"),  # to 4:15
        ("Europe/Berlin", "2027-10-31", "twice", "2027-10-31T00:15:00.000Z", "2027-10-31T04:15:00.000Z"),  # the first of both
    ],
)
def test_a_half_day_begins_by_the_clock_on_the_wall_and_lasts_four_hours(zone: str, day: str, half: str, begins: str, ends: str) -> None:
    policy = Policy(halves={"night": "01:15", "twice": "02:15", "am": "08:30"})
    assert tuple(map(clock.to_text, sessions.moments(policy, zone, date.fromisoformat(day), half))) == (begins, ends)


@pytest.mark.parametrize(
    ("zone", "day", "half"), [("Europe/Berlin", "2027-03-28", "02:59"), ("Australia/Lord_Howe", "2027-10-03", "02:29")]
)
def test_a_time_that_the_clock_leaves_out_is_none(zone: str, day: str, half: str) -> None:
    with pytest.raises(Invalid, match=f"leaves out {half}"):
        sessions.moments(Policy(halves={"night": half}), zone, date.fromisoformat(day), "night")


def test_the_day_of_a_moment_is_the_places_own() -> None:
    at = clock.from_text("2027-01-18T16:30:00Z")
    assert [sessions.local_day(at, zone).day for zone in ("UTC", "Asia/Hong_Kong")] == [18, 19]
