"""Ladders as people write them: a YAML or JSON document, checked, with every mistake at once.

steps:
  - {after: 0, who: experts, best: 3, level: 3}
  - {after: 8, who: experts, best: 5}
  - {after: 20, who: seniors, same_site: true}
  - {after: 35, who: managers}
  - {after: 50, who: department, department: engineering}
  - {after: 70, who: everyone}
ends_after: 90
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, get_args

from services.im.domain.ladder import Ladder, Step, Who
from shared import yamldoc
from shared.errors import Invalid

MAX_BYTES = 16_384
MAX_STEPS = 20
MAX_SECONDS = 86_400.0
Check = Callable[[Any], str]


@lru_cache(256)
def compile(text: str, name: str, version: int) -> Ladder:
    """The ladder that a document describes, worked out once: each claim and each step asks for it. Raises Invalid: `errors` is a list of {path, detail}."""
    document = yamldoc.load(text, MAX_BYTES, yes_no=True)
    problems: list[dict[str, str]] = []
    values = _fields(document, "", LADDER, problems)
    steps = values.pop("steps", None)
    if isinstance(steps, list):
        read = [_fields(step, f"steps[{number}]", STEP, problems) for number, step in enumerate(steps)]
        _check_steps(read, values.get("ends_after", Ladder.ends_after), problems)
        if not problems:
            return Ladder(name, version, tuple(Step(**step) for step in read), **values)
    raise Invalid("; ".join(f"{one['path'] or 'document'}: {one['detail']}" for one in problems), errors=problems)


def _check_steps(steps: list[dict[str, Any]], ends_after: float, problems: list[dict[str, str]]) -> None:
    for number, step in enumerate(steps):
        if (step.get("who") == "department") != bool(step.get("department")):
            problems.append({"path": f"steps[{number}].department", "detail": "a step for a department names it, and only such a step"})
    times = [step["after"] for step in steps if "after" in step]
    for number, (earlier, later) in enumerate(pairwise(times), start=1):
        if later <= earlier:
            problems.append({"path": f"steps[{number}].after", "detail": f"each step comes later than the one before ({earlier:g} s)"})
    if times and ends_after <= times[-1]:
        problems.append({"path": "ends_after", "detail": f"the ladder ends after its last step ({times[-1]:g} s)"})


def _fields(document: Any, path: str, known: Mapping[str, Check], problems: list[dict[str, str]]) -> dict[str, Any]:
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
    required = {one.name for one in fields(Step if known is STEP else Ladder) if one.default is MISSING} & known.keys()
    problems += [{"path": f"{path}.{name}" if path else name, "detail": "is missing"} for name in sorted(required - document.keys())]
    return values


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        fits = type(value) in (int, float) and low <= value <= high
        return "" if fits else f"must be a number from {low:g} to {high:g}"

    return check


def _whole(low: int, high: int) -> Check:
    return lambda value: "" if type(value) is int and low <= value <= high else f"must be a whole number from {low} to {high}"


def _one_of(*names: str) -> Check:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and 0 < len(value.strip()) <= 100 else "must be a text of 1 to 100 characters"


def _yes_or_no(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _list(value: Any) -> str:
    return "" if isinstance(value, list) and 0 < len(value) <= MAX_STEPS else f"must be a list of 1 to {MAX_STEPS} steps"


STEP: dict[str, Check] = {
    "after": _number(0, MAX_SECONDS),
    "who": _one_of(*get_args(Who)),
    "best": _whole(1, 100),
    "level": _whole(0, 5),
    "department": _text,
    "same_site": _yes_or_no,
}
LADDER: dict[str, Check] = {
    "steps": _list,
    "ends_after": _number(1, MAX_SECONDS),
    "claim_seconds": _number(5, MAX_SECONDS),
    "open_per_agent": _whole(1, 100),
    "keep_days": _whole(1, 3650),
}
