"""Figures of training, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from services.training import classes, handlers, reports, store
from shared import clock
from shared.errors import NotFound
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.training.house import DAY, House


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)


def report(house: House, name: str, scope: Any = None, **filters: Any) -> dict[str, Any]:
    told: dict[str, Any] = house.look(reports.REPORTS[name], {"site": "", "team": "", **filters}, scope)
    return told


def test_the_matrix_shows_who_is_certified_practises_or_learns_and_who_has_left_is_not_in_it(house: House) -> None:
    house.give("ann", "voice", 100)
    handlers.open_learning(house.units, "bea", "voice", "lee", "", "")
    until = house.at() + 5 * DAY
    told = {"channel": "voice", "supervisor": "lee", "contacts_a_day": 3, "until": until, "queues": []}
    handlers.give_permit(house.units, "bea", told, "lee")
    handlers.open_learning(house.units, "cem", "voice", "lee", "", "")
    house.person("tom", "trainer", active=False)
    made = report(house, "certifications")
    cells = {row["person"]: row["targets"] for row in made["people"]}
    assert cells["ann"] == {"voice": {"state": "certified", "until": clock.to_text(house.at() + 100 * DAY)}}
    assert cells["bea"]["voice"] == {"state": "practising", "until": clock.to_text(until)}
    assert (cells["cem"]["voice"]["state"], cells["lee"], "tom" in cells) == ("learning", {}, False)
    assert (made["targets"], made["certified"]["voice"]) == (["chat", "email", "voice"], 1)
    house.person("bea", "agent", site="hk")
    assert [row["person"] for row in report(house, "certifications", site="hk")["people"]] == ["bea"]
    scope = {"sites": ["hk"], "teams": [], "agent": None}
    assert [row["person"] for row in report(house, "certifications", scope)["people"]] == ["bea"]


def test_certificates_that_end_soon_stand_in_the_nearest_window(house: House) -> None:
    for who, days in (("ann", 29), ("bea", 31), ("cem", 89), ("lee", 91), ("tom", None)):
        house.give(who, "voice", days)
    made = report(house, "expiring")
    assert [(row["person"], row["within_days"]) for row in made["expiring"]] == [("ann", 30), ("bea", 60), ("cem", 90)]
    assert made["targets"] == [{"target": "voice", "within_days": {"30": 1, "60": 1, "90": 1}}]


def test_time_to_competence_counts_who_is_still_learning(house: House, at: SetClock) -> None:
    for who in ("ann", "bea", "cem"):
        handlers.open_learning(house.units, who, "voice", "lee", "", "")
    house.take("empathy", "ann", "bea")
    began = clock.from_text("2027-01-15T08:00:00Z")
    for who, days in (("ann", 10), ("bea", 20)):
        at.seconds = began + days * DAY
        house.evaluate(who, practice=True)
        handlers.certify(house.units, who, "voice", "lee")
    handlers.give_up(house.units, "cem", "voice")
    (made,) = report(house, "competence")["targets"]
    assert (made["certified"], made["open"], made["given_up"]) == (2, 0, 1)
    assert (made["p25_days"], made["p50_days"], made["p75_days"]) == (pytest.approx(10, abs=0.1), pytest.approx(20, abs=0.1), None)


def test_the_ledger_by_team_and_site_says_who_will_miss_the_hours(house: House, at: SetClock) -> None:
    house.take("empathy", "ann", "bea")
    handlers.note_self_study(house.units, "ann", "2027-01-18", 60, "", "ann")
    at.seconds = clock.from_text("2027-07-01T00:00:00Z")
    one = house.session("mail", day="2027-07-05")
    classes.enrol(house.units, one["id"], ["ann"], False)
    made = report(house, "hours")
    of = {row["person"]: row for row in made["people"]}
    assert (of["ann"]["counted"], of["ann"]["planned"], of["bea"]["counted"], of["cem"]["counted"]) == (5, 4, 4, 0)
    assert all(row["will_miss"] for row in of.values())
    (site,) = made["sites"]
    assert (site["site"], site["people"], site["hours"], site["planned"], site["will_miss"], site["reached"]) == ("berlin", 5, 9, 4, 5, 0)
    assert report(house, "hours", year=2026)["sites"][0]["hours"] == 0
    for day in range(5, 17):
        if day not in (10, 11):
            house.take("empathy", "ann", day=f"2027-07-{day:02}", half="pm")
    made = report(house, "hours", missing_only=True)
    assert "ann" not in {row["person"] for row in made["people"]}


def test_questions_of_an_exam_have_their_statistics_by_their_text(house: House) -> None:
    attempt = handlers.begin_attempt(house.units, "mail", "ann")
    handlers.answer_attempt(house.units, attempt["id"], {})
    made = report(house, "exam_items", exam="mail")
    assert (made["attempts"], len(made["questions"]), sum(one["asked"] for one in made["questions"])) == (1, 5, 3)
    assert {one["verdict"] for one in made["questions"]} == {"too_few"} and made["questions"][0]["text"] == "Question 1?"
    with pytest.raises(NotFound):
        report(house, "exam_items", exam="none")


def test_a_module_that_closes_nothing_is_listed_and_so_is_a_criterion_that_nothing_teaches(house: House, at: SetClock) -> None:
    people = [f"p{number}" for number in range(5)]
    for number, who in enumerate(people):
        house.person(who, "agent")
        for value in (0.2, 0.4):
            house.evaluate(who, marks={"listens": value})
        at.forward(60)
        told = {
            "finding": f"f{number}",
            "agent": who,
            "scorecard": "service",
            "criterion": "listens",
            "cause": "training",
            "at": at(),
            "due_at": at(),
        }
        house.hear("qa.gap_found.v1", f"f{number}", **told, check={"at_least": 0.9}, module="alone", evaluation=None)
        handlers.note_self_study(house.units, who, "2027-01-15", 60, "alone", who)
        at.forward(60)
        for value in (0.3, 0.2, 0.4):
            house.evaluate(who, marks={"listens": value})
    told = {"finding": "f9", "agent": "ann", "scorecard": "service", "criterion": "sings", "cause": "training", "at": at(), "due_at": at()}
    house.hear("qa.gap_found.v1", "f9", **told, check={}, module=None, evaluation=None)
    made = report(house, "lessons")
    assert made["closes_nothing"] == ["alone"]
    assert made["untaught"] == [{"criterion": "service/sings", "findings": 1}]
    (course,) = made["courses"]
    assert (course["assigned"], course["judged"], course["closed"], course["difference"]) == (5, 5, 0, pytest.approx(0, abs=1e-9))


def test_a_path_lists_who_is_ready_before_who_is_not(house: House) -> None:
    handlers.put_definition(house.units, "paths", "senior", {"role": "agent", "to_role": "senior", "certificates": ["voice"]}, "tom")
    handlers.put_definition(house.units, "paths", "elsewhere", {"role": "agent", "to_team": "t2"}, "tom")
    house.give("cem", "voice")
    house.person("bea", "agent", team="t2")
    made = {path["path"]: path for path in report(house, "paths")["paths"]}
    assert [(one["person"], one["ready"]) for one in made["senior"]["candidates"]] == [("cem", True), ("ann", False), ("bea", False)]
    assert made["senior"]["candidates"][1]["words"] == {"en": "the certificate for voice is missing", "zh": "缺少 voice 渠道的证书"}
    assert ([one["person"] for one in made["elsewhere"]["candidates"]], made["elsewhere"]["kind"]) == (["ann", "cem"], "rotation")
    mine = {one["path"]: one["ready"] for one in house.look(handlers.learner, "cem")["paths"]}
    assert mine == {"senior": True, "elsewhere": True}
