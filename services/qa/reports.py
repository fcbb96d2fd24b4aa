"""The figures: what evaluators, rules and customers say, side by side and never averaged with each other; one-call resolution; value.

Each is a few statements over the rows of a time, the sums made by the database. Times are epoch seconds; `queues`: of these alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Float, Integer, Select, Table, and_, case, cast, func, literal, select

from services.qa import store
from services.qa.domain import intervals, resolution, sampling
from services.qa.domain.intervals import Interval
from services.qa.domain.scorecard import CLASSES, NO_TARGET
from shared import clock

Row = dict[str, Any]

DAY = 86400.0
SATISFIED = 4
"""Of five."""
STEP = 6 * 3600.0
"""How finely it is looked at when somebody came again."""
OVER, AGAIN = 10_000, 20_000


def quality(connection: Connection, asked: Mapping[str, Any]) -> Row:
    """By agent, queue, channel or evaluator: human scores by scorecard (internal and customer ones apart), automatic ones by set of rules, and what
    customers said. A mean is of contacts that chance chose, weighted by their probabilities; what was picked stands beside it. `needed`:
    evaluations of that kind for a mean known to ±`within`."""
    by, table = asked["by"], store.evaluation
    query = select(table.c[by], table.c.scorecard_kind, table.c.scorecard, *_sums(table)).where(
        table.c.contact_at >= asked["from"], table.c.contact_at < asked["to"], table.c.submitted_at.is_not(None), table.c.counts
    )
    if asked.get("scorecard"):
        query = query.where(table.c.scorecard == asked["scorecard"])
    grouped = _narrowed(query, table, asked).group_by(table.c[by], table.c.scorecard_kind, table.c.scorecard)
    found = sorted(connection.execute(grouped).mappings(), key=lambda row: (row[by], row["scorecard"]))
    groups: defaultdict[str, Row] = defaultdict(lambda: {"internal": [], "customer": [], "automatic": [], "customers_said": None})
    for row in found:
        groups[row[by]][row["scorecard_kind"]].append({"scorecard": row["scorecard"], **_scores(row, asked["within"])})
    if by != "evaluator":
        for name, checked in _automatic(connection, by, asked).items():
            groups[name]["automatic"] = checked
        for name, said in _said(connection, store.survey.c[by], asked).items():
            groups[name]["customers_said"] = said
    return {"by": by, "within": asked["within"], "groups": [{by: name, **groups[name]} for name in sorted(groups)]}


def _sums(table: Table) -> list[Any]:
    """Of each group: what the weighted mean of `sampling.weighted_mean` and its variance are made of, so that no row travels."""
    y, p = table.c.score, table.c.probability
    by_chance = and_(table.c.method == "stratified", p.is_not(None))
    drawn = and_(by_chance, y.is_not(None))
    picked = and_(table.c.method != "stratified", y.is_not(None))
    terms = {
        "weight": 1 / p, "y_weight": y / p, "left": 1 - p, "left_w": (1 - p) / p, "left_yw": (1 - p) * y / p, "left_ww": (1 - p) / p / p,
        "left_yww": (1 - p) * y / p / p, "left_yyww": (1 - p) * y * y / p / p, "total": y, "squares": y * y,
    }  # fmt: skip
    return [
        func.count().label("evaluations"),
        func.count(case((drawn, 1))).label("drawn"),
        func.min(case((drawn, y))).label("lowest"),
        func.max(case((drawn, y))).label("highest"),
        func.count(case((picked, 1))).label("picked"),
        func.avg(case((picked, y))).label("picked_mean"),
        *(func.sum(case((drawn, term))).label(name) for name, term in terms.items()),
        *(func.sum(cast(table.c[f"fails_{kind}"], Integer)).label(f"fails_{kind}") for kind in CLASSES),
        func.count(case((by_chance, 1))).label("by_chance"),
        func.sum(case((by_chance, 1 / p))).label("all_weights"),
        func.sum(case((by_chance, 1 / p / p))).label("weights_squared"),
        *(func.sum(case((by_chance, cast(table.c[f"fails_{kind}"], Integer) / p))).label(f"drawn_fails_{kind}") for kind in CLASSES),
    ]


def weighted_mean(sums: Mapping[Any, Any]) -> Interval:
    """`sampling.weighted_mean` from sums: Hájek's mean with Deville's variance, each square written out."""
    n = sums["drawn"]
    if not n:
        return Interval(None, None, None, 0)
    mean = sums["y_weight"] / sums["weight"]
    if sums["lowest"] == sums["highest"]:
        reach = intervals.wilson(mean * n, n)
        return Interval(mean, reach.low, reach.high, n)
    variance = 0.0
    if sums["left"] > 0:
        error = (sums["left_yw"] - mean * sums["left_w"]) / sums["weight"]
        squared = (sums["left_yyww"] - 2 * mean * sums["left_yww"] + mean * mean * sums["left_ww"]) / sums["weight"] ** 2
        variance = max(0.0, n / (n - 1) * (squared - error * error / sums["left"]))
    half = intervals.student_quantile(intervals.CONFIDENCE, n - 1) * variance**0.5
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def _scores(sums: Mapping[Any, Any], within: float) -> Row:
    n, count = sums["drawn"], sums["evaluations"]
    spread = max(0.0, (sums["squares"] - sums["total"] ** 2 / n) / (n - 1)) ** 0.5 if n > 2 else None
    return {
        "evaluations": count,
        "score": _interval(weighted_mean(sums)),
        "picked": {"evaluations": sums["picked"], "mean": _rounded(sums["picked_mean"])},
        "needed": sampling.needed(spread or None, within),
        "class_accuracy": {kind: _interval(_accuracy(sums, kind)) for kind in CLASSES},
    }


def _accuracy(sums: Mapping[Any, Any], kind: str) -> Interval:
    """Of contacts that chance chose, as the mean, also where nothing gave a score; where there are none, of those picked."""
    n, count = sums["by_chance"], sums["evaluations"]
    if not n:
        return intervals.wilson(count - sums[f"fails_{kind}"], count)
    return _weighted_share(sums["all_weights"] - sums[f"drawn_fails_{kind}"], sums["all_weights"], sums["weights_squared"], n)


def _weighted_share(good: float, weight: float, squares: float, count: int) -> Interval:
    """Wilson's interval at the effective size of a weighted sample (Kish, Survey Sampling, 1965, §11.7)."""
    effective = weight * weight / squares
    return replace(intervals.wilson(max(0.0, good) / weight * effective, effective), count=count)


