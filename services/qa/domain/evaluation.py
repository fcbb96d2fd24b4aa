"""One evaluation of one contact, from its draft to its end, and who may do what with it.

draft -> submitted -> acknowledged -> final
             |             |
             +-> disputed <+    the agent says what is wrong with it
                    |
                    +-> reopened by a second opinion of somebody else -> final: the first holds, or the second does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.qa.domain.errors import Conflict, Denied, Invalid
from services.qa.domain.scorecard import Marked, Result, Scorecard, judge, read_marks

State = Literal["draft", "submitted", "acknowledged", "disputed", "second_opinion", "final"]
Purpose = Literal["quality", "practice", "double", "second_opinion", "calibration"]
"""quality: counts for its agent. practice: a learner's contact, for their trainers. double: scored blind by another, to see how far two agree.
second_opinion: asked for in a dispute. calibration: in a session of evaluators."""

DISPUTE_SECONDS = 14 * 86400.0
"""Within so long after the submission an agent may dispute; then it is final by itself."""
SHORTEST_REASON = 10


@dataclass(frozen=True)
class Evidence:
    """What the evaluator has seen of the contact. `recordings`: that could be heard; `played`: they did hear one of them; `thread`: there is
    one; `opened`: they opened it; `turns`: how many messages it has; `live`: they say that they sat beside the agent or listened while it
    happened, which counts only where nothing was kept that could be heard or read."""

    recordings: int = 0
    played: bool = False
    thread: bool = False
    turns: int = 0
    opened: bool = False
    live: bool = False

    def lacking(self) -> str:
        """What keeps it from being an evaluation of something that was seen; "": nothing."""
        if self.played or self.opened:
            return ""
        if self.recordings:
            return "the contact was recorded and you have not played it: hear it first (GET /v1/contacts/{id}/recordings)"
        if self.thread:
            return "the contact has a thread and you have not opened it: read it first (GET /v1/contacts/{id}/transcript)"
        if self.live:
            return ""
        return "there is neither a recording nor a thread of the contact: say `live: true` if you listened while it happened"


@dataclass
class Evaluation:
    id: str
    contact: str
    agent: str
    scorecard: str
    version: int
    evaluator: str
    purpose: Purpose = "quality"
    state: State = "draft"
    evaluator_role: str = ""
    other: str | None = None
    """double, second_opinion: the evaluation that it stands beside."""
    calibration: str | None = None
    blind: bool = False
    live: bool = False
    marks: list[Marked] = field(default_factory=list)
    note: str = ""
    score: float | None = None
    failed: tuple[str, ...] = ()
    counts: bool = False
    dispute: str = ""
    outcome: str = ""
    submitted_at: float | None = None
    ended_at: float | None = None

    def write(self, card: Scorecard, told: Sequence[Mapping[str, Any]] | None, note: str | None, live: bool | None, by: str) -> None:
        """Save marks in the draft; what is None stays. Raises Conflict, Denied or Invalid."""
        self._require_own(by)
        self._require("draft", doing="changed")
        if told is not None:
            self.marks = read_marks(card, told, complete=False)
        self.note = self.note if note is None else note
        self.live = self.live if live is None else live

    def submit(self, card: Scorecard, evidence: Evidence, by: str, now: float) -> Result:
        """From now on it counts, and the agent sees it. Raises Conflict, Denied or Invalid."""
        self._require_own(by)
        self._require("draft", doing="submitted")
        if lacking := evidence.lacking():
            raise Conflict(lacking)
        told = [
            {"criterion": m.criterion, "answer": m.answer, "second": m.second, "message": m.message, "note": m.note} for m in self.marks
        ]
        self.marks = read_marks(card, told, complete=True)
        result = judge(card, self.marks)
        if bare := [id for id in result.missed if not _is_placed(self.mark_of(id)) and (evidence.played or evidence.opened)]:
            raise Invalid(f"say where it shows (`second` of the recording or `message` of the thread): {', '.join(bare)}")
        if beyond := [mark.criterion for mark in self.marks if evidence.thread and (mark.message or 0) > evidence.turns]:
            raise Invalid(f"the thread has {evidence.turns} messages: mend `message` of {', '.join(beyond)}")
        self.score, self.failed = result.score, result.failed
        self.state, self.submitted_at = "submitted", now
        self.counts = self.purpose in ("quality", "practice")
        return result

    def mark_of(self, criterion: str) -> Marked:
        return next(mark for mark in self.marks if mark.criterion == criterion)

    def acknowledge(self, by: str) -> None:
        """The agent has read it and lets it stand; another step makes it final."""
        self._require_agent(by)
        self._require("submitted", doing="acknowledged")
        self.state = "acknowledged"

    def contest(self, by: str, reason: str, now: float) -> None:
        """The agent disputes it, and says why."""
        self._require_agent(by)
        self._require("submitted", "acknowledged", doing="disputed")
        if self.submitted_at is not None and now > self.submitted_at + DISPUTE_SECONDS:
            raise Conflict(f"an evaluation is disputed within {DISPUTE_SECONDS / 86400:g} days")
        if len(reason.strip()) < SHORTEST_REASON:
            raise Invalid("say what is wrong with it: whoever gives the second opinion reads this")
        self.state, self.dispute = "disputed", reason

    def ask_second(self, evaluator: str) -> None:
        """Somebody else looks at the contact, without seeing these marks."""
        self._require("disputed", doing="given a second opinion")
        if evaluator == self.evaluator:
            raise Invalid("a second opinion is somebody else's")
        if evaluator == self.agent:
            raise Invalid("nobody evaluates their own contact")
        self.state = "second_opinion"

    def close(self, holds: str, reason: str, second_submitted: bool, now: float, by: str, second: str = "") -> None:
        """Final. `holds`: first, or second: the other's marks count then, and not these. After a dispute somebody has looked anew, and somebody
        who gave neither opinion decides. `by`: who does it, "" the clock; `second`: who gave the second opinion. Raises Conflict, Denied or Invalid."""
        if self.state == "second_opinion" and not second_submitted:
            raise Conflict("the second opinion is not there yet")
        if self.state == "disputed":
            raise Conflict("it is disputed: ask for a second opinion first")
        self._require("submitted", "acknowledged", "second_opinion", doing="made final")
        if self.state == "submitted" and now <= (self.submitted_at or 0.0) + DISPUTE_SECONDS and self.purpose in ("quality", "practice"):
            raise Conflict(
                f"{self.agent} has neither acknowledged it nor had {DISPUTE_SECONDS / 86400:g} days to dispute it: it is final by itself then"
            )
        if self.state == "second_opinion" and by in (self.evaluator, second, self.agent):
            raise Denied(f"{by} gave one of the opinions, or is who they are about: somebody else says which holds")
        if holds == "second" and self.state != "second_opinion":
            raise Invalid("there is no second opinion that could hold")
        if self.state == "second_opinion" and len(reason.strip()) < SHORTEST_REASON:
            raise Invalid("say why: agent and evaluator read this")
        self.state, self.outcome, self.ended_at = "final", reason, now
        self.counts = self.counts and holds == "first"

    def _require(self, *states: State, doing: str) -> None:
        if self.state not in states:
            raise Conflict(f"it is {self.state.replace('_', ' ')}: only what is {' or '.join(states)} can be {doing}")

    def _require_own(self, by: str) -> None:
        if by != self.evaluator:
            raise Denied(f"it is {self.evaluator}'s to write")

    def _require_agent(self, by: str) -> None:
        if by != self.agent:
            raise Denied(f"it is {self.agent} who acknowledges or disputes it")


def _is_placed(mark: Marked) -> bool:
    return mark.second is not None or mark.message is not None


def require_evaluator(evaluator: str, agent: str) -> None:
    if not evaluator:
        raise Invalid("say who evaluates: `evaluator`")
    if evaluator == agent:
        raise Invalid("nobody evaluates their own contact")
