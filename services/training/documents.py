"""What people write down for training, each kind checked with every mistake at once: the policy, ladders, courses, curricula, exams, resources,
templates of programmes, and paths. docs/training.md tells of each field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date, time
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import available_timezones

from services.training.domain import courses, ladder, sessions
from services.training.domain.courses import Course, Curriculum, Practice
from services.training.domain.errors import Refused
from services.training.domain.exam import Exam, Question
from services.training.domain.ladder import Ladder, Rung
from services.training.domain.paths import Path
from services.training.domain.programme import Term
from services.training.domain.sessions import Policy, Resource
from shared import yamldoc
from shared.errors import Invalid

MAX_BYTES = 1_048_576
MOST = 500
"""Of anything in one list."""
Problems = list[dict[str, str]]
Check = Callable[[Any], str]
Document = Mapping[str, Any]


def parse(text: str) -> dict[str, Any]:
    """A document as people write it, in YAML or JSON. Raises Invalid."""
    document = yamldoc.load(text, MAX_BYTES, yes_no=True)
    if not isinstance(document, dict):
        raise Invalid("The document must be an object of fields.", errors=[{"path": "", "detail": "must be an object of fields"}])
    return document


def compile(kind: str, name: str, version: int, document: Document) -> Any:
    """What the document describes, as the domain has it. Raises Invalid: `errors` is a list of {path, detail}."""
    problems: Problems = []
    try:
        made = READERS[kind](name, version, document, problems)
    except Refused as refused:
        raise Invalid(str(refused), errors=[{"path": "", "detail": str(refused)}]) from refused
    if problems:
        raise Invalid("; ".join(f"{one['path'] or 'document'}: {one['detail']}" for one in problems), errors=problems)
    return made


def _read(document: Any, at: str, checks: Mapping[str, Check], problems: Problems, *needed: str) -> dict[str, Any]:
    """The known fields of an object; every mistake is noted."""
    if not isinstance(document, Mapping):
        problems.append({"path": at, "detail": "must be an object of fields"})
        return {}
    values = {}
    for name, value in document.items():
        path = f"{at}.{name}" if at else str(name)
        if name not in checks:
            problems.append({"path": path, "detail": f"unknown; there are {', '.join(checks)}"})
        elif wrong := checks[name](value):
            problems.append({"path": path, "detail": wrong})
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    problems += [{"path": f"{at}.{name}" if at else name, "detail": "is missing"} for name in needed if name not in document]
    return values


def _each(values: dict[str, Any], name: str, checks: Mapping[str, Check], problems: Problems, *needed: str) -> list[dict[str, Any]]:
    return [_read(one, f"{name}[{number}]", checks, problems, *needed) for number, one in enumerate(values.pop(name, ()))]


# ---- checks of one value


def text(value: Any) -> str:
    return (
        "" if isinstance(value, str) and 0 < len(value.strip()) <= 200 and "\x00" not in value else "must be a text of 1 to 200 characters"
    )


def long_text(value: Any) -> str:
    return (
        ""
        if isinstance(value, str) and 0 < len(value.strip()) <= 4000 and "\x00" not in value
        else "must be a text of 1 to 4000 characters"
    )


def number(low: float, high: float) -> Check:
    return lambda value: "" if type(value) in (int, float) and low <= value <= high else f"must be a number from {low:g} to {high:g}"


def whole(low: int, high: int) -> Check:
    return lambda value: "" if type(value) is int and low <= value <= high else f"must be a whole number from {low} to {high}"


def one_of(*names: str) -> Check:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


def yes_or_no(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def objects(value: Any) -> str:
    return "" if isinstance(value, list) and 0 < len(value) <= MOST else f"must be a list of 1 to {MOST} objects"


def names(value: Any) -> str:
    fits = isinstance(value, list) and len(value) <= MOST and not any(text(one) for one in value)
    return "" if fits else f"must be a list of at most {MOST} texts"


def links(value: Any) -> str:
    fits = (
        isinstance(value, list)
        and len(value) <= 50
        and all(isinstance(one, str) and re.match(r"https?://\S{1,2000}\Z", one) for one in value)
    )
    return "" if fits else "must be a list of at most 50 addresses that begin with https:// or http://"


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone(value: Any) -> str:
    return "" if isinstance(value, str) and value in _zones() else "must be a time zone's name such as Europe/Berlin"


def zones(value: Any) -> str:
    if not isinstance(value, dict) or any(text(site) for site in value):
        return "must be an object of sites and their time zones"
    return next((f"{site}: {wrong}" for site, of in value.items() if (wrong := zone(of))), "")


def halves(value: Any) -> str:
    told = "must be an object of 1 to 4 half-days and when they begin, such as 08:30, in that order"
    if not isinstance(value, dict) or not 1 <= len(value) <= 4 or not all(re.fullmatch(r"[a-z]{1,20}", str(name)) for name in value):
        return told
    if not all(isinstance(at, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", at) for at in value.values()):
        return told
    return "" if sorted(value.values()) == list(value.values()) and len(set(value.values())) == len(value) else told


def days(value: Any) -> str:
    fits = isinstance(value, list) and len(value) <= 10 and all(type(one) is int and 1 <= one <= 365 for one in value)
    return "" if fits else "must be a list of at most 10 numbers of days, from 1 to 365"


def weekly(value: Any) -> str:
    fits = isinstance(value, dict) and set(value) <= set(sessions.WEEKDAYS) and not any(names(of) for of in value.values())
    return "" if fits else f"must be an object of days ({', '.join(sessions.WEEKDAYS)}) and lists of half-days"


def closed(value: Any) -> str:
    told = "must be a list of {from, to}, dates such as 2026-12-24, both included"
    if not isinstance(value, list) or len(value) > MOST:
        return told
    for one in value:
        try:
            if set(one) != {"from", "to"} or not day(one["from"]) <= day(one["to"]):
                return told
        except (TypeError, ValueError):
            return told
    return ""


def day(value: Any) -> date:
    """Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("a date is one such as 2026-12-24")
    return date.fromisoformat(value)


