"""Every metric of routing."""

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from services.routing import reports, shadow_store, store
from services.routing.domain.intervals import ServiceLevel
from shared import clock
from shared.observability.metrics import StateCollector

TURN_SECONDS = Histogram(
    "answerline_routing_turn_seconds", "One turn of the desk: commands or events, decisions, and their transaction.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)  # fmt: skip
DECISIONS = Counter("answerline_routing_decisions_total", "Offers made, by the rule that led to them.", ["rule"])
IDLE_WHILE_WAITING = Counter(
    "answerline_routing_idle_while_waiting_seconds_total",
    "Seconds for which a contact waited although an agent with room suited it and no stated rule explained it: to be 0.",
)
ERRORS = {"absolute": "mean_absolute_error_seconds", "bias": "bias_seconds"}

RECENT_SECONDS = 1800.0
"""Service level and waits are of the contacts that arrived in the last half hour: what somebody on the floor can still act on."""
OUTCOMES = ("answered", "abandoned", "timed_out", "left_by_key", "left_otherwise", "lost", "waiting", "talking")
MOST_QUEUES = 500
"""Queues are named by whoever posts events; a scrape must stay small whatever they post."""


class RoutingMetrics(StateCollector):
    """How the queues stand."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        contacts = GaugeMetricFamily("answerline_routing_contacts", "Contacts waiting or talking now.", labels=["queue", "state"])
        agents = GaugeMetricFamily("answerline_routing_agents", "Agents of the directory by state.", labels=["state"])
        error = GaugeMetricFamily(
            "answerline_routing_estimate_error_seconds",
            "Waits foretold on arrival against those that followed: mean absolute error, and bias (above 0: less was waited).",
            labels=["queue", "kind"],
        )
        gap = GaugeMetricFamily(
            "answerline_routing_shadow_gap",
            "What a figure of the last day would be more (or less) under the policy's shadow, both simulated.",
            labels=["policy", "figure"],
        )
        compared = GaugeMetricFamily(
            "answerline_routing_shadow_contacts",
            "Contacts in the last comparison of the policy's shadow with it; 0 where it failed, and then there is no gap.",
            labels=["policy"],
        )
        open_legs = select(store.leg.c.queue, store.leg.c.outcome, func.count()).where(
            store.leg.c.outcome.in_(("waiting", "talking")), store.leg.c.kind != "callback"
        )
        busiest = open_legs.group_by(store.leg.c.queue, store.leg.c.outcome).order_by(func.count().desc()).limit(MOST_QUEUES)
        for queue, outcome, count in connection.execute(busiest):
            contacts.add_metric([queue, outcome], count)
        for state, count in connection.execute(select(store.agent.c.state, func.count()).group_by(store.agent.c.state)):
            agents.add_metric([state], count)
        for row in reports.estimates(connection, {})["estimates"][:MOST_QUEUES]:
            for kind, name in ERRORS.items():
                if row[name] is not None:
                    error.add_metric([row["queue"], kind], row[name])
        for policy, (number, figures) in shadow_store.gaps(connection).items():
            compared.add_metric([policy], number)
            for figure, value in figures.items():
                gap.add_metric([policy, figure], value)
        yield contacts
        yield agents
        yield error
        yield gap
        yield compared
        yield from _recent(connection)


def _recent(connection: Connection) -> Iterator[Metric]:
    recent = GaugeMetricFamily(
        "answerline_routing_recent_contacts",
        "Contacts that arrived in the last half hour, by what became of them: offered is all of them, of which others are a part.",
        labels=["queue", "outcome"],
    )
    level = GaugeMetricFamily(
        "answerline_routing_service_level", "Share of those decided that was answered in time, as the queue counts.", labels=["queue"]
    )
    decided = GaugeMetricFamily(
        "answerline_routing_service_level_of", "How many contacts the service level is a share of.", labels=["queue"]
    )
    wanted = GaugeMetricFamily(
        "answerline_routing_service_level_target",
        "The share that the queue's policy aims at; none where it names none.",
        labels=["queue"],
    )
    in_time = GaugeMetricFamily(
        "answerline_routing_in_time_seconds", "Within what time a contact is to be answered: the queue's setting.", labels=["queue"]
    )
    waited = GaugeMetricFamily("answerline_routing_answer_wait_seconds", "Mean wait of those answered.", labels=["queue"])
    longest = GaugeMetricFamily("answerline_routing_longest_wait_seconds", "For how long the first in line has waited.", labels=["queue"])
    definitions = reports.service_levels(connection)
    rows = [dict(row) for row in connection.execute(reports.recent(clock.now() - RECENT_SECONDS)).mappings()]
    for row in sorted(rows, key=lambda row: -row["offered"])[:MOST_QUEUES]:
        queue, definition, tally = row["queue"], definitions.get(row["queue"], ServiceLevel()), reports.tally_of(row)
        for outcome in ("offered", *OUTCOMES):
            recent.add_metric([queue, outcome], row[outcome])
        decided.add_metric([queue], definition.counted(tally))
        if (share := definition.share(tally)) is not None:
            level.add_metric([queue], share)
        if row["answered"]:
            waited.add_metric([queue], row["hold_seconds"] / row["answered"])
    now = clock.now()
    for queue, since in list(connection.execute(reports.longest_waits()))[:MOST_QUEUES]:
        longest.add_metric([queue], max(now - since, 0.0))
    for queue, definition in list(definitions.items())[:MOST_QUEUES]:
        in_time.add_metric([queue], definition.threshold_seconds)
        if definition.target is not None:
            wanted.add_metric([queue], definition.target)
    yield from (recent, level, decided, wanted, in_time, waited, longest)
