"""The ladder: whom a question goes to, and when, until somebody has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Who = Literal["experts", "seniors", "managers", "department", "everyone"]
RANK_OF: dict[str, str] = {"seniors": "senior", "managers": "manager"}


@dataclass(frozen=True)
class Step:
    """`after`: seconds since the question was asked. `best`: at most so many of them, None for all. `level`: in the topic, at least."""

    after: float
    who: Who
    best: int | None = None
    level: int = 0
    department: str = ""
    same_site: bool = False


@dataclass(frozen=True)
class Ladder:
    """`ends_after`: seconds until the question counts as unanswered. `claim_seconds`: who has claimed it and writes nothing for so long has
    it no longer. `open_per_agent`: questions that one agent may have open. `keep_days`: for so long the texts are kept."""

    name: str
    version: int
    steps: tuple[Step, ...]
    ends_after: float = 90.0
    claim_seconds: float = 45.0
    open_per_agent: int = 3
    keep_days: int = 365

    def due_at(self, origin: float, step: int) -> float:
        """When step number `step` (from 0) is due, or the ladder ends."""
        return origin + (self.steps[step].after if step < len(self.steps) else self.ends_after)


DEFAULT = Ladder(
    "default",
    0,
    (
        Step(0, "experts", best=3, level=3),
        Step(8, "experts", best=5, level=2),
        Step(20, "seniors"),
        Step(35, "managers"),
        Step(50, "everyone"),
    ),
)
"""Where nobody has written a policy. It has no step for a department: which one knows what, only the centre can say."""
