"""Courses and curricula: what is taught, to whom, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.training.domain.errors import Invalid

TOPICS = (
    "service_quality", "relationships", "expectations", "changing_perceptions", "conflict", "language", "defusing_anger", "email_protocol",
    "stress", "empathy", "change", "listening", "smiling_service", "channel", "product", "tool",
)  # fmt: skip
ABOUT = ("idea", "tool")


@dataclass(frozen=True)
class Course:
    """`hours` of attendance complete it. `about`: an idea (how to look after customers) or the tool; `level`: 1 is the easiest.
    `after`: courses that come before it; `criteria`: those of quality evaluations that it teaches; `counts_from`: the first of its versions
    whose completion still counts; `self_study`: its materials alone will do."""

    name: str
    version: int
    title: str
    topic: str
    hours: float
    about: str = "idea"
    level: int = 1
    audience: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    materials: tuple[str, ...] = ()
    criteria: tuple[str, ...] = ()
    equipment: tuple[str, ...] = ()
    counts_from: int = 1
    self_study: bool = False

    def is_for(self, roles: tuple[str, ...] | list[str]) -> bool:
        return not self.audience or not set(self.audience).isdisjoint(roles)


@dataclass(frozen=True)
class Practice:
    """So many `contacts` served under supervision and evaluated at `mark` (0 to 1) or above. For a product, on these `queues`."""

    contacts: int
    mark: float
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curriculum:
    """What a certificate needs: `courses` in their order, an exam, practice. `kind`: channel or product. It holds `valid_days` (0: without end);
    to renew it needs `renewal_courses`, and the exam again where `renewal_exam` says so."""

    target: str
    version: int
    courses: tuple[str, ...]
    practice: Practice
    kind: str = "channel"
    exam: str = ""
    audience: tuple[str, ...] = ()
    valid_days: int = 365
    renewal_courses: tuple[str, ...] = ()
    renewal_exam: bool = False


def check_order(names: tuple[str, ...], known: Mapping[str, Course]) -> None:
    """Ideas come before the tool, easy functions of it before hard ones, and each course after those it needs. Raises Invalid."""
    seen: list[Course] = []
    for name in names:
        course = known.get(name)
        if course is None:
            raise Invalid(f"There is no course {name}: write it down first.")
        if course in seen:
            raise Invalid(f"The course {name} stands there twice.")
        tools = [one for one in seen if one.about == "tool"]
        if course.about == "idea" and tools:
            raise Invalid(f"{name} is about ideas and comes after {tools[-1].name}, which is about the tool: ideas come first.")
        if tools and course.level < tools[-1].level:
            raise Invalid(
                f"{name} (level {course.level}) comes after {tools[-1].name} (level {tools[-1].level}): easy functions come first."
            )
        behind = {one.name for one in seen}
        if late := [need for need in course.after if need in names and need not in behind]:
            raise Invalid(f"{name} needs {', '.join(late)} before it.")
        seen.append(course)


def done_of(names: tuple[str, ...], known: Mapping[str, Course], completed: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Of these courses those that are done and those that are not; `completed`: course -> the newest version that was completed."""
    done = [name for name in names if name in completed and completed[name] >= (known[name].counts_from if name in known else 1)]
    return done, [name for name in names if name not in done]
