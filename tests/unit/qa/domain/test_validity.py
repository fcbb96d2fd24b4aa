"""Which criteria matter to customers: found where they do, called a ritual where they do not, and nothing claimed where little is known."""

import numpy as np
import pytest
from scipy import stats

from services.qa.domain import validity
from services.qa.domain.validity import Evaluated, adjusted_difference, benjamini_hochberg, propose, validities

NAN = np.nan
BERKELEY = {
    "A": ((512, 313), (89, 19)),
    "B": ((353, 207), (17, 8)),
    "C": ((120, 205), (202, 391)),
    "D": ((138, 279), (131, 244)),
    "E": ((53, 138), (94, 299)),
    "F": ((22, 351), (24, 317)),
}
"""(admitted, rejected) of men and of women in the six largest departments: Freedman, Pisani and Purves, Statistics (1978), ch. 2; R's UCBAdmissions."""


def rows_of(tables):
    """(x, y, cell): x = 1 for women, y = 1 for admitted."""
    cells = [
        (sex, admitted, number, count)
        for number, of in enumerate(tables.values())
        for sex, pair in enumerate(of)
        for admitted, count in zip((1.0, 0.0), pair, strict=True)
    ]
    counts = [cell[3] for cell in cells]
    return tuple(np.repeat([cell[place] for cell in cells], counts) for place in range(3))


def test_adjusting_turns_simpsons_paradox_around():
    """Berkeley's admissions: 30 % of the women and 45 % of the men, though within departments women do not fare worse."""
    x, y, cell = rows_of(BERKELEY)
    assert y[x == 1].mean() - y[x == 0].mean() == pytest.approx(-0.1416, abs=1e-4)
    unknown = np.full(len(x), NAN)
    effect, error, _ = adjusted_difference(x.astype(float), y, cell, unknown, np.arange(len(x)))
    weights, differences = [], []
    for number in range(6):
        women, men = y[(cell == number) & (x == 1)], y[(cell == number) & (x == 0)]
        weights.append(len(women) * len(men) / (len(women) + len(men)))
        differences.append(women.mean() - men.mean())
    assert effect == pytest.approx(np.average(differences, weights=weights))  # Cochran's weights (Biometrics 10, 1954, p. 417)
    assert 0 < effect < 0.05
    assert error == pytest.approx(0.0151, abs=0.0005)


def test_the_regression_is_nists():
    """NIST StRD, Norris: slope 1.00211681802045 (certified); its robust error is HC1's by the formula."""
    y = [
        0.1, 338.8, 118.1, 888.0, 9.2, 228.1, 668.5, 998.5, 449.1, 778.9, 559.2, 0.3, 0.1, 778.1, 668.8, 339.3, 448.9, 10.8, 557.7, 228.3,
        998.0, 888.8, 119.6, 0.3, 0.6, 557.6, 339.3, 888.0, 998.5, 778.9, 10.2, 117.6, 228.9, 668.4, 449.2, 0.2,
    ]  # fmt: skip
    x = [
        0.2, 337.4, 118.2, 884.6, 10.1, 226.5, 666.3, 996.3, 448.6, 777.0, 558.2, 0.4, 0.6, 775.5, 666.9, 338.0, 447.5, 11.6, 556.0, 228.1,
        995.8, 887.6, 120.2, 0.3, 0.3, 556.8, 339.1, 887.2, 999.0, 779.0, 11.1, 118.3, 229.2, 669.1, 448.9, 0.5,
    ]  # fmt: skip
    x, y = np.array(x), np.array(y)
    n = len(x)
    slope, error, degrees = adjusted_difference(x, y, np.zeros(n, dtype=int), np.full(n, NAN), np.zeros(n, dtype=int))
    assert slope == pytest.approx(1.00211681802045, rel=1e-12)
    left = y - y.mean() - slope * (x - x.mean())
    assert error == pytest.approx(np.sqrt(n / (n - 2) * ((x - x.mean()) ** 2 * left**2).sum()) / ((x - x.mean()) ** 2).sum())
    assert degrees == n - 2


