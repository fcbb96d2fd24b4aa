"""Scorecards: as people write them, and what answers are worth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func

from services.qa import handlers, scorecards, store, studies
from services.qa.domain.errors import Invalid as Refused
from services.qa.domain.scorecard import Scorecard, asked, judge, read_marks, reweighted
from shared.errors import Invalid
from tests.unit.qa.house import House

CARD = """
kind: internal
title: {en: Test}
sections:
  - id: first
    title: {en: First}
    criteria:
      - {id: solved, title: {en: Solved}, critical: customer, weight: 3, may_not_apply: false}
      - {id: clear, title: {en: Clear}, answering: scale, low: 1, high: 5}
  - id: second
    title: {en: Second}
    criteria:
      - {id: angry, title: {en: The customer was angry}, weight: 0}
      - {id: calmed, title: {en: Calmed them}, when: {criterion: angry, answers: [yes]}, critical: business}
      - {id: apologies, title: {en: Apologies}, answering: number, low: 3, high: 0, when: {criterion: calmed, answers: [no]}}
      - {id: sarcastic, title: {en: Was sarcastic}, good: no, critical: compliance}
"""


def card(text: str = CARD) -> Scorecard:
    return scorecards.compile(text, "test", 1)


def marks(**answers: Any) -> list[dict[str, Any]]:
    return [{"criterion": name, "answer": answer} for name, answer in answers.items()]


def score(**answers: Any) -> Any:
    one = card()
    return judge(one, read_marks(one, marks(**answers), complete=False))


def test_values_lie_between_nothing_and_all() -> None:
    values = score(solved="yes", clear=4, angry="yes", calmed="no", apologies=0, sarcastic="no").values
    assert values == {"solved": 1.0, "clear": 0.75, "angry": 1.0, "calmed": 0.0, "apologies": 1.0, "sarcastic": 1.0}


def test_what_does_not_apply_does_not_count() -> None:
    assert score(solved="yes", clear="na").score == 1.0
    assert score(solved="no", clear=5).score == 1 / 4
    assert score(angry="yes").score is None


def test_sections_weigh_what_their_criteria_do_unless_told_otherwise() -> None:
    assert score(solved="yes", clear=1, sarcastic="no").score == pytest.approx((3 * 1 + 1 * 0 + 1 * 1) / 5)
    heavier = card(CARD.replace("title: {en: Second}", "title: {en: Second}\n    weight: 12"))
    found = judge(heavier, read_marks(heavier, marks(solved="yes", clear=1, sarcastic="yes"), complete=False))
    assert found.sections == {"first": 0.75, "second": 0.0}
    assert found.score == pytest.approx(4 * 0.75 / 16)


def test_a_missed_critical_criterion_fails_its_class_and_leaves_the_score() -> None:
    found = score(solved="no", clear=5, sarcastic="yes")
    assert found.failed == ("customer", "compliance")
    assert found.missed == ("solved", "sarcastic")
    assert found.score == pytest.approx(1 / 5)
    assert score(solved="yes", clear=1).failed == ()


def test_conditional_questions_are_asked_only_where_they_belong() -> None:
    assert asked(card(), {}) == {"solved", "clear", "angry", "sarcastic"}
    assert asked(card(), {"angry": "yes", "calmed": "no"}) >= {"calmed", "apologies"}
    with pytest.raises(Refused, match="not asked, given the other answers: calmed"):
        score(angry="no", calmed="yes")
    with pytest.raises(Refused, match=r"not asked.*apologies"):
        score(angry="no", apologies=1)


def test_all_that_is_asked_must_be_answered() -> None:
    with pytest.raises(Refused, match="not answered yet: clear, calmed, sarcastic"):
        read_marks(card(), marks(solved="yes", angry="yes"), complete=True)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"solved": "maybe"}, "solved is answered with yes, no$"),
        ({"solved": "na"}, "always applies"),
        ({"clear": 2.5}, "whole number from 1 to 5"),
        ({"clear": True}, "whole number from 1 to 5"),
        ({"clear": 6}, "from 1 to 5"),
        ({"shoes": "yes"}, "no criterion shoes"),
    ],
)
def test_answers_that_are_none(answers: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        score(**answers)


@given(st.dictionaries(st.sampled_from(["solved", "sarcastic"]), st.sampled_from(["yes", "no"])), st.integers(1, 5) | st.just("na"))
def test_a_score_is_a_share(answers: dict[str, str], clear: Any) -> None:
    found = score(**answers, clear=clear)
    assert found.score is None or 0 <= found.score <= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("kind: internal", "kind: both"), "kind: must be one of internal, customer"),
        (("id: clear", "id: solved"), "there is a criterion of that id already"),
        (("low: 1, high: 5", "low: 1"), "needs `low` and `high`"),
        (("criterion: angry", "criterion: sarcastic"), "must be a criterion further up"),
        (("answers: [yes]", "answers: [perhaps]"), "angry is answered with yes, no or na"),
        (("weight: 3", "wait: 3"), "unknown; there are"),
        (("weight: 3", "weight: -1"), "must be a number from 0 to 1000"),
        (("title: {en: Test}", "title: Test"), "texts by language"),
        (("sections:", "sections: [{"), "neither YAML nor JSON"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        card(CARD.replace(*change, 1))


@pytest.mark.parametrize("title", ["Handle time under 180 s", "AHT", "Short call duration", "Talk time", "平均处理时间", "通话时长"])
def test_handle_time_cannot_be_made_a_target(title: str) -> None:
    with pytest.raises(Invalid, match="handle time is shown, never a target"):
        card(CARD.replace("{en: Clear}", f"{{en: {title}}}"))


def test_what_only_sounds_like_it_can() -> None:
    card(CARD.replace("{en: Clear}", "{en: Called back in time and talked of it}"))


def test_a_criterion_without_weight_says_what_else_is_asked_and_is_never_missed() -> None:
    asking = card(
        CARD.replace(
            "{id: clear,",
            "{id: upset, title: {en: Upset}, weight: 0}\n      - {id: grave, title: {en: Grave}, weight: 0, critical: business}\n      - {id: clear,",
        )
    )
    told = read_marks(asking, [{"criterion": name, "answer": "no"} for name in ("upset", "grave")], complete=False)
    assert judge(asking, told).missed == ("grave",)


def test_the_ready_scorecards_are_whole_and_in_both_languages() -> None:
    ready = {name: card(text) for name, text in scorecards.ready().items()}
    assert {name: one.kind for name, one in ready.items()} == {"world-class": "customer", "standards": "internal"}
    for one in ready.values():
        for title in [one.title, *(section.title for section in one.sections), *(made.title for made in one.criteria.values())]:
            assert set(title) == {"en", "zh"}
    assert len(ready["world-class"].criteria) >= 13, "every line of world-class service"


def test_other_weights_make_another_document() -> None:
    changed = reweighted(scorecards.load(CARD), {"solved": 1.23456, "clear": 0})
    import yaml

    again = card(yaml.safe_dump(changed))
    assert (again.criteria["solved"].weight, again.criteria["clear"].weight, again.criteria["sarcastic"].weight) == (1.2346, 0, 1)
    assert again.criteria["calmed"].when == card().criteria["calmed"].when


@pytest.mark.parametrize(
    "words",
    [
        "Calls are under 300 seconds", "Keeps calls short", "Time per contact", "The call ends within 5 minutes", "Handled time", "A\u200bHT",
        "ＡＨＴ", "Calls per hour", "Talking time", "Short calls", "Length of the conversation", "通話時間", "處理時長", "通话用时", "每小时接听量", "尽快挂断", "通话不超过三分钟",
        "Hangs up within 60 seconds", "Ends the call in three minutes", "Finish each contact before 5 minutes", "三分钟内挂断", "5分钟以内结束来电",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["title: {en: Test}", "title: {en: First}", "title: {en: Clear}"])
def test_handle_time_is_no_target_in_other_words_or_places_either(words: str, place: str) -> None:
    with pytest.raises(Invalid, match="never a target"):
        scorecards.compile(CARD.replace(place, f'title: {{en: "{words}"}}'), "small", 1)
    with pytest.raises(Invalid, match="never a target"):
        scorecards.compile(CARD.replace("{id: clear,", f'{{id: clear, guidance: {{zh: "{words}"}},'), "small", 1)


@pytest.mark.parametrize(
    "words",
    ["Calls back within 2 hours", "Says goodbye before hanging up", "Ends the call on a pleasant note", "20秒内接听", "Answers calls within 20 seconds", "Told the opening hours", "Quick call back", "Time of the contact is noted", "告知服务时间", "告知办理时间", "Controls the conversation"],
)  # fmt: skip
def test_time_that_is_the_customers_may_be_judged(words: str) -> None:
    scorecards.compile(CARD.replace("title: {en: Clear}", f"title: {{en: {words!r}}}"), "small", 1)


@pytest.mark.parametrize(
    "document",
    [
        "a: &a {x: 1}\nb: *a\n",
        "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]}}\n" for n in range(12)),
        "&a [*a]",
    ],
)
def test_a_few_lines_do_not_fill_the_memory(document: str) -> None:
    with pytest.raises(Invalid, match="anchors"):
        scorecards.load(document)


def test_a_scorecard_in_force_stays_readable_when_more_words_are_known_for_handle_time(house: House) -> None:
    words = "Hangs up within 60 seconds"
    rules = "rules:\n  - {name: polite, title: {en: Says goodbye}, check: {says: {say: [goodbye]}}}\n"
    studies.put_rules(house.units, "stored", rules, "lea")
    id = house.evaluate(house.call())["id"]
    with house.units() as work:  # as accepted by an Answerline that did not know these words
        for table, known in ((store.scorecard, "Clear"), (store.ruleset, "Says goodbye")):
            document = func.replace(table.c.document, known, words)
            work.connection.execute(table.update().values(document=document))
    assert house.submit(id)["state"] == "submitted"
    house.at.forward(3600)
    assert studies.check_due(house.units, studies.Checker(), lambda work, *told: work(*told)) == 1
    assert words in str(house.look(handlers.get_scorecard, "small"))
    with pytest.raises(Invalid, match="never a target"):
        handlers.put_scorecard(house.units, "new", house.look(handlers.get_scorecard, "small")["document"], "lea")
    with pytest.raises(Invalid, match="never a target"):
        studies.put_rules(house.units, "new", rules.replace("Says goodbye", words), "lea")