# ---- the kinds


POLICY: dict[str, Check] = {
    "zone": zone,
    "sites": zones,
    "halves": halves,
    "half_day_hours": number(0.5, 12),
    "hours_a_year": number(0, 2000),
    "self_study_hours": number(0, 2000),
    "capacity": whole(1, 1000),
    "away_share": number(0, 1),
    "reminders": days,
    "permit_days": whole(1, 365),
    "permit_contacts": whole(1, 1000),
    "lesson_evaluations": whole(1, 1000),
    "lesson_days": whole(1, 1000),
    "least_people": whole(1, 1000),
}


def _policy(name: str, _version: int, document: Document, problems: Problems) -> Policy:
    if name != "default":
        problems.append({"path": "", "detail": "there is one training policy, and it is called default"})
    policy = Policy(**_read(document, "", POLICY, problems))
    begins = [time.fromisoformat(at) for at in policy.halves.values()]
    minutes = [at.hour * 60 + at.minute for at in begins]
    for number, (one, other) in enumerate(pairwise(minutes)):
        if other - one < policy.half_day_hours * 60:
            names = list(policy.halves)
            problems.append(
                {
                    "path": f"halves.{names[number + 1]}",
                    "detail": f"begins before {names[number]} is over ({policy.half_day_hours:g} hours)",
                }
            )
    return policy


RUNG: dict[str, Check] = {
    "channel": text,
    "after": text,
    "practice_days": whole(0, 1000),
    "quality": number(0, 1),
    "evaluations": whole(0, 1000),
}


def _ladder(name: str, _version: int, document: Document, problems: Problems) -> Ladder:
    values = _read(document, "", {"channels": objects}, problems, "channels")
    rungs = _each(values, "channels", RUNG, problems, "channel")
    return Ladder(name, ladder.in_order([Rung(**one) for one in rungs]) if not problems else ())


COURSE: dict[str, Check] = {
    "title": text,
    "topic": one_of(*courses.TOPICS),
    "hours": number(0.25, 400),
    "about": one_of(*courses.ABOUT),
    "level": whole(1, 5),
    "audience": names,
    "after": names,
    "materials": links,
    "criteria": names,
    "equipment": names,
    "counts_from": whole(1, 10_000),
    "self_study": yes_or_no,
}


def _course(name: str, version: int, document: Document, problems: Problems) -> Course | None:
    values = _read(document, "", COURSE, problems, "title", "topic", "hours")
    if values.get("counts_from", 1) > max(version, 1):
        problems.append({"path": "counts_from", "detail": f"is a version to come; this is version {version}"})
    if name in values.get("after", ()):
        problems.append({"path": "after", "detail": "a course does not come after itself"})
    return None if problems else Course(name, version, **values)


CURRICULUM: dict[str, Check] = {
    "kind": one_of("channel", "product"),
    "courses": names,
    "exam": text,
    "practice": lambda value: "" if isinstance(value, dict) else "must be an object of fields",
    "audience": names,
    "valid_days": whole(0, 3650),
    "renewal_courses": names,
    "renewal_exam": yes_or_no,
}
PRACTICE: dict[str, Check] = {"contacts": whole(1, 1000), "mark": number(0, 1), "queues": names}


def _curriculum(name: str, version: int, document: Document, problems: Problems) -> Curriculum | None:
    values = _read(document, "", CURRICULUM, problems, "courses", "practice")
    practice = _read(values.pop("practice", {}), "practice", PRACTICE, problems, "contacts", "mark")
    if values.get("kind") == "product" and not practice.get("queues"):
        problems.append({"path": "practice.queues", "detail": "a product's practice is on queues: name them"})
    if values.get("renewal_exam") and not values.get("exam"):
        problems.append({"path": "renewal_exam", "detail": "there is no exam to pass again"})
    return None if problems else Curriculum(name, version, practice=Practice(**practice), **values)