def test_false_findings_are_benjamini_and_hochbergs():
    """Their example (J. R. Statist. Soc. B 57, 1995, §3.2): fifteen p values; four findings at 0.05, where Bonferroni has three."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    adjusted = benjamini_hochberg(p[::-1])[::-1]
    assert [one <= 0.05 for one in adjusted] == [True] * 4 + [False] * 11
    assert adjusted[3] == pytest.approx(0.0095 * 15 / 4)
    assert sum(one * 15 <= 0.05 for one in p) == 3


def test_contacts_of_one_agent_have_the_error_of_agents():
    """Each person's value told twice: the clustered error is that of Student's two samples of sleep (1908; R's `t.test(extra ~ group)` has
    t = -1.8608 for the difference of 1.58), times the correction for few clusters."""
    first, second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    y, x, person = np.repeat(np.array(first + second), 2), np.repeat([0.0, 1.0], 20), np.repeat(np.arange(20), 2)
    effect, error, degrees = adjusted_difference(x, y, np.zeros(40, dtype=int), np.full(40, NAN), person)
    few = 20 / 19 * 39 / 38 * 9 / 10  # Stata's, and 9/10 for the two samples' own n - 1
    assert (effect, error, degrees) == (pytest.approx(1.58), pytest.approx(1.58 / 1.8608 * np.sqrt(few), rel=1e-4), 19)


IMPORTS = np.array(
    [
        (149.3, 4.2, 108.1, 15.9), (161.2, 4.1, 114.8, 16.4), (171.5, 3.1, 123.2, 19.0), (175.5, 3.1, 126.9, 19.1), (180.8, 1.1, 132.1, 18.8),
        (190.7, 2.2, 137.7, 20.4), (202.1, 2.1, 146.0, 22.7), (212.4, 5.6, 154.1, 26.5), (226.1, 5.0, 162.3, 28.1), (231.9, 5.1, 164.3, 27.6),
        (239.0, 0.7, 167.6, 26.3),
    ]
)  # fmt: skip
"""What France produced, stored, consumed and imported, 1949 to 1959: Malinvaud, Statistical Methods of Econometrics (1968)."""


@pytest.mark.parametrize(
    ("penalty", "published"), [(0.003, (0.092, 0.217, 0.870)), (0.01, (0.304, 0.217, 0.654)), (0.04, (0.420, 0.213, 0.525))]
)
def test_the_pull_is_a_ridge(penalty, published):
    """Chatterjee and Hadi, Regression Analysis by Example, ch. 10, ridge estimates of the import data. The pull is towards 0 where the present
    weights all lie on a fourth criterion that tells nothing."""
    data = IMPORTS - IMPORTS.mean(axis=0)
    data /= np.sqrt((data**2).sum(axis=0))
    gram, xy = np.eye(4), np.zeros(4)
    gram[:3, :3], xy[:3] = data[:, :3].T @ data[:, :3], data[:, :3].T @ data[:, 3]
    found = validity._fit(gram, xy, np.array([1e-9, 1e-9, 1e-9, 1.0]), penalty)
    assert found[:3] == pytest.approx(published, abs=5e-4)


def test_without_a_pull_it_is_least_squares_with_no_weight_below_0():
    """The heat of cement (Hald 1952): all four have 1.551, 0.510, 0.102 and -0.144; without the fourth 1.696, 0.657 and 0.250 (Draper and Smith,
    Applied Regression Analysis, appendix B)."""
    cement = np.array(
        [
            (7, 26, 6, 60, 78.5), (1, 29, 15, 52, 74.3), (11, 56, 8, 20, 104.3), (11, 31, 8, 47, 87.6), (7, 52, 6, 33, 95.9), (11, 55, 9, 22, 109.2),
            (3, 71, 17, 6, 102.7), (1, 31, 22, 44, 72.5), (2, 54, 18, 22, 93.1), (21, 47, 4, 26, 115.9), (1, 40, 23, 34, 83.8), (11, 66, 9, 12, 113.3),
            (10, 68, 8, 12, 109.4),
        ]
    )  # fmt: skip
    centred = cement - cement.mean(axis=0)
    x, y = centred[:, :4], centred[:, 4]
    assert validity._fit(x.T @ x, x.T @ y, np.ones(4), 1e-9) == pytest.approx((1.696, 0.657, 0.250, 0.0), abs=5e-4)


def centre(n=6000, seed=0, effects=(0.25, 0.0, 0.0), agents=60):
    """Contacts of a centre in which criterion j raises the share satisfied by effects[j]; a bad queue is marked lower and satisfies less, so the last
    criterion, which is marked by the queue alone, looks as if it mattered."""
    rng = np.random.default_rng(seed)
    queue = rng.integers(0, 4, n)
    agent = rng.integers(0, agents, n)
    wait = rng.exponential(60, n) * (1 + queue)
    marks = (rng.random((n, len(effects))) < 0.65).astype(float)
    marks[:, -1] = rng.random(n) < 0.9 - 0.2 * queue
    skill = rng.normal(0, 0.05, agents)[agent]
    chance = 0.55 - 0.1 * queue - 0.0005 * np.minimum(wait, 300) + marks @ np.array(effects) + skill
    happy = (rng.random(n) < np.clip(chance, 0, 1)).astype(float)
    return Evaluated(("understood", "used_the_name", "greeting")[: len(effects)], marks, {"satisfied": happy}, queue, wait, agent)


def test_what_matters_serves_what_does_not_is_a_ritual_and_a_queue_does_not_deceive():
    understood, name, greeting = validities(centre())
    assert (understood.verdict, understood.reason) == ("serves", "effect")
    assert understood.low < 0.25 < understood.high
    assert (name.verdict, greeting.verdict) == ("ritual", "ritual")
    assert greeting.crude > 0.05
    assert -0.05 < greeting.low < greeting.high < 0.05


def test_all_criteria_and_outcomes_are_corrected_together():
    data = centre(n=800)
    data.outcomes["resolved"] = data.outcomes["satisfied"][::-1].copy()
    found = validities(data)
    assert [one.p_adjusted for one in found] == benjamini_hochberg([one.p for one in found])
    assert len(found) == 6


def test_what_annoys_customers_harms():
    assert validities(centre(effects=(0.25, -0.15, 0.0)))[1].verdict == "harms"


def test_of_few_contacts_nothing_is_claimed():
    small = centre(n=90)
    assert {(one.verdict, one.reason) for one in validities(small)} == {("not_enough_data", "few_contacts")}
    middling = validities(centre(n=300, effects=(0.02, 0.0, 0.0)))
    assert (middling[0].verdict, middling[0].reason) == ("not_enough_data", "unclear")
    assert middling[0].low < 0 < middling[0].high


def test_what_is_nearly_always_met_says_nothing():
    data = centre(n=2000)
    data.marks[:, 1] = 1.0
    data.marks[:19, 1] = 0.0
    assert validities(data)[1].reason == "hardly_varies"


def test_marks_and_outcomes_that_are_not_known_are_left_out():
    data = centre(n=2000)
    data.marks[::2, 0] = NAN
    data.outcomes["satisfied"][::5] = NAN
    assert validities(data)[0].contacts == 800


def test_contacts_of_one_agent_count_less_than_as_many_of_many():
    """A criterion that goes with the agent, as does the outcome: taking contacts as independent would find an effect in every third run."""
    rng = np.random.default_rng(1)
    found = {"clustered": 0, "alone": 0}
    for _ in range(150):
        agent = np.repeat(np.arange(30), 40)
        x = (rng.random(1200) < rng.uniform(0.05, 0.95, 30)[agent]).astype(float)
        y = (rng.random(1200) < np.clip(0.5 + rng.normal(0, 0.4, 30)[agent], 0, 1)).astype(float)
        same = np.zeros(1200, dtype=int)
        for name, cluster in (("clustered", agent), ("alone", np.arange(1200))):
            effect, error, degrees = adjusted_difference(x, y, same, np.full(1200, NAN), cluster)
            found[name] += stats.t.sf(abs(effect) / error, degrees) * 2 < 0.05
    assert found["alone"] > 40
    assert found["clustered"] < 20


def test_among_rituals_hardly_any_is_called_useful():
    false = 0
    for seed in range(40):
        data = centre(n=1500, seed=seed, effects=(0.0, 0.0, 0.0))
        false += any(one.verdict in ("serves", "harms") for one in validities(data))
    assert false <= 6


def test_weights_follow_what_customers_tell():
    found = propose(centre(effects=(0.3, 0.0, 0.0)), "satisfied", (1.0, 1.0, 1.0))
    assert found.worth_it
    assert found.skill_proposed > found.skill_current > 0
    assert found.weights["understood"] > 2.2
    assert sum(found.weights.values()) == pytest.approx(3, abs=1e-3)
    assert min(found.weights.values()) >= 0
    assert found.current == {"understood": 1.0, "used_the_name": 1.0, "greeting": 1.0}


def test_weights_stay_where_the_contacts_do_not_insist():
    none = propose(centre(n=400, effects=(0.0, 0.0, 0.0)), "satisfied", (3.0, 1.0, 1.0))
    assert not none.worth_it
    assert none.weights == pytest.approx({"understood": 3.0, "used_the_name": 1.0, "greeting": 1.0}, abs=1e-3)
    assert propose(centre(n=60), "satisfied", (1.0, 1.0, 1.0)) is None


def test_by_chance_hardly_any_new_weights_are_proposed():
    worth = [propose(centre(n=1200, seed=seed, effects=(0.0, 0.0, 0.0)), "satisfied", (1.0, 1.0, 1.0)).worth_it for seed in range(30)]
    assert sum(worth) <= 3


def test_what_has_no_weight_gets_none_and_what_does_not_vary_keeps_its_own():
    data = centre(effects=(0.3, 0.2, 0.0))
    data.marks[:, 2] = 1.0
    found = propose(data, "satisfied", (1.0, 0.0, 5.0))
    assert (found.weights["used_the_name"], found.weights["greeting"]) == (0.0, 5.0)


def test_a_criterion_that_harms_is_not_given_a_negative_weight():
    found = propose(centre(effects=(0.3, -0.3, 0.0)), "satisfied", (1.0, 1.0, 1.0))
    assert found.weights["used_the_name"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_customers_who_are_all_alike_propose_no_weights(outcome):
    data = centre(n=600)
    data.outcomes["satisfied"][:] = outcome
    assert propose(data, "satisfied", (1.0, 1.0, 1.0)) is None
    assert {one.verdict for one in validities(data)} == {"not_enough_data"}
