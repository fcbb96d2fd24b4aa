"""The estimated wait: the formulas, what is learned, and how right they are in a queue that is simulated."""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Iterator
from functools import partial
from statistics import fmean, stdev
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing.domain.errors import Invalid
from services.routing.domain.estimate import Calibration, Errors, Estimate, Patience, ServiceTimes, expected_wait, harmonic


class TestExpectedWait:
    def test_without_abandonment_one_service_completion_for_each_before_and_one_more(self) -> None:
        assert expected_wait(ahead=0, servers=10, service_seconds=300) == 30
        assert expected_wait(ahead=4, servers=10, service_seconds=300) == 150
        assert expected_wait(ahead=0.5, servers=10, service_seconds=300) == 45

    def test_those_ahead_who_give_up_shorten_it(self) -> None:
        by_hand = sum(1 / (10 / 300 + i / 200) for i in range(5))
        assert expected_wait(4, 10, 300, 1 / 200) == pytest.approx(by_hand, rel=1e-10)

    @pytest.mark.parametrize(("servers", "rate"), [(1, 1 / 60), (3, 1 / 200), (200, 1 / 30), (50, 1e-9), (1, 10.0)])
    @pytest.mark.parametrize("ahead", [0, 1, 7, 300, 20_000])
    def test_the_closed_form_is_the_sum(self, ahead: int, servers: int, rate: float) -> None:
        by_hand = math.fsum(1 / (servers / 300 + i * rate) for i in range(ahead + 1))
        assert expected_wait(ahead, servers, 300, rate) == pytest.approx(by_hand, rel=1e-9)

    def test_a_rate_that_vanishes_leads_to_the_simple_formula(self) -> None:
        for rate in (1e-6, 1e-9, 1e-12, 1e-15, 1e-18, 1e-300, 0.0):
            assert expected_wait(20, 5, 300, rate) == pytest.approx(1260, rel=3000 * rate + 1e-12)

    def test_a_million_ahead_costs_no_more_than_one(self) -> None:
        assert expected_wait(1e9, 100, 300, 1 / 300) == pytest.approx(300 * math.log(1e9 / 100), rel=0.01)

    def test_nobody_could(self) -> None:
        assert expected_wait(0, 0, 300) is None
        assert expected_wait(0, 0, 300, idle=0) is None

    def test_an_idle_agent_takes_one_at_once(self) -> None:
        assert expected_wait(ahead=0, servers=3, service_seconds=300, idle=1) == 0
        assert expected_wait(ahead=1, servers=3, service_seconds=300, idle=1) == 100
        assert expected_wait(ahead=2, servers=3, service_seconds=300, idle=1) == 200

    @pytest.mark.parametrize(
        "numbers", [(-1, 1, 300), (math.nan, 1, 300), (1, -1, 300), (1, 1, 0), (1, 1, math.inf), (1, 1, 300, -0.1), (1, 1, 300, 0, -1)]
    )
    def test_numbers_that_make_no_sense(self, numbers: tuple[float, ...]) -> None:
        with pytest.raises(Invalid):
            expected_wait(*numbers)

    @given(st.floats(0, 1e7), st.floats(0, 1e4), st.integers(1, 10_000), st.floats(1, 1e5), st.floats(0, 10))
    def test_more_ahead_is_longer_more_servers_or_less_patience_is_shorter(
        self, ahead: float, more: float, servers: int, seconds: float, rate: float
    ) -> None:
        def wait(ahead: float = ahead, servers: int = servers, rate: float = rate) -> float:
            found = expected_wait(ahead, servers, seconds, rate)
            assert found is not None and math.isfinite(found) and found >= 0
            return found * (1 + 1e-9)

        same = wait() / (1 + 1e-9) ** 2
        assert wait(ahead=ahead + more) >= same
        assert wait(servers=servers + 1) * (1 - 1e-8) <= wait()
        assert wait(rate=rate + 0.01) * (1 - 1e-8) <= wait()

    @given(st.floats(1e-6, 1e12), st.floats(0, 1e9))
    def test_one_term_more_adds_its_reciprocal(self, start: float, count: float) -> None:
        assert harmonic(start, count + 1) - harmonic(start, count) == pytest.approx(1 / (start + count), rel=1e-6, abs=1e-9)
        assert harmonic(start, 1) == pytest.approx(1 / start, rel=1e-9)