def _automatic(connection: Connection, by: str, asked: Mapping[str, Any]) -> dict[str, list[Row]]:
    table = store.automatic
    score = table.c.score
    query = select(table.c[by], table.c.ruleset, func.count(score), func.sum(score), func.sum(score * score)).where(
        table.c.contact_at >= asked["from"], table.c.contact_at < asked["to"]
    )
    found: defaultdict[str, list[Row]] = defaultdict(list)
    grouped = _narrowed(query, table, asked).group_by(table.c[by], table.c.ruleset).order_by(table.c.ruleset)
    for name, ruleset, count, total, squares in connection.execute(grouped):
        if count:
            found[name].append({"ruleset": ruleset, "contacts": count, "score": _interval(_mean(count, total, squares, 0, 1))})
    return found


def criteria(connection: Connection, asked: Mapping[str, Any]) -> Row:
    """Of one scorecard: how often each criterion applied, its mean value, and how often it was missed: of contacts that chance chose, by their
    chances, or where it was marked in none of them, of those picked."""
    one, mark = store.evaluation, store.mark
    value, missed, p = mark.c.value, cast(mark.c.missed, Integer), one.c.probability
    drawn = and_(one.c.method == "stratified", p.is_not(None), value.is_not(None))
    query = (
        select(
            mark.c.criterion,
            func.count(),
            *(func.count(value), func.count(value), func.count(value), func.sum(value), func.sum(value * value), func.sum(missed)),
            *(func.count(case((drawn, 1))), func.sum(case((drawn, 1 / p))), func.sum(case((drawn, 1 / p / p)))),
            *(func.sum(case((drawn, figure / p))) for figure in (value, value * value, missed)),
        )
        .join(one, one.c.id == mark.c.evaluation)
        .where(one.c.contact_at >= asked["from"], one.c.contact_at < asked["to"], one.c.submitted_at.is_not(None), one.c.counts)
        .where(one.c.scorecard == asked["scorecard"])
    )
    if asked.get("agent"):
        query = query.where(one.c.agent == asked["agent"])
    rows = connection.execute(_narrowed(query, one, asked).group_by(mark.c.criterion).order_by(mark.c.criterion))
    return {"scorecard": asked["scorecard"], "criteria": [_criterion(row[0], row[1], row[2], row[2:8], row[8:]) for row in rows]}


