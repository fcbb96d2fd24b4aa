"""Commands, events and due moments about people, each in one transaction, on both databases."""

from __future__ import annotations

import random
from typing import Any

import pytest

from services.training import classes, documents, handlers, planning, store
from shared import clock
from shared.bus.envelope import Event
from shared.errors import Conflict, Invalid, NotFound
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.training.house import BANK, DAY, House


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)


def learn(house: House, who: str = "ann", channel: str = "voice", approver: str = "", reason: str = "") -> dict[str, Any]:
    return handlers.open_learning(house.units, who, channel, "lee", approver, reason)


def permit(house: House, who: str = "ann", channel: str = "voice", **more: Any) -> dict[str, Any]:
    told = {"channel": channel, "supervisor": "lee", "contacts_a_day": 5, "until": house.at() + 10 * DAY, "queues": []}
    return handlers.give_permit(house.units, who, told | more, "lee")


# ---- the way to a certificate


def test_courses_exam_and_practice_make_a_certificate_that_routing_hears_of(house: House, at: SetClock) -> None:
    house.give("ann", "voice")
    for _ in range(2):
        at.forward(DAY)
        house.serve("ann")
        house.evaluate("ann", score=0.8)
    assert learn(house, channel="email")["skipped"] == []
    with pytest.raises(Conflict, match=r"courses not done: empathy, mail; the exam mail is not passed; 0 of 2 supervised contacts"):
        handlers.certify(house.units, "ann", "email", "lee")
    house.take("empathy", "ann")
    house.take("mail", "ann", day="2027-01-19")
    permit(house, channel="email", contacts_a_day=3)
    for score in (0.9, 0.5, 0.8):
        house.evaluate("ann", "email", score, practice=True)
    pass_exam(house, "ann")
    made = handlers.certify(house.units, "ann", "email", "lee")
    assert made["evidence"]["practice"] == 2, "only what was evaluated at the mark or above counts"
    assert made["expires_at"] == clock.to_text(at() + 365 * DAY)
    word = house.told("practice_permitted", "certified")
    assert [(one["event"], one["channel"]) for one in word] == [
        ("certified", "voice"),
        ("practice_permitted", "email"),
        ("certified", "email"),
    ]
    assert house.look(store.permits_of, "ann", at()) == [], "the certificate ends the permit"
    with pytest.raises(Conflict, match="certified for email already"):
        handlers.certify(house.units, "ann", "email", "lee")


def pass_exam(house: House, who: str, right: bool = True) -> dict[str, Any]:
    attempt = handlers.begin_attempt(house.units, "mail", who)
    answers = {one["id"]: [one["choices"].index("right" if right else "worse")] for one in attempt["questions"]}
    return handlers.answer_attempt(house.units, attempt["id"], answers)


def test_a_certificate_without_practice_is_refused_and_nothing_is_written(house: House) -> None:
    learn(house)
    house.take("empathy", "ann")
    house.evaluate("ann", score=1.0)
    with pytest.raises(Conflict, match=r"0 of 1 supervised contacts evaluated at 0\.7 or above"):
        handlers.certify(house.units, "ann", "voice", "lee")
    assert house.rows(store.certificate) == [] and house.told("certified") == []


def test_the_same_contact_counts_once_and_an_evaluation_that_counts_no_more_not_at_all(house: House) -> None:
    learn(house)
    one = house.evaluate("ann", practice=True, contact="c1")
    house.evaluate("ann", practice=True, contact="c1")
    assert practice_of(house) == 1
    house.evaluate("ann", practice=True, contact="c1", evaluation=one, counts=False)
    house.evaluate("ann", practice=True, contact="c2", evaluation="e3", score=None)
    assert practice_of(house) == 1
    house.evaluate("ann", practice=True, contact="c1", evaluation="e" + str(int(one[1:]) + 1), counts=False)
    assert practice_of(house) == 0


def practice_of(house: House, who: str = "ann") -> int:
    (row,) = house.look(handlers.learner, who)["learning"]
    found: int = row["progress"]["practice"]
    return found


# ---- the ladder


