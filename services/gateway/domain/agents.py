"""What the PBX says of its agents: pauses, membership, state of the device. Calls are not here, but in legs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from services.gateway.domain.observation import AGENT_KINDS, Observation


@dataclass(slots=True)
class AgentReport:
    """The latest known of one agent in one queue, or in all (queue None); None = nobody told. `at` is epoch seconds UTC."""

    agent: str
    queue: str | None
    interface: str | None = None
    at: float | None = None
    paused: bool | None = None
    reason: str | None = None
    member: bool | None = None
    device: str | None = None
    penalty: int | None = None


_PAUSED = {"paused": True, "unpaused": False}
_MEMBER = {"member_added": True, "member_removed": False, "member_status": True}


def agent_reports(observations: Iterable[Observation]) -> dict[tuple[str, str | None], AgentReport]:
    """The latest state by (agent, queue); later facts win, and the order in which they are given does not matter."""
    told = sorted((o for o in observations if o.kind in AGENT_KINDS), key=lambda o: (-inf if o.at is None else o.at, o.key))
    names: dict[str, str] = {o.interface: o.agent for o in told if o.interface and o.agent}
    reports: dict[tuple[str, str | None], AgentReport] = {}
    for fact in told:
        agent = fact.agent or names.get(fact.interface or "") or fact.interface
        if agent is not None:
            report = reports.setdefault((agent, fact.queue), AgentReport(agent, fact.queue))
            _update(report, fact)
    return reports


def _update(report: AgentReport, fact: Observation) -> None:
    report.at = fact.at
    report.interface = fact.interface or report.interface
    report.member = _MEMBER.get(fact.kind, report.member)
    report.device = fact.device or report.device
    report.penalty = report.penalty if fact.penalty is None else fact.penalty
    paused = _PAUSED.get(fact.kind, fact.paused)
    if paused is not None:
        report.paused, report.reason = paused, fact.reason if paused else None
