"""A scorecard: what a contact is judged by, what must be answered, and what the answers are worth.

A criterion's value is between 0 and 1. A section's score is the weighted mean of its criteria, the whole score that of its sections; what does
not apply or is not asked does not count. A critical criterion that is missed fails its class (customer, business, compliance) and leaves the
score as it is: critical-error accuracy stands beside it, as in COPC's standard, one figure for each class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from unicodedata import normalize

from services.qa.domain.errors import Invalid

Kind = Literal["internal", "customer"]
Answering = Literal["yes_no", "scale", "number"]
Critical = Literal["customer", "business", "compliance"]
Answer = str | float
Words = Mapping[str, str]

KINDS = get_args(Kind)
ANSWERING = get_args(Answering)
CLASSES = get_args(Critical)
NOT_APPLICABLE = "na"

_WORK = r"(handl(e|ed|ing)|talk(ing)?|speaking|conversation|calls?|contacts?|wrap(ping)?[- _]?up|after[- _]?call([- _]?work)?)"
HANDLE_TIME = re.compile(
    r"\baht\b|\bacw\b|\batt\b"
    rf"|\b{_WORK}[ _-]*(times?|durations?|length|seconds|minutes)\b"
    rf"|\b(time[ _-]+(on|per|for|spent[ _-]+on)|(duration|length|seconds|minutes)[ _-]+(of|on|per|for))[ _-]+(an?[ _-]+|the[ _-]+|each[ _-]+|every[ _-]+)?{_WORK}\b"
    rf"|\b(short|shorter|quick)[ _-]+{_WORK}\b(?![ _-]+(back|notes?|summary))"
    rf"|\b{_WORK}[ _-]+((is |are |was |were |stays? |kept )?(short|shorter|brief)\b|(is |are |stays? |kept )?(under|below|less than|at most) [0-9]"
    r"|(ends?|ended|lasts?|lasted|takes|took|kept) ((in|within|under|below|less than|at most|no longer than|no more than) )?[0-9])"
    rf"|\b{_WORK}[ _-]+(an?|per|each)[ _-]+(hour|day|shift)\b"
    rf"|\b((hang|hangs|hung|hanging)[ _-]+up|(end|ends|finish|finishes|close|closes|complete|completes)[ _-]+(an?[ _-]+|the[ _-]+|each[ _-]+|every[ _-]+)?{_WORK})"
    r"[ _-]+(in|within|under|before|after at most)[ _-]+(the[ _-]+)?([0-9]|one|two|three|four|five|ten)"
    r"|[0-9一二两兩三四五六七八九十]+ ?(分钟|分鐘|秒钟?|秒鐘)(之内|之內|以内|以內|内|內)(结束|結束|挂[断机]|掛[斷機]|处理完|處理完)"
    r"|(处理|處理|通话|通話|话后|話後|整理|会话|會話|对话|接待|小结)的?(平均)?(时[间长]|時[間長]|用时|耗时|秒数|分钟数|长度|长短|时效)"
    r"|每(小时|天|班)的?(接听|接待|处理|通话)(量|数)|(尽快|快速|尽早)(结束通话|挂[机断])|(通话|话务|会话).{0,6}(不超过|少于|低于|以内|越短)",
    re.IGNORECASE,
)
"""Names under which handle time is made a target."""


def hurries(*words: str) -> bool:
    """Whether any of the words makes handle time a target, however it is spelled."""
    return any(HANDLE_TIME.search(INVISIBLE.sub("", normalize("NFKC", one)).replace("_", " ")) for one in words)


INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
HANDLE_TIME_FACTS = frozenset({"talk_seconds", "hold_seconds", "wrap_up_seconds", "handle_seconds"})
NO_TARGET = (
    "handle time is shown, never a target: whoever is judged by it hurries customers away, hands the hard ones on and hangs up on them; "
    "judge whether the question was answered instead"
)


@dataclass(frozen=True)
class When:
    """Asked only where an earlier criterion was answered so."""

    criterion: str
    answers: tuple[Answer, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, answer: Answer | None) -> bool:
        if answer is None:
            return False
        if self.answers:
            return answer in self.answers
        if isinstance(answer, str):
            return False
        return (self.at_least is None or answer >= self.at_least) and (self.at_most is None or answer <= self.at_most)


@dataclass(frozen=True)
class Criterion:
    """`low` and `high`: the ends of a scale or of a number; where `high` is worth nothing and `low` all, `low` is the larger.
    `missed_below`: a value below it is a miss, which fails the class of a critical criterion."""

    id: str
    title: Words
    answering: Answering = "yes_no"
    weight: float = 1.0
    critical: Critical | None = None
    may_not_apply: bool = True
    low: float = 0.0
    high: float = 1.0
    good: str = "yes"
    missed_below: float = 0.5
    when: When | None = None
    guidance: Words = field(default_factory=dict)

    def read(self, answer: Any) -> Answer:
        """The answer as it is kept. Raises Invalid."""
        if answer == NOT_APPLICABLE:
            if not self.may_not_apply:
                raise Invalid(f"{self.id} always applies: it needs an answer")
            return NOT_APPLICABLE
        if self.answering == "yes_no":
            if answer not in ("yes", "no"):
                raise Invalid(f"{self.id} is answered with yes, no" + (" or na" if self.may_not_apply else ""))
            return str(answer)
        low, high = sorted((self.low, self.high))
        whole = self.answering == "scale"
        fits = isinstance(answer, int | float) and not isinstance(answer, bool) and low <= answer <= high
        if not fits or (whole and float(answer) != int(answer)):
            raise Invalid(f"{self.id} is answered with a {'whole ' if whole else ''}number from {low:g} to {high:g}")
        return float(answer)

    @property
    def judges(self) -> bool:
        """Whether it says how good a contact was; without a weight it only says which others are asked, and nothing of it is missed."""
        return self.weight > 0 or self.critical is not None

    def value(self, answer: Answer) -> float | None:
        """Between 0 and 1; None: it does not apply."""
        if isinstance(answer, str):
            return None if answer == NOT_APPLICABLE else float(answer == self.good)
        return (answer - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Section:
    id: str
    title: Words
    criteria: tuple[Criterion, ...]
    weight: float | None = None
    """None: as much as its criteria together."""


@dataclass(frozen=True)
class Scorecard:
    name: str
    version: int
    kind: Kind
    title: Words
    sections: tuple[Section, ...]
    channels: tuple[str, ...] = ()
    """Empty: for all."""

    @property
    def criteria(self) -> dict[str, Criterion]:
        return {one.id: one for section in self.sections for one in section.criteria}

    def section_of(self, criterion: str) -> str:
        return next(section.id for section in self.sections if any(one.id == criterion for one in section.criteria))


@dataclass(frozen=True)
class Marked:
    """One criterion, answered. `second` of the recording or `message` of the thread: where it shows."""

    criterion: str
    answer: Answer
    second: float | None = None
    message: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    score: float | None
    sections: Mapping[str, float | None]
    values: Mapping[str, float | None]
    missed: tuple[str, ...]
    failed: tuple[Critical, ...]


def asked(card: Scorecard, answers: Mapping[str, Answer]) -> set[str]:
    """The criteria that are asked, given what was answered so far. A condition upon one that is not asked does not hold."""
    found: set[str] = set()
    for criterion in card.criteria.values():
        when = criterion.when
        if when is None or (when.criterion in found and when.holds(answers.get(when.criterion))):
            found.add(criterion.id)
    return found


def read_marks(card: Scorecard, told: Sequence[Mapping[str, Any]], *, complete: bool) -> list[Marked]:
    """What was marked, checked against the card. `complete`: all that is asked must be answered. Raises Invalid."""
    criteria, marks = card.criteria, {}
    for one in told:
        criterion = criteria.get(one["criterion"])
        if criterion is None:
            raise Invalid(f"{card.name} has no criterion {one['criterion']}; there are {', '.join(criteria)}")
        if criterion.id in marks:
            raise Invalid(f"{criterion.id} is marked twice")
        answer = criterion.read(one["answer"])
        marks[criterion.id] = Marked(criterion.id, answer, one.get("second"), one.get("message"), one.get("note") or "")
    answers = {id: mark.answer for id, mark in marks.items()}
    wanted = asked(card, answers)
    if beside := [id for id in marks if id not in wanted]:
        raise Invalid(f"not asked, given the other answers: {', '.join(beside)}")
    if complete and (missing := [id for id in criteria if id in wanted and id not in marks]):
        raise Invalid(f"not answered yet: {', '.join(missing)}")
    return [marks[id] for id in criteria if id in marks]


def judge(card: Scorecard, marks: Sequence[Marked]) -> Result:
    """What the marks are worth."""
    criteria = card.criteria
    values = {mark.criterion: criteria[mark.criterion].value(mark.answer) for mark in marks}
    sections: dict[str, float | None] = {}
    above = below = 0.0
    for section in card.sections:
        counted = [(one.weight, value) for one in section.criteria if (value := values.get(one.id)) is not None]
        whole = sum(weight for weight, _ in counted)
        score = sum(weight * value for weight, value in counted) / whole if whole else None
        sections[section.id] = score
        if score is not None:
            weight = whole if section.weight is None else section.weight
            above, below = above + weight * score, below + weight
    missed = tuple(id for id, value in values.items() if value is not None and value < criteria[id].missed_below and criteria[id].judges)
    failed = tuple(kind for kind in CLASSES if any(criteria[id].critical == kind for id in missed))
    return Result(above / below if below else None, sections, values, missed, failed)


def refuse_handle_time(card: Scorecard) -> None:
    """Raises Invalid where a criterion makes handle time a target."""
    if hurries(*card.title.values()):
        raise Invalid(f"title: {NO_TARGET}")
    for section in card.sections:
        if hurries(section.id, *section.title.values()):
            raise Invalid(f"{section.id}: {NO_TARGET}")
    for one in card.criteria.values():
        if hurries(one.id, *one.title.values(), *one.guidance.values()):
            raise Invalid(f"{one.id}: {NO_TARGET}")


def reweighted(document: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """The document of a card with other weights for its criteria; sections weigh what their criteria do."""
    sections = []
    for section in document["sections"]:
        criteria = [{**one, "weight": round(weights.get(one["id"], one.get("weight", 1.0)), 4)} for one in section["criteria"]]
        sections.append({**{name: value for name, value in section.items() if name != "weight"}, "criteria": criteria})
    return {**document, "sections": sections}