def test_a_channel_opens_after_certificate_practice_and_quality_and_not_before(house: House, at: SetClock) -> None:
    missing = "the certificate for voice is missing; 0 of 2 days of practice on voice; quality on voice is — over 0 of 2 evaluations, and must be 0.7"
    with pytest.raises(Conflict, match=missing):
        learn(house, channel="email")
    house.give("ann", "voice")
    for _ in range(2):
        house.serve("ann")
    assert "1 of 2 days" in step(house, "email")["words"]["en"], "two contacts of one day are one day"
    at.forward(DAY)
    house.serve("ann")
    house.evaluate("ann", score=0.6)
    house.evaluate("ann", score=0.7)
    assert step(house, "email")["words"]["zh"] == "voice 渠道质量分 0.65（2/2 次评估），需要 0.7"
    house.evaluate("ann", score=0.8)
    assert step(house, "email")["state"] == "open", "the newest evaluations count"
    assert learn(house, channel="email")["role"] == "agent"


def step(house: House, channel: str) -> dict[str, Any]:
    return next(one for one in house.look(handlers.learner, "ann")["ladder"] if one["channel"] == channel)


def test_to_skip_a_step_needs_an_approver_and_a_reason_and_is_recorded(house: House) -> None:
    with pytest.raises(Conflict, match="name an approver and a reason"):
        learn(house, channel="email")
    house.person("kim", "supervisor", active=False)
    for approver, told in (
        ("nobody", "nobody known"),
        ("bea", r"bea \(agent\) cannot approve"),
        ("tom", "cannot approve"),
        ("kim", "not work here"),
    ):
        with pytest.raises(Invalid, match=told):
            learn(house, channel="email", approver=approver, reason="came from there")
    with pytest.raises(Invalid, match="their own"):
        learn(house, channel="email", approver="ann", reason="came from there")
    with pytest.raises(Invalid, match="Say why"):
        learn(house, channel="email", approver="lee")
    made = learn(house, channel="email", approver="lee", reason="came from there")
    assert (made["approver"], made["reason"], made["skipped"][0]["what"]) == ("lee", "came from there", "certificate")


def test_nobody_learns_two_channels_at_once(house: House) -> None:
    learn(house)
    with pytest.raises(Conflict, match="ann is learning voice: nobody learns two"):
        learn(house, channel="email", approver="lee", reason="in a hurry")
    permit(house)
    handlers.give_up(house.units, "ann", "voice")
    assert [one["reason"] for one in house.told("certification_lapsed")] == ["given up"], "the permit goes with it"
    learn(house, channel="email", approver="lee", reason="after all")


def test_who_has_left_begins_nothing_and_is_given_nothing(house: House) -> None:
    learn(house)
    house.person("ann", "agent", active=False)
    for act in (lambda: learn(house), lambda: permit(house), lambda: handlers.certify(house.units, "ann", "voice", "lee")):
        with pytest.raises(Conflict, match="ann does not work here"):
            act()


# ---- permits


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"supervisor": "ann"}, "supervises themselves"),
        ({"supervisor": "nobody"}, "cannot supervise"),
        ({"until": 1.0}, "lies in the past"),
        ({"until": 4e9}, "60 days at most"),
        ({"contacts_a_day": 21}, "20 contacts a day at most"),
    ],
)
def test_a_permit_that_makes_no_sense_is_refused(house: House, wrong: dict[str, Any], told: str) -> None:
    learn(house)
    with pytest.raises(Invalid, match=told):
        permit(house, **wrong)
    assert house.told("practice_permitted") == []


def test_a_permit_is_for_who_learns_the_channel_and_can_be_withdrawn(house: House) -> None:
    with pytest.raises(Conflict, match="not learning voice"):
        permit(house)
    learn(house)
    with pytest.raises(Conflict, match="themselves"):
        handlers.give_permit(
            house.units, "ann", {"channel": "voice", "supervisor": "lee", "contacts_a_day": 1, "until": house.at() + DAY}, "ann"
        )
    permit(house, queues=["easy"])
    assert house.told("practice_permitted")[0]["queues"] == ["easy"]
    handlers.withdraw_permit(house.units, "ann", "voice")
    assert house.told("certification_lapsed")[0]["reason"] == "permit withdrawn"
    with pytest.raises(NotFound):
        handlers.withdraw_permit(house.units, "ann", "voice")


