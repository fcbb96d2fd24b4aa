"""Every metric of im."""

from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, case, func, select

from services.im import store
from shared import clock
from shared.observability.metrics import StateCollector

TIMER_ERROR = Histogram(
    "answerline_im_timer_error_seconds", "How late a step of a ladder was done.", buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)  # fmt: skip


RECENT_SECONDS = 3600.0


class RoomMetrics(StateCollector):
    """How the rooms stand."""

    def families(self, connection: Connection) -> Iterator[Metric]:
        rooms = GaugeMetricFamily("answerline_im_rooms", "Rooms that are not closed, by the state of their question.", labels=["state"])
        table = store.escalation
        query = select(table.c.state, func.count()).where(table.c.closed_at.is_(None)).group_by(table.c.state)
        for state, count in connection.execute(query):
            rooms.add_metric([state], count)
        yield rooms
        now = clock.now()
        oldest = connection.scalar(select(func.min(table.c.opened_at)).where(table.c.closed_at.is_(None), table.c.state == "asking"))
        yield GaugeMetricFamily(
            "answerline_im_oldest_question_seconds",
            "For how long the oldest question has been asked that nobody has claimed.",
            value=max(now - oldest, 0.0) if oldest else 0.0,
        )
        fresh = table.c.opened_at > now - RECENT_SECONDS
        recent = GaugeMetricFamily("answerline_im_recent_questions", "Questions of the last hour, by their state.", labels=["state"])
        for state, count in connection.execute(select(table.c.state, func.count()).where(fresh).group_by(table.c.state)):
            recent.add_metric([state], count)
        yield recent
        waits = GaugeMetricFamily(
            "answerline_im_recent_wait_seconds",
            "Mean wait of the last hour's questions until they were claimed, and answered.",
            labels=["until"],
        )
        for until, at in (("claimed", table.c.claimed_at), ("answered", table.c.answered_at)):
            if (mean := connection.scalar(select(func.avg(at - table.c.opened_at)).where(fresh))) is not None:
                waits.add_metric([until], mean)
        yield waits
        experts = GaugeMetricFamily("answerline_im_experts", "Experts by presence.", labels=["state"])
        here = case((store.presence.c.until > now, store.presence.c.state), else_="offline")
        joined = store.expert.outerjoin(store.presence, store.presence.c.person == store.expert.c.id)
        for state, count in connection.execute(select(here, func.count()).select_from(joined).where(store.expert.c.active).group_by(here)):
            experts.add_metric([state], count)
        yield experts