def _criterion(name: str, marked: int, applied: int, picked: Sequence[Any], drawn: Sequence[Any]) -> Row:
    """`picked`: number, sum of weights and of their squares, sums of values, of their squares and of those missed, each weighing 1; `drawn`: those
    that chance chose, each weighing 1 / chance."""
    n, *sums = drawn if drawn[0] else picked
    weight, squared, total, squares, missed = (float(sum or 0) for sum in sums)
    told = {"criterion": name, "marked": marked, "applied": applied}
    if not n:
        return {**told, **dict.fromkeys(("mean", "missed"), _interval(Interval(None, None, None, 0)))}
    mean = _mean(n, total / weight * n, squares / weight * n, 0, 1, weight * weight / squared)
    return {**told, "mean": _interval(mean), "missed": _interval(_weighted_share(missed, weight, squared, n))}


def surveys(connection: Connection, asked: Mapping[str, Any]) -> Row:
    """By queue, agent, channel, or whether the customer had failed in self-service first (R27): who was asked, who answered, and what they said.
    Answers that nobody asked for stand apart: they are no sample of anything."""
    by = asked["by"]
    column = store.contact.c.self_service_failed if by == "self_service_failed" else store.survey.c[by]
    said = _said(connection, column, asked)
    groups = [{by: bool(name) if by == "self_service_failed" else name, **told} for name, told in sorted(said.items())]
    return {"by": by, "groups": groups}


def _said(connection: Connection, column: Any, asked: Mapping[str, Any]) -> dict[Any, Row]:
    table = store.survey
    sent = table.c.sent_at.is_not(None)
    late = and_(table.c.answered_at.is_not(None), table.c.late)
    answered = and_(table.c.answered_at.is_not(None), ~table.c.late)
    heard = and_(sent, answered)
    csat = cast(table.c.csat, Float)

    def count(condition: Any) -> Any:
        return func.sum(case((condition, 1), else_=0))

    query = select(
        column, count(sent), count(heard), count(and_(heard, csat.is_not(None))), func.sum(case((heard, csat))), func.sum(case((heard, csat * csat))),
        count(and_(heard, table.c.csat >= SATISFIED)), count(and_(heard, table.c.resolved.is_not(None))),
        count(and_(heard, table.c.resolved.is_(True))), count(and_(answered, ~sent)),
        func.sum(case((and_(answered, ~sent), csat))), count(late),
    ).where(table.c.contact_at >= asked["from"], table.c.contact_at < asked["to"])  # fmt: skip
    if column.table is store.contact:
        query = query.join(store.contact, store.contact.c.id == table.c.contact)
    found = {}
    for row in connection.execute(_narrowed(_readable(query, asked), table, asked).group_by(column)):
        name, asked_of, answers, rated, total, squares, satisfied, told_resolved, resolved, unasked, unasked_total, too_late = row
        found[name] = {
            "asked": asked_of, "answered": answers, "late": too_late, "response_rate": _interval(intervals.wilson(answers, asked_of)),
            "satisfaction": _interval(_mean(rated, total, squares, 1, 5)), "satisfied": _interval(intervals.wilson(satisfied, rated)),
            "resolved": _interval(intervals.wilson(resolved, told_resolved)),
            "unasked": {"answers": unasked, "satisfaction": _rounded(unasked_total / unasked if unasked and unasked_total is not None else None)},
        }  # fmt: skip
    return found


