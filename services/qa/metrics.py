"""Every metric of qa."""

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import func, select

from services.qa import store
from shared import clock
from shared.db.engine import Database, is_outage
from shared.runtime.context import Context

CHECKED = Counter("answerline_qa_contacts_checked_total", "Contacts looked at by the automatic checks.")
SURVEYS = Counter("answerline_qa_surveys_asked_total", "Customers who were asked how it went.")
FINISHED = Counter("answerline_qa_evaluations_finished_total", "Evaluations that became final because nobody disputed them.")
ANALYSES = Counter("answerline_qa_analyses_total", "Analyses begun.", ["kind"])


class QualityMetrics(Collector):
    """How things stand when scraped."""

    def __init__(self, context: Context) -> None:
        self.database: Database = context.database
        REGISTRY.register(self)

    def close(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
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
        }
        try:
            with self.database.reading() as connection:
                for name, query in counts.items():
                    open_ones.add_metric([name], connection.scalar(query) or 0)
        except Exception as outage:
            if not is_outage(outage):
                raise
            return
        yield open_ones