class TestServiceTimes:
    def test_the_prior_while_nothing_is_known(self) -> None:
        assert ServiceTimes.assume(mean_seconds=240).mean == 240

    def test_little_data_moves_it_a_little(self) -> None:
        times = ServiceTimes.assume(mean_seconds=300, contacts=5)
        for _ in range(5):
            times.served(600)
        assert times.mean == pytest.approx(450, rel=0.01)

    def test_it_follows_a_change_and_forgets_the_prior(self) -> None:
        times = ServiceTimes.assume(mean_seconds=9000)
        for seconds in [300.0] * 1000 + [450.0] * 1000:
            times.served(seconds)
        assert times.mean == pytest.approx(450, rel=0.01)

    def test_a_wrap_up_forgotten_overnight_does_not_spoil_it(self) -> None:
        times = ServiceTimes.assume(mean_seconds=300)
        for _ in range(500):
            times.served(300)
        times.served(14 * 3600)
        assert times.mean < 335

    def test_it_stays_something_to_divide_by(self) -> None:
        times = ServiceTimes.assume()
        for _ in range(10_000):
            times.served(0)
        assert times.mean == 1

    def test_of_two_processes(self) -> None:
        one, two = ServiceTimes.assume(), ServiceTimes.assume()
        for _ in range(200):
            one.served(200)
            two.served(400)
        one.merge(two)
        assert one.mean == pytest.approx(300, rel=0.01)
        assert one.contacts == one.MEMORY

    def test_to_a_row_and_back(self) -> None:
        times = ServiceTimes.assume(mean_seconds=120)
        times.served(77)
        assert ServiceTimes.from_row(json.loads(json.dumps(times.to_row()))) == times

    def test_no_time_before_zero(self) -> None:
        with pytest.raises(Invalid):
            ServiceTimes.assume().served(-1)
        with pytest.raises(Invalid):
            Patience.assume().waited(math.nan, abandoned=True)


class TestPatience:
    def test_the_prior_while_nothing_is_known(self) -> None:
        assert Patience.assume(mean_seconds=600).rate == pytest.approx(1 / 600)

    def test_those_answered_count_with_their_waiting(self) -> None:
        patience = Patience(abandonments=0, seconds=0)
        for _ in range(9):
            patience.waited(100, abandoned=False)
        patience.waited(100, abandoned=True)
        assert patience.rate == pytest.approx(1 / 1000, rel=0.01)

    def test_those_answered_at_once_say_nothing(self) -> None:
        patience = Patience.assume()
        patience.waited(100, abandoned=True)
        before = patience.to_row()
        for _ in range(10_000):
            patience.waited(0, abandoned=False)
        assert patience.to_row() == before

    def test_it_finds_the_rate_behind_answers_that_hide_it(self) -> None:
        draw, patience = random.Random(7), Patience.assume(mean_seconds=60)
        for _ in range(20_000):
            stays, until_answer = draw.expovariate(1 / 240), draw.expovariate(1 / 60)
            patience.waited(min(stays, until_answer), abandoned=stays < until_answer)
        assert patience.rate == pytest.approx(1 / 240, rel=0.15)

    def test_of_two_processes(self) -> None:
        one, two = Patience(100, 90_000), Patience(300, 90_000)
        one.merge(two)
        assert one.rate == pytest.approx(400 / 180_000)
        assert one.seconds == one.MEMORY_SECONDS

    def test_to_a_row_and_back(self) -> None:
        patience = Patience.assume()
        patience.waited(12.5, abandoned=True)
        assert Patience.from_row(json.loads(json.dumps(patience.to_row()))) == patience


