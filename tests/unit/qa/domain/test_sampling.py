"""Samples: reproducible, with a known chance for everybody, and means that are right on average."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.qa.domain import sampling
from services.qa.domain.errors import Invalid
from services.qa.domain.sampling import Candidate, Risk, draw, needed, probabilities, weighted_mean


def frame_of(agents, new=()):
    """`agents`: contacts of each."""
    return [
        Candidate(f"{agent}-{number}", agent, ("voice", "chat")[number % 2], ("sales", "billing")[number % 3 // 2], agent in new)
        for agent, count in agents.items()
        for number in range(count)
    ]


def test_the_seed_alone_decides_and_not_the_order_in_which_contacts_come():
    frame = frame_of({"ann": 40, "bob": 70, "cho": 5})
    shuffled = random.Random(3).sample(frame, len(frame))
    assert draw(frame, 12, "week 47") == draw(shuffled, 12, "week 47")
    assert {one.id for one in draw(frame, 12, "week 47")} != {one.id for one in draw(frame, 12, "week 48")}


def test_agents_are_heard_equally_often_and_new_ones_twice_as_often():
    drawn = draw(frame_of({"ann": 400, "bob": 100, "new": 50}, new={"new"}), 20, 1)
    counts = {agent: sum(one.stratum.startswith(agent) for one in drawn) for agent in ("ann", "bob", "new")}
    assert counts == {"ann": 5, "bob": 5, "new": 10}
    assert {one.stratum.split("/")[0]: round(one.probability, 4) for one in drawn} == {"ann": 0.0125, "bob": 0.05, "new": 0.2}


def test_an_agents_share_is_spread_over_channels_and_queues():
    frame = [Candidate(str(n), "ann", "voice" if n < 90 else "chat", "sales") for n in range(100)]
    for seed in range(20):
        assert sum(one.stratum == "ann/chat/sales" for one in draw(frame, 10, seed)) == 1


def test_who_has_few_contacts_is_heard_in_all_and_the_rest_goes_to_others():
    drawn = draw(frame_of({"ann": 2, "bob": 50, "cho": 50}), 12, 1)
    assert sorted(one.probability for one in drawn) == pytest.approx([0.1] * 10 + [1.0] * 2)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), size=st.integers(1, 60), boost=st.floats(0.5, 5), seed=st.integers(0, 99)
)
def test_chances_are_positive_add_up_to_the_size_and_every_agent_gets_its_number(counts, size, boost, seed):
    frame = frame_of({f"a{number}": count for number, count in enumerate(counts)}, new={"a0"})
    chances = probabilities(frame, size, boost)
    assert ((chances > 0) & (chances <= 1)).all()
    assert chances.sum() == pytest.approx(min(size, len(frame)))
    drawn = draw(frame, size, seed, boost)
    assert len({one.id for one in drawn}) == len(drawn) == min(size, len(frame))
    for agent in {one.agent for one in frame}:
        expected = sum(chance for one, chance in zip(frame, chances, strict=True) if one.agent == agent)
        assert abs(sum(one.stratum.startswith(agent + "/") for one in drawn) - expected) < 1 + 1e-9


def test_everybody_is_drawn_as_often_as_their_chance_says():
    frame = frame_of({"ann": 3, "bob": 9, "cho": 20}, new={"cho"})
    chances = dict(zip((one.id for one in frame), probabilities(frame, 7), strict=True))
    seen = dict.fromkeys(chances, 0)
    for seed in range(1500):
        for one in draw(frame, 7, seed):
            seen[one.id] += 1
            assert one.probability == chances[one.id]
    for id, chance in chances.items():
        assert seen[id] / 1500 == pytest.approx(chance, abs=0.045)


def test_the_weighted_mean_is_right_where_the_plain_one_is_not():
    """A new agent is heard far more often and scores lower: the plain mean of what was heard is too low."""
    frame = frame_of({"ann": 300, "bob": 300, "new": 60}, new={"new"})
    scores = {one.id: (0.4 if one.new else 0.9) + 0.1 * (sum(one.id.encode()) % 7 - 3) / 7 for one in frame}
    truth = np.mean(list(scores.values()))
    means, plain, covered = [], [], 0
    for seed in range(200):
        drawn = draw(frame, 30, seed, boost_new=4.0)
        found = weighted_mean([(scores[one.id], one.probability) for one in drawn])
        means.append(found.value)
        plain.append(np.mean([scores[one.id] for one in drawn]))
        covered += found.low <= truth <= found.high
    assert np.mean(means) == pytest.approx(truth, abs=0.01)
    assert np.mean(plain) < truth - 0.15
    assert covered / 200 > 0.93


def test_with_unequal_chances_the_total_is_thompsons():
    """Thompson, Sampling (3rd ed. 2012), ch. 6, exercise 2: 3, 10 and 7 found with chances 0.1694, 0.4880 and 0.2710 are 64.03 in all
    (Horvitz and Thompson). The mean is that over the number of contacts, estimated in the same way (Hájek)."""
    chances = (0.1694, 0.4880, 0.2710)
    found = weighted_mean(list(zip((0.3, 1.0, 0.7), chances, strict=True)))
    assert found.value * 10 * sum(1 / chance for chance in chances) == pytest.approx(64.03, abs=0.005)


def test_with_equal_chances_the_variance_is_cochrans():
    """v = (1 - f) s² / n: Cochran, Sampling Techniques (3rd ed. 1977), (2.20)."""
    y = [0.2, 0.5, 0.9, 0.4]
    found = weighted_mean([(value, 4 / 10) for value in y])
    half = sampling.student_quantile(0.95, 3) * np.sqrt((1 - 0.4) * np.var(y, ddof=1) / 4)
    assert (found.value, found.high - found.value) == (pytest.approx(0.5), pytest.approx(half))


def test_it_is_right_on_average_over_every_possible_sample():
    """Every sample of 2 from 5: the mean of the means is the mean, and the mean of the variances the variance."""
    y = [0.1, 0.3, 0.35, 0.8, 0.9]
    means, variances = [], []
    for pair in itertools.combinations(y, 2):
        means.append(weighted_mean([(value, 0.4) for value in pair]).value)
        variances.append(sampling._variance(np.array(pair), np.array([0.4, 0.4]), float(np.mean(pair))))
    assert np.mean(means) == pytest.approx(np.mean(y))
    assert np.mean(variances) == pytest.approx(np.var(means))


def test_a_few_perfect_scores_are_not_certainty():
    found = weighted_mean([(1.0, 0.1)] * 5)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.5655, abs=1e-4)


def test_what_was_chosen_is_in_no_mean():
    with pytest.raises(Invalid, match="random sample"):
        weighted_mean([(0.5, 0.1), (0.2, None)])


def test_evaluations_needed_are_cochrans():
    """Sampling Techniques (3rd ed. 1977), p. 76: blood group O on an island of 3,200, half of them, ±5 % with t = 2: 400, and 356 of so few."""
    two_sigma = 0.9544997
    assert needed(None, 0.05, confidence=two_sigma) == 400
    assert needed(None, 0.05, population=3200, confidence=two_sigma) == 356
    assert needed(None, 0.05) == 385


@settings(max_examples=60, deadline=None)
@given(spread=st.floats(0.01, 0.5), within=st.floats(0.01, 0.3), population=st.one_of(st.none(), st.integers(2, 5000)))
def test_so_many_reach_the_width_and_never_more_than_there_are(spread, within, population):
    n = needed(spread, within, population)
    assert n >= 1
    if n > 3:
        assert needed(spread, within * 1.5, population) <= n
    if population is not None:
        assert n <= population
    if n >= 2 and (population is None or n < population):
        left = 1 - n / population if population else 1.0
        assert sampling.student_quantile(0.95, n - 1) * spread * np.sqrt(left / n) <= within


def test_risks_come_by_their_weight_and_what_was_drawn_before_not_again():
    risks = [Risk("a", ("dead_air",), 1.0), Risk("b", ("dead_air", "transfers"), 3.0), Risk("c", ("transfers",), 2.0), Risk("d", (), 0.0)]
    assert [one.id for one in sampling.by_risk(risks, 3, exclude={"c"})] == ["b", "a"]
