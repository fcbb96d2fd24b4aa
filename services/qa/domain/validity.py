"""Which internal criteria matter to customers (R21-R23): the difference in an outcome between contacts where a criterion was met and where it was not.

Adjusted: contacts are compared within the same queue, channel and whatever else could make both the criterion and the outcome better, and at
the same wait. That is a linear model with fixed effects; its coefficient is the average of the differences within cells, weighted by how much each
tells (Angrist and Pischke, Mostly Harmless Econometrics, 2009, §3.3), in shares of customers. Errors are robust and clustered by agent, because
an agent's contacts resemble each other (Cameron and Miller, Journal of Human Resources 50, 2015, p. 317). Over all criteria and outcomes the share
of false findings is held (Benjamini and Hochberg, J. R. Statist. Soc. B 57, 1995, p. 289). It is not an experiment: what nobody has recorded is not adjusted for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special, stats

from services.qa.domain.intervals import CONFIDENCE, student_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Verdict = Literal["serves", "harms", "ritual", "not_enough_data"]
Reason = Literal["effect", "no_effect", "few_contacts", "hardly_varies", "unclear"]

MARGIN = 0.05
"""An effect within five customers of a hundred, either way, is none that anybody would train for."""
FALSE_FINDINGS = 0.05
FEWEST_CONTACTS = 100
FEWEST_APART = 20
"""Contacts that must lie on either side of the criterion, below which it hardly varies."""
FEW_CLUSTERS = 10
SMALLEST_SPREAD = 1e-9
"""Of outcomes, as a variance: below it there is only rounding."""
FOLDS = 10
PENALTIES = tuple(10.0**power for power in np.arange(-3.0, 4.01, 0.5))


@dataclass(frozen=True)
class Evaluated:
    """One row a contact. `marks`: (contacts, criteria), 0..1, NaN: does not apply. `outcomes`: by name, 0 or 1, NaN: not known.
    `cell`: contacts of one number are alike in queue, channel and so on. `wait`: seconds, NaN: not known. `agent`: number of the agent."""

    criteria: tuple[str, ...]
    marks: Floats
    outcomes: Mapping[str, Floats]
    cell: Ints
    wait: Floats
    agent: Ints


@dataclass(frozen=True)
class Validity:
    """`effect`: the outcome's share where the criterion is wholly met less its share where it is not, adjusted, with its 95 % interval; `crude`: the
    same without adjustment. `p_adjusted`: corrected for all criteria and outcomes of the analysis."""

    criterion: str
    outcome: str
    verdict: Verdict
    reason: Reason
    contacts: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    crude: float | None = None


def validities(data: Evaluated, margin: float = MARGIN, confidence: float = CONFIDENCE) -> list[Validity]:
    """Of each criterion for each outcome.

    ritual: the whole interval lies within the margin: it makes no difference worth having, and that is known (two one-sided tests, Schuirmann 1987).
    serves, harms: the effect is not 0, of all criteria at a false discovery rate of 5 %. Otherwise not enough data, with the reason.
    """
    found = [_validity(data, number, outcome, confidence) for outcome in data.outcomes for number in range(len(data.criteria))]
    tested = [number for number, one in enumerate(found) if one.p is not None]
    for number, adjusted in zip(tested, benjamini_hochberg([found[number].p or 0.0 for number in tested]), strict=True):
        found[number] = _judged(replace(found[number], p_adjusted=adjusted), margin)
    return found


def _judged(one: Validity, margin: float) -> Validity:
    if one.effect is None or one.low is None or one.high is None or one.p_adjusted is None:
        return one
    if -margin < one.low and one.high < margin:
        return replace(one, verdict="ritual", reason="no_effect")
    if one.p_adjusted <= FALSE_FINDINGS:
        return replace(one, verdict="serves" if one.effect > 0 else "harms", reason="effect")
    return one


def _validity(data: Evaluated, number: int, outcome: str, confidence: float) -> Validity:
    x, y = data.marks[:, number], data.outcomes[outcome]
    known = ~(np.isnan(x) | np.isnan(y))
    x, y, n = x[known], y[known], int(known.sum())
    nothing = Validity(data.criteria[number], outcome, "not_enough_data", "few_contacts", n)
    if n < FEWEST_CONTACTS:
        return nothing
    if min((x >= 0.5).sum(), (x < 0.5).sum()) < FEWEST_APART or y.min() == y.max():
        return replace(nothing, reason="hardly_varies")
    crude = float(np.cov(x, y, ddof=0)[0, 1] / x.var())
    fitted = adjusted_difference(x, y, data.cell[known], data.wait[known], data.agent[known])
    if fitted is None:
        return replace(nothing, reason="hardly_varies", crude=crude)
    effect, error, degrees = fitted
    half = student_quantile(confidence, degrees) * error
    p = float(2 * special.stdtr(degrees, -abs(effect) / error)) if error > 0 else (0.0 if effect else 1.0)
    return replace(nothing, reason="unclear", effect=effect, low=effect - half, high=effect + half, p=p, crude=crude)


def adjusted_difference(x: Floats, y: Floats, cell: Ints, wait: Floats, cluster: Ints) -> tuple[float, float, int] | None:
    """(effect, standard error, degrees of freedom) of `x` on `y` within cells and at the same wait. None where x varies only between cells.

    The error is the larger of the two robust ones, by contact (HC1) and by cluster: with few agents the latter is too small."""
    cells = _numbered(cell)
    waits = _waits(wait)
    x_left, y_left, waits_left = (_within(values, cells) for values in (x, y, waits))
    rank = 0
    if waits_left.shape[1]:
        solved, _, rank, _ = linalg.lstsq(waits_left, np.column_stack((x_left, y_left)))
        x_left, y_left = x_left - waits_left @ solved[:, 0], y_left - waits_left @ solved[:, 1]
    squares = float(x_left @ x_left)
    degrees = len(x) - (int(cells.max()) + 1) - int(rank) - 1
    if squares < 1e-9 * len(x) or degrees < FEWEST_APART:
        return None
    effect = float(x_left @ y_left) / squares
    scores = x_left * (y_left - effect * x_left)
    robust = len(x) / degrees * float(scores @ scores)
    clusters = _numbered(cluster)
    count = int(clusters.max()) + 1
    if count < FEW_CLUSTERS:
        return effect, math.sqrt(robust) / squares, degrees
    sums = np.bincount(clusters, scores)
    clustered = count / (count - 1) * (len(x) - 1) / degrees * float(sums @ sums)
    return effect, math.sqrt(max(robust, clustered)) / squares, min(degrees, count - 1)


def _numbered(codes: Ints) -> Ints:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _within(values: Floats, cells: Ints) -> Floats:
    """Less the mean of their cell."""
    counts = np.bincount(cells)
    if values.ndim == 1:
        return values - (np.bincount(cells, values) / counts)[cells]
    return np.column_stack([_within(column, cells) for column in values.T]) if values.shape[1] else values


def _waits(wait: Floats) -> Floats:
    """The wait as columns of a model: its logarithm with two bends, as the tenth minute annoys less than the first; where it is unknown, a column of its own."""
    unknown = np.isnan(wait)
    if unknown.all():
        return np.empty((len(wait), 0))
    minutes = np.log1p(np.maximum(wait, 0) / 10)
    bends = np.quantile(minutes[~unknown], (0.5, 0.8))
    filled = np.where(unknown, 0.0, minutes)
    columns = [filled, *(np.maximum(filled - bend, 0.0) for bend in bends), unknown.astype(float)]
    return np.column_stack([column for column in columns if np.ptp(column) > 0] or [np.empty((len(wait), 0))])


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p values: those at most q are the findings of which on average a share q is false."""
    if not p:
        return []
    return [float(one) for one in stats.false_discovery_control(p)]