def _readable(query: Select[Any], asked: Mapping[str, Any]) -> Select[Any]:
    """Without the contacts that `person`, who reads the report, has yet to submit an evaluation of: the customer's word would sway them."""
    if not asked.get("person"):
        return query
    one = store.evaluation
    return query.where(
        store.survey.c.contact.not_in(select(one.c.contact).where(one.c.evaluator == asked["person"], one.c.state == "draft"))
    )


def answers_alone(connection: Connection, asked: Mapping[str, Any], told: Row) -> list[str]:
    """Contacts whose customer's answer is the only one of its group in the report, which thus tells it."""
    by, table = asked["by"], store.survey
    said = [(group[by], group.get("customers_said", group)) for group in told["groups"]]
    names = [name for name, one in said if one and one["answered"] + one["unasked"]["answers"] == 1]
    if not names:
        return []
    query = select(table.c.contact).where(
        table.c.contact_at >= asked["from"], table.c.contact_at < asked["to"], table.c.answered_at.is_not(None), ~table.c.late
    )
    if by == "self_service_failed":
        query = query.join(store.contact, store.contact.c.id == table.c.contact).where(store.contact.c.self_service_failed.in_(names))
    else:
        query = query.where(table.c[by].in_(names))
    return list(connection.scalars(_narrowed(_readable(query, asked), table, asked)))


