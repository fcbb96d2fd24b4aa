"""Policies and seeds played side by side in processes of their own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import numpy as np

from services.routing import policies
from services.routing.domain.policy import DEFAULT
from services.routing.simulation import figures as measures
from services.routing.simulation.play import Case, Run, Shift, Worker, new_desk, play
from services.routing.simulation.rivals import RIVALS
from services.routing.simulation.scenario import Record, Scenario, draw, recorded_strategy, rules_of_thumb
from shared.errors import Invalid

UNNAMED = ""
"""The policy of a queue that names none."""
SAMPLES = Path(__file__).parent.parent / "sample_policies"


class Candidate(NamedTuple):
    """What is tried: documents of ours by the name under which queues know them, or one of the rivals."""

    name: str
    rival: str = ""
    documents: Mapping[str, str] = {}


class Played(NamedTuple):
    """Of one policy under one seed. Vectors by call, kept where asked for."""

    name: str
    seed: int
    figures: dict[str, float]
    waited: np.ndarray
    answered: np.ndarray
    agent: np.ndarray
    seconds: float

    def as_run(self) -> Run:
        return Run(self.waited, self.agent, self.answered, np.zeros(0), np.zeros(0))


def candidate(name: str) -> Candidate:
    """`standard` (built in), a rival's name, a sample's name, or a file. Raises Invalid."""
    if name in RIVALS:
        return Candidate(name, rival=name)
    if name == DEFAULT.name:
        return Candidate(name)
    path, sample = Path(name), SAMPLES / f"{name}.yaml"
    if not path.is_file() and not sample.is_file():
        samples = sorted(one.stem for one in SAMPLES.glob("*.yaml"))
        raise Invalid(f"there is no policy {name}: name a file, or one of {', '.join([DEFAULT.name, *RIVALS, *samples])}")
    found = path if path.is_file() else sample
    try:
        document = found.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{found}: {error}") from error
    policies.compile(document, found.stem, 0)  # its mistakes now, not in an hour
    return Candidate(found.stem, documents={UNNAMED: document})


def desk_for(case: Case, tried: Candidate, scenario: Scenario) -> Any:
    if tried.rival:
        base = recorded_strategy(scenario) if tried.rival == "recorded" else rules_of_thumb(scenario)
        return new_desk(case, {queue.policy: base for queue in case.queues}, RIVALS[tried.rival])
    return new_desk(case, {name: policies.compile(text, name or tried.name, 0) for name, text in tried.documents.items()})


@dataclass
class _Given:
    record: Record
    scenario: Scenario
    agents: Sequence[Worker]
    shifts: Sequence[Shift]
    queue: Any


_given: _Given | None = None


def _start(given: _Given, niceness: int) -> None:
    global _given
    _given = given
    os.nice(max(0, niceness - os.nice(0)))


def _play(tried: Candidate, seed: int) -> Played:
    assert _given is not None
    given = _given
    case = draw(given.record, given.scenario, given.agents, given.shifts, seed)
    gc.freeze()  # the case is no garbage
    began = time.process_time()
    run = play(case, desk_for(case, tried, given.scenario), given.queue.put)
    took = time.process_time() - began
    return Played(tried.name, seed, measures.figures(case, run, given.scenario.target_seconds), run.waited, run.answered, run.agent, took)


def run_all(
    record: Record,
    scenario: Scenario,
    agents: Sequence[Worker],
    shifts: Sequence[Shift],
    tried: Sequence[Candidate],
    seeds: Sequence[int],
    workers: int,
    tell: Callable[[int], None] = lambda _calls: None,
) -> dict[str, list[Played]]:
    """By policy, one for each seed in their order. `tell` is told how many more calls were played."""
    tasks = [(one, seed) for seed in seeds for one in tried]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        given = _Given(record, scenario, agents, shifts, queue)
        with ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (given, os.nice(0))) as pool:
            futures = [pool.submit(_play, one, seed) for one, seed in tasks]
            waiting = set(futures)
            while waiting:
                try:
                    while True:
                        tell(queue.get(timeout=0.2))
                except Empty:
                    pass
                waiting = {future for future in waiting if not future.done()}
                for future in futures:
                    if future.done() and future.exception():
                        pool.shutdown(cancel_futures=True)
                        future.result()
            found: dict[str, list[Played]] = {one.name: [] for one in tried}
            for future in futures:
                played = future.result()
                found[played.name].append(played)
    return found


def summary(found: Mapping[str, Sequence[Played]]) -> dict[str, dict[str, Any]]:
    """By policy and figure its mean over the seeds and half the width of its interval."""
    told = {}
    for name, runs in found.items():
        rows = {}
        for figure in measures.TOLD:
            mean, half = measures.interval([one.figures[figure] for one in runs])
            rows[figure] = {"mean": mean, "half": half}
        told[name] = {**rows, "cpu_seconds": max(one.seconds for one in runs)}
    return told
