"""References to measure a policy's distance from. What is proven of each, and under which conditions, its docstring says."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from services.routing.domain.entities import TOP_LEVEL
from services.routing.simulation.play import Case, Run, Worker
from services.routing.simulation.queueing import ErlangA, erlang_a

INTERVAL = 1800.0
GAP = 1800.0
"""Nobody waits over a pause so long between arrivals and answers: the days are assigned one by one."""


def pooled(case: Case, abandon_rate: float, target: float = 20.0) -> dict[str, float]:
    """If every agent could serve everybody: Erlang A for each half hour, with its arrivals, its agents and its mean handling time.

    An estimate, not a proof: each half hour is taken in equilibrium, talk and patience as exponential.
    """
    if not case.calls or not abandon_rate:  # where nobody gave up there is no patience to reckon with
        return {}
    at = np.array([call.at for call in case.calls])
    work = np.array([call.service + call.wrap_up for call in case.calls])
    slots, slot = np.unique(np.floor(at / INTERVAL), return_inverse=True)  # those with calls: a record may have gaps of years
    since = np.array([shift.since for shift in case.shifts])
    until = np.array([shift.until for shift in case.shifts])
    heads = np.array(
        [
            np.maximum(np.minimum(until, (one + 1) * INTERVAL) - np.maximum(since, one * INTERVAL), 0.0).sum() / INTERVAL
            for one in slots.tolist()
        ]
    )
    overall = float(work.mean()) or 1.0
    level = abandoned = waited = 0.0
    for number in range(len(slots)):
        mine = slot == number
        calls, seconds = int(mine.sum()), float(work[mine].mean()) or overall
        share, lost, wait = _between(float(heads[number]), calls / INTERVAL, 1.0 / seconds, abandon_rate, target)
        level, abandoned, waited = level + calls * share, abandoned + calls * lost, waited + calls * wait
    total = len(case.calls)
    return {"service_level_20s": level / total, "abandoned": abandoned, "mean_wait_s": waited / total}


def _between(heads: float, arrivals: float, serve: float, leave: float, target: float) -> tuple[float, float, float]:
    """Part of an agent is there part of the time: the figures of the whole numbers on both sides, mixed."""
    low = math.floor(heads)
    mixed = np.zeros(3)
    for servers, share in ((low, 1.0 - (heads - low)), (low + 1, heads - low)):
        if share > 0:
            mixed += share * np.array(_erlang_a(servers, arrivals, serve, leave, target))
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def _erlang_a(servers: int, arrivals: float, serve: float, leave: float, target: float) -> tuple[float, float, float]:
    if not servers:
        return 0.0, 1.0, 1.0 / leave
    found: ErlangA = erlang_a(servers, arrivals, serve, leave)
    return found.answered_within(target), found.abandoned, found.mean_wait


def one_line(case: Case, run: Run, target: float = 20.0) -> dict[str, float]:
    """A reference: one pooled line in which every agent can serve everybody, with the same calls, talks, patience and presence; played, by
    somebody who sees when each caller will give up (but not how long each talk will last). No bound where talk times differ by caller.

    abandoned: whoever will leave first is next. service_level_20s: whoever has the least time left to be answered within the target is
    next, and who cannot be any more is not served at all. Where the talk times of all callers have one distribution (exponential with
    several servers) these orders, of those that do not know the talks, have the most callers begin before their deadline: Panwar, Towsley
    & Wolf 1988 (the shortest time to extinction). Where they differ, say by type, whoever begins the short ones first may do better.
    value_weighted_wait_s: the best assignment of the run's own moments, skills left aside.
    """
    values = np.array([call.value for call in case.calls])
    patience = np.array([call.patience for call in case.calls])
    answered = _play_one_line(case, patience)
    in_time = _play_one_line(case, np.minimum(patience, target))
    found = {"service_level_20s": float(in_time.mean()), "abandoned": float((~answered).sum())}
    if run.answered.any():
        anybody = [Worker(worker.id, {}) for worker in case.agents]
        open_to_all = replace(case, agents=anybody, queues=[replace(queue, required_skills={}) for queue in case.queues])
        calls = [call._replace(skills={}) for call in case.calls]
        found |= clairvoyant(replace(open_to_all, calls=calls), run, target, ("value_weighted_wait_s",))
    return found if values.any() else {}


ENDS, COMES, GOES, ARRIVES = range(4)


def _play_one_line(case: Case, stay: np.ndarray) -> np.ndarray:
    """Whether each call is answered where whoever would leave first is next, and all agents are alike."""
    answered = np.zeros(len(case.calls), dtype=bool)
    events: list[tuple[float, int, int, str]] = [(call.at, ARRIVES, index, "") for index, call in enumerate(case.calls)]
    for shift in case.shifts:
        events += [(shift.since, COMES, 0, shift.agent), (shift.until, GOES, 0, shift.agent)]
    heapq.heapify(events)
    there, busy, idle = Counter[str](), set[str](), dict[str, None]()
    line: list[tuple[float, int]] = []
    while events:
        now, kind, index, agent = heapq.heappop(events)
        if kind == ARRIVES:
            heapq.heappush(line, (now + float(stay[index]), index))
        elif kind == ENDS:
            busy.discard(agent)
        else:
            there[agent] += 1 if kind == COMES else -1
        if agent and agent not in busy and there[agent]:
            idle[agent] = None
        elif agent:
            idle.pop(agent, None)
        while line and line[0][0] < now:
            heapq.heappop(line)
        while idle and line:
            free, call = next(iter(idle)), case.calls[line[0][1]]
            answered[heapq.heappop(line)[1]] = True
            del idle[free]
            busy.add(free)
            heapq.heappush(events, (now + call.service + call.wrap_up, ENDS, 0, free))
    return answered


BOUNDED = ("service_level_20s", "abandoned", "value_weighted_wait_s", "skill_fit")


def clairvoyant(case: Case, run: Run, target: float = 20.0, wanted: Sequence[str] = BOUNDED) -> dict[str, float]:
    """Of all ways to give the same agents, at the same moments at which this run had them begin a call, to callers who were there and still
    patient and whose skill they have, the best for each figure by itself, by somebody who knows who will call and when each gives up.

    Exact (an assignment problem a day), but each figure has its own optimum: no policy reaches all at once. The moments are those of
    the run: who is served when changes them a little, which nobody could use without knowing the future.
    """
    required = {queue.name: queue.required_skills for queue in case.queues}
    at = np.array([call.at for call in case.calls])
    stay = np.array([call.patience for call in case.calls])
    value = np.array([call.value for call in case.calls])
    taken = np.flatnonzero(run.answered)
    start, agent = (at + run.waited)[taken], run.agent[taken]
    order = np.argsort(start, kind="stable")
    start, agent = start[order], agent[order]
    asked = [tuple(sorted({**required[call.queue], **call.skills}.items())) for call in case.calls]
    kinds = {one: number for number, one in enumerate(sorted(set(asked)))}
    kind = np.array([kinds[one] for one in asked])
    fit = np.array([[_fit(worker.skills, one) for worker in case.agents] for one in kinds])
    totals = dict.fromkeys(("level", "answered", "wait", "fit"), 0.0)
    for calls, moments in _days(at, at + run.waited, start):
        waits = start[moments][None, :] - at[calls][:, None]
        fits = fit[kind[calls]][:, agent[moments]]
        may = (waits >= -1e-6) & (waits <= stay[calls][:, None] + 1e-6) & (fits >= 0.0)
        if "service_level_20s" in wanted:
            totals["level"] += _best(np.where(may & (waits <= target), 1.0, 0.0))
        if "abandoned" in wanted or "skill_fit" in wanted:
            totals["answered"] += (most := _best(np.where(may, 1.0, 0.0)))
        if "value_weighted_wait_s" in wanted:
            patience = np.minimum(stay[calls], 1e6)[:, None]
            unanswered = float((value[calls] * patience[:, 0]).sum())
            totals["wait"] += unanswered - _best(np.where(may, value[calls][:, None] * (patience - waits), 0.0))
        if "skill_fit" in wanted:
            totals["fit"] += _best(np.where(may, 1.0 + fits, 0.0)) - most
    offered = len(case.calls)
    found = {
        "service_level_20s": totals["level"] / offered,
        "abandoned": offered - totals["answered"],
        "value_weighted_wait_s": totals["wait"] / float(value.sum()),
        "skill_fit": totals["fit"] / max(1.0, totals["answered"]),
    }
    return {name: found[name] for name in wanted}


def _fit(skills: Mapping[str, int], asked: tuple[tuple[str, int], ...]) -> float:
    if any(skills.get(name, 0) < level for name, level in asked):
        return -1.0
    return sum(skills[name] for name, _ in asked) / (TOP_LEVEL * len(asked)) if asked else 1.0


def _best(worth: np.ndarray) -> float:
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return float(worth[rows, columns].sum())


def _days(at: np.ndarray, ended: np.ndarray, start: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Calls and moments in parts between which nobody waits."""
    cuts = np.flatnonzero(at[1:] - np.maximum.accumulate(ended)[:-1] > GAP) + 1
    edges = [-math.inf, *at[cuts].tolist(), math.inf]
    parts = []
    for since, until in pairwise(edges):
        parts.append((np.flatnonzero((at >= since) & (at < until)), np.flatnonzero((start >= since) & (start < until))))
    return parts
