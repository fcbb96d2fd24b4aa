"""Where one can go from here: to another role, or to another team for a while."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from services.training.domain.ladder import Missing

MONTH = 30.4375 * 86400.0


@dataclass(frozen=True)
class Path:
    """From a role to another (promotion), or in the same role to another team (rotation). What it takes: certificates, courses, a mean score of the last
    `evaluations` evaluations, months in the role, hours of training this year."""

    name: str
    role: str
    to_role: str = ""
    to_team: str = ""
    certificates: tuple[str, ...] = ()
    courses: tuple[str, ...] = ()
    quality: float = 0.0
    evaluations: int = 5
    months: float = 0.0
    hours: float = 0.0

    @property
    def kind(self) -> str:
        return "promotion" if self.to_role else "rotation"


@dataclass(frozen=True)
class Record:
    """What one person brings; `roles`: since when they have each (epoch seconds)."""

    roles: Mapping[str, float]
    team: str = ""
    certified: Collection[str] = ()
    courses: Collection[str] = ()
    scores: list[float] = field(default_factory=list)
    hours: float = 0.0

    def may_take(self, path: Path) -> bool:
        """Whether the path begins where they are, and leads elsewhere."""
        return path.role in self.roles and path.to_role not in self.roles and (not path.to_team or path.to_team != self.team)


def missing(path: Path, has: Record, now: float) -> list[Missing]:
    """What is missing; empty: they are ready."""
    found: list[Missing] = [{"what": "certificate", "channel": one} for one in path.certificates if one not in has.certified]
    if open := [one for one in path.courses if one not in has.courses]:
        found.append({"what": "courses", "names": open})
    if path.quality:
        scores = has.scores[: path.evaluations]
        mean = sum(scores) / len(scores) if scores else None
        if len(scores) < path.evaluations or mean is None or mean < path.quality:
            counts = {"evaluations": len(scores), "evaluations_needed": path.evaluations}
            found.append({"what": "quality", "channel": path.role, "has": mean, "needs": path.quality, **counts})
    months = (now - has.roles.get(path.role, now)) / MONTH
    if months < path.months:
        found.append({"what": "months", "has": months, "needs": path.months})
    if has.hours < path.hours:
        found.append({"what": "hours", "has": has.hours, "needs": path.hours})
    return found
