"""Closed formulas of queues, to check the simulator against and to say what would be possible. Rates are a second, loads in erlangs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betainc


class ErlangC(NamedTuple):
    """M/M/n. Waits are of all, those answered at once included; without an equilibrium they are inf."""

    delayed: float  # share who wait
    mean_wait: float
    utilisation: float
    servers: int
    service_rate: float

    def longer_than(self, seconds: float) -> float:
        """The share who wait longer."""
        return self.delayed * math.exp(-self.servers * self.service_rate * (1 - self.utilisation) * seconds)


def erlang_b(servers: int, load: float) -> float:
    """The share lost where nobody can wait (Erlang 1917), by the recurrence in the number of servers."""
    lost = 1.0
    for number in range(1, servers + 1):
        lost = load * lost / (number + load * lost)
    return lost


def erlang_c(servers: int, arrival_rate: float, service_rate: float) -> ErlangC:
    """Erlang's delay formula, from his loss formula: C = B / (1 − ρ(1 − B))."""
    load = arrival_rate / service_rate
    busy = load / servers
    if busy >= 1:
        return ErlangC(1.0, math.inf, 1.0, servers, service_rate)
    lost = erlang_b(servers, load)
    delayed = lost / (1 - busy * (1 - lost))
    return ErlangC(delayed, delayed / (servers * service_rate - arrival_rate), busy, servers, service_rate)


class ErlangA(NamedTuple):
    """M/M/n+M in equilibrium."""

    delayed: float
    abandoned: float  # share
    mean_wait: float  # of all, answered or not
    mean_queue: float
    utilisation: float
    servers: int
    service_rate: float
    abandon_rate: float
    finding: np.ndarray  # share of arrivals that find all servers busy and 0, 1, 2, … waiting

    def answered_within(self, seconds: float) -> float:
        """The share of all who are answered, and within so long.

        Who finds q waiting is reached after V, the sum of exponential stages of rates nμ + jθ, j = q…0, so that exp(−θV) has the
        distribution Beta(nμ/θ, q + 1); answered are those who are patient for so long.
        """
        servings, ahead = self.servers * self.service_rate / self.abandon_rate, np.arange(len(self.finding))
        reached = servings / (servings + ahead + 1) * (1 - betainc(servings + 1, ahead + 1, math.exp(-self.abandon_rate * seconds)))
        return float(1 - self.delayed + (self.finding * reached).sum())

    def longer_than(self, seconds: float) -> float:
        """The share who wait longer, whatever becomes of them."""
        servings, ahead = self.servers * self.service_rate / self.abandon_rate, np.arange(len(self.finding))
        left = math.exp(-self.abandon_rate * seconds)
        return float(left * (self.finding * betainc(servings, ahead + 1, left)).sum())


def erlang_a(servers: int, arrival_rate: float, service_rate: float, abandon_rate: float) -> ErlangA:
    """Palm's model with exponential patience, from its birth-and-death chain (Garnett, Mandelbaum & Reiman 2002; Mandelbaum & Zeltyn,
    The Palm/Erlang-A queue, 2004). By Little's law the share that abandons is θ × the mean wait. `abandon_rate` must be above 0."""
    load = arrival_rate / service_rate
    most = (
        servers + 50 + int(max(0.0, (arrival_rate - servers * service_rate) / abandon_rate) + 12 * math.sqrt(arrival_rate / abandon_rate))
    )
    steps = np.concatenate(
        [
            load / np.arange(1, servers + 1),
            arrival_rate / (servers * service_rate + abandon_rate * np.arange(1, most - servers + 1)),
        ]
    )
    logs = np.concatenate([[0.0], np.cumsum(np.log(steps))])
    states = np.exp(logs - logs.max())
    states /= states.sum()
    queue = states[servers:]
    mean_queue = float((queue * np.arange(len(queue))).sum())
    mean_wait = mean_queue / arrival_rate
    busy = float((states * np.minimum(np.arange(len(states)), servers)).sum()) / servers
    return ErlangA(float(queue.sum()), abandon_rate * mean_wait, mean_wait, mean_queue, busy, servers, service_rate, abandon_rate, queue)


def priority_waits(servers: int, arrival_rates: Sequence[float], service_rate: float) -> list[float]:
    """Mean waits by class, the first class first, who is being served is not interrupted: Cobham 1954 (for one server, any service
    time has the same form), for several with one exponential service time Kella & Yechiali 1985:
    W_k = W_0 / ((1 − σ_{k−1})(1 − σ_k)) with W_0 = C / (nμ) and σ_k the utilisation by the first k classes. inf from where σ_k reaches 1."""
    delayed = erlang_c(servers, sum(arrival_rates), service_rate).delayed
    before, waits = 0.0, []
    for rate in arrival_rates:
        after = before + rate / (servers * service_rate)
        waits.append(math.inf if after >= 1 else delayed / (servers * service_rate) / ((1 - before) * (1 - after)))
        before = after
    return waits
