"""What the rooms achieve: how fast, on which step, by whom, and what it does for the contact (R12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, Table, select

from services.im import store
from services.im.domain import effect
from services.im.domain.effect import Effect, Stratum

Row = dict[str, Any]

WITHIN = (10, 30, 60)
SATISFIED = 4.0
"""Of five."""


def questions(connection: Connection, filters: Mapping[str, Any]) -> Row:
    """By topic, and within a topic by the step whose expert answered: how many, how fast, how they ended. `from`, `to`: epoch seconds of
    the asking; `queues`: of these alone. Seconds count from the question to its first answer."""
    table = store.escalation
    names = (
        "topic", "state", "opened_at", "answered_at", "answer_step", "answered_by", "claims", "lost_claims", "hold_seconds", "in_contact",
    )  # fmt: skip
    query = select(*(table.c[name] for name in names)).where(table.c.opened_at >= filters["from"], table.c.opened_at < filters["to"])
    query = _narrowed(query, table, filters)
    by_topic: defaultdict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        by_topic[row.topic].append(row)
    return {"topics": [{"topic": topic, **_figures(rows), "steps": _steps(rows)} for topic, rows in sorted(by_topic.items())]}


def _narrowed(query: Select[Any], table: Table, filters: Mapping[str, Any]) -> Select[Any]:
    if filters.get("topic"):
        query = query.where(table.c.topic == filters["topic"])
    if (queues := filters.get("queues")) is not None:
        query = query.where(table.c.queue.in_(queues))
    return query


def _figures(rows: Sequence[Any]) -> Row:
    answered = [row for row in rows if row.answered_at is not None]
    held = [row.hold_seconds for row in rows if row.hold_seconds is not None]
    told = [bool(row.in_contact) for row in answered if row.in_contact is not None]
    return {
        "asked": len(rows),
        **{state: sum(row.state == state for row in rows) for state in ("accepted", "unanswered")},
        "open": sum(row.state in ("asking", "claimed", "answered") for row in rows),
        "answered": len(answered),
        "unanswered_share": _share(sum(row.state == "unanswered" for row in rows), len(rows)),
        "claims": sum(row.claims for row in rows),
        "claims_too_late": sum(row.lost_claims for row in rows),
        "first_answer_seconds": _quantiles([row.answered_at - row.opened_at for row in answered]),
        "hold_seconds": _quantiles(held),
        "reached_customer_share": _share(sum(told), len(told)),
    }


def _steps(rows: Sequence[Any]) -> list[Row]:
    """By the step at which the one who answered had been asked; null: who came by themselves."""
    by_step: defaultdict[int | None, list[float]] = defaultdict(list)
    for row in rows:
        if row.answered_at is not None:
            by_step[row.answer_step].append(row.answered_at - row.opened_at)
    in_order = sorted(by_step.items(), key=lambda pair: -1 if pair[0] is None else pair[0])
    return [{"step": step, "answered": len(seconds), "first_answer_seconds": _quantiles(seconds)} for step, seconds in in_order]


def _quantiles(seconds: Sequence[float]) -> Row:
    if not seconds:
        return {"count": 0, "p50": None, "p95": None, **{f"within_{limit}": None for limit in WITHIN}}
    values = np.asarray(seconds, dtype=float)
    p50, p95 = (round(float(value), 3) for value in np.quantile(values, (0.5, 0.95)))
    within = {f"within_{limit}": round(float((values <= limit).mean()), 4) for limit in WITHIN}
    return {"count": len(values), "p50": p50, "p95": p95, **within}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def experts(connection: Connection, filters: Mapping[str, Any]) -> Row:
    """The load of each expert in a period: questions that they were asked, took, answered, and whose answer was accepted."""
    table = store.escalation
    query = select(table.c.asked, table.c.claimed_by, table.c.answered_by, table.c.state).where(
        table.c.opened_at >= filters["from"], table.c.opened_at < filters["to"]
    )
    query = _narrowed(query, table, filters)
    figures: defaultdict[str, Row] = defaultdict(lambda: dict.fromkeys(("asked", "passed", "took", "answered", "accepted"), 0))
    for row in connection.execute(query):
        for asked in row.asked:
            figures[asked["expert"]]["asked"] += 1
            figures[asked["expert"]]["passed"] += asked["passed_at"] is not None
        if row.claimed_by:
            figures[row.claimed_by]["took"] += 1
        if row.answered_by:
            figures[row.answered_by]["answered"] += 1
            figures[row.answered_by]["accepted"] += row.state == "accepted"
    return {"experts": [{"expert": name, **figures[name]} for name in sorted(figures)]}


def effects(connection: Connection, filters: Mapping[str, Any]) -> Row:
    """Contacts that ended in a period, with a question against without, within the same queue and disposition: the difference in the share
    resolved (by the customer's word, or else the agent's), in the share satisfied, and in seconds of talk, each with its 95 % interval. Answers that
    came too late are left out, as in qa's figures. Not an experiment: who asks has the harder ones."""
    table = store.card
    query = select(table).where(table.c.ended_at >= filters["from"], table.c.ended_at < filters["to"])
    if (queues := filters.get("queues")) is not None:
        query = query.where(table.c.queue.in_(queues))
    rows = list(connection.execute(query))
    return {
        "resolved": _told(effect.of_shares(_strata(rows, resolved))),
        "satisfied": _told(effect.of_shares(_strata(rows, satisfied))),
        "talk_seconds": _told(effect.of_means(_strata(rows, lambda row: row.talk_seconds))),
    }


def _in_time(row: Any) -> bool:
    return row.answered_at is None or row.answer_until is None or row.answered_at <= row.answer_until


def resolved(row: Any) -> float | None:
    told = row.resolved if row.customer_resolved is None or not _in_time(row) else row.customer_resolved
    return None if told is None else float(told)


def satisfied(row: Any) -> float | None:
    return None if row.satisfied is None or not _in_time(row) else float(row.satisfied >= SATISFIED)


def _strata(rows: Iterable[Any], value: Callable[[Any], float | None]) -> list[Stratum]:
    strata: defaultdict[tuple[str, str | None], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in rows:
        if (number := value(row)) is not None:
            strata[row.queue, row.disposition][0 if row.escalations else 1].append(number)
    return list(strata.values())


def _told(found: Effect) -> Row:
    rounded = {name: None if value is None else round(value, 4) for name, value in asdict(found).items()}
    return {**rounded, "enough_data": found.is_known}