class TestErrors:
    def test_what_is_reported(self) -> None:
        errors = Errors()
        errors.add(estimated=100, actual=160)  # within 50 %
        errors.add(estimated=40, actual=15)  # within 30 s
        errors.add(estimated=300, actual=100)  # neither
        errors.add(estimated=0, actual=3)  # no wait foreseen, none seen
        errors.add_abandoned(estimated=100, waited=20)
        errors.add_abandoned(estimated=100, waited=130)
        assert errors.figures() == {
            "answered": 3,
            "mean_absolute_error_seconds": (60 + 25 + 200) / 3,
            "bias_seconds": (-60 + 25 + 200) / 3,
            "share_within_50_percent": 1 / 3,
            "share_within_30_seconds": 1 / 3,
            "share_within_either": 2 / 3,
            "at_once": 1,
            "abandoned": 2,
            "abandoned_after_estimate": 1,
        }

    def test_of_nobody(self) -> None:
        assert Errors().figures()["bias_seconds"] is None

    def test_promised_at_once_and_left_waiting_is_an_error(self) -> None:
        errors = Errors()
        errors.add(estimated=0, actual=120)
        assert errors.figures()["bias_seconds"] == -120

    def test_sums_of_days_add_up(self) -> None:
        one, two = Errors(), Errors()
        one.add(10, 20)
        two.add(50, 20)
        one.merge(Errors.from_row(json.loads(json.dumps(two.to_row()))))
        assert one.figures()["mean_absolute_error_seconds"] == 20


class TestCalibration:
    def test_nothing_known_nothing_changed(self) -> None:
        assert Calibration().apply(120) == Estimate(seconds=120, raw=120)

    def test_a_queue_that_takes_twice_as_long_is_told_so(self) -> None:
        calibration = Calibration()
        for _ in range(1000):
            calibration.answered(calibration.apply(60), 120)
        assert calibration.apply(60).seconds == pytest.approx(120, rel=0.06)

    def test_one_contact_hardly_moves_it(self) -> None:
        calibration = Calibration()
        calibration.answered(calibration.apply(60), 600)
        assert 1 < calibration.factor < 1.15

    @pytest.mark.parametrize(("actual", "bound"), [(6000, 3), (0, 1 / 3)])
    def test_it_is_bounded(self, actual: float, bound: float) -> None:
        calibration = Calibration()
        for _ in range(3000):
            calibration.answered(calibration.apply(60), actual)
        assert calibration.factor == pytest.approx(bound)

    def test_the_first_in_line_is_not_told_too_little(self) -> None:
        """Their wait is exponential; a mean of logarithms would settle at 0.56."""
        draw, calibration, factors = random.Random(3), Calibration(), []
        for _ in range(20_000):
            calibration.answered(calibration.apply(30), draw.expovariate(1 / 30))
            factors.append(calibration.factor)
        assert fmean(factors[1000:]) == pytest.approx(1, abs=0.03)

    def test_who_abandons_early_does_not_make_the_queue_look_short(self) -> None:
        calibration = Calibration()
        for _ in range(1000):
            calibration.abandoned(calibration.apply(300), 10)
            calibration.abandoned(calibration.apply(300), 10, remaining=290)
        assert calibration.factor == pytest.approx(1, abs=0.01)
        assert calibration.errors.figures()["answered"] == 0

    def test_who_outlasts_the_estimate_proves_it_short(self) -> None:
        calibration = Calibration()
        for _ in range(1000):
            calibration.abandoned(calibration.apply(60), 150)
        assert calibration.factor > 2

    def test_an_agent_free_at_once_teaches_nothing(self) -> None:
        calibration = Calibration()
        calibration.answered(calibration.apply(0), 4)
        assert calibration.contacts == 0

    def test_merged_and_stored(self) -> None:
        one, two = Calibration(), Calibration()
        for _ in range(300):
            one.answered(one.apply(60), 120)
            two.answered(two.apply(60), 60)
        one.merge(Calibration.from_row(json.loads(json.dumps(two.to_row()))))
        assert one.contacts <= one.MEMORY
        assert one.factor == pytest.approx(1.5, rel=0.03)
        assert one.errors.answered == 600