# ---- expiry, renewal, revocation


def test_who_is_certified_is_reminded_and_then_lapses_each_once(house: House, at: SetClock) -> None:
    house.give("ann", "voice", 40)
    for _ in range(41):
        handlers.do_due(house.units)
        at.forward(DAY)
    told = house.told("certification_lapsing", "certification_lapsed")
    assert [one.get("days", one.get("reason")) for one in told] == [60, 30, 7, "expired"], (
        "of reminders that are past the closest alone is sent"
    )
    (row,) = house.rows(store.certificate)
    assert (row.end_reason, row.due_at, told[-1]["at"]) == ("expired", None, clock.to_text(row.expires_at))
    assert handlers.do_due(house.units) == []


def test_a_renewal_has_dates_of_its_own_keeps_the_old_one_and_loses_no_day(house: House, at: SetClock) -> None:
    old = house.give("ann", "email", 20)
    at.forward(5 * DAY)
    with pytest.raises(Conflict, match="courses not done: alone"):
        handlers.renew(house.units, old["id"], "lee")
    handlers.note_self_study(house.units, "ann", "2027-01-20", 60, "alone", "ann")
    new = handlers.renew(house.units, old["id"], "lee")
    assert new["renews"] == old["id"] and new["certified_at"] == clock.to_text(at())
    assert new["expires_at"] == clock.to_text(at() + (15 + 365) * DAY)
    kept = {one["id"]: one["end_reason"] for one in house.look(handlers.learner, "ann")["certificates"]}
    assert kept == {old["id"]: "renewed", new["id"]: ""}
    assert house.told("certified")[-1]["expires_at"] == new["expires_at"] and house.told("certification_lapsed") == []
    at.forward(20 * DAY)
    handlers.do_due(house.units)
    assert house.told("certification_lapsed") == [], "the old one's end is nobody's business any more"


def test_a_revoked_certificate_lapses_at_once_with_its_reason_and_is_not_renewed(house: House) -> None:
    one = house.give("ann", "email")
    ended = handlers.revoke(house.units, one["id"], "gave out passwords", "lee")
    assert (ended["end_reason"], ended["holds"], house.told("certification_lapsed")[0]["reason"]) == (
        "revoked: gave out passwords",
        False,
        "revoked",
    )
    with pytest.raises(Conflict, match="not renewed"):
        handlers.renew(house.units, one["id"], "lee")
    with pytest.raises(Conflict, match="holds no longer"):
        handlers.revoke(house.units, one["id"], "again", "lee")
    assert house.told("certification_lapsed")[1:] == [], "and no reason travels: it may be personal"


def test_a_certificate_that_is_over_can_be_renewed_from_now_on(house: House, at: SetClock) -> None:
    one = house.give("ann", "email", 1)
    at.forward(10 * DAY)
    handlers.do_due(house.units)
    handlers.note_self_study(house.units, "ann", "2027-01-20", 60, "alone", "ann")
    assert handlers.renew(house.units, one["id"], "lee")["expires_at"] == clock.to_text(at() + 365 * DAY)


def test_what_is_announced_of_a_person_is_numbered_without_a_gap(house: House) -> None:
    house.give("ann", "voice", 5)
    handlers.do_due(house.units)
    learn(house, channel="email", approver="lee", reason="x")
    permit(house, channel="email")
    numbers = [row.body["sequence"] for row in house.rows(house.units.tables.outbox) if row.subject == "ann"]
    assert numbers == [1, 2, 3]


# ---- exams


