"""Scorecards as people write them: a YAML or JSON document, checked, with every mistake at once.

kind: internal
title: {en: Service standards, zh: 服务标准}
sections:
  - id: solving
    title: {en: Solving}
    criteria:
      - {id: understood, title: {en: Understood the question}, critical: customer, weight: 3}
      - {id: clear, title: {en: Clear}, answering: scale, low: 1, high: 5}
      - {id: offered_other_way, title: {en: Offered another way}, when: {criterion: understood, answers: [yes]}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from services.qa.domain import scorecard as domain
from services.qa.domain.errors import Invalid as Refused
from services.qa.domain.scorecard import ANSWERING, CLASSES, KINDS, Criterion, Scorecard, Section, When
from shared import yamldoc
from shared.errors import Invalid

MAX_BYTES = 131_072
MAX_CRITERIA = 100
MAX_SECTIONS = 100
READY = Path(__file__).parent / "ready"
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")

Problems = list[dict[str, str]]
Check = Callable[[Any], str]


def load(text: str) -> Any:
    """The document. Raises Invalid."""
    return yamldoc.load(text, MAX_BYTES)


def compile(text: str, name: str, version: int, *, accepted: bool = False) -> Scorecard:
    """The scorecard that a document describes. Raises Invalid: `errors` is a list of {path, detail}. `accepted`: it is in force, and its words
    are not judged again by what has been learnt since of how handle time is made a target."""
    problems: Problems = []
    told = _fields(load(text), "", CARD, ("kind", "title", "sections"), problems)
    sections: list[Section] = []
    known: dict[str, Criterion] = {}
    for number, one in enumerate(told.get("sections", ())):
        at = f"sections[{number}]"
        section = _fields(one, at, SECTION, ("id", "title", "criteria"), problems)
        if section.get("id") in {other.id for other in sections}:
            problems.append({"path": f"{at}.id", "detail": "there is a section of that id already"})
        criteria = []
        for place, inner in enumerate(section.pop("criteria", ())):
            if criterion := _criterion(inner, f"{at}.criteria[{place}]", known, problems):
                criteria.append(criterion)
                known[criterion.id] = criterion
        if not problems:
            sections.append(Section(criteria=tuple(criteria), **section))
    if len(known) > MAX_CRITERIA:
        problems.append({"path": "sections", "detail": f"at most {MAX_CRITERIA} criteria altogether"})
    if problems:
        raise Invalid("; ".join(f"{one['path'] or 'document'}: {one['detail']}" for one in problems), errors=problems)
    card = Scorecard(name, version, told["kind"], told["title"], tuple(sections), tuple(told.get("channels", ())))
    try:
        if not accepted:
            domain.refuse_handle_time(card)
    except Refused as refused:
        raise Invalid(str(refused), rule="handle time is never a target") from refused
    return card


def _criterion(told: Any, at: str, known: Mapping[str, Criterion], problems: Problems) -> Criterion | None:
    before = len(problems)
    values = _fields(told, at, CRITERION, ("id", "title"), problems)
    if values.get("id") in known:
        problems.append({"path": f"{at}.id", "detail": "there is a criterion of that id already"})
    answering = values.get("answering", "yes_no")
    bounds = [name for name in ("low", "high") if name in values]
    if answering == "yes_no" and bounds:
        problems.append({"path": f"{at}.{bounds[0]}", "detail": "is for scales and numbers"})
    if answering != "yes_no" and "good" in values:
        problems.append({"path": f"{at}.good", "detail": "is for questions that are answered with yes or no"})
    if answering != "yes_no" and (len(bounds) < 2 or values["low"] == values["high"]):
        problems.append({"path": at, "detail": "a scale or number needs `low` and `high`, the ends that are worth nothing and all"})
    if "when" in values:
        at_when = f"{at}.when"
        when = _fields(values.pop("when"), at_when, WHEN, ("criterion",), problems)
        if when.get("criterion") not in known:
            problems.append({"path": f"{at_when}.criterion", "detail": "must be a criterion further up"})
        elif ("answers" in when) == bool({"at_least", "at_most"} & when.keys()):
            problems.append({"path": at_when, "detail": "say `answers`, or else `at_least` and `at_most`"})
        else:
            asked = known[when["criterion"]]
            try:
                answers = tuple(asked.read(answer) for answer in when.pop("answers", ()))
            except Refused as refused:
                problems.append({"path": f"{at_when}.answers", "detail": str(refused)})
            else:
                values["when"] = When(answers=answers, **when)
    return Criterion(**values) if len(problems) == before else None


def _fields(document: Any, path: str, known: Mapping[str, Check], required: tuple[str, ...], problems: Problems) -> dict[str, Any]:
    """The known fields of an object; every mistake is noted."""
    if not isinstance(document, dict):
        problems.append({"path": path, "detail": "must be an object of fields"})
        return {}
    values = {}
    for name, value in document.items():
        at = f"{path}.{name}" if path else str(name)
        if name not in known:
            problems.append({"path": at, "detail": f"unknown; there are {', '.join(known)}"})
        elif wrong := known[name](value):
            problems.append({"path": at, "detail": wrong})
        else:
            values[name] = value
    problems += [{"path": f"{path}.{name}" if path else name, "detail": "is missing"} for name in required if name not in document]
    return values


def _words(value: Any) -> str:
    fits = (
        isinstance(value, dict)
        and 0 < len(value) <= 20
        and all(isinstance(key, str) and len(key) <= 20 and isinstance(text, str) and 0 < len(text) <= 500 for key, text in value.items())
    )
    return "" if fits else "must be texts by language, as in {en: …, zh: …}"


def _id(value: Any) -> str:
    fits = isinstance(value, str) and IDENTIFIER.fullmatch(value)
    return "" if fits else "must be a word of small letters, digits and _, beginning with a letter"


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        fits = type(value) in (int, float) and low <= value <= high
        return "" if fits else f"must be a number from {low:g} to {high:g}"

    return check


def _one_of(*names: str) -> Check:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


def _list(most: int, what: str) -> Check:
    return lambda value: "" if isinstance(value, list) and 0 < len(value) <= most else f"must be a list of 1 to {most} {what}"


def _names(value: Any) -> str:
    fits = isinstance(value, list) and len(value) <= 50 and all(isinstance(one, str) and 0 < len(one) <= 100 for one in value)
    return "" if fits else "must be a list of names"


def _truth(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


CARD: dict[str, Check] = {"kind": _one_of(*KINDS), "title": _words, "channels": _names, "sections": _list(MAX_SECTIONS, "sections")}
SECTION: dict[str, Check] = {"id": _id, "title": _words, "weight": _number(0.001, 1000), "criteria": _list(MAX_CRITERIA, "criteria")}
CRITERION: dict[str, Check] = {
    "id": _id,
    "title": _words,
    "answering": _one_of(*ANSWERING),
    "weight": _number(0, 1000),
    "critical": _one_of(*CLASSES),
    "may_not_apply": _truth,
    "low": _number(-1e6, 1e6),
    "high": _number(-1e6, 1e6),
    "good": _one_of("yes", "no"),
    "missed_below": _number(0, 1),
    "when": lambda value: "" if isinstance(value, dict) else "must be an object of fields",
    "guidance": _words,
}
WHEN: dict[str, Check] = {
    "criterion": _id,
    "answers": _list(20, "answers"),
    "at_least": _number(-1e6, 1e6),
    "at_most": _number(-1e6, 1e6),
}


@cache
def ready() -> dict[str, str]:
    """The scorecards that come with the product, by name."""
    return {path.stem.replace("_", "-"): path.read_text(encoding="utf-8") for path in sorted(READY.glob("*.yaml"))}
