"""What is measured of quality."""

from __future__ import annotations

from services.qa import handlers
from services.qa.metrics import QualityMetrics
from tests.unit.qa.house import CARD, OTTO, House

DAY = 86400.0


def figures(house: House) -> dict[str, float]:
    """ "name label" -> value"""
    families = house.look(lambda connection: list(QualityMetrics.families(None, connection)))  # type: ignore[arg-type]
    return {
        " ".join([one.name.removeprefix("answerline_qa_"), *one.labels.values()]): one.value
        for family in families
        for one in family.samples
    }


def test_the_recent_score_is_of_what_counts_and_each_kind_of_scorecard_apart(house: House) -> None:
    assert "recent_score internal" not in figures(house)
    handlers.put_scorecard(house.units, "theirs", CARD.replace("internal", "customer"), "test")
    house.done(clear=5)
    house.submit(house.evaluate(house.call(), scorecard="theirs")["id"], answers={"solved": "yes", "clear": 1})
    blind = house.evaluate(house.call(), blind="otto")
    house.submit(blind["id"])
    (double,) = handlers.list_evaluations(house.units, {"after": "", "limit": 9, "evaluator": "otto"}, OTTO)["items"]
    house.submit(double["id"], OTTO, {"solved": "yes", "clear": 1})
    told = figures(house)
    assert {name: told[f"recent_evaluations {name}"] for name in ("internal", "customer")} == {"internal": 2, "customer": 1}
    assert {name: told[f"recent_score {name}"] for name in ("internal", "customer")} == {"internal": 1.0, "customer": 0.5}


def test_recent_satisfaction_is_of_those_who_were_asked_and_answered_in_time(house: House) -> None:
    handlers.put_survey_rule(house.units, "support", {"enabled": True, "answer_days": 1.0, "fatigue_days": 0.0})
    quick, slow, _silent = (house.call(customer=name) for name in ("quick", "slow", "silent"))
    unasked = house.call(queue="sales")
    house.at.forward(600)
    handlers.send_due(house.units)
    house.answer(quick, satisfied=4)
    house.answer(unasked, satisfied=1)
    house.at.forward(2 * DAY)
    house.answer(slow, satisfied=1)
    told = figures(house)
    assert (told["recent_surveys asked"], told["recent_surveys answered"], told["recent_csat"]) == (3, 1, 4.0)