def test_a_candidate_sees_no_answers_and_has_so_many_attempts(house: House, at: SetClock) -> None:
    attempt = handlers.begin_attempt(house.units, "mail", "ann")
    assert all(one.keys() == {"id", "text", "choices", "several"} for one in attempt["questions"]) and len(attempt["questions"]) == 3
    with pytest.raises(Conflict, match="attempt at mail open"):
        handlers.begin_attempt(house.units, "mail", "ann")
    with pytest.raises(Invalid, match="not asked: q99"):
        handlers.answer_attempt(house.units, attempt["id"], {"q99": [0]})
    with pytest.raises(Invalid, match="by their number"):
        handlers.answer_attempt(house.units, attempt["id"], {attempt["questions"][0]["id"]: [3]})
    told = handlers.answer_attempt(house.units, attempt["id"], {})
    assert (told["score"], told["passed"], "questions" in told) == (0, False, False)
    with pytest.raises(Conflict, match="is over"):
        handlers.answer_attempt(house.units, attempt["id"], {})
    assert pass_exam(house, "ann", right=False)["passed"] is False
    with pytest.raises(Conflict, match="had 2 attempts within 30 days; the next is possible in 30 days"):
        handlers.begin_attempt(house.units, "mail", "ann")
    at.forward(31 * DAY)
    assert pass_exam(house, "ann")["passed"] is True
    with pytest.raises(Conflict, match="has passed"):
        handlers.begin_attempt(house.units, "mail", "ann")


def test_an_attempt_that_took_too_long_is_failed(house: House, at: SetClock) -> None:
    attempt = handlers.begin_attempt(house.units, "mail", "ann")
    at.forward(3601)
    right = {one["id"]: [one["choices"].index("right")] for one in attempt["questions"]}
    assert handlers.answer_attempt(house.units, attempt["id"], right)["passed"] is False
    handlers.begin_attempt(house.units, "mail", "ann")
    at.forward(3601)
    told = house.look(handlers.list_attempts, "mail", "ann")["attempts"]
    assert [one["passed"] for one in told] == [False, None]


def test_an_attempt_is_graded_by_the_version_that_it_was_drawn_from(house: House) -> None:
    attempt = handlers.begin_attempt(house.units, "mail", "ann")
    worse = [{**one, "correct": [1]} for one in BANK]
    handlers.put_definition(house.units, "exams", "mail", {"bank": worse, "questions": 3, "pass_mark": 0.6}, "tom")
    right = {one["id"]: [one["choices"].index("right")] for one in attempt["questions"]}
    assert handlers.answer_attempt(house.units, attempt["id"], right)["score"] == 1


# ---- hours


def test_self_study_counts_up_to_its_cap_and_completes_what_can_be_learnt_alone(house: House) -> None:
    told = {}
    for day in range(1, 10):
        told = handlers.note_self_study(house.units, "ann", f"2027-01-0{day}", 60, "alone" if day == 1 else "", "ann")
    assert (told["self_study"], told["counted"]) == (9, 6)
    assert house.look(handlers.learner, "ann")["courses"] == [{"course": "alone", "version": 1}]
    for wrong in ({"course": "empathy"}, {"day": "2027-03-01"}, {"day": "tomorrow"}, {"minutes": 590, "day": "2027-01-01"}):
        with pytest.raises(Invalid):
            handlers.note_self_study(
                house.units, **{"person": "ann", "day": "2027-01-10", "minutes": 60, "course": "", "by": "ann", **wrong}
            )


def test_a_year_is_the_sites_own(house: House, at: SetClock) -> None:
    house.person("hao", "agent", site="hk")
    at.seconds = clock.from_text("2027-12-31T17:00:00Z")
    assert handlers.note_self_study(house.units, "hao", "2028-01-01", 60, "", "hao")["year"] == 2028
    with pytest.raises(Invalid, match="still to come"):
        handlers.note_self_study(house.units, "ann", "2028-01-01", 60, "", "ann")


# ---- findings become lessons


def gap(house: House, **more: Any) -> None:
    house.at.forward(60)
    told = {
        "finding": "f1", "plan": "f1", "contact": "c", "evaluation": None, "agent": "ann", "queue": "sales", "channel": "voice", "scorecard": "service",
        "scorecard_version": 1, "section": "s", "criterion": "listens", "title": {}, "critical": None, "cause": "knowledge", "owner": "lee",
        "due_at": house.at() + 14 * DAY, "check": {"kind": "evaluations", "at_least": 0.8}, "module": None, "at": house.at(),
    }  # fmt: skip
    house.hear("qa.gap_found.v1", "f1", **(told | more))


def listens(house: House, at: SetClock, *values: float) -> None:
    for value in values:
        at.forward(3600)
        house.evaluate("ann", score=value, marks={"listens": value})


