"""A finding without blame (R24): what went wrong, its cause, and a plan that keeps it from happening again, closed by evidence alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from services.qa.domain.errors import Conflict, Invalid
from services.qa.domain.scorecard import NO_TARGET, hurries

Cause = Literal["process", "knowledge", "tool", "training", "workload", "customer"]
CAUSES = get_args(Cause)
PERSONAL = ("knowledge", "training")
"""Causes that somebody's learning mends."""
DAY = 86400.0
LONGEST_DAYS = 366
LEAST_PROOF = 0.5
"""Below it a criterion is missed more than met."""


@dataclass(frozen=True)
class Check:
    """What will show that it does not happen again. evaluations: the next so many evaluations made after the plan (of the agent, or of the
    queue where no agent is named) mark the criterion with `at_least` on average. certificate: training certified the agent for `channel`
    after the plan was made. document: a changed document, process or tool is named, and somebody who never owned the plan confirms it."""

    kind: Literal["evaluations", "certificate", "document"]
    evaluations: int = 5
    at_least: float = 0.8
    channel: str = ""


def read_check(told: Mapping[str, Any], cause: str, agent: str | None, channel: str) -> Check:
    """Raises Invalid."""
    check = Check(told["kind"], int(told.get("evaluations", 5)), float(told.get("at_least", 0.8)), told.get("channel") or channel)
    if not LEAST_PROOF <= check.at_least <= 1:
        raise Invalid(f"at_least is from {LEAST_PROOF:g} to 1: a mean that low would show nothing")
    if check.kind == "certificate" and not agent:
        raise Invalid("a certificate is somebody's: this finding names no agent")
    if check.kind == "document" and cause in PERSONAL:
        raise Invalid(f"where the cause is {cause}, evaluations or a certificate show that it is mended, a document does not")
    return check


def require_plan(*, cause: str, agent: str | None, owner: str, action: str, due_at: float, now: float) -> None:
    """Raises Invalid: a finding is more than a complaint."""
    if cause not in CAUSES:
        raise Invalid(f"say the cause: one of {', '.join(CAUSES)}")
    if cause in PERSONAL and not agent:
        raise Invalid(f"the cause {cause} is mended by somebody's learning: say whose (`agent`)")
    if not owner.strip():
        raise Invalid("a plan has an owner: who sees to it?")
    if agent and owner == agent:
        raise Invalid("whoever was evaluated does not own the plan: it is their lead's, or their trainer's, to see to it")
    if len(action.strip()) < 10:
        raise Invalid("say what will be done, so that it does not happen again")
    if hurries(action):
        raise Invalid(NO_TARGET)
    if not now < due_at <= now + LONGEST_DAYS * DAY:
        raise Invalid(f"a plan is due on a day to come, within {LONGEST_DAYS} days")


@dataclass(frozen=True)
class Evidence:
    """What is known since the plan was made. `values`: of the criterion in evaluations of contacts that ended since, the earliest first."""

    values: tuple[tuple[str, float], ...] = ()
    certified_at: float | None = None
    document: str = ""
    confirmed_by: str = ""


def prove(check: Check, concerned: Collection[str | None], found: Evidence) -> dict[str, Any]:
    """The evidence that closes the plan. `concerned`: its owner, those before them, and whose learning it is. Raises Conflict with what is missing."""
    match check.kind:
        case "evaluations":
            latest = found.values[-check.evaluations :]
            if len(latest) < check.evaluations:
                raise Conflict(f"it closes by {check.evaluations} evaluations of contacts since the plan was made; there are {len(latest)}")
            mean = sum(value for _, value in latest) / len(latest)
            if mean < check.at_least - 1e-9:
                raise Conflict(
                    f"of the last {len(latest)} evaluations the mean is {mean:.2f}; it closes at {check.at_least:g}, or needs another plan"
                )
            return {"evaluations": [id for id, _ in latest], "mean": round(mean, 4)}
        case "certificate":
            if found.certified_at is None:
                raise Conflict(f"it closes when training certifies the agent for {check.channel}, which has not happened since")
            return {"certified_at": found.certified_at, "channel": check.channel}
        case _:
            if not found.document.strip():
                raise Conflict("it closes by what was changed: name the `document`, process or tool")
            if not found.confirmed_by or found.confirmed_by in concerned:
                raise Conflict("somebody other than the plan's owner confirms that it was changed, and nobody who owned it before")
            return {"document": found.document, "confirmed_by": found.confirmed_by}
