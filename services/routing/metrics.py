"""Every metric of routing."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import func, select

from services.routing import store
from shared.db.engine import Database, is_outage
from shared.runtime.context import Context

MOST_QUEUES = 500
"""Queues are named by whoever posts events; a scrape must stay small whatever they post."""


class RoutingMetrics(Collector):
    """How the queues stand when scraped."""

    def __init__(self, context: Context) -> None:
        self.database: Database = context.database
        REGISTRY.register(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        contacts = GaugeMetricFamily("answerline_routing_contacts", "Contacts waiting or talking now.", labels=["queue", "state"])
        agents = GaugeMetricFamily("answerline_routing_agents", "Agents of the directory by state.", labels=["state"])
        open_legs = select(store.leg.c.queue, store.leg.c.outcome, func.count()).where(store.leg.c.outcome.in_(("waiting", "talking")))
        busiest = open_legs.group_by(store.leg.c.queue, store.leg.c.outcome).order_by(func.count().desc()).limit(MOST_QUEUES)
        try:
            with self.database.reading() as connection:
                for queue, outcome, count in connection.execute(busiest):
                    contacts.add_metric([queue, outcome], count)
                for state, count in connection.execute(select(store.agent.c.state, func.count()).group_by(store.agent.c.state)):
                    agents.add_metric([state], count)
        except Exception as error:
            if not is_outage(error):
                raise
            return
        yield contacts
        yield agents