def one_call(connection: Connection, asked: Mapping[str, Any]) -> Row:
    """One-call resolution (R72) by queue, agent, channel or disposition: the customer did not come again about the same matter within `days`.
    Contacts that are too recent to know are told as such; `survival` uses them as long as they have been watched."""
    by, table = asked["by"], store.contact
    days = asked["days"] * DAY
    known_until = store.known_until(connection, clock.now())
    if known_until is None:
        return {"by": by, "days": asked["days"], "known_until": None, "groups": []}
    until = literal(known_until, Float(53))
    limit = case((table.c.ended_at + days < until, table.c.ended_at + days), else_=until)
    repeated = case((and_(table.c.next_at.is_not(None), table.c.next_at <= limit), 1), else_=0)
    watched = case((repeated == 1, table.c.next_at), else_=limit) - table.c.ended_at
    over = case((table.c.ended_at + days <= until, 1), else_=0)
    code = cast(func.floor(watched / STEP), Integer) + over * OVER + repeated * AGAIN  # one expression: the planner then counts groups well
    query = select(table.c[by], code.label("code"), func.count().label("n")).where(
        table.c.ended_at >= asked["from"],
        table.c.ended_at < asked["to"],
        table.c.ended_at <= known_until,
        table.c.outcome == "completed",
        table.c.customer.is_not(None),
    )
    groups: defaultdict[str, list[Watched]] = defaultdict(list)
    for row in connection.execute(_narrowed(query, table, asked).group_by(table.c[by], "code")):
        groups[row[0] or ""].append(Watched(row.code // AGAIN, row.code % AGAIN // OVER, row.code % OVER, row.n))
    told = [{by: name, **_resolution(groups[name], asked["days"])} for name in sorted(groups)]
    return {"by": by, "days": asked["days"], "known_until": clock.to_text(known_until), "groups": told}


class Watched(NamedTuple):
    """`n` contacts that were watched for so many steps: whether the customer came again, and whether their days are over."""

    again: int
    over: int
    steps: int
    n: int


def _resolution(rows: Sequence[Watched], days: float) -> Row:
    def total(again: int, over: int) -> int:
        return sum(row.n for row in rows if row.again == again and row.over == over)

    good, mature, early = total(0, 1), total(1, 1), total(1, 0)
    times = np.repeat([(float(row.steps) + 0.5) * STEP if row.again else float(row.steps) * STEP for row in rows], [row.n for row in rows])
    events = np.repeat([bool(row.again) for row in rows], [row.n for row in rows])
    curve = resolution.survival(times, events, days * DAY)
    return {
        "contacts": sum(row.n for row in rows), "resolved": good, "repeated": mature, "repeated_early": early, "too_recent": total(0, 0),
        "rate": _interval(intervals.wilson(good, good + mature)), "survival": _interval(curve),
    }  # fmt: skip


def value(connection: Connection, asked: Mapping[str, Any]) -> Row:
    """Value created for each contact (R71), by currency, with its interval; never a total, which rewards hanging up on hard customers. Contacts in
    which nothing was sold count too. Handle time stands beside it to be seen; it is nobody's target."""
    by, table = asked["by"], store.contact
    where = and_(
        table.c.ended_at >= asked["from"], table.c.ended_at < asked["to"], table.c.agent.is_not(None), table.c.outcome == "completed"
    )
    amount = table.c.amount
    handled = func.coalesce(table.c.talk_seconds, 0.0) + func.coalesce(table.c.wrap_up_seconds, 0.0)
    query = select(
        table.c[by], table.c.currency, func.count(), func.count(amount), func.sum(amount), func.sum(amount * amount), func.sum(amount * amount * amount),
        func.count(table.c.talk_seconds), func.sum(case((table.c.talk_seconds.is_not(None), handled))), func.sum(table.c.hold_seconds),
        func.count(table.c.hold_seconds), func.sum(table.c.transfers), func.sum(table.c.escalations), func.sum(cast(table.c.self_service_failed, Integer)),
        func.sum(table.c.holds), func.count(table.c.holds),
    ).where(where)  # fmt: skip
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(_narrowed(query, table, asked).group_by(table.c[by], table.c.currency)):
        groups[row[0] or ""].append(tuple(row)[1:])
    told = []
    for name in sorted(groups):
        rows = groups[name]
        contacts = sum(row[1] for row in rows)
        per_contact = [
            {
                "currency": row[0],
                "sales": row[2],
                "value": _interval(intervals.of_moments(contacts, row[3] or 0.0, row[4] or 0.0, row[5] or 0.0)),
            }
            for row in sorted((row for row in rows if row[2] and row[0]), key=lambda row: str(row[0]))
        ]
        timed, seconds, held, on_hold, holds, known = (sum(row[number] or 0 for row in rows) for number in (6, 7, 8, 9, 13, 14))
        told.append(
            {
                by: name, "contacts": contacts, "value_per_contact": per_contact,
                "handle_seconds": _rounded(seconds / timed if timed else None, 1), "hold_seconds": _rounded(held / on_hold if on_hold else None, 1),
                "holds_per_contact": _rounded(holds / known if known else None),
                "transfers_per_contact": _rounded(sum(row[10] or 0 for row in rows) / contacts),
                "escalations_per_contact": _rounded(sum(row[11] or 0 for row in rows) / contacts),
                "self_service_failed": _rounded(sum(row[12] or 0 for row in rows) / contacts),
            }
        )  # fmt: skip
    return {"by": by, "groups": told, "no_target": NO_TARGET}


def _narrowed(query: Select[Any], table: Table, asked: Mapping[str, Any]) -> Select[Any]:
    if (queues := asked.get("queues")) is not None:
        query = query.where(table.c.queue.in_(queues))
    if asked.get("queue"):
        query = query.where(table.c.queue == asked["queue"])
    if asked.get("own_agent"):
        query = query.where(table.c.agent == asked["own_agent"])
    return query


def _mean(
    count: int, total: float | None, squares: float | None, least: float = -math.inf, most: float = math.inf, effective: float | None = None
) -> Interval:
    """Student's interval of a mean, from sums, within what a value can be. `effective`: the size of a sample whose contacts weigh differently."""
    if not count:
        return Interval(None, None, None, 0)
    average = (total or 0.0) / count
    n = count if effective is None else effective
    if count == 1 or n < 1 + 1e-9:
        return Interval(average, None, None, count)
    spread = max(0.0, ((squares or 0.0) / count - average * average) * n / (n - 1)) ** 0.5
    half = intervals.student_quantile(intervals.CONFIDENCE, max(1, int(n + 1e-9) - 1)) * spread / n**0.5
    return Interval(average, max(least, average - half), min(most, average + half), count)


def _interval(found: Interval) -> Row:
    return {name: value if isinstance(value, int) else _rounded(value) for name, value in asdict(found).items()}


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)