# ---- weights


@dataclass(frozen=True)
class Proposal:
    """Weights that would follow the customers' outcome better. For a person to accept: nothing here changes a scorecard.

    `skill_*`: the share of the outcome's variation (within cells) that the score explains in contacts that were not used to find the weights.
    `worth_it`: the gain is beyond chance (of ten folds, Student's t at 95 %).
    """

    outcome: str
    contacts: int
    weights: Mapping[str, float]
    current: Mapping[str, float]
    skill_current: float
    skill_proposed: float
    penalty: float
    worth_it: bool


def propose(data: Evaluated, outcome: str, current: Sequence[float], seed: int = 0) -> Proposal | None:
    """Weights from a ridge regression that is pulled towards the present weights, not towards 0, and has no negative ones: with little data they
    stay as they are, and each moves only as far as the contacts insist. How hard the pull is, cross-validation decides, by the rule of one standard error
    (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed. 2009, §3.4 and 7.10). None: not enough contacts, or all alike."""
    y = data.outcomes[outcome]
    used = [number for number in range(len(data.criteria)) if current[number] > 0 and _varies(data.marks[~np.isnan(y), number])]
    known = ~np.isnan(y) & ~np.isnan(data.marks[:, used]).all(axis=1)
    n = int(known.sum())
    if not used or n < max(FEWEST_CONTACTS, 10 * len(used)):
        return None
    x, y = _residuals(data, known, used, y)
    weights = np.asarray(current, dtype=float)[used]
    parts = np.random.default_rng(seed).permutation(n) % FOLDS
    grams = [_gram(x[parts == fold], y[parts == fold]) for fold in range(FOLDS)]
    whole = _gram(x, y)
    scale = float(np.trace(whole[0])) / len(used)
    if scale <= 0 or whole[2] <= SMALLEST_SPREAD * n:
        return None
    losses = {
        penalty: np.array([_loss(_fit(*_less(whole, gram), weights, penalty * scale), gram) for gram in grams])
        for penalty in (*PENALTIES, math.inf)
    }
    best = min(losses, key=lambda penalty: float(losses[penalty].sum()))
    chosen = _with_one_error(losses, best)
    gains = losses[math.inf] - losses[chosen]
    found = _fit(whole[0], whole[1], weights, chosen * scale)
    sum_found = float(found.sum())
    if sum_found <= 0:
        found, chosen, gains = weights, math.inf, gains * 0
        sum_found = float(found.sum())
    found = found * float(weights.sum()) / sum_found
    all_weights = dict(zip(data.criteria, (float(weight) for weight in current), strict=True))
    proposed = all_weights | {data.criteria[number]: round(float(weight), 4) for number, weight in zip(used, found, strict=True)}
    return Proposal(
        outcome,
        n,
        proposed,
        all_weights,
        1 - float(losses[math.inf].sum()) / whole[2],
        1 - float(losses[chosen].sum()) / whole[2],
        chosen,
        bool(gains.sum() > student_quantile(CONFIDENCE, FOLDS - 1) * gains.std(ddof=1) * math.sqrt(FOLDS)),
    )