def test_a_gap_assigns_the_module_of_its_criterion_and_later_evaluations_say_whether_it_closed(house: House, at: SetClock) -> None:
    listens(house, at, 0.2, 0.4, 0.3)
    gap(house)
    (told,) = house.told("lesson_assigned")
    assert (told["course"], told["people"]) == ("empathy", ["ann"])
    listens(house, at, 1.0)
    house.take("empathy", "ann")
    listens(house, at, 0.9, 0.9)
    (row,) = house.look(handlers.learner, "ann")["lessons"]
    assert (row["verdict"], row["comparison"]) == ("done", None), "two evaluations are not enough here"
    listens(house, at, 1.0)
    (row,) = house.look(handlers.learner, "ann")["lessons"]
    made = row["comparison"]
    assert (row["verdict"], made["before"], made["before_count"], made["after_count"]) == ("closed", pytest.approx(0.3), 3, 3)
    assert 0.4 < made["low"] < made["difference"] < made["high"] < 0.9
    assert [one["verdict"] for one in house.told("lesson_judged")] == ["closed"]


def test_the_evaluation_that_found_the_gap_is_no_part_of_what_was_before(house: House, at: SetClock) -> None:
    listens(house, at, 0.8, 0.8)
    found = house.evaluate("ann", marks={"listens": 0.0})
    gap(house, evaluation=found)
    house.take("empathy", "ann")
    listens(house, at, 0.8, 0.8, 0.8)
    (row,) = house.look(handlers.learner, "ann")["lessons"]
    assert row["comparison"]["before"] == 0.8


@pytest.mark.parametrize("more", [{"cause": "tool"}, {"agent": None}])
def test_a_gap_that_is_nobodys_learning_assigns_nothing(house: House, more: dict[str, Any]) -> None:
    gap(house, **more)
    assert house.rows(store.lesson) == []


def test_a_chosen_module_counts_before_the_map_and_a_plan_can_be_changed_until_it_is_done(house: House) -> None:
    gap(house, module="alone", criterion="unknown")
    gap(house, module=None, criterion="unknown")
    gap(house, module="mail", criterion="unknown")
    assert [one["course"] for one in house.told("lesson_assigned")] == ["alone", None, "mail"]
    assert len(house.rows(store.lesson)) == 1


# ---- imports


def test_imported_certificates_reach_routing_and_need_no_directory(house: House, at: SetClock) -> None:
    rows = [{"person": f"new{number}", "channel": "voice", "certified_at": 1.0, "expires_at": None, "site": "hk"} for number in range(3)]
    late = {"person": "late", "channel": "voice", "certified_at": 1.0, "expires_at": at() - 1}
    results = handlers.import_certificates(house.units, [*rows, late], "test")
    assert [result is None for result in results] == [True, True, True, False]
    assert house.look(store.get_person, "late") is None, "a row that is refused writes nothing"
    assert {(one["person"], one["certified_at"]) for one in house.told("certified")} == {
        (f"new{number}", "1970-01-01T00:00:01.000Z") for number in range(3)
    }
    assert house.look(handlers.held)["items"][0] == {
        "person": "new0",
        "channel": "voice",
        "certified_at": 1.0,
        "expires_at": None,
        "note": "",
    }


# ---- whatever comes late or twice


