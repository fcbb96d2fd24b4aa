"""Every metric of qa."""

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.qa import store
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
        submitted = evaluation.c.submitted_at > since, evaluation.c.kind == "human"
        surveyed = store.survey.c.contact_at > since
        count, score = connection.execute(select(func.count(), func.avg(evaluation.c.score)).where(*submitted)).one()
        asked, answered, csat = connection.execute(
            select(func.count(store.survey.c.sent_at), func.count(store.survey.c.answered_at), func.avg(store.survey.c.csat)).where(
                surveyed
            )
        ).one()
        evaluations = GaugeMetricFamily(
            "answerline_qa_recent_evaluations", "Evaluations that people submitted in the last 7 days.", value=count
        )
        scores = GaugeMetricFamily("answerline_qa_recent_score", "Mean score of these.", labels=[])
        surveys = GaugeMetricFamily("answerline_qa_recent_surveys", "Surveys about contacts of the last 7 days.", labels=["what"])
        satisfied = GaugeMetricFamily("answerline_qa_recent_csat", "Mean satisfaction that their customers told, 1 to 5.", labels=[])
        for what, number in (("asked", asked), ("answered", answered)):
            surveys.add_metric([what], number)
        for family, mean in ((scores, score), (satisfied, csat)):
            if mean is not None:
                family.add_metric([], float(mean))
        yield from (evaluations, scores, surveys, satisfied)
