"""Every metric of qa."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, and_, case, func, select

from services.qa import store
from services.qa.domain.scorecard import Kind
from shared import clock
from shared.observability.metrics import StateCollector

CHECKED = Counter("answerline_qa_contacts_checked_total", "Contacts looked at by the automatic checks.")
SURVEYS = Counter("answerline_qa_surveys_asked_total", "Customers who were asked how it went.")
FINISHED = Counter("answerline_qa_evaluations_finished_total", "Evaluations that became final because nobody disputed them.")
ANALYSES = Counter("answerline_qa_analyses_total", "Analyses begun.", ["kind"])


RECENT_SECONDS = 7 * 86400.0


class QualityMetrics(StateCollector):
    """How things stand when scraped."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        open_ones = GaugeMetricFamily(
            "answerline_qa_open", "What waits for somebody: evaluations by state, findings, flags.", labels=["what"]
        )
        finding, flag, evaluation = store.finding, store.flag, store.evaluation
        counts = {
            "findings": select(func.count()).where(finding.c.state == "open"),
            "findings_overdue": select(func.count()).where(finding.c.state == "open", finding.c.due_at < clock.now()),
            "flags": select(func.count()).where(flag.c.state == "open"),
            "disputes": select(func.count()).where(evaluation.c.state.in_(("disputed", "second_opinion"))),
            "checks_due": select(func.count()).where(store.contact.c.check_at <= clock.now()),
            "analyses": select(func.count()).where(store.analysis.c.finished_at.is_(None)),
        }
        for name, query in counts.items():
            open_ones.add_metric([name], connection.scalar(query) or 0)
        yield open_ones
        since = clock.now() - RECENT_SECONDS
        kind = evaluation.c.scorecard_kind
        recent = select(kind, func.count(), func.avg(evaluation.c.score)).where(evaluation.c.submitted_at > since, evaluation.c.counts)
        submitted = {row[0]: (row[1], row[2]) for row in connection.execute(recent.group_by(kind))}
        survey = store.survey
        heard = and_(survey.c.answered_at.is_not(None), ~survey.c.late)
        asked, answered, csat = connection.execute(
            select(func.count(), func.count(case((heard, survey.c.id))), func.avg(case((heard, survey.c.csat)))).where(
                survey.c.contact_at > since, survey.c.sent_at.is_not(None)
            )
        ).one()
        evaluations = GaugeMetricFamily(
            "answerline_qa_recent_evaluations",
            "Evaluations of the last 7 days that count for their agents, by kind of scorecard (internal, customer).",
            labels=["kind"],
        )
        scores = GaugeMetricFamily("answerline_qa_recent_score", "Mean score of these, 0 to 1, by kind of scorecard.", labels=["kind"])
        surveys = GaugeMetricFamily(
            "answerline_qa_recent_surveys",
            "Surveys about contacts of the last 7 days: whom somebody asked, and who of them answered in time.",
            labels=["what"],
        )
        satisfied = GaugeMetricFamily(
            "answerline_qa_recent_csat", "Mean satisfaction that those told who were asked and answered in time, 1 to 5.", labels=[]
        )
        for name in get_args(Kind):
            count, score = submitted.get(name, (0, None))
            evaluations.add_metric([name], count)
            if score is not None:
                scores.add_metric([name], float(score))
        for what, number in (("asked", asked), ("answered", answered)):
            surveys.add_metric([what], number)
        if csat is not None:
            satisfied.add_metric([], float(csat))
        yield from (evaluations, scores, surveys, satisfied)
