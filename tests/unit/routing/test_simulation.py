"""The simulator against figures that others published, and what it takes from a record of calls."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from click.testing import CliRunner

from services.routing.domain.entities import Queue
from services.routing.domain.needs import Need, Profile, Score, Seat, Terms, Waiting
from services.routing.domain.policy import Policy, Prefer, Segment
from services.routing.simulation import bounds, commands, figures, queueing, recorded, runner, scenario, survival
from services.routing.simulation.play import NOBODY, Call, Case, Run, Shift, Worker, new_desk, play
from services.routing.simulation.rivals import RIVALS, Rival
from services.routing.simulation.scenario import Scenario
from shared.errors import Invalid
from tests.unit.routing import centre

UTC = ZoneInfo("UTC")


# Closed formulas, against tables


def test_erlang_c_and_a_are_as_published() -> None:
    """Garnett, Mandelbaum & Reiman, Designing a call center with impatient customers (2002), table 1: 50 agents, 48 calls a minute of one
    minute each; with patience of two minutes on average, and without abandonment."""
    without = queueing.erlang_c(50, 48 / 60, 1 / 60)
    assert round(without.mean_wait, 1) == 20.8
    assert round(without.utilisation, 2) == 0.96
    assert round(without.longer_than(58.1), 3) == 0.100
    assert round(without.mean_wait * 48 / 60) == 17  # in queue

    patient = queueing.erlang_a(50, 48 / 60, 1 / 60, 1 / 120)
    assert round(patient.abandoned, 3) == 0.031
    assert round(patient.mean_wait, 1) == 3.7
    assert round(patient.longer_than(12.5), 2) == 0.10
    assert round(patient.mean_queue) == 3
    assert round(patient.utilisation, 2) == 0.93
    assert patient.answered_within(math.inf) == pytest.approx(1 - patient.abandoned, abs=1e-9)


def test_erlang_a_tends_to_erlang_c_and_to_erlang_b() -> None:
    nearly_patient = queueing.erlang_a(10, 8.0, 1.0, 1e-5)
    assert nearly_patient.delayed == pytest.approx(queueing.erlang_c(10, 8.0, 1.0).delayed, rel=1e-3)
    assert nearly_patient.mean_wait == pytest.approx(queueing.erlang_c(10, 8.0, 1.0).mean_wait, rel=1e-3)
    at_once = queueing.erlang_a(10, 8.0, 1.0, 1e6)
    assert at_once.abandoned == pytest.approx(queueing.erlang_b(10, 8.0), rel=1e-4)


def test_priorities_keep_the_work_that_waits() -> None:
    """Cobham 1954: for one server ρ = 0.7 in classes of 0.3 and 0.4, W = 0.7/0.7 and 0.7/(0.7 × 0.3). Kleinrock's conservation law: the mean
    over all classes is that of first come first served."""
    assert queueing.priority_waits(1, (0.3, 0.4), 1.0) == pytest.approx([1.0, 10 / 3])
    waits = queueing.priority_waits(6, (1.0, 2.0, 2.0), 1.0)
    assert np.dot(waits, (0.2, 0.4, 0.4)) == pytest.approx(queueing.erlang_c(6, 5.0, 1.0).mean_wait)


# The simulator, against the formulas, within its own intervals


def runs_of(engine: object, policy: Policy, seeds: int = 6, **centre_of: object) -> list[tuple[Case, Run]]:
    cases = [centre.markovian(seed, **centre_of) for seed in range(seeds)]  # type: ignore[arg-type]
    return [(case, play(case, new_desk(case, {"": policy}, engine) if engine else new_desk(case, {"": policy}))) for case in cases]


def holds(samples: list[float], value: float) -> None:
    mean, half = figures.interval(samples)
    assert abs(mean - value) <= half, (mean, half, value)


def test_the_live_engine_waits_as_erlang_c_says() -> None:
    found = runs_of(None, Policy(""), calls=600, servers=5, rate=0.04, service=100.0)
    expected = queueing.erlang_c(5, 0.04, 0.01)
    holds([float(run.waited[100:].mean()) for _, run in found], expected.mean_wait)
    holds([float((run.waited[100:] > 0).mean()) for _, run in found], expected.delayed)
    holds([float((run.waited[100:] > 60).mean()) for _, run in found], expected.longer_than(60))


def test_the_live_engine_loses_as_erlang_a_says() -> None:
    found = runs_of(None, Policy(""), calls=600, servers=5, rate=0.055, service=100.0, patience=150.0)
    expected = queueing.erlang_a(5, 0.055, 0.01, 1 / 150)
    holds([float(1 - run.answered[100:].mean()) for _, run in found], expected.abandoned)
    holds([float(run.waited[100:].mean()) for _, run in found], expected.mean_wait)
    holds([float((run.answered & (run.waited <= 20))[100:].mean()) for _, run in found], expected.answered_within(20))
    assert all(run.idle_while_waiting == 0 for _, run in found)


def test_strict_priority_waits_as_the_formula_says() -> None:
    policy = Policy("", segments=(Segment("first", weight=5, matches=lambda facts: facts["tier"] == "1"),))
    found = runs_of(RIVALS["strict-priority"], policy, calls=1000, servers=5, rate=0.04, service=100.0, shares=(0.7, 0.3))
    expected = queueing.priority_waits(5, (0.012, 0.028), 0.01)
    for value, wait in ((2.0, expected[0]), (1.0, expected[1])):
        holds([float(run.waited[np.array([call.value == value for call in case.calls])].mean()) for case, run in found], wait)


def test_a_weight_orders_but_the_bound_ends_it() -> None:
    """Ours, in the same queue: who counts more waits less than first come first served would have them, the others more, nobody beyond what the bound allows."""
    gold = Segment("gold", weight=5, matches=lambda facts: facts["tier"] == "1")
    of = {"calls": 400, "servers": 3, "rate": 0.029, "service": 100.0, "shares": (0.8, 0.2)}
    (case, plain), (_, ours), (_, bound) = (
        runs_of(None, policy, 1, **of)[0]
        for policy in (Policy(""), Policy("", bound_seconds=1e6, segments=(gold,)), Policy("", bound_seconds=0.001, segments=(gold,)))
    )
    worthy = np.array([call.value == 2 for call in case.calls])
    assert ours.waited[worthy].mean() < plain.waited[worthy].mean()
    assert ours.waited[~worthy].mean() > plain.waited[~worthy].mean()
    assert bound.waited.tolist() == plain.waited.tolist()


def test_who_decides_is_the_same_with_and_without_the_record() -> None:
    case = centre.markovian(3, 300, 4, 0.045, 100.0, 200.0)
    told, silent = new_desk(case, {}), new_desk(case, {})
    told.explains = True
    assert play(case, told).agent.tolist() == play(case, silent).agent.tolist()


# Shifts, wrap-up, and what is counted


def small(calls: list[Call], shifts: list[Shift]) -> Case:
    agents = [Worker("ann", {"line": 5}), Worker("ben", {"line": 1, "other": 1})]
    return Case(calls, agents, shifts, [Queue(name, required_skills={name: 1}, wrap_up=False) for name in ("line", "other")])


def test_a_shift_ends_after_the_call_that_is_on() -> None:
    calls = [
        Call("c1", 10.0, "line", 500.0, 100.0, wrap_up=5.0),
        Call("c2", 30.0, "line", 40.0, 100.0),
        Call("c3", 200.0, "line", 30.0, 10.0),
    ]
    run = play(case := small(calls, [Shift("ann", 0.0, 50.0)]), new_desk(case, {}))
    assert run.answered.tolist() == [True, False, False]
    assert run.waited.tolist() == [0.0, 40.0, 30.0]
    assert run.busy.tolist() == [105.0, 0.0]
    assert run.present.tolist() == [115.0, 0.0]


def test_figures_of_a_few_calls() -> None:
    calls = [Call("c1", 0.0, "line", 99.0, 50.0, value=3.0), Call("c2", 1.0, "line", 99.0, 50.0), Call("c3", 2.0, "other", 10.0, 50.0)]
    case = small(calls, [Shift("ann", 0.0, 4000.0), Shift("ben", 0.0, 0.5)])
    run = play(case, new_desk(case, {}))
    found = figures.figures(case, run)
    assert (found["offered"], found["answered"], found["abandoned"]) == (3, 2, 1)
    assert found["service_level_20s"] == pytest.approx(1 / 3)
    assert found["average_speed_of_answer_s"] == pytest.approx(24.5)
    assert found["value_weighted_wait_s"] == pytest.approx((0 * 3 + 49 + 10) / 5)
    assert found["max_wait_s"] == pytest.approx(49.0)
    assert found["max_wait_staffed_s"] == pytest.approx(49.0)  # nobody was there for `other`
    later = [Shift("ann", 0.0, 30.0), Shift("ann", 40.0, 4000.0), Shift("ben", 0.0, 0.5)]
    assert figures.figures(small(calls, later), run)["max_wait_staffed_s"] == pytest.approx(39.0)
    assert found["skill_fit"] == 1.0


def test_why_two_runs_differ() -> None:
    calls = [Call("c1", 0.0, "line", 99.0, 50.0, value=3.0), Call("c2", 1.0, "line", 99.0, 50.0), Call("c3", 2.0, "other", 10.0, 50.0)]
    case = small(calls, [Shift("ann", 0.0, 30.0), Shift("ann", 40.0, 99.0)])
    here = Run(np.array([0.0, 59.0, 10.0]), np.array([0, 0, NOBODY]), np.array([True, True, False]), np.zeros(2), np.zeros(2))
    there = replace(here, waited=np.array([20.0, 60.0, 5.0]), answered=np.array([True, False, True]))
    found = figures.why(case, here, there)
    assert found["mean_wait_by_value_s"] == {"3": -20.0, "1": 2.0}
    assert (found["answered_here_alone"], found["answered_there_alone"]) == (
        {"calls": 1, "mean_wait_s": 59.0}, {"calls": 1, "mean_wait_s": 5.0},
    )  # fmt: skip
    assert found["longest_wait"] == {
        "type": "line", "arrived": "1970-01-01 00:00", "here_s": 59.0, "there_s": 60.0, "nobody_there_s": pytest.approx(10.0),
    }  # fmt: skip


def test_idle_agents_while_somebody_waits_are_counted() -> None:
    case = small([Call("c1", 10.0, "line", 25.0, 50.0)], [Shift("ann", 0.0, 100.0)])

    class Lazy(Rival):
        def decide(self, _now: float, limit: int = 64, _explain: bool = True) -> list:
            self._news = False
            return []

    assert play(case, new_desk(case, {}, Lazy)).idle_while_waiting == pytest.approx(25.0)


def test_intervals_are_students() -> None:
    mean, half = figures.interval([1.0, 2.0, 3.0])
    assert (mean, round(half, 3)) == (2.0, 2.484)  # t(0.975, 2) = 4.303, s = 1
    assert math.isnan(figures.interval([1.0])[1])
    one = dict.fromkeys(figures.TOLD, 1.0)
    told = figures.compare([one | {"skill_fit": 2.0 + n} for n in (0.0, 0.1)], [one | {"abandoned": 0.5} for _ in range(2)])
    assert {name: told[name]["verdict"] for name in ("skill_fit", "abandoned", "p95_wait_s")} == {
        "skill_fit": "better", "abandoned": "worse", "p95_wait_s": "same",
    }  # fmt: skip
    assert {row["verdict"] for row in figures.compare([one | {"skill_fit": 2.0}], [one]).values()} == {"seed alone"}


# Patience


def test_the_product_limit_is_as_published() -> None:
    """Weeks of remission under 6-MP (Freireich et al. 1963), the standard example, as in Cox & Oakes, Analysis of Survival Data, 1984."""
    weeks = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    ended = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    fit = survival.kaplan_meier(np.array(weeks), np.array(ended, dtype=bool), least_at_risk=1)
    assert fit.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert fit.shares.round(3).tolist() == [0.857, 0.807, 0.753, 0.69, 0.627, 0.538, 0.448]
    assert survival.exponential_rate(np.array(weeks), np.array(ended)) == pytest.approx(9 / 359)


def test_patience_is_found_again_under_censoring() -> None:
    chance = np.random.default_rng(5)
    patience, reached = chance.exponential(300, 20_000), chance.exponential(100, 20_000)
    fit = survival.kaplan_meier(np.minimum(patience, reached), patience <= reached)
    assert fit.mean == pytest.approx(300, rel=0.1)
    stayed = np.full(20_000, 60.0)
    drawn = fit.longer_than(stayed, chance.random(20_000))
    assert drawn.min() >= 60
    assert drawn.mean() - 60 == pytest.approx(300, rel=0.1)  # it has no memory


# Telephony systems' strategies


def asked(strategy: str, times: int) -> list[str]:
    rival, profile = Rival(strategy), Profile(channels=frozenset({"voice"}))
    need, order = Need("line", "voice"), []
    for number in range(times):
        for agent in "abc":
            rival.put_agent(Seat(agent, profile, "available", frozenset({"voice"}), 0, {"a": 5.0, "b": 3.0, "c": 4.0}[agent]))
        rival.put_contact(Waiting(f"c{number}", float(number), need, Terms()))
        order.append(rival.decide(float(number))[0].agent)
    return order


def test_who_is_asked() -> None:
    assert asked("longest_idle", 2) == ["b", "b"]
    assert asked("round_robin", 4) == ["a", "b", "c", "a"]
    assert asked("fewest_calls", 4) == ["a", "b", "c", "a"]
    assert asked("least_recent", 4) == ["a", "b", "c", "a"]


# Bounds


def test_nobody_does_better_than_the_clairvoyant() -> None:
    case = centre.markovian(4, 250, 4, 0.045, 100.0, 120.0, shares=(0.8, 0.2))
    run = play(case, new_desk(case, {}))
    ours, best = figures.figures(case, run), bounds.clairvoyant(case, run)
    assert best["service_level_20s"] >= ours["service_level_20s"]
    assert best["abandoned"] <= ours["abandoned"]
    assert best["value_weighted_wait_s"] <= ours["value_weighted_wait_s"]
    assert best["skill_fit"] >= ours["skill_fit"]


def test_the_clairvoyant_is_right_about_three_calls() -> None:
    calls = [Call("c1", 0.0, "line", 30.0, 50.0), Call("c2", 1.0, "line", 500.0, 9.0), Call("c3", 2.0, "line", 61.0, 9.0, value=2.0)]
    case = small(calls, [])
    run = Run(np.array([0.0, 49.0, 61.0]), np.array([0, 0, NOBODY]), np.array([True, True, False]), np.zeros(2), np.zeros(2))
    best = bounds.clairvoyant(case, run)
    assert best["abandoned"] == 1
    assert best["service_level_20s"] == pytest.approx(1 / 3)
    assert best["value_weighted_wait_s"] == pytest.approx((0 + 49 + 2 * 61) / 4)  # c2 would wait so long that it is given the moment at 50


def test_one_pooled_line_bounds_any_order_where_talk_does_not_differ_by_caller() -> None:
    """Alike agents, exponential talk: no order of the line, with or without skills, loses fewer on average than who gives up first."""
    lost, best, level, most = [], [], [], []
    for seed in range(8):
        case = centre.markovian(seed, 250, 4, 0.045, 100.0, 120.0)
        run = play(case, new_desk(case, {}, RIVALS["pooled-fcfs"]))
        bound = bounds.one_line(case, run)
        lost.append(float((~run.answered).sum()))
        level.append(float((run.answered & (run.waited <= 20)).mean()))
        best.append(bound["abandoned"])
        most.append(bound["service_level_20s"])
    assert np.mean(best) < np.mean(lost)
    assert np.mean(most) > np.mean(level)


def test_one_line_is_right_about_four_calls() -> None:
    """One agent, 50 s a call: c1 at once; c2 leaves at 51 and so goes at 50, before c3, who leaves at 90 unserved; c4 at 100."""
    calls = [
        Call("c1", 0.0, "line", 99.0, 50.0), Call("c2", 40.0, "other", 11.0, 50.0), Call("c3", 5.0, "line", 85.0, 50.0),
        Call("c4", 90.0, "line", 50.0, 50.0),
    ]  # fmt: skip
    case = small(sorted(calls, key=lambda call: call.at), [Shift("ann", 0.0, 101.0)])
    run = Run(np.zeros(4), np.full(4, NOBODY), np.zeros(4, dtype=bool), np.zeros(2), np.zeros(2))
    assert bounds.one_line(case, run)["abandoned"] == 1
    assert bounds.one_line(case, run)["service_level_20s"] == 3 / 4  # c1, c2, and c4, who waits 10 s


def test_pooled_is_erlang_a() -> None:
    case = centre.markovian(4, 4000, 5, 0.055, 100.0, 150.0)
    expected = queueing.erlang_a(5, 0.055, 0.01, 1 / 150)
    assert bounds.pooled(case, 1 / 150)["abandoned"] / 4000 == pytest.approx(expected.abandoned, abs=0.04)


# From a record


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return centre.record(tmp_path / "calls.csv")


def test_skills_and_presence_are_found_in_the_record(calls: Path) -> None:
    record = recorded.read_calls(calls, UTC)
    agents, shifts = scenario.staffing(record, Scenario())
    skills = {agent.id: set(agent.skills) for agent in agents}
    assert skills == {"ann": {"sales"}, "ben": {"sales"}, "cem": {"sales", "tech"}, "dao": {"sales", "tech"}}
    hours = sum(shift.until - shift.since for shift in shifts) / 3600
    assert 0.75 * 4 * 2 * 8 < hours <= 4 * 2 * 8.5
    for start, agent, talk in zip(record.at + record.waited, record.agent, record.service, strict=True):
        if agent:
            assert any(shift.agent == agent and shift.since <= start and start + talk / 2 <= shift.until for shift in shifts)


def served(agent: str, starts: list[float], talk: float, others: tuple[tuple[float, float], ...] = ()) -> scenario.Record:
    """Calls answered by one agent at once, and others (arrival, wait) that nobody answered."""
    at = [*starts, *(arrival for arrival, _ in others)]
    order, calls = np.argsort(at, kind="stable"), len(at)
    answered = np.arange(calls) < len(starts)
    waited = np.array([0.0] * len(starts) + [wait for _, wait in others])
    return scenario.Record(
        np.array(at)[order], ["line"] * calls, [""] * calls, waited[order], answered[order], np.where(answered, talk, 0.0)[order],
        [agent if one else "" for one in answered[order].tolist()], np.zeros(calls, dtype=int),
    )  # fmt: skip


def test_an_absence_is_where_callers_were_overlooked() -> None:
    """Calls of 100 s at 0 and 1000. Nobody waited in between: there. One waited from 400 to 500: then away, and for half of the rest,
    which the record leaves open. One waited from before the first call ended: gone since the middle of that call, where the wish to go
    came, or else each absence would be half a call shorter in the simulation than in the record."""

    def shifts(others: tuple[tuple[float, float], ...], **told: float) -> list[tuple[float, float]]:
        found = scenario.staffing(served("ann", [0.0, 1000.0], 100.0, others), replace(Scenario(least_calls=1), **told))
        return [(shift.since, shift.until) for shift in found[1]]

    assert shifts(()) == [(0, 1050)]
    assert shifts(((400.0, 8.0),)) == [(0, 1050)]
    assert shifts(((400.0, 100.0),)) == [(0, 250), (750, 1050)]
    assert shifts(((400.0, 100.0),), absent_while_nobody_waits=0.0) == [(0, 400), (500, 1050)]
    assert shifts(((400.0, 100.0),), absent_while_nobody_waits=1.0) == [(0, 100), (1000, 1050)]
    assert shifts(((90.0, 400.0),)) == [(0, 50), (745, 1050)]
    assert shifts((), absent_after_seconds=800.0) == [(0, 50), (1000, 1050)]


def test_pauses_are_those_of_agents_for_whom_somebody_waits() -> None:
    """After each call of 10 s the agent needs 6 s, and every second time 20. Callers always wait; without them the pauses say nothing."""
    starts = np.cumsum([0.0] + [16.0, 30.0] * 100).tolist()
    crowd = tuple((at, 100.0) for at in np.arange(0.0, starts[-1], 50.0).tolist())
    workers = scenario.staffing(record := served("ann", starts, 10.0, crowd), Scenario(least_calls=1))[0]
    fit = scenario.pauses(record, workers)
    assert fit.share(np.array([5.9, 6.0, 19.9, 20.0])).round(2).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert scenario.pauses(served("ann", starts, 10.0), workers).share(np.array(60.0)) == 1.0
    drawn = [call.wrap_up for call in scenario.draw(record, Scenario(), workers, [], 1).calls]
    assert np.mean(drawn) == pytest.approx(13, rel=0.1)
    assert scenario.draw(served("ann", starts, 10.0), Scenario(), workers, [], 1).calls[0].wrap_up == 0.0


def test_a_small_centre_has_time_after_calls_too() -> None:
    """Ten pauses of 6 or 20 s are too few for a staircase: the exponential tail is all that is known, cut at the longest pause."""
    starts = np.cumsum([0.0] + [16.0, 30.0] * 5).tolist()
    crowd = tuple((at, 100.0) for at in np.arange(0.0, starts[-1], 50.0).tolist())
    workers = scenario.staffing(record := served("ann", starts, 10.0, crowd), Scenario(least_calls=1))[0]
    assert len(scenario.pauses(record, workers).times) == 0
    drawn = [call.wrap_up for seed in range(100) for call in scenario.draw(record, Scenario(), workers, [], seed).calls]
    assert 0 <= min(drawn) < max(drawn) <= 60
    assert np.mean(drawn) == pytest.approx(13, rel=0.15)


def test_presence_found_from_the_calls_gives_the_recorded_waits_back() -> None:
    """Played under the recorded strategy. Absences that no caller met are not found, so that waits come out somewhat short: by 11 %.
    Were presence to end with the last call and not in its middle, it would be 28 %."""
    was, found = [], []
    for seed in (1, 2, 3):
        record = centre.with_breaks(seed)
        case = scenario.draw(record, Scenario(), *scenario.staffing(record, Scenario()), seed)
        was.append(record.waited.mean())
        found.append(play(case, new_desk(case, {}, RIVALS["longest-idle"])).waited.mean())
    assert np.mean(found) == pytest.approx(np.mean(was), rel=0.2)


def test_the_draw_looks_at_no_outcome(calls: Path) -> None:
    record = recorded.read_calls(calls, UTC)
    agents, shifts = scenario.staffing(record, Scenario())
    values = [call.value for call in scenario.draw(record, Scenario(), agents, shifts, 7).calls]
    other = replace(record, waited=record.waited[::-1], answered=record.answered[::-1], service=record.service[::-1])
    assert [call.value for call in scenario.draw(other, Scenario(), agents, shifts, 7).calls] == values
    assert [call.value for call in scenario.draw(record, Scenario(), agents, shifts, 8).calls] != values


def test_what_the_record_tells_is_kept(calls: Path) -> None:
    record = recorded.read_calls(calls, UTC)
    case = scenario.draw(record, Scenario(), *scenario.staffing(record, Scenario()), 1)
    for call, waited, answered, talk in zip(case.calls, record.waited, record.answered, record.service, strict=True):
        assert call.patience >= waited if answered else call.patience == max(1.0, waited)
        assert not answered or call.service == talk
    by_customer: dict[str, set[float]] = {}
    for call in case.calls:
        if call.customer:
            by_customer.setdefault(call.customer, set()).add(call.value)
    assert {len(values) for values in by_customer.values()} == {1}


def test_agents_go_to_a_file_and_back(calls: Path, tmp_path: Path) -> None:
    agents, shifts = scenario.staffing(recorded.read_calls(calls, UTC), Scenario())
    recorded.write_agents(tmp_path / "agents.csv", agents, shifts, UTC)
    again, same = recorded.read_agents(tmp_path / "agents.csv", UTC)
    assert {agent.id: agent.skills for agent in again} == {agent.id: agent.skills for agent in agents}
    assert same == shifts


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("arrival,type\n", "no column wait_s"),
        ("arrival,type,wait_s,outcome,service_s,agent\n2026-03-02T09:00:00,sales,-1,answered,5,ann\n", "line 2: wait_s must be"),
        ("arrival,type,wait_s,outcome,service_s,agent\nyesterday,sales,1,answered,5,ann\n", "line 2: 'yesterday' is no time"),
        ("arrival;type;wait_s;outcome;service_s;agent\n", "no column arrival.* says: arrival;type"),
        ("arrival,type,wait_s,outcome,service_s,agent\n9999-01-01T00:00:00,sales,1,answered,5,ann\n", "line 2: '9999.*' is not between"),
        ("arrival,type,wait_s,outcome,service_s,agent\n2026-03-02T09:00:00,sales,long,answered,5,ann\n", "line 2: wait_s must be"),
        (
            "arrival,type,wait_s,outcome,service_s,agent,priority\n2026-03-02T09:00:00,sales,1,answered,5,ann,high\n",
            "line 2: priority must be",
        ),
        ("arrival,type,wait_s,outcome,service_s,agent\n2026-03-02T09:00:00,sales,1,phantom,5,ann\n", "no call was answered"),
    ],
)
def test_a_record_that_is_none_is_refused(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text(text)
    with pytest.raises(Invalid, match=what):
        recorded.read_calls(tmp_path / "calls.csv", UTC)


def test_a_record_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_bytes(b"arrival,type,wait_s,outcome,service_s,agent\n2026-03-02T09:00:00,Pr\xe9s,1,answered,5,ann\n")
    with pytest.raises(Invalid, match="not in UTF-8"):
        recorded.read_calls(tmp_path / "calls.csv", UTC)


def test_a_record_with_a_gap_of_years_is_reckoned_by_the_half_hours_that_have_calls() -> None:
    calls = [Call("c1", 0.0, "line", 99.0, 50.0), Call("c2", 1.8e9, "line", 99.0, 50.0)]
    case = small(calls, [Shift("ann", 0.0, 900.0), Shift("ann", 1.8e9, 1.8e9 + 900)])
    assert bounds.pooled(case, 0.01)["abandoned"] == pytest.approx(2 * 0.5, abs=0.1)  # half an agent: half the time nobody


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tiers: [{tier: gold, share: 0.5, value: 2}]", "make 1 together"),
        ("patience: 5", "patience, which means nothing"),
        ("least_calls: many", "least_calls must be a number"),
        ("target_seconds: .inf", "target_seconds must be a number"),
        ("absent_while_nobody_waits: 2", "absent_while_nobody_waits must be a share from 0 to 1"),
        ("timezone: Atlantis", "unknown"),
        ("[]", "keys and values"),
    ],
)
def test_a_scenario_that_is_none_is_refused(text: str, what: str) -> None:
    with pytest.raises(Invalid, match=what):
        scenario.read(text)


def test_the_shipped_scenario_is_the_default() -> None:
    assert scenario.read((commands.HERE / "scenario.yaml").read_text()) == Scenario()


def test_a_policy_goes_by_name_or_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("bound_seconds: 60")
    assert runner.candidate(str(tmp_path / "mine.yaml")) == runner.Candidate("mine", documents={"": "bound_seconds: 60"})
    assert runner.candidate("longest-idle").rival == "longest-idle"
    assert runner.candidate("value-and-patience").documents
    with pytest.raises(Invalid, match="there is no policy nothing"):
        runner.candidate("nothing")


def test_the_command(calls: Path, tmp_path: Path) -> None:
    """Policies and seeds in processes of their own; of one seed every time the same."""
    picture = tmp_path / "picture.png"
    options = [
        "--calls",
        str(calls),
        "--policy",
        "value-and-patience,longest-idle,recorded",
        "--seeds",
        "2",
        "--plot",
        str(picture),
        "--json",
    ]
    outcome = CliRunner().invoke(commands.simulate, options, catch_exceptions=False)
    told = json.loads(outcome.stdout)
    assert set(told["policies"]) == {"value-and-patience", "longest-idle", "recorded"}
    assert told["policies"]["value-and-patience"]["offered"]["mean"] == told["calls"] == 300
    assert set(told["references"]) == {"pooled Erlang A", "one pooled line", "clairvoyant"}
    assert set(told["compared"]) == {"longest-idle", "recorded"}
    waits = {row["hour"]: (row["mean_wait_s_recorded"], row["mean_wait_s_simulated"]) for row in told["flow"]}
    assert np.corrcoef(np.array(list(waits.values())).T)[0, 1] > 0.8  # the busy hours of the record are busy in the simulation
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_record_in_which_nobody_gave_up_has_no_erlang_a_and_no_traceback(tmp_path: Path) -> None:
    calls = tmp_path / "calls.csv"
    calls.write_text("arrival,type,wait_s,outcome,service_s,agent\n1999-01-04T08:00:00,PS,3,answered,100,a\n")
    options = ["--calls", str(calls), "--policy", "pooled-fcfs", "--seeds", "1", "--jobs", "1", "--json"]
    outcome = CliRunner().invoke(commands.simulate, options, catch_exceptions=False)
    assert json.loads(outcome.stdout)["references"]["pooled Erlang A"] == {}


@pytest.mark.parametrize(("seeds", "verdict"), [((1,), "ours less theirs, seed alone: fit +1.0000; how much"), ((1, 2), "better on fit\n")])
def test_of_one_seed_nothing_is_called_better(capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...], verdict: str) -> None:
    one = dict.fromkeys(figures.TOLD, 1.0)
    ours, theirs = [one | {"skill_fit": 2.0} for _ in seeds], [one for _ in seeds]
    rows = {name: dict(zip(("mean", "half"), figures.interval([run[name] for run in ours]), strict=True)) for name in figures.TOLD}
    told = {
        "calls": 1,
        "agents": 1,
        "agent_hours": 1.0,
        "seeds": seeds,
        "policies": {"ours": {**rows, "cpu_seconds": 1.0}},
        "references": {},
    }
    commands._print({**told, "compared": {"theirs": figures.compare(ours, theirs)}}, "ours")
    text = capsys.readouterr().out
    assert verdict in text
    assert ("better" in text) == ("±" in text) == (len(seeds) > 1)


@pytest.mark.parametrize("options", [["--jobs", "-3"], ["--seed", "-5"]])
def test_options_that_make_no_sense_are_refused_by_name(tmp_path: Path, options: list[str]) -> None:
    calls = tmp_path / "calls.csv"
    calls.touch()
    outcome = CliRunner().invoke(commands.simulate, ["--calls", str(calls), *options])
    assert outcome.exit_code == 2
    assert options[0] in outcome.output


def test_a_policy_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match=r"odd\.yaml"):
        runner.candidate(str(tmp_path / "odd.yaml"))


def test_a_policy_that_prefers_by_scores_of_quality_is_played_with_them() -> None:
    """With both free, who may do better is asked; by the built-in policy who has been idle longest."""
    queue = Queue("line", wrap_up=False, policy="gold")
    agents = [Worker("ann", {}, {}, {"card": Score(0.2, math.inf)}), Worker("bob", {}, {}, {"card": Score(0.9, math.inf)})]
    calls = [Call(f"c{number}", 1000.0 * number, "line", math.inf, 10.0) for number in range(1, 5)]
    case = Case(calls, agents, [Shift(agent.id, 0.0, 9999.0) for agent in agents], [queue])
    gold = Policy("gold", prefer=Prefer(scores={"card": 1.0}))
    served = [[case.agents[number].id for number in play(case, new_desk(case, policies)).agent] for policies in ({"gold": gold}, {})]
    assert served == [["bob"] * 4, ["ann", "bob", "ann", "bob"]]
