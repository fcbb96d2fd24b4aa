"""What a run is judged by, and how sure the figures are over several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from scipy.stats import t as student

from services.routing.domain.entities import TOP_LEVEL
from services.routing.simulation.play import NOBODY, Case, Run

CONFIDENCE = 0.95
LEAST_PRESENCE = 3600.0
"""Seconds signed in, from which on an agent's occupancy counts."""

HIGHER_IS_BETTER = {"answered", "service_level_20s", "skill_fit"}
TOLD = (
    "offered", "answered", "abandoned", "service_level_20s", "average_speed_of_answer_s", "p95_wait_s", "max_wait_s", "max_wait_staffed_s",
    "value_weighted_wait_s", "skill_fit", "occupancy_spread", "idle_while_compatible_waiting_s",
)  # fmt: skip
JUDGED = ("service_level_20s", "abandoned", "value_weighted_wait_s", "max_wait_staffed_s", "skill_fit")
"""What policies are compared by."""


def figures(case: Case, run: Run, target: float = 20.0) -> dict[str, float]:
    """Of one run. Waits are of all who were offered, answered or not, but the average speed of answer, which is of the answered.

    service_level_20s: share of the offered answered within `target` seconds. max_wait_staffed_s: the longest, counting
    only seconds in which somebody with the skill was signed in (the others no order of the line can spare). value_weighted_wait_s: Σ value × wait / Σ value. skill_fit: the mean over the answered of
    level / 5 in what the call asks (its queue's skill), 0 without it. occupancy_spread: standard deviation over agents of the share of
    their time at work (talk and wrap-up) while signed in. idle_while_compatible_waiting_s: seconds in which somebody waited though
    an agent with the skill was free.
    """
    waited, answered = run.waited, run.answered
    values = np.array([call.value for call in case.calls])
    there = run.present >= LEAST_PRESENCE
    occupancy = run.busy[there] / run.present[there]
    some = len(case.calls) > 0
    return {
        "offered": float(len(case.calls)),
        "answered": float(answered.sum()),
        "abandoned": float((~answered).sum()),
        "service_level_20s": float(np.mean(answered & (waited <= target))) if some else math.nan,
        "average_speed_of_answer_s": float(waited[answered].mean()) if answered.any() else math.nan,
        "p95_wait_s": float(np.quantile(waited, 0.95)) if some else math.nan,
        "max_wait_s": float(waited.max()) if some else math.nan,
        "max_wait_staffed_s": float(staffed(case, waited).max()) if some else math.nan,
        "value_weighted_wait_s": float((values * waited).sum() / values.sum()) if some else math.nan,
        "skill_fit": float(fits(case, run)[answered].mean()) if answered.any() else math.nan,
        "occupancy_spread": float(occupancy.std()) if len(occupancy) else math.nan,
        "idle_while_compatible_waiting_s": run.idle_while_waiting,
    }


def fits(case: Case, run: Run) -> np.ndarray:
    """Of each call, level / 5 of its agent in the skills that it asks (their mean; 1 where it asks none); 0 where nobody answered."""
    required = {queue.name: queue.required_skills for queue in case.queues}
    levels = []
    for call, agent in zip(case.calls, run.agent.tolist(), strict=True):
        asked = {**required[call.queue], **call.skills}
        skills = case.agents[agent].skills if agent != NOBODY else {}
        levels.append(sum(skills.get(name, 0) for name in asked) / (TOP_LEVEL * len(asked)) if asked else float(agent != NOBODY))
    return np.array(levels)