def _varies(column: Floats) -> bool:
    return bool((column >= 0.5).sum() >= FEWEST_APART and (column < 0.5).sum() >= FEWEST_APART)


def _residuals(data: Evaluated, known: NDArray[np.bool_], used: Sequence[int], y: Floats) -> tuple[Floats, Floats]:
    """Marks and outcome less what cell and wait explain; a mark that does not apply explains nothing."""
    cells, waits = _numbered(data.cell[known]), _waits(data.wait[known])
    columns = []
    for number in used:
        column = data.marks[known, number]
        there = ~np.isnan(column)
        means = np.bincount(cells, np.where(there, column, 0.0)) / np.maximum(np.bincount(cells, there), 1)
        columns.append(np.where(there, column - means[cells], 0.0))
    x, left, waits = np.column_stack(columns), _within(y[known], cells), _within(waits, cells)
    if waits.shape[1]:
        solved = linalg.lstsq(waits, np.column_stack((x, left)))[0]
        x, left = x - waits @ solved[:, :-1], left - waits @ solved[:, -1]
    return x, left


Gram = tuple[Floats, Floats, float]


def _gram(x: Floats, y: Floats) -> Gram:
    return x.T @ x, x.T @ y, float(y @ y)


def _less(whole: Gram, part: Gram) -> tuple[Floats, Floats]:
    return whole[0] - part[0], whole[1] - part[1]


def _loss(weights: Floats, gram: Gram) -> float:
    return float(gram[2] - 2 * weights @ gram[1] + weights @ gram[0] @ weights)


def _fit(xx: Floats, xy: Floats, weights: Floats, penalty: float) -> Floats:
    """The least of |y - Xb|² + penalty |b - s w|² over b >= 0 and s >= 0. An endless penalty leaves s alone to be found."""
    unit = weights / np.linalg.norm(weights)
    if math.isinf(penalty):
        return unit * max(0.0, float(unit @ xy) / max(float(unit @ xx @ unit), 1e-12))
    size = len(weights)
    joint = np.zeros((size + 1, size + 1))
    joint[:size, :size] = xx + penalty * np.eye(size)
    joint[:size, size] = joint[size, :size] = -penalty * unit
    joint[size, size] = penalty
    joint += np.eye(size + 1) * 1e-9 * np.trace(joint)
    lower = linalg.cholesky(joint, lower=True)
    target = linalg.solve_triangular(lower, np.append(xy, 0.0), lower=True)
    return np.asarray(optimize.nnls(lower.T, target)[0][:size])


def _with_one_error(losses: Mapping[float, Floats], best: float) -> float:
    """The strongest pull whose loss is within one standard error of the least."""
    for penalty in sorted(losses, reverse=True):
        more = losses[penalty] - losses[best]
        if more.sum() <= more.std(ddof=1) * math.sqrt(FOLDS):
            return penalty
    return best