EXAM: dict[str, Check] = {
    "bank": objects,
    "questions": whole(1, 200),
    "pass_mark": number(0.01, 1),
    "attempts": whole(1, 100),
    "attempts_days": whole(1, 3650),
    "minutes": whole(1, 1440),
}
QUESTION: dict[str, Check] = {
    "id": text,
    "text": long_text,
    "choices": names,
    "correct": lambda value: (
        ""
        if isinstance(value, list) and value and all(type(one) is int for one in value)
        else "must be a list of numbers of choices, from 0"
    ),
}


def _exam(name: str, version: int, document: Document, problems: Problems) -> Exam | None:
    values = _read(document, "", EXAM, problems, "bank", "questions", "pass_mark")
    bank = _each(values, "bank", QUESTION, problems, "id", "text", "choices", "correct")
    seen: set[str] = set()
    for number, one in enumerate(bank):
        choices = one.get("choices", ())
        if len(choices) < 2 or len(set(choices)) != len(choices):
            problems.append({"path": f"bank[{number}].choices", "detail": "a question has at least two choices, and none twice"})
        elif any(not 0 <= place < len(choices) for place in one.get("correct", ())) or len(set(one.get("correct", ()))) != len(
            one.get("correct", ())
        ):
            problems.append(
                {"path": f"bank[{number}].correct", "detail": f"names choices by number, from 0 to {len(choices) - 1}, each once"}
            )
        if one.get("id") in seen:
            problems.append({"path": f"bank[{number}].id", "detail": f"{one['id']} is the id of an earlier question"})
        seen.add(one.get("id", ""))
    if values.get("questions", 1) > max(len(bank), 1):
        problems.append({"path": "questions", "detail": f"an attempt asks {values['questions']} questions, and the bank has {len(bank)}"})
    return None if problems else Exam(name, version, tuple(Question(**one) for one in bank), **values)


RESOURCE: dict[str, Check] = {
    "kind": one_of(*sessions.KINDS),
    "name": text,
    "site": text,
    "capacity": whole(1, 1000),
    "weekly": weekly,
    "closed": closed,
    "model": text,
    "courses": names,
    "external": yes_or_no,
}


def _resource(name: str, _version: int, document: Document, problems: Problems) -> Resource | None:
    values = _read(document, "", RESOURCE, problems, "kind")
    if values.get("courses") and values.get("kind") != "trainer":
        problems.append({"path": "courses", "detail": "trainers teach courses, and nothing else does"})
    if values.get("model") and values.get("kind") != "equipment":
        problems.append({"path": "model", "detail": "equipment is of a model, and nothing else is"})
    if problems:
        return None
    values["closed"] = tuple((day(one["from"]), day(one["to"])) for one in values.get("closed", ()))
    values["weekly"] = {weekday: tuple(of) for weekday, of in values.get("weekly", {}).items()}
    return Resource(name, **values)


PATH: dict[str, Check] = {
    "role": text,
    "to_role": text,
    "to_team": text,
    "certificates": names,
    "courses": names,
    "quality": number(0, 1),
    "evaluations": whole(1, 1000),
    "months": number(0, 600),
    "hours": number(0, 10_000),
}


def _path(name: str, _version: int, document: Document, problems: Problems) -> Path | None:
    values = _read(document, "", PATH, problems, "role")
    if bool(values.get("to_role")) == bool(values.get("to_team")):
        problems.append(
            {"path": "to_role", "detail": "a path leads to another role (`to_role`) or to another team (`to_team`): name the one"}
        )
    if values.get("to_role") == values.get("role"):
        problems.append({"path": "to_role", "detail": "a path leads elsewhere: a circle of one role is none"})
    return None if problems else Path(name, **values)


TERM: dict[str, Check] = {"months": whole(1, 24), "days": whole(1, 5), "gap_months": whole(0, 24), "courses": names}


def _template(_name: str, _version: int, document: Document, problems: Problems) -> tuple[Term, ...]:
    values = _read(document, "", {"terms": objects}, problems, "terms")
    terms = _each(values, "terms", TERM, problems, "months")
    return () if problems else tuple(Term(**one) for one in terms)


READERS: dict[str, Callable[[str, int, Document, Problems], Any]] = {
    "policy": _policy,
    "ladders": _ladder,
    "courses": _course,
    "curricula": _curriculum,
    "exams": _exam,
    "resources": _resource,
    "templates": _template,
    "paths": _path,
}


def defaults() -> dict[str, Any]:
    """The training policy where nobody wrote one."""
    return asdict(Policy())
