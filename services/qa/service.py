"""Every door of qa: the events it hears, the commands and questions it answers, and what it does by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.qa import analysis, handlers, intake, metrics, reports, studies
from services.qa.handlers import Viewer
from services.qa.metrics import QualityMetrics
from services.qa.studies import Checker
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.runtime.bootstrap import Bootstrap
from shared.runtime.context import Context
from shared.runtime.heavy import off_the_hub
from shared.runtime.loops import RelayLoop, consumes, continuously
from shared.runtime.rpc import rpc

IDLE_SECONDS = 1.0
STANDBY_SECONDS = 2.0
HOURLY = 3600.0
KEEP_SECONDS = 400 * 86400.0
"""How long transcripts and customers' texts stay."""

Told = dict[str, Any]


class QaCore:
    """What lives as long as the process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.units = context.units
        self.database = context.database
        self.checker = Checker()
        self.child: Any = None
        self.metrics = QualityMetrics(context.database)
        handlers.install_ready(context.units)
        studies.install_rules(context.units)

    def close(self) -> None:
        self.metrics.close()

    def look(self, question: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.reading() as connection:
            return question(connection, *arguments)


def _viewer(told: Mapping[str, Any]) -> Viewer:
    return Viewer(**told)


class QaService:
    name = "qa"

    core = Bootstrap(QaCore)
    relay = RelayLoop()

    @consumes
    def on_events(self, work: Work, events: list[Event]) -> None:
        intake.receive(work, events)
        for event in events:
            if event.type == "training.certified.v1":
                handlers.close_by_evidence(work, agent=event.data["person"], queue="", kind="certificate")

    # By the clock

    @continuously
    def check(self) -> None:
        """Contacts that ended, or got a transcript, are checked by the rules; one process does it."""
        if not self.core.context.lease.acquire():
            time.sleep(STANDBY_SECONDS)
            return
        checked = studies.check_due(self.core.units, self.core.checker, off_the_hub)
        metrics.CHECKED.inc(checked)
        time.sleep(0 if checked else IDLE_SECONDS)

    @continuously
    def ask_customers(self) -> None:
        asked = handlers.send_due(self.core.units)
        metrics.SURVEYS.inc(asked)
        time.sleep(0 if asked else IDLE_SECONDS)

    @continuously
    def analyse(self) -> None:
        """Analyses that were asked for run one after the other, each in a process of its own."""
        core = self.core
        time.sleep(IDLE_SECONDS)
        if (core.child is not None and core.child.poll() is None) or not core.context.lease.acquire():
            return
        core.child = None
        with core.units() as work:
            analysis.reap(work.connection, clock.now())
        if id := core.look(studies.next_queued):
            core.child = analysis.spawn(id)

    @continuously(every=HOURLY)
    def tidy(self) -> None:
        """What nobody disputed becomes final, a day's figures are looked through, texts go when their time is up."""
        while finished := handlers.finish_due(self.core.units):
            metrics.FINISHED.inc(finished)
            time.sleep(0)
        studies.ask_daily(self.core.units)
        studies.forget(self.core.units, KEEP_SECONDS)

    # Scorecards

    @rpc
    def put_scorecard(self, name: str, document: str, by: str, note: str = "") -> Told:
        return handlers.put_scorecard(self.core.units, name, document, by, note)

    @rpc
    def get_scorecard(self, name: str, version: int | None = None) -> Told:
        return self.core.look(handlers.get_scorecard, name, version)

    @rpc
    def list_scorecards(self, after: str = "", limit: int = 100) -> Told:
        return self.core.look(handlers.list_scorecards, after, limit)

    @rpc
    def list_proposals(self, name: str) -> Told:
        return self.core.look(handlers.list_proposals, name)

    @rpc
    def decide_proposal(self, id: str, accepted: bool, by: str) -> Told:
        return handlers.decide_proposal(self.core.units, id, accepted, by)

    # Contacts

    @rpc
    def get_contact(self, contact: str, viewer: Told) -> Told:
        return handlers.get_contact(self.core.units, contact, _viewer(viewer))

    @rpc
    def put_transcript(
        self,
        contact: str,
        turns: Sequence[Told],
        language: str = "",
        silence_seconds: float | None = None,
        holds: int | None = None,
        hold_seconds: float | None = None,
    ) -> Told:
        return handlers.put_transcript(self.core.units, contact, turns, language, silence_seconds, holds, hold_seconds)

    @rpc
    def get_transcript(self, contact: str, viewer: Told) -> Told:
        return handlers.get_transcript(self.core.units, contact, _viewer(viewer))

    # Evaluations

    @rpc
    def open_evaluation(self, told: Told, viewer: Told) -> Told:
        return handlers.open_evaluation(self.core.units, told, _viewer(viewer))

    @rpc
    def get_evaluation(self, id: str, viewer: Told) -> Told:
        return handlers.get_evaluation(self.core.units, id, _viewer(viewer))

    @rpc
    def list_evaluations(self, filters: Told, viewer: Told) -> Told:
        return handlers.list_evaluations(self.core.units, filters, _viewer(viewer))

    @rpc
    def write_evaluation(self, id: str, told: Told, by: str, viewer: Told) -> Told:
        return handlers.write_evaluation(self.core.units, id, told, by, _viewer(viewer))

    @rpc
    def submit_evaluation(self, id: str, by: str, recordings: int, played: bool, viewer: Told) -> Told:
        return handlers.submit_evaluation(self.core.units, id, by, recordings, played, _viewer(viewer))

    @rpc
    def acknowledge_evaluation(self, id: str, by: str, viewer: Told) -> Told:
        return handlers.acknowledge_evaluation(self.core.units, id, by, _viewer(viewer))

    @rpc
    def dispute_evaluation(self, id: str, by: str, reason: str, viewer: Told) -> Told:
        return handlers.dispute_evaluation(self.core.units, id, by, reason, _viewer(viewer))

    @rpc
    def ask_second_opinion(self, id: str, evaluator: str, viewer: Told) -> Told:
        return handlers.ask_second_opinion(self.core.units, id, evaluator, _viewer(viewer))

    @rpc
    def close_evaluation(self, id: str, holds: str, reason: str, by: str, viewer: Told) -> Told:
        return handlers.close_evaluation(self.core.units, id, holds, reason, by, _viewer(viewer))

    @rpc
    def drop_evaluation(self, id: str, by: str, viewer: Told) -> None:
        handlers.drop_evaluation(self.core.units, id, by, _viewer(viewer))

    @rpc
    def place_of(self, kind: str, id: str) -> Told:
        return self.core.look(handlers.place_of, kind, id)

    # Findings

    @rpc
    def open_finding(self, told: Told, by: str, viewer: Told) -> Told:
        return handlers.open_finding(self.core.units, told, by, _viewer(viewer))

    @rpc
    def change_plan(self, id: str, told: Told, viewer: Told) -> Told:
        return handlers.change_plan(self.core.units, id, told, _viewer(viewer))

    @rpc
    def close_finding(self, id: str, document: str, by: str, viewer: Told) -> Told:
        return handlers.close_finding(self.core.units, id, document, by, _viewer(viewer))

    @rpc
    def get_finding(self, id: str, viewer: Told) -> Told:
        return self.core.look(handlers.get_finding, id, _viewer(viewer))

    @rpc
    def list_findings(self, filters: Told, viewer: Told) -> Told:
        return self.core.look(handlers.list_findings, filters, _viewer(viewer))

    # Surveys

    @rpc
    def put_survey_rule(self, queue: str, told: Told) -> Told:
        return handlers.put_survey_rule(self.core.units, queue, told)

    @rpc
    def get_survey_rule(self, queue: str) -> Told:
        return self.core.look(handlers.get_survey_rule, queue)

    @rpc
    def list_surveys(self, filters: Told, viewer: Told) -> Told:
        return handlers.list_surveys(self.core.units, filters, _viewer(viewer))

    # Samples and automatic checks

    @rpc
    def draw_sample(self, told: Told, by: str, viewer: Told) -> Told:
        return studies.draw_sample(self.core.units, told, by, _viewer(viewer), off_the_hub)

    @rpc
    def get_sample(self, id: str, viewer: Told) -> Told:
        return self.core.look(studies.get_sample, id, _viewer(viewer))

    @rpc
    def to_do(self, evaluator: str, viewer: Told, after: str = "", limit: int = 100) -> Told:
        return self.core.look(studies.to_do, evaluator, after, limit, _viewer(viewer))

    @rpc
    def put_rules(self, name: str, document: str, by: str) -> Told:
        return studies.put_rules(self.core.units, name, document, by)

    @rpc
    def get_rules(self, name: str) -> Told:
        return self.core.look(studies.get_rules, name)

    @rpc
    def list_rules(self) -> Told:
        return self.core.look(studies.list_rules)

    # Calibrations, analyses, flags

    @rpc
    def open_calibration(self, told: Told, by: str, viewer: Told) -> Told:
        return studies.open_calibration(self.core.units, told, by, _viewer(viewer))

    @rpc
    def close_calibration(self, id: str, by: str, viewer: Told) -> Told:
        return studies.close_calibration(self.core.units, id, by, _viewer(viewer))

    @rpc
    def get_calibration(self, id: str, viewer: Told) -> Told:
        return self.core.look(studies.get_calibration, id, _viewer(viewer))

    @rpc
    def list_calibrations(self, viewer: Told, after: str = "", limit: int = 100) -> Told:
        return self.core.look(studies.list_calibrations, after, limit, _viewer(viewer))

    @rpc
    def ask_analysis(self, told: Told, by: str) -> Told:
        asked = studies.ask_analysis(self.core.units, told, by)
        metrics.ANALYSES.labels(told["kind"]).inc()
        return asked

    @rpc
    def get_analysis(self, id: str, viewer: Told) -> Told:
        return self.core.look(studies.get_analysis, id, _viewer(viewer))

    @rpc
    def list_analyses(self, viewer: Told, kind: str = "", subject: str = "", after: str = "", limit: int = 100) -> Told:
        return self.core.look(studies.list_analyses, kind, subject, after, limit, _viewer(viewer))

    @rpc
    def list_flags(self, filters: Told, viewer: Told) -> Told:
        return self.core.look(studies.list_flags, filters, _viewer(viewer))

    @rpc
    def close_flag(self, id: str, told: Told, by: str) -> Told:
        return studies.close_flag(self.core.units, id, told, by)

    # Reports

    @rpc
    def report_quality(self, filters: Told) -> Told:
        return handlers.report_answers(self.core.units, reports.quality, filters)

    @rpc
    def report_criteria(self, filters: Told) -> Told:
        return self.core.look(reports.criteria, filters)

    @rpc
    def report_surveys(self, filters: Told) -> Told:
        return handlers.report_answers(self.core.units, reports.surveys, filters)

    @rpc
    def report_resolution(self, filters: Told) -> Told:
        return self.core.look(reports.one_call, filters)

    @rpc
    def report_value(self, filters: Told) -> Told:
        return self.core.look(reports.value, filters)
