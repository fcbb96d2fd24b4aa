"""The figures: side by side, with their intervals, and what is not known said so; on both databases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.qa import handlers, reports, store
from services.qa.domain import sampling
from shared import clock
from tests.unit.qa.house import CARD, House

DAY = 86400.0
ALL: dict[str, Any] = {"from": 0.0, "to": 9e9}


def test_internal_and_customer_scores_stand_side_by_side(house: House) -> None:
    handlers.put_scorecard(house.units, "wanted", CARD.replace("internal", "customer"), "test")
    contact = house.call()
    house.done(contact, solved="no", clear=1)
    other = house.evaluate(contact, scorecard="wanted")
    house.submit(other["id"])
    house.answer(contact, satisfied=5)
    (anna,) = house.look(reports.quality, {**ALL, "by": "agent", "within": 0.05})["groups"]
    assert [(one["scorecard"], one["picked"]["mean"]) for one in anna["internal"]] == [("small", 0.0)]
    assert [(one["scorecard"], one["picked"]["mean"]) for one in anna["customer"]] == [("wanted", 1.0)]
    assert anna["internal"][0]["class_accuracy"]["customer"]["value"] == 0.0
    assert anna["customer"][0]["class_accuracy"]["customer"]["value"] == 1.0
    assert anna["customers_said"]["unasked"] == {"answers": 1, "satisfaction": 5.0}
    assert "score" not in anna, "no figure is made of all of them"


def test_a_mean_is_of_contacts_that_chance_chose(house: House) -> None:
    picked, drawn = house.done(solved="no", clear=1), [house.done(clear=clear) for clear in (1, 3, 5)]
    with house.units() as work:
        for one, probability in zip(drawn, (0.5, 0.25, 0.25), strict=True):
            store.change(work.connection, store.evaluation, one["id"], method="stratified", probability=probability)
    (anna,) = house.look(reports.quality, {**ALL, "by": "agent", "within": 0.05})["groups"]
    (figures,) = anna["internal"]
    weighted = (0.5 / 0.5 + 0.75 / 0.25 + 1.0 / 0.25) / (1 / 0.5 + 2 / 0.25)
    assert figures["score"]["value"] == pytest.approx(weighted, abs=1e-4)
    assert figures["score"]["low"] <= weighted <= figures["score"]["high"]
    assert figures["picked"] == {"evaluations": 1, "mean": 0.0}
    assert figures["needed"] > 3
    assert picked["method"] == "chosen"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=30))
def test_the_mean_from_sums_is_the_mean_of_the_sample(drawn: list[tuple[float, float]]) -> None:
    y, p = (np.array(column) for column in zip(*drawn, strict=True))
    left, w = 1 - p, 1 / p
    terms = {
        "weight": w, "y_weight": y * w, "left": left, "left_w": left * w, "left_yw": left * y * w, "left_ww": left * w * w,
        "left_yww": left * y * w * w, "left_yyww": left * y * y * w * w,
    }  # fmt: skip
    sums = {name: float(term.sum()) for name, term in terms.items()} | {"drawn": len(y), "lowest": y.min(), "highest": y.max()}
    told, wanted = reports.weighted_mean(sums), sampling.weighted_mean(drawn)
    assert told.count == wanted.count
    for name in ("value", "low", "high"):
        assert getattr(told, name) == pytest.approx(getattr(wanted, name), abs=1e-5), name


def test_what_is_superseded_or_a_calibration_is_in_no_figure(house: House) -> None:
    first = house.evaluate(house.call(), blind="otto")
    house.submit(first["id"])
    (group,) = house.look(reports.quality, {**ALL, "by": "evaluator", "within": 0.05})["groups"]
    assert (group["evaluator"], group["internal"][0]["evaluations"]) == ("eve", 1)


def test_criteria_are_told_by_how_often_they_are_missed(house: House) -> None:
    house.done(solved="no", clear=5)
    house.done(solved="yes", clear="na")
    told = {row["criterion"]: row for row in house.look(reports.criteria, {**ALL, "scorecard": "small"})["criteria"]}
    assert (told["solved"]["applied"], told["solved"]["missed"]["value"], told["solved"]["mean"]["value"]) == (2, 0.5, 0.5)
    assert (told["clear"]["marked"], told["clear"]["applied"], told["clear"]["missed"]["value"]) == (2, 1, 0.0)


def test_shares_and_criteria_are_of_contacts_that_chance_chose_and_by_their_chances(house: House) -> None:
    house.done(solved="no", clear=1)  # picked because something was wrong with it
    drawn = [house.done(solved=solved, clear=clear) for solved, clear in (("yes", 5), ("no", 5), ("yes", 3))]
    with house.units() as work:
        for one, probability in zip(drawn, (0.5, 0.25, 0.25), strict=True):
            store.change(work.connection, store.evaluation, one["id"], method="stratified", probability=probability)
    told = {row["criterion"]: row for row in house.look(reports.criteria, {**ALL, "scorecard": "small"})["criteria"]}
    assert (told["solved"]["marked"], told["solved"]["applied"]) == (4, 4)
    assert told["solved"]["mean"]["value"] == pytest.approx((2 + 0 + 4) / 10)
    assert told["clear"]["mean"]["value"] == pytest.approx((2 + 4 + 4 * 0.5) / 10)
    assert (told["solved"]["missed"]["value"], told["solved"]["missed"]["count"]) == (pytest.approx(0.4), 3)
    assert 0 <= told["clear"]["mean"]["low"] < told["clear"]["mean"]["high"] == 1, "no mean ends beyond the best there is"
    (anna,) = house.look(reports.quality, {**ALL, "by": "agent", "within": 0.05})["groups"]
    accuracy = anna["internal"][0]["class_accuracy"]["customer"]
    assert (accuracy["value"], accuracy["count"]) == (pytest.approx(0.6), 3)


def test_accuracy_by_chances_needs_no_score(house: House) -> None:
    drawn = [house.done(solved=solved, clear=5) for solved in ("yes", "no")]
    with house.units() as work:
        for one, probability in zip(drawn, (0.5, 0.25), strict=True):
            told = {"method": "stratified", "probability": probability, "score": None}  # as by a card of critical criteria without weight
            store.change(work.connection, store.evaluation, one["id"], **told)
    (anna,) = house.look(reports.quality, {**ALL, "by": "agent", "within": 0.05})["groups"]
    accuracy = anna["internal"][0]["class_accuracy"]["customer"]
    assert (accuracy["value"], accuracy["count"]) == (pytest.approx(2 / 6, abs=1e-4), 2)


def test_satisfaction_of_a_few_does_not_end_beyond_the_scale(house: House) -> None:
    handlers.put_survey_rule(house.units, "default", {"enabled": True, "delay_seconds": 0.0})
    contacts = [house.call(customer=f"k{number}") for number in range(2)]
    handlers.send_due(house.units)
    for contact, satisfied in zip(contacts, (2, 5), strict=True):
        house.answer(contact, satisfied=satisfied)
    (group,) = house.look(reports.surveys, {**ALL, "by": "queue"})["groups"]
    assert group["satisfaction"] == {"value": 3.5, "low": 1.0, "high": 5.0, "count": 2}


def test_one_call_resolution_counts_what_is_known_and_says_what_is_not(house: House) -> None:
    start = house.at()
    for customer, day in (("a", 0), ("b", 0), ("b", 3), ("c", 0), ("c", 8), ("d", 9), ("e", 9), ("e", 10)):
        house.call(customer=customer, at=start + day * DAY + 65)
    house.at.forward(11 * DAY)
    told = house.look(reports.one_call, {**ALL, "by": "queue", "days": 7.0})
    (figures,) = told["groups"]
    wanted = {"contacts": 8, "resolved": 3, "repeated": 1, "repeated_early": 1, "too_recent": 3}
    assert {name: figures[name] for name in wanted} == wanted
    assert figures["rate"]["value"] == 0.75, "of those whose seven days are over"
    assert figures["survival"]["value"] < 0.75 + 1e-9, "the one of yesterday that was undone already counts as long as it was watched"


def test_value_is_for_each_contact_and_never_a_total(house: House) -> None:
    for number in range(40):
        contact = house.call(customer=None)
        if number % 4 == 0:
            house.route("wrapped_up", contact, 12, agent="anna", amount="100", currency="EUR", wrap_up_seconds=10.0)
        if number < 2:
            house.gate("ended", contact, leg={"holds": 3 * number, "on_hold_seconds": 12.0 * number})
    told = house.look(reports.value, {**ALL, "by": "agent"})
    (anna,) = told["groups"]
    (euro,) = anna["value_per_contact"]
    assert (euro["currency"], euro["value"]["value"], euro["sales"], anna["contacts"]) == ("EUR", 25.0, 10, 40)
    assert euro["value"]["low"] < 25 < euro["value"]["high"]
    assert anna["handle_seconds"] == 62.5
    assert (anna["holds_per_contact"], anna["hold_seconds"]) == (1.5, 6.0), "of those of which it is known"
    assert "never a target" in told["no_target"]
    assert not {"total", "amount", "sum"} & {*anna, *euro, *euro["value"]}


def test_those_who_failed_in_self_service_are_compared_with_the_others(house: House) -> None:
    for failed, csat in ((True, 2), (False, 5)):
        contact = house.call(customer=None)
        house.gate("ended", contact, facts={"self_service_failed": failed})
        house.answer(contact, satisfied=csat)
    told = house.look(reports.surveys, {**ALL, "by": "self_service_failed"})["groups"]
    assert [(row["self_service_failed"], row["unasked"]["satisfaction"]) for row in told] == [(False, 5.0), (True, 2.0)]


def test_figures_keep_to_the_queues_in_sight(house: House) -> None:
    house.done(clear=5)
    house.answer(house.call(), satisfied=4)
    elsewhere = {**ALL, "queues": ["sales"], "by": "queue", "within": 0.05, "days": 7.0, "scorecard": ""}
    for report in (reports.quality, reports.surveys, reports.one_call, reports.value):
        assert house.look(report, elsewhere)["groups"] == []
    assert house.look(reports.criteria, {**elsewhere, "scorecard": "small"})["criteria"] == []


def test_a_source_whose_clock_runs_ahead_makes_nothing_known(house: House) -> None:
    house.call(customer="a")
    house.at.forward(DAY)
    house.call(customer="b", at=house.at() + 3650 * DAY)
    told = house.look(reports.one_call, {**ALL, "to": 9e10, "by": "queue", "days": 7.0})
    (figures,) = told["groups"]
    assert (figures["contacts"], figures["resolved"], figures["too_recent"]) == (1, 0, 1)
    assert told["known_until"] == clock.to_text(house.at() - DAY)
