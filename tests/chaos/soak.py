"""Half of the measured maximum for a long time, over a real broker and database with all five services: does memory stay flat, and no backlog grow?

    python -m tests.chaos.soak [--minutes 30] [--share 0.5] [--rate LINES_A_SECOND]

The maximum is measured first, here and now: so many lines of a PBX's log at once, and how long until every event that came of them was applied
by every service that hears it. What is posted then, at that share of it, is known, and so are the figures that must come of it.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kombu import Connection

from shared.contracts import topology
from tests.chaos import checks
from tests.chaos.harness import Chaos
from tests.chaos.load import DOOR, Call, Floor, Pbx, call
from tests.stack import new_broker, new_database, process
from tests.system import SERVICES, Client

BURST_LINES = 12_000
LINES_A_POST = 20
POSTERS = 4
CALLS_AT_ONCE = 40
SAMPLE_SECONDS = 10.0
TOLD_EVERY = 6
WARM_UP = 0.25
MOST_GROWTH = 0.05
"""Share of its memory by which a process may grow between the first and the last of what is measured after the warm-up; beside a few MB."""
LEAST_MB = 6.0
MOST_BACKLOG_SECONDS = 5.0


class Steady(Pbx):
    """Lines at a constant rate, many to a post; None: as fast as they are taken in, `lines` of them."""

    def __init__(self, clients: Sequence[Client], seed: int, source: str, rate: float | None = None, lines: int = 0) -> None:
        super().__init__(clients, seed, source, threads=0)
        self.rate, self.most = rate and rate / POSTERS, lines // POSTERS
        for number in range(POSTERS):
            self.hire(self._steady, random.Random(seed * 100 + number), number)

    def complete(self) -> Steady:
        """Until all of its lines are posted."""
        for thread in self._threads:
            thread.join(600)
        self.finish()
        return self

    def _steady(self, random: random.Random, number: int) -> None:
        began, told = time.monotonic(), 0
        under_way: list[tuple[Call, list[str]]] = []
        for serial in range(10**9):
            over = self.finishing.is_set() or (self.most and told >= self.most)
            while not over and len(under_way) < CALLS_AT_ONCE:
                one = call(random, f"{self.source}-{number}-{serial}-{len(under_way)}", self._began + serial)
                under_way.append((one, one.lines[:]))
                with self._lock:
                    self.calls.append(one)
            lines = self._next(random, under_way, LINES_A_POST)
            if not lines:
                return
            under_way = [one for one in under_way if one[1]]
            receipt = self.insist(self.clients, "POST", DOOR, "\n".join(lines), source=self.source)
            assert receipt["accepted"] == len(lines), receipt
            told += len(lines)
            with self._lock:
                self.posts += 1
                self.acknowledged.update(lines)
            if self.rate:
                self.finishing.wait(max(began + told / self.rate - time.monotonic(), 0.0))


def backlog(system: Chaos) -> int:
    """Lines not yet correlated, and events not yet published, or published and not yet applied by somebody."""
    waiting = system.count("gateway", "intake where processed_at is null")
    waiting += sum(system.count(service, "outbox where published_at is null") for service in SERVICES)
    with Connection(system.broker_url, connect_timeout=5) as connection, connection.channel() as channel:
        return waiting + sum(channel.queue_declare(topology.inbox_queue(name), passive=True).message_count for name in SERVICES)


def memory(pid: int) -> float:
    """Resident, in MB."""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.partition("VmRSS:")[2].split()[0]) / 1024


def maximum(system: Chaos, seed: int) -> float:
    """Lines a second from the first post to the last effect."""
    Steady([system], seed, "warm", None, BURST_LINES // 10).complete()
    checks.wait_for_rest(system, (), 600)
    began = time.monotonic()
    burst = Steady([system], seed, "burst", None, BURST_LINES).complete()
    checks.wait_for_rest(system, (), 600)
    return len(burst.acknowledged) / (time.monotonic() - began)


def grown(samples: Sequence[float]) -> tuple[float, float]:
    """From, to: by the median of all slopes between samples (Theil and Sen), which a few outliers do not move."""
    slopes = [(b - a) / (j - i) for i, a in enumerate(samples) for j, b in enumerate(samples) if j > i]
    slope = statistics.median(slopes) if slopes else 0.0
    start = statistics.median(value - slope * number for number, value in enumerate(samples))
    return start, start + slope * max(len(samples) - 1, 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="Memory and backlog over a long time.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the measured maximum")
    parser.add_argument("--rate", type=float, help="lines a second, rather than a share of the maximum")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    process.root()
    with new_broker() as broker, new_database() as database, Chaos("deployed", broker, database, SERVICES) as system:
        return soak(system, options)


def soak(system: Chaos, options: argparse.Namespace) -> int:
    rate = options.rate
    if not rate:
        most = maximum(system, options.seed)
        rate = most * options.share
        print(f"seed {options.seed}: maximum {most:.0f} lines a second; {rate:.0f} for {options.minutes:g} minutes", flush=True)
    heads = " ".join(f"{name:>9}" for name in (*SERVICES, "backlog", "lines/s", "load"))
    print(f"{'minute':>7} {heads}   (MB)", flush=True)
    kept: dict[str, list[float]] = {name: [] for name in (*SERVICES, "backlog")}
    pids = {service: system.pid(service) for service in SERVICES}
    load, floor = Steady([system], options.seed, "steady", rate), Floor([system], options.seed, callers=2, agents=3).open()
    began = time.monotonic()
    said = (began, 0)
    number = 0
    try:
        while time.monotonic() < began + 60 * options.minutes:
            time.sleep(max(began + number * SAMPLE_SECONDS - time.monotonic(), 0.0))
            for service, pid in pids.items():
                kept[service].append(memory(pid))
            kept["backlog"].append(backlog(system))
            if number % TOLD_EVERY == 0:
                now, lines = time.monotonic(), len(load.acknowledged)
                speed = (lines - said[1]) / max(now - said[0], 1e-9) if number else 0.0
                said = (now, lines)
                figures = " ".join(f"{values[-1]:9.1f}" for values in kept.values())
                print(f"{(now - began) / 60:7.1f} {figures} {speed:9.0f} {os.getloadavg()[0]:9.1f}", flush=True)
            number += 1
    finally:
        load.finish(120)
        floor.finish(120)
    achieved = len(load.acknowledged) / (time.monotonic() - began)
    checks.wait_for_rest(system, (), 120)
    books = checks.balance(system)
    load.check_reports(system)
    return verdict(kept, rate, achieved, books, [pids[service] == system.pid(service) for service in SERVICES])


def verdict(kept: dict[str, list[float]], rate: float, achieved: float, books: checks.Books, same: list[bool]) -> int:
    wrong = []
    for name, samples in kept.items():
        start, end = grown(samples[int(len(samples) * WARM_UP) :])
        if name == "backlog":
            allowed = MOST_BACKLOG_SECONDS * rate
        else:
            allowed = max(start * MOST_GROWTH, LEAST_MB)
        told = f"{name}: from {start:.1f} to {end:.1f}" + (" events" if name == "backlog" else " MB")
        print(f"{told}, at most {allowed:.1f} more allowed")
        if end - start > allowed:
            wrong.append(told)
    print(
        f"{achieved:.0f} lines a second of {rate:.0f}; events {books.events}, lost {books.lost}, twice {books.twice}, stuck {books.stuck}"
    )
    if told := books.wrong({}):
        wrong.append(told)
    if achieved < 0.9 * rate:
        wrong.append("the rate was not kept")
    if not all(same):
        wrong.append("a process was not the same at the end")
    print("grown or wrong: " + "; ".join(wrong) if wrong else "flat: no memory and no backlog grew")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