def test_in_whatever_order_and_however_often_events_come_the_end_is_the_same(house: House, at: SetClock) -> None:
    told: list[Event] = []
    for site in ("hk", "berlin"):
        told += [house.changed("ann", "agent", site=site, team=site), house.changed("new", "agent", site=site)]
    told.append(house.changed("bea", "agent", active=False))
    told += [house.event("routing.contact_completed.v1", f"c{n}", agent="cem", channel="voice", at=at() + n * DAY / 2) for n in range(4)]
    for score, counts in ((0.2, True), (0.9, True), (0.9, False)):
        told.append(house.evaluated("ann", evaluation="e", contact="c1", score=score, counts=counts))
    for action in ("wrong", "right"):
        gap = {
            "finding": "f",
            "evaluation": "e",
            "agent": "ann",
            "scorecard": "service",
            "criterion": "listens",
            "cause": "knowledge",
            "module": None,
        }
        told.append(
            house.event(
                "qa.gap_found.v1", "f", **gap, check=None, action=action, at=at(), due_at=at() + (10 if action == "right" else 1) * DAY
            )
        )
    again = [one for one in told if one.type != "routing.contact_completed.v1"]  # the inbox knows these by their ids
    ends = []
    for seed in range(4):
        with house.units() as work:
            for table in (store.practice_day, store.evaluation, store.lesson):
                work.connection.execute(table.delete())
            store.put_people(
                work.connection, [{**row, "heard": 1} for row in store.people(work.connection, active=False) if row["id"] != "new"]
            )
        chance, come = random.Random(seed), [*told, *again[:: seed + 1]]
        if seed:
            chance.shuffle(come)
        while come:
            batch = [come.pop(0) for _ in range(min(len(come), chance.randint(1, 5)))]
            with house.units() as work:
                handlers.receive(work, batch)
        people = [
            {name: row[name] for name in ("id", "site", "team", "active", "heard")} for row in house.look(store.people, None, None, False)
        ]
        ends.append((people, *(house.rows(table) for table in (store.practice_day, store.evaluation, store.lesson))))
    assert all(end == ends[0] for end in ends)
    people, days, (evaluation,), (lesson,) = ends[0]
    assert [(row["id"], row["site"], row["active"]) for row in people][:2] == [("ann", "berlin", True), ("bea", "berlin", False)]
    assert (sum(row.contacts for row in days), evaluation.counts, lesson.due_at) == (4, False, at() + 10 * DAY)


# ---- who sees whom, and what is written down


def test_who_is_out_of_sight_is_not_there(house: House) -> None:
    for scope in (
        {"sites": ["hk"], "teams": [], "agent": None},
        {"sites": [], "teams": ["t2"], "agent": None},
        {"sites": [], "teams": [], "agent": "bea"},
    ):
        with pytest.raises(NotFound):
            house.look(handlers.learner, "ann", scope)
        with pytest.raises(NotFound):
            handlers.begin_attempt(house.units, "mail", "ann", scope)
    assert house.look(handlers.learner, "ann", {"sites": ["berlin"], "teams": ["t1"], "agent": "ann"})["person"] == "ann"


def test_a_definition_has_versions_and_the_same_again_makes_none(house: House) -> None:
    course = {"title": "Empathy", "topic": "empathy", "hours": 8}
    assert handlers.put_definition(house.units, "courses", "empathy", course, "tom")["version"] == 2
    assert handlers.put_definition(house.units, "courses", "empathy", course, "tom")["version"] == 2
    assert house.look(handlers.get_definition, "courses", "empathy", 1)["document"]["hours"] == 4


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("curricula", {"courses": ["mail", "empathy"], "practice": {"contacts": 1, "mark": 1}}, "mail needs empathy before it"),
    ("curricula", {"courses": ["none"], "practice": {"contacts": 1, "mark": 1}}, "no course none"),
    ("curricula", {"courses": []}, "practice: is missing"),
    ("ladders", {"channels": [{"channel": "a", "after": "c"}, {"channel": "b"}, {"channel": "c"}]}, "circle"),
    ("ladders", {"channels": [{"channel": "a"}, {"channel": "b"}, {"channel": "a"}]}, "twice"),
    ("ladders", {"channels": [{"channel": "a"}, {"channel": "b", "after": "z"}]}, "not on the ladder"),
    ("exams", {"bank": [{**BANK[0], "correct": [9]}], "questions": 2, "pass_mark": 1}, "from 0 to 2"),
    ("resources", {"kind": "room", "capacity": 0}, "whole number from 1"),
    ("paths", {"role": "agent"}, "name the one"),
]