class Arrival(NamedTuple):
    """Of a simulated queue: what was known on arrival, and what then happened (`potential`: the wait of one who stays)."""

    at: float
    ahead: int
    idle: int
    potential: float
    patience: float
    service: float
    ahead_in_the_end: int  # who still stands before it when it abandons

    @property
    def abandons(self) -> bool:
        return self.patience < self.potential

    @property
    def waited(self) -> float:
        return min(self.patience, self.potential)


def queue(seed: int, arrivals: int, agents: int, per_second: float, service: float, patience: float) -> Iterator[Arrival]:
    """M/M/n+M, first come first served. A contact's potential wait ends when the first agent is free of those before it who stayed."""
    draw, now = random.Random(seed), 0.0
    free_at = [0.0] * agents  # a heap
    leave_at: list[float] = []  # a heap: when those still waiting will leave the line
    for _ in range(arrivals):
        now += draw.expovariate(per_second)
        while leave_at and leave_at[0] <= now:
            heapq.heappop(leave_at)
        potential = max(0.0, free_at[0] - now)
        idle = sum(at <= now for at in free_at)
        stays = draw.expovariate(1 / patience)
        left_ahead = sum(at > now + stays for at in leave_at)
        arrival = Arrival(now, len(leave_at), idle, potential, stays, draw.expovariate(1 / service), left_ahead)
        yield arrival
        if arrival.waited:
            heapq.heappush(leave_at, now + arrival.waited)
        if not arrival.abandons:
            heapq.heapreplace(free_at, now + potential + arrival.service)


AGENTS, SERVICE, PATIENCE = 20, 300.0, 240.0
overloaded = partial(queue, agents=AGENTS, per_second=1.3 * AGENTS / SERVICE, service=SERVICE, patience=PATIENCE)


class TestInASimulatedQueue:
    def test_corrected_for_abandonment_it_is_unbiased_and_closer_than_the_simple_formula(self) -> None:
        biases, simple_biases, closer = [], [], []
        for seed in range(20):
            error, simple_error = [], []
            for arrival in list(overloaded(seed, 2500))[500:]:
                if arrival.idle:
                    continue
                estimate = expected_wait(arrival.ahead, AGENTS, SERVICE, 1 / PATIENCE)
                simple = expected_wait(arrival.ahead, AGENTS, SERVICE)
                assert estimate is not None and simple is not None
                error.append(estimate - arrival.potential)
                simple_error.append(simple - arrival.potential)
            biases.append(fmean(error))
            simple_biases.append(fmean(simple_error))
            closer.append(fmean(map(abs, simple_error)) - fmean(map(abs, error)))
        within = 3.3 * stdev(biases) / math.sqrt(len(biases))  # 99.9 %
        assert abs(fmean(biases)) < within < 3.0
        assert fmean(simple_biases) > 5 * within
        assert min(closer) > 0

    def test_with_everything_learned_on_the_way(self) -> None:
        """Priors far off, one pass: the rates are found, the factor stays near 1, and most estimates are good."""
        times, patience, calibration = ServiceTimes.assume(900), Patience.assume(60), Calibration()
        factors, bias = [], []
        for number, arrival in enumerate(overloaded(1, 20_000)):
            raw = expected_wait(arrival.ahead, AGENTS, times.mean, patience.rate, arrival.idle)
            assert raw is not None
            estimate = calibration.apply(raw)
            patience.waited(arrival.waited, arrival.abandons)
            if arrival.abandons:
                remaining = expected_wait(arrival.ahead_in_the_end, AGENTS, times.mean, patience.rate)
                calibration.abandoned(estimate, arrival.waited, remaining)
            else:
                times.served(arrival.service)
                calibration.answered(estimate, arrival.waited)
            if number > 4000:
                factors.append(calibration.factor)
                bias.append(estimate.seconds - arrival.potential)
        assert times.mean == pytest.approx(SERVICE, rel=0.2)
        assert patience.rate == pytest.approx(1 / PATIENCE, rel=0.2)
        assert 0.9 < fmean(factors) < 1.1
        assert abs(fmean(bias)) < 3
        assert (calibration.errors.figures()["share_within_either"] or 0) > 0.8
