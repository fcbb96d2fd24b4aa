"""Made-up centres: calls in a Markovian queue, and a record of a small centre's days as a telephony system would export it."""

from __future__ import annotations

import csv
import heapq
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from services.routing.domain.entities import Queue
from services.routing.simulation.play import NOBODY, Call, Case, Shift, Worker, new_desk, play
from services.routing.simulation.rivals import RIVALS
from services.routing.simulation.scenario import Record

COLUMNS = ("arrival", "type", "priority", "customer", "wait_s", "outcome", "service_s", "agent")


def markovian(
    seed: int, calls: int, servers: int, rate: float, service: float, patience: float = float("inf"), shares: tuple[float, ...] = (1.0,)
) -> Case:
    """Poisson arrivals, exponential talk and patience (seconds); each call is of a class with this share, which is its value: 1, 2, …"""
    chance = np.random.default_rng(seed)
    at = np.cumsum(chance.exponential(1 / rate, calls))
    talk = chance.exponential(service, calls)
    stay = chance.exponential(patience, calls) if patience < float("inf") else np.full(calls, patience)
    kind = chance.choice(len(shares), calls, p=shares)
    agents = [Worker(f"a{number}", {"line": 3}) for number in range(servers)]
    until = float(at[-1] + 100 * service)
    return Case(
        [
            Call(f"c{i}", float(at[i]), "line", float(stay[i]), float(talk[i]), value=1.0 + kind[i], facts={"tier": str(kind[i])})
            for i in range(calls)
        ],
        agents,
        [Shift(agent.id, 0.0, until) for agent in agents],
        [Queue("line", required_skills={"line": 1}, wrap_up=False)],
    )


def record(path: Path, seed: int = 1, days: int = 2, per_day: int = 150) -> Path:
    """Two agents take sales alone, two take both kinds; first come first served, nobody is asked whom they suit best."""
    chance = np.random.default_rng(seed)
    skills = {"ann": ("sales",), "ben": ("sales",), "cem": ("sales", "tech"), "dao": ("sales", "tech")}
    rows = []
    for day in range(days):
        free = [(9 * 3600.0, agent) for agent in sorted(skills)]
        heapq.heapify(free)
        arrivals = np.sort(chance.uniform(9 * 3600, 17 * 3600, per_day))
        for number, at in enumerate(arrivals.astype(int).tolist()):
            kind = "tech" if chance.random() < 0.3 else "sales"
            able = sorted(one for one in free if kind in skills[one[1]])
            starts, agent = able[0]
            wait, patience = max(0.0, starts - at), chance.exponential(240)
            told = {"arrival": datetime(2026, 3, 2) + timedelta(days=day, seconds=at), "type": kind, "priority": number % 2 * 2}
            told["customer"] = f"k{number % 40}" if wait else ""
            if wait > patience:
                rows.append(told | {"wait_s": int(patience), "outcome": "abandoned", "service_s": 0, "agent": ""})
                continue
            talk = int(chance.exponential(500)) + 5
            free.remove((starts, agent))
            heapq.heapify(free)
            heapq.heappush(free, (max(starts, at) + talk + 4, agent))
            rows.append(told | {"wait_s": int(wait), "outcome": "answered", "service_s": talk, "agent": agent})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "arrival": row["arrival"].isoformat()} for row in rows)
    return path


def with_breaks(seed: int) -> Record:
    """Five agents, each of them away ten minutes in every thirty, as a telephony system would record its calls."""
    whole = markovian(seed, 500, 5, 0.0165, 180.0, 400.0)
    until = whole.calls[-1].at
    shifts = []
    for number, agent in enumerate(whole.agents):
        away = [(at, at + 600.0) for at in np.arange(360.0 * number, until, 1800.0).tolist()]
        edges = [0.0, *(edge for pair in away for edge in pair), until + 3600.0]
        shifts += [Shift(agent.id, since, end) for since, end in zip(edges[::2], edges[1::2], strict=True) if end > since]
    case = Case(whole.calls, whole.agents, sorted(shifts, key=lambda shift: (shift.since, shift.agent)), whole.queues)
    run = play(case, new_desk(case, {}, RIVALS["longest-idle"]))
    return Record(
        np.array([call.at for call in case.calls]),
        ["line"] * len(case.calls),
        [""] * len(case.calls),
        run.waited,
        run.answered,
        np.where(run.answered, [call.service for call in case.calls], 0.0),
        [case.agents[agent].id if agent != NOBODY else "" for agent in run.agent.tolist()],
        np.zeros(len(case.calls), dtype=int),
    )