def staffed(case: Case, waited: np.ndarray) -> np.ndarray:
    """Of each call the seconds of its wait in which somebody with the skill was signed in."""
    required = {queue.name: queue.required_skills for queue in case.queues}
    skills = {agent.id: agent.skills for agent in case.agents}
    found = np.zeros(len(case.calls))
    at = np.array([call.at for call in case.calls])
    groups: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for index, call in enumerate(case.calls):
        groups.setdefault(tuple(sorted({**required[call.queue], **call.skills}.items())), []).append(index)
    for asked, members in groups.items():
        mine = np.array(members)
        able = [shift for shift in case.shifts if all(skills[shift.agent].get(name, 0) >= level for name, level in asked)]
        if not able:
            continue
        began = np.array([shift.since for shift in able])
        ended = np.maximum.accumulate([shift.until for shift in able])
        apart = np.flatnonzero(began[1:] > ended[:-1])
        edges = np.stack([began[np.concatenate([[0], apart + 1])], ended[np.concatenate([apart, [len(ended) - 1]])]], axis=1)
        there = np.stack([np.cumsum(edges[:, 1] - edges[:, 0]) - (edges[:, 1] - edges[:, 0]), np.cumsum(edges[:, 1] - edges[:, 0])], axis=1)
        found[mine] = np.interp(at[mine] + waited[mine], edges.ravel(), there.ravel()) - np.interp(at[mine], edges.ravel(), there.ravel())
    return found


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; nan where one sample tells nothing of it."""
    numbers = np.asarray(samples, dtype=float)
    if len(numbers) < 2:
        return float(numbers.mean()), math.nan
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers)))
    return float(numbers.mean()), half


def compare(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | str]]:
    """Ours less theirs, seed by seed: both met the same calls, so that the difference is surer than either figure. The verdict on each
    figure is `better`, `worse`, or `same` where the interval holds 0; of one seed, which has no interval, it is `seed alone`."""
    found: dict[str, dict[str, float | str]] = {}
    for name in TOLD:
        mean, half = interval([one[name] - other[name] for one, other in zip(ours, theirs, strict=True)])
        good = (mean > 0) == (name in HIGHER_IS_BETTER)
        verdict = "seed alone" if len(ours) < 2 else ("better" if good else "worse") if abs(mean) > half else "same"
        found[name] = {"difference": mean, "half": half, "verdict": verdict}
    return found


def why(case: Case, here: Run, there: Run) -> dict[str, Any]:
    """What lies behind a difference between two runs of one case: who waits longer and who less, by value; who was answered in one of them
    alone, and after how long; and whether the longest wait of the first could have been another."""
    values = np.array([call.value for call in case.calls])
    longest = int(here.waited.argmax())

    def alone(one: Run, other: Run) -> dict[str, float]:
        mine = one.answered & ~other.answered
        return {"calls": int(mine.sum()), "mean_wait_s": float(one.waited[mine].mean()) if mine.any() else 0.0}

    return {
        "mean_wait_by_value_s": {
            f"{value:g}": float((here.waited - there.waited)[values == value].mean())
            for value in sorted(set(values.tolist()), reverse=True)
        },
        "answered_here_alone": alone(here, there),
        "answered_there_alone": alone(there, here),
        "longest_wait": {
            "type": case.calls[longest].queue,
            "arrived": datetime.fromtimestamp(case.calls[longest].at, case.zone).strftime("%Y-%m-%d %H:%M"),
            "here_s": float(here.waited[longest]),
            "there_s": float(there.waited[longest]),
            "nobody_there_s": float((here.waited - staffed(case, here.waited))[longest]),
        },
    }


def by_hour(case: Case, waited: np.ndarray, answered: np.ndarray) -> list[dict[str, float]]:
    """The day's flow: of each hour (local) how many came, the mean wait of all, and the share that gave up."""
    hours = local_hours(case)
    rows = []
    for hour in range(24):
        mine = hours == hour
        if mine.any():
            rows.append(
                {
                    "hour": float(hour),
                    "offered": float(mine.sum()),
                    "mean_wait_s": float(waited[mine].mean()),
                    "abandoned": float(1 - answered[mine].mean()),
                }
            )
    return rows


def local_hours(case: Case) -> np.ndarray:
    return np.array([datetime.fromtimestamp(call.at, case.zone).hour for call in case.calls], dtype=int)
