"""Exams: questions drawn from a bank, graded, and what the answers say of each question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from services.training.domain.errors import Conflict, Invalid

ENOUGH = 20
"""Answers, below which nothing is said of a question."""


@dataclass(frozen=True)
class Question:
    """`correct`: the numbers, from 0, of all the choices that are right, and no other is."""

    id: str
    text: str
    choices: tuple[str, ...]
    correct: tuple[int, ...]


@dataclass(frozen=True)
class Exam:
    """`questions` of the bank are drawn for an attempt; `pass_mark` is the share that must be right. Of `attempts` within `attempts_days`,
    each lasts `minutes` at most."""

    name: str
    version: int
    bank: tuple[Question, ...]
    questions: int
    pass_mark: float
    attempts: int = 3
    attempts_days: int = 30
    minutes: int = 60

    def question(self, id: str) -> Question:
        return next(one for one in self.bank if one.id == id)


@dataclass(frozen=True)
class Graded:
    score: float
    passed: bool
    right: dict[str, bool]


def require_attempt(exam: Exam, person: str, started: Sequence[float], passed: bool, open: bool, now: float) -> None:
    """Raises Conflict where somebody may not begin another attempt; `started`: when the earlier ones began."""
    if open:
        raise Conflict(f"{person} has an attempt at {exam.name} open: answer that one first.")
    if passed:
        raise Conflict(f"{person} has passed {exam.name}.")
    recent = sorted(at for at in started if at > now - exam.attempts_days * 86400.0)
    if len(recent) >= exam.attempts:
        days = math.ceil((recent[-exam.attempts] + exam.attempts_days * 86400.0 - now) / 86400.0)
        raise Conflict(f"{person} has had {exam.attempts} attempts within {exam.attempts_days} days; the next is possible in {days} days.")


def draw(exam: Exam, random: Random, seen: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The questions of an attempt, without their answers, those that were not seen before first; the choices are shuffled: `order` says which
    number of the bank stands at each place, and is not for candidates."""
    fresh = [one for one in exam.bank if one.id not in seen]
    stale = [one for one in exam.bank if one.id in seen]
    random.shuffle(fresh)
    random.shuffle(stale)
    chosen = (fresh + stale)[: exam.questions]
    random.shuffle(chosen)
    drawn = []
    for one in chosen:
        order = list(range(len(one.choices)))
        random.shuffle(order)
        drawn.append({"id": one.id, "text": one.text, "choices": [one.choices[place] for place in order], "order": order,
                      "several": len(one.correct) > 1})  # fmt: skip
    return drawn


def grade(exam: Exam, drawn: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[int]]) -> Graded:
    """A question is right when exactly the right choices were named; one left out is wrong. Raises Invalid for answers to other questions."""
    asked = {one["id"]: one for one in drawn}
    if unknown := sorted(set(answers) - set(asked)):
        raise Invalid(f"These questions were not asked: {', '.join(unknown)}.")
    right = {}
    for id, one in asked.items():
        given = list(answers.get(id, ()))
        if len(set(given)) != len(given) or any(not 0 <= place < len(one["order"]) for place in given):
            raise Invalid(f"The answer to {id} names choices by their number, from 0 to {len(one['order']) - 1}, each once.")
        right[id] = {one["order"][place] for place in given} == set(exam.question(id).correct)
    score = sum(right.values()) / len(right)
    return Graded(score, score >= exam.pass_mark - 1e-9, right)


def item_statistics(attempts: Sequence[Mapping[str, bool]]) -> dict[str, dict[str, Any]]:
    """By question: how often it was asked; its difficulty, the share of right answers (so that a high one is easy, as test theory has it);
    its discrimination, the correlation of being right with the share right of the same attempt's other questions (the corrected item-rest
    correlation; Lord & Novick 1968, ch. 15). `verdict`: too_few, too_easy (> .95), too_hard (< .2), misleading (negative), weak (< .15) or good."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for right in attempts:
        total = sum(right.values())
        for id, hit in right.items():
            if len(right) > 1:
                rows.setdefault(id, []).append((float(hit), (total - hit) / (len(right) - 1)))
    told = {}
    for id, pairs in sorted(rows.items()):
        difficulty = sum(hit for hit, _ in pairs) / len(pairs)
        discrimination = _correlation(pairs)
        told[id] = {"asked": len(pairs), "difficulty": difficulty, "discrimination": discrimination,
                    "verdict": _verdict(len(pairs), difficulty, discrimination)}  # fmt: skip
    return told


def _verdict(count: int, difficulty: float, discrimination: float | None) -> str:
    if count < ENOUGH:
        return "too_few"
    if difficulty > 0.95:
        return "too_easy"
    if difficulty < 0.2:
        return "too_hard"
    if discrimination is None or discrimination < 0:
        return "misleading" if discrimination is not None else "weak"
    return "good" if discrimination >= 0.15 else "weak"


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    count = len(pairs)
    mean_x, mean_y = (math.fsum(pair[side] for pair in pairs) / count for side in (0, 1))
    xx = math.fsum((x - mean_x) ** 2 for x, _ in pairs)
    yy = math.fsum((y - mean_y) ** 2 for _, y in pairs)
    xy = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs)
    return xy / math.sqrt(xx * yy) if xx > 1e-12 and yy > 1e-12 else None