@pytest.mark.parametrize(("kind", "document", "told"), WRONG)
def test_a_document_that_cannot_be_used_says_what_to_mend(house: House, kind: str, document: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        handlers.put_definition(house.units, kind, "new", document, "tom")
    with pytest.raises(NotFound):
        house.look(handlers.get_definition, kind, "new")


def test_times_and_dates_of_a_document_stay_as_they_are_written() -> None:
    text = "halves: {am: 08:30, pm: 13:00}\nclosed: [{from: 2026-12-24, to: 2026-12-26}]\ncapacity: 30\nquality: 0.5\nexternal: true\n"
    assert documents.parse(text) == {
        "halves": {"am": "08:30", "pm": "13:00"}, "closed": [{"from": "2026-12-24", "to": "2026-12-26"}], "capacity": 30, "quality": 0.5, "external": True
    }  # fmt: skip
    assert documents.parse('{"capacity": 12, "level": 0}') == {"capacity": 12, "level": 0}
    for wrong in ("- a\n", "a: [", "[" * 100_000, "1: 2", "text"):
        with pytest.raises(Invalid):
            documents.parse(wrong)


def test_courses_that_follow_each_other_in_a_circle_are_refused(house: House) -> None:
    with pytest.raises(Invalid, match="a circle of courses"):
        handlers.put_definition(
            house.units, "courses", "empathy", {"title": "Empathy", "topic": "empathy", "hours": 4, "after": ["mail"]}, "tom"
        )


def test_half_days_of_a_policy_do_not_overlap(house: House) -> None:
    with pytest.raises(Invalid, match=r"halves\.pm: begins before am is over"):
        handlers.put_definition(house.units, "policy", "default", {"half_day_hours": 5}, "tom")


# ---- found by attack


def test_what_was_revoked_does_not_come_back_by_renewing_an_older_one(house: House, at: SetClock) -> None:
    old = house.give("ann", "voice", 10)
    at.forward(11 * DAY)
    handlers.do_due(house.units)
    handlers.revoke(house.units, house.give("ann", "voice", 100)["id"], "made up", "lee")
    with pytest.raises(Conflict, match="newer certificate"):
        handlers.renew(house.units, old["id"], "lee")


def test_a_late_message_that_somebody_had_left_takes_no_seat(house: House) -> None:
    one = house.session()
    classes.enrol(house.units, one["id"], ["ann"], False)
    house.number = 0
    house.person("ann", "agent", active=False)
    assert house.look(classes.get, one["id"])["seats"][0]["state"] == "enrolled"


def test_documents_take_no_aliases_and_no_foreign_digits() -> None:
    with pytest.raises(Invalid, match="aliases"):
        documents.parse("a: &a {x: 1}\nb: {<<: [*a, *a]}")
    with pytest.raises(Invalid, match="half-days"):
        documents.compile("policy", "default", 1, {"halves": {"am": "0\u0663:00"}})


@pytest.mark.parametrize(("first", "last"), [("0001-01-01", "0001-01-20"), ("9999-12-01", "9999-12-31")])
def test_a_plan_for_days_beyond_any_calendar_is_refused(house: House, first: str, last: str) -> None:
    with pytest.raises(Invalid, match="too far"):
        planning.ask(house.units, {"from": first, "to": last, "courses": ["empathy"], "sites": []}, "x")


def test_a_plan_for_sites_in_two_zones_can_be_applied(house: House) -> None:
    """A trainer of no site is at one place at a time, though a half-day lies elsewhere in each zone."""
    two = {"zone": "Europe/Berlin", "sites": {"hk": "Asia/Hong_Kong"}, "away_share": 1, "least_people": 1}
    handlers.put_definition(house.units, "policy", "default", two, "x")
    handlers.put_definition(house.units, "resources", "hk1", {"kind": "room", "site": "hk", "capacity": 9}, "x")
    for number in range(6):
        house.person(f"h{number}", "agent", site="hk", team="h")
        house.person(f"b{number}", "agent", site="berlin", team="b")
    told = {"from": "2027-01-18", "to": "2027-01-22", "courses": ["empathy", "mail"], "sites": []}
    row = planning.ask(house.units, told, "x")
    planning.work_off(house.units, planning.in_this_process)
    assert {one["site"] for one in house.look(planning.get, row["id"])["result"]["sessions"]} == {"berlin", "hk"}
    assert planning.apply(house.units, row["id"])["state"] == "accepted"
    with pytest.raises(NotFound):
        house.look(planning.get, row["id"], {"sites": ["hk"], "teams": [], "agent": None})
