"""Whom to ask: who may be asked at all, and of those whose answer is worth most.

The worth of asking somebody is the chance that their answer helps, times what is left of an answer's worth when it comes:

    worth = chance x fit x 2^(-seconds / HALF_LIFE_SECONDS)

`chance` is the share of questions on the topic that they were asked and whose answer was accepted, shrunk toward the topic's average as
if everybody had begun with PRIOR average questions, plus one standard deviation of what is then believed (a Beta distribution): who was
asked seldom gets their chance. (Upper confidence bounds: Kaufmann, Cappé and Garivier, "On Bayesian upper confidence bounds for bandit
problems", 2012.) `seconds` is the geometric mean of their times to the first answer, shrunk in the same way, times one more than the
rooms that they are busy with. `fit` is their level, 1 to 5, from 0.6 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

HALF_LIFE_SECONDS = 30.0
PRIOR = 8.0
TOP_LEVEL = 5
SHOWN = 10
"""Candidates that a record names one by one."""

Presence = Literal["available", "away", "offline"]
Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Expert:
    """`topics`: topic -> level 1–5. `ranks`: senior, manager. `cap`: rooms at once."""

    id: str
    name: str = ""
    topics: Mapping[str, int] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    site: str = ""
    team: str = ""
    department: str = ""
    ranks: tuple[str, ...] = ()
    cap: int = 3
    active: bool = True
    presence: Presence = "offline"
    rooms: int = 0


@dataclass(frozen=True)
class Record:
    """Of one expert on one topic, or of all on it together. `log_seconds`: the sum of the natural logarithms of `answered` times to the
    first answer."""

    asked: int = 0
    accepted: int = 0
    answered: int = 0
    log_seconds: float = 0.0


@dataclass(frozen=True)
class Want:
    """Who is wanted by a step of a ladder. `rank`, `department`, `site` and `level` where they matter."""

    topic: str
    language: str = ""
    level: int = 0
    rank: str = ""
    department: str = ""
    site: str = ""
    best: int | None = None


@dataclass(frozen=True)
class Candidate:
    expert: str
    worth: float
    chance: float
    seconds: float
    fit: float
    rooms: int

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: round(getattr(self, name), 4) for name in ("worth", "chance", "seconds", "fit")}
        return {"expert": self.expert, **numbers, "rooms": self.rooms}


@dataclass(frozen=True)
class Choice:
    """`excluded`: reason -> who."""

    chosen: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    excluded: Mapping[str, Sequence[str]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "chosen": [one.to_dict() for one in self.chosen],
            "runners_up": [one.to_dict() for one in self.others[:SHOWN]],
            "excluded": {reason: sorted(ids)[:SHOWN] for reason, ids in self.excluded.items()},
            "excluded_count": {reason: len(ids) for reason, ids in self.excluded.items()},
        }


def choose(
    experts: Iterable[Expert], want: Want, asker: str, already: Iterable[str], records: Mapping[str, Record], average: Record
) -> Choice:
    """The best of those who may be asked now, the others after them, and why each of the rest was left out. Deterministic: among equals
    the one who was asked least, then by id."""
    known = set(already)
    excluded: dict[str, list[str]] = {}
    candidates = []
    for expert in experts:
        reason = "asked" if expert.id in known else _objection(expert, want, asker)
        if reason:
            excluded.setdefault(reason, []).append(expert.id)
        else:
            candidates.append(_candidate(expert, want, records.get(expert.id, Record()), average))
    candidates.sort(key=lambda one: (-one.worth, records.get(one.expert, Record()).asked, one.expert))
    best = len(candidates) if want.best is None else want.best
    return Choice(tuple(candidates[:best]), tuple(candidates[best:]), excluded)


def _objection(expert: Expert, want: Want, asker: str) -> str:
    """Why this one cannot be asked, "" where they can."""
    checks = (
        (expert.id == asker, "asker"),
        (not expert.active, "inactive"),
        (bool(want.rank) and want.rank not in expert.ranks, "rank"),
        (bool(want.department) and expert.department != want.department, "department"),
        (expert.topics.get(want.topic, 0) < want.level, "level"),
        (bool(want.language) and bool(expert.languages) and want.language not in expert.languages, "language"),
        (bool(want.site) and expert.site != want.site, "site"),
        (expert.presence != "available", expert.presence),
        (expert.rooms >= expert.cap, "full"),
    )
    return next((reason for applies, reason in checks if applies), "")


def _candidate(expert: Expert, want: Want, record: Record, average: Record) -> Candidate:
    chance = _chance(record, average)
    seconds = _seconds(record, average) * (1 + expert.rooms)
    fit = 0.5 + 0.5 * expert.topics.get(want.topic, 0) / TOP_LEVEL
    return Candidate(expert.id, chance * fit * 2 ** (-seconds / HALF_LIFE_SECONDS), chance, seconds, fit, expert.rooms)


def _chance(record: Record, average: Record) -> float:
    usual = (average.accepted + 1) / (average.asked + 2)  # Laplace's rule, for a topic that nobody was asked about yet
    helped = record.accepted + PRIOR * usual
    did_not = record.asked - record.accepted + PRIOR * (1 - usual)
    total = helped + did_not
    return min(1.0, helped / total + math.sqrt(helped * did_not / (total**2 * (total + 1))))


def _seconds(record: Record, average: Record) -> float:
    """Raises nothing: where nobody has answered yet, half of the worth is expected to be left."""
    usual = average.log_seconds / average.answered if average.answered else math.log(HALF_LIFE_SECONDS)
    return math.exp((record.log_seconds + PRIOR * usual) / (record.answered + PRIOR))


REASONS: dict[Language, dict[str, str]] = {
    "en": {
        "asked": "was asked already",
        "asker": "asks",
        "inactive": "is not active",
        "rank": "has not the rank of this step",
        "department": "belongs to another department",
        "level": "does not know the topic well enough",
        "language": "does not speak the language",
        "site": "works at another site",
        "away": "is away",
        "offline": "is not signed in",
        "full": "is busy in as many rooms as allowed",
    },
    "zh": {
        "asked": "已被询问过",
        "asker": "是提问者本人",
        "inactive": "未启用",
        "rank": "不具备该步骤的级别",
        "department": "属于其他部门",
        "level": "对该主题的掌握程度不足",
        "language": "不会该语言",
        "site": "在其他站点工作",
        "away": "暂时离开",
        "offline": "未登录",
        "full": "所在房间数已达上限",
    },
}
CHOSEN: dict[Language, str] = {
    "en": "{expert} was asked: an answer accepted in {chance:.0%} of cases (thin data count with what is usual), after about {seconds:.0f} s, level {level}.",
    "zh": "询问了 {expert}：回答被采纳的可能性约 {chance:.0%}（数据不足时按通常情况计），约 {seconds:.0f} 秒后答复，级别 {level}。",
}


def words(record: Mapping[str, Any], language: Language) -> list[str]:
    """A choice (as `Choice.to_dict` gave it) in sentences."""
    told = [
        CHOSEN[language].format(
            expert=one["expert"], chance=one["chance"], seconds=one["seconds"], level=round((one["fit"] - 0.5) * 2 * TOP_LEVEL)
        )
        for one in record["chosen"]
    ]
    for reason, ids in record["excluded"].items():
        more = record["excluded_count"][reason] - len(ids)
        people = ", ".join(ids) + (f" +{more}" if more else "")
        told.append(f"{people}: {REASONS[language][reason]}")
    return told
