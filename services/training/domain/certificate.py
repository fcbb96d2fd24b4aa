"""Certificates: what somebody needs for one, how long it holds, when they are reminded, and what renews it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.training.domain.courses import Course, Curriculum, done_of
from services.training.domain.errors import Conflict, Invalid
from services.training.domain.ladder import Missing, words

DAY = 86400.0


@dataclass(frozen=True)
class Seen:
    """An evaluation of a contact that counts; score from 0 to 1."""

    contact: str
    channel: str
    queue: str
    contact_at: float
    score: float
    practice: bool


@dataclass(frozen=True)
class Progress:
    """How far somebody is on the way to a certificate."""

    courses_done: tuple[str, ...]
    courses_missing: tuple[str, ...]
    exam_passed: bool
    practice: int
    missing: tuple[Missing, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing


def practice_contacts(curriculum: Curriculum, seen: Sequence[Seen], since: float) -> set[str]:
    """Contacts, served since the learning began, that count as practice: each once. On a channel those served under a permit, for a product
    those of its queues."""
    found = set()
    for one in seen:
        fits = (
            one.queue in curriculum.practice.queues if curriculum.kind == "product" else one.practice and one.channel == curriculum.target
        )
        if fits and one.contact_at >= since and one.score >= curriculum.practice.mark:
            found.add(one.contact)
    return found


def progress(
    curriculum: Curriculum, known: Mapping[str, Course], completed: Mapping[str, int], exam_passed: bool, seen: Sequence[Seen], since: float
) -> Progress:
    done, open = done_of(curriculum.courses, known, completed)
    contacts = len(practice_contacts(curriculum, seen, since))
    missing: list[Missing] = []
    if open:
        missing.append({"what": "courses", "names": open})
    if curriculum.exam and not exam_passed:
        missing.append({"what": "exam", "names": [curriculum.exam]})
    if contacts < curriculum.practice.contacts:
        needs = {"needs": curriculum.practice.contacts, "mark": curriculum.practice.mark}
        missing.append({"what": "practice", "channel": curriculum.target, "has": contacts, **needs})
    return Progress(tuple(done), tuple(open), exam_passed or not curriculum.exam, contacts, tuple(missing))


def require_complete(person: str, target: str, made: Progress) -> None:
    """Raises Conflict, which says what is missing."""
    if not made.is_complete:
        raise Conflict(f"{person} cannot be certified for {target} yet: {words(list(made.missing))}.")


def expires_at(curriculum: Curriculum, now: float) -> float | None:
    return now + curriculum.valid_days * DAY if curriculum.valid_days else None


def renewed_until(curriculum: Curriculum, now: float, before: float | None) -> float | None:
    """A renewal in good time gives nothing away: the new certificate runs on from the end of the old one."""
    if not curriculum.valid_days:
        return None
    return max(now, before or now) + curriculum.valid_days * DAY


def renewal_missing(
    curriculum: Curriculum, known: Mapping[str, Course], completed_since: Mapping[str, int], exam_passed_since: bool
) -> list[Missing]:
    """What is missing for a renewal; only what was done since the certificate was given counts."""
    missing: list[Missing] = []
    if open := done_of(curriculum.renewal_courses, known, completed_since)[1]:
        missing.append({"what": "courses", "names": open})
    if curriculum.renewal_exam and curriculum.exam and not exam_passed_since:
        missing.append({"what": "exam", "names": [curriculum.exam]})
    return missing


def next_due(expires: float | None, reminders: Sequence[int], reminded: int | None, now: float) -> tuple[float | None, int | None]:
    """When something is to be done next about a certificate that holds, and for which reminder (days before its end; None: its end).
    `reminded`: the reminder that was sent last. Those of which the time has passed are not made up for, but for the closest."""
    if expires is None:
        return None, None
    open = sorted((days for days in reminders if reminded is None or days < reminded), reverse=True)
    passed = [days for days in open if expires - days * DAY <= now]
    coming = [days for days in open if expires - days * DAY > now]
    if passed and now < expires:
        return now, passed[-1]
    return (expires - coming[0] * DAY, coming[0]) if coming else (expires, None)


def check_permit(told: Mapping[str, Any], person: str, now: float, longest_days: int, most_a_day: int) -> None:
    """Raises Invalid."""
    if told["supervisor"] == person:
        raise Invalid("Nobody supervises themselves.")
    if told["until"] <= now:
        raise Invalid("The permit would be over before it began: `until` lies in the past.")
    if told["until"] > now + longest_days * DAY:
        raise Invalid(f"A permit is for {longest_days} days at most (the training policy's `permit_days`).")
    if told["contacts_a_day"] > most_a_day:
        raise Invalid(f"A permit is for {most_a_day} contacts a day at most (the training policy's `permit_contacts`).")
